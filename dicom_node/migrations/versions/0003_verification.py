"""Deliveries are verified: when each was sent, how it was seen, when it was given up."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDEX = "ix_delivery_transaction_uid"


def upgrade() -> None:
    for name in ("sent_at", "dead_at"):
        op.add_column("delivery", sa.Column(name, sa.DateTime(), nullable=True))
    verified = sa.Column("verified", sa.String(16), nullable=False, server_default="")
    op.add_column("delivery", verified)
    op.add_column(
        "delivery",
        sa.Column("missed", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    transaction = sa.Column("transaction_uid", sa.String(64), nullable=True)
    op.add_column("delivery", transaction)
    op.create_index(INDEX, "delivery", ["transaction_uid"])
    # when a former version gave up is not known: next_at is its last attempt
    op.execute("UPDATE delivery SET dead_at = next_at WHERE state = 'dead'")


def downgrade() -> None:
    op.execute("UPDATE delivery SET state = 'waiting' WHERE state = 'sent'")
    op.drop_index(INDEX, table_name="delivery")
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        for name in ("transaction_uid", "missed", "verified", "dead_at", "sent_at"):
            batch_op.drop_column(name)
