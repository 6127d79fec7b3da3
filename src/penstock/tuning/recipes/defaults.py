"""What a recipe leaves open, by method, and the digest of the whole. Pure.

The learning rates are those that TRL 1.16 and the papers use: 2e-5 for all weights and ten times that for adapters
("LoRA Without Regret", 2025), 1e-6 for preferences on all weights. They are starting points, not promises.
"""

import msgspec

from penstock.base.digest import digest_json
from penstock.spec.tuning import AdapterPart, PreferencePart, Recipe, TuneMethod
from penstock.tuning.recipes.checks import PREFERENCE_METHODS, uses_adapter

_FULL_LR: dict[TuneMethod, float] = {
    "scratch": 1e-3,
    "full": 2e-5,
    "distill": 2e-5,
    "dpo": 1e-6,
    "kto": 1e-6,
}
_ADAPTER_LR: dict[TuneMethod, float] = {
    "lora": 2e-4,
    "qlora": 2e-4,
    "dora": 2e-4,
    "distill": 2e-4,
    "dpo": 1e-5,
    "kto": 1e-5,
}


def complete_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe with everything that its method decides; what the machine decides stays open."""
    has_adapter = uses_adapter(recipe)
    lr = recipe.train.lr
    if lr is None:
        lr = (_ADAPTER_LR if has_adapter else _FULL_LR)[recipe.method]
    preference = recipe.preference
    if recipe.method in PREFERENCE_METHODS:
        preference = preference or PreferencePart()
        if recipe.method == "kto" and preference.loss == "sigmoid":
            preference = msgspec.structs.replace(preference, loss="kto")
    return msgspec.structs.replace(
        recipe,
        adapter=(recipe.adapter or AdapterPart()) if has_adapter else None,
        train=msgspec.structs.replace(recipe.train, lr=lr),
        preference=preference,
    )


def digest_recipe(recipe: Recipe) -> str:
    """Return the digest of the completed recipe, without its name and note: they change no weight."""
    values = msgspec.to_builtins(complete_recipe(recipe))
    return digest_json({key: value for key, value in values.items() if key not in {"name", "note"}})
