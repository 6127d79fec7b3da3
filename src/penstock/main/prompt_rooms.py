"""Joins prompts to what they use of other rooms: rows of datasets, the embedder, tokenizers of embedded models, routes.

The apps process answers with them, the control process edits them; each passes what it has.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import NotFound, PenstockError
from penstock.datasets.cases import row_to_case
from penstock.datasets.store import DatasetStore
from penstock.main.copies import hold_copies
from penstock.main.gateway_embedder import GatewayEmbedder
from penstock.main.planned_rows import ENGINE
from penstock.prompts.errors import BadExamples
from penstock.prompts.service import PromptService
from penstock.prompts.types import Embed, LastCall, PromptParts
from penstock.registry.service import Registry
from penstock.spec.callers import APPS
from penstock.spec.datasets import DatasetFormat, DatasetRow
from penstock.spec.home import Home
from penstock.spec.messages import Message
from penstock.spec.routes import Route
from penstock.spec.snapshot import Snapshot
from penstock.store.blobs import BlobStore
from penstock.store.spans.types import SpanQuery
from penstock.traces.lists import TraceListService
from penstock.traces.search import parse
from penstock.tuning.model_files import GGUF, RENDERER, TOKENIZER
from penstock.tuning.renderer import Renderer, load_renderer

PROMPT = "prompt:"
MINILM, LEXICAL = "minilm", "lexical"
EMBED_BATCH = 64
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class DatasetExamples:
    """Rows of datasets as examples: `prompts.types.Rows`."""

    def __init__(self, home: Home, registry: Registry, blobs: BlobStore) -> None:
        self._store = DatasetStore(registry, blobs, partial(hold_copies, home))

    def pin(self, reference: str) -> str:
        """Return `dataset:NAME@NUMBER`."""
        return self._store.describe(self._store.find(reference)).ref

    def read(self, reference: str, *, limit: int, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return rows with `id`, `input`, `output` and whatever else they have."""
        version = self._store.find(reference)
        form = self._store.facts(version).format
        wanted = set(ids)
        found: dict[str, dict[str, Any]] = {}
        for row in self._store.open(version).read():
            if wanted and row.id not in wanted:
                continue
            found[row.id] = example_of(row, form)
            if len(found) >= (len(wanted) if wanted else limit):
                break
        return [found[each] for each in ids if each in found] if wanted else list(found.values())


def example_of(row: DatasetRow, form: DatasetFormat) -> dict[str, Any]:
    """Return a row of any format as an example; raise `BadExamples` when it holds no answer."""
    case = row_to_case(row, form)
    output = case.expected[0] if isinstance(case.expected, list) and case.expected else case.expected
    if output is None:
        raise BadExamples(f"The row {row.id} has no answer, so it is no example.")
    if not isinstance(output, str):
        output = msgspec.json.encode(output).decode()
    return {**case.inputs, "id": row.id, "input": case.inputs.get("input", ""), "output": output}


class SnapshotPlaces:
    """Who asks prompts, by what gateways were told and what was recorded: `prompts.types.Places`."""

    def __init__(
        self, read_snapshot: Callable[[], Snapshot | None], lists: TraceListService | None = None
    ) -> None:
        self._read_snapshot = read_snapshot
        self._lists = lists
        self._last: tuple[str, Mapping[str, Sequence[str]]] = ("", {})

    def list_routes(self) -> Mapping[str, Sequence[str]]:
        """Return route name to the prompts and routes that it asks; routes that ask none are left out."""
        snapshot = self._read_snapshot()
        if snapshot is None:
            return {}
        if self._last[0] != snapshot.digest:
            self._last = (
                snapshot.digest,
                {
                    name: asked
                    for route in snapshot.routes
                    if not route.name.startswith(PROMPT)
                    for name, asked in _asked(route)
                    if asked
                },
            )
        return self._last[1]

    def last_call(self, name: str) -> LastCall | None:
        """Return the newest call that the prompt shaped."""
        if self._lists is None:
            return None
        query = SpanQuery(where=parse(f'kind:app name:"prompt {name}"'), limit=1)
        rows = self._lists.list_spans(query).rows
        if not rows:
            return None
        return LastCall(time_ns=rows[0].start_ns, trace_id=rows[0].trace_id)


