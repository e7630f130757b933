"""The tables of ``pacsight.toml`` that say where the node listens, and whom it lets in.

The line under a key is its entry in ``docs/settings.md``.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from dicom_node.access import Issuer, ServiceToken, check_tokens, is_loopback
from dicom_node.config.values import GIB, MIB, File, Names, Port, Table
from dicom_node.errors import SettingsError
from dicom_node.peers import check_aet
from dicom_node.tls import ServerTls


class DicomTls(Table):
    """DIMSE over TLS; there is none without a certificate."""

    host: str = ""
    """Address that the node listens on for associations over TLS. Default: `dicom.host`."""
    port: Port = 2762
    """Port for associations over TLS; 0 takes a free one."""
    certificate: File | None = None
    """The node's certificate, PEM, with those between it and the authority's. Without it there is no TLS."""
    key: File | None = None
    """Its private key, without a password. Default: it is in the file `certificate`."""
    ca: File | None = None
    """Certificates of the authorities that may have signed a caller's. Without it no caller is asked for one."""
    client: Literal["required", "optional"] = "required"
    """With `ca`: whether a caller has to show a certificate. One that is shown is always checked."""

    @model_validator(mode="after")
    def _check_files(self) -> "DicomTls":
        if self.certificate is None and (self.key or self.ca):
            raise SettingsError("dicom.tls.key and dicom.tls.ca need a certificate")
        return self

    @property
    def is_mutual(self) -> bool:
        """Return whether nobody comes in without a certificate."""
        return self.ca is not None and self.client == "required"

    @property
    def server(self) -> ServerTls | None:
        """Return how associations over TLS are protected; None: there are none."""
        if self.certificate is None:
            return None
        return ServerTls(
            certificate=self.certificate,
            key=self.key,
            ca=self.ca,
            required=self.client == "required",
        )


class BrokerTls(Table):
    """TLS towards Redis, where `broker_url` begins with `rediss`."""

    ca: File | None = None
    """Certificates of the authorities that may have signed its certificate. Default: those that the system trusts."""
    certificate: File | None = None
    """The node's own certificate, where Redis asks for one."""
    key: File | None = None
    """Its private key, without a password."""


class Dicom(Table):
    """The DIMSE side of the node."""

    aet: str = "PACSIGHT"
    """The node's AE title; also its calling title unless a peer says otherwise."""
    also_called: Names = ()
    """Further titles that the node answers to, besides those that peers and priority rules name."""
    host: str = "127.0.0.1"
    """Address that the node listens on for DICOM associations; `0.0.0.0` for all, which needs TLS or `insecure`."""
    port: Port = 11112
    """Port for DICOM associations; 0 takes a free one."""
    plain: bool = True
    """Whether plain associations are served, without TLS, at `host` and `port`."""
    tls: DicomTls = DicomTls()
    insecure: bool = False
    """Whether `host` beyond loopback may be open without TLS and client certificates. It is said loudly at every start."""
    accept_unknown_peers: bool = Field(
        default_factory=lambda given: (
            is_loopback(given.get("host", ""))
            and is_loopback(_tls_host(given) or "localhost")
        )
    )
    """Whether systems that are not in the table of peers may send. True on loopback, else false."""
    max_associations: PositiveInt = 32
    """Associations served at the same time; more are refused as a temporary congestion."""
    stat_associations: Annotated[int, Field(ge=0)] = 4
    """Further associations that only callers get whose rule makes all that they send `stat`."""
    min_bytes_per_s: PositiveFloat = 1000.0
    """What a sender has to send on average while a message is coming in, once `acse_timeout_s` have passed: slower ones are cut off."""
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=16 * MIB)] = 256 * 1024
    """Largest PDU that the node offers to receive."""
    connect_timeout_s: PositiveFloat = 10.0
    """How long the node waits for a TCP connection to a peer."""
    acse_timeout_s: PositiveFloat = 30.0
    """How long the node waits for answers to association requests and releases."""
    dimse_timeout_s: PositiveFloat = 60.0
    """How long the node waits for the answer to a DIMSE request, e.g. while a PACS stores."""
    network_timeout_s: PositiveFloat = 60.0
    """How long an association may be silent before the node aborts it."""

    @property
    def tls_host(self) -> str:
        """Return the address for associations over TLS."""
        return self.tls.host or self.host

    @field_validator("aet")
    @classmethod
    def _check_aet(cls, value: str) -> str:
        check_aet(value, "in dicom.aet")
        return value

    @field_validator("also_called")
    @classmethod
    def _check_titles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for title in value:
            check_aet(title, "in dicom.also_called")
        return value


