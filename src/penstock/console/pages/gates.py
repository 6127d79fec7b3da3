"""Gates: verdicts as sentences, the rules behind them, what to do next, and the move of an alias that a pass allows."""

from dataclasses import dataclass
from typing import ClassVar, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.alias_claims import check_claim
from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput, NotFound, PenstockError
from penstock.console.estimate_lines import build_comparison_lines, build_estimate_line
from penstock.console.formats import format_money
from penstock.console.interval_marks import Mark, scale_of_estimates
from penstock.console.links import link
from penstock.console.rendering import Frame, Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.evals.gates.types import GateQuery
from penstock.spec.assets import AssetRef, parse_asset_ref
from penstock.spec.evaluations import GateResult, RuleResult, VerdictWord

ACTIVE = "/gates"
VERDICTS: tuple[VerdictWord, ...] = get_args(VerdictWord)
EXAMPLE = "penstock gate run gate.toml"
EXAMPLE_FILE = """name = "handbook"
candidate = "prompt:answer@latest"
baseline = "prompt:answer@prod"
rules = [
  "token_f1 >= baseline - 1 point",
  "latency_ms p95 <= 2000",
  "errors <= 1 %",
]

[evaluation]
name = "handbook"
dataset = "dataset:questions"
target = { model = "prompt:answer@latest" }
scorers = [{ scorer = "token_f1" }]"""


@dataclass(frozen=True, kw_only=True)
class GateLine:
    """One verdict in the list."""

    result: GateResult
    href: str
    n_passed: int
    cost: str


@dataclass(frozen=True, kw_only=True)
class GatesPage(Page):
    """All verdicts."""

    template: ClassVar[str] = "gates.html"
    lines: tuple[GateLine, ...]
    name: str
    verdict: str
    verdicts: tuple[VerdictWord, ...] = VERDICTS
    is_narrowed: bool
    first_href: str | None
    next_href: str | None
    example: str = EXAMPLE
    example_file: str = EXAMPLE_FILE


@dataclass(frozen=True, kw_only=True)
class RuleLine:
    """One rule with how it came out."""

    item: RuleResult
    mark: Mark | None
    method: str


@dataclass(frozen=True, kw_only=True)
class Moving:
    """The alias that a verdict could move."""

    ref: AssetRef
    number: int
    aliases: tuple[tuple[str, int], ...]
    is_allowed: bool
    why_not: str


@dataclass(frozen=True, kw_only=True)
class GatePage(Page):
    """One verdict."""

    template: ClassVar[str] = "gate.html"
    result: GateResult
    lines: tuple[RuleLine, ...]
    compare_href: str | None
    versions: tuple[tuple[str, str], ...]
    moving: Moving | None
    cost: str


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/gates` and below."""
    router = APIRouter(include_in_schema=False)

    @router.get(ACTIVE)
    @needs(Permission.EVALS_READ)
    def list_gates(request: Request, name: str = "", verdict: str = "", cursor: str = "") -> Response:
        words = [word for word in VERDICTS if word == verdict]
        base = {"name": name.strip(), "verdict": verdict}
        found = services.gates.list(
            GateQuery(
                name=name.strip() or None,
                verdict=words[0] if words else None,
                cursor=cursor or None,
            )
        )
        page = GatesPage(
            frame=renderer.frame(request, "Gates", ACTIVE, notice=request.query_params.get("notice")),
            lines=tuple(_line(each) for each in found.rows),
            name=name,
            verdict=verdict,
            is_narrowed=any(base.values()),
            first_href=link(ACTIVE, base) if cursor else None,
            next_href=link(ACTIVE, base, cursor=found.next_cursor) if found.next_cursor else None,
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{result_id}}")
    @needs(Permission.EVALS_READ)
    def show_gate(request: Request, result_id: str) -> Response:
        result = services.gates.get(result_id)
        frame = renderer.frame(request, result.name, ACTIVE, notice=request.query_params.get("notice"))
        return renderer.show(build_page(frame, services, result))

    @router.post(f"{ACTIVE}/{{result_id}}/move")
    @needs(Permission.ALIASES_MOVE)
    def move_alias(request: Request, result_id: str) -> Response:
        caller: Caller = request.state.caller
        result = services.gates.get(result_id)
        moving = find_moving(services, result)
        alias = caller.form.get("alias", "").strip()
        if moving is None or not alias:
            raise InvalidInput("A move needs an alias of what was judged.")
        evidence = services.gates.evidence(result.id)
        try:
            check_claim(caller.key, is_protected=services.registry.protects(alias), evidence=evidence)
            move = services.registry.move_alias(
                moving.ref.kind,
                moving.ref.name,
                alias,
                moving.number,
                actor=actor_of(caller),
                evidence=evidence,
                reason=caller.form.get("reason", "").strip() or f"Passed the gate {result.name}",
            )
        except PenstockError as error:
            return _back(result_id, f"{error.message} {error.hint or ''}".strip())
        services.take_up_alias(move)
        return _back(
            result_id, f"{alias} of {moving.ref.kind}:{moving.ref.name} now names version {moving.number}."
        )

    return router


def build_page(frame: Frame, services: ConsoleServices, result: GateResult) -> GatePage:
    """Return the page of one verdict."""
    sides = result.evaluations
    return GatePage(
        frame=frame,
        result=result,
        lines=tuple(_rule(each, result) for each in result.rules),
        compare_href=link("/evaluations/compare", {"a": sides[1], "b": sides[0]}) if len(sides) > 1 else None,
        versions=tuple(sorted(result.versions.items())),
        moving=find_moving(services, result),
        cost=format_money(result.cost_usd),
    )


def find_moving(services: ConsoleServices, result: GateResult) -> Moving | None:
    """Return the version that was judged and its aliases; None where that is no version of an asset."""
    try:
        ref = parse_asset_ref(result.candidate)
        version = services.registry.resolve(ref)
    except (InvalidInput, NotFound):
        return None
    reasons = {
        "fail": "The gate failed: mend what the rules say, and run it again.",
        "undecided": "The gate is undecided: the next step of each rule says what would decide it.",
        "invalid": "The verdict is invalid: it says nothing about this version.",
        "pass": "",
    }
    return Moving(
        ref=ref,
        number=version.number,
        aliases=tuple(sorted(services.registry.aliases(ref.kind, ref.name).items())),
        is_allowed=result.verdict == "pass",
        why_not=reasons[result.verdict],
    )


def _line(result: GateResult) -> GateLine:
    return GateLine(
        result=result,
        href=f"{ACTIVE}/{result.id}",
        n_passed=sum(each.verdict == "pass" for each in result.rules),
        cost=format_money(result.cost_usd),
    )


def _rule(item: RuleResult, result: GateResult) -> RuleLine:
    if item.comparison is not None:
        line = build_comparison_lines([item.comparison], result.baseline or "baseline", result.candidate)[0]
        return RuleLine(item=item, mark=line.mark, method=line.method)
    if item.estimate is not None:
        told = build_estimate_line(item.estimate, scale_of_estimates([item.estimate]))
        return RuleLine(item=item, mark=told.mark, method=told.method)
    return RuleLine(item=item, mark=None, method="")


def _back(result_id: str, notice: str) -> Response:
    return RedirectResponse(link(f"{ACTIVE}/{result_id}", {"notice": notice}), status_code=303)
