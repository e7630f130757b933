"""The tables of ``pacsight.toml``: every key, its default, and what fits.

The line under a key is its entry in ``docs/settings.md``.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from dicom_node.access import Issuer, ServiceToken, check_tokens, is_loopback
from dicom_node.domain import Priority
from dicom_node.errors import SettingsError
from dicom_node.matching import PackRule, PriorityRule, Rule
from dicom_node.peers import Peer, Tls, check_aet
from dicom_node.tls import ServerTls

MIB = 1024 * 1024
GIB = 1024 * MIB
DAY_S = 86_400.0

Port = Annotated[int, Field(ge=0, le=65535)]


def _parsed_priority(value: object) -> object:
    """Return the `Priority` of that name; one that is made already stays as it is."""
    if isinstance(value, Priority):
        return value
    if isinstance(value, str) and value.upper() in Priority.__members__:
        return Priority[value.upper()]
    raise ValueError("priority has to be stat, routine or backfill")


def _parsed_peer(value: object) -> object:
    """Return the table with its priority made from a name, its paths absolute."""
    if not isinstance(value, dict):
        return value
    table = dict(value)
    if table.get("priority") is not None:
        table["priority"] = _parsed_priority(table["priority"])
    table = _absolute(table, ["folder"])
    if isinstance(table.get("tls"), dict):
        table["tls"] = _absolute(table["tls"], Tls.__dataclass_fields__)
    return table


def _parsed_tls(value: object) -> object:
    """Return the table with its paths absolute."""
    fields = Tls.__dataclass_fields__
    return _absolute(value, fields) if isinstance(value, dict) else value


def _absolute(table: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the table with these keys as absolute paths, where they are texts."""
    paths = {
        key: Path(table[key]).expanduser().absolute()
        for key in keys
        if isinstance(table.get(key), str)
    }
    return {**table, **paths}


def _split(value: object) -> object:
    """Return ``a, b`` as a list: the environment writes short lists so."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


NamedPriority = Annotated[Priority, BeforeValidator(_parsed_priority)]
PeerTable = Annotated[Peer, BeforeValidator(_parsed_peer)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def _tls_host(given: dict[str, Any]) -> str:
    """Return the address of TLS as it was given, empty where there is none."""
    tls = given.get("tls")
    return tls.host if isinstance(tls, DicomTls) and tls.certificate else ""


class Table(BaseModel):
    """A table of ``pacsight.toml``: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


def _absolute_path(value: Path) -> Path:
    return value.expanduser().absolute()


File = Annotated[Path, AfterValidator(_absolute_path)]


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