class HttpTls(Table):
    """HTTP over TLS; there is none without a certificate."""

    certificate: File | None = None
    """The node's certificate, PEM, with those between it and the authority's. Without it there is no TLS."""
    key: File | None = None
    """Its private key, without a password. Default: it is in the file `certificate`."""
    ca: File | None = None
    """Certificates of the authorities that may have signed a caller's. With it, nobody comes in without a certificate."""

    @model_validator(mode="after")
    def _check_files(self) -> "HttpTls":
        if self.certificate is None and (self.key or self.ca):
            raise SettingsError("http.tls.key and http.tls.ca need a certificate")
        return self

    @property
    def server(self) -> ServerTls | None:
        """Return how connections are protected; None: they are not."""
        if self.certificate is None:
            return None
        return ServerTls(certificate=self.certificate, key=self.key, ca=self.ca)


class Oidc(Table):
    """Tokens that an OpenID Connect issuer signs; none are accepted without an issuer."""

    issuer: str = ""
    """Address of the OpenID Connect issuer, exactly as it writes it in `iss`; it has to be https."""
    audience: str = ""
    """What its tokens have to name in `aud`."""
    roles_claim: str = "roles"
    """The claim that lists the roles; dots lead into objects: `realm_access.roles`."""
    role_prefix: str = ""
    """What stands before our roles there, e.g. `pacsight-`; other words are not ours."""
    username_claim: str = "sub"
    """The claim that names the user in logs and the audit trail."""
    algorithms: Names = ("RS256", "PS256", "ES256", "EdDSA")
    """Signatures that are accepted; only those with a public key can be."""
    leeway_s: float = 30.0
    """How far the issuer's clock may be off ours."""
    ca: File | None = None
    """Certificates of the authorities that may have signed the issuer's. Default: those that the system trusts."""

    @model_validator(mode="after")
    def _check(self) -> "Oidc":
        _ = self.trusted
        return self

    @property
    def trusted(self) -> Issuer | None:
        """Return whose signed tokens are accepted, None for nobody's."""
        if not self.issuer:
            return None
        return Issuer(
            issuer=self.issuer,
            audience=self.audience,
            roles_claim=self.roles_claim,
            role_prefix=self.role_prefix,
            username_claim=self.username_claim,
            algorithms=self.algorithms,
            leeway_s=self.leeway_s,
            ca=self.ca,
        )


class Http(Table):
    """The HTTP side of the node: STOW-RS, its own interface and a page."""

    host: str = "127.0.0.1"
    """Address that the node listens on for HTTP; `0.0.0.0` for all."""
    port: Port = 8080
    """Port for HTTP; 0 takes a free one."""
    insecure: bool = False
    """Whether `host` beyond loopback may be open without TLS or without tokens. It is said loudly at every start."""
    tls: HttpTls = HttpTls()
    tokens: tuple[ServiceToken, ...] = ()
    """Tokens of services, see below. With one of them, or an issuer, nobody comes in without a token."""
    oidc: Oidc = Oidc()
    requests_per_minute: PositiveInt = 30_000
    """Requests that one name, or one address without a name, may send in a minute; more are answered 429."""
    failures_per_minute: PositiveInt = 30
    """Tokens that are not accepted, of one address in a minute; more are answered 429."""
    trusted_proxies: Names = ()
    """Addresses of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    max_body_bytes: PositiveInt = 16 * GIB
    """Largest STOW-RS request, 16 GiB unless set; longer ones are answered 413."""
    max_connections: PositiveInt = 256
    """Connections at the same time; more are answered 503 and closed."""
    max_requests: PositiveInt = 64
    """Requests answered at the same time; more are answered 503."""
    patience_s: PositiveFloat = 30.0
    """How long the header of a request may take, and a body or an answer in any case."""
    min_bytes_per_s: PositiveFloat = 1000.0
    """What a client has to send of a body, or to read of an answer, on average afterwards: slower ones are cut off."""
    timeout_s: PositiveFloat = 60.0
    """How long the node waits for a DICOMweb service to answer."""

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, value: tuple[ServiceToken, ...]) -> tuple[ServiceToken, ...]:
        check_tokens(value)
        return value

    @property
    def asks(self) -> bool:
        """Return whether somebody has to show who they are."""
        return bool(self.tokens) or bool(self.oidc.issuer)


def _tls_host(given: dict[str, Any]) -> str:
    """Return the address of TLS as it was given, empty where there is none."""
    tls = given.get("tls")
    return tls.host if isinstance(tls, DicomTls) and tls.certificate else ""
