"""A ledger from a backup says so, and counts outcomes on from another number."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "era",
        sa.Column("first_outcome", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("first_outcome", name=op.f("pk_era")),
    )


def downgrade() -> None:
    op.drop_table("era")
