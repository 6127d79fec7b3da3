"""Erasing a user: nothing of them is left in any file, everybody else's stays, and a receipt proves it."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.base.errors import PenstockError
from penstock.deploy.kept_replies import ResponseCacheService
from penstock.main.rooms import Rooms
from penstock.main.upkeeping import create_upkeep
from penstock.spec.home import Home
from penstock.spec.scores import SpanScore
from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent
from penstock.spec.usage import Usage
from penstock.store.control.engine import open_control
from penstock.store.response_cache import KeptReply, ResponseStore
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.errors import SpanStoreBusy
from penstock.store.spans.ledger_types import CostQuery
from penstock.store.spans.upkeep_types import Subject
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.encode import encode_span
from penstock.telemetry.otlp import LOG_EVENTS
from penstock.telemetry.score_spans import score_span
from penstock.telemetry.spool import SpoolWriter
from penstock.traces.collector import Collector
from penstock.traces.upkeep.errors import BadSubject
from penstock.traces.upkeep.receipts import read_content, verify_alone
from penstock.traces.upkeep.service import UpkeepService
from penstock.traces.views import SavedView, ViewService
from tests.fixtures.spans import T0, make_span

USER = "mira.quist@example.org"
SECRET = "my knee has hurt since the seventh of May"
USER_SUBJECT = Subject(kind="user", id=USER)


@dataclass
class House:
    """A home with its collector and a live writer."""

    home: Home
    rooms: Rooms
    store: DuckDBSpanStore
    collector: Collector
    counters: IngestCounters
    writer: SpoolWriter
    upkeep: UpkeepService

    def take(self, *spans: Span) -> None:
        """Write spans as the gateway does, and store them."""
        for span in spans:
            self.writer.append(encode_span(span))
        self.writer.flush()
        self.collector.run_once()

    def erase(self, subject: Subject = USER_SUBJECT) -> int:
        """Erase and return the number of the receipt."""
        asked = self.upkeep.erasures.submit(subject, reason="ticket 4711", actor="admin")
        self.upkeep.erasures.carry_out_waiting()
        done = self.upkeep.erasures.get(asked.id)
        assert done.state == "done", done.error
        assert done.receipt is not None
        return done.receipt


@pytest.fixture
def house(tmp_path: Path, migrated_sqlite: Path) -> Iterator[House]:
    home = Home(root=tmp_path / "home")
    rooms = Rooms(home, environ={})
    home.control_db.write_bytes(migrated_sqlite.read_bytes())
    rooms.__dict__["engine"] = open_control(f"sqlite:///{home.control_db}")
    store = DuckDBSpanStore(home.span_db)
    counters = IngestCounters()
    collector = Collector(home.spool, store, source=store, counters=counters)
    upkeep = create_upkeep(rooms, store, collector, ResponseCacheService(home.cache, lambda: None, {}))
    writer = SpoolWriter(home.spool / "gateway-1")
    yield House(home, rooms, store, collector, counters, writer, upkeep)
    writer.close()
    collector.close()
    store.close()
    rooms.close()


def make_chat(trace: int, user: str, text: str, **fields: Any) -> list[Span]:
    """Return a call of a user, with a step below it that names nobody."""
    asked = {"messages": [{"role": "user", "content": text}]}
    call = make_span(
        1, trace=trace, kind="llm", service="gateway", route="chat", provider="openai", model="gpt-x",
        user_id=user, input=asked, output={"text": f"about {text}"}, cost_usd=Decimal("0.25"), cost_source="list",
        usage=Usage(input_uncached=10, output_text=3), **fields,
    )  # fmt: skip
    return [call, make_span(2, trace=trace, parent_id=call.span_id, input=text)]


def find_bytes(root: Path, *texts: str) -> list[str]:
    """Return the files in which one of the texts stands."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found += [
                    f"{path.relative_to(root)}: {text}" for text in texts if data.find(text.encode()) >= 0
                ]
    return found


def furnish(house: House) -> None:
    """Leave something of the user in every place that Penstock knows."""
    house.take(*make_chat(1, USER, SECRET), *make_chat(2, "otto@example.org", "how far is the moon"))
    judgement = SpanScore(
        name="helpful", value=1, scorer=USER, comment=SECRET, trace_id=f"{2:032x}", time_ns=T0
    )
    house.take(score_span(judgement))
    event = SpanEvent(name="gen_ai.choice", time_ns=T0, attributes={"content": SECRET})
    waiting = make_span(9, trace=1, events=[event], attributes={LOG_EVENTS: True, FOREIGN_MARK: 2})
    house.take(waiting)
    cache = ResponseStore(house.home.cache)
    for number, (stored_ns, body) in enumerate(
        ((house_call_ns(1), SECRET), (T0 - 10**12, "of an earlier call"))
    ):
        cache.put(
            number.to_bytes(32, "big"),
            KeptReply(
                project="default", route="chat", stored_ns=stored_ns, expires_ns=2**62, content_type=b"text/plain",
                body=body.encode() * 40,
            ),
        )  # fmt: skip
    cache.close()
    forward = SpoolWriter(house.home.forward / "elsewhere")
    forward.append_durable([encode_span(span) for span in make_chat(1, USER, SECRET)])
    forward.close()
    views = ViewService(house.rooms.engine)
    views.save(SavedView(name="one user", query=f'user:"{USER}"'), actor="admin")
    views.save(SavedView(name="failures", query="status:error"), actor="admin")
    (house.home.logs / "gateway-1.log").write_text(f'{{"user": "{USER}", "message": "slow"}}\n')


