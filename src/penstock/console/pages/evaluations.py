"""Evaluations: all of them with their main figure, and the form that plans and starts one."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import CallerError, ConflictError, PenstockError
from penstock.console.estimate_lines import EstimateLine, build_estimate_line
from penstock.console.evaluation_forms import EvaluationDraft, draft_of, read_draft, to_spec
from penstock.console.formats import format_money
from penstock.console.interval_marks import scale_of_estimates
from penstock.console.kept_figures import KeptFigures, estimate_main
from penstock.console.links import link
from penstock.console.queries import SearchProblem, tell_problem
from penstock.console.rendering import Frame, Page, Renderer
from penstock.console.score_words import format_score
from penstock.console.services import ConsoleServices
from penstock.evals.catalogue import Catalogue
from penstock.evals.scorers.catalogue import group_of
from penstock.evals.scorers.types import ScorerInfo
from penstock.evals.types import EvaluationPlan, EvaluationQuery, EvaluationRecord
from penstock.spec.evaluations import Estimate, EvaluationState, ScorerSpec

ACTIVE = "/evaluations"
PAGE_SIZE = 25
PATIENCE_S = 2.0
"""For how long a list counts figures that were not counted before."""
STATES: tuple[EvaluationState, ...] = get_args(EvaluationState)
FILTERS = ("target", "dataset", "tag", "name", "experiment", "state")
EXAMPLES = (
    "penstock dataset create questions handbook:questions",
    "penstock eval run --dataset dataset:questions --target handbook --scorer token_f1",
)


@dataclass(frozen=True, kw_only=True)
class EvaluationLine:
    """One evaluation in the list."""

    record: EvaluationRecord
    href: str
    main: EstimateLine | None
    """Of its first score; None before there is one."""
    is_waiting: bool
    """It was not counted yet, since the page did not wait so long."""
    dataset: str
    done_pct: float | None
    cost: str
    cost_note: str


@dataclass(frozen=True, kw_only=True)
class EvaluationsPage(Page):
    """All evaluations."""

    template: ClassVar[str] = "evaluations.html"
    lines: tuple[EvaluationLine, ...]
    filters: Mapping[str, str]
    states: tuple[str, ...] = STATES
    targets: tuple[str, ...]
    datasets: tuple[str, ...]
    is_narrowed: bool
    first_href: str | None
    next_href: str | None
    examples: tuple[str, ...] = EXAMPLES


@dataclass(frozen=True, kw_only=True)
class PlanWords:
    """What an evaluation would do and cost, in words."""

    plan: EvaluationPlan
    cost: str
    detectable: tuple[tuple[str, str], ...]
    """Share of cases that differ, and the smallest difference that would show."""


@dataclass(frozen=True, kw_only=True)
class EvaluationEditPage(Page):
    """The form that starts an evaluation."""

    template: ClassVar[str] = "evaluation_edit.html"
    draft: EvaluationDraft
    ticked: frozenset[str]
    extra: str
    """Scorers that need more than a tick, one a line."""
    problem: SearchProblem | None
    plan: PlanWords | None
    datasets: tuple[str, ...]
    targets: tuple[str, ...]
    prompts: tuple[str, ...]
    groups: tuple[tuple[str, tuple[ScorerInfo, ...]], ...]
    """Scorers that can be used as they are, by group."""
    others: tuple[ScorerInfo, ...]


def tell_cost(record: EvaluationRecord) -> tuple[str, str]:
    """Return what an evaluation cost, and what that leaves out."""
    if record.n_cost_unknown and record.cost_usd is None:
        return "unknown", f"The cost of {record.n_cost_unknown:,} calls is unknown."
    note = f"{record.n_cost_unknown:,} calls of unknown cost are left out." if record.n_cost_unknown else ""
    return format_money(record.cost_usd), note


def tell_plan(plan: EvaluationPlan) -> PlanWords:
    """Return a plan in words."""
    return PlanWords(
        plan=plan,
        cost="unknown" if plan.cost_usd is None else f"≈ {format_money(plan.cost_usd)}",
        detectable=tuple(
            (
                format_score(each.get("discordance"), scale="binary"),
                "–" if each.get("difference") is None else f"{100 * each['difference']:.1f} points",
            )
            for each in plan.detectable
        ),
    )


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/evaluations` and the form below it."""
    router = APIRouter(include_in_schema=False)
    _add_list(router, services, renderer)
    _add_form(router, services, renderer)
    return router


