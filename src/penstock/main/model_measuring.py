"""Measures versions of models side by side: gathers texts and cases, has a process do the work, makes figures, keeps them.

The versions are measured in one session, in turns, on engines started for it: no deployment is needed, and none is asked. The first
version is the one that the others are held against: the one named, else the parent that the first of them was made from.
"""

import importlib.metadata
import itertools
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.clock import now_ns
from penstock.base.digest import digest_json
from penstock.base.ids import new_id
from penstock.datasets.handbook import HANDBOOK as SHIPPED_PLACES
from penstock.datasets.handbook import write_handbook
from penstock.datasets.service import DatasetService
from penstock.evals.catalogue import Catalogue
from penstock.main.compress_child import run_child
from penstock.main.copies import hold_copies
from penstock.main.dataset_rooms import create_datasets
from penstock.main.eval_cases import DatasetCases, draw, open_to_reading
from penstock.main.eval_ports import read_registered_scorer
from penstock.main.job_wait import Tell
from penstock.main.model_figures import compare_figures, make_figures, task_facts
from penstock.main.model_tasks import (
    HANDBOOK,
    HANDBOOK_CASES,
    HANDBOOK_PROMPT,
    Fill,
    Tasks,
    is_text_file,
    make_tasks,
    read_texts,
    score_replies,
    texts_of_cases,
)
from penstock.main.prompt_rooms import create_prompts
from penstock.prompts.files import read_prompt
from penstock.registry.service import Registry
from penstock.registry.types import Version
from penstock.spec.cases import Case
from penstock.spec.home import Home
from penstock.spec.prompts import PromptContent
from penstock.store.blobs import BlobStore
from penstock.tuning.compress.errors import CannotMeasure
from penstock.tuning.compress.requests import MeasureRequest
from penstock.tuning.compress.store import MeasurementStore
from penstock.tuning.compress.types import (
    ALL_PARTS,
    MeasuredPart,
    MeasureWork,
    ModelMeasurement,
    TextItem,
    VersionFacts,
)
from penstock.tuning.model_files import GGUF

MAX_TEXTS = 2000
MAX_CASES = 2000
"""More change intervals little and take long: name a `limit` to draw some."""


@dataclass(frozen=True, kw_only=True)
class MeasuringRooms:
    """What measuring is made from."""

    home: Home
    registry: Registry
    blobs: BlobStore
    store: MeasurementStore
    datasets: DatasetService
    fill: Fill
    read_prompt_content: Callable[[str], PromptContent]
    run: Callable[[Home, dict[str, Any], Tell], dict[str, Any]] = run_child
    clock: Callable[[], int] = now_ns


