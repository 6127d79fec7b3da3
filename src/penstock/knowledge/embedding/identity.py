"""The id of an embedder: route, version, and what of a recipe vectors depend on besides."""

from penstock.base.digest import digest_json
from penstock.spec.knowledge import EmbedRecipe


def embedder_id(route: str, version: str, recipe: EmbedRecipe) -> str:
    """Return such as `minilm model:minilm@1 sha256:0123…`; recipes that change vectors add to it.

    Ids of recipes that add nothing are those of earlier releases, so their vectors are still found.
    """
    parts = [route, version]
    if recipe.dims is not None:
        parts.append(f"dims={recipe.dims}")
    if recipe.document_prefix or recipe.context != "headings":
        told = [recipe.document_prefix, recipe.context]
        parts.append(f"text={digest_json(told).removeprefix('sha256:')[:12]}")
    return " ".join(parts)


def route_of(embedder: str) -> str:
    """Return the route that an embedder's id names."""
    return embedder.partition(" ")[0]
