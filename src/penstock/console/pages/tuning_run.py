"""One run of tuning: how it stands, its curves and replies as it goes on, what it was frozen to, and what can be done."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.base.errors import PenstockError
from penstock.console.formats import format_bytes, format_ms
from penstock.console.links import link
from penstock.console.pages.tuning import ACTIVE, runs_of
from penstock.console.plots import Plot
from penstock.console.prompt_pieces import PromptPiece, end_of_prompt, split_prompt
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.console.step_plots import Pin, StepSeries, draw_steps, format_figure
from penstock.console.tuning_words import (
    FAULTS,
    METHODS,
    done_share,
    flatten,
    name_figure,
    rest_ms,
    say_run,
    took_ms,
)
from penstock.spec.tuning import FINAL_RUN_STATES, RunEvent, RunRecord
from penstock.tuning.runs.events import step_of
from penstock.tuning.runs.service import RunService
from penstock.tuning.runs.types import Curve, Sample

TRAIN_TONE, HELD_OUT_TONE, BEST_TONE = "6", "1", "2"
MAX_SAMPLES, MAX_SHOWN_STEPS = 6, 4
LOG_BYTES = 48 * 1024
KINDS = ("begun", "checkpoint", "best", "note", "fault", "ended")
SMALL = ("lr", "tokens_per_s", "grad_norm", "memory_mb")


@dataclass(frozen=True, kw_only=True)
class SampleLine:
    """One held-out prompt with what was replied at some steps."""

    pieces: tuple[PromptPiece, ...]
    """The prompt as the model was given it, its control tokens apart."""
    ending: str
    row: int | None
    reference: str | None
    replies: tuple[tuple[int, str, bool], ...]
    """Step, reply, whether it is the reference word for word."""


@dataclass(frozen=True, kw_only=True)
class CheckpointLine:
    """A state of the weights that was kept on disk."""

    step: int
    at_ns: int
    size: str
    is_best: bool
    is_kept: bool
    """Whether it is still there: a run keeps its newest ones and the best."""


@dataclass(frozen=True, kw_only=True)
class RunLive:
    """What changes while a run goes on."""

    record: RunRecord
    sentence: str
    cursor: int
    """Where events go on."""
    is_final: bool
    done_pct: float | None
    took: str
    rest: str
    rate: str
    device: str
    fault: str
    plots: tuple[Plot, ...]
    small_plots: tuple[Plot, ...]
    samples: tuple[SampleLine, ...]
    n_more_samples: int
    checkpoints: tuple[CheckpointLine, ...]
    notes: tuple[RunEvent, ...]


@dataclass(frozen=True, kw_only=True)
class RunPage(Page):
    """One run."""

    template: ClassVar[str] = "tuning_run.html"
    live: RunLive
    method: str
    findings: tuple[Mapping[str, Any], ...]
    rows: tuple[tuple[str, str, str], ...]
    """What was counted in the rows: name, training, held out."""
    plan: tuple[tuple[str, str, str], ...]
    """What was planned and what it came to: name, planned, actual."""
    recipe: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    log: str
    result_href: str | None
    base_href: str | None


@dataclass(frozen=True, kw_only=True)
class RunLivePage(Page):
    """The part of the page that changes."""

    template: ClassVar[str] = "tuning_live.html"
    live: RunLive


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/tuning/ID` and below."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{ACTIVE}/{{run_id}}")
    @needs(Permission.TUNING_READ)
    def show_run(request: Request, run_id: str, notice: str | None = None) -> Response:
        runs = runs_of(services)
        return renderer.show(_build_page(renderer, request, runs, runs.get(run_id), notice))

    @router.get(f"{ACTIVE}/{{run_id}}/live")
    @needs(Permission.TUNING_READ)
    def show_live(request: Request, run_id: str, after: int = 0, seen: int = 0) -> Response:
        runs = runs_of(services)
        record = runs.get(run_id)
        if record.updated_ns == seen and after > 0 and not runs.events(record.id, after=after, limit=1).rows:
            return Response(status_code=204)  # nothing new: the page stays as it is
        frame = renderer.frame(request, record.name, ACTIVE)
        return renderer.show(RunLivePage(frame=frame, live=build_live(runs, record)))

    _add_actions(router, services)
    return router


def _add_actions(router: APIRouter, services: ConsoleServices) -> None:
    @router.post(f"{ACTIVE}/{{run_id}}/stop")
    @needs(Permission.TUNING_WRITE)
    def stop(run_id: str) -> Response:
        try:
            runs_of(services).stop(run_id)
        except PenstockError as error:
            return _back(run_id, _say(error))
        return _back(run_id, "It stops when its checkpoint is written.")

    @router.post(f"{ACTIVE}/{{run_id}}/resume")
    @needs(Permission.TUNING_WRITE)
    def resume(run_id: str) -> Response:
        try:
            record = runs_of(services).resume(run_id)
        except PenstockError as error:
            return _back(run_id, _say(error))
        return _back(record.id, "It goes on from its last checkpoint.")

    @router.post(f"{ACTIVE}/{{run_id}}/delete")
    @needs(Permission.TUNING_WRITE)
    def delete(run_id: str) -> Response:
        try:
            runs_of(services).delete(run_id)
        except PenstockError as error:
            return _back(run_id, _say(error))
        notice = "Deleted, with its checkpoints; what it registered stays."
        return RedirectResponse(link(ACTIVE, {"notice": notice}), status_code=303)


def _say(error: PenstockError) -> str:
    return f"{error.message} {error.hint or ''}".strip()


def _back(run_id: str, notice: str) -> Response:
    return RedirectResponse(link(f"{ACTIVE}/{run_id}", {"notice": notice}), status_code=303)


def build_live(runs: RunService, record: RunRecord) -> RunLive:
    """Return what changes while the run goes on, as it is now."""
    now_ns = time.time_ns()
    page = runs.events(record.id, kinds=KINDS, limit=5000)
    curves = list(runs.curves(record.id, max_points=400))
    samples, n_more = group_samples(runs.samples(record.id))
    begun = next((each for each in reversed(page.rows) if each.kind == "begun"), None)
    rate = _step_rate(record, begun)
    rest = rest_ms(record, rate)
    taken = took_ms(record, now_ns)
    speed = next((each.points[-1].value for each in curves if each.name == "step.tokens_per_s"), None)
    main, small = draw_run(record, curves)
    best_step = (record.best or {}).get("step")
    kept = runs.folder(record.id).checkpoints
    return RunLive(
        record=record,
        sentence=say_run(record, curves, now_ns),
        cursor=page.next_after,
        is_final=record.state in FINAL_RUN_STATES,
        done_pct=done_share(record),
        took="–" if taken is None else format_ms(taken),
        rest="–" if rest is None else format_ms(rest),
        rate=format_figure("tokens_per_s", speed),
        device=str(begun.detail.get("device", "")) if begun is not None else "",
        fault=FAULTS.get(record.fault or "", ""),
        plots=main,
        small_plots=small,
        samples=samples,
        n_more_samples=n_more,
        checkpoints=tuple(
            CheckpointLine(
                step=each.step,
                at_ns=each.at_ns,
                size=_size(each.values.get("size_bytes")),
                is_best=each.step == best_step,
                is_kept=(kept / f"step-{each.step}").is_dir(),
            )
            for each in page.rows
            if each.kind == "checkpoint"
        )[::-1],
        notes=tuple(each for each in page.rows if each.kind in {"note", "fault"})[-20:],
    )


def draw_run(record: RunRecord, curves: Sequence[Curve]) -> tuple[tuple[Plot, ...], tuple[Plot, ...]]:
    """Return the plots of what is learned, and the small ones of how it goes."""
    named = {each.name: each.points for each in curves}
    end = max(record.n_steps or 0, record.step)
    best = record.best or {}
    pin = None
    if best.get("value") is not None:
        name = f"best, step {int(best.get('step') or 0):,}"
        pin = Pin(name=name, step=int(best.get("step") or 0), value=float(best["value"]), tone=BEST_TONE)
    losses = [
        StepSeries(name=name, points=named.get(key, ()), tone=tone)
        for name, key, tone in (
            ("training", "step.loss", TRAIN_TONE),
            ("held out", "eval.loss", HELD_OUT_TONE),
        )
    ]
    is_loss = best.get("metric") == "loss"
    plots = [
        draw_steps(
            losses,
            title="Loss",
            figure="loss",
            end=end,
            pin=pin if is_loss else None,
            empty="The first steps are on their way" if record.state == "running" else "No step was made",
        )
    ]
    for key, points in named.items():
        side, _, figure = key.partition(".")
        if side == "eval" and figure != "loss":
            series = [StepSeries(name=name_figure(figure), points=points, tone=HELD_OUT_TONE)]
            is_best = figure == best.get("metric")
            title = f"Held-out {name_figure(figure)}"
            plots.append(
                draw_steps(series, title=title, figure=figure, end=end, pin=pin if is_best else None)
            )
    small = [
        draw_steps(
            [StepSeries(name=name_figure(figure), points=named[f"step.{figure}"], tone=TRAIN_TONE)],
            title=name_figure(figure).capitalize(),
            figure=figure,
            end=end,
            headline=format_figure(figure, named[f"step.{figure}"][-1].value),
        )
        for figure in SMALL
        if named.get(f"step.{figure}")
    ]
    return tuple(plots), tuple(small)


def group_samples(samples: Sequence[Sample]) -> tuple[tuple[SampleLine, ...], int]:
    """Return the replies by prompt, of the first, the last and some steps between, and how many prompts are left out."""
    by_prompt: dict[str, list[Sample]] = {}
    for each in samples:
        by_prompt.setdefault(each.prompt, []).append(each)
    lines = []
    for prompt, found in list(by_prompt.items())[:MAX_SAMPLES]:
        by_step = {each.step: each for each in found}
        steps = sorted(by_step)
        if len(steps) > MAX_SHOWN_STEPS:
            last = len(steps) - 1
            steps = [steps[round(at * last / (MAX_SHOWN_STEPS - 1))] for at in range(MAX_SHOWN_STEPS)]
        reference = found[-1].reference
        replies = tuple(
            (step, by_step[step].reply, by_step[step].reply.strip() == (reference or "").strip())
            for step in steps
        )
        pieces = split_prompt(prompt)
        lines.append(
            SampleLine(
                pieces=pieces,
                ending=end_of_prompt(pieces),
                row=found[-1].row,
                reference=reference,
                replies=replies,
            )
        )
    return tuple(lines), max(0, len(by_prompt) - MAX_SAMPLES)


def _build_page(
    renderer: Renderer, request: Request, runs: RunService, record: RunRecord, notice: str | None
) -> RunPage:
    live = build_live(runs, record)
    folder = runs.folder(record.id)
    frozen, runtime = _read(folder.spec), _read(folder.path / "runtime.json")
    preflight = record.preflight or {}
    model = (record.result or {}).get("model")
    return RunPage(
        frame=renderer.frame(request, record.name, ACTIVE, notice=notice),
        live=live,
        method=METHODS.get(record.method, record.method),
        findings=tuple(preflight.get("findings") or ()),
        rows=_count_rows(preflight),
        plan=_lay_plan(record, frozen, live),
        recipe=tuple(flatten(record.recipe)),
        environment=_tell_environment(record, runtime),
        log=runs.logs(record.id, max_bytes=LOG_BYTES),
        result_href=_model_href(model),
        base_href=_model_href(record.base),
    )


def _count_rows(preflight: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    train, heldout = preflight.get("train") or {}, preflight.get("heldout") or {}
    if not train:
        return ()
    names = {
        "n_read": "Rows read",
        "n_kept": "Rows kept",
        "n_tokens": "Tokens",
        "n_trained_tokens": "Tokens the loss counts on",
        "n_truncated": "Rows cut",
        "n_dropped": "Rows dropped for length",
    }
    rows = [(label, _count(train.get(key)), _count(heldout.get(key))) for key, label in names.items()]
    lengths = [_lengths(each) for each in (train, heldout)]
    return (*rows, ("Length of a row, median and largest", lengths[0], lengths[1]))


def _lengths(report: Mapping[str, Any]) -> str:
    spread = report.get("lengths") or {}
    return f"{spread['p50']:,} and {spread['largest']:,} tokens" if "largest" in spread else "–"


def _lay_plan(
    record: RunRecord, frozen: Mapping[str, Any], live: RunLive
) -> tuple[tuple[str, str, str], ...]:
    """Return what was planned beside what it came to; what is not known is a dash."""
    plan = record.plan or {}
    seconds = plan.get("seconds")
    planned_steps = plan.get("n_steps") or frozen.get("n_steps") or record.n_steps
    rows = [
        ("Steps", _count(planned_steps), _count(record.step)),
        ("Rows", _count(plan.get("n_rows") or frozen.get("n_train_rows")), "–"),
        ("Tokens of one epoch", _count(plan.get("n_tokens") or frozen.get("n_train_tokens")), "–"),
        ("Time", "–" if seconds is None else format_ms(1000 * seconds), live.took),
        ("Speed", format_figure("tokens_per_s", plan.get("tokens_per_s")), live.rate),
        (
            "Memory",
            "–" if plan.get("memory_bytes") is None else format_bytes(plan["memory_bytes"]),
            next((each.headline for each in live.small_plots if each.title == "Memory"), "–"),
        ),
    ]
    return tuple(row for row in rows if row[1] != "–" or row[2] != "–")


def _tell_environment(record: RunRecord, runtime: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    rows = [("Run", record.id), ("Frozen as", record.frozen_digest or "–"), ("Started by", record.actor)]
    rows.append(("Attempts", f"{record.attempts:,}"))
    if runtime:
        rows += [
            ("Device", str(runtime.get("device", "–"))),
            ("Environment", str(runtime.get("digest", "–"))),
        ]
        packages = runtime.get("packages") or {}
        wanted = ("torch", "transformers", "trl", "peft", "accelerate")
        told = ", ".join(f"{name} {packages[name]}" for name in wanted if name in packages)
        rows += [("Libraries", told)] if told else []
        rows += [
            (name.replace("_", " ").capitalize(), str(value))
            for name, value in (runtime.get("hardware") or {}).items()
            if isinstance(value, str | int | float)
        ]
    return tuple(rows)


def _step_rate(record: RunRecord, begun: RunEvent | None) -> float | None:
    """Return steps a second of this attempt, None before its first."""
    if begun is None or record.state != "running":
        return None
    start = step_of(begun.detail.get("resumed_from"))
    seconds = (max(record.updated_ns, begun.at_ns) - begun.at_ns) / 1e9
    steps = record.step - start
    return steps / seconds if steps > 0 and seconds > 0 else None


def _model_href(label: str | None) -> str | None:
    if not label or not label.startswith("model:"):
        return None
    name, _, number = label.removeprefix("model:").partition("@")
    return f"/models/{name}/{number}" if number.isdigit() else f"/models/{name}"


def _read(path: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _size(value: Any) -> str:
    return "–" if value is None else format_bytes(int(value))


def _count(value: Any) -> str:
    return "–" if value is None else f"{value:,}"
