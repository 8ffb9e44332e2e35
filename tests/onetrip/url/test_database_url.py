"""The URL is read as libpq reads it, written as it was read, and never shows its password."""

from collections.abc import Mapping

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from lib.onetrip.url.database_url import DatabaseURL, DatabaseURLError
from lib.onetrip.url.parsing import CHOICES, LIBPQ_PARAMETERS, WHOLE_NUMBERS

# The canary: letters that nothing but a secret is made of, and how each begins when percent-encoded.
CANARY = "\U00010000\U00010001\U00010002"
CANARY_BYTE = "%F0"
DELIMITERS = ":/?#[]@%&=+ ,;'\"\\"

plain = st.characters(exclude_categories=["Cs"], exclude_characters="\0", max_codepoint=0xFFFF)
words = st.text(plain, min_size=1, max_size=12)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?(\.[a-z]{2,6}){0,3}", fullmatch=True)
endpoints = st.from_regex(r"ep-[a-z]{2,8}-[a-z]{2,8}-[0-9]{6}", fullmatch=True)
domains = st.sampled_from(["us-east-2.aws.neon.tech", "c-2.eu-central-1.aws.neon.tech", "azure.neon.build"])
neon_hosts = st.builds(
    lambda endpoint, suffix, domain: f"{endpoint}{suffix}.{domain}",
    endpoints,
    st.sampled_from(["", "-pooler"]),
    domains,
)
sockets = st.builds(str.__add__, st.sampled_from(["/", "@"]), words.map(lambda text: text.replace(",", "")))
addresses = st.ip_addresses().map(str)
zones = st.builds(lambda address: f"{address}%eth0", st.ip_addresses(v=6))
ports = st.none() | st.integers(1, 65535)
FREE = sorted(LIBPQ_PARAMETERS - WHOLE_NUMBERS - CHOICES.keys())
parameters = st.dictionaries(st.sampled_from(FREE), words, max_size=4)
any_host = st.none() | names | neon_hosts | sockets | addresses | zones
maybe = st.none() | words


def urls(
    host: st.SearchStrategy[str | None] = any_host, password: st.SearchStrategy[str | None] = maybe
) -> st.SearchStrategy[DatabaseURL]:
    """Any URL that this project can hold."""
    return st.builds(DatabaseURL, maybe, password, host, ports, maybe, parameters)


@given(urls())
def test_a_url_is_read_back_as_it_was_written(url: DatabaseURL) -> None:
    """`parse` reads the output of `render` to the same value."""
    assert DatabaseURL.parse(url.render(hide_password=False)) == url


@given(urls())
def test_libpq_reads_the_same_values(url: DatabaseURL) -> None:
    """The URL handed to any program of PostgreSQL's means what our keyword arguments mean."""
    expected = {name: str(value) for name, value in url.connect_arguments().items()}
    assert conninfo_to_dict(url.render(hide_password=False)) == expected


@given(urls(password=st.text(CANARY, min_size=1)), st.text(CANARY, min_size=1))
def test_no_text_form_shows_a_secret(url: DatabaseURL, secret: str) -> None:
    """The password and the secret parameters stay out of `str`, `repr`, `format` and `render`."""
    hidden = {"sslpassword": secret, "oauth_client_secret": secret, "scram_client_key": secret}
    secretive = DatabaseURL(
        url.user, url.password, url.host, url.port, url.database, {**url.parameters, **hidden}
    )
    for text in (str(secretive), repr(secretive), f"{secretive}", f"{[secretive]}", secretive.render()):
        assert not shows_canary(text)
        assert text.count("***") >= 4


@given(urls(host=neon_hosts))
def test_pooled_and_direct_are_inverse_on_neon(url: DatabaseURL) -> None:
    """Either URL of a Neon database leads to the other, and changes nothing but the host."""
    assert url.pooled().is_pooled
    assert not url.direct().is_pooled
    assert url.pooled().direct() == url.direct()
    assert url.direct().pooled() == url.pooled()
    assert url in (url.pooled(), url.direct())
    assert url.pooled().endpoint_id == url.direct().endpoint_id