def _asked(route: Route) -> list[tuple[str, list[str]]]:
    fallbacks = [fallback.route for fallback in route.fallbacks]
    named = [(route.name, route.targets), *((f"{route.name}@{pin.name}", pin.targets) for pin in route.pins)]
    return [
        (
            name,
            [
                *(each.model for each in targets if each.provider == APPS and each.model.startswith(PROMPT)),
                *fallbacks,
            ],
        )
        for name, targets in named
    ]


class EmbeddedTokenizers:
    """Counts by the renderer of an embedded model, exactly as the engine sees it: `prompts.types.Tokenizers`."""

    def __init__(
        self, registry: Registry, blobs: BlobStore, read_snapshot: Callable[[], Snapshot | None]
    ) -> None:
        self._registry, self._blobs, self._read_snapshot = registry, blobs, read_snapshot

    def count(self, model: str, messages: Sequence[Mapping[str, Any]]) -> tuple[int, str] | None:
        """Return the length of a conversation; None when the route asks no embedded model or this is not all text."""
        turns = [_turn(message) for message in messages]
        opened = self._open(model) if all(turns) else None
        if opened is None:
            return None
        renderer, label = opened
        try:
            return len(renderer.render_chat([turn for turn in turns if turn])), label
        except PenstockError:
            return None  # then it is an estimate, and says so

    def count_texts(self, model: str, texts: Sequence[str]) -> tuple[list[int], str] | None:
        """Return the length of each text; None when the route asks no embedded model."""
        opened = self._open(model)
        if opened is None:
            return None
        renderer, label = opened
        try:
            empty, *each = (len(ids) for ids in renderer.encode_texts(["", *texts]))
        except PenstockError:
            return None
        return [n - empty for n in each], label

    def _open(self, route: str) -> tuple[Renderer, str] | None:
        name = self._find_model(route)
        if name is None:
            return None
        try:
            version = self._registry.resolve(f"model:{name}@prod")
            renderer, tokenizer = (
                str(self._blobs.local_path(version.artefacts[each])) for each in (RENDERER, TOKENIZER)
            )
            return _load(renderer, tokenizer), f"tokenizer of {version.label}"
        except (PenstockError, KeyError, OSError):
            return None

    def _find_model(self, route: str) -> str | None:
        snapshot = self._read_snapshot()
        for each in snapshot.routes if snapshot is not None else ():
            if each.name == route and each.targets and each.targets[0].provider == ENGINE:
                try:
                    version = self._registry.resolve(f"model:{each.targets[0].model}@prod")
                except NotFound:
                    return None
                return version.name if GGUF in version.artefacts else None
        return None


@lru_cache(maxsize=8)
def _load(renderer: str, tokenizer: str) -> Renderer:
    return load_renderer(Path(renderer), Path(tokenizer))


def _turn(message: Mapping[str, Any]) -> Message | None:
    role, content = _ROLES.get(str(message.get("role"))), message.get("content")
    if role is None or not isinstance(content, str):
        return None
    return Message(role=role, content=content)  # type: ignore[arg-type]  # it is one of these


def gateway_embed(
    gateway_url: Callable[[], str], internal_key: str, read_snapshot: Callable[[], Snapshot | None]
) -> Embed:
    """Return what embeds by the embedding model of this home, through the gateway."""

    def find_model() -> tuple[str, str]:
        snapshot = read_snapshot()
        names = {route.name for route in snapshot.routes} if snapshot is not None else set()
        return (MINILM if MINILM in names else LEXICAL), ""

    embedder = GatewayEmbedder(find_model=find_model, find_url=gateway_url, internal_key=internal_key)

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), EMBED_BATCH):
            vectors += embedder.embed(texts[start : start + EMBED_BATCH], "query").tolist()
        return vectors

    return embed


def create_prompts(
    home: Home,
    registry: Registry,
    blobs: BlobStore,
    *,
    embed: Embed,
    read_snapshot: Callable[[], Snapshot | None],
    lists: TraceListService | None = None,
    publish: Callable[[str, str], None] | None = None,
) -> PromptService:
    """Return the prompts of a home. `publish` tells gateways of a new version; `lists` tell of calls."""
    return PromptService(
        registry,
        PromptParts(
            rows=DatasetExamples(home, registry, blobs),
            embed=embed,
            tokenizers=EmbeddedTokenizers(registry, blobs, read_snapshot),
            places=SnapshotPlaces(read_snapshot, lists),
            publish=publish,
        ),
    )
