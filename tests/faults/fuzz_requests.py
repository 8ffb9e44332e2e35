"""Requests that no sane client sends, made up at random from everything that has ever broken a server."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from urllib.parse import quote

from tests.example.conftest import authorization

# Stands behind every line break that is smuggled in: no log line may begin with it.
FORGED = "FORGED"
METHODS = (
    *("GET",) * 8,
    *("POST",) * 8,
    *("PATCH", "DELETE") * 3,
    *("PUT", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "X" * 40),
)
COLLECTIONS = ("users", "posts", "tasks", "tags", "accounts", "transfers", "auth/token", "auth/register")
HEALTH = ("/health", "/health/live", "/health/ready", "/health/db", "/health/cold-start", "/nowhere", "/")
PARTS = (
    *("1", "0", "-1", "9" * 30, "9" * 5000, "1.0", "%31", "%00", "%ff", "%ed%a0%80", "%0a" + FORGED, "me"),
    *("..", "%2e%2e%2f", "%2F", ";a=b", "*", "é", "%F0%9F%8C%8D", "bulk", "complete", "a" * 3000, "%", "%zz"),
)
NAMES = ("limit", "cursor", "q", "status", "priority", "email", "author_id", "x", "limit[]", "%00", "")
VALUES = (
    *("", "1", "-1", "9" * 400, "NaN", "%00", "%ff", "%ed%a0%80", "%0d%0a" + FORGED, "a" * 4000, "null"),
    *("done", "[]", "{}", "' OR 1=1 --", "%27", "%F0%9F%8C%8D", "true", "1e400", "+1", "%%"),
)
SPOOFED = (
    ("X-Forwarded-For", "127.0.0.1, ::1, " + "a" * 2000),
    ("X-Forwarded-Proto", "gopher"),
    ("X-Forwarded-Host", "evil.example\tx"),
    ("Forwarded", 'for="[::1]";host=evil;proto=;;'),
    ("X-Request-ID", f"a\t{FORGED}"),
    ("X-Request-ID", "x" * 4000),
    ("X-Request-ID", "é"),
    ("X-Real-IP", "not an address"),
    ("Idempotency-Key", "\x7f" * 300),
    ("Idempotency-Key", "k"),
    ("Authorization", "Bearer " + "a" * 5000),
    ("Authorization", "Bearer é.é.é"),
    ("Authorization", "Basic Og=="),
    ("Authorization", "Bearer"),
    ("Accept", "text/*;q=NaN, */*;;;"),
    ("Accept-Encoding", "zzz, gzip;q=-1"),
    ("Cookie", "=;=;" * 300),
    ("Origin", "null"),
    ("Range", "bytes=-1"),
    ("If-None-Match", '"' * 500),
    ("traceparent", "00-ffffffffffffffffffffffffffffffff-0000000000000000-zz"),
)
TYPES = (
    *("application/json", "application/json; charset=utf-16", "application/json; charset=none", "text/plain"),
    *("application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=", "", "é"),
    *("application/problem+json", "application/octet-stream"),
)
WILD = (
    *("null", "true", "-1", "1e400", "NaN", "9" * 5000, '""', '"\\u0000"', '"\\ud800"', '"\\ud83c\\udf0d"'),
    *(
        "[]",
        "{}",
        "[" * 60 + "]" * 60,
        '{"a":' * 60 + "1" + "}" * 60,
        json.dumps("x" * 20_000),
        '"2030-01-01"',
    ),
    *(f'"a\\n{FORGED}"', '"1.50"', "1", '"done"', '"ada@example.com"', '"difference engine"', "0.1"),
)
FIELDS = (
    *("title", "content", "name", "email", "username", "password", "status", "priority", "due_at", "tags"),
    *(
        "from_account_id",
        "to_account_id",
        "amount",
        "balance",
        "items",
        "ids",
        "role",
        "is_active",
        "__proto__",
    ),
)


@dataclass(frozen=True)
class WildRequest:
    """One of them; `broken` if it is not even HTTP, so that no answer is one too."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    broken: bool = False

    @property
    def raw(self) -> bytes:
        """As it goes over the wire."""
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: a", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body or self.method in {"POST", "PUT", "PATCH"}:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + self.body


def request(chance: random.Random, person: int) -> WildRequest:
    """Return the next one; half of them with a token."""
    headers = [*chance.sample(SPOOFED, chance.randrange(4)), ("Content-Type", chance.choice(TYPES))]
    if chance.random() < 0.7:
        headers = [pair for pair in headers if pair[0] != "Authorization"]
        headers += authorization(person).items()
    method, target, body = chance.choice(METHODS), _target(chance), _body(chance)
    broken = chance.random() < 0.1
    if broken:
        where = chance.randrange(4)
        if where == 0:
            headers.append(("X-Broken", f"a\r\n{FORGED}\x00: b"))
        elif where == 1:
            method = chance.choice(("\x00", "G\x01T", "", "G T", "é"))
        elif where == 2:
            target = chance.choice((f"/a\n{FORGED}", "/é\x00", "", "http://", "a b c", "/\x7f"))
        else:
            headers.append(
                (chance.choice(("", "é", "a b", "Content-Length", "Transfer-Encoding")), "nonsense")
            )
    is_broken = broken or not target.isascii() or any(not _is_plain(*pair) for pair in headers)
    return WildRequest(method, target, tuple(headers), body, is_broken)


def _is_plain(name: str, value: str) -> bool:
    return f"{name}{value}".isascii() and f"{name}{value}".replace("\t", "").isprintable()


def _target(chance: random.Random) -> str:
    if chance.random() < 0.15:
        path = chance.choice(HEALTH)
    else:
        path = f"/api/v1/{chance.choice(COLLECTIONS)}"
        path += "".join(f"/{chance.choice(PARTS)}" for _ in range(chance.choice((0, 0, 0, 1, 1, 1, 2))))
    pairs = [f"{chance.choice(NAMES)}={chance.choice(VALUES)}" for _ in range(chance.choice((0, 0, 1, 3)))]
    target = path + (f"?{'&'.join(pairs)}" if pairs else "")
    return target if chance.random() < 0.02 else quote(target, safe="/?&=%;*[]{}'+.-:")


def _body(chance: random.Random) -> bytes:
    match chance.randrange(8):
        case 0:
            return b""
        case 1:
            return chance.randbytes(chance.choice((1, 100, 10_000)))
        case 2:
            return chance.choice(
                (b"[" * 100_000, b'{"a":' * 50_000, b'"' + b"x" * 2_000_000, b"\xff\xfe{\x00")
            )
        case 3:
            names = ("username", "password", "grant_type", "x")
            return "&".join(f"{chance.choice(names)}={chance.choice(VALUES)}" for _ in range(3)).encode()
        case _:
            some = chance.sample(FIELDS, chance.randint(1, 5))
            text = ", ".join(f"{json.dumps(name)}: {chance.choice(WILD)}" for name in some)
            encoding = chance.choice(("utf-8", "utf-8", "utf-8", "utf-16", "latin-1"))
            return f"{{{text}}}".encode(encoding, "replace")
