"""Run by Alembic, never imported: applies the revisions on the connection that `engine.py` passes in."""

from alembic import context

from penstock.store.control.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
