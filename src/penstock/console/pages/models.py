"""Models: the list, and one version with its card, where it came from, what was proven and measured, and its actions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast, get_args

from fastapi import APIRouter
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission, has_permission
from penstock.base.errors import InvalidInput, PenstockError
from penstock.base.offered import require
from penstock.console.lineage_graphs import LineageDrawing, draw_lineage
from penstock.console.links import link
from penstock.console.markdown import render_markdown
from penstock.console.measured_models import MeasuredTable, build_tables
from penstock.console.pages.deployments import deployments_of
from penstock.console.rendering import Page, Renderer, UnavailablePage
from penstock.console.services import ConsoleServices
from penstock.registry.types import AliasMove
from penstock.spec.tuning import DeploymentSpec, FilePrecision
from penstock.tuning.catalogue import ModelCatalogue, ModelDetail, ModelRow
from penstock.tuning.compress.requests import MeasureRequest, QuantiseRequest
from penstock.tuning.compress.service import CompressService

ACTIVE = "/models"
PAGE_SIZE = 50
KINDS = ("chat", "embedding", "rerank", "adapter")
PRECISIONS: tuple[str, ...] = get_args(FilePrecision)


@dataclass(frozen=True, kw_only=True)
class ModelsPage(Page):
    """All models."""

    template: ClassVar[str] = "models.html"
    rows: tuple[ModelRow, ...]
    total: int
    filters: Mapping[str, str]
    kinds: tuple[str, ...] = KINDS
    is_narrowed: bool
    first_href: str | None
    next_href: str | None


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One thing that was proven of a version before it was registered."""

    name: str
    outcome: str
    bound: str
    is_held: bool


@dataclass(frozen=True, kw_only=True)
class ModelPage(Page):
    """One version of a model."""

    template: ClassVar[str] = "model.html"
    detail: ModelDetail
    base_path: str
    sentence: str
    card: Markup | None
    card_text: str
    graph: LineageDrawing
    proofs: tuple[Proof, ...]
    tables: tuple[MeasuredTable, ...]
    origin: tuple[tuple[str, str, str | None], ...]
    """Name, what it is, and where it leads."""
    facts: tuple[tuple[str, str], ...]
    moves: tuple[AliasMove, ...]
    deployments: tuple[tuple[str, str], ...]
    """Name and state of those that serve this version."""
    precisions: tuple[str, ...]
    may: Mapping[str, bool]

    @property
    def against(self) -> str | None:
        """The version that most of it was held against."""
        return next((each.against for each in self.tables if each.against), None)


def models_of(services: ConsoleServices) -> ModelCatalogue:
    """Return the catalogue; raise `NotFound` where there is none."""
    return require(services.models, "There are no models here.", hint=None)


