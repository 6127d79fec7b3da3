"""Recipes whose references name versions: what a run is made from stands still from the moment it is asked for."""

from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.spec.prompts import PromptContent
from penstock.spec.tuning import PinnedAsset, Recipe
from penstock.tuning.preflight.types import BaseFacts
from penstock.tuning.recipes.defaults import complete_recipe
from penstock.tuning.rows.types import RowSource
from penstock.tuning.runs.ports import TrainingAssets


@dataclass(frozen=True, kw_only=True)
class PinnedRecipe:
    """A completed recipe whose references name versions, with what they stand for."""

    recipe: Recipe
    base: PinnedAsset | None
    base_facts: BaseFacts | None
    data: tuple[PinnedAsset, ...]
    """Datasets, the prompt they are written with, and the model whose tokenizer is taken."""
    train: RowSource
    heldout: RowSource | None
    guards: tuple[RowSource, ...]
    prompt: PromptContent | None


class _Opener:
    """Resolves references and remembers which versions it has seen, in order."""

    def __init__(self, assets: TrainingAssets) -> None:
        self._assets = assets
        self.seen: list[PinnedAsset] = []

    def note(self, pinned: PinnedAsset) -> str:
        if pinned not in self.seen:
            self.seen.append(pinned)
        return label_of(pinned)

    def rows(self, ref: str) -> RowSource:
        pinned, source = self._assets.dataset(ref)
        self.note(pinned)
        return source


def pin_recipe(recipe: Recipe, assets: TrainingAssets) -> PinnedRecipe:
    """Return the recipe with every reference resolved as it stands now; raises what resolving raises."""
    recipe = complete_recipe(recipe)
    opener = _Opener(assets)
    train = opener.rows(recipe.data.train)
    heldout = opener.rows(recipe.data.eval) if recipe.data.eval is not None else None
    guards = tuple(opener.rows(ref) for ref in recipe.data.guard_against)
    data: dict[str, Any] = {
        "train": train.ref,
        "eval": None if heldout is None else heldout.ref,
        "guard_against": tuple(source.ref for source in guards),
    }
    parts: dict[str, Any] = {}
    prompt: PromptContent | None = None
    if recipe.data.template is not None:
        pinned_prompt, prompt = assets.prompt(recipe.data.template)
        data["template"] = opener.note(pinned_prompt)
    if recipe.scratch is not None and recipe.scratch.tokenizer is not None:
        tokenizer, _ = assets.base(recipe.scratch.tokenizer)
        parts["scratch"] = msgspec.structs.replace(recipe.scratch, tokenizer=opener.note(tokenizer))
    base: PinnedAsset | None = None
    facts: BaseFacts | None = None
    if recipe.base.model is not None:
        base, facts = assets.base(recipe.base.model)
        parts["base"] = msgspec.structs.replace(recipe.base, model=label_of(base))
    parts["data"] = msgspec.structs.replace(recipe.data, **data)
    return PinnedRecipe(
        recipe=msgspec.structs.replace(recipe, **parts),
        base=base,
        base_facts=facts,
        data=tuple(opener.seen),
        train=train,
        heldout=heldout,
        guards=guards,
        prompt=prompt,
    )


def label_of(pinned: PinnedAsset) -> str:
    """Return `kind:name@number`."""
    return f"{pinned.asset}@{pinned.number}"
