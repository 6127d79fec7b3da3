"""Retention, erasure, compaction and backup of the span file, while others write and read."""

import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from penstock.base.errors import InvalidInput
from penstock.spec.scores import SpanScore
from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent
from penstock.store.spans import duckdb_file
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.errors import SpanStoreBusy, SpanStoreFailed
from penstock.store.spans.ledger_types import CostQuery
from penstock.store.spans.types import ScoreQuery, TraceQuery
from penstock.store.spans.upkeep import DuckDBScan, DuckDBUpkeep
from penstock.store.spans.upkeep_types import RetentionRule, Subject
from tests.fixtures.spans import T0, make_call_trace, make_span

S = 1_000_000_000
SECRET = "the otter sleeps at seven"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb", threads=1)
    yield opened
    opened.close()


@pytest.fixture
def upkeep(store: DuckDBSpanStore) -> DuckDBUpkeep:
    return DuckDBUpkeep(store.file)


def ids(store: DuckDBSpanStore) -> list[int]:
    return sorted(int(row.trace_id, 16) for row in store.list_traces(TraceQuery(limit=1000)).rows)


def billed(number: int, trace: int, **fields: object) -> Span:
    return make_span(
        number,
        trace=trace,
        **{
            "kind": "llm",
            "service": "gateway",
            "cost_usd": Decimal("0.5"),
            "cost_source": "settings",
            **fields,
        },
    )


def score(trace: int, number: int, by: int, **fields: object) -> Span:
    """Return a judgement of span `number` that arrives as span `by` of the same trace."""
    judgement = SpanScore(name="helpful", value=1.0, time_ns=T0, span_id=f"{number:016x}", **fields)  # type: ignore[arg-type]
    return make_span(by, trace=trace, parent_id=f"{number:016x}", kind="evaluation", scores=[judgement])


def test_old_traces_go_as_a_whole_and_what_they_cost_stays(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep
) -> None:
    store.append([span for trace in range(1, 8) for span in make_call_trace(trace)])
    store.append([billed(9, 3), score(3, 1, 10), make_span(11, trace=2, start_ns=T0 + 100 * S)])
    rules = [RetentionRule(spans_before_ns=T0 + 5 * S)]
    done = upkeep.expire(rules)
    assert (done.n_traces, done.n_spans, done.is_done) == (3, 17, True)
    assert ids(store) == [2, 5, 6, 7], "a trace with one young span stays whole"
    assert len(store.get_trace(f"{2:032x}")) == 6
    assert store.list_scores(ScoreQuery()) == []
    assert store.sum_costs(CostQuery(), [])[0].cost_usd == Decimal("0.5")
    assert upkeep.expire(rules).n_traces == 0


def test_retention_goes_in_small_steps_until_it_is_done(store: DuckDBSpanStore, upkeep: DuckDBUpkeep) -> None:
    store.append([span for trace in range(1, 11) for span in make_call_trace(trace)])
    rules = [RetentionRule(spans_before_ns=T0 + 9 * S, payloads_before_ns=T0 + 100 * S)]
    steps = [upkeep.expire(rules, max_spans=12)]
    while not steps[-1].is_done:
        steps.append(upkeep.expire(rules, max_spans=12))
    assert len(steps) > 2
    assert max(step.n_spans for step in steps) < 12 + 5
    assert ids(store) == [9, 10]
    assert store.get_payload(f"{9:032x}", f"{1:016x}").dropped


def test_payloads_go_earlier_than_their_spans_with_every_trace_of_their_text(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep
) -> None:
    store.append([*make_call_trace(1, answer=SECRET), *make_call_trace(50, answer=SECRET)])
    assert upkeep.expire([RetentionRule(payloads_before_ns=T0 + 10 * S)]).n_payloads == 3
    old, young = store.get_payload(f"{1:032x}", f"{1:016x}"), store.get_payload(f"{50:032x}", f"{1:016x}")
    assert (old.input, old.output, old.dropped) == (None, None, True)
    assert (young.output is not None, young.dropped) == (True, False)
    summary = store.get_summary(f"{1:032x}")
    assert summary is not None
    assert (summary.preview, summary.n_spans, summary.cost_usd) == (None, 5, Decimal("0.000124456789012345"))
    with store.file.cursor() as cursor:
        texts = cursor.execute(
            "SELECT search_text FROM spans WHERE contains(search_text, 'otter')"
        ).fetchall()
    assert len(texts) == 2, "only the young trace is found by its text"
    store.append(make_call_trace(1, answer=SECRET))
    assert store.get_payload(f"{1:032x}", f"{1:016x}").dropped, "the same record again brings nothing back"


