"""Where secrets go, what of this machine is read, and which plain secrets are refused in settings of sources."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from penstock.base.errors import InvalidInput
from penstock.knowledge.credentials import bound_address
from penstock.knowledge.sources.catalogue import read_kind_settings
from penstock.knowledge.sources.errors import InvalidSource
from penstock.knowledge.sources.reading import SourceReader
from penstock.knowledge.sources.service import SourceService
from penstock.knowledge.types import InlineContext
from tests.knowledge.sources.conftest import CountingBlobs, TickingClock

Write = Callable[..., Path]
QUERY = {"query": "SELECT 1 AS id"}


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://reader:{{secret:wiki}}@db.example/wiki?hostaddr=127.0.0.1",
        "postgresql://reader:{{secret:wiki}}@db.example/wiki?host=evil.example",
        "postgresql://reader:{{secret:wiki}}@db.example/wiki?sslmode=require&service=evil",
        "postgresql://reader:{{secret:wiki}}@db.example,evil.example/wiki",
        "postgresql://db.example?sslmode={{secret:wiki}}@evil.example/wiki",
        "postgresql://db.example?x:{{secret:wiki}}@evil.example/wiki",
        "postgresql://reader:{{secret:wiki}}@evil.example@db.example/wiki",
        "postgresql://reader:{{secret:wiki}}@db.example/host=evil.example",
        "postgresql://reader@{{secret:wiki}}/wiki",
        "mysql+pymysql://reader:{{secret:wiki}}@db.example/wiki?unix_socket=/tmp/evil",
        "mssql+pyodbc://reader:{{secret:wiki}}@db.example/wiki?driver=X};Server=evil;{",
    ],
)
def test_a_secret_goes_to_the_host_of_its_address_alone(address: str) -> None:
    with pytest.raises(InvalidInput):
        bound_address(address)
    with pytest.raises(InvalidSource):
        read_kind_settings("database", {"location": address, **QUERY, "read_only_account": True})


@pytest.mark.parametrize(
    ("address", "bound"),
    [
        (
            "postgresql+psycopg://rag:{{secret:rag}}@db.example:5433/rag?sslmode=require",
            "postgresql://db.example:5433",
        ),
        ("postgres://rag:{{secret:rag}}@db.example/rag", "postgresql://db.example"),
        ("https://{{secret:key}}@[fd00::1]:6333", "https://[fd00::1]:6333"),
        ("http://127.0.0.1:6333", "http://127.0.0.1:6333"),
    ],
)
def test_the_vault_is_asked_for_scheme_host_and_port(address: str, bound: str) -> None:
    assert bound_address(address) == bound


@pytest.mark.parametrize(
    "options",
    [
        {"secret": "{{secret:s3}}", "client_kwargs": {"endpoint_url": "https://evil.example"}},
        {"secret": "{{secret:s3}}", "account_host": "evil.example"},
        {"endpoint_url": "https://{{secret:s3}}.evil.example"},
        {"secret": "{{secret:s3}}", "endpoint_url": "https://evil.example\\@minio.example"},
        {"secret": "{{secret:s3}}", "account_name": "evil"},
        {"secret": "plain"},
        {"client_kwargs": {"aws_secret_access_key": "plain"}},
        {"connection_string": "AccountKey=plain"},
    ],
)
def test_a_store_takes_no_plain_secret_and_leads_none_astray(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSource):
        read_kind_settings("store", {"location": "s3://bucket/docs", "options": options})


@pytest.mark.parametrize(
    ("location", "options"),
    [
        ("sftp://evil.example/docs", {"endpoint_url": "https://minio.example"}),
        ("az://docs", {"endpoint_url": "https://minio.example", "account_name": "evil"}),
        ("abfss://docs@evil.dfs.core.windows.net/x", {"account_name": "ours"}),
        ("az://docs", {"account_name": "evil.example\\@ours"}),
    ],
)
def test_an_option_that_a_store_does_not_read_binds_no_secret(location: str, options: dict[str, str]) -> None:
    with pytest.raises(InvalidSource, match="Beside a secret"):
        read_kind_settings("store", {"location": location, "options": {"token": "{{secret:x}}", **options}})


@pytest.mark.parametrize(
    "parameter", ["local_infile=1", "allow_local_infile=1", "read_default_file=/x", "plugin=x"]
)
def test_no_server_of_a_database_may_ask_for_files(parameter: str) -> None:
    """MySQL's protocol lets a server ask its client for any file, once the client says that it may."""
    with pytest.raises(InvalidSource, match="cannot have the parameter"):
        read_kind_settings("database", {"location": f"mysql+pymysql://u@evil.example/x?{parameter}", **QUERY})


def test_a_secret_of_a_store_is_bound_to_its_endpoint_or_account() -> None:
    def bound(location: str, **options: str) -> str:
        given = {"location": location, "options": {"token": "{{secret:x}}", **options}}
        return read_kind_settings("store", given).secret_address()

    assert bound("s3://bucket/docs") == "s3://bucket/docs"
    assert bound("s3://bucket/docs", endpoint_url="https://minio.example") == "https://minio.example"
    assert bound("az://docs", account_name="ours") == "https://ours.blob.core.windows.net"
    account = "abfss://docs@ours.dfs.core.windows.net/x"
    assert bound(account) == account
    assert read_kind_settings("store", {"location": "gs://docs", "options": {"token": "anon"}})


