"""The doctor's checks of the network: names, ports, certificates."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lib.onetrip.testing.databases import free_port
from lib.onetrip.url.database_url import DatabaseURL
from tests.onetrip.doctor.conftest import Doctor, talkative_host
from tests.onetrip.fault_proxy import Proxy

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
AUTHORITY = trustme.CA()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The file that says whom to trust."""
    path = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    return path


@contextmanager
def tls(url: DatabaseURL, context: ssl.SSLContext, **parameters: str) -> Iterator[DatabaseURL]:
    """The URL of a proxy that speaks TLS by `context`."""
    proxy = Proxy(("127.0.0.1", url.port or 0), context)
    with proxy.running():
        yield replace(url, port=proxy.port, parameters={"gssencmode": "disable", **parameters})


def issued(name: str = "127.0.0.1", ends: dt.datetime = NOW + 90 * DAY) -> ssl.SSLContext:
    """A server with a certificate of the authority's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name, not_before=ends - 100 * DAY, not_after=ends).configure_cert(context)
    return context


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + 90 * DAY)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "self-signed.pem"
    path.write_bytes(pem + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_an_unknown_host_is_told(doctor: Doctor, url: DatabaseURL) -> None:
    """A host that no name server knows is named, and nothing behind it is tried."""
    visit = doctor(DATABASE_URL=replace(url, host="no-such-host.invalid"))
    assert visit.marks["dns"] == "✗"
    assert "no-such-host.invalid" in visit.says["dns"]
    assert visit.marks.keys() & {"tcp", "tls", "login", "direct"} == set()
    assert visit.code == 2


def test_a_port_that_nobody_listens_at_is_told(doctor: Doctor, url: DatabaseURL) -> None:
    """A refused connection is told from a dropped one."""
    visit = doctor("--only", "tcp", DATABASE_URL=replace(url, port=free_port()))
    assert visit.marks == {"tcp": "✗"}
    assert "no server listens" in visit.says["tcp"]


def test_a_unix_socket_has_no_name_and_no_certificate(
    doctor: Doctor, url: DatabaseURL, tmp_path: Path
) -> None:
    """The network's checks know a socket in the file system, and tell one that is not there."""
    visit = doctor("--only", "dns", "tcp", DATABASE_URL=replace(url, host=str(tmp_path)))
    assert visit.marks == {"dns": "✓", "tcp": "✗"}
    assert str(tmp_path) in visit.says["tcp"]


def test_a_certificate_in_order_is_told_with_its_end(
    doctor: Doctor, url: DatabaseURL, authority: Path
) -> None:
    """The protocol and the certificate's last day are shown, and the login goes the same way."""
    with tls(url, issued(), sslmode="verify-full", sslrootcert=str(authority)) as secured:
        visit = doctor("--only", "tls", "login", DATABASE_URL=secured)
    assert visit.marks == {"tls": "✓", "login": "✓"}, visit.out
    assert "TLSv1.3" in visit.says["tls"]
    assert f"{NOW + 90 * DAY:%Y-%m-%d}" in visit.says["tls"]


@pytest.mark.parametrize(
    ("certificate", "told"),
    [
        (("127.0.0.1", NOW - DAY), "expired"),
        (("127.0.0.1", NOW + 150 * DAY), "not valid yet"),
        (("db.example", NOW + 90 * DAY), "another address"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told(
    doctor: Doctor, url: DatabaseURL, authority: Path, certificate: tuple[str, dt.datetime], told: str
) -> None:
    """Expired, not valid yet or of another host: each is named, where libpq says only that it failed."""
    with tls(url, issued(*certificate), sslmode="verify-full", sslrootcert=str(authority)) as secured:
        visit = doctor(DATABASE_URL=secured)
    assert visit.marks["tls"] == "✗"
    assert told in visit.says["tls"]
    assert "login" not in visit.marks


def test_a_self_signed_certificate_is_told(
    doctor: Doctor, url: DatabaseURL, authority: Path, tmp_path: Path
) -> None:
    """A server that vouches for itself is refused by verify-full, by DATABASE_TLS too."""
    with tls(url, self_signed(tmp_path), sslrootcert=str(authority)) as secured:
        visit = doctor("--only", "tls", DATABASE_URL=secured, DATABASE_TLS="verify-full")
        assert "self-signed" in visit.says["tls"]
        assert visit.code == 2


def test_an_authority_that_is_not_trusted_is_told(doctor: Doctor, url: DatabaseURL, tmp_path: Path) -> None:
    """A certificate of an authority that is not in the file named is refused."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with tls(url, issued(), sslmode="verify-full", sslrootcert=str(other)) as secured:
        visit = doctor("--only", "tls", DATABASE_URL=secured)
    assert "authority" in visit.says["tls"]
    assert "sslrootcert" in visit.remedies["tls"]


def test_a_certificate_that_ends_soon_is_a_warning(doctor: Doctor, url: DatabaseURL, authority: Path) -> None:
    """It is told while there is still time."""
    with tls(url, issued(ends=NOW + 3 * DAY), sslmode="verify-full", sslrootcert=str(authority)) as secured:
        visit = doctor("--only", "tls", DATABASE_URL=secured)
    assert (visit.marks, visit.code) == ({"tls": "!"}, 1)


def test_what_is_not_checked_is_told(doctor: Doctor, url: DatabaseURL, tmp_path: Path) -> None:
    """With mode require any certificate passes, as it does for libpq, and the doctor says so."""
    with tls(url, self_signed(tmp_path), sslmode="require") as secured:
        visit = doctor("--only", "tls", "login", DATABASE_URL=secured)
    assert visit.marks == {"tls": "✓", "login": "✓"}
    assert "not checked" in visit.says["tls"]


@pytest.mark.parametrize("sslmode", ["prefer", "require"])
def test_a_port_of_something_else_is_told(doctor: Doctor, url: DatabaseURL, sslmode: str) -> None:
    """A web server that answers there is not taken for a PostgreSQL without TLS."""
    with talkative_host(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        elsewhere = replace(url, port=port, parameters={"sslmode": sslmode})
        visit = doctor("--only", "tls", DATABASE_URL=elsewhere)
    assert visit.marks == {"tls": "✗"}
    assert "is not PostgreSQL" in visit.says["tls"]


@pytest.mark.parametrize(
    ("says", "told"),
    [(b"", "closes the connection in the handshake"), (b"SHTTP/1.1 400 Bad Request", "TLS failed")],
)
def test_a_handshake_that_breaks_off_is_told(
    doctor: Doctor, url: DatabaseURL, says: bytes, told: str
) -> None:
    """A server that closes, and one that agrees to TLS and then speaks another protocol."""
    with talkative_host(says) as port:
        visit = doctor(
            "--only", "tls", DATABASE_URL=replace(url, port=port, parameters={"sslmode": "require"})
        )
    assert visit.marks == {"tls": "✗"}
    assert told in visit.says["tls"]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"sslmode": "require"}, "speaks no TLS"),
        ({"sslmode": "verify-full", "sslrootcert": "/gone.pem"}, "/gone.pem"),
    ],
)
def test_a_server_without_tls_is_told(
    doctor: Doctor, url: DatabaseURL, parameters: dict[str, str], told: str
) -> None:
    """A server that declines, and a file that is not there, are told apart."""
    visit = doctor("--only", "tls", DATABASE_URL=replace(url, parameters=parameters))
    assert visit.marks == {"tls": "✗"}
    assert told in visit.says["tls"]