def test_with_payloads_go_all_texts_that_say_the_same(store: DuckDBSpanStore, upkeep: DuckDBUpkeep) -> None:
    asked = SpanEvent(name="gen_ai.user.message", time_ns=T0 + 7, attributes={"content": SECRET})
    raised = SpanEvent(name="attributes", time_ns=T0, attributes={"exception.message": SECRET})
    tried = SpanEvent(name="attempt failed", time_ns=T0, attributes={"provider": "p", "reason": SECRET})
    mark = {FOREIGN_MARK: 2}
    failed = {"status": "error", "error_code": "E", "status_message": SECRET}
    spans = [
        make_span(1, input=SECRET, events=[asked, raised], attributes=mark, **failed),
        make_span(2, parent_id=f"{1:016x}", events=[asked], attributes=mark),
        make_span(3, parent_id=f"{1:016x}", service="gateway", events=[tried], **failed),
        score(1, 1, 4, comment=SECRET, evidence={"quote": SECRET}),
        make_span(
            5,
            parent_id=f"{1:016x}",
            attributes={**mark, "kept": 0.1},
            events=[SpanEvent(name="e", time_ns=1)],
        ),
    ]
    later = {"start_ns": T0 + 100 * S, "end_ns": T0 + 101 * S}
    young = make_span(6, trace=2, events=[asked], attributes=mark, **later, **failed)
    store.append([*spans, young])
    rule = RetentionRule(payloads_before_ns=T0 + 50 * S)
    assert upkeep.expire([rule]).n_payloads == 4
    assert upkeep.expire([rule]).n_payloads == 0, "what has nothing left is not looked at again"
    stored = {span.span_id: span for span in store.get_trace(f"{1:032x}")}
    assert SECRET.encode() not in msgspec.json.encode(list(stored.values()))
    first = stored[f"{1:016x}"]
    assert (first.status, first.error_code, first.status_message) == ("error", "E", None)
    bare = [(event.name, event.time_ns, event.attributes) for event in first.events]
    assert bare == [("gen_ai.user.message", T0 + 7, {}), ("attributes", T0, {})]
    assert stored[f"{3:016x}"].events[0].attributes == {"provider": "p"}
    assert stored[f"{5:016x}"] == spans[4]
    (judged,) = store.list_scores(ScoreQuery())
    assert (judged.name, judged.value, judged.comment) == ("helpful", 1.0, None)
    assert judged.evidence == {}
    assert store.get_trace(f"{2:032x}") == [young]


def test_each_project_keeps_its_record_as_long_as_its_own_rule_says(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep
) -> None:
    for trace, project in enumerate(("default", "lab", "hr"), start=1):
        store.append([make_span(1, trace=trace, project=project, input="q", output="a")])
    done = upkeep.expire(
        [
            RetentionRule(project="lab", spans_before_ns=T0 + 90 * S),
            RetentionRule(project="hr", payloads_before_ns=T0 + 90 * S),
            RetentionRule(spans_before_ns=T0),
        ]
    )
    assert (done.n_traces, done.n_payloads) == (1, 1)
    assert ids(store) == [1, 3]
    assert store.get_payload(f"{3:032x}", f"{1:016x}").dropped
    assert not store.get_payload(f"{1:032x}", f"{1:016x}").dropped


