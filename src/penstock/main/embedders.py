"""Opens the embedders of recipes: which route a recipe means, in which version it is served, and how it counts.

A version is known by what the snapshot says of a route: the registry's version of an embedded model, else providers
and model. A generation asks for the version that it was made with and gets it from its route, from a pin of it
(`ROUTE@PIN`) or from another route that serves the same; where none does, it gets what its recipe means now.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from penstock.base.clock import now_ns
from penstock.base.errors import PenstockError, suggest
from penstock.knowledge.chunk.counting import estimate_tokens
from penstock.knowledge.embedding.errors import MixedEmbedder, UnknownEmbedder
from penstock.knowledge.embedding.identity import embedder_id, route_of
from penstock.knowledge.embedding.model_embedder import PARALLEL, ModelEmbedder
from penstock.main.gateway_embedder import GatewayCalls, RouteCalls
from penstock.main.planned_rows import ENGINE
from penstock.providers.prices import PriceBook
from penstock.registry.types import Version
from penstock.spec.knowledge import EmbedRecipe
from penstock.spec.routes import Route, Target
from penstock.spec.snapshot import Snapshot
from penstock.spec.usage import Usage
from penstock.store.blobs import BlobStore
from penstock.tuning.model_files import RENDERER, TOKENIZER
from penstock.tuning.renderer import Renderer, load_renderer
from penstock.tuning.served import MAX_SERVED_CONTEXT

LOCAL_PARALLEL = 2
"""Requests to the embedded engine at once: one works, the next one waits ready; more would keep questions waiting."""
_BUILT_IN = " built in"
_COUNTED_AT_ONCE = 256
_NANO = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model as it can be asked for now."""

    name: str
    """What to put into `model`."""
    version: str
    """What it is, as ids of embedders tell."""
    told: str | None = None
    """What the gateway says of its version with each answer."""
    models: frozenset[str] = frozenset()
    """Names of the model at its providers; empty where nobody knows."""
    engine_model: str | None = None
    """Its name in the embedded engine and in the registry."""


class GatewayEmbedders:
    """`knowledge.types.EmbedderSource`. Safe from several threads."""

    def __init__(
        self,
        calls: GatewayCalls,
        *,
        find_default: Callable[[], tuple[str, str]],
        read_snapshot: Callable[[], Snapshot | None],
        find_model: Callable[[str], Version | None],
        blobs: BlobStore,
    ) -> None:
        """`find_default` returns route and version of the home's own embedding model, `find_model` the live version of
        a model that the engine may host."""
        self._calls = calls
        self._find_default = find_default
        self._read_snapshot = read_snapshot
        self._find_model = find_model
        self._blobs = blobs
        self._book = PriceBook()

    def open(self, recipe: EmbedRecipe, *, made_with: str | None = None) -> ModelEmbedder:
        """Return the embedder; see the port. Raises `UnknownEmbedder`, `MixedEmbedder`."""
        snapshot = self._read_snapshot()
        if made_with is not None:
            route = route_of(made_with)
            for served in self._serving(snapshot, route):
                if embedder_id(route, served.version, recipe) == made_with:
                    return self._make(served, recipe, made_with)
        served = self._named(snapshot, recipe.model)
        return self._make(served, recipe, embedder_id(served.name, served.version, recipe))

    def close(self) -> None:
        """Close connections."""
        self._calls.close()

    def _named(self, snapshot: Snapshot | None, name: str | None) -> Served:
        """Return what a recipe's model means now."""
        default, version = self._find_default()
        wanted = name or default
        for each in _names(snapshot, wanted):
            if each.name == wanted:
                return _served(snapshot, each)
        if wanted == default:  # before the first start no gateway was told of anything
            return Served(name=default, version=version, engine_model=default)
        known = [each.name for each in snapshot.routes if each.kind == "embedding"] if snapshot else []
        raise UnknownEmbedder(
            f"there is no route {wanted!r} that embeds.",
            hint=suggest(wanted, known) or f"Known: {', '.join(sorted(known)) or 'none'}.",
        )

    def _serving(self, snapshot: Snapshot | None, route: str) -> Iterator[Served]:
        """Yield what might serve a version that `route` served once, the likeliest first."""
        names = _names(snapshot, route)
        if not any(each.name == route for each in names):
            default, version = self._find_default()
            if default == route:
                yield Served(name=default, version=version, engine_model=default)
        for each in names:
            try:
                yield _served(snapshot, each)
            except MixedEmbedder:
                continue

    def _make(self, served: Served, recipe: EmbedRecipe, name: str) -> ModelEmbedder:
        route = RouteCalls(
            self._calls, name=served.name, models=served.models, version=served.told, price=self._price
        )
        return ModelEmbedder(
            route,
            recipe,
            name=name,
            lengths=_Lengths(self._find_model, self._blobs, served),
            parallel=PARALLEL if served.engine_model is None else LOCAL_PARALLEL,
        )

    def _price(self, provider: str, model: str, n_tokens: int) -> int | None:
        snapshot = self._read_snapshot()
        row = next((each for each in snapshot.providers if each.name == provider), None) if snapshot else None
        if snapshot is None or row is None:
            return None
        self._book.set_own_prices(snapshot.prices)
        price_id = "local" if row.local else row.price_id
        cost = self._book.price(price_id, model, Usage(input_uncached=n_tokens), now_ns(), provider=provider)
        return None if cost.usd is None else round(cost.usd * _NANO)


