"""TLS: whom the node trusts, who it says it is, what goes wrong, in words.

PS3.15 B.12 and B.13 (the profiles of BCP 195, RFC 8996 and 9325): TLS 1.2 or later,
forward secrecy, authenticated encryption. A peer's certificate and name are always
checked; there is no way to leave that out. What goes over the connection is not known
here.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from dicom_node.callers import Shown, names_of
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

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
"""Of TLS 1.2, as OpenSSL writes it: what RFC 9325 4.2 recommends. Those of 1.3 all do."""
CALLER_FAULTS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "HTTP_REQUEST": "it speaks HTTP to the port for TLS",
    "WRONG_VERSION_NUMBER": "it speaks no TLS to the port for TLS",
    "UNSUPPORTED_PROTOCOL": "it offers only TLS older than 1.2",
    "VERSION_TOO_LOW": "it offers only TLS older than 1.2",
    "NO_SHARED_CIPHER": "it offers no cipher of PS3.15 B.12",
    "UNKNOWN_CA": "it does not trust the authority of our certificate",
    "BAD_CERTIFICATE": "it does not accept our certificate",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "UNEXPECTED_EOF": "it closed the connection during the TLS handshake",
}
"""What OpenSSL's reasons mean where a caller's handshake failed; parts of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """How the node identifies itself to callers, and what it asks of them; PEM.

    Parameters
    ----------
    key
        None where the certificate's file holds the key, too.
    ca
        Certificates of the authorities that may have signed a caller's; None: no
        caller is asked for one.
    required
        Whether a caller without a certificate is turned away.
    """

    certificate: Path
    key: Path | None = None
    ca: Path | None = None
    required: bool = True


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
    _keep_profile(context)
    if tls.ca is None:
        context.load_default_certs()
    else:
        _trust(context, tls.ca)
    if tls.certificate is not None:
        _load_own(context, tls.certificate, tls.key)
    return context


def server_context(tls: ServerTls, table: str = "dicom") -> ssl.SSLContext:
    """Return what callers' connections are protected with.

    Parameters
    ----------
    table
        Of the settings, for what is said of a file that cannot be used.

    Raises
    ------
    SettingsError
        If a file that the settings name cannot be used; it says which.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _keep_profile(context)
    try:
        _load_own(context, tls.certificate, tls.key)
        if tls.ca is not None:
            _trust(context, tls.ca)
    except SettingsError as error:
        raise SettingsError(f"{table}.{error}") from error
    if tls.ca is not None:
        required = ssl.CERT_REQUIRED if tls.required else ssl.CERT_OPTIONAL
        context.verify_mode = required
    return context


def shown(connection: ssl.SSLSocket) -> Shown | None:
    """Return the certificate that the other side showed, None without one."""
    encoded = connection.getpeercert(binary_form=True)
    if not encoded:
        return None
    told = connection.getpeercert() or {}
    return Shown(fingerprint=sha256(encoded).hexdigest(), names=names_of(told))


def caller_fault(error: OSError) -> str:
    """Return in words why a caller's handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = FAULTS.get(error.verify_code, "is not accepted")
        return f"its TLS certificate {what.replace('tls.ca', 'dicom.tls.ca')}"
    if isinstance(error, TimeoutError):
        return "it did not finish the TLS handshake in time"
    if isinstance(error, ssl.SSLError):
        reason = f"{error.reason} {error}".upper().replace(" ", "_")
        found = [words for part, words in CALLER_FAULTS.items() if part in reason]
        return found[0] if found else "the TLS handshake failed"
    return "the connection was lost during the TLS handshake"


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


def _keep_profile(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    _check_file("tls.ca", ca)
    try:
        context.load_verify_locations(cafile=ca)
    except OSError as error:
        raise SettingsError(f"tls.ca: {ca} holds no certificate") from error


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