def test_after_erasing_and_compaction_not_a_byte_of_a_user_is_left_and_the_rest_is_as_it_was(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep, tmp_path: Path
) -> None:
    name = "ann-the-customer"
    for trace in range(1, 40):
        store.append(make_call_trace(trace))
    mine = [
        billed(
            1,
            100,
            user_id=name,
            session_id="s-secret",
            input=SECRET,
            output=SECRET,
            attributes={"note": SECRET},
        ),
        make_span(2, trace=100, parent_id=f"{1:016x}", name=f"answer {SECRET}", kind="tool", input=SECRET),
        make_span(1, trace=101, session_id="s-other"),
        make_span(2, trace=101, user_id=name, tags=["otter"]),
    ]
    store.append(mine)
    store.append([score(5, 1, 90, scorer=name, comment=SECRET), score(6, 1, 91, scorer="bob")])
    store.append(
        [
            make_span(
                92,
                trace=7,
                kind="evaluation",
                scores=[SpanScore(name="x", value=0, time_ns=1, trace_id=f"{100:032x}")],
            )
        ]
    )
    found = upkeep.find_subject(Subject(kind="user", id=name))
    assert (len(found.trace_ids), found.n_spans, found.n_payloads, found.n_scores, found.n_ledger_rows) == (
        2,
        6,
        2,
        2,
        1,
    )
    assert upkeep.erase(Subject(kind="user", id=name)) == found
    assert ids(store) == list(range(1, 40))
    judged = {int(row.trace_id, 16): row.has_scores for row in store.list_traces(TraceQuery(limit=99)).rows}
    assert [trace for trace, has in judged.items() if has] == [6]
    assert [len(store.get_trace(f"{trace:032x}")) for trace in (5, 6, 7)] == [5, 6, 5]
    assert store.sum_costs(CostQuery(), ["user", "session"])[0].group == {"user": None, "session": None}
    assert store.sum_costs(CostQuery(), [])[0].cost_usd == Decimal("0.5")
    before = [store.get_trace(f"{trace:032x}") for trace in range(1, 40)]
    done = upkeep.compact()
    assert done.n_spans == 39 * 5 + 1
    assert [store.get_trace(f"{trace:032x}") for trace in range(1, 40)] == before
    assert store.get_payload(f"{9:032x}", f"{1:016x}").output is not None
    with store.file.paused_writes() as cursor:
        cursor.execute("CHECKPOINT").fetchall()
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for text in (name, SECRET, "s-secret", "otter"):
            assert text.encode() not in content, f"{text} in {path.name}"
    assert upkeep.find_subject(Subject(kind="user", id=name)).n_spans == 0
    assert store.append(make_call_trace(200)) == 5


@pytest.mark.parametrize(
    ("subject", "left"),
    [
        (Subject(kind="session", id="s1"), [2, 3]),
        (Subject(kind="trace", id=f"{2:032x}"), [1, 3]),
        (Subject(kind="trace", id="no id"), [1, 2, 3]),
        (Subject(kind="user", id="' OR 1=1 --"), [1, 2, 3]),
    ],
)
def test_a_session_or_a_single_trace_can_be_erased_alone(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep, subject: Subject, left: list[int]
) -> None:
    store.append([make_span(1, trace=trace, session_id=f"s{trace}", user_id="u") for trace in (1, 2, 3)])
    upkeep.erase(subject)
    assert ids(store) == left


def test_compaction_puts_late_spans_in_order_and_keeps_every_table(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.store.spans.upkeep.SLICE_ROWS", 7)
    for trace in (5, 2, 9, 1, 7):
        store.append([*make_call_trace(trace), billed(9, trace), score(trace, 1, 20)])
    store.append([make_span(1, trace=99, start_ns=0), make_span(2, trace=98, start_ns=2**63 - 2)])
    costs, scores = store.sum_costs(CostQuery(), []), store.list_scores(ScoreQuery())
    rows = store.list_traces(TraceQuery())
    upkeep.compact()
    upkeep.compact()
    assert store.list_traces(TraceQuery()) == rows
    assert (store.sum_costs(CostQuery(), []), store.list_scores(ScoreQuery())) == (costs, scores)
    with store.file.cursor() as cursor:
        starts = [row[0] for row in cursor.execute("SELECT start_ns FROM spans ORDER BY rowid").fetchall()]
    assert starts == sorted(starts)


def test_readers_and_writers_go_on_while_the_file_is_written_anew(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep
) -> None:
    store.append(make_call_trace(1))
    stop, faults, n_reads = threading.Event(), list[BaseException](), [0]

    def read() -> None:
        try:
            while not stop.is_set():
                assert len(store.get_trace(f"{1:032x}")) == 5
                n_reads[0] += 1
        except BaseException as error:
            faults.append(error)

    def write() -> None:
        try:
            for trace in range(2, 30):
                store.append(make_call_trace(trace))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=read), threading.Thread(target=read), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        upkeep.compact()
    threads[2].join()
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert n_reads[0] > 0
    assert ids(store) == list(range(1, 30))


def test_a_reader_that_never_ends_keeps_the_old_file_and_says_so(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_file, "SWAP_WAIT_S", 0.05)
    store.append(make_call_trace(1))
    with store.file.cursor(), pytest.raises(SpanStoreBusy):
        upkeep.compact()
    assert ids(store) == [1]
    upkeep.compact()
    assert store.append(make_call_trace(2)) == 5


