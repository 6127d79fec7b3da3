"""Deployments: the list, the form that asks for one, and one with its proof, processes, events and what can be changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import ConflictError, InvalidInput, NotFound, PenstockError
from penstock.base.offered import require
from penstock.console.links import link
from penstock.console.queries import SearchProblem, tell_problem
from penstock.console.rendering import Page, Renderer, UnavailablePage
from penstock.console.services import ConsoleServices
from penstock.deploy.deployments.service import DeploymentService, EngineView, convert_spec
from penstock.deploy.deployments.types import DeploymentEvent
from penstock.spec.tuning import DeploymentRecord

ACTIVE = "/deployments"
PAGE_SIZE = 100
N_EVENTS = 50
EXAMPLE = "penstock deploy model model:NAME@candidate --name NAME-candidate"
NUMBERS = ("replicas", "weight", "context_length", "slots", "threads")
COUNTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


@dataclass(frozen=True, kw_only=True)
class DeploymentLine:
    """One deployment of the list."""

    record: DeploymentRecord
    tokens_per_s: float | None
    n_ready: int
    n_restarts: int


@dataclass(frozen=True, kw_only=True)
class DeploymentsPage(Page):
    """All deployments."""

    template: ClassVar[str] = "deployments.html"
    lines: tuple[DeploymentLine, ...]
    total: int
    first_href: str | None
    next_href: str | None
    is_moving: bool
    example: str = EXAMPLE


@dataclass(frozen=True, kw_only=True)
class NewDeploymentPage(Page):
    """The form that asks for a deployment."""

    template: ClassVar[str] = "deployment_new.html"
    values: Mapping[str, str]
    models: tuple[str, ...]
    problem: SearchProblem | None = None


@dataclass(frozen=True, kw_only=True)
class EngineLine:
    """One process of a deployment."""

    view: EngineView
    tokens_per_s: float | None
    counts: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class ProofLine:
    """What was proven of one process."""

    number: int
    is_passed: bool
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class DeploymentLive:
    """What changes while a deployment is on its way."""

    record: DeploymentRecord
    sentence: str
    engines: tuple[EngineLine, ...]
    proofs: tuple[ProofLine, ...]
    events: tuple[DeploymentEvent, ...]
    older: int | None


@dataclass(frozen=True, kw_only=True)
class DeploymentPage(Page):
    """One deployment."""

    template: ClassVar[str] = "deployment.html"
    live: DeploymentLive
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class DeploymentLivePage(Page):
    """The part of the page that changes."""

    template: ClassVar[str] = "deployment_live.html"
    live: DeploymentLive


def deployments_of(services: ConsoleServices) -> DeploymentService:
    """Return the service; raise `NotFound` where nothing can be deployed."""
    return require(services.deployments, "Nothing can be deployed here.")


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/deployments` and below."""
    router = APIRouter(include_in_schema=False)
    _add_list(router, services, renderer)
    _add_one(router, services, renderer)
    _add_actions(router, services)
    return router


