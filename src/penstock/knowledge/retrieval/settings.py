"""What tuning may turn: settings of a search recipe as points of a grid, the nearest to the present recipe first."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec
import numpy as np

from penstock.knowledge.retrieval.errors import BadSearchRecipe
from penstock.knowledge.retrieval.knobs import Knob
from penstock.spec.knowledge import RerankRecipe, SearchRecipe

Number = TypeVar("Number", int, float)
WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))
RRF_WEIGHTS = (0.3, 0.5, 0.7)
RRF_CONSTANTS = (10.0, 60.0)
FIELD_WEIGHTS = (0.5, 1.0, 2.0)
CANDIDATES = (30, 100, 200)
IDENTIFIER_WEIGHTS = (0.0, 0.3)
RERANK_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
RERANK_DEPTHS = (10, 30)
MAX_SETTINGS = 30_000


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One point of the grid."""

    fusion: Literal["convex", "rrf"]
    weight: float
    """Share of the vectors; 0 is words alone, 1 vectors alone."""
    rrf_constant: float = 60.0
    title_weight: float = 1.0
    section_weight: float = 1.0
    n_candidates: int = 100
    identifier_weight: float | None = None
    rerank_weight: float = 0.0
    """0: no second look."""
    rerank_depth: int = 30


def read_setting(recipe: SearchRecipe, weight: float) -> Setting:
    """Return the point that a recipe stands for; `weight` is what it means for its embedder."""
    look = recipe.rerank
    return Setting(
        fusion="rrf" if recipe.fusion == "rrf" else "convex",
        weight=weight,
        rrf_constant=recipe.rrf_constant,
        title_weight=recipe.title_weight,
        section_weight=recipe.section_weight,
        n_candidates=recipe.n_candidates,
        identifier_weight=recipe.identifier_weight,
        rerank_weight=0.0 if look is None else look.weight,
        rerank_depth=30 if look is None else look.depth,
    )


def write_recipe(recipe: SearchRecipe, setting: Setting, look: RerankRecipe | None) -> SearchRecipe:
    """Return `recipe` at another point; `look` is the second look that was tried."""
    pure: dict[float, Literal["lexical", "dense"]] = {0.0: "lexical", 1.0: "dense"}
    fusion = setting.fusion if setting.fusion == "rrf" else pure.get(setting.weight, "convex")
    rerank = None
    if setting.rerank_weight > 0 and look is not None:
        rerank = msgspec.structs.replace(look, weight=setting.rerank_weight, depth=setting.rerank_depth)
    return msgspec.structs.replace(
        recipe,
        fusion=fusion,
        dense_weight=setting.weight,
        rrf_constant=setting.rrf_constant,
        title_weight=setting.title_weight,
        section_weight=setting.section_weight,
        n_candidates=setting.n_candidates,
        identifier_weight=setting.identifier_weight,
        rerank=rerank,
    )


def make_grid(present: Setting, knobs: Sequence[Knob], *, has_vectors: bool = True) -> list[Setting]:
    """Return the points to try, `present` first, then by how little they differ from it.

    What is not among the knobs stays as it is. Raises `BadSearchRecipe` when there would be too many.
    """
    weights = (*WEIGHTS, present.weight) if "dense_weight" in knobs else (present.weight,)
    shapes: list[tuple[Literal["convex", "rrf"], float, float]] = [
        (present.fusion, weight, present.rrf_constant) for weight in (weights if has_vectors else (0.0,))
    ]
    if "fusion" in knobs and has_vectors:
        shapes += [("convex", weight, present.rrf_constant) for weight in weights]
        shapes += [("rrf", weight, each) for weight in RRF_WEIGHTS for each in RRF_CONSTANTS]
    shapes = list(dict.fromkeys(shapes))
    looks: list[tuple[float, int]] = [(present.rerank_weight, present.rerank_depth)]
    if "rerank" in knobs:
        looks += [(0.0, present.rerank_depth), *itertools.product(RERANK_WEIGHTS, RERANK_DEPTHS)]
        looks = list(dict.fromkeys(looks))
    titles = _around(present.title_weight, FIELD_WEIGHTS, is_tried="title_weight" in knobs)
    sections = _around(present.section_weight, FIELD_WEIGHTS, is_tried="section_weight" in knobs)
    counts = _around(present.n_candidates, CANDIDATES, is_tried="n_candidates" in knobs)
    exact: list[float | None] = [present.identifier_weight]
    if "identifier_weight" in knobs:
        exact += [None, *IDENTIFIER_WEIGHTS]
    n_points = len(shapes) * len(looks) * len(titles) * len(sections) * len(counts) * len(exact)
    if n_points > MAX_SETTINGS:
        raise BadSearchRecipe(
            f"{n_points:,} combinations are more than {MAX_SETTINGS:,}.", hint="Try fewer settings at once."
        )
    made = [
        Setting(
            fusion=fusion,
            weight=weight,
            rrf_constant=constant,
            title_weight=title,
            section_weight=section,
            n_candidates=count,
            identifier_weight=identifier,
            rerank_weight=look[0],
            rerank_depth=look[1],
        )
        for (fusion, weight, constant), title, section, count, identifier, look in itertools.product(
            shapes, titles, sections, counts, exact, looks
        )
    ]
    return sorted(dict.fromkeys([present, *made]), key=lambda each: _distance(each, present))


def describe_changes(setting: Setting, present: Setting) -> dict[str, tuple[object, object]]:
    """Return what differs: name to value before and after."""
    names = Setting.__dataclass_fields__
    pairs = {name: (getattr(present, name), getattr(setting, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _around(present: Number, tried: Sequence[Number], *, is_tried: bool) -> list[Number]:
    values = [present]
    values += [each for each in tried if is_tried and each != present]
    return values


def _distance(setting: Setting, present: Setting) -> tuple[int, float]:
    changes = describe_changes(setting, present)
    far = sum(
        abs(float(np.log(max(float(after), 0.01) / max(float(before), 0.01))))
        for before, after in changes.values()
        if isinstance(before, int | float) and isinstance(after, int | float)
    )
    return len(changes), far
