"""Health of the record: losses stand first, everything that was not kept is counted, nothing is hidden."""

import html

from penstock.console.pages.record import GROUPS, build_figures, build_groups, find_problems, say_upkeep
from penstock.telemetry.counters import LATE_OF_ERASED, CollectorHealth, ForwardHealth, RecordHealth
from penstock.traces.upkeep.retention import Ages, RetentionPolicy, RetentionRun, RetentionState
from penstock.traces.upkeep.service import UpkeepReport
from tests.console.conftest import make_app, sign_in
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished


def test_every_group_of_counters_has_its_place() -> None:
    health = RecordHealth(since_ns=0, counts={group: {"x": 2} for group, _, _ in GROUPS})
    assert [card.title for card in build_groups(health.counts)] == [title for _, title, _ in GROUPS]
    figures = {figure.name: figure for figure in build_figures(health)}
    assert (figures["Lost"].value, figures["Lost"].is_bad) == ("2", True)
    assert figures["Turned away"].value == "4"


def test_what_an_erasure_keeps_out_is_no_loss() -> None:
    health = RecordHealth(since_ns=0, counts={"erased": {LATE_OF_ERASED: 4}})
    figures = {figure.name: figure for figure in build_figures(health)}
    assert (figures["Lost"].value, figures["Lost"].is_bad) == ("0", False)
    (card,) = build_groups(health.counts)
    assert (card.title, card.total, card.is_bad) == ("Kept out", 4, False)


def test_what_stops_storing_or_sending_on_is_a_problem() -> None:
    health = RecordHealth(
        since_ns=0,
        counts={},
        collector=CollectorHealth(last_error="the disk is full"),
        forwards=(ForwardHealth(name="far", url="https://far.example", last_error="503"),),
        grpc_problem="port 4317 is taken",
    )
    assert find_problems(health) == (
        ("Storing", "the disk is full"),
        ("OTLP over gRPC", "port 4317 is taken"),
        ("Sending on to far", "503"),
    )


def test_the_page_shows_names_escaped_and_leads_to_the_spans(furnished: Furnished) -> None:
    health = RecordHealth(
        since_ns=0,
        counts={
            "unmapped": {"my.attribute": 7, "<script>": 1},
            "dropped": {"disk full": 3},
            "taken": {"traces http": 12},
        },
        gaps=((1_000_000_000, 2_000_000_000),),
    )
    services = furnished.services
    object.__setattr__(services.ingest, "record_health", lambda: health)
    client = sign_in(AsgiClient(make_app(furnished)), furnished.owner_key)
    reply = client.get("/record")
    assert reply.status == 200
    assert "<script>" not in reply.text.partition("<main")[2]
    text = html.unescape(reply.text)
    assert text.index("disk full") < text.index("traces http") < text.index("my.attribute")
    assert "has%3Aattr.%22my.attribute%22" in text
    assert "Nothing under: Refused" in text
    assert "Control was killed once; the last seconds of counting" in text


def test_how_long_what_is_kept_is_told_by_project() -> None:
    run = RetentionRun(
        started_ns=0, finished_ns=0, n_payloads=7, n_spans=2, n_traces=1, is_done=False, error="no room"
    )
    report = UpkeepReport(
        policy=RetentionPolicy(usual=Ages(payload_days=30), projects={"lab": Ages()}),
        retention=RetentionState(last=run, n_runs=1, n_payloads=7, n_spans=2),
        store_bytes=2_000_000,
        n_waiting_erasures=0,
        n_tombstones=3,
        n_late_dropped=4,
    )
    told = dict(say_upkeep(report, 60_000_000_000))
    assert told["kept"] == "payloads 30 days, spans for good"
    assert told["kept of lab"] == "everything, for good"
    assert told["last look at ages"] == "1 min ago: 2 spans, 7 payloads went, stopped before the end"
    assert (told["it failed"], told["span store"]) == ("no room", "2.0 MB")


def test_on_the_first_day_the_page_says_what_fills_it(unfurnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(unfurnished)), unfurnished.owner_key)
    assert "penstock demo" in client.get("/record").text
