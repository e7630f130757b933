"""SQLite gives no key twice: what was removed may still be in somebody's hand."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEYED = (
    "study",
    "version",
    "batch",
    "embedding",
    "revision",
    "job",
    "artefact",
    "delivery",
)


def upgrade() -> None:
    _remake(autoincrement=True)


def downgrade() -> None:
    _remake(autoincrement=False)


def _remake(*, autoincrement: bool) -> None:
    """Copy each table into one with or without AUTOINCREMENT; PostgreSQL needs none."""
    if op.get_bind().dialect.name != "sqlite":
        return
    for name in KEYED:
        options = {"sqlite_autoincrement": autoincrement}
        with op.batch_alter_table(name, recreate="always", table_kwargs=options):
            pass  # nothing else changes
