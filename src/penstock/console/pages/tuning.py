"""Runs of tuning: the list with how each stands, and runs side by side."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.offered import require
from penstock.console.links import link
from penstock.console.plots import Plot
from penstock.console.rendering import Page, Renderer, UnavailablePage
from penstock.console.services import ConsoleServices
from penstock.console.step_plots import StepSeries, draw_steps, format_figure
from penstock.console.tuning_words import done_share, name_figure, say_setting, tell_best, took_ms
from penstock.spec.tuning import RunRecord, RunState, TuneMethod
from penstock.tuning.runs.service import RunService
from penstock.tuning.runs.types import RunComparison

ACTIVE = "/tuning"
PAGE_SIZE = 50
STATES: tuple[str, ...] = get_args(RunState)
METHODS: tuple[str, ...] = get_args(TuneMethod)
EXAMPLES = (
    "penstock tune init lora --data dataset:NAME > recipe.toml",
    "penstock tune plan recipe.toml",
    "penstock tune run recipe.toml",
)


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """One run of the list."""

    record: RunRecord
    href: str
    base: str
    data: str
    done_pct: float | None
    best: str
    result: str | None
    took_ms: float | None
    problem: str


@dataclass(frozen=True, kw_only=True)
class RunsPage(Page):
    """All runs."""

    template: ClassVar[str] = "tuning.html"
    lines: tuple[RunLine, ...]
    counts: tuple[tuple[str, int], ...]
    filters: Mapping[str, str]
    states: tuple[str, ...] = STATES
    methods: tuple[str, ...] = METHODS
    is_narrowed: bool
    first_href: str | None
    next_href: str | None
    examples: tuple[str, ...] = EXAMPLES


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One run beside others."""

    record: RunRecord
    href: str
    tone: str
    best: str
    result: str | None
    took_ms: float | None


@dataclass(frozen=True, kw_only=True)
class RunsComparedPage(Page):
    """Runs side by side."""

    template: ClassVar[str] = "tuning_compare.html"
    runs: tuple[ComparedRun, ...]
    same_data: bool
    plots: tuple[Plot, ...]
    differences: tuple[tuple[str, tuple[str, ...]], ...]
    figures: tuple[tuple[str, tuple[str, ...]], ...]


def runs_of(services: ConsoleServices) -> RunService:
    """Return the service; raise `NotFound` where nothing trains."""
    return require(services.tuning, "Nothing trains on this installation.")


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/tuning` and `/tuning/compare`."""
    router = APIRouter(include_in_schema=False)

    @router.get(ACTIVE)
    @needs(Permission.TUNING_READ)
    def list_runs(request: Request) -> Response:
        if services.tuning is None:
            frame = renderer.frame(request, "Tuning runs", ACTIVE)
            return renderer.show(UnavailablePage(frame=frame, reason="Nothing trains here."))
        params = request.query_params
        filters = {name: params.get(name, "").strip() for name in ("name", "state", "method")}
        runs = runs_of(services)
        found = runs.list(
            name=filters["name"] or None,
            state=filters["state"] or None,
            method=filters["method"] or None,
            cursor=params.get("cursor") or None,
            limit=PAGE_SIZE,
        )
        counts = runs.counts()
        page = RunsPage(
            frame=renderer.frame(request, "Tuning runs", ACTIVE, notice=params.get("notice")),
            lines=tuple(build_line(record) for record in found.rows),
            counts=tuple((state, counts[state]) for state in STATES if counts.get(state)),
            filters=filters,
            is_narrowed=any(filters.values()),
            first_href=link(ACTIVE, filters) if params.get("cursor") else None,
            next_href=link(ACTIVE, filters, cursor=found.next_cursor) if found.next_cursor else None,
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/compare")
    @needs(Permission.TUNING_READ)
    def compare(request: Request) -> Response:
        ids = [
            part.strip() for each in request.query_params.getlist("ids") for part in each.split(",") if part
        ]
        found = runs_of(services).compare(list(dict.fromkeys(ids)))
        page = build_comparison(renderer, request, found)
        return renderer.show(page)

    return router


def build_line(record: RunRecord) -> RunLine:
    """Return one row."""
    error = record.error or {}
    return RunLine(
        record=record,
        href=f"{ACTIVE}/{record.id}",
        base=record.base or ("nothing" if record.method == "scratch" else "–"),
        data=str((record.recipe.get("data") or {}).get("train", "–")),
        done_pct=done_share(record),
        best=tell_best(record),
        result=(record.result or {}).get("model"),
        took_ms=took_ms(record, time.time_ns()),
        problem=str(error.get("message", "")),
    )


def build_comparison(renderer: Renderer, request: Request, found: RunComparison) -> RunsComparedPage:
    """Return runs side by side, each in one colour on every plot."""
    now_ns = time.time_ns()
    runs = tuple(
        ComparedRun(
            record=record,
            href=f"{ACTIVE}/{record.id}",
            tone=str(place % 8 + 1),
            best=tell_best(record),
            result=(record.result or {}).get("model"),
            took_ms=took_ms(record, now_ns),
        )
        for place, record in enumerate(found.runs)
    )
    return RunsComparedPage(
        frame=renderer.frame(request, f"{len(runs)} runs side by side", ACTIVE),
        runs=runs,
        same_data=found.same_data,
        plots=_compare_plots(found, runs),
        differences=tuple(
            (key, tuple(say_setting(value) for value in values)) for key, values in found.differences.items()
        ),
        figures=tuple(_figure_row(name, values) for name, values in found.figures.items()),
    )


def _compare_plots(found: RunComparison, runs: tuple[ComparedRun, ...]) -> tuple[Plot, ...]:
    names = sorted({name for each in found.curves for name in each})
    wanted = [name for name in names if name.startswith("eval.")] + [
        name for name in ("step.loss", "step.lr", "step.tokens_per_s") if name in names
    ]
    labels = _labels(found.runs)
    end = max((record.n_steps or record.step for record in found.runs), default=0)
    plots = []
    for name in wanted:
        side, _, figure = name.partition(".")
        series = [
            StepSeries(name=label, points=curves[name].points, tone=run.tone)
            for label, run, curves in zip(labels, runs, found.curves, strict=True)
            if name in curves
        ]
        title = f"{'Held-out' if side == 'eval' else 'Training'} {name_figure(figure)}"
        plots.append(draw_steps(series, title=title, figure=figure, end=end))
    return tuple(plots)


def _labels(runs: list[RunRecord]) -> list[str]:
    """Return names that differ: runs of one name are told apart by the end of their ids."""
    names = [record.name for record in runs]
    return [
        name if names.count(name) == 1 else f"{name} …{record.id[-4:]}"
        for name, record in zip(names, runs, strict=True)
    ]


def _figure_row(name: str, values: list[Any]) -> tuple[str, tuple[str, ...]]:
    key, _, kind = name.partition(" ")
    side, _, figure = key.partition(".")
    told = f"{'held-out' if side == 'eval' else 'training'} {name_figure(figure)}, {kind.strip('()')}"
    return told, tuple(format_figure(figure, value) for value in values)
