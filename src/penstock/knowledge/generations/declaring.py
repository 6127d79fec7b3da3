"""Gives a base its recipe before anything of it is live. What is live is never changed by a declaration."""

from typing import Literal

from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.knowledge import queries
from penstock.knowledge.generations.switching import Switching
from penstock.knowledge.generations.tracks import Track, Tracks
from penstock.knowledge.generations.types import LIVE
from penstock.knowledge.recipe_bounds import check_recipe
from penstock.knowledge.recipes import recipe_as_dict
from penstock.spec.knowledge import Recipe

Declared = Literal["made", "same", "differs"]


class Declaring:
    """Recipes of bases, as files declare them."""

    def __init__(self, engine: Engine, tracks: Tracks, switching: Switching) -> None:
        self._engine = engine
        self._tracks = tracks
        self._switching = switching

    def declare(self, base: str, recipe: Recipe, *, is_trial: bool = False) -> Declared:
        """Let a base that has nothing live begin with this recipe; say whether one that is live has the same.

        A trial changes nothing. Raises `UnusableRecipe`.
        """
        check_recipe(recipe)
        live = self._tracks.load(base).get(LIVE)
        if live is not None and live.recipe == recipe:
            return "same"
        if live is not None and live.generation is not None:
            return "differs"
        if not is_trial:
            with self._engine.begin() as connection:
                queries.add_base(connection, name=base, recipe=recipe_as_dict(recipe), now_ns=now_ns())
            self._switching.start(base, Track(name=LIVE, recipe=recipe, generation=None))
        return "made"