@given(urls(host=st.none() | names | sockets | addresses))
def test_pooled_and_direct_leave_other_hosts_alone(url: DatabaseURL) -> None:
    """The pooler of a host that is not Neon's cannot be derived."""
    assert url.pooled() is url
    assert url.direct() is url


@given(st.text(st.characters()) | st.text(st.characters()).map("postgresql://".__add__))
@example("postgresql://[::1")
@example("postgresql://h:" + "9" * 5000)
@example("postgresql://h/\udcff")
@example("postgresql://h/%ff")
def test_any_text_is_either_a_url_or_refused(text: str) -> None:
    """Nothing but `DatabaseURLError` leaves `parse`, and what it accepts can be written again."""
    try:
        url = DatabaseURL.parse(text)
    except DatabaseURLError:
        return
    assert DatabaseURL.parse(url.render(hide_password=False)) == url


@given(
    st.sampled_from(["postgresql://", "postgres+other://", "mysql://", "psql 'postgresql://", ""]),
    st.text(CANARY + DELIMITERS, min_size=1),
    st.sampled_from(
        ["@h/d", "@h:port/d", "@h:99999/d", "@[::/d", "@h/d?sslmode=weak", "@a,b/d", "@h?next=http://x", ""]
    ),
)
@example("", f"{CANARY}", "@h?next=http://x")
@example("postgresql://", f"1/{CANARY}", "@h/d")
@example("postgresql://", f"1?{CANARY}", "@h/d")
def test_a_password_typed_without_encoding_is_never_shown(scheme: str, password: str, rest: str) -> None:
    """A password of any characters is repeated neither by the error nor by the parsed URL."""
    # If nothing follows it, the text is a host and a port: what comes after an @ is the host, after a slash
    # the database, after a question mark the parameters.
    assume(rest or not {*"@/?"} & {*password})
    try:
        shown = str(DatabaseURL.parse(f"{scheme}user:{password}{rest}").secured())
    except DatabaseURLError as error:
        shown = str(error)
    assert not shows_canary(shown)


def shows_canary(text: str) -> bool:
    """Return True if a letter of the canary stands in `text`, plain or percent-encoded."""
    return CANARY_BYTE in text or any(letter in text for letter in CANARY)


def test_the_parameters_are_those_of_the_bundled_libpq() -> None:
    """A parameter is kept if and only if the libpq that will read it knows it."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    assert known - {"host", "port", "user", "password", "dbname"} == LIBPQ_PARAMETERS


def test_every_parameter_that_libpq_hides_is_hidden() -> None:
    """Parameters that libpq marks as secret, or uses for debugging keys, are `***` here."""
    secret = {option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar == b"*"}
    secret |= {"scram_client_key", "scram_server_key"}
    url = DatabaseURL(parameters=dict.fromkeys(secret & LIBPQ_PARAMETERS, CANARY))
    assert not shows_canary(str(url))


@pytest.mark.parametrize("family", ["postgres", "postgresql", "POSTGRESQL"])
@pytest.mark.parametrize("driver", ["", "+psycopg", "+psycopg2", "+psycopg_async", "+asyncpg"])
def test_every_way_to_name_postgresql_means_the_same(family: str, driver: str) -> None:
    """The scheme says PostgreSQL; which driver connects is not the URL's to choose."""
    assert DatabaseURL.parse(f" {family}{driver}://u:p@h:6543/d\n") == DatabaseURL("u", "p", "h", 6543, "d")


