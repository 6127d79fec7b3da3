"""Recipes as they are stored, and the ids that follow from them. Pure; knows nothing of tables.

Everything that is derived is named by the digest of what it was derived from, so work that was done once is found
again, in whichever order ingests, rebuilds and switches come.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, get_args, get_type_hints

import msgspec

from penstock.base.digest import digest_json
from penstock.base.errors import InvalidInput, suggest
from penstock.knowledge.chunk import name_chunker
from penstock.knowledge.parse.dispatch import PARSER
from penstock.knowledge.retrieval.fusion import choose_weight
from penstock.spec.knowledge import ChunkRecipe, ParseRecipe, Properties, Recipe, SearchRecipe

_FLAT = frozenset({"max_words", "dense_weight", "title_weight", "section_weight", "n_candidates"})


def read_recipe(stored: Mapping[str, Any]) -> Recipe:
    """Return the recipe; also reads the flat form of releases that knew no parts."""
    if not stored or not _FLAT.issuperset(stored):
        return msgspec.convert(dict(stored), Recipe)
    rest = dict(stored)
    size = rest.pop("max_words", None)
    chunk = ChunkRecipe() if size is None else ChunkRecipe(size=size)
    return Recipe(chunk=chunk, search=msgspec.convert(rest, SearchRecipe))


def change_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these settings, such as `{"chunk": {"size": 256}}`; None takes a default back.

    Raises `InvalidInput` that names the setting.
    """
    try:
        return msgspec.convert(_merge(msgspec.to_builtins(recipe), changes), Recipe)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        path = where.rstrip("`").lstrip(".")
        raise InvalidInput(
            f"{path or 'the recipe'}: {what}.",
            hint=_suggest_name(path, what)
            or "Parts of a recipe: parse, chunk, embed, index, search; --set chunk.size=256",
        ) from error


def _suggest_name(path: str, what: str) -> str | None:
    """Return the nearest of the names that are known where an unknown one was used, or all of them."""
    wrong = re.search(r"unknown field `(.*)`", what)
    if wrong is None:
        return None
    kind: Any = Recipe
    for name in path.split(".") if path else ():
        kind = get_type_hints(kind).get(name, kind)
        kind = next((each for each in get_args(kind) if hasattr(each, "__struct_fields__")), kind)
    known: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    return suggest(wrong[1], known) or f"Known here: {', '.join(known)}."


def _merge(whole: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(whole)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            inner = merged.get(name)
            merged[name] = _merge(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as JSON values, without what is left at its default. Equal for equal recipes."""
    return _as_plain(recipe)


def _as_plain(settings: msgspec.Struct) -> dict[str, Any]:
    """Return the settings that differ from their defaults.

    msgspec leaves out what *is* the default object, so that a default somebody wrote down would make other ids.
    """
    values: dict[str, Any] = {}
    for each in msgspec.structs.fields(settings):
        value = getattr(settings, each.name)
        if each.default is not msgspec.NODEFAULT and value == each.default:
            continue
        if each.default_factory is not msgspec.NODEFAULT and value == each.default_factory():
            continue
        values[each.encode_name] = (
            _as_plain(value) if isinstance(value, msgspec.Struct) else msgspec.to_builtins(value)
        )
    return values


def settle_recipe(recipe: Recipe, embedder: str) -> Recipe:
    """Return the recipe with the number in place of what depends on the embedder."""
    if recipe.search.dense_weight is not None:
        return recipe
    search = msgspec.structs.replace(recipe.search, dense_weight=choose_weight(embedder))
    return msgspec.structs.replace(recipe, search=search)


def cut_digest(recipe: Recipe, embedder: str) -> str:
    """Return the digest of everything in the recipe that decides which passages bytes become."""
    content = {
        "parser": PARSER,
        "parse": _as_plain(recipe.parse),
        "chunker": name_chunker(recipe.chunk, embedder),
        "chunk": _as_plain(recipe.chunk),
    }
    return digest_json(content)


def parser_key(recipe: ParseRecipe, path: str) -> str:
    """Return the digest of what decides, besides its bytes, what a parser makes of a file."""
    return digest_json([PARSER, _as_plain(recipe), PurePosixPath(path).suffix.lower()])


def document_digest(cut: str, properties: Properties, source: str) -> str:
    """Return the `parse_digest` of a document version: how it is cut, and what is known of it besides its bytes.

    When its source says it changed last is left out: bytes that were only touched are the same version.
    """
    known = msgspec.to_builtins(msgspec.structs.replace(properties, modified_ns=None))
    return digest_json({"cut": cut, "properties": known, "source": source})


def document_id(base: str, path: str, digest: str, parse_digest: str) -> str:
    """Return the id of one version of one document, cut by one recipe."""
    return f"doc_{digest_json([base, path, digest, parse_digest]).removeprefix('sha256:')[:24]}"


def index_id(base: str, recipe: Recipe, embedder: str, document_ids: Sequence[str]) -> str:
    """Return the id of an index: of all that decides its rows, its vectors and how they are laid out."""
    content = [
        base,
        _as_plain(recipe.embed),
        _as_plain(recipe.index),
        embedder,
        sorted(document_ids),
    ]
    return f"idx_{digest_json(content).removeprefix('sha256:')[:24]}"


def generation_id(base: str, recipe: Recipe, embedder: str, document_ids: Sequence[str]) -> str:
    """Return the id of a generation: equal documents, recipe and embedder give the equal id."""
    content = [base, recipe_as_dict(recipe), embedder, sorted(document_ids)]
    return f"gen_{digest_json(content).removeprefix('sha256:')[:24]}"