@pytest.mark.parametrize("name", ["authorization", "Cookie", "x-api-key", "PRIVATE-TOKEN"])
def test_headers_that_nobody_is_to_read_are_secrets(name: str) -> None:
    location = "https://example.org/"
    with pytest.raises(InvalidSource, match="plain text") as caught:
        read_kind_settings("web", {"location": location, "headers": {name: "Bearer plain {{secret:x}}"}})
    assert "{{secret:NAME}}" in (caught.value.hint or "")
    for value in ("{{secret:x}}", "Bearer {{secret:x}}", "sid={{secret:x}}; csrf={{secret:y}}"):
        read_kind_settings("web", {"location": location, "headers": {name: value, "accept-language": "de"}})


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u@h/db?password=plain",
        "postgresql://u:plain@h/db?application_name={{secret:x}}",
        "postgresql://u:plain{{secret:x}}@h/db",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dplain",
    ],
)
def test_plain_passwords_in_addresses_are_refused_wherever_they_stand(address: str) -> None:
    with pytest.raises(InvalidSource):
        read_kind_settings("database", {"location": address, **QUERY, "read_only_account": True})


def test_a_database_that_cannot_be_held_back_from_writing_is_read_by_an_account_that_cannot_write() -> None:
    given = {"location": "snowflake://reader@account/db", **QUERY}
    with pytest.raises(InvalidSource, match="Nothing keeps a query of snowflake from writing"):
        read_kind_settings("database", given)
    assert read_kind_settings("database", {**given, "read_only_account": True})


@pytest.fixture
def home(tmp_path: Path, write: Write) -> Path:
    """Penstock's home beside `docs`, and links to it from within."""
    home = tmp_path / "home"
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "internal.json").write_text('{"id": "1", "text": "TOPSECRET"}')
    with sqlite3.connect(home / "control.db") as database:
        database.execute("CREATE TABLE articles (id TEXT, text TEXT)")
        database.execute("INSERT INTO articles VALUES ('1', 'TOPSECRET')")
    database.close()
    write("a/x.md")
    (tmp_path / "docs" / "link").symlink_to(home)
    (tmp_path / "docs" / "x.json").symlink_to(home / "keys" / "internal.json")
    return home


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("files", {"location": "DOCS/*/../../home/**/*.json"}),
        ("files", {"location": "DOCS/a/x.md", "also": ["DOCS/*/../../home/**/*.json"]}),
        ("files", {"location": "DOCS/*/keys/*.json"}),
        ("files", {"location": "DOCS/*.json"}),
        ("jsonl", {"location": "DOCS/*/../../home/keys/*.json"}),
        ("jsonl", {"location": "DOCS/*/keys/*.json"}),
        ("jsonl", {"location": "DOCS/x.json"}),
        ("database", {"location": "sqlite:///file:HOME%2Fcontrol.db?mode=ro&uri=true"}),
        ("database", {"location": "sqlite:///file://localhostHOME/control.db?mode=ro&uri=true"}),
        ("database", {"location": "sqlite:///DOCS/link/control.db"}),
        ("store", {"location": "simplecache://HOME", "options": {"target_protocol": "file"}}),
        ("store", {"location": "file://DOCS", "options": {"fo": "HOME/b.zip"}}),
        ("store", {"location": "zip://", "options": {"fo": "http://127.0.0.1:1/b.zip"}}),
        ("store", {"location": "file://DOCS"}),
        ("store", {"location": "FILE://HOME"}),
    ],
)
def test_no_way_leads_into_penstocks_own_home(
    home: Path, tmp_path: Path, kind: str, settings: dict[str, Any], sqlite_engine: Engine
) -> None:
    def place(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("DOCS", str(tmp_path / "docs")).replace("HOME", str(home))
        return [place(each) for each in value] if isinstance(value, list) else _each(place, value)

    more = {"query": "SELECT id, text FROM articles"} if kind == "database" else {}
    reader = SourceReader(sqlite_engine, CountingBlobs(), None, clock=TickingClock(), private_root=home)
    try:
        found = reader.test(kind, {**_each(place, settings), **more})
    except InvalidSource:
        return
    assert [each["path"] for each in found.first if each["path"] != "a/x.md"] == []
    assert {each.reason for each in found.errors} == {"symbolic links are not followed"}


def _each(change: Callable[[Any], Any], values: dict[str, Any]) -> dict[str, Any]:
    return {name: change(value) for name, value in values.items()}


def test_files_by_pattern_keep_what_the_folders_above_say_of_readers(
    sources: SourceService, write: Write, tmp_path: Path
) -> None:
    write("_properties.toml", 'readers = ["group:finance"]')
    write("pay.md")
    write("a/b/x.md")
    write("c/_properties.toml", 'readers = ["group:board"]')
    write("c/d/y.md")
    docs = tmp_path / "docs"
    for name, location, more in (
        ("one", docs / "*.md", {}),
        ("all", docs / "**" / "*", {}),
        ("deep", docs / "*" / "*" / "*.md", {}),
        ("named", docs / "pay.md", {"also": [str(docs / "a" / "b" / "*.md")]}),
    ):
        sources.add("guide", name, "files", {"location": str(location), **more})
    found = sources.scan_all("guide", InlineContext())
    readers = {item.path: item.properties.readers for item in found.items}
    assert readers == {
        "pay.md": ["group:finance"],
        "all/pay.md": ["group:finance"],
        "all/a/b/x.md": ["group:finance"],
        "all/c/d/y.md": ["group:board"],
        "deep/a/b/x.md": ["group:finance"],
        "deep/c/d/y.md": ["group:board"],
        "named/pay.md": ["group:finance"],
        "named/x.md": None,  # the folder that its pattern begins in says nothing
    }
