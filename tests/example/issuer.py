"""An identity provider for tests: a real server that shows keys in good and in bad ways, and signs."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "tasks-api"
LEFT_OUT: Any = object()


@dataclass(frozen=True)
class SigningKey:
    """A private key under a name, and the algorithm it signs with."""

    name: str
    algorithm: str
    private: Any

    @classmethod
    def make(cls, algorithm: str, name: str = "") -> SigningKey:
        """A new key for one of the algorithms that are taken."""
        made = {
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }[algorithm]()
        return cls(name or algorithm.lower(), algorithm, made)

    def public(self, **changes: Any) -> dict[str, Any]:
        """The key as its document shows it."""
        shown = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        members = {**shown, "kid": self.name, "alg": self.algorithm, "use": "sig", **changes}
        return {name: value for name, value in members.items() if value is not LEFT_OUT}


@dataclass
class Issuer:
    """A provider on a port of its own."""

    port: int
    scheme: str = "http"
    keys: list[SigningKey] = field(default_factory=list)
    # Writes an answer to a connection; the document of the keys unless a test says otherwise.
    answer: Callable[[socket.socket], None] | None = None
    asked: int = 0

    @property
    def url(self) -> str:
        """The `iss` of its tokens."""
        return f"{self.scheme}://localhost:{self.port}/"

    def document(self) -> bytes:
        """The keys as JSON."""
        return json.dumps({"keys": [key.public() for key in self.keys]}).encode()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token with `changes`."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "ada|1", "iat": now, "exp": now + 600, **changes}
        return {name: value for name, value in claims.items() if value is not LEFT_OUT}

    def token(
        self, key: SigningKey | None = None, headers: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        """A token with these claims, of whatever type they are."""
        key = key or self.keys[0]
        named = {"kid": key.name, "typ": "JWT", **(headers or {})}
        named = {name: value for name, value in named.items() if value is not LEFT_OUT}
        body = json.dumps(self.claims(**changes)).encode()
        return jwt.PyJWS().encode(body, key.private, algorithm=key.algorithm, headers=named)

    def serve(self, connection: socket.socket) -> None:
        """Answer one request."""
        with suppress(OSError), connection:
            connection.settimeout(10)
            connection.recv(65536)
            self.asked += 1
            (self.answer or (lambda peer: respond(peer, self.document())))(connection)


def respond(connection: socket.socket, body: bytes, status: str = "200 OK", more: str = "") -> None:
    """Write a whole response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    connection.sendall(head.encode() + body)


@contextmanager
def issuing(context: ssl.SSLContext | None = None) -> Iterator[Issuer]:
    """A provider with a key of each algorithm."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        issuer = Issuer(listener.getsockname()[1], "https" if context else "http")
        issuer.keys = [SigningKey.make(algorithm) for algorithm in ("RS256", "ES256", "EdDSA")]

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with suppress(OSError):
                issuer.serve(context.wrap_socket(connection, server_side=True) if context else connection)

        threading.Thread(target=accept, daemon=True).start()
        yield issuer
        listener.shutdown(socket.SHUT_RDWR)
