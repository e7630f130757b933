"""An OpenID Connect issuer of our own: it publishes keys, signs tokens, rotates, stops."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from dicom_node.access import Issuer

AUDIENCE = "pacsight"


@dataclass
class Key:
    """A key under a name, for one algorithm."""

    kid: str
    algorithm: str
    private: Any

    @classmethod
    def made(cls, kid: str, algorithm: str = "RS256") -> "Key":
        """Return a new one."""
        match algorithm[:2]:
            case "RS" | "PS":
                return cls(kid, algorithm, rsa.generate_private_key(65537, 2048))
            case "ES":
                return cls(kid, algorithm, ec.generate_private_key(ec.SECP256R1()))
            case _:
                return cls(kid, algorithm, ed25519.Ed25519PrivateKey.generate())

    @property
    def public(self) -> dict[str, object]:
        """Return what the issuer publishes of it."""
        kinds = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}
        kind: Any = OKPAlgorithm if self.algorithm == "EdDSA" else None
        kind = kind or kinds[self.algorithm[0]]
        jwk = kind.to_jwk(self.private.public_key(), as_dict=True)
        return {**jwk, "kid": self.kid, "alg": self.algorithm, "use": "sig"}


@dataclass
class LocalIssuer:
    """A running issuer.

    Parameters
    ----------
    published
        The keys that it shows; a test changes them.
    asked
        The paths that it was asked for.
    """

    url: str = ""
    published: list[Key] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    says: dict[str, object] = field(default_factory=dict)
    broken: bool = False

    def issuer(self, **changes: Any) -> Issuer:
        """Return what the node's settings say of it."""
        return Issuer(**{"issuer": self.url, "audience": AUDIENCE} | changes)

    def answer(self, path: str) -> object:
        """Return what stands at an address, None for nothing."""
        if path == "/.well-known/openid-configuration":
            own = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
            return own | self.says
        return {"keys": [key.public for key in self.published]}

    def token(self, key: Key, *, headers: Any = None, **claims: Any) -> str:
        """Return a signed token, good for five minutes; a claim of None is left out."""
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "jane",
            "iat": now,
            "exp": now + 300,
            "roles": ["view"],
        } | claims
        return jwt.encode(
            {name: value for name, value in said.items() if value is not None},
            key.private,
            key.algorithm,
            headers={"kid": key.kid} if headers is None else headers,
        )


@contextmanager
def local_issuer(*keys: Key) -> Iterator[LocalIssuer]:
    """Run an issuer that publishes these keys."""
    issuer = LocalIssuer(published=list(keys))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            told = issuer.answer(self.path)
            body = b"<html>" if issuer.broken else json.dumps(told).encode()
            self.send_response(500 if issuer.broken else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