def test_a_rebuild_that_fails_or_was_killed_leaves_the_old_file(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.append(make_call_trace(1))

    def fail(cursor: object, schema: str) -> None:
        raise RuntimeError("stopped half way")

    with pytest.raises(RuntimeError):
        store.file.rebuild(fail)
    assert sorted(path.name for path in tmp_path.iterdir() if "fresh" in path.name) == []
    left = tmp_path / "spans.duckdb.fresh" / "spans.duckdb"
    left.parent.mkdir()
    left.write_bytes(b"half a file")
    upkeep.compact()
    assert len(store.get_trace(f"{1:032x}")) == 5
    left.parent.mkdir()
    left.write_bytes(b"half a file")
    store.close()
    store.file = DuckDBSpanStore(tmp_path / "spans.duckdb").file
    assert not left.parent.exists()
    assert ids(store) == [1]
    monkeypatch.setattr(duckdb_file, "MIN_ROOM", 2**60)
    with pytest.raises(SpanStoreFailed, match="free"):
        upkeep.compact()


def test_a_backup_is_a_store_of_that_moment_and_never_overwrites(
    store: DuckDBSpanStore, upkeep: DuckDBUpkeep, tmp_path: Path
) -> None:
    store.append([span for trace in range(1, 20) for span in make_call_trace(trace)])
    target = tmp_path / "copies" / "monday.duckdb"
    target.parent.mkdir()
    size = upkeep.back_up(target)
    store.append(make_call_trace(30))
    with pytest.raises(InvalidInput):
        upkeep.back_up(target)
    with pytest.raises(OSError, match="nowhere"):
        upkeep.back_up(tmp_path / "nowhere" / "x.duckdb")
    assert [path.name for path in target.parent.iterdir()] == ["monday.duckdb"]
    assert target.stat().st_size == size
    copy = DuckDBSpanStore(target, read_only=True)
    assert ids(copy) == list(range(1, 20))
    copy.close()


def test_spans_that_an_older_mapping_read_are_found_in_pages(store: DuckDBSpanStore) -> None:
    foreign = [
        make_span(
            number, trace=1 + number % 3, start_ns=T0 + number // 4, attributes={FOREIGN_MARK: 1 + number % 2}
        )
        for number in range(1, 20)
    ]
    store.append([*foreign, make_span(30), make_span(31, attributes={"x": FOREIGN_MARK})])
    scan, found, after = DuckDBScan(store.file), [], None
    while True:
        page, after = scan.scan_foreign(2, after, limit=3)
        found += page
        if after is None:
            break
    expected = [span for span in foreign if span.attributes[FOREIGN_MARK] == 1]
    assert sorted(found, key=lambda span: span.span_id) == sorted(expected, key=lambda span: span.span_id)
    changed = [
        msgspec.structs.replace(span, name="read anew", attributes={FOREIGN_MARK: 2}) for span in found
    ]
    assert store.rewrite(changed) == 0
    assert scan.scan_foreign(2, None, limit=100) == ([], None)


def test_rewriting_keeps_the_payload_that_it_does_not_bring(store: DuckDBSpanStore) -> None:
    store.append([make_span(1, kind="internal", input="asked", output="answered", status="ok")])
    assert store.rewrite([make_span(1, kind="llm", model="m", status="unset", end_ns=None)]) == 0
    (span,) = store.get_trace(f"{1:032x}")
    payload = store.get_payload(f"{1:032x}", span.span_id)
    assert (span.kind, span.model, span.end_ns) == ("llm", "m", None)
    assert (payload.input, payload.output) == ("asked", "answered")
    store.rewrite([make_span(1, output="better"), make_span(2, trace=2)])
    payload = store.get_payload(f"{1:032x}", span.span_id)
    assert (payload.input, payload.output) == ("asked", "better")
    assert ids(store) == [1, 2]
    summary = store.get_summary(f"{1:032x}")
    assert summary is not None
    assert (summary.preview, summary.n_spans) == ("asked", 1)


def test_rows_that_a_killed_process_put_aside_are_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "spans.duckdb"
    DuckDBSpanStore(path, threads=1).close()
    aside = tmp_path / "spans.duckdb.tmp"
    aside.mkdir()
    (aside / "duckdb_temp_storage-0.tmp").write_text(SECRET)
    DuckDBSpanStore(path, read_only=True).close()
    assert aside.exists()
    DuckDBSpanStore(path, threads=1).close()
    assert not aside.exists()
