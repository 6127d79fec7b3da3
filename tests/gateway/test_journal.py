"""The billing journal's file: what it keeps, for whom, and what it never makes twice."""

import os
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.gateway.journal import (
    RATES,
    RECOVERED,
    SLOT_BYTES,
    Journal,
    OpenedFor,
    Settled,
    open_journal,
    recover_journals,
)
from penstock.providers.prices import PriceBook
from penstock.providers.rates import Rate, RateCard, RateSet
from penstock.spec.spans import Span
from penstock.spec.usage import TOKEN_CLASSES, Usage

CARD = RateCard(source="table", sets=[RateSet(rates={name: Rate(usd=Decimal(2)) for name in TOKEN_CLASSES})])
BOOK = PriceBook(lambda wanted: [CARD for _ in wanted])


def begin(
    journal: Journal,
    number: int = 1,
    *,
    is_first: bool = True,
    user: str = "ann",
    parent: int | None = None,
    **common: Any,
) -> int:
    shared = OpenedFor(
        "chat",
        "default",
        "key_a",
        "fast",
        "openai",
        "openai",
        "gpt",
        Decimal(3),
        "settings",
        {"prompt:triage": "3"},
    )
    return journal.begin(
        f"{number:032x}",
        f"{number:016x}",
        None if parent is None else f"{parent:016x}",
        is_first=is_first,
        start_ns=1_790_000_000_000_000_000,
        input_tokens=500,
        user_id=user,
        session_id="s1",
        common=msgspec.structs.replace(shared, **common).packed(),
    )


def settled(number: int = 1, **fields: Any) -> Settled:
    counts = tuple(7 if name in ("input_uncached", "output_image") else None for name in TOKEN_CLASSES)
    entry = Settled(
        f"{number:016x}",
        None,
        "llm",
        1_790_000_000_500_000_000,
        "ok",
        None,
        None,
        200,
        "gpt-1",
        True,
        1,
        12.5,
        counts,
        False,
        Decimal("0.000028"),
        "table",
    )
    return msgspec.structs.replace(entry, **fields)


class Kept:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def store(self, spans: Sequence[Span]) -> None:
        self.spans += spans


def abandon(journal: Journal) -> None:
    """Leave the file as a process does that is killed."""
    journal._map.close()
    os.close(journal._descriptor)


def test_open_slots_come_back_estimated_and_settled_ones_exact_with_the_ids_they_had(tmp_path: Path) -> None:
    journal = Journal(tmp_path, n_slots=8)
    slots = [begin(journal, number) for number in (1, 2, 3, 4)]
    journal.settle(slots[1], settled(2))
    journal.settle(
        slots[2], settled(9, kind="attempt", parent_id=f"{3:016x}", cost_usd=None, cost_source=None)
    )
    journal.free(slots[3])
    abandon(journal)
    kept = Kept()
    assert recover_journals(tmp_path, kept.store, BOOK) == 3
    by_id = {int(span.span_id, 16): span for span in kept.spans}
    first, second, attempt = by_id[1], by_id[2], by_id[9]
    assert (first.error_code, first.end_ns, first.usage) == (
        "PS-9661",
        None,
        Usage(input_uncached=500, estimated=True),
    )
    assert (first.cost_usd, first.cost_source) == (Decimal("0.0015"), "settings")
    assert (second.status, second.usage) == ("ok", Usage(input_uncached=7, output_image=7))
    assert (second.cost_usd, second.cost_source, second.model) == (Decimal("0.000028"), "table", "gpt-1")
    assert second.attributes[RATES] == {"input_uncached": Decimal(2), "output_image": Decimal(2)}
    assert (attempt.kind, attempt.parent_id, attempt.cost_usd) == (
        "attempt",
        f"{3:016x}",
        Decimal("0.000028"),
    )
    for span in kept.spans:
        assert span.attributes[RECOVERED] is True
        assert (span.key_id, span.user_id, span.route) == ("key_a", "ann", "fast")
        assert span.versions == {"prompt:triage": "3"}
    assert list(tmp_path.iterdir()) == []
    assert recover_journals(tmp_path, kept.store, BOOK) == 0


