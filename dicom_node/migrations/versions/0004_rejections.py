"""Which objects a job is to compose, and which former ones a note rejects."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("objects", sa.Text(), nullable=False, server_default="SC,SR")
        )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.alter_column("objects", server_default=None)
    op.create_table(
        "rejection",
        sa.Column("note_id", sa.Integer(), nullable=False),
        sa.Column("artefact_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["note_id"], ["artefact.id"], name=op.f("fk_rejection_note_id")
        ),
        sa.ForeignKeyConstraint(
            ["artefact_id"], ["artefact.id"], name=op.f("fk_rejection_artefact_id")
        ),
        sa.PrimaryKeyConstraint("note_id", "artefact_id", name=op.f("pk_rejection")),
    )
    op.create_index(op.f("ix_rejection_artefact_id"), "rejection", ["artefact_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_rejection_artefact_id"), table_name="rejection")
    op.drop_table("rejection")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_column("objects")
