"""The control database opens migrated, on each backend, whoever comes first."""

from sqlalchemy import Engine

from penstock.store.control.engine import current_revision, newest_revision


def test_an_opened_database_is_at_the_newest_revision(control_engine: Engine) -> None:
    assert current_revision(control_engine) == newest_revision()
