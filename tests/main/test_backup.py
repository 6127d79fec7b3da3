"""A home in one file and back: nothing acknowledged is missing, nothing changed passes, nothing is written over."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import lmdb
import msgspec
import pytest

from penstock.base.errors import InvalidInput, PenstockError
from penstock.main.backup import MANIFEST, Manifest, back_up
from penstock.main.errors import BackupFailed, BackupInvalid, HomeNotEmpty
from penstock.main.instance import own_home
from penstock.main.restore import check_backup, restore
from penstock.main.rooms import Rooms
from penstock.spec.home import Home
from penstock.store.counters import Ask, CounterStore
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.telemetry.encode import encode_span
from penstock.telemetry.spool import SpoolWriter
from penstock.traces.collector import Collector
from tests.fixtures.spans import make_span


@pytest.fixture
def home(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Home]:
    """A home with something in every room, and a writer that is at work."""
    home = Home(root=tmp_path / "home")
    rooms = Rooms(home, environ={})
    home.control_db.write_bytes(migrated_sqlite.read_bytes())
    rooms.keys.create("admin", ("owner",))
    rooms.blobs.put_bytes(b"weights")
    rooms.close()
    home.settings.write_text("[traces.retention]\npayload_days = 30\n")
    home.admin_key.write_text("ps-admin\n")
    home.master_key.write_text("k1 00\n")
    store = DuckDBSpanStore(home.span_db)
    store.append([make_span(1, input="stored")])
    store.close()
    counters = CounterStore(home.counters)
    counters.reserve([Ask("budget", 7, 7, None, 2**40, 60)])
    counters.close()
    (home.files / "default").mkdir(parents=True)
    (home.files / "default" / "file-1").write_bytes(b"left by a client")
    home.cache.mkdir()
    (home.cache / "data.mdb").write_bytes(b"can be made again")
    writer = SpoolWriter(home.spool / "gateway-1")
    writer.append_durable([encode_span(make_span(2, input="waits in the spool"))])
    yield home
    writer.close()


def test_everything_that_cannot_be_made_again_comes_back(home: Home, tmp_path: Path) -> None:
    report = back_up(home, tmp_path / "all.tar", environ={})
    again = Home(root=tmp_path / "again")
    told = restore(tmp_path / "all.tar", again.root)
    assert told.n_files == report.n_files
    rooms = Rooms(again, environ={})
    assert [key.name for key in rooms.keys.list()] == ["admin"]
    assert rooms.blobs.list_digests()
    assert rooms.storage_file.settings.traces.retention.payload_days == 30
    rooms.close()
    store = DuckDBSpanStore(again.span_db)
    Collector(again.spool, store).run_once()
    assert [span.span_id for span in store.get_trace(f"{1:032x}")] == [f"{1:016x}", f"{2:016x}"]
    store.close()
    counters = CounterStore(again.counters)
    assert counters.get("budget") == 7
    counters.close()
    assert (again.files / "default" / "file-1").read_bytes() == b"left by a client"
    assert (again.master_key.read_text(), again.admin_key.read_text()) == ("k1 00\n", "ps-admin\n")
    assert again.root.stat().st_mode & 0o777 == 0o700
    assert not again.cache.exists()


def test_the_file_is_for_its_owner_alone_and_is_compressed_where_its_name_says_so(
    home: Home, tmp_path: Path
) -> None:
    for name in ("plain.tar", "small.tar.gz"):
        back_up(home, tmp_path / name, environ={})
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        check_backup(tmp_path / name)
    assert (tmp_path / "small.tar.gz").stat().st_size < (tmp_path / "plain.tar").stat().st_size / 2


def test_keys_can_be_left_out_and_what_that_means_is_told(home: Home, tmp_path: Path) -> None:
    with_keys = back_up(home, tmp_path / "with.tar", environ={})
    without = back_up(home, tmp_path / "without.tar", environ={}, with_keys=False)
    assert any("holds the master key" in note for note in with_keys.notes)
    assert any("without the master key" in note for note in without.notes)
    restore(tmp_path / "without.tar", tmp_path / "again")
    assert not (tmp_path / "again" / "master.key").exists()
    assert not (tmp_path / "again" / "admin.key").exists()


def test_tables_and_artefacts_elsewhere_are_told(home: Home, tmp_path: Path) -> None:
    home.settings.write_text('[storage]\ncontrol_url_env = "DATABASE"\nblobs_url = "s3://bucket/x"\n')
    notes = " ".join(back_up(home, tmp_path / "all.tar", environ={}).notes)
    assert "pg_dump" in notes
    assert "s3://bucket/x" in notes


def test_a_backup_is_refused_where_a_file_is_and_leaves_nothing_behind_when_it_fails(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "all.tar"
    out.write_bytes(b"precious")
    with pytest.raises(InvalidInput):
        back_up(home, out, environ={})
    assert out.read_bytes() == b"precious"

    def fail(*_: object, **__: object) -> None:
        raise lmdb.Error("no")

    monkeypatch.setattr("penstock.main.backup.lmdb.open", fail)
    with pytest.raises(BackupFailed):
        back_up(home, tmp_path / "other.tar", environ={})
    assert sorted(path.name for path in tmp_path.iterdir() if "other" in path.name) == []


def test_a_home_that_somebody_owns_and_that_does_not_answer_is_not_copied_behind_its_back(
    home: Home, tmp_path: Path
) -> None:
    with own_home(home), pytest.raises(PenstockError):
        back_up(home, tmp_path / "all.tar", environ={})
    assert not (tmp_path / "all.tar").exists()


def test_nothing_is_restored_over_anything(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "all.tar", environ={})
    with pytest.raises(HomeNotEmpty):
        restore(tmp_path / "all.tar", home.root)
    (tmp_path / "empty").mkdir()
    restore(tmp_path / "all.tar", tmp_path / "empty")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.995])
def test_a_backup_that_ends_early_is_found_out_and_leaves_no_home(
    home: Home, tmp_path: Path, share: float
) -> None:
    back_up(home, tmp_path / "all.tar", environ={})
    data = (tmp_path / "all.tar").read_bytes()
    end = data.rindex(b"manifest.json") if share > 0.99 else int(len(data) * share)
    (tmp_path / "cut.tar").write_bytes(data[:end])
    with pytest.raises(BackupInvalid):
        restore(tmp_path / "cut.tar", tmp_path / "again")
    assert [path.name for path in tmp_path.iterdir() if "again" in path.name] == []


def test_a_changed_byte_is_found_out_by_name(home: Home, tmp_path: Path) -> None:
    back_up(home, tmp_path / "all.tar", environ={})
    data = bytearray((tmp_path / "all.tar").read_bytes())
    data[data.index(b"left by a client")] ^= 1
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(BackupInvalid, match="file-1 was changed"):
        check_backup(tmp_path / "bad.tar")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_a_file_that_leads_out_of_the_home_is_refused(tmp_path: Path, name: str) -> None:
    make_tar(tmp_path / "evil.tar", {name: b"x"})
    with pytest.raises(BackupInvalid, match="leads out"):
        restore(tmp_path / "evil.tar", tmp_path / "again")
    assert not (tmp_path / "evil").exists()


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        facts = tarfile.TarInfo("spool")
        facts.type, facts.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(facts)
    with pytest.raises(BackupInvalid, match="no plain file"):
        restore(tmp_path / "link.tar", tmp_path / "again")


@pytest.mark.parametrize("newer", [{"format": 99}, {"control_revision": "9999"}, {"span_schema": 99}])
def test_a_backup_of_a_newer_program_says_which_one_can_read_it(
    tmp_path: Path, newer: dict[str, object]
) -> None:
    facts = {"format": 1, "control_revision": "0001", "span_schema": 3, **newer}
    manifest = Manifest(version="7.1.0", created_ns=0, members=[], **facts)  # type: ignore[arg-type]
    make_tar(tmp_path / "new.tar", {MANIFEST: msgspec.json.encode(manifest)})
    with pytest.raises(BackupInvalid) as raised:
        check_backup(tmp_path / "new.tar")
    assert "7.1.0" in str(raised.value)


def make_tar(path: Path, files: dict[str, bytes]) -> None:
    source = path.parent / "source"
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            source.write_bytes(data)
            facts = tar.gettarinfo(source, name)
            facts.name = name
            with source.open("rb") as file:
                tar.addfile(facts, file)