def house_call_ns(trace: int) -> int:
    return T0 + trace * 1_000_000_000 + 20_000_000


def test_after_an_erasure_no_file_holds_what_the_user_said_or_who_they_are(house: House) -> None:
    furnish(house)
    places = {line.partition(":")[0].partition("/")[0] for line in find_bytes(house.home.root, USER, SECRET)}
    assert places >= {"spans.duckdb.wal", "spool", "cache", "forward", "control.db-wal", "logs"}
    house.erase()
    assert find_bytes(house.home.root, USER, SECRET) == []


def test_what_belongs_to_others_stays(house: House) -> None:
    furnish(house)
    house.erase()
    left = house.store.get_trace(f"{2:032x}")
    assert [span.user_id for span in left] == ["otto@example.org", None]
    assert "moon" in str(house.store.get_payload(f"{2:032x}", f"{1:016x}").input)
    assert [view.name for view in ViewService(house.rooms.engine).list()] == ["failures"]
    cache = ResponseStore(house.home.cache)
    assert cache.n_entries() == 1
    cache.close()


def test_what_the_calls_cost_stays_in_the_ledger_and_leads_to_nobody(house: House) -> None:
    furnish(house)
    house.erase()
    rows = house.store.sum_costs(CostQuery(), by=["user"])
    assert {row.group["user"]: row.cost_usd for row in rows} == {
        "otto@example.org": Decimal("0.25"),
        None: Decimal("0.25"),
    }


def test_the_receipt_tells_what_was_removed_and_names_nobody(house: House) -> None:
    furnish(house)
    signed = house.upkeep.erasures.receipts.get(house.erase())
    receipt = read_content(signed.content)
    removed = {each.place: each.removed for each in receipt.places}
    assert removed["span store"]["traces"] == 1
    assert removed["span store"]["spans"] == 3  # the judgement's too
    assert removed["span store"]["ledger rows made anonymous"] == 1
    assert removed["response cache"]["replies"] == 1
    assert removed["saved views"]["views"] == 1
    assert removed["waiting to be sent on"]["records"] == 2
    assert removed["spool"]["records"] >= 3
    assert receipt.sweep.found == []
    assert receipt.sweep.n_files > 3
    assert receipt.reason == "ticket 4711"
    assert USER not in signed.content


def test_a_receipt_can_be_verified_and_a_changed_one_is_found_out(house: House) -> None:
    furnish(house)
    receipts = house.upkeep.erasures.receipts
    house.erase(Subject(kind="user", id="otto@example.org"))
    signed = receipts.get(house.erase())
    assert verify_alone(signed).is_good
    assert receipts.verify(signed, USER_SUBJECT).is_good
    assert receipts.verify(signed, Subject(kind="user", id="somebody")).problems == [
        "it is not about this user"
    ]
    forged = msgspec.structs.replace(signed, content=signed.content.replace("ticket 4711", "ticket 4712"))
    assert not verify_alone(forged).is_good
    assert not receipts.verify(forged).is_good


def test_a_receipt_that_was_changed_in_the_tables_breaks_the_chain_after_it(house: House) -> None:
    receipts = house.upkeep.erasures.receipts
    house.erase()
    second = receipts.get(house.erase(Subject(kind="session", id="talk-1")))
    assert receipts.verify(second).is_good
    with house.rooms.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE privacy_receipts SET content = replace(content, '4711', '1') WHERE number = 1"
        )
    assert receipts.verify(second).problems == ["it does not stand in this installation's chain of receipts"]


def test_late_spans_of_the_user_are_kept_out_and_counted_but_they_may_come_back(house: House) -> None:
    furnish(house)
    house.erase()
    house.take(
        *make_chat(7, USER, SECRET), make_span(5, trace=1, name="late step of an erased trace", input=SECRET)
    )
    house.upkeep.erasures.follow_late()
    assert house.store.get_trace(f"{7:032x}") == []
    assert house.store.get_trace(f"{1:032x}") == []
    assert house.counters.get("erased", "late spans of what was erased") == 2
    assert house.counters.get("dropped", "late spans of what was erased") == 0
    assert find_bytes(house.home.root, USER, SECRET) == []
    house.take(*make_chat(8, USER, "good morning", start_ns=2**62, end_ns=2**62 + 1))
    assert len(house.store.get_trace(f"{8:032x}")) == 2


def test_a_late_step_of_an_erased_trace_is_made_unreadable_where_it_was_acknowledged(house: House) -> None:
    furnish(house)
    house.erase()
    house.take(make_span(5, trace=1, input=SECRET))
    assert find_bytes(house.home.root, SECRET) != []
    house.upkeep.erasures.follow_late()
    assert find_bytes(house.home.root, SECRET) == []


