"""The pool: one document's crash, hang or hunger is that document's error, and the others go on."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.base.errors import InvalidInput, PenstockError
from penstock.knowledge.errors import (
    DocumentTooLarge,
    LockedDocument,
    ParserDied,
    ParserTooLarge,
    ParserTooSlow,
    UnreadableDocument,
    UnsupportedFormat,
)
from penstock.knowledge.parse import ParserPool, parse_document
from penstock.spec.knowledge import ParseRecipe, Scrubbing
from tests.knowledge.parse.builders import make_docx, make_pdf
from tests.knowledge.parse.hostile import hang_forever, quote_nothing, wide_workbook

TEXT = b"# Title\n\nSome *text* here.\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(2) as pool:
        yield pool


def _worked(pid: int) -> float:
    """Return the processor time that a process has had, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_pool_returns_what_the_parser_returns(pool: ParserPool) -> None:
    documents = {
        "a.md": TEXT,
        "a.pdf": make_pdf(lambda pdf: pdf.cell(text="Some words.")),
        "a.docx": make_docx(lambda document: document.add_paragraph("Some words.")),
        "caf\udce9.txt": "Grüße 🍰".encode(),
    }
    for name, data in documents.items():
        assert pool.parse(name, data) == parse_document(name, data)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.xyz", b"x", UnsupportedFormat),
        ("a.pdf", b"no pdf", UnreadableDocument),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, LockedDocument),
    ],
)
def test_errors_arrive_as_they_were_raised(
    pool: ParserPool, name: str, data: bytes, kind: type[PenstockError]
) -> None:
    with pytest.raises(kind) as there:
        pool.parse(name, data)
    with pytest.raises(kind) as here:
        parse_document(name, data)
    assert (str(there.value), type(there.value)) == (str(here.value), type(here.value))


def test_a_recipe_that_nobody_can_follow_is_no_fault_of_the_document(pool: ParserPool) -> None:
    with pytest.raises(InvalidInput, match="emial"):
        pool.parse("a.md", TEXT, ParseRecipe(scrub=Scrubbing(action="mask", kinds=["emial"])))


def test_a_document_over_the_limit_never_reaches_a_process() -> None:
    with ParserPool(1) as pool:
        with pytest.raises(DocumentTooLarge):
            pool.parse("a.txt", b"x" * 11, ParseRecipe(max_bytes=10))
        assert not pool._idle


def test_a_process_that_is_killed_costs_its_document_alone(pool: ParserPool) -> None:
    pool.parse("a.md", TEXT)
    victim = pool._idle[-1]
    stop = threading.Event()
    before = _worked(victim._popen.pid)

    def kill_when_busy() -> None:
        # By the time it worked: a process killed while it is still being chosen is replaced unseen.
        while _worked(victim._popen.pid) < before + 0.1 and not stop.wait(0.005):
            pass
        os.kill(victim._popen.pid, 9)

    killer = threading.Thread(target=kill_when_busy)
    killer.start()
    try:
        with pytest.raises(ParserDied, match=r"'slow.html'.*SIGKILL"):
            pool.parse("slow.html", hang_forever())
    finally:
        stop.set()
        killer.join()
    assert pool.parse("a.md", TEXT).title == "Title"


def test_a_document_that_takes_too_much_processor_time_is_ended(pool: ParserPool) -> None:
    with pytest.raises(ParserTooSlow, match="processor time"):
        pool.parse("slow.html", hang_forever(), ParseRecipe(max_seconds=0.2))
    assert pool.parse("a.md", TEXT).title == "Title"


def test_a_document_that_waits_for_ever_is_ended() -> None:
    with ParserPool(1, wall_s=0.5) as pool:
        with pytest.raises(ParserTooSlow, match=r"more than 0 s|more than 1 s"):
            pool.parse("slow.html", hang_forever())
        assert pool._free.acquire(timeout=60)


def test_a_document_that_fills_its_memory_is_ended(pool: ParserPool) -> None:
    with pytest.raises((ParserTooLarge, ParserDied)):
        pool.parse("wide.xlsx", wide_workbook(), ParseRecipe(max_memory_mb=64))
    assert pool.parse("a.md", TEXT).title == "Title"


def test_a_parser_that_breaks_in_its_own_way_is_an_error_of_the_document(pool: ParserPool) -> None:
    recipe = ParseRecipe(scrub=Scrubbing(action="mask", kinds=["email"]))
    with pytest.raises(UnreadableDocument):
        pool.parse("a.csv", quote_nothing(), recipe)
    assert pool.parse("a.md", TEXT, recipe).title == "Title"


