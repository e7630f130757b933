"""All settings as one frozen value."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dicom_node.config.addresses import address_fault, with_password
from dicom_node.config.doors import BrokerTls, Dicom, Http
from dicom_node.config.rules import PackRuleTable, PriorityRuleTable
from dicom_node.config.tables import (
    Audit,
    Delivery,
    Log,
    Report,
    Retention,
    Spool,
    Study,
    Thresholds,
    Work,
    Worker,
)
from dicom_node.config.values import Names, PeerTable, Table
from dicom_node.errors import SettingsError
from dicom_node.peers import Caller, Tls, check_peers
from dicom_node.tls import client_context

PREFIX = "PACSIGHT_"
NESTED = "__"


class Settings(BaseSettings):
    """All settings of a node or a worker. Made by `load_settings`, or by keyword."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        use_attribute_docstrings=True,
    )

    site: Annotated[str, Field(min_length=1, max_length=64)] = "pacsight"
    """The site's name, part of every derived UID: the same on all its machines, and never changed."""
    data_dir: Path = Path("~/.local/share/pacsight")
    """Where the spool, the outbox and the embedded ledger lie; `~` is the user's home."""
    ledger_url: str = Field(default="", repr=False)
    """SQLAlchemy URL of the ledger. Default: SQLite in the data folder."""
    ledger_password_file: Path | None = None
    """A file that holds the ledger's password, so that `ledger_url` need not."""
    broker_url: str | None = Field(default=None, repr=False)
    """Celery's broker. Default: a private Redis that `pacsight up` starts."""
    broker_password_file: Path | None = None
    """A file that holds the broker's password, so that `broker_url` need not."""
    broker_tls: BrokerTls = BrokerTls()
    packs: Names = ("phantoms",)
    """The packs that conclude studies: names of installed ones, or folders."""
    dicom: Dicom = Dicom()
    http: Http = Http()
    spool: Spool = Spool()
    retention: Retention = Retention()
    study: Study = Study()
    work: Work = Work()
    worker: Worker = Worker()
    report: Report = Report()
    delivery: Delivery = Delivery()
    thresholds: Thresholds = Thresholds()
    audit: Audit = Audit()
    log: Log = Log()
    peers: tuple[PeerTable, ...] = ()
    """The other systems, see below."""
    priority_rules: tuple[PriorityRuleTable, ...] = ()
    """Which studies are urgent, see below; the first rule that fits counts."""
    pack_rules: tuple[PackRuleTable, ...] = ()
    """Which packs look at which studies, see below; a pack that no rule names looks at everything."""

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("ledger_url", "broker_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if fault := address_fault(value or ""):
            raise ValueError(fault)
        return value

    @model_validator(mode="after")
    def _check_peers(self) -> "Settings":
        check_peers(self.peers)
        mutual = self.dicom.tls.ca is not None
        for peer in self.peers:
            if peer.certificates and not mutual:
                raise SettingsError(
                    f"peer {peer.name!r}: certificates need dicom.tls.ca: without it no"
                    " caller shows one"
                )
        for peer in self.peers:
            if peer.tls is not None:
                _check_files(f"peer {peer.name!r}", peer.tls)
        return self

    @model_validator(mode="after")
    def _check_audit(self) -> "Settings":
        if self.audit.syslog_host:
            _check_files("audit", self.audit.tls or Tls())
        return self

    @property
    def audit_dir(self) -> Path:
        """Return the folder of the audit trail."""
        return self.audit.folder or self.data_dir / "audit"

    @property
    def spool_dir(self) -> Path:
        """Return the folder of received instances."""
        return self.spool.folder or self.data_dir / "spool"

    @property
    def outbox_dir(self) -> Path:
        """Return the folder of encoded results."""
        return self.data_dir / "outbox"

    @property
    def ledger_address(self) -> str:
        """Return the ledger's URL; SQLite in the data folder unless set."""
        given = self.ledger_url or f"sqlite:///{self.data_dir / 'ledger.sqlite'}"
        return with_password(given, self.ledger_password_file)

    @property
    def broker_address(self) -> str:
        """Return the broker's URL with its password; empty for none."""
        return with_password(self.broker_url or "", self.broker_password_file)

    @property
    def caller(self) -> Caller:
        """Return who the node is when it calls a peer."""
        return Caller(
            aet=self.dicom.aet,
            connect_timeout_s=self.dicom.connect_timeout_s,
            acse_timeout_s=self.dicom.acse_timeout_s,
            dimse_timeout_s=self.dicom.dimse_timeout_s,
            http_timeout_s=self.http.timeout_s,
        )

    @property
    def called_aets(self) -> frozenset[str]:
        """Return every title that the node answers to."""
        rules = (*self.priority_rules, *self.pack_rules)
        named = [rule.called_aet for rule in rules if rule.called_aet]
        for peer in self.peers:
            named.extend(peer.called_aets)
            if peer.calling_aet and peer.may_commit:  # it reports to whom it knows
                named.append(peer.calling_aet)
        return frozenset({self.dicom.aet, *self.dicom.also_called, *named})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the keywords alone: `load_settings` reads file and environment."""
        return (init_settings,)


def _check_files(who: str, tls: Tls) -> None:
    """Raise unless the files that a connection's TLS needs are there and can be used."""
    try:
        client_context(tls)
    except SettingsError as error:
        raise SettingsError(f"{who}: {error}") from error


def setting_names() -> list[str]:
    """Return every setting's dotted name; entries of lists are not among them."""
    names: list[str] = []
    for name, field in Settings.model_fields.items():
        table = field.annotation
        names.extend(f"{name}{key}" for key in _keys(table))
    return names


def _keys(table: object) -> list[str]:
    """Return the dotted keys of a table, with the dot before; of a value, one: empty."""
    if not (isinstance(table, type) and issubclass(table, Table)):
        return [""]
    return [
        f".{name}{key}"
        for name, field in table.model_fields.items()
        for key in _keys(field.annotation)
    ]