class Spool(Table):
    """Where received bytes lie."""

    folder: Path | None = None
    """Where received instances are kept. Default: `spool` in the data folder."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 2 * GIB
    """Room that is left free on its disk, 2 GiB unless set: below it, instances are refused as out of resources."""
    min_free_inodes: Annotated[int, Field(ge=0)] = 10_000
    """Inodes that are left free on its disk, likewise."""
    max_bytes: PositiveInt | None = None
    """What received instances may take together; none: as much as the disk has. The last twentieth is kept for what is `stat`."""
    max_incoming_bytes: PositiveInt | None = 8 * GIB
    """What may be coming in at once, over all associations and requests, 8 GiB unless set: above it, new ones are refused."""

    @field_validator("folder")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()


Days = Annotated[float, Field(gt=0)] | Literal["never"]


class Retention(Table):
    """How long files stay that are needed no more."""

    spool_days: Days = 30.0
    """Received instances are removed so many days (fractions too) after their study was done, delivered and verified everywhere; `never` keeps them."""
    objects_days: Days = 90.0
    """The same of results, in the outbox folder."""

    @property
    def spool_s(self) -> float | None:
        """Return how long received instances stay, in seconds; None for ever."""
        return None if self.spool_days == "never" else self.spool_days * DAY_S

    @property
    def objects_s(self) -> float | None:
        """Return the same of results."""
        return None if self.objects_days == "never" else self.objects_days * DAY_S


class Study(Table):
    """When a study is complete, and when it gets another revision."""

    quiet_period_s: PositiveFloat = 5.0
    """A study is complete when nothing has come for so long and its associations are released."""
    expected_quiet_period_s: PositiveFloat = 1.0
    """The same, once the number of instances that a peer expects has been reached."""
    complete_cap_s: PositiveFloat = 3600.0
    """A study is concluded after so long, even if it is still arriving."""
    minimum_revision_interval_s: Annotated[float, Field(ge=0)] = 60.0
    """Between two revisions of a study so much time passes, so that stragglers share one."""

    @model_validator(mode="after")
    def _check_order(self) -> "Study":
        if self.expected_quiet_period_s > self.quiet_period_s:
            raise SettingsError(
                "study.expected_quiet_period_s is above study.quiet_period_s:"
                " a known number of instances can only shorten the wait"
            )
        return self


class Work(Table):
    """How work is cut and handed to the workers."""

    batch_size: PositiveInt = 16
    """Frames in a batch."""
    max_batches_in_flight: PositiveInt = 4
    """Batches handed out and not yet embedded: the rest waits in the ledger, most urgent first."""
    lease_s: PositiveFloat = 15.0
    """Work whose worker is silent for so long is handed out again."""
    tick_s: PositiveFloat = 0.25
    """How often the node looks for what is to be done."""


class Worker(Table):
    """The GPU side."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run: `cpu`, `cuda`, or `auto` for a GPU where there is one."""
    threads: PositiveInt | None = None
    """Threads of a model on the CPU. Default: one for each core."""
    decode_processes: PositiveInt | None = None
    """Processes that decode pixels. Default: one for each core, at most 4."""
    decode_memory_bytes: Annotated[int, Field(ge=64 * MIB)] = 4 * GIB
    """Address space of such a process, 4 GiB unless set: a file that needs more counts as unreadable."""
    decode_timeout_s: PositiveFloat = 60.0
    """A file that is not decoded by then counts as unreadable."""
    milvus_token: SecretStr | None = None
    """For an atlas in Milvus: a token, or `user:password`. Best set as `PACSIGHT_WORKER__MILVUS_TOKEN`."""

    @property
    def milvus_secret(self) -> str:
        """Return the token; empty for none."""
        return self.milvus_token.get_secret_value() if self.milvus_token else ""


