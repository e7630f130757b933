"""The settings: one frozen value, read once from ``pacsight.toml`` and ``PACSIGHT_*``.

The environment wins over the file. ``PACSIGHT_DICOM__PORT`` is ``port`` of the
table ``[dicom]``; lists and tables are written in it as JSON. Importing this
module reads nothing: only `load_settings` looks at the file and the environment.
Every setting stands in ``docs/settings.md``.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal

import pydantic_settings
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from dicom_node.domain import Priority
from dicom_node.errors import SettingsError
from dicom_node.peers import (
    Caller,
    Credentials,
    Peer,
    RetryPolicy,
    check_aet,
    check_peers,
)

PREFIX = "PACSIGHT_"
NESTED = "__"
FILE = Path("pacsight.toml")
FILE_VARIABLE = "PACSIGHT_CONFIG"
"""Names the file, where it is not ``pacsight.toml`` in the current folder."""
NOT_SETTINGS = frozenset({FILE_VARIABLE, "PACSIGHT_SHARED"})
"""Variables with our prefix that are no settings; the second one is for tests."""

MIB = 1024 * 1024
GIB = 1024 * MIB

Port = Annotated[int, Field(ge=0, le=65535)]
Tables = dict[str, Any]
"""What TOML and the environment say before it is checked."""


def _parsed_priority(value: object) -> object:
    """Return the `Priority` of that name; one that is made already stays as it is."""
    if isinstance(value, Priority):
        return value
    if isinstance(value, str) and value.upper() in Priority.__members__:
        return Priority[value.upper()]
    raise ValueError("priority has to be stat, routine or backfill")


def _parsed_peer(value: object) -> object:
    """Return the table with its priority by name turned into a `Priority`."""
    if isinstance(value, dict) and value.get("priority") is not None:
        return {**value, "priority": _parsed_priority(value["priority"])}
    return value


def _split(value: object) -> object:
    """Return ``a, b`` as a list: the environment writes short lists so."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


