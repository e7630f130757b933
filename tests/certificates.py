"""Certificates for tests, made by OpenSSL: good ones, and all the bad ones."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "IP:127.0.0.1"
CONFIG = """\
[ca]
default_ca = here
[here]
database = {folder}/index.txt
new_certs_dir = {folder}
default_md = sha256
rand_serial = yes
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key, PEM."""

    path: Path
    key: Path

    @property
    def server(self) -> ssl.SSLContext:
        """Return what a server identifies itself with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority in a folder of its own."""

    folder: Path
    own: Certificate

    @classmethod
    def found(cls, folder: Path) -> "Authority":
        """Return a new one."""
        folder.mkdir(parents=True)
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(CONFIG.format(folder=folder))
        path, key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=test authority", "-keyout", key, "-out", path),
        )
        return cls(folder=folder, own=Certificate(path=path, key=key))

    def certify(
        self, name: str, *, host: str = LOOPBACK, expired: bool = False
    ) -> Certificate:
        """Return a certificate for a host, good for two days or for none."""
        path, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        request = self.folder / f"{name}.csr"
        _openssl(
            *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={host}", "-keyout", key, "-out", request),
        )
        past = ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
        _openssl(
            *("ca", "-batch", "-notext", "-config", self.folder / "ca.cnf"),
            *("-cert", self.own.path, "-keyfile", self.own.key),
            *(past if expired else ("-days", "2")),
            *("-in", request, "-out", path),
        )
        return Certificate(path=path, key=key)


def _openssl(*words: object) -> None:
    subprocess.run(
        ["/usr/bin/openssl", *map(str, words)], check=True, capture_output=True
    )