class Report(Table):
    """What results look like."""

    title: Literal["ai-findings", "imaging-measurement"] = "ai-findings"
    """Document title of the SR: `ai-findings` is ours and shown by OHIF; `imaging-measurement` is (126000, DCM), for archives that look for it."""
    outside_scope: bool = True
    """Whether a pack reports on studies of which it accepts no image ("not evaluated"). If not, such a study gets a line in the ledger and no object, unless there is a former report to replace."""
    reject_superseded: bool = False
    """Whether a rejection note (IHE IOCM, KOS 113001) follows a report that a newer one supersedes. Reports filed under the wrong patient are withdrawn (113037) in any case."""
    timezone: Annotated[str, Field(pattern=r"^[+-](0\d|1[0-4])[0-5]\d$")] = "+0000"
    """The site's offset from UTC, for sources that have no Timezone Offset From UTC (0008,0201)."""
    purpose: Names = ("109102", "DCM", "Processing Equipment")
    """Purpose of Reference (0040,A170) under which objects name the pack among the contributing equipment: value, scheme and meaning of a code."""

    @field_validator("purpose")
    @classmethod
    def _check_purpose(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        lengths = (16, 16, 64)  # SH, SH, LO
        fits = len(value) == len(lengths) and all(
            0 < len(part.strip()) <= most
            for part, most in zip(value, lengths, strict=True)
        )
        if not fits:
            raise ValueError(
                "needs value (16 characters at most), scheme (16) and meaning (64)"
            )
        return value


class Thresholds(Table):
    """Whose threshold sets count."""

    trusted_keys: Names = ()
    """Public keys (`pacsight threshold key` shows a site's own) whose threshold sets load; none: only this site's own."""

    @field_validator("trusted_keys")
    @classmethod
    def _check_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[0-9a-f]{64}", key) for key in value):
            raise ValueError("a public key has 64 digits, 0-9 and a-f")
        return value


class Delivery(Table):
    """How the outbox is emptied."""

    batch_size: PositiveInt = 64
    """Objects sent in one association or one STOW-RS request."""
    commitment_patience_s: PositiveFloat = 60.0
    """How long to wait for a report on storage commitment before the peer is asked by a query instead."""
    verify_age_s: PositiveFloat = 900.0
    """An object that a destination says it stored and does not find for so long is sent again."""


class Audit(Table):
    """The audit trail (PS3.15 A.5): who did what to which study."""

    enabled: bool = True
    """Whether there is a trail."""
    folder: Path | None = None
    """Where its files lie, for their owner alone. Default: `audit` in the data folder."""
    source_id: Annotated[str, Field(min_length=1, max_length=48)] = "pacsight"
    """What this system is called among the audit sources of the site (AuditSourceID)."""
    patient_id: Literal["pseudonym", "plain"] = "pseudonym"
    """How patients are named: by a `pseudonym` of their Patient ID, made with the key `audit.key` in the data folder, or by the ID itself, `plain`, as the Standard has it. Names are never written."""
    max_file_bytes: Annotated[int, Field(ge=4096)] = 64 * MIB
    """A file that would become longer is followed by another, 64 MiB unless set; so is that of the day before."""
    keep_days: Annotated[int, Field(ge=0)] = 0
    """Files of earlier days are removed, but never what a collector does not have; 0 keeps them for ever."""
    syslog_host: str = ""
    """Host of a collector (syslog over TLS, RFC 5425); none: the files are all there is."""
    syslog_port: Annotated[int, Field(ge=1, le=65535)] = 6514
    """Its port."""
    tls: Annotated[Tls | None, BeforeValidator(_parsed_tls)] = None
    """Table with `ca`, `certificate` and `key` of the connection to the collector, as for peers. Default: authorities of the system, and no certificate of ours."""

    @field_validator("folder")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()


class Log(Table):
    """What the node says of itself."""

    format: Literal["auto", "json", "console"] = "auto"
    """`json` for machines, `console` for people, `auto` for what fits the output."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important events that are logged."""


class RuleTable(Table):
    """Conditions of a rule: all that it names have to hold."""

    called_aet: str = ""
    """The node's title that was called."""
    calling_aet: str = ""
    """The sender's AE title."""
    attributes: dict[str, str] = {}
    """DICOM keywords and the values that the instance has to carry; case does not count."""

    @property
    def rule(self) -> Rule:
        """Return what is applied to each instance."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _check(self) -> "RuleTable":
        rule = self.rule
        for title in (self.called_aet, self.calling_aet):
            if title:
                check_aet(title, f"in a {rule.kind} rule")
        return self

    @property
    def _wanted(self) -> dict[str, frozenset[str]]:
        return {keyword: frozenset({v}) for keyword, v in self.attributes.items()}


class PriorityRuleTable(RuleTable):
    """One of ``[[priority_rules]]``: how urgent what it fits is."""

    priority: NamedPriority
    """`stat`, `routine` or `backfill`."""

    @property
    def rule(self) -> PriorityRule:
        """Return what is applied to each instance."""
        return PriorityRule(
            priority=self.priority,
            called_aet=self.called_aet,
            calling_aet=self.calling_aet,
            attributes=self._wanted,
        )


class PackRuleTable(RuleTable):
    """One of ``[[pack_rules]]``: whether a pack looks at what it fits."""

    pack: Annotated[str, Field(min_length=1)]
    """The pack's own name, as `pacsight pack show` says it."""
    looks: bool = True
    """Whether the pack looks at it."""

    @property
    def rule(self) -> PackRule:
        """Return what is applied to each instance."""
        return PackRule(
            pack=self.pack,
            looks=self.looks,
            called_aet=self.called_aet,
            calling_aet=self.calling_aet,
            attributes=self._wanted,
        )