def test_the_journal_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path, n_slots=2)
    begin(journal)
    assert recover_journals(tmp_path, Kept().store, BOOK) == 0
    journal.close()
    kept = Kept()
    assert recover_journals(tmp_path, kept.store, BOOK) == 1, (
        "closed with a slot in use: nobody has billed it yet"
    )


def test_a_journal_that_owes_nothing_goes_away_when_its_worker_ends(tmp_path: Path) -> None:
    journal = Journal(tmp_path, n_slots=2)
    journal.free(begin(journal))
    journal.close()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_stored_stays_for_the_next_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path, n_slots=2)
    begin(journal)
    abandon(journal)

    def refuse(_spans: Sequence[Span]) -> None:
        raise OSError(28, "no space left")

    with pytest.raises(OSError, match="no space"):
        recover_journals(tmp_path, refuse, BOOK)
    assert recover_journals(tmp_path, Kept().store, BOOK) == 1


def test_more_calls_than_slots_and_texts_of_any_length_are_served_all_the_same(tmp_path: Path) -> None:
    journal = Journal(tmp_path, n_slots=2)
    wide = {f"asset:{number}": "x" * 64 for number in range(100)}
    assert begin(journal, 1, versions=wide, user="é" * 200) >= 0
    assert begin(journal, 2, model="x" * SLOT_BYTES) == -1
    slot = begin(journal, 3, is_first=False, parent=1)
    journal.settle(slot, settled(3, model="m" * SLOT_BYTES, error_message="e" * 200))
    assert begin(journal, 4) == -1
    assert (journal.n_uncovered, journal.n_open) == (2, 2)
    abandon(journal)
    kept = Kept()
    recover_journals(tmp_path, kept.store, BOOK)
    assert [(span.span_id, span.user_id) for span in kept.spans if span.span_id == f"{1:016x}"] == [
        (f"{1:016x}", "é" * 100)
    ]
    assert {span.cost_usd for span in kept.spans} == {Decimal("0.0015"), Decimal("0.000028")}


@pytest.mark.parametrize("size", [0, 5, 60, 64 + SLOT_BYTES, 64 + 2 * SLOT_BYTES])
def test_a_damaged_file_gives_what_can_be_read_and_goes_away(tmp_path: Path, size: int) -> None:
    journal = Journal(tmp_path, n_slots=2)
    for number in (1, 2):
        begin(journal, number)
    abandon(journal)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes()[:size])
    if size > 64 + SLOT_BYTES:
        data[64 + SLOT_BYTES + 4 : 64 + SLOT_BYTES + 40] = b"\xc1" * 36
    path.write_bytes(data)
    kept = Kept()
    recover_journals(tmp_path, kept.store, BOOK)
    assert len(kept.spans) == (size > 64 + SLOT_BYTES) + (size == 64 + SLOT_BYTES)
    assert list(tmp_path.iterdir()) == []


def test_without_room_on_the_disk_there_is_no_journal_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    assert open_journal(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_slots_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from penstock.gateway.journal import Journal\n"
        "from tests.gateway.test_journal import begin\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for number in range(1, 51): begin(journal, number)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=root, timeout=240, check=False)
    assert run.returncode == -9
    kept = Kept()
    assert recover_journals(tmp_path, kept.store, BOOK) == 50
    assert len({span.span_id for span in kept.spans}) == 50


def test_a_further_attempt_of_a_call_comes_back_below_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, n_slots=2)
    begin(journal, 1, operation="embeddings")
    begin(journal, 2, is_first=False, parent=1)
    abandon(journal)
    kept = Kept()
    recover_journals(tmp_path, kept.store, BOOK)
    assert {(span.kind, span.parent_id, span.name) for span in kept.spans} == {
        ("embedding", None, "embeddings fast"),
        ("attempt", f"{1:016x}", "attempt openai"),
    }
