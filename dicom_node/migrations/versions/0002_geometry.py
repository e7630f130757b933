"""Where each embedded frame lies in the patient: beside its vector."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("embedding", sa.Column("geometry", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("embedding", schema=None) as batch_op:
        batch_op.drop_column("geometry")