def compressing_of(services: ConsoleServices) -> CompressService:
    """Return what makes and measures smaller models; raise `NotFound` where nothing does."""
    return require(services.compressing, "Nothing works on models here.")


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/models` and below."""
    router = APIRouter(include_in_schema=False)

    @router.get(ACTIVE)
    @needs(Permission.REGISTRY_READ)
    def list_models(request: Request, kind: str = "", text: str = "", cursor: str = "") -> Response:
        if services.models is None:
            frame = renderer.frame(request, "Models", ACTIVE)
            return renderer.show(UnavailablePage(frame=frame, reason="There are no models here."))
        kind = kind if kind in KINDS else ""
        found = models_of(services).list(
            kind=kind or None, text=text.strip(), cursor=cursor or None, limit=PAGE_SIZE
        )
        filters = {"kind": kind, "text": text.strip()}
        page = ModelsPage(
            frame=renderer.frame(request, "Models", ACTIVE),
            rows=found.rows,
            total=found.total,
            filters=filters,
            is_narrowed=any(filters.values()),
            first_href=link(ACTIVE, filters) if cursor else None,
            next_href=link(ACTIVE, filters, cursor=found.next_cursor) if found.next_cursor else None,
        )
        return renderer.show(page)

    @router.get(f"{ACTIVE}/{{name}}")
    @needs(Permission.REGISTRY_READ)
    def show_model(request: Request, name: str, notice: str | None = None) -> Response:
        detail = models_of(services).show(name)
        return renderer.show(_build_page(services, renderer, request, detail, notice))

    @router.get(f"{ACTIVE}/{{name}}/{{number}}")
    @needs(Permission.REGISTRY_READ)
    def show_version(request: Request, name: str, number: int, notice: str | None = None) -> Response:
        detail = models_of(services).show(f"{name}@{number}")
        return renderer.show(_build_page(services, renderer, request, detail, notice))

    _add_actions(router, services)
    return router


def _add_actions(router: APIRouter, services: ConsoleServices) -> None:
    @router.post(f"{ACTIVE}/{{name}}/{{number}}/deploy")
    @needs(Permission.DEPLOYMENTS_WRITE)
    def deploy(request: Request, name: str, number: int) -> Response:
        caller: Caller = request.state.caller
        wanted = caller.form.get("deployment", "").strip()
        try:
            spec = DeploymentSpec(name=wanted, model=f"model:{name}@{number}")
            record = deployments_of(services).deploy(spec, actor=actor_of(caller))
        except PenstockError as error:
            return _back(name, number, error)
        return RedirectResponse(f"/deployments/{record.name}", status_code=303)

    @router.post(f"{ACTIVE}/{{name}}/{{number}}/quantise")
    @needs(Permission.TUNING_WRITE)
    def quantise(request: Request, name: str, number: int) -> Response:
        caller: Caller = request.state.caller
        wanted = cast(
            "tuple[FilePrecision, ...]",
            tuple(each for each in PRECISIONS if caller.form.get(f"precision:{each}")),
        )
        try:
            if not wanted:
                raise InvalidInput("Choose at least one precision.")
            asked = QuantiseRequest(model=f"model:{name}@{number}", precisions=wanted)
            job = compressing_of(services).quantise(asked, actor=actor_of(caller))
        except PenstockError as error:
            return _back(name, number, error)
        return RedirectResponse(f"/jobs/{job}", status_code=303)

    @router.post(f"{ACTIVE}/{{name}}/{{number}}/verify")
    @needs(Permission.REGISTRY_READ, Permission.JOBS_WRITE)
    def verify(request: Request, name: str, number: int) -> Response:
        caller: Caller = request.state.caller
        try:
            job = compressing_of(services).verify(
                f"model:{name}@{number}",
                with_parity=bool(caller.form.get("parity")),
                actor=actor_of(caller),
            )
        except PenstockError as error:
            return _back(name, number, error)
        return RedirectResponse(f"/jobs/{job}", status_code=303)

    @router.post(f"{ACTIVE}/{{name}}/{{number}}/measure")
    @needs(Permission.TUNING_WRITE)
    def measure(request: Request, name: str, number: int) -> Response:
        caller: Caller = request.state.caller
        cases = caller.form.get("cases", "").strip()
        against = caller.form.get("against", "").strip()
        try:
            asked = MeasureRequest(
                models=(f"model:{name}@{number}",), cases=cases or None, against=against or None
            )
            job = compressing_of(services).measure(asked, actor=actor_of(caller))
        except PenstockError as error:
            return _back(name, number, error)
        return RedirectResponse(f"/jobs/{job}", status_code=303)


def _back(name: str, number: int, error: PenstockError) -> Response:
    notice = f"{error.message} {error.hint or ''}".strip()
    return RedirectResponse(link(f"{ACTIVE}/{name}/{number}", {"notice": notice}), status_code=303)


def _build_page(
    services: ConsoleServices, renderer: Renderer, request: Request, detail: ModelDetail, notice: str | None
) -> ModelPage:
    models, version = models_of(services), detail.version
    graph = models.lineage(version.label)
    labels = {node.digest: node.label for node in graph.nodes}
    labels |= {each.digest: each.label for each in detail.versions}
    found = services.compressing.newest(version.label) if services.compressing is not None else {}
    tables = build_tables(found, own=version.label, labels=labels)
    return ModelPage(
        frame=renderer.frame(request, version.label, ACTIVE, notice=notice),
        detail=detail,
        base_path=f"{ACTIVE}/{detail.row.name}",
        sentence=say_version(detail),
        card=render_markdown(detail.card, keeps_lines=False),
        card_text=detail.card,
        graph=draw_lineage(graph),
        proofs=tell_proofs(detail.content),
        tables=tables,
        origin=tell_origin(graph.origin),
        facts=_tell_facts(detail.content),
        moves=tuple(services.registry.history("model", detail.row.name, limit=50)),
        deployments=_find_deployments(services, version.digest),
        precisions=tuple(each for each in PRECISIONS if each != version.precision),
        may=_tell_actions(services, request.state.caller, detail),
    )


def say_version(detail: ModelDetail) -> str:
    """Return what a version is, in one sentence."""
    content = detail.content
    size = content.get("n_parameters")
    parts = [f"A {content.get('architecture') or ''} model".replace("  ", " ")]
    if detail.version.is_adapter:
        parts = ["An adapter"]
    if content.get("kind"):
        parts.append(f"for {content['kind']}")
    if size:
        parts.append(
            f"with {size / 1e6:.1f} M parameters" if size < 1e9 else f"with {size / 1e9:.1f} B parameters"
        )
    if detail.version.precision:
        parts.append(f"in {detail.version.precision}")
    if detail.version.method:
        parts.append(f"made by {detail.version.method}")
    if detail.version.base:
        parts.append(f"from {detail.version.base}")
    return f"{' '.join(parts)}."


def tell_proofs(content: Mapping[str, Any]) -> tuple[Proof, ...]:
    """Return what was proven, each with its bound."""
    parity: Mapping[str, Any] = content.get("parity") or {}
    bounds: Mapping[str, Any] = parity.get("thresholds") or {}
    is_held = bool(parity.get("passed"))
    proofs = []
    for key, name, bound, is_lower in (
        ("mean_kl", "Divergence from the source, mean (nats)", "max_kl", True),
        ("file_kl", "Divergence from the file's own weights (nats)", "max_file_kl", True),
        ("top1_agreement", "Same likeliest token as the source", "min_top1_agreement", False),
        ("min_cosine", "Smallest cosine to the source", "min_cosine", False),
        ("max_abs_logprob", "Largest difference of a log-probability", "", True),
        ("max_weight_error", "Largest error of a tensor read back", "max_weight_error", True),
    ):
        value, limit = parity.get(key), bounds.get(bound)
        if value is None:
            continue
        told = f"{value:.1%}" if key == "top1_agreement" else f"{value:.3g}"
        sign = "at most" if is_lower else "at least"
        limits = (
            "" if limit is None else f"{sign} {limit:.0%}" if key == "top1_agreement" else f"{sign} {limit:g}"
        )
        proofs.append(Proof(name=name, outcome=told, bound=limits, is_held=is_held))
    golden = content.get("golden") or ()
    if golden:
        n_golden = f"{len(golden):,} conversation{'' if len(golden) == 1 else 's'}"
        words = f"{n_golden}, id by id"
        proofs.append(Proof(name="Golden vectors", outcome=words, bound="all, at every load", is_held=True))
    return tuple(proofs)


def tell_origin(origin: Mapping[str, Any]) -> tuple[tuple[str, str, str | None], ...]:
    """Return what a version came from beside other versions: run, recipe, code, environment, hardware, evaluation."""
    rows: list[tuple[str, str, str | None]] = []
    if origin.get("run"):
        rows.append(("Run", str(origin["run"]), f"/tuning/{origin['run']}"))
    for pinned in origin.get("data") or ():
        kind, _, name = str(pinned.get("asset", "")).partition(":")
        where = f"/datasets/{name}" if kind == "dataset" else f"/assets/{kind}/{name}/{pinned.get('number')}"
        rows.append(("Data", f"{pinned.get('asset')}@{pinned.get('number')}", where))
    for key, name in (("recipe_digest", "Recipe"), ("frozen_digest", "Frozen as"), ("code", "Code")):
        if origin.get(key):
            rows.append((name, str(origin[key]), None))
    environment = origin.get("environment") or {}
    if environment:
        packages = environment.get("packages") or {}
        wanted = [
            f"{name} {packages[name]}"
            for name in ("torch", "transformers", "trl", "peft")
            if name in packages
        ]
        told = ", ".join(wanted) or f"{len(packages)} packages"
        rows.append(("Environment", f"{told} ({environment.get('digest', '')})", None))
    hardware = origin.get("hardware") or {}
    if hardware:
        told = ", ".join(
            f"{name} {value}" for name, value in hardware.items() if not isinstance(value, dict | list)
        )
        rows.append(("Hardware", told, None))
    evaluation = origin.get("evaluation") or {}
    if evaluation.get("metric"):
        told = f"{evaluation['metric']} {evaluation.get('value'):.4g} at step {evaluation.get('step')}"
        rows.append(("Held out", told, None))
    return tuple(rows)


def _tell_facts(content: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    sampling = content.get("sampling") or {}
    facts = [
        ("Licence", content.get("license") or "unknown"),
        ("Context", f"{content['context_length']:,} tokens" if content.get("context_length") else None),
        ("Kept as", ", ".join(content.get("formats") or ()) or None),
        ("Replies end at", ", ".join(map(str, content.get("stop_ids") or ())) or None),
        ("Sampling", ", ".join(f"{name} {value}" for name, value in sampling.items()) or None),
        ("Renderer", content.get("renderer_digest")),
        ("Source", (content.get("source") or {}).get("reference")),
    ]
    return tuple((name, str(value)) for name, value in facts if value)


def _find_deployments(services: ConsoleServices, digest: str) -> tuple[tuple[str, str], ...]:
    if services.deployments is None:
        return ()
    rows = services.deployments.list(limit=200).rows
    return tuple((each.name, each.state) for each in rows if each.digest == digest)


def _tell_actions(services: ConsoleServices, caller: Caller, detail: ModelDetail) -> Mapping[str, bool]:
    def is_allowed(permission: Permission) -> bool:
        return caller.key is not None and has_permission(caller.key, permission)

    is_chat = detail.version.kind == "chat" and not detail.version.is_adapter
    can_tune, can_deploy = is_allowed(Permission.TUNING_WRITE), is_allowed(Permission.DEPLOYMENTS_WRITE)
    is_float = detail.version.precision in {"f32", "f16"}
    return {
        "deploy": services.deployments is not None and can_deploy and not detail.version.is_adapter,
        "quantise": services.compressing is not None and can_tune and is_float,
        "measure": services.compressing is not None and can_tune and is_chat,
        "verify": services.compressing is not None and is_allowed(Permission.JOBS_WRITE),
        "tune": services.tuning is not None and can_tune and is_chat and is_float,
        "ask": is_chat and detail.row.is_live and "prod" in detail.version.aliases,
    }
