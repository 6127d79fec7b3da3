"""Real processes, killed at every write: what was live stays live and whole, and running again finishes the work.

Others lose the collection, or serve half of it, when a sync stops in between.
"""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event

from penstock.knowledge.generations.errors import NoPreviousTrack, UnknownTrack
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.versions import RegistryVersions
from penstock.registry.service import Registry
from penstock.spec.knowledge import EmbedRecipe, Recipe
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from tests.knowledge.generations.conftest import ManyEmbedders
from tests.knowledge.inline_pool import InlinePool

BIG = Recipe(embed=EmbedRecipe(model="big"))
Work = Callable[[KnowledgeService, Path], object]
processes = multiprocessing.get_context("fork")


def open_service(home: Path, *, die_at: int | None = None) -> KnowledgeService:
    """Open everything anew; with `die_at` the process kills itself at that write, before it is done."""
    engine = open_control(f"sqlite:///{home}/control.db")
    blobs = BlobStore(str(home / "blobs"))
    registry = Registry(engine, blobs)
    if die_at is not None:
        n_writes = 0

        def count(*_: object) -> None:
            nonlocal n_writes
            n_writes += 1
            if n_writes == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(engine, "commit", count)
        for name in ("rename", "replace"):  # of files and folders that appear whole
            setattr(
                os, name, lambda *paths, real=getattr(os, name), **more: (count(), real(*paths, **more))[1]
            )
    return KnowledgeService(
        engine,
        blobs,
        home / "indexes",
        ManyEmbedders(),
        RegistryVersions(registry),
        make_pool=InlinePool,
    )


def run(home: Path, folder: Path, work: Work, die_at: int | None = None) -> int:
    """Do the work in a process of its own; return how it ended."""

    def main() -> None:
        work(open_service(home, die_at=die_at), folder)
        os._exit(0)

    child = processes.Process(target=main)
    child.start()
    child.join(240)
    assert child.exitcode is not None
    return child.exitcode


def ingest(service: KnowledgeService, folder: Path) -> None:
    service.ingest("guide", folder)


def build(service: KnowledgeService, folder: Path) -> None:
    del folder
    service.build_candidate("guide", "big", BIG)


def switch(service: KnowledgeService, folder: Path) -> None:
    del folder
    try:
        service.switch("guide", "big", override_reason="a test")
    except UnknownTrack:
        assert service.retrieve("guide", "adults").embedder == "big@1"  # it had been done


def rollback(service: KnowledgeService, folder: Path) -> None:
    del folder
    if service.retrieve("guide", "adults").embedder == "big@1":
        service.rollback("guide")