def _add_list(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(ACTIVE)
    @needs(Permission.DEPLOYMENTS_READ)
    def list_deployments(request: Request, after: str = "", notice: str | None = None) -> Response:
        if services.deployments is None:
            frame = renderer.frame(request, "Deployments", ACTIVE)
            return renderer.show(UnavailablePage(frame=frame, reason="Nothing can be deployed here."))
        deployments = deployments_of(services)
        found = deployments.list(after=after, limit=PAGE_SIZE)
        page = DeploymentsPage(
            frame=renderer.frame(request, "Deployments", ACTIVE, notice=notice),
            lines=tuple(_line(deployments, record) for record in found.rows),
            total=found.total,
            first_href=ACTIVE if after else None,
            next_href=link(ACTIVE, {"after": found.next_cursor}) if found.next_cursor else None,
            is_moving=any(not record.is_settled for record in found.rows),
        )
        return renderer.show(page)

    def show_form(
        request: Request, values: Mapping[str, str], problem: PenstockError | None = None
    ) -> Response:
        page = NewDeploymentPage(
            frame=renderer.frame(request, "New deployment", ACTIVE),
            values=values,
            models=tuple(
                f"model:{asset.name}@{alias}"
                for asset in services.registry.list_assets("model")
                for alias in (*sorted(asset.aliases), str(asset.latest))
            ),
            problem=None if problem is None else tell_problem(problem),
        )
        return renderer.show(page, status=problem.status if problem else 200)

    @router.get("/deployments-new")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def begin(request: Request) -> Response:
        names = ("name", "model", "route", "engine", "url", "adapters", *NUMBERS)
        return show_form(request, {name: request.query_params.get(name, "") for name in names})

    @router.post("/deployments-new")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def deploy(request: Request) -> Response:
        caller: Caller = request.state.caller
        try:
            spec = convert_spec(read_form(caller.form))
            record = deployments_of(services).deploy(spec, actor=actor_of(caller))
        except (InvalidInput, NotFound, ConflictError) as error:
            return show_form(request, caller.form, error)
        return RedirectResponse(f"{ACTIVE}/{record.name}", status_code=303)


def read_form(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the specification that a form says; fields left empty keep their defaults. Raises `InvalidInput`."""
    values: dict[str, Any] = {
        name: form[name].strip()
        for name in ("name", "model", "route", "engine", "url", "served_name", "secret")
        if form.get(name, "").strip()
    }
    for name in NUMBERS:
        text = form.get(name, "").strip()
        if text and not (text.isascii() and text.isdigit()):
            raise InvalidInput(f"{text!r} is no whole number.", where=name)
        if text:
            values[name] = int(text)
    adapters = [each.strip() for each in form.get("adapters", "").split(",") if each.strip()]
    if adapters:
        values["adapters"] = adapters
    if form.get("follow"):
        values["follow"] = True
    return values


def _add_one(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(f"{ACTIVE}/{{name}}")
    @needs(Permission.DEPLOYMENTS_READ)
    def show(request: Request, name: str, notice: str | None = None, before: int | None = None) -> Response:
        live = build_live(deployments_of(services), name, before=before)
        spec = msgspec.to_builtins(live.record.spec)
        page = DeploymentPage(
            frame=renderer.frame(request, name, ACTIVE, notice=notice),
            live=live,
            settings=tuple((key.replace("_", " "), _say(value)) for key, value in spec.items()),
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{name}}/live")
    @needs(Permission.DEPLOYMENTS_READ)
    def show_live(request: Request, name: str) -> Response:
        live = build_live(deployments_of(services), name)
        return renderer.show(DeploymentLivePage(frame=renderer.frame(request, name, ACTIVE), live=live))


def _add_actions(router: APIRouter, services: ConsoleServices) -> None:
    @router.post(f"{ACTIVE}/{{name}}/swap")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def swap(request: Request, name: str) -> Response:
        caller: Caller = request.state.caller
        try:
            changes = read_form(caller.form)
            changes["follow"] = bool(caller.form.get("follow"))
            changes.setdefault("adapters", [])  # an emptied field takes them away
            deployments_of(services).swap(name, changes, actor=actor_of(caller))
        except PenstockError as error:
            return _back(name, error)
        return _back(name, "The new process is proven first; then it takes the calls, and the old one ends.")

    @router.post(f"{ACTIVE}/{{name}}/rollback")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def roll_back(request: Request, name: str) -> Response:
        try:
            deployments_of(services).roll_back(name, actor=actor_of(request.state.caller))
        except PenstockError as error:
            return _back(name, error)
        return _back(name, "What was served before is being started and proven.")

    @router.post(f"{ACTIVE}/{{name}}/delete")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def delete(request: Request, name: str) -> Response:
        try:
            deployments_of(services).delete(name, actor=actor_of(request.state.caller))
        except PenstockError as error:
            return _back(name, error)
        notice = f"{name} goes: its route first, then its processes when no call needs them."
        return RedirectResponse(link(ACTIVE, {"notice": notice}), status_code=303)


def _back(name: str, said: PenstockError | str) -> Response:
    notice = said if isinstance(said, str) else f"{said.message} {said.hint or ''}".strip()
    return RedirectResponse(link(f"{ACTIVE}/{name}", {"notice": notice}), status_code=303)


def build_live(deployments: DeploymentService, name: str, *, before: int | None = None) -> DeploymentLive:
    """Return how a deployment is now; asks its processes."""
    record = deployments.get(name)
    events = deployments.events(name, before=before, limit=N_EVENTS)
    return DeploymentLive(
        record=record,
        sentence=say_deployment(record),
        engines=tuple(_engine_line(view) for view in deployments.engines(name)),
        proofs=tell_proof(record.proof),
        events=events.rows,
        older=events.next_cursor,
    )


def say_deployment(record: DeploymentRecord) -> str:
    """Return how a deployment stands, as a sentence."""
    if record.state == "failed" and record.version is None:
        return f"{record.spec.model} did not get to answer."
    if record.version is None:
        return f"{record.coming or record.spec.model} is being started."
    parts = [f"{record.version} answers as {record.route or record.name}"]
    if record.coming:
        parts.append(f"{record.coming} is on its way to take over")
    if record.previous:
        parts.append(f"before it, {record.previous} did")
    if record.swaps:
        parts.append(f"swapped {record.swaps} {'time' if record.swaps == 1 else 'times'}")
    return f"{'; '.join(parts)}."


def tell_proof(proof: Mapping[str, Any] | None) -> tuple[ProofLine, ...]:
    """Return what was proven of each process, in words."""
    lines = []
    for number, found in enumerate((proof or {}).get("engines") or (), start=1):
        rows = [
            (str(key).replace("_", " "), _say_proof(value)) for key, value in found.items() if key != "passed"
        ]
        lines.append(ProofLine(number=number, is_passed=bool(found.get("passed")), rows=tuple(rows)))
    return tuple(lines)


def _say_proof(value: Any) -> str:
    if isinstance(value, Mapping) and "max_difference" in value:
        return f"differ by at most {value['max_difference']:g}, {value.get('bound', '–')} allowed"
    return _say(value)


def _say(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_say(each)}" for key, each in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_say, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _line(deployments: DeploymentService, record: DeploymentRecord) -> DeploymentLine:
    views = deployments.engines(record.name)
    serving = [view for view in views if view.role == "serving"]
    known = [view.tokens_per_s for view in serving if view.tokens_per_s is not None]
    return DeploymentLine(
        record=record,
        tokens_per_s=sum(known) if known else None,
        n_ready=sum(view.state.status == "ready" for view in serving),
        n_restarts=sum(view.state.n_restarts for view in serving),
    )


def _engine_line(view: EngineView) -> EngineLine:
    models = (view.told or {}).get("models") or ()
    return EngineLine(
        view=view,
        tokens_per_s=view.tokens_per_s,
        counts=tuple(sum(int(each.get(name) or 0) for each in models) if models else None for name in COUNTS),
    )
