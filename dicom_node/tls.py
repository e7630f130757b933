"""TLS towards a peer: whom the node trusts, who it says it is, what goes wrong, in words.

PS3.15 B.12 (the BCP 195 profiles): TLS 1.2 or later, the peer's certificate and name
are always checked; there is no way to leave that out. What goes over the connection
is not known here.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicom_node.errors import SettingsError
from dicom_node.peers import Tls

UNKNOWN_AUTHORITY = "is not signed by an authority that we know: see tls.ca"
ANOTHER_HOST = "is for another host than the one in our settings"
FAULTS = {
    9: "is not valid yet: compare the clocks",
    10: "has expired: it has to be renewed there",
    18: UNKNOWN_AUTHORITY,
    19: UNKNOWN_AUTHORITY,
    20: UNKNOWN_AUTHORITY,
    21: UNKNOWN_AUTHORITY,
    23: "is revoked",
    62: ANOTHER_HOST,
    64: ANOTHER_HOST,
}
"""OpenSSL's X509_V_ERR codes, of those that an operator can do something about."""
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
"""OpenSSL's reasons where the other side says something else than TLS."""


class ClientContext(ssl.SSLContext):
    """A client's context that keeps its socket, and why its handshake failed.

    pynetdicom 3 only says that there is no connection, and forgets the socket.
    """

    fault: OSError | None = None
    made: ssl.SSLSocket | None = None

    def wrap_socket(self, *given: Any, **named: Any) -> ssl.SSLSocket:
        """Return the socket with TLS around it."""
        self.made = super().wrap_socket(*given, **named)
        return self.made


class _Socket(ssl.SSLSocket):
    """A socket that tells its context why a handshake failed."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's
        try:
            super().do_handshake(block)
        except OSError as error:
            if isinstance(self.context, ClientContext):
                self.context.fault = error
            raise


def client_context(tls: Tls) -> ClientContext:
    """Return what a connection is protected with.

    Raises
    ------
    SettingsError
        If a file that the settings name cannot be used; it says which.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _Socket
    if tls.ca is None:
        context.load_default_certs()
    else:
        _check_file("tls.ca", tls.ca)
        try:
            context.load_verify_locations(cafile=tls.ca)
        except OSError as error:
            raise SettingsError(f"tls.ca: {tls.ca} holds no certificate") from error
    if tls.certificate is not None:
        _load_own(context, tls.certificate, tls.key)
    return context


def tls_fault(error: BaseException) -> str:
    """Return what is wrong with a peer's TLS, in words; empty if it is not TLS."""
    faults = [e for e in _chain(error) if isinstance(e, ssl.SSLError)]
    for fault in faults:
        if isinstance(fault, ssl.SSLCertVerificationError):
            what = FAULTS.get(fault.verify_code, "is not accepted")
            return f"its TLS certificate {what}"
    reasons = " ".join(str(fault.reason) for fault in faults)
    if any(reason in reasons for reason in NO_TLS):
        return "it does not speak TLS on that port"
    if "ALERT" in reasons:
        return "it does not accept our TLS: does it want a certificate of ours?"
    return "the TLS handshake failed" if faults else ""


def _check_file(key: str, path: Path) -> None:
    if not path.is_file():
        raise SettingsError(f"{key}: there is no file {path}")


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    _check_file("tls.certificate", certificate)
    if key is not None:
        _check_file("tls.key", key)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        raise SettingsError(
            "tls.certificate and tls.key are no PEM certificate with its key, or the"
            " key has a password"
        ) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and those that it wraps, as requests and urllib3 wrap them."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        reason = getattr(one, "reason", None)
        waiting += [reason, one.__cause__, one.__context__, *one.args]
