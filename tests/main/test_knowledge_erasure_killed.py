"""An erasure that is cut off anywhere is carried out again, to its end, and its receipt says so honestly.

Every place where it writes is a place where the process may die. Here a process of its own dies there, one after the
other on the same home, so that each finds what the last one left; in the end nothing may be left.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from penstock.knowledge.erasure.keep_out import KeepOut
from penstock.knowledge.erasure.removing import Removal
from penstock.knowledge.erasure.service import KnowledgeErasures
from penstock.knowledge.erasure.types import Target
from penstock.knowledge.generations.opening import OpenIndexes
from penstock.knowledge.generations.switching import Switching
from penstock.main.knowledge_copies import Copies
from penstock.main.knowledge_erasing import Receipts
from penstock.main.table_scrub import TableScrub
from penstock.store.spans.text_erasure import DuckDBTextErasure
from tests.main.erasing_house import CANARY, SENTENCE, WORD, furnish, open_kept
from tests.main.test_knowledge_erasure import find_everywhere

TEXT = Target(kind="text", value=CANARY)
STEPS: tuple[tuple[type, str, bool], ...] = (
    (KeepOut, "add", False),
    (Removal, "rewrite", False),
    (Switching, "publish", False),
    (Switching, "publish", True),
    (Removal, "destroy", False),
    (OpenIndexes, "purge", True),
    (Removal, "destroy", True),
    (Removal, "clear_shared", True),
    (Copies, "clear_traces", False),
    (DuckDBTextErasure, "blank", True),
    (Copies, "clear_replies", True),
    (TableScrub, "clear", True),
    (KnowledgeErasures, "_forget", False),
    (KnowledgeErasures, "_forget", True),
    (Receipts, "__call__", False),
)
"""Where to die, and whether after it was done."""


def die_at(owner: type, name: str, *, is_after: bool) -> None:
    was: Callable[..., Any] = getattr(owner, name)

    def die(*args: Any, **more: Any) -> NoReturn:
        if is_after:
            was(*args, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it lives")

    setattr(owner, name, die)


def carry_out_and_die(root: Path, step: tuple[type, str, bool]) -> int:
    """Carry out what waits in a process that dies at a step; return the signal that ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        try:
            die_at(step[0], step[1], is_after=step[2])
            with open_kept(root, root) as kept:
                kept.erasures.carry_out_waiting()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def test_a_killed_erasure_is_carried_out_to_its_end_from_wherever_it_was(
    tmp_path: Path, migrated_sqlite: Path
) -> None:
    with open_kept(tmp_path, migrated_sqlite) as kept:
        ids = furnish(kept)
        asked = kept.erasures.submit(TEXT, reason="ticket 4711", actor="admin")
    died = [carry_out_and_die(tmp_path, step) for step in STEPS]
    reached = [step[1] for step, number in zip(STEPS, died, strict=True) if number == signal.SIGKILL]
    # What was done by one is not found by the next, and not done again.
    assert {"add", "rewrite", "publish", "destroy", "clear_shared", "clear_traces", "_forget"} <= set(reached)
    with open_kept(tmp_path, migrated_sqlite) as kept:
        receipt = kept.finish(asked)
        assert find_everywhere(kept, CANARY, SENTENCE, WORD, "bed-four", *ids) == []
        assert kept.find("sleep hours adults") == {"sleep.md", "food.md", "records/2.txt"}
        assert kept.knowledge.ingest("ward").added == 0
        # Nobody knows any more what to look for, and the receipt does not say that somebody looked.
        assert receipt.sweep.skipped == "the process ended before the files were looked through"
        (bases,) = [each for each in receipt.places if each.place == "knowledge bases"]
        assert bases.removed["document versions"] >= 4
