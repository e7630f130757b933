"""Which received files and which objects were purged, and when."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEPT = {"version": "study_id", "artefact": "job_id"}
"""Tables whose files can be purged, and what the files that are kept are looked up by."""


def upgrade() -> None:
    kept = sa.text("purged_at IS NULL")
    for table, column in KEPT.items():
        op.add_column(table, sa.Column("purged_at", sa.DateTime(), nullable=True))
        op.create_index(
            f"ix_{table}_kept",
            table,
            [column],
            sqlite_where=kept,
            postgresql_where=kept,
        )


def downgrade() -> None:
    for table in KEPT:
        op.drop_index(f"ix_{table}_kept", table)
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("purged_at")
