"""Checks of the configuration: variables, the secret, and the URLs."""

from __future__ import annotations

from ..connection.source import StoredURL, direct_url, source_for
from ..errors import DeadlineExceededError, SecretError, SettingsError
from ..settings.settings import Settings, settings_with
from .context import Case
from .result import Finding, ok, warning, wrong

_SOURCES = ("database_url", "database_url_unpooled", "db_secret_arn", "database_url_parameter")
_EXPLAINED = ".env.example explains each variable."


def check_settings(case: Case) -> Finding:
    """Check that the variables are valid, and report which of them the URL comes from."""
    try:
        case.settings = settings_with(case.own)
    except SettingsError as error:
        remedy = f"Correct it in the environment or in .env; {_EXPLAINED}"
        missing = any("DATABASE_URL: is missing" in problem for problem in error.problems)
        return wrong(" ".join(error.problems), f"{remedy} make dev alone needs none." if missing else remedy)
    return ok(f"{_winners()}; mode {case.settings.mode} on {case.settings.platform.name}")


def _winners() -> str:
    """Return the variables that the URLs come from, and those that are set but not read."""
    said = []
    for field in _SOURCES:
        places = [f"{name} from {place}" for name, place in Settings.variables_of(field)]
        if places:
            unread = f" (not read: {', '.join(places[1:])})" if places[1:] else ""
            said.append(f"{places[0]}{unread}")
    return ", ".join(said)


def check_secret(case: Case) -> Finding:
    """Check that the secret that holds the URL can be read, if there is one."""
    settings = case.settings
    if settings.secret is None:
        case.learn_urls(settings.application_url, direct_url(settings))
        return ok("none is used")
    try:
        url = source_for(settings).current()
    except SecretError as error:
        problem, _, remedy = str(error).partition(". ")
        return wrong(problem, remedy or "Look at what is stored there.")
    except DeadlineExceededError:
        return wrong(
            f"{settings.secret.variable}: the secret store did not answer in time",
            "Check the network: a function in a VPC needs a NAT or an endpoint for the service.",
        )
    case.learn_urls(url, (settings.migration_database_url or url).direct())
    return ok(f"{settings.secret.variable}: read from {settings.secret.service}")


def check_url(case: Case) -> Finding:
    """Check that the URLs fit the mode and name one database."""
    settings, url = case.settings, case.url
    if isinstance(source_for(settings), StoredURL):
        return ok(_description(case))
    unpooled, pooled = settings.database_url_unpooled, settings.database_url
    if unpooled and unpooled.is_pooled:
        name = Settings.given_name("database_url_unpooled")
        return wrong(
            f"{name}: {unpooled.host} is a pooler; migrations refuse it",
            f"Set it to {unpooled.direct().host}, without -pooler, or unset it: it is derived.",
        )
    if url.host is None:
        return warning(
            "the URL names no host, so libpq's own variables or this machine's socket decide",
            f"Write the host into {Settings.given_name('database_url')}.",
        )
    if pooled and unpooled and not _same_database(settings):
        names = f"{Settings.given_name('database_url')} and {Settings.given_name('database_url_unpooled')}"
        return warning(
            f"{names} name different databases: {_place(pooled)} and {_place(unpooled)}",
            "Migrations change the one while requests use the other: correct one of the two.",
        )
    if pooled and pooled.is_neon and not pooled.is_pooled:
        return warning(
            f"{Settings.given_name('database_url')}: {pooled.host} is Neon's direct host; "
            f"requests use {'the pooled one, derived from it' if settings.mode == 'pooled' else 'it'}",
            f"Set it to {pooled.pooled().host}: other programs read this variable too.",
        )
    return ok(_description(case))


def _same_database(settings: Settings) -> bool:
    one, other = settings.pooled_url, settings.direct_url
    # Outside Neon a pooler has a host of its own, and may name databases differently.
    return not (one.is_neon or other.is_neon) or _place(one.direct()) == _place(other)


def _place(url: object) -> str:
    host, database = getattr(url, "host", None), getattr(url, "database", None)
    return f"{host}/{database or ''}"


def _description(case: Case) -> str:
    url = case.url
    dropped = f", drops {', '.join(url.dropped)}" if url.dropped else ""
    if not url.is_neon:
        return f"{url}{dropped}"
    route = "pooled" if url.is_pooled else "direct"
    return (
        f"{url}, {route}, Neon's endpoint {url.endpoint_id} in {url.region or 'an unnamed region'}{dropped}"
    )
