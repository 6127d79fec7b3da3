"""Load tests: the list, the form that plans and starts one, the report, and two reports side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import (
    CallerError,
    ConflictError,
    InvalidInput,
    PenstockError,
    PolicyError,
)
from penstock.base.offered import require
from penstock.console.links import link
from penstock.console.load_charts import CallScatter, CountChart, draw_calls, draw_counts, draw_seconds
from penstock.console.plots import Plot
from penstock.console.queries import SearchProblem, tell_problem
from penstock.console.rendering import Page, Renderer, UnavailablePage
from penstock.console.services import ConsoleServices
from penstock.deploy.load.reports import (
    COMPARISON_HEAD,
    GROUP_HEAD,
    STAGE_HEAD,
    TIME_HEAD,
    TIME_NAMES,
    comparison_rows,
    group_row,
    rate_lines,
    stage_rows,
    time_rows,
    with_interval,
)
from penstock.deploy.load.service import LoadTestService, read_spec, tell_shape
from penstock.deploy.load.types import (
    FINAL_STATES,
    LoadPlan,
    LoadRecord,
    LoadResult,
    LoadState,
    LoadSummary,
    VerdictWord,
)

ACTIVE = "/load-tests"
PAGE_SIZE = 50
STATES: tuple[str, ...] = get_args(LoadState)
VERDICTS: tuple[str, ...] = get_args(VerdictWord)
EXAMPLE = 'penstock loadtest handbook --rate 2 --seconds 60 --limit "ttft.p95 <= 800ms"'
SHAPES = ("poisson", "constant", "burst", "ramp", "closed")


@dataclass(frozen=True, kw_only=True)
class LoadTestsPage(Page):
    """All load tests."""

    template: ClassVar[str] = "load_tests.html"
    rows: tuple[LoadSummary, ...]
    n_matching: int
    filters: Mapping[str, str]
    states: tuple[str, ...] = STATES
    verdicts: tuple[str, ...] = VERDICTS
    is_narrowed: bool
    first_href: str | None
    next_href: str | None
    example: str = EXAMPLE


@dataclass(frozen=True, kw_only=True)
class NewLoadTestPage(Page):
    """The form that plans and starts one."""

    template: ClassVar[str] = "load_test_new.html"
    values: Mapping[str, str]
    routes: tuple[str, ...]
    shapes: tuple[str, ...] = SHAPES
    problem: SearchProblem | None = None
    plan: LoadPlan | None = None


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """A table of the report; the first column is words."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...] = ()
    """Sentences above it."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a test found, ready to be read."""

    tables: tuple[ReportTable, ...]
    counts: tuple[CountChart, ...]
    seconds: tuple[Plot, ...]
    scatter: CallScatter | None
    effects: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LoadTestPage(Page):
    """One load test."""

    template: ClassVar[str] = "load_test.html"
    record: LoadRecord
    shape: str
    is_final: bool
    report: LoadReport | None


@dataclass(frozen=True, kw_only=True)
class LoadComparedPage(Page):
    """Two load tests."""

    template: ClassVar[str] = "load_compare.html"
    first: LoadRecord
    second: LoadRecord
    rows: tuple[tuple[str, str, str, str, bool], ...]
    """Measure, first, second, ratio, whether their intervals do not meet."""
    notes: tuple[str, ...]