class _Lengths:
    """Counts as the engine does where it hosts the model and the tokenizer is here, else estimates."""

    def __init__(self, find_model: Callable[[str], Version | None], blobs: BlobStore, served: Served) -> None:
        self._find_model = find_model
        self._blobs = blobs
        self._served = served

    @cached_property
    def longest(self) -> int | None:
        return None if self._tokens is None else self._tokens.context_length - self._tokens.n_marks

    def count(self, texts: Sequence[str]) -> list[int]:
        return estimate_tokens(texts) if self._tokens is None else self._tokens.count(texts)

    @cached_property
    def _tokens(self) -> "_Tokens | None":
        if self._served.engine_model is None:
            return None
        version = self._find_model(self._served.engine_model)
        if version is None or self._served.version.partition(" ")[0] != version.label:
            return None
        try:
            renderer, tokenizer = (
                str(self._blobs.local_path(version.artefacts[each])) for each in (RENDERER, TOKENIZER)
            )
            context_length = min(int(version.content["context_length"]), MAX_SERVED_CONTEXT)
            return _Tokens(_load(renderer, tokenizer), context_length)
        except (PenstockError, KeyError, OSError, ValueError):
            return None  # then it is an estimate


class _Tokens:
    def __init__(self, renderer: Renderer, context_length: int) -> None:
        self._renderer = renderer
        self.context_length = context_length
        self.n_marks = len(renderer.encode_texts([""])[0])

    def count(self, texts: Sequence[str]) -> list[int]:
        return [
            len(ids) - self.n_marks
            for start in range(0, len(texts), _COUNTED_AT_ONCE)
            for ids in self._renderer.encode_texts(texts[start : start + _COUNTED_AT_ONCE])
        ]


@dataclass(frozen=True, kw_only=True)
class _Named:
    """A name that gateways answer to."""

    name: str
    targets: tuple[Target, ...]
    told: str | None


@lru_cache(maxsize=4)
def _load(renderer: str, tokenizer: str) -> Renderer:
    return load_renderer(Path(renderer), Path(tokenizer))


def _names(snapshot: Snapshot | None, wanted: str) -> list[_Named]:
    """Return the names that may embed: `wanted` first, then its pins, then all others."""
    found: list[_Named] = []
    prefix, _, rest = wanted.partition("/")
    for route in snapshot.routes if snapshot is not None else ():
        if route.kind not in ("embedding", "any"):
            continue
        if route.name.endswith("/*"):
            if rest and route.name == f"{prefix}/*":
                found.append(_Named(name=wanted, targets=_narrowed(route, rest), told=route.version))
            continue
        found.append(_Named(name=route.name, targets=route.targets, told=route.version))
        found += [
            _Named(name=f"{route.name}@{pin.name}", targets=pin.targets, told=pin.version or route.version)
            for pin in route.pins
        ]
    return sorted(found, key=lambda each: (each.name != wanted, not each.name.startswith(f"{wanted}@")))


def _narrowed(route: Route, model: str) -> tuple[Target, ...]:
    return tuple(Target(provider=target.provider, model=model) for target in route.targets)


def _served(snapshot: Snapshot | None, named: _Named) -> Served:
    models = frozenset(target.model for target in named.targets)
    if len(models) > 1:
        raise MixedEmbedder(
            f"the route {named.name!r} may be answered by {' or '.join(sorted(models))}, whose vectors do not compare.",
            hint="Give the knowledge base a route with one model.",
        )
    (model,) = models
    providers = sorted({target.provider for target in named.targets})
    engine_model = model if providers == [ENGINE] else None
    version = named.told
    if version is None and engine_model is not None and snapshot is not None:
        version = next((each.version for each in snapshot.routes if each.name == engine_model), None)
    return Served(
        name=named.name,
        version=(version or f"{'+'.join(providers)}:{model}").removesuffix(_BUILT_IN),
        told=named.told,
        models=models,
        engine_model=engine_model,
    )