def test_documents_are_parsed_side_by_side_in_their_order(pool: ParserPool) -> None:
    held = 0
    most = 0
    lock = threading.Lock()

    def reader(number: int) -> bytes:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return f"# T{number}\n\ntext {number}\n".encode() if number % 7 else b""

    items = ((f"{number}.md", lambda number=number: reader(number)) for number in range(40))
    names = []
    for name, outcome in pool.parse_all(items):
        with lock:
            held -= 1
        names.append(name)
        number = int(name.removesuffix(".md"))
        if number % 7:
            assert not isinstance(outcome, Exception) and outcome.title == f"T{number}"
        else:
            assert isinstance(outcome, UnreadableDocument)
    assert names == [f"{number}.md" for number in range(40)]
    assert most <= 3 * pool.n + 1


def test_a_file_that_is_gone_is_its_own_error(pool: ParserPool) -> None:
    def gone() -> bytes:
        raise FileNotFoundError(2, "gone", "b.md")

    outcomes = dict(pool.parse_all([("a.md", lambda: TEXT), ("b.md", gone), ("c.md", lambda: TEXT)]))
    assert [isinstance(each, OSError) for each in outcomes.values()] == [False, True, False]


def test_a_process_starts_small() -> None:
    """Parsing must not load the rest of Penstock: every processor has such a process."""
    with ParserPool(1) as pool:
        pool.parse("a.md", TEXT)
        pid = pool._idle[0]._popen.pid
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        libraries = Path(f"/proc/{pid}/maps").read_text()
    (peak,) = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
    assert peak < 40 * 1024
    assert "numpy" not in libraries and "sqlalchemy" not in libraries


def test_processes_end_with_the_pool_and_with_their_starter() -> None:
    pool = ParserPool(1)
    pool.parse("a.md", TEXT)
    process = pool._idle[0]
    pool.close()
    assert process._popen.poll() is not None
    other = ParserPool(1)
    other.parse("a.md", TEXT)
    orphan = other._idle.pop()
    assert orphan._popen.stdin is not None
    orphan._popen.stdin.close()  # what happens when the starter is gone
    assert orphan._popen.wait(timeout=120) == 0
    orphan.kill()


def test_a_process_that_grew_large_is_replaced() -> None:
    """What a large document took is the system's again, not the process's for the rest of a long ingest."""
    with ParserPool(1, retire_mb=1) as pool:
        for _ in range(3):
            assert pool.parse("a.md", TEXT).title == "Title"
            assert not pool._idle


def test_a_process_at_work_ends_when_its_starter_was_killed() -> None:
    """A killed ingest left a processor busy with its document for two minutes."""
    code = (
        "from penstock.knowledge.parse import ParserPool\n"
        "from tests.knowledge.parse.hostile import hang_forever\n"
        "pool = ParserPool(1)\n"
        "pool.parse('a.md', b'text')\n"
        "print(pool._idle[0]._popen.pid, flush=True)\n"
        "pool.parse('slow.html', hang_forever())\n"
    )
    root = Path(__file__).resolve().parents[3]
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root)
    assert starter.stdout is not None
    child = int(starter.stdout.readline())
    try:
        while _status(child, "VmRSS") < 80 * 1024:  # until it has the document
            time.sleep(0.01)
        starter.kill()
        starter.wait()
        deadline = time.monotonic() + 120
        while _is_running(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _is_running(child)
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()
        if _is_running(child):
            os.kill(child, 9)


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def _is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_number_of_a_process_that_is_gone_is_never_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is asked for its exit status, the number may be somebody else's."""
    with ParserPool(1) as pool:
        pool.parse("a.md", TEXT)
        process = pool._idle[0]
        os.kill(process._popen.pid, 9)
        os.waitid(os.P_PID, process._popen.pid, os.WEXITED | os.WNOWAIT)
        assert not process.is_alive()
        assert process._popen.returncode is None
        killed: list[int] = []
        monkeypatch.setattr(os, "killpg", lambda pid, number: killed.append(pid))
        process.kill()
        process.kill()
        assert killed == [process._popen.pid]
        assert not process.is_alive()
        monkeypatch.undo()
        assert pool.parse("a.md", TEXT).title == "Title"


def test_a_process_is_not_replaced_because_its_starter_is_large() -> None:
    """What getrusage tells of a process begins with the peak of the one that started it."""
    weight = bytearray(b"x" * (400 * 1024 * 1024))
    with ParserPool(1) as pool:
        pool.parse("a.md", TEXT)
        assert len(pool._idle) == 1
    assert weight
