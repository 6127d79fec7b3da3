"""The control database opens migrated, on each backend, whoever comes first, whatever they race for."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from penstock.base.errors import InvalidInput
from penstock.spec.home import Home
from penstock.store.control.engine import (
    MIGRATIONS,
    control_url,
    current_revision,
    migrate,
    newest_revision,
    open_control,
)
from penstock.store.control.tables import metadata
from tests.fixtures.postgres import PostgresServer


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        return server.create_database()
    return f"sqlite:///{tmp_path}/deep/control.db"


@pytest.fixture
def stepwise_engine(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A database that went through every revision."""
    stepwise = partial(migrate, is_stepwise=True)
    monkeypatch.setattr("penstock.store.control.engine.migrate", stepwise)
    engine = open_control(empty_url)
    yield engine
    engine.dispose()


def describe_schema(engine: Engine) -> dict[str, Any]:
    """Return all that the database says about its tables, in an order that does not depend on history."""
    inspector = inspect(engine)

    def told(value: Any) -> str:
        if isinstance(value, dict):
            return repr(sorted((key, told(item)) for key, item in value.items()))
        return str(value)

    def listed(items: list[Any]) -> list[str]:
        return sorted(told(dict(item)) for item in items)

    return {
        name: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(name)
            ],
            "primary": inspector.get_pk_constraint(name)["constrained_columns"],
            "indexes": listed(inspector.get_indexes(name)),
            "unique": listed(inspector.get_unique_constraints(name)),
            "foreign": listed(inspector.get_foreign_keys(name)),
            "checks": listed(inspector.get_check_constraints(name)),
        }
        for name in inspector.get_table_names()
    }


def test_the_migrated_schema_is_the_declared_one(stepwise_engine: Engine) -> None:
    with stepwise_engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_new_database_equals_one_that_went_through_every_revision(
    stepwise_engine: Engine, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if stepwise_engine.dialect.name == "sqlite":
        url = f"sqlite:///{tmp_path}/new.db"
    else:
        url = request.getfixturevalue("postgres_server").create_database()
    created = open_control(url)
    assert describe_schema(created) == describe_schema(stepwise_engine)
    assert current_revision(created) == current_revision(stepwise_engine) == newest_revision()
    with stepwise_engine.connect() as connection:
        for table in metadata.sorted_tables:
            assert connection.execute(table.select()).all() == [], (
                "a revision that adds rows needs more than this"
            )
    created.dispose()


def test_revisions_can_be_taken_back(stepwise_engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with stepwise_engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(stepwise_engine).get_table_names()) <= {"alembic_version"}


def test_a_database_of_an_older_program_is_brought_forward(stepwise_engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with stepwise_engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    assert current_revision(stepwise_engine) == "0001"
    migrate(stepwise_engine)
    assert current_revision(stepwise_engine) == newest_revision()
    with stepwise_engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_opened_database_is_at_the_newest_revision(control_engine: Engine) -> None:
    assert current_revision(control_engine) == newest_revision()


def test_revisions_are_one_chain_whose_end_is_the_newest_number() -> None:
    script = ScriptDirectory(str(MIGRATIONS))
    assert script.get_heads() == [newest_revision()]
    assert [revision.revision for revision in script.walk_revisions()][-1] == "0001"


def test_opening_again_changes_nothing(empty_url: str) -> None:
    for _ in range(2):
        engine = open_control(empty_url)
        assert current_revision(engine) == newest_revision()
        engine.dispose()


def test_processes_that_race_for_a_new_database_all_get_it_migrated(empty_url: str) -> None:
    program = (
        "import sys; from penstock.store.control.engine import *; e = open_control(sys.argv[1]);"
        " print(current_revision(e))"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        out, err = racer.communicate(timeout=240)
        assert (racer.returncode, out.strip()) == (0, newest_revision()), err


def test_who_opens_a_new_file_waits_for_another_that_writes_it(tmp_path: Path) -> None:
    """SQLite itself does not: it tells a connection that wants WAL mode at once that the file is locked."""
    path = tmp_path / "control.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE theirs (x)")
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    try:
        engine = open_control(f"sqlite:///{path}")
        assert current_revision(engine) == newest_revision()
        engine.dispose()
    finally:
        release.join()
        other.close()


def test_neither_a_new_nor_a_current_database_imports_alembic(empty_url: str) -> None:
    program = (
        "import sys; from penstock.store.control.engine import open_control;"
        " open_control(sys.argv[1]); open_control(sys.argv[1]); print('alembic' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, empty_url],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert run.stdout.strip() == "False"


def test_a_database_of_a_newer_program_is_refused(control_engine: Engine) -> None:
    with control_engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InvalidInput, match="newer") as caught:
        migrate(control_engine)
    assert caught.value.hint


def test_a_write_is_rolled_back_when_its_block_fails(control_engine: Engine) -> None:
    def write_and_fail() -> None:
        with control_engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = 'x'"))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_and_fail()
    assert current_revision(control_engine) == newest_revision()


def test_reading_then_writing_in_one_transaction_loses_no_update(control_engine: Engine) -> None:
    with control_engine.begin() as connection:
        connection.execute(text("CREATE TABLE tally (n INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO tally VALUES (0)"))
    is_sqlite = control_engine.dialect.name == "sqlite"
    lock = "" if is_sqlite else " FOR UPDATE"

    def count() -> None:
        for _ in range(10):
            with control_engine.begin() as connection:
                n = connection.execute(text(f"SELECT n FROM tally{lock}")).scalar_one()
                time.sleep(0)
                connection.execute(text("UPDATE tally SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with control_engine.connect() as connection:
        assert connection.execute(text("SELECT n FROM tally")).scalar_one() == 40


def test_a_reader_is_not_held_up_by_a_writer(sqlite_engine: Engine) -> None:
    with sqlite_engine.begin() as writing:
        writing.execute(text("UPDATE alembic_version SET version_num = 'x'"))
        assert current_revision(sqlite_engine) == newest_revision()
        writing.rollback()


def test_sqlite_is_set_to_survive_and_to_check(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15000}


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://somewhere/db", "sqlite://", "sqlite:///:memory:", "", "postgres"]
)
def test_an_unusable_url_is_refused_with_a_hint_and_without_secrets(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_control(url)
    assert "postgresql://" in str(caught.value)


def test_the_default_url_is_a_file_in_the_home(home: Home) -> None:
    engine = open_control(control_url(home))
    assert home.control_db.exists()
    assert "alembic_version" in inspect(engine).get_table_names()
    engine.dispose()
