"""How each instance was taken, and which packs the rules keep from it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("version", sa.Column("exam", sa.Text(), nullable=True))
    op.add_column("version", sa.Column("passed_over", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("version", schema=None) as batch_op:
        batch_op.drop_column("passed_over")
        batch_op.drop_column("exam")