def load_tests_of(services: ConsoleServices) -> LoadTestService:
    """Return the service; raise `NotFound` where none are run."""
    return require(services.load_tests, "Load tests are not run here.")


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/load-tests` and below."""
    router = APIRouter(include_in_schema=False)
    _add_list(router, services, renderer)
    _add_form(router, services, renderer)
    _add_one(router, services, renderer)
    return router


def _add_list(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(ACTIVE)
    @needs(Permission.DEPLOYMENTS_READ)
    def list_tests(request: Request) -> Response:
        if services.load_tests is None:
            frame = renderer.frame(request, "Load tests", ACTIVE)
            return renderer.show(UnavailablePage(frame=frame, reason="Load tests are not run here."))
        params = request.query_params
        filters = {name: params.get(name, "").strip() for name in ("route", "state", "verdict")}
        found = load_tests_of(services).list(
            route=filters["route"] or None,
            state=filters["state"] or None,
            verdict=filters["verdict"] or None,
            cursor=params.get("cursor") or None,
            limit=PAGE_SIZE,
        )
        page = LoadTestsPage(
            frame=renderer.frame(request, "Load tests", ACTIVE, notice=params.get("notice")),
            rows=tuple(found.rows),
            n_matching=found.n_matching,
            filters=filters,
            is_narrowed=any(filters.values()),
            first_href=link(ACTIVE, filters) if params.get("cursor") else None,
            next_href=link(ACTIVE, filters, cursor=found.next_cursor) if found.next_cursor else None,
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/compare")
    @needs(Permission.DEPLOYMENTS_READ)
    def compare(request: Request) -> Response:
        ids = list(dict.fromkeys(request.query_params.getlist("ids")))
        if len(ids) != 2:
            raise InvalidInput("Choose two load tests to compare.")
        tests = load_tests_of(services)
        first, second = sorted((tests.get(each) for each in ids), key=lambda each: each.created_ns)
        found = tests.compare(first.id, second.id)
        page = LoadComparedPage(
            frame=renderer.frame(request, "Two load tests", ACTIVE),
            first=first,
            second=second,
            rows=tuple(
                (
                    _name_measure(row.measure),
                    with_interval(row.first, row.unit),
                    with_interval(row.second, row.unit),
                    "–" if row.ratio is None else f"{row.ratio:.2f}×",
                    row.is_apart,
                )
                for row in found.rows
            ),
            notes=found.notes,
        )
        return renderer.show(page)


def _add_form(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    def show_form(
        request: Request,
        values: Mapping[str, str],
        *,
        problem: PenstockError | None = None,
        plan: LoadPlan | None = None,
    ) -> Response:
        snapshot = services.read_snapshot()
        page = NewLoadTestPage(
            frame=renderer.frame(request, "New load test", ACTIVE),
            values=values,
            routes=tuple(route.name for route in snapshot.routes if route.kind == "chat") if snapshot else (),
            problem=None if problem is None else tell_problem(problem),
            plan=plan,
        )
        return renderer.show(page, status=problem.status if problem else 200)

    @router.get(f"{ACTIVE}/new")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def begin(request: Request) -> Response:
        given = {"rate": "2", "seconds": "30", "shape": "poisson", "prompt": "100", "completion": "64"}
        return show_form(request, {**given, **request.query_params})

    @router.post(f"{ACTIVE}/new")
    @needs(Permission.DEPLOYMENTS_WRITE, Permission.MODELS_CALL)
    def take(request: Request) -> Response:
        caller: Caller = request.state.caller
        tests = load_tests_of(services)
        try:
            spec = read_spec(read_form(caller.form))
            if caller.form.get("step") != "start":
                return show_form(request, caller.form, plan=tests.plan(spec))
            is_agreed = bool(caller.form.get("agreed"))
            record = tests.start(spec, actor=actor_of(caller), is_agreed=is_agreed)
        except (CallerError, ConflictError, PolicyError) as error:
            return show_form(request, caller.form, problem=error)
        return RedirectResponse(f"{ACTIVE}/{record.id}", status_code=303)


def read_form(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the specification that a form says, as a file would say it; what is empty keeps its default."""
    given = {name: text.strip() for name, text in form.items() if text.strip()}
    shape: dict[str, Any] = {"kind": given.get("shape", "poisson")}
    if shape["kind"] == "closed":
        shape["concurrency"] = given.get("concurrency", "1")
    else:
        shape["rate"] = given.get("rate", "1")
    if shape["kind"] == "ramp" and "to_rate" in given:
        shape["to_rate"] = given["to_rate"]
    mix: dict[str, Any] = {}
    for name, key in (("prompt", "prompt_tokens"), ("completion", "completion_tokens")):
        if name in given:
            mix[key] = _read_length(given[name])
    if "source" in given:
        mix["source"] = given["source"]
    spec: dict[str, Any] = {"route": given.get("route", ""), "shape": shape, "mix": [mix]}
    for name in ("against", "seconds", "requests", "name", "max_cost_usd"):
        if name in given:
            spec[name] = given[name]
    limits = [each.strip() for each in given.get("limits", "").replace("\r", "").split("\n") if each.strip()]
    if limits:
        spec["limits"] = limits
    return spec


def _read_length(text: str) -> Any:
    low, dash, high = text.replace("–", "-").partition("-")
    return [low.strip(), high.strip()] if dash else text


def _add_one(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(f"{ACTIVE}/{{test_id}}")
    @needs(Permission.DEPLOYMENTS_READ)
    def show(request: Request, test_id: str, notice: str | None = None) -> Response:
        record = load_tests_of(services).get(test_id)
        page = LoadTestPage(
            frame=renderer.frame(request, record.name, ACTIVE, notice=notice),
            record=record,
            shape=tell_shape(record.spec),
            is_final=record.state in FINAL_STATES,
            report=None if record.result is None else build_report(record, record.result),
        )
        return renderer.show(page)

    @router.post(f"{ACTIVE}/{{test_id}}/stop")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def stop(test_id: str) -> Response:
        load_tests_of(services).stop(test_id)
        return _back(test_id, "It stops when the calls under way have ended; what it measured is kept.")

    @router.post(f"{ACTIVE}/{{test_id}}/delete")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def delete(test_id: str) -> Response:
        try:
            load_tests_of(services).delete(test_id)
        except PenstockError as error:
            return _back(test_id, f"{error.message} {error.hint or ''}".strip())
        return RedirectResponse(link(ACTIVE, {"notice": "Deleted, with its calls."}), status_code=303)


def _back(test_id: str, notice: str) -> Response:
    return RedirectResponse(link(f"{ACTIVE}/{test_id}", {"notice": notice}), status_code=303)


def build_report(record: LoadRecord, result: LoadResult) -> LoadReport:
    """Return what a test found as tables, charts and sentences."""
    charts = result.charts
    plots = (
        draw_seconds(
            charts.series,
            (("in_flight", "open", "1"), ("ended", "ended", "6"), ("failed", "failed", "bad")),
            title="Calls in each second",
            unit="count",
        ),
        draw_seconds(
            charts.series,
            (("ttft_p50", "first token", "1"), ("e2e_p50", "whole reply", "2")),
            title="Median time of calls that were due in each second",
            unit="ms",
        ),
    )
    counts = [
        draw_counts(chart, title=TIME_NAMES.get(measure, measure).capitalize())
        for measure, chart in charts.histograms.items()
    ]
    return LoadReport(
        tables=tuple(_tables(record, result)),
        counts=tuple(each for each in counts if each is not None),
        seconds=tuple(each for each in plots if each is not None),
        scatter=draw_calls(charts.scatter),
        effects=tuple(each.sentence for each in result.effects if each.sentence),
        notes=(result.loop_note, result.sending.sentence, *result.notes),
    )


def _tables(record: LoadRecord, result: LoadResult) -> list[ReportTable]:
    tables = []
    if result.comparison is not None:
        rows = comparison_rows(result)
        tables.append(_table("Comparison", COMPARISON_HEAD, rows, (result.comparison.sentence,)))
    for figures in result.targets:
        said = tuple(rate_lines(figures, record.spec.level))
        tables.append(_table(f"What {figures.label} came to", TIME_HEAD, time_rows(figures), said))
    if result.found is not None:
        rows = [[f"{rate:.3g}/s", word] for rate, word in result.found.runs]
        tables.append(_table("Rates that were tried", ["rate", "verdict"], rows, (result.found.sentence,)))
    if len(result.stages) > 1:
        tables.append(_table("Stages", STAGE_HEAD, stage_rows(result)))
    if len(result.classes) > 1:
        tables.append(_table("By class of the mix", GROUP_HEAD, [group_row(each) for each in result.classes]))
    if result.versions:
        rows = [group_row(each) for each in result.versions]
        tables.append(_table("By version that answered", GROUP_HEAD, rows))
    return tables


def _table(title: str, head: list[str], rows: list[list[str]], lines: tuple[str, ...] = ()) -> ReportTable:
    return ReportTable(title=title, head=tuple(head), rows=tuple(map(tuple, rows)), lines=lines)


def _name_measure(measure: str) -> str:
    name, dot, level = measure.partition(".")
    return (
        f"{TIME_NAMES.get(name, name)}, {level}"
        if dot
        else name.replace("_per_s", " a second").replace("_", " ")
    )
