"""What has come of a wave that a kill cut is not asked, nor paid, a second time."""

import threading
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock.tuning.compress.distilling import Distillation, TeacherReply, distil
from penstock.tuning.compress.reply_journal import ReplyJournal
from tests.tuning.compress.test_distilling import Journal, Scripted, asked, how


class Mortal(Scripted):
    """A teacher that the machine takes away after so many calls."""

    def __init__(self, n_calls: int) -> None:
        super().__init__()
        self.left = n_calls
        self.lock = threading.Lock()

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> TeacherReply:
        with self.lock:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        return super().ask(model, messages, parameters=parameters, session=session)


def run(n: int, what: Distillation, teacher: Scripted, journal: ReplyJournal | None) -> Any:
    return distil(asked(n), what, teacher, Journal(), session="s", arrived=journal, sleep=lambda _: None)


def test_replies_that_came_before_a_kill_are_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "replies" / "arriving.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(20, how(), Mortal(7), ReplyJournal(path))
    path.write_bytes(path.read_bytes() + b'{"call": "torn')
    rest = Scripted()
    rows, tally = run(20, how(), rest, ReplyJournal(path))
    assert len(rest.asked) == 20 - 7
    assert (len(rows), tally.n_attempts, tally.cost_usd) == (20, 20, Decimal("0.20"))
    assert not path.exists(), "the wave is kept as a whole now"


def test_the_budget_counts_what_was_paid_before_the_kill(tmp_path: Path) -> None:
    path = tmp_path / "arriving.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(10, how(max_cost_usd=0.1), Mortal(6), ReplyJournal(path))
    rest = Scripted()
    _, tally = run(10, how(max_cost_usd=0.1), rest, ReplyJournal(path))
    assert len(rest.asked) == 4
    assert tally.cost_usd == Decimal("0.10")


def test_a_failed_attempt_before_the_kill_is_counted_and_tried_on(tmp_path: Path) -> None:
    journal = ReplyJournal(tmp_path / "arriving.jsonl")
    late = TeacherReply(status="timeout", is_transient=True)
    with pytest.raises(KeyboardInterrupt):
        distil(asked(1), how(), Scripted(q0=[late]), Journal(), session="s", arrived=journal, sleep=_die)
    again = Scripted()
    _, tally = run(1, how(), again, ReplyJournal(tmp_path / "arriving.jsonl"))
    assert len(again.asked) == 1
    assert (tally.n_attempts, tally.n_kept, tally.n_cost_unknown) == (2, 1, 1)


def test_other_settings_are_asked_anew(tmp_path: Path) -> None:
    path = tmp_path / "arriving.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(4, how(), Mortal(2), ReplyJournal(path))
    other = Scripted()
    run(4, how(max_tokens=9), other, ReplyJournal(path))
    assert len(other.asked) == 4


def _die(_seconds: float) -> None:
    raise KeyboardInterrupt