NamedPriority = Annotated[Priority, BeforeValidator(_parsed_priority)]
PeerTable = Annotated[Peer, BeforeValidator(_parsed_peer)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Table(BaseModel):
    """A table of ``pacsight.toml``: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class Dicom(Table):
    """The DIMSE side of the node."""

    aet: str = "PACSIGHT"
    """The node's AE title; also its calling title unless a peer says otherwise."""
    also_called: Names = ()
    """Further titles that the node answers to, besides those that peers and priority rules name."""
    host: str = "127.0.0.1"
    """Address that the node listens on for DICOM associations; `0.0.0.0` for all."""
    port: Port = 11112
    """Port for DICOM associations; 0 takes a free one."""
    accept_unknown_peers: bool = Field(
        default_factory=lambda given: is_loopback(given.get("host", ""))
    )
    """Whether systems that are not in the table of peers may send. True on loopback, else false."""
    max_associations: PositiveInt = 32
    """Associations served at the same time; more are refused as a temporary congestion."""
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


class Http(Table):
    """The HTTP side of the node: STOW-RS and pages."""

    host: str = "127.0.0.1"
    """Address that the node listens on for HTTP; `0.0.0.0` for all."""
    port: Port = 8080
    """Port for HTTP; 0 takes a free one."""
    max_body_bytes: PositiveInt = 16 * GIB
    """Largest STOW-RS request; longer ones are answered 413."""
    timeout_s: PositiveFloat = 60.0
    """How long the node waits for a DICOMweb service to answer."""


class Spool(Table):
    """Where received bytes lie."""

    folder: Path | None = None
    """Where received instances are kept. Default: `spool` in the data folder."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 2 * GIB
    """Room that is left free on its disk: below it, instances are refused as out of resources."""
    min_free_inodes: Annotated[int, Field(ge=0)] = 10_000
    """Inodes that are left free on its disk, likewise."""


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
    """Address space of such a process: a file that needs more counts as unreadable."""
    decode_timeout_s: PositiveFloat = 60.0
    """A file that is not decoded by then counts as unreadable."""


class Report(Table):
    """What results look like."""

    title: Literal["ai-findings", "imaging-measurement"] = "ai-findings"
    """Document title of the SR: `ai-findings` is ours and shown by OHIF; `imaging-measurement` is (126000, DCM), for archives that look for it."""
    timezone: Annotated[str, Field(pattern=r"^[+-](0\d|1[0-4])[0-5]\d$")] = "+0000"
    """The site's offset from UTC, for sources that have no Timezone Offset From UTC (0008,0201)."""


class Delivery(Table):
    """How the outbox is emptied."""

    batch_size: PositiveInt = 64
    """Objects sent in one association or one STOW-RS request."""


class Log(Table):
    """What the node says of itself."""

    format: Literal["auto", "json", "console"] = "auto"
    """`json` for machines, `console` for people, `auto` for what fits the output."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important events that are logged."""


class PriorityRuleTable(Table):
    """One of ``[[priority_rules]]``: all conditions that it names have to hold."""

    priority: NamedPriority
    """`stat`, `routine` or `backfill`."""
    called_aet: str = ""
    """The node's title that was called."""
    calling_aet: str = ""
    """The sender's AE title."""
    attributes: dict[str, str] = {}
    """DICOM keyword and value pairs that the instance has to carry."""


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
    broker_url: str | None = Field(default=None, repr=False)
    """Celery's broker. Default: a private Redis that `pacsight up` starts."""
    packs: Names = ("phantoms",)
    """The packs that conclude studies: names of installed ones, or folders."""
    dicom: Dicom = Dicom()
    http: Http = Http()
    spool: Spool = Spool()
    study: Study = Study()
    work: Work = Work()
    worker: Worker = Worker()
    report: Report = Report()
    delivery: Delivery = Delivery()
    log: Log = Log()
    peers: tuple[PeerTable, ...] = ()
    """The other systems, see below."""
    priority_rules: tuple[PriorityRuleTable, ...] = ()
    """Which studies are urgent, see below; the first rule that fits counts."""

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _check_peers(self) -> "Settings":
        check_peers(self.peers)
        return self

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
        return self.ledger_url or f"sqlite:///{self.data_dir / 'ledger.sqlite'}"

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
        named = [rule.called_aet for rule in self.priority_rules if rule.called_aet]
        for peer in self.peers:
            named.extend(peer.called_aets)
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


class _Environment(EnvSettingsSource):
    """The environment as a source; another mapping can be given in its place."""

    def __init__(self, environ: Mapping[str, str] | None) -> None:
        self._environ = environ
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        if self._environ is None:
            return super()._load_env_vars()
        return {name.lower(): value for name, value in self._environ.items()}


def load_settings(
    path: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings: the file's, with the environment's in their place.

    Parameters
    ----------
    path
        The file. None for the one that ``PACSIGHT_CONFIG`` names, else for
        ``pacsight.toml`` in the current folder, if there is one.
    environ
        The environment; None for the process's own.

    Raises
    ------
    SettingsError
        If the file cannot be read, a key is unknown or a value does not fit. The
        message names the key; it never repeats the value.
    """
    source = _Environment(environ)
    path = path or _named_file(source.env_vars)
    tables = _read_file(path)
    _check_variables(source.env_vars)
    try:
        tables = _merged(tables, source())
        if "data_dir" not in tables and source.env_vars.get("xdg_data_home"):
            tables["data_dir"] = f"{source.env_vars['xdg_data_home']}/pacsight"
        return Settings(**tables)
    except pydantic_settings.SettingsError as error:
        name = PREFIX + str(error).partition('"')[2].partition('"')[0].upper()
        raise SettingsError(f"{name} has to be JSON: it is a list or table") from None
    except ValidationError as error:
        faults = error.errors(include_input=False)
        # a default that could not be made follows from another fault
        own = [f for f in faults if f["type"] != "default_factory_not_called"]
        raise SettingsError("; ".join(map(_sentence, own))) from None


def _named_file(variables: Mapping[str, str | None]) -> Path | None:
    named = variables.get(FILE_VARIABLE.lower())
    if named:
        return Path(named)
    return FILE if FILE.is_file() else None


def _read_file(path: Path | None) -> Tables:
    if path is None:
        return {}
    if not path.is_file():
        raise SettingsError(f"there is no settings file {path}")
    try:
        return TomlConfigSettingsSource(Settings, path)()
    except TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error


def _check_variables(variables: Mapping[str, str | None]) -> None:
    """Raise if a variable with our prefix names no setting at the top."""
    for variable in sorted(variables):
        name = variable.upper()
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        top = name.removeprefix(PREFIX).split(NESTED)[0].lower()
        if top not in Settings.model_fields:
            known = [PREFIX + n.upper().replace(".", NESTED) for n in setting_names()]
            raise SettingsError(f"{name} is no setting{_nearest(name, known)}")


def _merged(below: Tables, above: Tables) -> Tables:
    """Return both, tables in depth; where both speak, ``above`` counts."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def setting_names() -> list[str]:
    """Return every setting's dotted name; entries of lists are not among them."""
    names: list[str] = []
    for name, field in Settings.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, Table):
            names.extend(f"{name}.{key}" for key in table.model_fields)
        else:
            names.append(name)
    return names


def _sentence(error: ErrorDetails) -> str:
    """Return what is wrong with which key, without the value."""
    where = ""
    for part in error["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    where = where.removeprefix(".")
    if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return f"{where} is no setting{_nearest(where, _known_beside(where))}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}"


def _known_beside(where: str) -> list[str]:
    """Return the names that could have been meant in the place of this one."""
    parent = where.rpartition(".")[0]
    entries: dict[str, Iterable[str]] = {
        "peers": Peer.__dataclass_fields__,
        "peers.retry": RetryPolicy.__dataclass_fields__,
        "peers.credentials": Credentials.__dataclass_fields__,
        "priority_rules": PriorityRuleTable.model_fields,
    }
    beside = entries.get(re.sub(r"\[\d+\]", "", parent))
    if beside is not None:
        return [f"{parent}.{key}" for key in beside]
    return [*Settings.model_fields, *setting_names()]


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "; see docs/settings.md"
