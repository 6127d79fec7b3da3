"""Upstream keys in the control tables: entered, replaced, sealed again, never told."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from penstock.access.errors import SecretExists, SecretInUse, UnknownSecret
from penstock.access.secrets import SecretService
from penstock.base.errors import InvalidInput
from penstock.store.sealing import MasterKeyUnusable, read_master_keys

URL = "https://api.example.com/v1"
HOST = "https://api.example.com"


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    return tmp_path / "master.key"


@pytest.fixture
def secrets(sqlite_engine: Engine, key_path: Path) -> SecretService:
    return SecretService(sqlite_engine, key_path, clock=lambda: 7)


def opened(secrets: SecretService, key_path: Path, name: str = "openai") -> str:
    return read_master_keys(key_path).open(secrets.sealed()[name], name=name, origin=HOST)


def test_a_secret_is_kept_sealed_and_listed_without_its_text(control_engine: Engine, key_path: Path) -> None:
    secrets = SecretService(control_engine, key_path, clock=lambda: 7)
    info = secrets.create("openai", " sk-upstream\n", url=URL, actor="ada")
    assert (info.name, info.origin, info.actor, info.created_ns) == ("openai", HOST, "ada", 7)
    assert secrets.list() == (info,)
    assert "sk-upstream" not in repr(info)
    assert opened(secrets, key_path) == "sk-upstream"
    with control_engine.connect() as connection:
        assert "sk-upstream" not in str(connection.execute(text("SELECT * FROM secrets")).all())


def test_a_secret_is_replaced_for_the_same_host_only_while_it_is_used(
    secrets: SecretService, key_path: Path
) -> None:
    secrets.put("openai", "old", url=URL, actor="ada")
    secrets.put("openai", "new", url=f"{HOST}:443", actor="ada", used_by=["far"])
    assert opened(secrets, key_path) == "new"
    with pytest.raises(SecretInUse, match="used by far"):
        secrets.put("openai", "new", url="https://evil.example", actor="eve", used_by=["far"])
    secrets.put("openai", "new", url="https://other.example", actor="ada")
    assert secrets.get("openai").origin == "https://other.example"
    assert secrets.rotate("openai", "newer", actor="bob").origin == "https://other.example"


def test_what_cannot_be_is_refused(secrets: SecretService, key_path: Path) -> None:
    for name, value, url in [
        ("Openai", "x", URL),
        ("", "x", URL),
        ("sk-123 456", "x", URL),
        ("a", "", URL),
        ("a", "   ", URL),
        ("a", "x\0", URL),
        ("a", "x" * 70_000, URL),
        ("a", "x", "api.example.com"),
        ("a", "x", ""),
    ]:
        with pytest.raises(InvalidInput) as refused:
            secrets.create(name, value, url=url, actor="ada")
        assert value.strip() in {"", "x"} or value not in str(refused.value)
    assert not key_path.exists()
    secrets.create("a", "x", url=URL, actor="ada")
    with pytest.raises(SecretExists):
        secrets.create("a", "y", url=URL, actor="ada")
    with pytest.raises(UnknownSecret):
        secrets.rotate("b", "y", actor="ada")


def test_a_secret_goes_when_nobody_uses_it(secrets: SecretService) -> None:
    secrets.create("openai", "x", url=URL, actor="ada")
    with pytest.raises(SecretInUse, match="used by far, near"):
        secrets.delete("openai", used_by=["near", "far"])
    secrets.delete("openai")
    assert secrets.list() == ()
    with pytest.raises(UnknownSecret):
        secrets.delete("openai")


def test_a_lost_master_key_is_not_replaced_in_silence(secrets: SecretService, key_path: Path) -> None:
    secrets.create("openai", "x", url=URL, actor="ada")
    key_path.unlink()
    with pytest.raises(MasterKeyUnusable, match="cannot be read"):
        secrets.rotate("openai", "y", actor="ada")
    assert not key_path.exists()


def test_a_new_master_key_seals_all_and_the_old_one_goes(secrets: SecretService, key_path: Path) -> None:
    for name in ("openai", "groq"):
        secrets.create(name, f"sk-{name}", url=URL, actor="ada")
    before, old = secrets.sealed(), read_master_keys(key_path)
    published: list[bool] = []

    def publish() -> None:
        """While gateways still have the old texts, the old key is still there for them."""
        published.append(old.current_id in dict(read_master_keys(key_path).keys))

    key_id, count = secrets.rekey(publish)
    assert (count, published) == (2, [True])
    assert [name for name, _ in read_master_keys(key_path).keys] == [key_id] != [old.current_id]
    assert all(secrets.sealed()[name] != before[name] for name in before)
    assert opened(secrets, key_path, "groq") == "sk-groq"


def test_a_change_of_the_master_key_that_dies_half_way_leaves_every_secret_open(
    secrets: SecretService, key_path: Path
) -> None:
    secrets.create("openai", "sk-upstream", url=URL, actor="ada")
    before = secrets.sealed()["openai"]

    def die() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        secrets.rekey(die)
    keys = read_master_keys(key_path)
    assert keys.open(before, name="openai", origin=HOST) == "sk-upstream"  # what gateways still have
    assert opened(secrets, key_path) == "sk-upstream"
    secrets.rekey(lambda: None)
    assert opened(secrets, key_path) == "sk-upstream"
    assert len(read_master_keys(key_path).keys) == 1


def test_a_secret_opens_for_the_host_it_was_entered_for_and_no_other(secrets: SecretService) -> None:
    secrets.create("wiki_db", "p@ss", url="postgresql://db.example/wiki", actor="ada")
    assert secrets.open("wiki_db", "postgresql://reader:secret@db.example:5432/wiki") == "p@ss"
    with pytest.raises(
        InvalidInput, match=r"entered for postgresql://db\.example, not for postgresql://evil\.example"
    ):
        secrets.open("wiki_db", "postgresql://evil.example/wiki")
    with pytest.raises(UnknownSecret):
        secrets.open("nothing", "postgresql://db.example/wiki")