def create_measuring(
    home: Home, registry: Registry, blobs: BlobStore, store: MeasurementStore
) -> MeasuringRooms:
    """Return what measuring needs over one home."""

    def embed(texts: Sequence[str]) -> Any:
        del texts
        raise CannotMeasure("A prompt whose examples are the nearest ones cannot be filled in here.")

    prompts = create_prompts(home, registry, blobs, embed=embed, read_snapshot=lambda: None)

    def fill(
        content: PromptContent, variables: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        rendered = prompts.render(content, variables)
        if rendered.chain_of_thought is not None or rendered.tools:
            raise CannotMeasure(
                "A prompt with tools or hidden reasoning needs the gateway, which takes its replies apart.",
                hint="Deploy the version and run an evaluation on it.",
            )
        return rendered.messages, rendered.parameters

    return MeasuringRooms(
        home=home,
        registry=registry,
        blobs=blobs,
        store=store,
        datasets=create_datasets(home, registry, blobs),
        fill=fill,
        read_prompt_content=lambda reference: prompts.get(reference).content,
    )


def measure_models(
    rooms: MeasuringRooms, request: MeasureRequest, *, actor: str, tell: Tell
) -> list[ModelMeasurement]:
    """Measure, keep and return what was measured, version by version and part by part.

    Raises `CannotMeasure` for what has no weights here, or texts and cases that do not fit; nothing is kept then.
    """
    versions = choose_versions(rooms.registry, request)
    tell(0.0, "gathering texts and cases")
    tasks = _read_tasks(rooms, request)
    texts, source = _read_texts(rooms, request, tasks)
    parts = choose_parts(request, has_texts=bool(texts), has_tasks=tasks is not None)
    work = MeasureWork(
        versions=tuple(version.digest for version in versions),
        parts=parts,
        texts=texts if "texts" in parts else (),
        tasks=tasks.items if tasks is not None and "tasks" in parts else (),
        speed=request.speed,
        threads=request.threads or min(8, os.cpu_count() or 1),
        window=request.window,
    )
    result = rooms.run(
        rooms.home,
        {"verb": "measure", "work": msgspec.to_builtins(work)},
        lambda share, text: tell(0.05 + 0.85 * (share or 0.0), text),
    )
    facts = msgspec.convert(result["facts"], list[VersionFacts])
    tell(0.92, "making figures")
    sources = {"texts": (source, _digest_texts(texts, request.window)), "tasks": (None, None)}
    if tasks is not None:
        sources["tasks"] = (tasks.source, tasks.digest)
    made = _make_measurements(facts, parts, tasks, sources, work, actor=actor, at_ns=rooms.clock())
    rooms.store.add(made)
    tell(1.0, f"{len(versions)} versions measured")
    return made


def choose_versions(registry: Registry, request: MeasureRequest) -> list[Version]:
    """Return the versions, the one that the others are held against first. Raises `CannotMeasure`."""
    if not request.models:
        raise CannotMeasure("No version is named.")
    named = [registry.resolve(each) for each in request.models]
    if request.against is not None:
        named.insert(0, registry.resolve(request.against))
    elif len(named) == 1:
        base = (named[0].content.get("lineage") or {}).get("base")
        if base is not None and str(base.get("asset", "")).startswith("model:"):
            named.insert(0, registry.get_by_digest(base["digest"]))
    versions = list({version.digest: version for version in named}.values())
    for version in versions:
        if version.kind != "model" or GGUF not in version.artefacts or version.content.get("kind") != "chat":
            raise CannotMeasure(
                f"{version.label} is no chat model with a file of its own.",
                hint="Adapters are measured merged into their base.",
            )
    return versions


def choose_parts(request: MeasureRequest, *, has_texts: bool, has_tasks: bool) -> tuple[MeasuredPart, ...]:
    """Return what is measured. Raises `CannotMeasure` for a part that nothing is named for."""
    if not request.parts:
        return tuple(
            part for part in ALL_PARTS if (part != "texts" or has_texts) and (part != "tasks" or has_tasks)
        )
    if "texts" in request.parts and not has_texts:
        raise CannotMeasure("No texts are named to measure perplexity on.", hint="Name --texts or --eval.")
    if "tasks" in request.parts and not has_tasks:
        raise CannotMeasure("No cases are named to score replies on.", hint="Name --eval or --cases.")
    return tuple(part for part in ALL_PARTS if part in request.parts)


def _read_tasks(rooms: MeasuringRooms, request: MeasureRequest) -> Tasks | None:
    if request.cases is None or (request.parts and not {"tasks", "texts"} & set(request.parts)):
        return None
    cases = _read_cases(rooms, request.cases, request, MAX_CASES)
    return make_tasks(
        cases,
        source=request.cases,
        prompt=_prompt(rooms, request, request.cases),
        fill=rooms.fill,
        scorers=request.scorers,
        catalogue=Catalogue(read_registered=partial(read_registered_scorer, rooms.registry)),
        parameters=request.parameters,
    )


def _read_texts(
    rooms: MeasuringRooms, request: MeasureRequest, tasks: Tasks | None
) -> tuple[tuple[TextItem, ...], str | None]:
    if request.parts and "texts" not in request.parts:
        return (), None
    if request.texts is None:
        return (tuple(texts_of_cases(tasks.cases, tasks.items)), tasks.source) if tasks else ((), None)
    if is_text_file(request.texts):
        path = open_to_reading(Path(request.texts), rooms.home.root)
        return _draw_texts(tuple(read_texts(path)), request), request.texts
    cases = _read_cases(rooms, request.texts, request, MAX_TEXTS)
    asked = make_tasks(
        cases,
        source=request.texts,
        prompt=_prompt(rooms, request, request.texts),
        fill=rooms.fill,
        scorers=(),
        catalogue=Catalogue(),
        parameters={},
    )
    return tuple(texts_of_cases(asked.cases, asked.items)), request.texts


def _draw_texts(texts: tuple[TextItem, ...], request: MeasureRequest) -> tuple[TextItem, ...]:
    """Return the paragraphs that are measured: all, or those that `limit` draws, spread over the whole file."""
    if request.limit is not None:
        chosen = draw(((each.row, each.group) for each in texts), request.limit, request.seed)
        texts = tuple(each for each in texts if each.row in chosen)
    if len(texts) > MAX_TEXTS:
        raise CannotMeasure(
            f"{request.texts} holds {len(texts):,} paragraphs; at most {MAX_TEXTS:,} are measured at once.",
            hint="Draw some of them with --limit.",
        )
    return texts


def _read_cases(rooms: MeasuringRooms, place: str, request: MeasureRequest, most: int) -> list[Case]:
    source = DatasetCases(
        lambda: rooms.datasets, partial(hold_copies, rooms.home), private_root=rooms.home.root
    )
    with tempfile.TemporaryDirectory(prefix="penstock-cases-") as folder:
        path = place
        if place == HANDBOOK or place in SHIPPED_PLACES:
            path = str(write_handbook(Path(folder), HANDBOOK_CASES if place == HANDBOOK else place))
        found = source.read(path, where=request.where, limit=request.limit, seed=request.seed)
        cases = list(itertools.islice(found.cases, most + 1))
    if len(cases) > most:
        raise CannotMeasure(f"{place} holds more than {most} rows.", hint="Draw some of them with --limit.")
    return cases


def _prompt(rooms: MeasuringRooms, request: MeasureRequest, place: str) -> PromptContent | None:
    if request.prompt_content is not None:
        return request.prompt_content
    if request.prompt is not None:
        return rooms.read_prompt_content(request.prompt)
    if place == HANDBOOK or place in SHIPPED_PLACES[1:]:
        return read_prompt(HANDBOOK_PROMPT.read_text(encoding="utf-8"), where=HANDBOOK_PROMPT.name)
    return None


def _digest_texts(texts: Sequence[TextItem], window: int) -> str | None:
    return digest_json({"texts": msgspec.to_builtins(texts), "window": window}) if texts else None


# what is kept


def _make_measurements(
    facts: Sequence[VersionFacts],
    parts: Sequence[MeasuredPart],
    tasks: Tasks | None,
    sources: Mapping[str, tuple[str | None, str | None]],
    work: MeasureWork,
    *,
    actor: str,
    at_ns: int,
) -> list[ModelMeasurement]:
    session, machine = new_id("measured"), describe_machine(work.threads)
    first: dict[MeasuredPart, ModelMeasurement] = {}
    made: list[ModelMeasurement] = []
    for place, each in enumerate(facts):
        for part in parts:
            source, digest = sources.get(part, (None, None))
            if part == "speed":
                digest = digest_json(msgspec.to_builtins(work.speed))
            bare = ModelMeasurement(
                id=new_id("measurement"),
                version=each.version,
                digest=each.digest,
                part=part,
                session=session,
                figures=(),
                made_ns=at_ns,
                actor=actor,
                against=facts[0].digest if place else None,
                source=source,
                source_digest=digest,
                facts=_facts_of(each, part, tasks),
                machine=machine,
            )
            whole = msgspec.structs.replace(bare, figures=make_figures(bare))
            if place:
                whole = msgspec.structs.replace(whole, differences=compare_figures(first[part], whole))
            else:
                first[part] = whole
            made.append(whole)
    return made


def _facts_of(facts: VersionFacts, part: MeasuredPart, tasks: Tasks | None) -> dict[str, Any]:
    if part == "speed":
        return {"rounds": msgspec.to_builtins(facts.speed)}
    if part == "tasks":
        assert tasks is not None
        return task_facts(tasks.columns, score_replies(tasks, facts.replies), list(facts.replies))
    value = facts.size if part == "size" else facts.texts
    told: dict[str, Any] = msgspec.to_builtins(value)
    return told


def describe_machine(threads: int) -> dict[str, Any]:
    """Return what figures of speed and memory depend on."""
    return {
        "processor": _processor(),
        "n_processors": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "engine": f"xllamacpp {importlib.metadata.version('xllamacpp')}",
    }


def _processor() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or None
    line = next((each for each in text.splitlines() if each.startswith("model name")), None)
    return None if line is None else line.partition(":")[2].strip()