def test_a_late_call_is_billed_once_and_to_nobody(house: House) -> None:
    furnish(house)
    house.erase()
    for _ in range(2):
        house.take(*make_chat(7, USER, SECRET), *make_chat(1, USER, SECRET))
        assert [(each.user_id, each.name) for each in house.store.get_trace(f"{7:032x}")] in (
            [(None, "llm")],
            [],
        )
        house.upkeep.erasures.follow_late()
    rows = house.store.sum_costs(CostQuery(), by=["user"])
    assert {row.group["user"]: (row.n_calls, row.cost_usd) for row in rows} == {
        "otto@example.org": (1, Decimal("0.25")),
        None: (2, Decimal("0.50")),
    }


def test_what_was_stored_of_a_trace_goes_when_a_late_span_shows_whose_it_is(house: House) -> None:
    house.erase()
    call, step = make_chat(3, USER, SECRET)
    house.take(step)
    assert len(house.store.get_trace(step.trace_id)) == 1
    house.take(call)
    assert house.upkeep.erasures.follow_late() == 2  # the step, and what the ledger needed of the call
    assert house.store.get_trace(step.trace_id) == []
    assert find_bytes(house.home.root, USER, SECRET) == []


def test_who_may_send_spans_cannot_have_the_traces_of_others_erased(house: House) -> None:
    house.erase()
    mark = {FOREIGN_MARK: 2}
    house.take(make_span(1, trace=70, project="a"), make_span(1, trace=71, user_id="somebody else"))
    for trace in (70, 71):
        house.take(make_span(9, trace=trace, project="default", user_id=USER, start_ns=T0, attributes=mark))
    assert house.upkeep.erasures.follow_late() == 0
    for trace in (70, 71):
        house.take(make_span(2, trace=trace, project="a" if trace == 70 else "default"))
        assert [span.span_id for span in house.store.get_trace(f"{trace:032x}")] == [f"{1:016x}", f"{2:016x}"]


def test_an_erasure_that_is_cut_off_is_carried_out_again_with_the_same_receipt(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(house)
    upkeep: Any = house.upkeep.erasures._upkeep
    real, failures = upkeep.compact, [SpanStoreBusy("busy")]

    def fail_once() -> Any:
        if failures:
            raise failures.pop()
        return real()

    monkeypatch.setattr(upkeep, "compact", fail_once)
    asked = house.upkeep.erasures.submit(USER_SUBJECT, reason="", actor="admin")
    assert house.upkeep.erasures.carry_out_waiting() == 0
    failed = house.upkeep.erasures.get(asked.id)
    assert (failed.state, failed.receipt) == ("waiting", None)
    assert failed.error is not None
    assert "busy" in failed.error
    assert house.upkeep.erasures.carry_out_waiting() == 1
    receipt = house.upkeep.erasures.receipts.list()[0]
    removed = {each.place: each.removed for each in receipt.places}
    assert removed["span store"]["spans"] == 3
    assert removed["response cache"]["replies"] == 1
    assert find_bytes(house.home.root, USER, SECRET) == []


def test_only_the_receipt_is_missing_after_a_crash_at_the_very_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(house)
    erasures: Any = house.upkeep.erasures
    with monkeypatch.context() as patch:
        patch.setattr(
            erasures.receipts, "write", lambda build: (_ for _ in ()).throw(SpanStoreBusy("killed here"))
        )
        asked = erasures.submit(USER_SUBJECT, reason="", actor="admin")
        assert erasures.carry_out_waiting() == 0
    assert erasures.carry_out_waiting() == 1
    assert erasures.get(asked.id).receipt == 1
    assert erasures.receipts.list()[0].sweep.skipped is not None
    assert find_bytes(house.home.root, USER, SECRET) == []


def test_a_session_and_a_trace_can_be_erased_too(house: House) -> None:
    house.take(*make_chat(1, USER, SECRET, session_id="talk-0815"), *make_chat(2, USER, "kept"))
    house.erase(Subject(kind="session", id="talk-0815"))
    assert find_bytes(house.home.root, SECRET, "talk-0815") == []
    house.erase(Subject(kind="trace", id=f"{2:032X}"))
    assert house.store.get_trace(f"{2:032x}") == []


def test_an_erasure_of_nobody_known_has_a_receipt_that_says_so(house: House) -> None:
    receipt = read_content(house.upkeep.erasures.receipts.get(house.erase()).content)
    assert {n for each in receipt.places for n in each.removed.values()} == {0}


@pytest.mark.parametrize(
    "subject",
    [Subject(kind="user", id=""), Subject(kind="trace", id="xyz"), Subject(kind="user", id="x" * 2000)],
)
def test_what_cannot_be_a_subject_is_refused(house: House, subject: Subject) -> None:
    with pytest.raises(BadSubject):
        house.upkeep.erasures.submit(subject, reason="", actor="admin")


def test_a_reason_that_names_the_subject_is_refused(house: House) -> None:
    with pytest.raises(PenstockError, match="names the user"):
        house.upkeep.erasures.submit(USER_SUBJECT, reason=f"{USER} wrote to us", actor="admin")
