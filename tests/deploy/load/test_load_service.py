"""Load tests as records: planned, agreed to, kept, listed, compared, deleted; on each database."""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from sqlalchemy import Engine

from penstock.deploy.load.errors import CostNotAgreed, InvalidLoadTest, LoadTestRunning, UnknownLoadTest
from penstock.deploy.load.mixes import Material
from penstock.deploy.load.ports import Ending, TargetFacts
from penstock.deploy.load.reports import to_html, to_markdown
from penstock.deploy.load.running import LoadRun, run_load
from penstock.deploy.load.service import LoadPorts, LoadTestService, read_spec
from penstock.deploy.load.types import LoadRecord, LoadSpec, MixClass, Shape
from penstock.store.blobs import BlobStore
from tests.deploy.load.virtual_time import Scripted, run_virtual

LOCAL = TargetFacts(is_known=True, is_hosted=False, prices=(0.0, 0.0), versions={"model:a": "model:a@1"})
HOSTED = TargetFacts(is_known=True, is_hosted=True, providers=("east",), prices=(1e-6, 2e-6))
UNPRICED = TargetFacts(is_known=True, is_hosted=True, providers=("west",))
SPEC = LoadSpec(route="a", shape=Shape(rate=4), seconds=10, mix=(MixClass(completion_tokens=(2, 20)),))


class Ports:
    """Targets, materials and jobs of the tests."""

    def __init__(self) -> None:
        self.targets: dict[str, TargetFacts] = {"a": LOCAL, "b": LOCAL, "east": HOSTED, "west": UNPRICED}
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.ended: Ending | None = None

    def describe(self, name: str) -> TargetFacts:
        return self.targets.get(name, TargetFacts(is_known=False, is_hosted=False))

    def suggest(self, name: str) -> str | None:
        return f"not {name}"

    def read(self, spec: LoadSpec) -> Mapping[str, Material]:
        return {one.name: Material(lengths=((50, 7),)) for one in spec.mix if one.source == "traffic"}

    def submit(self, test_id: str) -> str:
        self.submitted.append(test_id)
        return f"job_{len(self.submitted)}"

    def ending(self, _job_id: str) -> Ending | None:
        return self.ended

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def service(control_engine: Engine, tmp_path: Path, ports: Ports) -> LoadTestService:
    ticks = iter(range(1_000_000, 2_000_000))
    return LoadTestService(
        control_engine,
        LoadPorts(targets=ports, materials=ports, jobs=ports, blobs=BlobStore(str(tmp_path / "blobs"))),
        clock=lambda: next(ticks),
    )


def finish(service: LoadTestService, record: LoadRecord, **script: Any) -> LoadRecord:
    """What the job does, in virtual time."""

    async def make(clock: Callable[[], float]) -> LoadRun:
        return await run_load(record.spec, Scripted(clock, **script), clock=clock)

    run: LoadRun = run_virtual(make)
    lines = b"".join(msgspec.json.encode(sample) + b"\n" for sample in run.samples)
    digest = service.ports.blobs.put_bytes(zstandard.ZstdCompressor().compress(lines))
    return service.change(
        record.id,
        state="done",
        result=run.result,
        verdict=run.result.verdict.word,
        sentence=run.result.verdict.sentence,
        samples=digest,
        n_samples=len(run.samples),
    )


def test_a_test_is_kept_with_everything_it_found(service: LoadTestService, ports: Ports) -> None:
    record = service.start(SPEC, actor="ada")
    assert record.state == "queued"
    assert ports.submitted == [record.id]
    assert record.versions == {"model:a": "model:a@1"}
    done = finish(service, record)
    again = service.get(record.id)
    assert again == done
    assert again.result is not None
    assert again.result.targets[0].spreads["ttft"].p50 is not None
    lines = b"".join(service.read_samples(record.id)).splitlines()
    assert len(lines) == again.n_samples
    assert "messages" not in json.loads(lines[0])


