"""The environment is read once, under every name that was promised; what is wrong with it is said in full."""

import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Le
from pydantic import AliasChoices, SecretStr, ValidationError

from lib.onetrip.errors import SettingsError
from lib.onetrip.pool.database import reset
from lib.onetrip.pool.sizing import PoolPlan, pool_kind, pool_plan
from lib.onetrip.settings.checked import CheckedSettings
from lib.onetrip.settings.settings import (
    Settings,
    dev_port,
    environment_with,
    get_settings,
    load_settings,
)
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.environment import PROJECT, needs_fastapi

SECRET = "hunter2"
URL = f"postgresql://u:{SECRET}@localhost/d"
OTHER_URL = "postgresql://v:other@localhost/e"
ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:database-AbCdEf"
TOKEN = "0123456789abcdef"
NEON_POOLED = "postgresql://u:p@ep-a-b-1-pooler.us-east-2.aws.neon.tech/d"
NEON_DIRECT = "postgresql://u:p@ep-a-b-1.us-east-2.aws.neon.tech/d"

SERVER: dict[str, str] = {}
VERCEL = {"VERCEL": "1", "VERCEL_ENV": "production"}
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "f"}
MANAGED = LAMBDA | {"AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}

# For each setting: what it may be given, what that means, and something else that it may be given.
VALID: dict[str, tuple[str, object, str]] = {
    "database_tls": ("require", "require", "verify-full"),
    "database_url": (URL, DatabaseURL.parse(URL), OTHER_URL),
    "database_url_unpooled": (URL, DatabaseURL.parse(URL), OTHER_URL),
    "migration_database_url": (URL, DatabaseURL.parse(URL), OTHER_URL),
    "db_secret_arn": (ARN, ARN, "name"),
    "database_url_parameter": ("/app/url", "/app/url", "name"),
    "database_prefix": ("STORAGE", "STORAGE", "storage_"),
    "database_replica_url": (URL, DatabaseURL.parse(URL), OTHER_URL),
    "database_mode": ("pooled", "pooled", "direct"),
    "database_pool": ("null", "null", "tiny"),
    "pool_size": ("100", 100, "1"),
    "pool_max_overflow": ("0", 0, "100"),
    "pool_timeout_seconds": ("1.5", 1.5, "300"),
    "pool_recycle_seconds": ("30", 30.0, "86400"),
    "environment": ("preview", "preview", "production"),
    "database_echo": ("true", True, "false"),
    "database_single_flight": ("off", "off", "on"),
    "database_shared_reads": ("off", "off", "on"),
    "request_timeout_seconds": ("900", 900.0, "1"),
    "root_path": ("/v1", "/v1", "/a/b"),
    "slow_query_seconds": ("0.5", 0.5, "900"),
    "leak_seconds": ("60", 60.0, "0.5"),
    "ops_token": (TOKEN, SecretStr(TOKEN), TOKEN.upper()),
}
MISSING = "DATABASE_URL: is missing. Set it to postgresql://user:password@host/database."
CLEAR = "sslmode=disable may send data in the clear to a remote host. Use sslmode=require or drop it."
PERCENT = "a percent sign is not followed by two hexadecimal digits. Write % itself as %25."
ECHO = "it logs the data of every statement in production. Unset it."

# For each setting: variables that do not do, and the line that says so.
WRONG: list[tuple[str, dict[str, str], str]] = [
    ("database_url", {"DATABASE_URL": ""}, MISSING),
    (
        "database_url",
        {"POSTGRES_URL": f"mysql://u:{SECRET}@h/d"},
        'POSTGRES_URL: scheme "mysql" is not supported. Use postgresql://.',
    ),
    (
        "database_url_unpooled",
        {"NEON_DATABASE_URL": f"postgresql://u:{SECRET}@h.example.com/d?sslmode=disable"},
        f"NEON_DATABASE_URL: {CLEAR}",
    ),
    (
        "db_secret_arn",
        {"DB_SECRET_ARN": ARN},
        "DB_SECRET_ARN: is set beside DATABASE_URL. Unset one of the two.",
    ),
    (
        "db_secret_arn",
        {"DB_SECRET_ARN": f"{SECRET} {SECRET}"},
        "DB_SECRET_ARN: the value is not supported. Use the ARN or name of a secret in Secrets Manager.",
    ),
    (
        "database_url_parameter",
        {"DATABASE_URL_PARAMETER": "url?"},
        (
            "DATABASE_URL_PARAMETER: the value is not supported. "
            "Use the ARN or name of a parameter in SSM Parameter Store."
        ),
    ),
    (
        "database_prefix",
        {"DATABASE_PREFIX": "my-store"},
        'DATABASE_PREFIX: "my-store" is not supported. Use letters, digits and underscores.',
    ),
    (
        "database_replica_url",
        {"DATABASE_REPLICA_URL": f"postgresql://u:100%{SECRET}@h/d"},
        f"DATABASE_REPLICA_URL: {PERCENT}",
    ),
    (
        "database_tls",
        {"DATABASE_TLS": "no"},
        'DATABASE_TLS: "no" is not supported. Use require or verify-full.',
    ),
    (
        "database_mode",
        {"DATABASE_MODE": "both"},
        'DATABASE_MODE: "both" is not supported. Use pooled or direct.',
    ),
    (
        "database_pool",
        {"DATABASE_POOL": URL},
        "DATABASE_POOL: the value is not supported. Use tiny, null or server.",
    ),
    (
        "pool_size",
        {"DB_POOL_SIZE": "0"},
        'DB_POOL_SIZE: "0" is not supported. Use a whole number from 1 to 100.',
    ),
    (
        "pool_max_overflow",
        {"DATABASE_MAX_OVERFLOW": "1.5"},
        'DATABASE_MAX_OVERFLOW: "1.5" is not supported. Use a whole number from 0 to 100.',
    ),
    (
        "pool_timeout_seconds",
        {"DB_POOL_TIMEOUT": "nan"},
        'DB_POOL_TIMEOUT: "nan" is not supported. Use a number from 1 to 300.',
    ),
    (
        "pool_recycle_seconds",
        {"DATABASE_POOL_RECYCLE": "soon"},
        'DATABASE_POOL_RECYCLE: "soon" is not supported. Use a number from 30 to 86400.',
    ),
    ("database_echo", {"DB_ECHO": "maybe"}, 'DB_ECHO: "maybe" is not supported. Use true or false.'),
    ("database_echo", {"DB_ECHO": "yes", "ENVIRONMENT": "production"}, f"DB_ECHO: {ECHO}"),
    (
        "database_single_flight",
        {"DATABASE_SINGLE_FLIGHT": "1"},
        'DATABASE_SINGLE_FLIGHT: "1" is not supported. Use on or off.',
    ),
    (
        "database_shared_reads",
        {"DATABASE_SHARED_READS": "1"},
        'DATABASE_SHARED_READS: "1" is not supported. Use on or off.',
    ),
    (
        "request_timeout_seconds",
        {"REQUEST_TIMEOUT_SECONDS": "901"},
        'REQUEST_TIMEOUT_SECONDS: "901" is not supported. Use a number from 1 to 900.',
    ),
    (
        "root_path",
        {"ROOT_PATH": "v1/"},
        "ROOT_PATH: the value is not supported. Use a path such as /v1, without a slash at its end.",
    ),
    (
        "slow_query_seconds",
        {"SLOW_QUERY_SECONDS": "-1"},
        'SLOW_QUERY_SECONDS: "-1" is not supported. Use a number from 0 to 900.',
    ),
    (
        "leak_seconds",
        {"CONNECTION_LEAK_SECONDS": "never"},
        'CONNECTION_LEAK_SECONDS: "never" is not supported. Use a number from 0 to 86400.',
    ),
    (
        "migration_database_url",
        {"MIGRATION_DATABASE_URL": "mysql://u@h/d"},
        'MIGRATION_DATABASE_URL: scheme "mysql" is not supported. Use postgresql://.',
    ),
    ("ops_token", {"OPS_TOKEN": SECRET}, "OPS_TOKEN: the value is not supported. Use 16 characters or more."),
]

Given = Callable[..., Settings]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Given:
    """The settings of a process that was given these variables, and `dotenv` as its `.env`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(CheckedSettings.model_config, "env_file", ".env")

    def settings(*variables: Mapping[str, str], dotenv: str = "", **more: str) -> Settings:
        Path(".env").write_text(dotenv)
        for part in (*variables, more):
            for name, value in part.items():
                monkeypatch.setenv(name, value)
        return load_settings()

    return settings


def names(field: str) -> list[str]:
    """The variables that set `field`, in the order in which they win."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return [str(name) for name in alias.choices]


def start(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Import the application in a process of its own, in a folder without a `.env`."""
    return subprocess.run(
        [sys.executable, "-c", "import tests.onetrip.entrypoint"],
        env=environment_with(PYTHONPATH=str(PROJECT), **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


# Quickly all in one process, below; each in one of its own where there is time.
@pytest.mark.parametrize(
    ("variables", "line"),
    [
        pytest.param(*wrong, id=field, marks=[pytest.mark.slow] if number else [])
        for number, (field, *wrong) in enumerate(WRONG)
    ],
)
def test_a_wrong_setting_ends_the_process_with_one_line(
    variables: dict[str, str], line: str, tmp_path: Path
) -> None:
    """Variable, mistake and remedy on one line of stderr, exit code 2, and no secret."""
    url = {} if "DATABASE_URL" in variables or "POSTGRES_URL" in variables else {"DATABASE_URL": URL}
    ended = start(tmp_path, **url, **variables)
    assert (ended.stderr, ended.stdout, ended.returncode) == (f"{line}\n", "", 2)
    assert SECRET not in ended.stderr


def test_all_wrong_settings_are_reported_at_once(tmp_path: Path) -> None:
    """Several mistakes are all reported the first time."""
    one_each = {field: (given, line) for field, given, line in WRONG}
    ended = start(
        tmp_path, **{name: value for given, _ in one_each.values() for name, value in given.items()}
    )
    assert sorted(ended.stderr.splitlines()) == sorted(line for _, line in one_each.values())
    assert ended.returncode == 2


def test_a_missing_url_is_reported_with_the_rest(given: Given) -> None:
    """Missing values are reported together with invalid ones."""
    with pytest.raises(SettingsError) as refusal:
        given(DATABASE_MODE="both")
    assert refusal.value.problems[0] == MISSING
    assert len(refusal.value.problems) == 2


@pytest.mark.parametrize("platform", [VERCEL, LAMBDA], ids=["vercel", "lambda"])
def test_a_deployed_function_says_what_is_wrong_too(platform: dict[str, str], tmp_path: Path) -> None:
    """In a platform's log the mistake stands alone, before anything connects."""
    ended = start(tmp_path, DATABASE_URL=URL, OPS_TOKEN=SECRET, **platform)
    assert (ended.stderr, ended.stdout, ended.returncode) == (f"{WRONG[-1][2]}\n", "", 2)


@needs_fastapi
def test_right_settings_start_silently_and_connect_nowhere(tmp_path: Path) -> None:
    """Importing the application needs no database that answers."""
    ended = start(tmp_path, DATABASE_URL="postgresql://u:p@nowhere.invalid/d")
    assert (ended.stderr, ended.stdout, ended.returncode) == ("", "", 0)


def test_every_setting_is_in_the_tables_above() -> None:
    """A new setting comes with its examples, right and wrong."""
    assert {*VALID} == {*Settings.model_fields}
    # Another environment than those that are known is no error: production's rules hold there.
    assert {field for field, _, _ in WRONG} == {*Settings.model_fields} - {"environment"}


@pytest.mark.parametrize(("field", "name"), [(field, name) for field in VALID for name in names(field)])
def test_a_setting_is_read_under_each_of_its_names(field: str, name: str, given: Given) -> None:
    """The names of other frameworks and platforms mean what ours mean."""
    raw, meant, _ = VALID[field]
    settings = given(
        {} if field.startswith(("database_url", "db_secret")) else {"DATABASE_URL": URL}, {name: raw}
    )
    assert getattr(settings, field) == meant
    assert Settings.given_name(field) == name
    assert Settings.is_given(field)


@pytest.mark.parametrize("field", [field for field in VALID if len(names(field)) > 1])
def test_of_several_names_the_first_wins(field: str, given: Given) -> None:
    """Our own name comes before those that are accepted too, in the order of the documentation."""
    _, meant, _ = VALID[field]
    for position, name in enumerate(names(field)):
        others = dict.fromkeys(names(field)[position + 1 :], VALID[field][2])
        empty = dict.fromkeys(names(field)[:position], "")
        assert getattr(given({"DATABASE_URL": URL}, empty, others, {name: VALID[field][0]}), field) == meant
        assert Settings.given_name(field) == name


def test_a_name_that_is_not_given_is_our_own() -> None:
    """Advice about a setting names the variable that the documentation lists first."""
    assert Settings.given_name("database_url") == "DATABASE_URL"
    assert not Settings.is_given("database_url")


def test_the_environment_wins_over_dotenv(given: Given) -> None:
    """A variable of the process counts more than the file, under whichever of its names."""
    dotenv = f"DATABASE_URL={OTHER_URL}\nDATABASE_POOL_SIZE=3\nDATABASE_MODE=pooled\nUNKNOWN=ignored\n"
    settings = given(dotenv=dotenv, POSTGRES_URL=URL, DB_POOL_SIZE="7")
    assert (settings.database_url, settings.pool_size) == (DatabaseURL.parse(URL), 7)
    assert settings.database_mode == "pooled"
    assert [Settings.given_name(field) for field in ("database_url", "pool_size", "database_mode")] == [
        "POSTGRES_URL",
        "DB_POOL_SIZE",
        "DATABASE_MODE",
    ]


def test_dotenv_alone_is_enough(given: Given) -> None:
    """`cp .env.example .env` and one line filled in make a setting, quoted or not."""
    assert given(dotenv=f'export DATABASE_URL="{URL}"').database_url == DatabaseURL.parse(URL)


@pytest.mark.parametrize("field", VALID)
def test_an_empty_variable_counts_as_unset(field: str, given: Given) -> None:
    """A variable left empty in a dashboard or file means its default."""
    empty = dict.fromkeys(names(field), "")
    url = {"DATABASE_URL_UNPOOLED": URL} if field == "database_url" else {"DATABASE_URL": URL}
    dotenv = "".join(f"{name}=\n" for name in empty)
    settings = given(empty, url, dotenv=dotenv)
    assert getattr(settings, field) == Settings.model_fields[field].default
    assert not Settings.is_given(field)


@pytest.mark.parametrize(("field", "value"), [("pool_size", 3), ("database_url", None), ("platform", None)])
def test_settings_cannot_be_changed(field: str, value: object, given: Given) -> None:
    """Checked settings cannot be changed."""
    settings = given(DATABASE_URL=URL)
    with pytest.raises((ValidationError, AttributeError)):
        setattr(settings, field, value)


def test_the_environment_is_read_once(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later changes of the environment have no effect until `reset`."""
    given(DATABASE_URL=URL)
    settings = get_settings()
    monkeypatch.setenv("DATABASE_URL", OTHER_URL)
    monkeypatch.setenv("VERCEL", "1")
    assert get_settings() is settings
    assert settings.platform.name == "server"
    reset()
    assert get_settings().database_url == DatabaseURL.parse(OTHER_URL).secured()
    assert get_settings().platform.name == "vercel"


def test_what_is_passed_by_hand_wins(given: Given) -> None:
    """Tests and scripts can override the environment, under any name of a setting."""
    given(DATABASE_URL=OTHER_URL, DATABASE_POOL_SIZE="3")
    settings = load_settings(DB_URL=DatabaseURL.parse(URL), DB_POOL_SIZE=4)
    assert (settings.database_url, settings.pool_size) == (DatabaseURL.parse(URL), 4)


def test_settings_show_no_secret(given: Given) -> None:
    """Neither printed nor serialised do settings give away a password or token."""
    settings = given(DATABASE_URL=URL, DATABASE_URL_UNPOOLED=URL, OPS_TOKEN=SECRET * 3)
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in text


def test_an_error_carries_no_secret_along(given: Given) -> None:
    """Even a full traceback of the refusal, with what caused it, shows no password."""
    with pytest.raises(SettingsError) as refusal:
        given(
            DATABASE_URL=URL,
            DATABASE_URL_UNPOOLED=f"http://u:{SECRET}@h",
            OPS_TOKEN=SECRET,
            DATABASE_POOL=URL,
        )
    assert len(refusal.value.problems) == 3
    assert refusal.value.__context__ is None
    assert refusal.value.__cause__ is None
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("value", [f'{{"host": "h", "password": "{SECRET}"}}', f'["{SECRET}"]', "7", "null"])
def test_a_url_is_never_read_as_json(value: str, given: Given) -> None:
    """Only a URL is a URL."""
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: it is no URL\. Use postgresql://") as refusal:
        given(DATABASE_URL=value)
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "bound"),
    [
        (field, bound)
        for field in VALID
        for bound in Settings.model_fields[field].metadata
        if isinstance(bound, Ge | Le)
    ],
)
def test_bounds_are_inclusive_and_told(field: str, bound: Ge | Le, given: Given) -> None:
    """A number at the bound is taken, one beyond it is refused, and the description names the bound."""
    number = int(str(bound.ge if isinstance(bound, Ge) else bound.le))
    beyond = number - 1 if isinstance(bound, Ge) else number + 1
    place = f"from {number} " if isinstance(bound, Ge) else f"to {number}:"
    assert place in (Settings.model_fields[field].description or "")
    assert getattr(given({"DATABASE_URL": URL, names(field)[0]: str(number)}), field) == number
    with pytest.raises(SettingsError):
        given({names(field)[0]: str(beyond)})


@pytest.mark.parametrize("field", VALID)
def test_a_description_begins_with_what_may_be_set(field: str) -> None:
    """An error quotes the description up to its colon, so that much must make sense after "Use"."""
    description = Settings.model_fields[field].description or ""
    assert re.fullmatch(r"[^:]+(://[^ ]+)?: .+\.", description)


@pytest.mark.parametrize(
    ("platform", "mode"), [(SERVER, "direct"), (VERCEL, "pooled"), (LAMBDA, "pooled"), (MANAGED, "pooled")]
)
@pytest.mark.parametrize("switch", ["", "pooled", "direct"])
@pytest.mark.parametrize(
    "urls",
    [
        {"DATABASE_URL": NEON_POOLED},
        {"DATABASE_URL": NEON_DIRECT},
        {"DATABASE_URL_UNPOOLED": NEON_DIRECT},
        {"DATABASE_URL_UNPOOLED": NEON_POOLED},
        {"POSTGRES_URL": NEON_POOLED, "POSTGRES_URL_NON_POOLING": NEON_DIRECT},
        {"NEON_DATABASE_URL": NEON_DIRECT, "NEON_POOLED_DATABASE_URL": NEON_POOLED},
        {"DATABASE_URL": NEON_POOLED, "DIRECT_URL": NEON_DIRECT},
    ],
)
def test_the_switch_chooses_between_pooled_and_direct(
    platform: dict[str, str], mode: str, switch: str, urls: dict[str, str], given: Given
) -> None:
    """Serverless platforms use the pooler unless told otherwise, and either Neon URL leads to the other."""
    settings = given(platform, urls, DATABASE_MODE=switch)
    pooled, direct = (DatabaseURL.parse(url).secured() for url in (NEON_POOLED, NEON_DIRECT))
    assert settings.mode == (switch or mode)
    assert (settings.pooled_url, settings.direct_url) == (pooled, direct)
    assert settings.application_url == {"pooled": pooled, "direct": direct}[settings.mode]


@pytest.mark.parametrize("mode", ["pooled", "direct"])
def test_elsewhere_the_missing_url_is_the_other_one(mode: str, given: Given) -> None:
    """No pooler is guessed for hosts that are not Neon's; two URLs are each used for what they are."""
    assert given(DATABASE_URL=URL, DATABASE_MODE=mode).application_url == DatabaseURL.parse(URL)
    both = given(DATABASE_URL=URL, DATABASE_URL_UNPOOLED=OTHER_URL, DATABASE_MODE=mode)
    assert both.application_url == DatabaseURL.parse(URL if mode == "pooled" else OTHER_URL)
    assert both.direct_url == DatabaseURL.parse(OTHER_URL)


@pytest.mark.parametrize(
    ("url", "tls", "sslmode", "binding"),
    [
        (NEON_POOLED, "", "require", "require"),
        (NEON_POOLED, "verify-full", "verify-full", "require"),
        (f"{NEON_POOLED}?sslmode=verify-full", "require", "verify-full", "require"),
        ("postgresql://h.example.com/d", "", "require", None),
        ("postgresql://h.example.com/d", "verify-full", "verify-full", None),
        (URL, "", None, None),
        (f"{URL}?sslmode=disable", "", "disable", None),
        (f"{URL}?sslmode=disable", "require", "require", None),
    ],
)
def test_tls_follows_host_url_and_setting(
    url: str, tls: str, sslmode: str | None, binding: str | None, given: Given
) -> None:
    """Both URLs get the strongest TLS that host, URL and `DATABASE_TLS` ask for."""
    settings = given(DATABASE_URL=url, DATABASE_URL_UNPOOLED=url, DATABASE_TLS=tls)
    for secured in (settings.pooled_url, settings.direct_url):
        assert secured.parameters.get("sslmode") == sslmode
        assert secured.parameters.get("channel_binding") == binding
        assert ("sslrootcert" in secured.parameters) == (sslmode == "verify-full")


@pytest.mark.parametrize(
    ("platform", "variables", "kind", "plan"),
    [
        (SERVER, {}, "server", PoolPlan(5, 5, 10, 1800)),
        (VERCEL, {}, "tiny", PoolPlan(2, 0, 10, 240)),
        (LAMBDA, {}, "tiny", PoolPlan(2, 0, 10, 240)),
        # A worker for each concurrent request, and each worker has a pool of its own.
        (MANAGED, {}, "tiny", PoolPlan(1, 0, 10, 240)),
        (VERCEL, {"DATABASE_POOL": "null"}, "null", PoolPlan(2, 0, 10, 240)),
        (LAMBDA, {"DATABASE_POOL": "server"}, "server", PoolPlan(5, 5, 10, 1800)),
        (SERVER, {"DATABASE_POOL": "tiny", "DATABASE_POOL_SIZE": "3"}, "tiny", PoolPlan(3, 0, 10, 240)),
        (MANAGED, {"DB_POOL_SIZE": "4", "DB_MAX_OVERFLOW": "1"}, "tiny", PoolPlan(4, 1, 10, 240)),
        (LAMBDA, {"DB_POOL_TIMEOUT": "1", "DATABASE_POOL_RECYCLE": "30"}, "tiny", PoolPlan(2, 0, 1, 30)),
    ],
)
def test_the_platform_chooses_the_pool_and_each_knob_overrides_it(
    platform: dict[str, str], variables: dict[str, str], kind: str, plan: PoolPlan, given: Given
) -> None:
    """Unless told otherwise, a serverless process keeps two connections, replaced before Neon suspends."""
    settings = given(platform, variables, DATABASE_URL=URL)
    assert (pool_kind(settings), pool_plan(settings)) == (kind, plan)


@pytest.mark.parametrize(
    ("platform", "environment", "production"),
    [
        (SERVER, "", True),
        (SERVER, "production", True),
        (SERVER, "development", False),
        (SERVER | {"FASTAPI_ENV": "development"}, "", False),
        (SERVER, "prod", True),
        (SERVER, "staging", True),
        (SERVER, " Preview ", False),
        (LAMBDA, "", True),
        (LAMBDA, "development", False),
        (VERCEL, "", True),
        (VERCEL | {"VERCEL_ENV": "preview"}, "", False),
        (VERCEL | {"VERCEL_ENV": "preview"}, "production", True),
    ],
)
def test_production_is_what_is_said_or_what_the_platform_says(
    platform: dict[str, str], environment: str, given: Given, *, production: bool
) -> None:
    """Every process is in production unless something says otherwise, and nothing is echoed there."""
    assert given(platform, DATABASE_URL=URL, ENVIRONMENT=environment).is_production == production
    if production:
        with pytest.raises(SettingsError, match=f"^DATABASE_ECHO: {re.escape(ECHO)}$"):
            given(DATABASE_ECHO="true")
    else:
        assert given(DATABASE_ECHO="true").database_echo


@pytest.mark.parametrize(("value", "port"), [("", 8000), ("8001", 8001), ("65535", 65535)])
def test_the_development_port_is_8000_unless_given(
    value: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make dev PORT=8001` serves there."""
    monkeypatch.setenv("PORT", value)
    assert dev_port() == port


@pytest.mark.parametrize(
    ("value", "shown"), [("0", '"0"'), ("65536", '"65536"'), ("http", '"http"'), ("9 9", "the value")]
)
def test_a_wrong_development_port_is_told(
    value: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[Any]
) -> None:
    """A port that cannot be is refused in the same words as any other setting."""
    monkeypatch.setenv("PORT", value)
    with pytest.raises(SystemExit, match=r"^2$"):
        dev_port()
    assert capsys.readouterr().err == f"PORT: {shown} is not supported. Use a whole number from 1 to 65535.\n"
