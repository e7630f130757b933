"""The ledger's tables. What each row means; no queries.

A study's rows hang together like this::

    study ── version ── embedding ── batch
      │         │    └── quarantine     an instance that ended who read it
      └── revision ── revision_input
              │
              job ── artefact ── delivery
                        │
                    rejection      which note takes back which former object

No key is given twice, also where its row was removed: a worker or a sender may still
have it in hand (SQLite needs AUTOINCREMENT for that).
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime, stored without zone so that all databases agree."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return the value as naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(
        self,
        value: Any,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        """Return the value as aware UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


class Words(TypeDecorator[str]):
    """Text from outside, of any length: what no database can hold is left out."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return the value without NUL and without halves of surrogate pairs."""
        if value is None:
            return None
        return value.replace("\0", "").encode(errors="replace").decode()


def _leased() -> list[Column[Any]]:
    """Return the columns of work that is leased: see `dicom_node.ledger.leases`."""
    return [
        Column("state", String(16), nullable=False),
        Column("token", Integer, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("lease_until", Utc),
        Column("dispatched_at", Utc),
    ]


def _kept(table: str, column: str) -> Index:
    """Return the index of a table's rows whose files are still there."""
    kept = text("purged_at IS NULL")
    return Index(f"ix_{table}_kept", column, sqlite_where=kept, postgresql_where=kept)


study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False, index=True),
    Column("detail", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("first_at", Utc, nullable=False),
    Column("last_at", Utc, nullable=False),
    Column("waiting_since", Utc, nullable=False),
    Column("expected", Integer),
    Column("asked", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("calling_aet", Words, nullable=False),
    sqlite_autoincrement=True,
)

version = Table(
    "version",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("current", Boolean, nullable=False),
    Column("analysis", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", Words, nullable=False),
    Column("patient", String(64), nullable=False),
    Column("attributes", String(64), nullable=False),
    Column("modality", Words, nullable=False),
    Column("body_part", Words, nullable=False),
    Column("view", Words, nullable=False),
    Column("exam", Words),
    Column("passed_over", Words),
    Column("frames", Integer, nullable=False),
    Column("instance_number", Integer),
    Column("path", Text, nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("received_at", Utc, nullable=False),
    Column("door", String(8), nullable=False),
    Column("calling_aet", Words, nullable=False),
    Column("called_aet", Words, nullable=False),
    Column("address", Words, nullable=False),
    Column("purged_at", Utc),
    UniqueConstraint("sop_instance_uid", "sha256"),
    Index("ix_version_study_id", "study_id", "current", "analysis"),
    _kept("version", "study_id"),
    sqlite_autoincrement=True,
)

embedding = Table(
    "embedding",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version_id", ForeignKey("version.id"), nullable=False),
    Column("frame", Integer, nullable=False),
    Column("encoder", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("batch_id", ForeignKey("batch.id")),
    Column("vector", LargeBinary),
    Column("pixels", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("geometry", Text),
    Column("alone", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("version_id", "frame", "encoder"),
    Index(
        "ix_embedding_pending",
        "priority",
        "id",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index("ix_embedding_batch_id", "batch_id"),
    sqlite_autoincrement=True,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    Column("at", Utc, nullable=False),
    Column("reason", Words, nullable=False),
)

batch = Table(
    "batch",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("encoder", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    *_leased(),
    Index("ix_batch_state", "state"),
    sqlite_autoincrement=True,
)

revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("inputs", String(64), nullable=False),
    Column("last_image_at", Utc, nullable=False),
    Column("at", Utc, nullable=False),
    UniqueConstraint("study_id", "number"),
    sqlite_autoincrement=True,
)

revision_input = Table(
    "revision_input",
    metadata,
    Column("revision_id", ForeignKey("revision.id"), primary_key=True),
    Column("version_id", ForeignKey("version.id"), primary_key=True),
)

job = Table(
    "job",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision_id", ForeignKey("revision.id"), nullable=False),
    Column("pack", Text, nullable=False),
    Column("device_uid", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("objects", Text, nullable=False),
    *_leased(),
    Column("detail", Text, nullable=False),
    Column("result", Text),
    Column("flag", String(24), nullable=False),
    Column("urgency", Integer, nullable=False),
    Column("top_finding", Text, nullable=False),
    Column("top_score", Float),
    Column("top_threshold", Float),
    Column("finished_at", Utc),
    UniqueConstraint("revision_id", "device_uid", "outcome"),
    Index("ix_job_state", "state"),
    sqlite_autoincrement=True,
)

artefact = Table(
    "artefact",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("job.id"), nullable=False, index=True),
    Column("kind", String(8), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("purged_at", Utc),
    _kept("artefact", "job_id"),
    sqlite_autoincrement=True,
)

rejection = Table(
    "rejection",
    metadata,
    Column("note_id", ForeignKey("artefact.id"), primary_key=True),
    Column("artefact_id", ForeignKey("artefact.id"), primary_key=True, index=True),
)

# the states of a delivery
WAITING, SENT, DELIVERED = "waiting", "sent", "delivered"
DEAD, CANCELLED = "dead", "cancelled"
IN_MOTION = (WAITING, SENT)
"""What is to be sent, or was sent and is to be verified."""

delivery = Table(
    "delivery",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("artefact_id", ForeignKey("artefact.id"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Utc, nullable=False),
    Column("detail", Text, nullable=False),
    Column("sent_at", Utc),
    Column("delivered_at", Utc),
    Column("dead_at", Utc),
    Column("verified", String(16), nullable=False, server_default=""),
    Column("missed", Boolean, nullable=False, server_default=false()),
    Column("transaction_uid", String(64), index=True),
    UniqueConstraint("artefact_id", "destination"),
    Index("ix_delivery_state_next_at", "state", "next_at"),
    sqlite_autoincrement=True,
)

worker = Table(
    "worker",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("device", Text, nullable=False),
    Column("packs", Text, nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("seen_at", Utc, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Utc, nullable=False),
    Column("study_id", ForeignKey("study.id"), index=True),
    Column("sop_instance_uid", Words, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("detail", Words, nullable=False),
)

era = Table(
    "era",
    metadata,
    Column("first_outcome", Integer, primary_key=True, autoincrement=False),
    Column("at", Utc, nullable=False),
)
