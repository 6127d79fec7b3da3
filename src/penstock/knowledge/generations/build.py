"""From document versions and a recipe to a generation that can be searched: embedded, recorded, indexed.

Nothing of it is live before somebody switches. Killed at any point, the next build goes on: vectors are kept as they
come, a generation's row appears whole, and an index that is not whole is no index.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.knowledge import queries
from penstock.knowledge.embedding.filling import Filled, fill_cache
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.generations.opening import OpenIndexes
from penstock.knowledge.recipes import generation_id, index_id, recipe_as_dict, settle_recipe
from penstock.knowledge.types import Embedder, IngestContext
from penstock.spec.knowledge import Recipe

SLICE = 200
"""Documents whose passages are embedded together: bounds memory, not what is embedded."""
Output = TypeVar("Output")


@dataclass(frozen=True, kw_only=True)
class Members:
    """The document versions of a generation."""

    ids: tuple[str, ...]
    """Of every document, those that hold no passage included, so that lists can show them with the reason."""
    n_live: int
    """Documents that hold passages."""


@dataclass(kw_only=True)
class Built:
    """A generation, and what making it took."""

    row: Any
    is_new: bool
    filled: Filled = field(default_factory=Filled)
    """What embedding took."""
    seconds: dict[str, float] = field(default_factory=dict)


class Builder:
    """Builds generations. One at a time for a base: callers hold its lock."""

    def __init__(self, engine: Engine, indexes: OpenIndexes) -> None:
        self._engine = engine
        self._indexes = indexes

    def build(
        self,
        base: str,
        recipe: Recipe,
        embedder: Embedder,
        members: Members,
        ctx: IngestContext,
        *,
        previous: str | None = None,
    ) -> Built:
        """Return the generation of these documents by this recipe, made unless it is there.

        `previous` is the generation whose index to take over from.
        Raises what the embedder raises; then there is no such generation.
        """
        recipe = settle_recipe(recipe, embedder.id)
        own_id = generation_id(base, recipe, embedder.id, members.ids)
        with self._engine.connect() as connection:
            row = queries.find_generation(connection, own_id)
        built = Built(row=row, is_new=row is None)
        if row is None:
            begun = monotonic()
            if recipe.index.kind != "none":
                built.filled = self.fill(members.ids, embedder, recipe, Scaled(ctx, 0.0, 0.8))
            built.seconds["embed"] = monotonic() - begun
            with self._engine.begin() as connection:
                queries.add_generation(
                    connection,
                    {
                        "id": own_id,
                        "base": base,
                        "recipe": recipe_as_dict(recipe),
                        "embedder": embedder.id,
                        "n_documents": members.n_live,
                        "n_passages": queries.count_passages(connection, members.ids),
                        "index_id": index_id(base, recipe, embedder.id, members.ids),
                        "checks": None,
                        "created_ns": now_ns(),
                    },
                    members.ids,
                )
                built.row = queries.find_generation(connection, own_id)
        ctx.check_cancelled()
        ctx.progress(0.82, "building the index")
        begun = monotonic()
        before: Any = None
        if previous is not None:
            with self._engine.connect() as connection:
                before = queries.find_generation(connection, previous)

        def fill() -> Filled:
            none = recipe.index.kind == "none"
            return Filled() if none else self.fill(members.ids, embedder, recipe, Scaled(ctx, 0.82, 0.85))

        self._open(built, before, fill, Scaled(ctx, 0.85, 1.0))
        built.seconds["index"] = monotonic() - begun
        return built

    def _open(self, built: Built, before: Any, fill: Callable[[], Filled], ctx: "Scaled") -> None:
        """Have the index on disk, whole: of a generation that was there vectors or passages may have been lost since."""
        try:
            index = self._indexes.open(built.row, previous=before, ctx=ctx)
        except DamagedIndex:
            if built.is_new:
                raise
            built.filled = fill()
            index = self._indexes.open(built.row, previous=before, ctx=ctx)
        if index.n_rows != built.row.n_passages:
            built.filled += fill()
            self._indexes.reopen(built.row, ctx=ctx)

    def fill(
        self, document_ids: Sequence[str], embedder: Embedder, recipe: Recipe, ctx: IngestContext
    ) -> Filled:
        """Embed what has no vector yet of these documents; return what that took."""
        filled = Filled()
        parts = list(_slices(document_ids, SLICE))
        for number, part in enumerate(parts):
            ctx.check_cancelled()
            with self._engine.connect() as connection:
                digests = list(queries.list_passage_digests(connection, part))
            within = Scaled(ctx, number / len(parts), (number + 1) / len(parts))
            filled += fill_cache(self._engine, embedder, digests, within, recipe=recipe.embed)
        return filled


class Scaled:
    """A context whose progress is a part of another one's."""

    def __init__(self, ctx: IngestContext, low: float, high: float) -> None:
        self._ctx = ctx
        self._low = low
        self._high = high

    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Output]) -> Output:
        """Run the other one's step."""
        return self._ctx.step(name, inputs, fn)

    def progress(self, fraction: float, message: str) -> None:
        """Show the part that this fraction is."""
        self._ctx.progress(self._low + (self._high - self._low) * fraction, message)

    def log(self, text: str) -> None:
        """Add a line to the other one's log."""
        self._ctx.log(text)

    def check_cancelled(self) -> None:
        """Raise when the other one was cancelled."""
        self._ctx.check_cancelled()


def _slices(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
