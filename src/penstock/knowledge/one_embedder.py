"""An embedder source that holds a single embedder, whatever a recipe asks for."""

from penstock.knowledge.types import Embedder
from penstock.spec.knowledge import EmbedRecipe


class OneEmbedder:
    """Opens the one embedder it was given."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def open(self, recipe: EmbedRecipe, *, made_with: str | None = None) -> Embedder:
        """Return it; its `id` tells callers that asked for another version."""
        del recipe, made_with
        return self._embedder
