"""The tables of ``pacsight.toml``: every key, its default, and what fits.

The line under a key is its entry in ``docs/settings.md``.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)

from dicom_node.config.values import (
    DAY_S,
    GIB,
    MIB,
    Names,
    Table,
    parsed_tls,
)
from dicom_node.errors import SettingsError
from dicom_node.peers import Tls


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
    tls: Annotated[Tls | None, BeforeValidator(parsed_tls)] = None
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
