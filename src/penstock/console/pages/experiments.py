"""Experiments: grids of prompts, models and parameters, the best cell with its uncertainty, and the leaderboard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import CallerError, PenstockError
from penstock.console.case_words import text_of
from penstock.console.estimate_lines import EstimateLine, build_estimate_line, tell_ends
from penstock.console.formats import format_money, format_ms
from penstock.console.interval_marks import scale_of_parts
from penstock.console.links import link
from penstock.console.rendering import Frame, Page, Renderer
from penstock.console.scatters import Scatter, draw_scatter
from penstock.console.services import ConsoleServices
from penstock.evals.types import ExperimentRecord, Leaderboard, LeaderboardRow

ACTIVE = "/experiments"
EXAMPLE = "penstock experiment run grid.toml"
EXAMPLE_FILE = """name = "tone"
models = ["pocket", "handbook"]

[parameters]
temperature = [0, 0.7]

[evaluation]
name = "tone"
dataset = "dataset:questions"
target = { model = "pocket" }
scorers = [{ scorer = "token_f1" }]"""
FINAL = frozenset({"done", "stopped", "failed"})


@dataclass(frozen=True, kw_only=True)
class ExperimentLine:
    """One experiment in the list."""

    record: ExperimentRecord
    sentence: str
    """What can be said of its best cell; empty before there is one."""
    cost: str
    cost_note: str


@dataclass(frozen=True, kw_only=True)
class ExperimentsPage(Page):
    """All experiments."""

    template: ClassVar[str] = "experiments.html"
    lines: tuple[ExperimentLine, ...]
    tag: str
    first_href: str | None
    next_href: str | None
    example: str = EXAMPLE
    example_file: str = EXAMPLE_FILE


@dataclass(frozen=True, kw_only=True)
class BoardLine:
    """One row of the leaderboard."""

    row: LeaderboardRow
    href: str
    quality: EstimateLine | None
    cost: str
    cost_note: str
    latency: str
    is_best: bool
    compare_href: str | None
    """The comparison with the first row."""


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """One combination in the grid."""

    text: str
    interval: str
    title: str
    href: str | None
    is_best: bool
    is_tied: bool
    """The best row does not beat it with certainty."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells by two of their settings."""

    row_name: str
    column_name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[GridCell | None, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class ExperimentPage(Page):
    """One experiment."""

    template: ClassVar[str] = "experiment.html"
    record: ExperimentRecord
    is_final: bool
    board: Leaderboard | None
    problem: str
    lines: tuple[BoardLine, ...]
    axis: str
    """What the axis of the intervals goes from and to."""
    grid: Grid | None
    scatters: tuple[Scatter, ...]
    scores: tuple[tuple[str, str, bool], ...]
    cost: str
    cost_note: str
    dataset: str


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/experiments` and below."""
    router = APIRouter(include_in_schema=False)
    experiments = services.experiments

    @router.get(ACTIVE)
    @needs(Permission.EVALS_READ)
    def list_experiments(request: Request, tag: str = "", cursor: str = "") -> Response:
        found = experiments.list(tag=tag.strip() or None, cursor=cursor or None, limit=25)
        page = ExperimentsPage(
            frame=renderer.frame(request, "Experiments", ACTIVE, notice=request.query_params.get("notice")),
            lines=tuple(_line(services, each) for each in found.rows),
            tag=tag,
            first_href=link(ACTIVE, {"tag": tag}) if cursor else None,
            next_href=link(ACTIVE, {"tag": tag}, cursor=found.next_cursor) if found.next_cursor else None,
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{experiment_id}}")
    @needs(Permission.EVALS_READ)
    def show_experiment(request: Request, experiment_id: str, score: str = "") -> Response:
        record = experiments.get(experiment_id)
        frame = renderer.frame(request, record.name, ACTIVE, notice=request.query_params.get("notice"))
        return renderer.show(build_page(frame, services, record, score or None))

    _add_actions(router, services)
    return router


def _add_actions(router: APIRouter, services: ConsoleServices) -> None:
    experiments = services.experiments

    @router.post(f"{ACTIVE}/{{experiment_id}}/stop")
    @needs(Permission.EVALS_WRITE)
    def stop(request: Request, experiment_id: str) -> Response:
        caller: Caller = request.state.caller
        experiments.stop(experiment_id, reason=f"stopped by {actor_of(caller)}")
        return _back(experiment_id, "Cells under way stop; what they have is valid.")

    @router.post(f"{ACTIVE}/{{experiment_id}}/resume")
    @needs(Permission.EVALS_WRITE, Permission.MODELS_CALL)
    def resume(experiment_id: str) -> Response:
        try:
            experiments.resume(experiment_id)
        except PenstockError as error:
            return _back(experiment_id, f"{error.message} {error.hint or ''}".strip())
        return _back(experiment_id, "It goes on with the cells that are not done.")

    @router.post(f"{ACTIVE}/{{experiment_id}}/delete")
    @needs(Permission.EVALS_WRITE)
    def delete(experiment_id: str) -> Response:
        try:
            experiments.delete(experiment_id)
        except PenstockError as error:
            return _back(experiment_id, f"{error.message} {error.hint or ''}".strip())
        return RedirectResponse(link(ACTIVE, {"notice": "Deleted; its evaluations stay."}), status_code=303)


def _back(experiment_id: str, notice: str) -> Response:
    return RedirectResponse(link(f"{ACTIVE}/{experiment_id}", {"notice": notice}), status_code=303)


def _line(services: ConsoleServices, record: ExperimentRecord) -> ExperimentLine:
    cost, note = _cost(record)
    sentence = ""
    if record.n_done > 1:
        try:
            sentence = services.experiments.leaderboard(record.id).sentence
        except PenstockError:
            sentence = ""  # its page says what is wrong
    return ExperimentLine(record=record, sentence=sentence, cost=cost, cost_note=note)


def _cost(record: ExperimentRecord) -> tuple[str, str]:
    if not record.n_cost_unknown:
        return format_money(record.cost_usd), ""
    note = f"The cost of {record.n_cost_unknown:,} calls is unknown."
    return ("unknown" if record.cost_usd is None else format_money(record.cost_usd)), note


def build_page(
    frame: Frame, services: ConsoleServices, record: ExperimentRecord, score: str | None
) -> ExperimentPage:
    """Return the page of one experiment."""
    board, problem = None, ""
    try:
        board = services.experiments.leaderboard(record.id, score=score)
    except CallerError as error:
        problem = f"{error.message} {error.hint or ''}".strip()
    rows = board.rows if board else []
    cost, note = _cost(record)
    spec = record.spec.evaluation
    return ExperimentPage(
        frame=frame,
        record=record,
        is_final=record.state in FINAL,
        board=board,
        problem=problem,
        lines=build_lines(board) if board else (),
        axis=tell_ends([row.quality for row in rows if row.quality is not None]),
        grid=build_grid(record, board) if board else None,
        scatters=draw_both(rows),
        scores=_scores(services, record, board),
        cost=cost,
        cost_note=note,
        dataset=spec.dataset or spec.file or "sent cases",
    )


def draw_both(rows: Sequence[LeaderboardRow]) -> tuple[Scatter, ...]:
    """Return quality against money and against time, each where at least two rows know both."""
    drawn = (
        draw_scatter(
            rows,
            title="Quality for its cost",
            axis="dollars a case",
            value_of=lambda row: None if row.cost_per_case_usd is None else float(row.cost_per_case_usd),
            say=_say_money,
        ),
        draw_scatter(
            rows,
            title="Quality for its time",
            axis="median latency",
            value_of=lambda row: row.p50_latency_ms,
            say=lambda value: "0" if value == 0 else format_ms(value),
        ),
    )
    return tuple(each for each in drawn if each is not None)


def _say_money(value: float) -> str:
    return format_money(Decimal(f"{value:.3g}"))


def build_lines(board: Leaderboard) -> tuple[BoardLine, ...]:
    """Return the leaderboard as rows, all intervals on one axis."""
    qualities = [row.quality for row in board.rows if row.quality is not None]
    scale = scale_of_parts(qualities)
    first = board.rows[0] if board.rows else None
    lines = []
    for row in board.rows:
        is_first = first is None or row.evaluation_id == first.evaluation_id
        note = f"The cost of {row.n_cost_unknown:,} calls is unknown." if row.n_cost_unknown else ""
        lines.append(
            BoardLine(
                row=row,
                href=f"/evaluations/{row.evaluation_id}",
                quality=None
                if row.quality is None
                else build_estimate_line(row.quality, scale, name=row.key),
                cost="unknown"
                if row.cost_per_case_usd is None and row.n_cost_unknown
                else format_money(row.cost_per_case_usd),
                cost_note=note,
                latency=format_ms(row.p50_latency_ms),
                is_best=board.best == row.key,
                compare_href=None
                if is_first or first is None
                else link(
                    "/evaluations/compare",
                    {"a": row.evaluation_id, "b": first.evaluation_id, "score": board.score},
                ),
            )
        )
    return tuple(lines)


def build_grid(record: ExperimentRecord, board: Leaderboard) -> Grid | None:
    """Return the cells by two settings, the second one inside the rows; None where less than two differ."""
    names = [
        name
        for name in dict.fromkeys(name for cell in record.cells for name in cell.settings)
        if len({_text(cell.settings.get(name)) for cell in record.cells}) > 1
    ]
    if len(names) < 2:
        return None
    column_name = min(
        names, key=lambda name: (len({_text(cell.settings.get(name)) for cell in record.cells}), name)
    )
    row_names = [name for name in names if name != column_name]
    columns = tuple(dict.fromkeys(_text(cell.settings.get(column_name)) for cell in record.cells))
    by_key = {row.key: row for row in board.rows}
    first = board.rows[0] if board.rows else None
    rows: dict[str, dict[str, GridCell]] = {}
    for cell in record.cells:
        title = " · ".join(_text(cell.settings.get(name)) for name in row_names)
        row = by_key.get(cell.key)
        rows.setdefault(title, {})[_text(cell.settings.get(column_name))] = _cell(row, board, first)
    return Grid(
        row_name=" · ".join(row_names),
        column_name=column_name,
        columns=columns,
        rows=tuple((title, tuple(cells.get(column) for column in columns)) for title, cells in rows.items()),
    )


def _cell(row: LeaderboardRow | None, board: Leaderboard, first: LeaderboardRow | None) -> GridCell:
    if row is None or row.quality is None:
        return GridCell(
            text="–", interval="", title="not scored yet", href=None, is_best=False, is_tied=False
        )
    line = build_estimate_line(row.quality, (0.0, 1.0), name=row.key)
    is_best = board.best == row.key
    is_tied = board.best is None and first is not None and row.key != first.key and row.key not in first.beats
    return GridCell(
        text=line.value,
        interval=line.interval,
        title=row.key,
        href=f"/evaluations/{row.evaluation_id}",
        is_best=is_best,
        is_tied=is_tied or (board.best is None and first is not None and row.key == first.key),
    )


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_text(each)}" for name, each in value.items()) or "none"
    return "–" if value is None else text_of(value) if isinstance(value, str) else str(value)


def _scores(
    services: ConsoleServices, record: ExperimentRecord, board: Leaderboard | None
) -> tuple[tuple[str, str, bool], ...]:
    first = next((cell.evaluation_id for cell in record.cells if cell.evaluation_id), None)
    if first is None:
        return ()
    try:
        columns = services.evaluations.get(first).columns
    except CallerError:
        return ()  # it was deleted
    chosen = board.score if board else None
    return tuple(
        (each.name, link(f"{ACTIVE}/{record.id}", {"score": each.name}), each.name == chosen)
        for each in columns
    )
