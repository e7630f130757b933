"""Alembic's way in: migrate the connection that the ledger hands over."""

from alembic import context

from dicom_node.ledger.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