def test_pages_go_on_where_the_last_one_ended(service: LoadTestService) -> None:
    ids = [service.start(msgspec.structs.replace(SPEC, name=f"n{n}"), actor="ada").id for n in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = service.list(limit=2, cursor=cursor)
        seen += [row.id for row in page.rows]
        assert page.n_matching == 5
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ids[::-1]
    assert service.list(route="b").rows == []


def test_hosted_calls_need_somebody_who_agrees_or_a_cap(service: LoadTestService) -> None:
    spec = msgspec.structs.replace(SPEC, route="east")
    assert service.plan(spec).must_confirm
    with pytest.raises(CostNotAgreed, match="east"):
        service.start(spec, actor="ada")
    assert service.start(spec, actor="ada", is_agreed=True).state == "queued"
    assert (
        service.start(msgspec.structs.replace(spec, max_cost_usd=Decimal(1)), actor="ada").state == "queued"
    )


def test_a_cap_that_cannot_be_kept_is_refused(service: LoadTestService) -> None:
    spec = msgspec.structs.replace(SPEC, route="west", max_cost_usd=Decimal(1))
    assert service.plan(spec).cost_usd is None
    with pytest.raises(InvalidLoadTest, match="unknown"):
        service.start(spec, actor="ada")


def test_a_plan_tells_calls_tokens_and_cost_at_most(service: LoadTestService) -> None:
    plan = service.plan(
        LoadSpec(
            route="east",
            shape=Shape(kind="constant", rate=2),
            seconds=50,
            warmup=0,
            mix=(MixClass(prompt_tokens=100, completion_tokens=50),),
            limits=("ttft.p99 <= 1s",),
        )
    )
    assert (plan.n_calls, plan.seconds) == (100, 50)
    assert plan.cost_usd == pytest.approx(1.1 * 100 * (100 * 1e-6 + 50 * 2e-6))
    assert any("368" in note for note in plan.notes)


def test_an_unknown_route_is_refused_with_what_is_near(service: LoadTestService) -> None:
    with pytest.raises(InvalidLoadTest) as caught:
        service.start(msgspec.structs.replace(SPEC, route="aa"), actor="ada")
    assert caught.value.hint == "not aa"


def test_a_job_that_died_without_a_word_ends_the_test(service: LoadTestService, ports: Ports) -> None:
    record = service.start(SPEC, actor="ada")
    ports.ended = ("failed", "the worker died")
    assert service.list().rows[0].state == "failed"
    assert service.get(record.id).sentence == "the worker died"


def test_the_calls_of_a_test_that_has_not_ended_are_unknown(service: LoadTestService) -> None:
    service.start(SPEC, actor="ada")
    (row,) = service.list().rows
    assert row.n_calls is None


def test_a_report_says_that_counts_of_engines_that_ended_are_missing(service: LoadTestService) -> None:
    record = finish(service, service.start(SPEC, actor="ada"))
    assert record.result is not None
    gone = {"models": [], "gone": [{"name": "p", "version": "model:p@1"}]}
    told = msgspec.structs.replace(record, result=msgspec.structs.replace(record.result, engine=gone))
    assert "Engines ended during the test (model:p@1)" in to_markdown(told)
    assert "Engines ended" not in to_markdown(record)


def test_what_runs_is_not_deleted_and_what_is_stopped_is_cancelled(
    service: LoadTestService, ports: Ports
) -> None:
    record = service.start(SPEC, actor="ada")
    with pytest.raises(LoadTestRunning):
        service.delete(record.id)
    assert service.stop(record.id).state == "stopped"
    assert ports.cancelled == ["job_1"]
    service.delete(record.id)
    with pytest.raises(UnknownLoadTest):
        service.get(record.id)


def test_deleting_takes_the_calls_along(service: LoadTestService) -> None:
    done = finish(service, service.start(SPEC, actor="ada"))
    assert done.samples is not None
    assert service.ports.blobs.exists(done.samples)
    service.delete(done.id)
    assert not service.ports.blobs.exists(done.samples)


def test_two_tests_side_by_side_say_which_figures_are_apart(service: LoadTestService) -> None:
    first = finish(service, service.start(SPEC, actor="ada"))
    second = finish(service, service.start(SPEC, actor="ada"), slower={"a": 2.0})
    sides = service.compare(first.id, second.id)
    row = next(each for each in sides.rows if each.measure == "ttft.p50")
    assert row.ratio == pytest.approx(2.0)
    assert row.is_apart
    assert "two runs" in sides.notes[0]
    with pytest.raises(InvalidLoadTest):
        service.compare(first.id, service.start(SPEC, actor="ada").id)


def test_a_file_with_an_unknown_member_is_refused_by_name() -> None:
    with pytest.raises(InvalidLoadTest, match="ratee"):
        read_spec({"route": "a", "shape": {"ratee": 3}})
    assert read_spec({"route": "a", "mix": [{"prompt_tokens": [5, 9]}]}).mix[0].prompt_tokens == (5, 9)


def test_reports_hold_no_markup_from_names_and_need_nothing_else(service: LoadTestService) -> None:
    spec = msgspec.structs.replace(
        SPEC,
        name="<script>alert(1)</script> | x",
        against="b",
        pairs=2,
        limits=("ttft.p50 <= 1.5x", "e2e <= 9s"),
    )
    done = finish(service, service.start(spec, actor="ada"))
    html, text = to_html(done), to_markdown(done)
    assert "<script>" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert html.count("<svg") == 5
    assert "<script>" not in text
    assert "| ttft.p50 <= 1.5x |".replace("<", "&lt;") in text
    assert "Open loop" in text