NO_URL = "it is no URL. Use postgresql://user:password@host/database, without quotes or a command."
HINT = "If the password holds / or ?, write %2F or %3F."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mysql://u:p@h/d", 'scheme "mysql" is not supported. Use postgresql://.'),
        ("postgresql+pg8000://h/d", 'scheme "postgresql+pg8000" is not supported. Use postgresql://.'),
        ("hunter2", NO_URL),
        ("'postgresql://u:p@h/d'", NO_URL),
        ("postgresql://u:p/w@h/d", f"an @ stands after the first / or ?. {HINT} Elsewhere write @ as %40."),
        ("postgresql://u:1?w@h/d", f"an @ stands after the first / or ?. {HINT} Elsewhere write @ as %40."),
        (
            "postgresql://u:p%w@h/d",
            "a percent sign is not followed by two hexadecimal digits. Write % itself as %25.",
        ),
        ("postgresql://u:%ff@h/d", "it is not valid UTF-8. Percent-encode it as UTF-8."),
        ("postgresql://u:%00@h/d", "it holds a NUL character. Remove it."),
        ("postgresql://a,b/d", "it names several hosts. Name one; for a replica use its own URL."),
        (
            "postgresql:///d?host=/run,evil.example",
            "it names several hosts. Name one; for a replica use its own URL.",
        ),
        ("postgresql://h h/d", f"the host is malformed. {HINT}"),
        (
            "postgresql://h/d?connect_timeout=10s",
            "its connect_timeout is not a whole number. Write connect_timeout=10 or drop it.",
        ),
        (
            "postgresql://h/d?channel_binding=required",
            "its channel_binding is not one of libpq's. Use one of: disable, prefer, require.",
        ),
        ("postgresql://h:0/d", f"the port is not a number from 1 to 65535. {HINT}"),
        ("postgresql://[2001:db8::1/d", "the IPv6 address is malformed. Write it as [2001:db8::1]:5432."),
        ("postgresql://[h]:1/d", "the IPv6 address is malformed. Write it as [2001:db8::1]:5432."),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_a_remedy(text: str, message: str) -> None:
    """The message says what is wrong and what to write instead."""
    with pytest.raises(DatabaseURLError) as refusal:
        DatabaseURL.parse(text)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("query", "kept", "dropped"),
    [
        (
            "pgbouncer=true&connection_limit=1&pool_timeout=0",
            {},
            ("pgbouncer", "connection_limit", "pool_timeout"),
        ),
        ("schema=public&sslaccept=strict", {}, ("schema", "sslaccept")),
        ("statement_cache_size=0&command_timeout=5", {}, ("statement_cache_size", "command_timeout")),
        ("sslmode=require&channel_binding=require", {"sslmode": "require", "channel_binding": "require"}, ()),
        (
            "connect_timeout=3&application_name=a%20b%2Bc+d",
            {"connect_timeout": "3", "application_name": "a b+c+d"},
            (),
        ),
        ("options=endpoint%3Dep-x", {"options": "endpoint=ep-x"}, ()),
        ("sslmode=", {}, ("sslmode",)),
        ("sslmode", {}, ("sslmode",)),
        ("ssl=true", {"sslmode": "require"}, ()),
        ("ssl=False", {"sslmode": "disable"}, ()),
        ("ssl=verify-full", {"sslmode": "verify-full"}, ()),
        ("ssl=true&sslmode=verify-full", {"sslmode": "verify-full"}, ()),
        ("sslmode=verify-full&ssl=false", {"sslmode": "verify-full"}, ("ssl",)),
    ],
)
def test_parameters_of_other_programs_are_dropped(
    query: str, kept: Mapping[str, str], dropped: tuple[str, ...]
) -> None:
    """Parameters of libpq stay, asyncpg's `ssl` is translated, and the rest is dropped by name."""
    url = DatabaseURL.parse(f"postgresql://u:p@h/d?{query}")
    assert (url.parameters, url.dropped) == (kept, dropped)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgresql://u:p%40ss%2Fw%25@h/d", DatabaseURL("u", "p@ss/w%", "h", None, "d")),
        ("postgresql://u:p@ss@h/d", DatabaseURL("u", "p@ss", "h", None, "d")),
        ("postgresql://u:a:b#c@h/d", DatabaseURL("u", "a:b#c", "h", None, "d")),
        ("postgresql://:p@h", DatabaseURL(password="p", host="h")),
        ("postgresql://u:@h:/", DatabaseURL("u", host="h")),
        ("postgresql://[2001:db8::1]:5433/d", DatabaseURL(host="2001:db8::1", port=5433, database="d")),
        ("postgresql://u:p@h.example.com./d", DatabaseURL("u", "p", "h.example.com", None, "d")),
        ("postgresql://[fe80::1%25eth0]/d", DatabaseURL(host="fe80::1%eth0", database="d")),
        ("postgresql:///d?host=/run/postgresql", DatabaseURL(host="/run/postgresql", database="d")),
        ("postgresql://u@%2Frun%2Fpostgresql/d", DatabaseURL("u", host="/run/postgresql", database="d")),
        (
            "postgresql://a:b@c:1/d?user=e&password=f&host=g&port=2&dbname=h",
            DatabaseURL("e", "f", "g", 2, "h"),
        ),
        ("postgresql://", DatabaseURL()),
    ],
)
def test_a_url_is_taken_apart_as_libpq_does_it(text: str, url: DatabaseURL) -> None:
    """Reserved characters, IPv6 addresses, unix sockets and overriding parameters are understood."""
    assert DatabaseURL.parse(text) == url


