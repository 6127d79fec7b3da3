"""What the settings of a recipe may be. Checked once, when somebody gives it, so that no search or build fails by one."""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from penstock.knowledge.chunk import check_recipe as check_chunk
from penstock.knowledge.chunk.errors import UnusableRecipe
from penstock.knowledge.credentials import is_confidential, replace_secrets
from penstock.knowledge.parse.settings import check_settings
from penstock.spec.knowledge import Recipe, SearchRecipe

Bounds = dict[str, tuple[float, float]]
TINY = 1e-9
"""The least of what must be above 0."""
PARSE: Bounds = {"max_bytes": (1, 2**40), "max_seconds": (TINY, 86_400), "max_memory_mb": (16, 2**20)}
EMBED: Bounds = {"batch_size": (1, 4096), "dims": (1, 65_536)}
INDEX: Bounds = {
    "exact_below": (0, 2**40),
    "connectivity": (2, 512),
    "expansion_add": (1, 65_536),
    "expansion_search": (1, 65_536),
    "oversample": (1, 1000),
}
SEARCH: Bounds = {
    "dense_weight": (0, 1),
    "rrf_constant": (TINY, 1e6),
    "title_weight": (0, 1000),
    "section_weight": (0, 1000),
    "n_candidates": (1, 10_000),
    "identifier_weight": (0, 1),
    "diversity": (0, 1),
    "freshness_weight": (0, 1),
    "freshness_half_life_days": (TINY, 1e6),
    "authority_weight": (0, 1),
    "max_per_document": (1, 10_000),
    "min_dense_score": (-1, 1),
    "min_relative_score": (0, 1),
    "min_rerank_score": (-1e6, 1e6),
}
_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+]*)://(?P<userinfo>[^/?#]*)@")
_HIDDEN = "\N{BULLET}"
RERANK: Bounds = {"depth": (1, 1000), "weight": (0, 1), "timeout_s": (TINY, 3600)}


def check_recipe(recipe: Recipe) -> None:
    """Raise `UnusableRecipe` that names the first setting that cannot be worked with, and its bounds."""
    check_chunk(recipe.chunk)
    _check("parse", recipe.parse, PARSE)
    check_settings(recipe.parse)
    _check("embed", recipe.embed, EMBED)
    _check("index", recipe.index, INDEX)
    if recipe.index.connection is not None:
        check_connection(recipe.index.connection)
    check_search(recipe.search)


def check_search(recipe: SearchRecipe) -> None:
    """Do the same for the search part alone."""
    _check("search", recipe, SEARCH)
    if recipe.rerank is not None:
        _check("search.rerank", recipe.rerank, RERANK)


def check_connection(connection: str) -> None:
    """Raise `UnusableRecipe` for an address that everybody who may see recipes must not read, or that is a folder."""
    if connection.startswith("path:"):
        raise UnusableRecipe(
            "index.connection names a folder of this machine.",
            hint="An index of files is of kind exact or usearch; give the address of a server.",
        )
    found = _USERINFO.match(replace_secrets(connection, _HIDDEN))
    user, _, password = found["userinfo"].partition(":") if found else ("", "", "")
    is_key = found is not None and not found["scheme"].startswith("postgres")
    told = [name for name, _ in parse_qsl(connection.partition("?")[2])]
    if (
        password not in {"", _HIDDEN}
        or (is_key and user not in {"", _HIDDEN})
        or any(map(is_confidential, told))
    ):
        raise UnusableRecipe(
            "index.connection holds a credential in clear, and recipes are kept and shown.",
            hint="Keep it in the vault and write {{secret:NAME}} in its place, as in "
            "postgresql://rag:{{secret:rag_db}}@db/rag or https://{{secret:qdrant}}@host:6333.",
        )


def _check(part: str, settings: object, bounds: Bounds) -> None:
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:  # true of what is no number at all, too
            raise UnusableRecipe(f"{part}.{name} is {value}; it must be {_say(low, high)}.")


def _say(low: float, high: float) -> str:
    ends: Iterable[str] = (f"{each:,.0f}" for each in (low, high))
    return f"above 0, at most {high:,.0f}" if low == TINY else "between " + " and ".join(ends)
