"""The playground side by side: up to four variants of a prompt on the same values, and on the cases of a dataset."""

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from penstock.access.declarations import actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput, PenstockError
from penstock.base.ids import new_id
from penstock.console.gateway_client import GatewayClient
from penstock.console.pages.evaluations import sort_scorers
from penstock.console.pages.playground import MAX_CALL_BYTES, relay_call
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.console.variant_calls import (
    MAX_VARIANTS,
    build_body,
    decode_call,
    decode_run,
    find_pages,
    make_specs,
)
from penstock.datasets.cases import row_to_case

ACTIVE = "/playground"
PATH = f"{ACTIVE}/compare"
SHOWN_VERSIONS = 12


@dataclass(frozen=True, kw_only=True)
class VersionChoice:
    """One version that a variant can be."""

    label: str
    title: str


@dataclass(frozen=True, kw_only=True)
class ComparePage(Page):
    """The form; the script does the rest."""

    template: ClassVar[str] = "playground_compare.html"
    models: tuple[str, ...]
    prompts: tuple[tuple[str, tuple[VersionChoice, ...]], ...]
    datasets: tuple[str, ...]
    scorers: tuple[tuple[str, tuple[str, ...]], ...]
    start_json: str
    """Labels of the versions that the URL names."""
    can_evaluate: bool
    max_variants: int = MAX_VARIANTS


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/playground/compare` and what its script asks."""
    router = APIRouter(include_in_schema=False)
    _add_page(router, services, renderer)
    _add_calls(router, services)
    return router


def _add_page(router: APIRouter, services: ConsoleServices, renderer: Renderer) -> None:
    @router.get(PATH)
    @needs(Permission.MODELS_CALL, Permission.ROUTES_READ, Permission.PROMPTS_READ)
    def show(request: Request) -> Response:
        named = [
            services.prompts.get(each).label
            for each in request.query_params.getlist("variant")[:MAX_VARIANTS]
        ]
        snapshot = services.read_snapshot()
        prompts = tuple(
            (each.name, _versions(services, each.name)) for each in services.prompts.list_prompts()
        )
        page = ComparePage(
            frame=renderer.frame(request, "Side by side", ACTIVE),
            models=tuple(
                route.name
                for route in (snapshot.routes if snapshot else ())
                if route.kind != "embedding"
                and "*" not in route.name
                and not route.name.startswith("prompt:")
            ),
            prompts=prompts,
            datasets=tuple(each.name for each in services.datasets.list_datasets() if each.n_rows),
            scorers=tuple((name, tuple(info.name for info in infos)) for name, infos in sort_scorers()[0]),
            start_json=msgspec.json.encode(named).decode(),
            can_evaluate=bool(prompts),
        )
        return renderer.show(page)


def _versions(services: ConsoleServices, name: str) -> tuple[VersionChoice, ...]:
    found = services.prompts.list_versions(name)
    shown = [each for place, each in enumerate(found) if place < SHOWN_VERSIONS or each.aliases]
    return tuple(
        VersionChoice(
            label=each.label,
            title=f"{each.name} {each.number}" + (f" ({', '.join(each.aliases)})" if each.aliases else ""),
        )
        for each in shown
    )


def _add_calls(router: APIRouter, services: ConsoleServices) -> None:
    gateway = GatewayClient(services.gateway_url, services.internal_key)

    @router.post(f"{ACTIVE}/variant")
    @needs(Permission.MODELS_CALL, Permission.PROMPTS_READ)
    async def call_variant(request: Request) -> Response:
        raw = await request.body()
        if len(raw) > MAX_CALL_BYTES:
            raise InvalidInput("The variant is over 1 MiB.")
        try:
            body = await run_in_threadpool(build_body, decode_call(raw), services.prompts)
        except PenstockError as error:
            return JSONResponse({"error": error.as_dict()}, status_code=error.status)
        return await relay_call(gateway, body, user=request.state.caller.key.name)

    @router.get(f"{ACTIVE}/case")
    @needs(Permission.DATASETS_READ)
    def show_case(dataset: str, place: int = 0, case: str = "") -> Response:
        try:
            return JSONResponse(find_case(services, dataset, place=place, case_id=case))
        except PenstockError as error:
            return JSONResponse({"error": error.as_dict()}, status_code=error.status)

    @router.post(f"{ACTIVE}/evaluate")
    @needs(Permission.EVALS_WRITE, Permission.MODELS_CALL)
    async def evaluate(request: Request) -> Response:
        raw = await request.body()
        actor = actor_of(request.state.caller)
        try:
            told = await run_in_threadpool(start_evaluations, services, raw, actor=actor)
        except PenstockError as error:
            return JSONResponse({"error": error.as_dict()}, status_code=error.status)
        return JSONResponse(told, status_code=201)


def find_case(services: ConsoleServices, dataset: str, *, place: int, case_id: str) -> dict[str, Any]:
    """Return one case with its place among the rows; raise what reading raises."""
    version = services.datasets.get(dataset)
    if case_id:
        for number, row in enumerate(services.datasets.read(version.ref)):
            if row.id == case_id:
                place = number
                break
        else:
            row = services.datasets.row(version.ref, case_id)  # raises that there is none
    else:
        place = max(0, min(place, version.facts.n_rows - 1))
        found = services.datasets.rows(version.ref, offset=place, limit=1).rows
        if not found:
            raise InvalidInput(f"{version.ref} has no rows.")
        row = found[0]
    case = row_to_case(row, version.facts.format)
    plain: dict[str, Any] = msgspec.to_builtins(
        {"inputs": case.inputs, "expected": case.expected, "messages": case.messages}
    )
    return {"ref": version.ref, "id": row.id, "place": place, "n_rows": version.facts.n_rows, **plain}


def start_evaluations(services: ConsoleServices, raw: bytes, *, actor: str) -> dict[str, Any]:
    """Start one evaluation a variant and return where to look at them; raise before the first one is started."""
    run = decode_run(raw)
    tag = new_id("play")
    specs = make_specs(run, tag=tag)
    services.datasets.get(run.dataset)
    for each, spec in zip(run.variants, specs, strict=True):
        services.prompts.get(each.prompt)  # what cannot be run is told before any of them is started
        services.evaluations.plan(spec)
    records = [services.evaluations.start(spec, actor=actor) for spec in specs]
    return {"evaluations": [record.id for record in records], "links": find_pages(records, tag)}