@pytest.mark.parametrize(
    ("host", "endpoint", "region", "pooled"),
    [
        ("ep-cool-name-123456.us-east-2.aws.neon.tech", "ep-cool-name-123456", "us-east-2", False),
        ("ep-cool-name-123456-pooler.us-east-2.aws.neon.tech", "ep-cool-name-123456", "us-east-2", True),
        ("EP-Cool-Name-123456-Pooler.us-east-2.aws.neon.tech", "EP-Cool-Name-123456", "us-east-2", True),
        ("ep-a-b-1-pooler.c-2.eu-central-1.aws.neon.tech", "ep-a-b-1", "eu-central-1", True),
        ("ep-a-b-1.eastus2.azure.neon.tech", "ep-a-b-1", "eastus2", False),
        ("ep-a-b-1.cloud.neon.build", "ep-a-b-1", None, False),
        ("neon.tech.example.com", None, None, False),
        ("ep-a-pooler.example.com", None, None, False),
        (None, None, None, False),
    ],
)
def test_a_neon_host_tells_its_endpoint_and_region(
    host: str | None, endpoint: str | None, region: str | None, *, pooled: bool
) -> None:
    """Endpoint id, region and pooler are read from the host's name, and only from a Neon host's."""
    url = DatabaseURL(host=host)
    assert (url.endpoint_id, url.region, url.is_pooled) == (endpoint, region, pooled)
    assert url.is_neon == (endpoint is not None)


LOCAL = ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "::1", "/run/postgresql", "@abstract"]
# One without a host may lead anywhere: PGHOST or a service file decides.
REMOTE = ["h.example.com", "10.0.0.1", "2001:db8::1", "localhost.example.com", None]
NEON = "ep-a-b-1-pooler.us-east-2.aws.neon.tech"


@pytest.mark.parametrize(
    ("host", "local"), [*[(host, True) for host in LOCAL], *[(host, False) for host in REMOTE]]
)
def test_local_is_what_the_url_itself_keeps_on_this_machine(host: str | None, *, local: bool) -> None:
    """Only a socket, localhost or a loopback address counts as local."""
    assert DatabaseURL(host=host).is_local == local


def test_the_address_counts_more_than_the_name() -> None:
    """A connection goes to `hostaddr` whatever the host is called, so it decides what is local."""
    assert not DatabaseURL(host="localhost", parameters={"hostaddr": "203.0.113.7"}).is_local
    assert not DatabaseURL(host="localhost", parameters={"hostaddr": "127.0.0.1,203.0.113.7"}).is_local
    assert DatabaseURL(host="db.example.com", parameters={"hostaddr": "127.0.0.1"}).is_local