@pytest.fixture
def home(tmp_path: Path, folder: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    open_service(home).ingest("guide", folder)
    return home


Check = Callable[[KnowledgeService, bool], None]
"""Called with whether the work has come to its end."""


def kill_at_each_write(home: Path, folder: Path, work: Work, check: Check) -> int:
    """Kill the work at its first write, then, from the same start, at its second, and so on; each time run it again."""
    for die_at in range(1, 60):
        copy = home.with_name(f"killed-{die_at}")
        shutil.copytree(home, copy)
        ended = run(copy, folder, work, die_at)
        check(open_service(copy), ended == 0)
        if ended == 0:
            return die_at - 1
        assert ended == -signal.SIGKILL
        work(open_service(copy), folder)
        check(open_service(copy), True)
    raise AssertionError("it never came to its end")


def failed(service: KnowledgeService) -> list[object]:
    return [each for each in service.verify("guide", deep=True) if each.state == "failed"]


def test_an_ingest_killed_anywhere_leaves_the_old_or_the_new_contents(home: Path, folder: Path) -> None:
    (folder / "salt.md").unlink()
    (folder / "new.md").write_text("# Naps\n\nKeep naps short.\n")
    old, new = {"salt.md", "sleep.md", "water.md"}, {"new.md", "sleep.md", "water.md"}

    def check(service: KnowledgeService, is_done: bool) -> None:
        found = {hit.document for hit in service.search("guide", "adults naps cheese thirsty", 10)}
        assert found in ([new] if is_done else [old, new])
        assert {row.path for row in service.list_documents("guide")} == found

    n_writes = kill_at_each_write(home, folder, ingest, check)
    assert n_writes > 6
    for at in (2, n_writes // 2, n_writes):
        assert failed(open_service(home.with_name(f"killed-{at}"))) == []


def test_a_build_killed_anywhere_leaves_what_is_live(home: Path, folder: Path) -> None:
    live = open_service(home).retrieve("guide", "adults").generation

    def check(service: KnowledgeService, is_done: bool) -> None:
        assert service.retrieve("guide", "adults").generation == live
        assert {each.name for each in service.list_tracks("guide")} <= {"live", "big"}
        if is_done:
            assert service.retrieve("guide", "adults", generation="big").embedder == "big@1"

    n_writes = kill_at_each_write(home, folder, build, check)
    assert n_writes > 3
    assert failed(open_service(home.with_name(f"killed-{n_writes}"))) == []


def test_a_switch_and_a_rollback_killed_anywhere_are_done_or_not_done(home: Path, folder: Path) -> None:
    """The rows of the tracks follow the pointer, wherever it stopped."""
    open_service(home).build_candidate("guide", "big", BIG)

    def check(service: KnowledgeService, is_done: bool) -> None:
        embedder = service.retrieve("guide", "adults").embedder
        assert embedder == "big@1" or not is_done
        tracks = {each.name: each.embedder for each in service.list_tracks("guide")}
        assert tracks["live"] == embedder
        assert set(tracks) == ({"live", "previous"} if embedder == "big@1" else {"live", "big"})

    n_writes = kill_at_each_write(home, folder, switch, check)

    def check_back(service: KnowledgeService, is_done: bool) -> None:
        embedder = service.retrieve("guide", "adults").embedder
        assert embedder == "small@1" or not is_done
        tracks = {each.name: each.embedder for each in service.list_tracks("guide")}
        assert tracks == {"live": embedder, "previous": "small@1" if embedder == "big@1" else "big@1"}

    for copy in home.parent.glob("killed-*"):
        shutil.rmtree(copy)
    # Not even the rows of the switch were written when somebody rolls back.
    killed = run(home, folder, switch, die_at=n_writes)
    assert killed == -signal.SIGKILL
    assert open_service(home).retrieve("guide", "adults").embedder == "big@1"
    assert kill_at_each_write(home, folder, rollback, check_back) >= 3


def test_four_processes_that_ingest_the_same_come_to_one_result(home: Path, folder: Path) -> None:
    for number in range(20):
        (folder / f"{number}.md").write_text(f"# Fact {number}\n\nFact number {number} is here.\n")
    children = [processes.Process(target=run_and_tell, args=(home, folder, n)) for n in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(240)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    told = {(home / f"{n}.told").read_text() for n in range(4)}
    assert len(told) == 1
    service = open_service(home)
    assert told == {service.retrieve("guide", "fact").generation}
    assert len(service.list_documents("guide")) == 23
    with pytest.raises(NoPreviousTrack):
        service.rollback("guide")


def run_and_tell(home: Path, folder: Path, number: int) -> None:
    report = open_service(home).ingest("guide", folder)
    (home / f"{number}.told").write_text(report.generation)


def test_another_process_sees_a_switch_with_its_next_query(home: Path, folder: Path) -> None:
    """No restart and no wait: processes that answer read the pointer with every query."""
    open_service(home).build_candidate("guide", "big", BIG)
    there, here = processes.Pipe()

    def answer() -> None:
        service = open_service(home)
        while there.recv():
            retrieval = service.retrieve("guide", "adults need quiet")
            there.send((retrieval.embedder, retrieval.mode, retrieval.note))

    child = processes.Process(target=answer)
    child.start()
    service = open_service(home)

    def ask() -> object:
        here.send(True)
        return here.recv()

    assert ask() == ("small@1", "hybrid", None)
    service.switch("guide", "big", override_reason="a test")
    for embedder in ("small@1", "big@1") * 5:
        service.rollback("guide")
        assert ask() == (embedder, "hybrid", None)
    here.send(False)
    child.join(240)
    assert child.exitcode == 0
