"""The platform is recognised by its own variables, and asked for what it tells."""

import ssl
import sys
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace

import pytest

from lib.onetrip import platform
from lib.onetrip.platform import Platform, ca_file, seconds_left

LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "f",
    "AWS_REGION": "eu-central-1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
}
WEB_FUNCTION = Platform("lambda-web-function", environment="production", function="web-function")


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, Platform("server")),
        ({"VERCEL": "", "AWS_LAMBDA_FUNCTION_NAME": ""}, Platform("server")),
        ({"AWS_REGION": "eu-central-1"}, Platform("server")),
        (LAMBDA, Platform("lambda", "eu-central-1", 1024, "production", function="f")),
        (
            LAMBDA | {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"},
            Platform("lambda", "eu-central-1", 1024, "production", "snap-start", function="f"),
        ),
        (
            LAMBDA | {"AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"},
            Platform(
                "lambda-managed-instances",
                "eu-central-1",
                1024,
                "production",
                "lambda-managed-instances",
                function="f",
            ),
        ),
        (
            {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "much"},
            Platform("lambda", environment="production", function="f"),
        ),
        # AWS documents no other variable of a Web Function's.
        ({"AWS_LAMBDA_HTTP_ENDPOINT": "0.0.0.0:3000"}, WEB_FUNCTION),
        (
            LAMBDA
            | {"AWS_LAMBDA_HTTP_ENDPOINT": "0.0.0.0:3000", "AWS_LAMBDA_INITIALIZATION_TYPE": "native-http"},
            WEB_FUNCTION._replace(region="eu-central-1", memory_mb=1024, function="f"),
        ),
        # Vercel's functions run on Lambda, and have its variables too.
        (LAMBDA | {"VERCEL": "1", "VERCEL_REGION": "fra1"}, Platform("vercel", "fra1", 1024, "production")),
        ({"VERCEL": "1", "VERCEL_ENV": "production"}, Platform("vercel", environment="production")),
        ({"VERCEL": "1", "VERCEL_ENV": "preview"}, Platform("vercel", environment="preview")),
        ({"VERCEL": "1", "VERCEL_ENV": "development"}, Platform("vercel", environment="development")),
        ({"VERCEL": "1", "VERCEL_ENV": "staging"}, Platform("vercel", environment="production")),
    ],
)
def test_a_platform_is_recognised_by_its_variables(environ: dict[str, str], found: Platform) -> None:
    """Name, region, memory and environment come from the platform; what it does not tell stays open."""
    assert Platform.detect(environ) == found


@pytest.mark.parametrize("digits", ["²", "-1", "1.5", " ", "0x10"])
def test_a_size_that_is_no_number_is_unknown(digits: str) -> None:
    """A strange variable of the platform's stops no process."""
    assert Platform.detect(LAMBDA | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": digits}).memory_mb is None


@pytest.mark.parametrize(
    ("name", "serverless", "alone"),
    [
        ("server", False, False),
        ("vercel", True, False),
        ("lambda", True, True),
        ("lambda-web-function", True, False),
        ("lambda-managed-instances", True, True),
    ],
)
def test_only_lambda_serves_one_request_at_a_time(
    name: platform.PlatformName, *, serverless: bool, alone: bool
) -> None:
    """Vercel's process is shared by many requests, as a server's is."""
    assert Platform(name).is_serverless == serverless
    assert Platform(name).serves_one_request_at_a_time == alone


@pytest.mark.parametrize(
    ("environ", "on_demand"),
    [
        ({}, False),
        ({"VERCEL": "1"}, True),
        (LAMBDA, True),
        ({"AWS_LAMBDA_HTTP_ENDPOINT": "0.0.0.0:3000"}, True),
        *[
            (LAMBDA | {"AWS_LAMBDA_INITIALIZATION_TYPE": kind}, kind == "on-demand")
            for kind in ("on-demand", "provisioned-concurrency", "snap-start", "lambda-managed-instances")
        ],
    ],
)
def test_an_instance_starts_on_demand_or_ahead(environ: dict[str, str], *, on_demand: bool) -> None:
    """A prepared instance, or a server of one's own, does not start on demand."""
    assert Platform.detect(environ).starts_on_demand == on_demand


def test_lambda_tells_the_time_that_is_left() -> None:
    """The context of an invocation counts in milliseconds, we in seconds."""
    assert seconds_left(SimpleNamespace(get_remaining_time_in_millis=lambda: 2500)) == 2.5


def test_vercel_tells_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime's module is asked where it is loaded."""
    runtime = ModuleType("vercel_runtime")
    monkeypatch.setitem(sys.modules, "vercel_runtime", runtime)
    assert seconds_left() is None
    runtime.__dict__["get_deadline"] = lambda: None
    assert seconds_left() is None
    runtime.__dict__["get_deadline"] = lambda: datetime.now(UTC) + timedelta(hours=1)
    assert 3500 < (seconds_left() or 0) <= 3600


def test_elsewhere_nobody_tells_the_time_that_is_left() -> None:
    """A server of one's own ends no request; the setting does."""
    assert seconds_left() is None


def test_the_systems_certificates_can_be_loaded() -> None:
    """The bundle that is found is one that a TLS library accepts."""
    found = ca_file()
    assert found is None or ssl.create_default_context(cafile=found).cert_store_stats()["x509_ca"] > 0


def test_certificates_are_looked_for_where_systems_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Python's own OpenSSL finds no bundle, the usual places are tried; none at all is no error."""
    nowhere = SimpleNamespace(cafile=None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr(platform, "_CA_FILES", ("/nowhere/ca.pem", __file__))
    assert ca_file() == __file__
    monkeypatch.setattr(platform, "_CA_FILES", ("/nowhere/ca.pem",))
    assert ca_file() is None