@pytest.mark.parametrize(
    ("host", "query", "tls", "sslmode"),
    [
        *[(host, "", None, "require") for host in [*REMOTE, NEON]],
        *[(host, "", None, None) for host in LOCAL],
        ("h.example.com", "sslmode=require", "verify-full", "verify-full"),
        ("h.example.com", "sslmode=verify-ca", None, "verify-ca"),
        ("h.example.com", "sslmode=verify-full", "require", "verify-full"),
        ("localhost", "sslmode=disable", None, "disable"),
        ("localhost", "sslmode=prefer", "require", "require"),
        ("localhost", "", "verify-full", "verify-full"),
        ("h.example.com", "sslrootcert=system", None, "verify-full"),
    ],
)
def test_tls_is_as_strong_as_host_url_and_setting_demand(
    host: str | None, query: str, tls: str | None, sslmode: str | None
) -> None:
    """The strongest of the three holds, and a remote host always demands encryption."""
    url = DatabaseURL(host=host, parameters=DatabaseURL.parse(f"postgresql://h?{query}").parameters)
    assert url.secured(tls, "/ca.pem").parameters.get("sslmode") == sslmode


@pytest.mark.parametrize("host", REMOTE)
@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_weak_tls_to_a_remote_host_is_refused(host: str | None, sslmode: str) -> None:
    """A URL that may send the password in the clear is an error, not a wish to be overruled."""
    url = DatabaseURL(host=host, parameters={"sslmode": sslmode})
    with pytest.raises(
        DatabaseURLError, match=rf"^sslmode={sslmode} may send .* Use sslmode=require or drop it\.$"
    ):
        url.secured("verify-full")


@pytest.mark.parametrize(
    "password",
    ["***", "****************", "••••••", "[YOUR-PASSWORD]", "<password>", "{password}", "your_password"],
)
def test_a_placeholder_is_no_password(password: str) -> None:
    """What a console shows while the password is hidden is refused before anybody tries to log in by it."""
    with pytest.raises(DatabaseURLError, match="its password is a placeholder"):
        DatabaseURL("u", password, "h.example.com").secured()


def test_an_unknown_sslmode_is_refused() -> None:
    """A misspelt mode is found before libpq finds it, on a local host too."""
    with pytest.raises(DatabaseURLError, match=r"^its sslmode is not one of libpq's\. Use sslmode=require"):
        DatabaseURL(host="localhost", parameters={"sslmode": "no-verify"}).secured()


@pytest.mark.parametrize(
    ("host", "binding"), [(NEON, "require"), ("h.example.com", None), ("localhost", None)]
)
def test_neon_hosts_bind_the_login_to_the_channel(host: str, binding: str | None) -> None:
    """Neon's login is bound to its TLS channel, even where the URL asks for less."""
    assert DatabaseURL(host=host).secured().parameters.get("channel_binding") == binding
    weak = DatabaseURL(host=host, parameters={"channel_binding": "disable"})
    assert weak.secured().parameters.get("channel_binding") == (binding or "disable")


@pytest.mark.parametrize(
    ("query", "certificates"),
    [
        ("sslmode=verify-full", "/ca.pem"),
        ("sslmode=verify-ca", "/ca.pem"),
        ("sslrootcert=system", "/ca.pem"),
        ("sslmode=verify-full&sslrootcert=/mine.pem", "/mine.pem"),
        ("sslmode=require", None),
    ],
)
def test_certificates_are_checked_against_the_systems_bundle(query: str, certificates: str | None) -> None:
    """If a certificate is checked, libpq gets the file to check against, the URL's own first."""
    secured = DatabaseURL.parse(f"postgresql://h.example.com/d?{query}").secured(ca_file="/ca.pem")
    assert secured.parameters.get("sslrootcert") == certificates


@given(urls(host=names | neon_hosts | sockets | addresses), st.sampled_from([None, "require", "verify-full"]))
def test_securing_twice_changes_nothing_more(url: DatabaseURL, tls: str | None) -> None:
    """`secured` is idempotent, and touches nothing but TLS."""
    plain_url = DatabaseURL(url.user, url.password, url.host, url.port, url.database)
    secured = plain_url.secured(tls, "/ca.pem")
    assert secured.secured(tls, "/ca.pem") == secured
    assert set(secured.parameters) <= {"sslmode", "sslrootcert", "channel_binding"}


@given(urls())
def test_equal_urls_have_equal_hashes(url: DatabaseURL) -> None:
    """A URL can be the key of a dictionary."""
    assert {url: 1}[DatabaseURL.parse(url.render(hide_password=False))] == 1