def _add_list(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    scores = MainScores(services)

    @router.get(ACTIVE)
    @needs(Permission.EVALS_READ)
    def list_evaluations(request: Request) -> Response:
        params = request.query_params
        filters = {name: params.get(name, "").strip() for name in FILTERS}
        found = services.evaluations.list(
            EvaluationQuery(
                name=filters["name"] or None,
                target=filters["target"] or None,
                dataset=_dataset_ref(filters["dataset"]),
                experiment_id=filters["experiment"] or None,
                tag=filters["tag"] or None,
                states=[state for state in STATES if state == filters["state"]],
                cursor=params.get("cursor") or None,
                limit=PAGE_SIZE,
            )
        )
        page = EvaluationsPage(
            frame=renderer.frame(request, "Evaluations", ACTIVE, notice=params.get("notice")),
            lines=scores.build_lines(found.rows),
            filters=filters,
            targets=tuple(sorted({record.target for record in found.rows if record.target})),
            datasets=tuple(sorted({record.dataset for record in found.rows if record.dataset})),
            is_narrowed=any(filters.values()),
            first_href=link(ACTIVE, filters) if params.get("cursor") else None,
            next_href=link(ACTIVE, filters, cursor=found.next_cursor) if found.next_cursor else None,
        )
        return renderer.show(page)


class MainScores:
    """The first score of each evaluation of a list, counted within a bounded time; what is left comes with the next look."""

    def __init__(self, services: ConsoleServices, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._clock = clock
        self._kept: KeptFigures[Estimate | None] = KeptFigures()

    def build_lines(self, records: Sequence[EvaluationRecord]) -> tuple[EvaluationLine, ...]:
        """Return the rows in order; at least one figure is counted anew."""
        end = self._clock() + PATIENCE_S
        lines = []
        for record in records:
            is_counted = self._kept.has((record,)) or self._clock() < end
            main = self._find(record) if is_counted else None
            lines.append(build_line(record, main, is_waiting=not is_counted))
        return tuple(lines)

    def _find(self, record: EvaluationRecord) -> Estimate | None:
        if not record.n_outputs:
            return None
        try:
            return self._kept.get((record,), lambda: estimate_main(self._services.evaluations, record))
        except PenstockError:
            return None  # a list that shows all others says more than none


def build_line(
    record: EvaluationRecord, main: Estimate | None, *, is_waiting: bool = False
) -> EvaluationLine:
    """Return one row."""
    cost, note = tell_cost(record)
    return EvaluationLine(
        record=record,
        href=f"{ACTIVE}/{record.id}",
        main=None if main is None else build_estimate_line(main, scale_of_estimates([main])),
        is_waiting=is_waiting,
        dataset=record.dataset or record.spec.file or "cases that were sent",
        done_pct=None if record.progress is None else round(100 * record.progress, 1),
        cost=cost,
        cost_note=note,
    )


def _dataset_ref(text: str) -> str | None:
    return None if not text else text if ":" in text else f"dataset:{text}"


def _add_form(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    def show(
        request: Request,
        draft: EvaluationDraft,
        *,
        problem: PenstockError | None = None,
        plan: EvaluationPlan | None = None,
    ) -> Response:
        page = build_form(renderer.frame(request, "New evaluation", ACTIVE), services, draft, problem, plan)
        return renderer.show(page, status=problem.status if problem else 200)

    @router.get(f"{ACTIVE}/new")
    @needs(Permission.EVALS_WRITE)
    def begin(request: Request, like: str = "") -> Response:
        params = request.query_params
        if like:
            return show(request, draft_of(services.evaluations.get(like).spec))
        names = ("dataset", "target", "prompt")
        return show(request, EvaluationDraft(**{name: params.get(name, "") for name in names}))

    @router.post(f"{ACTIVE}/new")
    @needs(Permission.EVALS_WRITE, Permission.MODELS_CALL)
    def take(request: Request) -> Response:
        caller: Caller = request.state.caller
        draft = read_draft(caller.form)
        try:
            spec = to_spec(draft)
            if caller.form.get("step") != "start":
                return show(request, draft, plan=services.evaluations.plan(spec))
            if spec.dataset is not None:
                services.registry.resolve(spec.dataset)  # told here, not by a run that fails at once
            record = services.evaluations.start(spec, actor=actor_of(caller))
        except (CallerError, ConflictError) as error:
            return show(request, draft, problem=error)
        return RedirectResponse(f"{ACTIVE}/{record.id}", status_code=303)


def build_form(
    frame: Frame,
    services: ConsoleServices,
    draft: EvaluationDraft,
    problem: PenstockError | None,
    plan: EvaluationPlan | None,
) -> EvaluationEditPage:
    """Return the page of the form, with what there is to choose from."""
    groups, others = sort_scorers()
    names = {each.name for _, infos in groups for each in infos}
    lines = draft.scorers.splitlines()
    snapshot = services.read_snapshot()
    routes = [route.name for route in snapshot.routes if route.kind == "chat"] if snapshot else []
    prompts = [f"prompt:{asset.name}" for asset in services.registry.list_assets("prompt")]
    return EvaluationEditPage(
        frame=frame,
        draft=draft,
        ticked=frozenset(line for line in lines if line in names),
        extra="\n".join(line for line in lines if line not in names),
        problem=None if problem is None else tell_problem(problem),
        plan=None if plan is None else tell_plan(plan),
        datasets=tuple(f"dataset:{asset.name}" for asset in services.registry.list_assets("dataset")),
        targets=(*routes, *prompts),
        prompts=tuple(prompts),
        groups=groups,
        others=others,
    )


@cache
def sort_scorers() -> tuple[tuple[tuple[str, tuple[ScorerInfo, ...]], ...], tuple[ScorerInfo, ...]]:
    """Return the scorers that a tick is enough for, in groups, and those that need parameters or a model."""
    catalogue = Catalogue()
    groups: dict[str, list[ScorerInfo]] = {}
    others = []
    for info in catalogue.list():
        if _is_enough(catalogue, info):
            groups.setdefault(group_of(info.name), []).append(info)
        else:
            others.append(info)
    return tuple((name, tuple(infos)) for name, infos in groups.items()), tuple(others)


def _is_enough(catalogue: Catalogue, info: ScorerInfo) -> bool:
    """Whether a scorer can be used by its name alone, without a model that judges or embeds."""
    if info.kind != "code" or info.needs & {"judge", "embedder", "likelihood"}:
        return False
    try:
        catalogue.create(ScorerSpec(scorer=info.name))
    except CallerError:
        return False
    return True
