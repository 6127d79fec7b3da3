"""Bounds of a run that are raised after it has begun: they decide how far it gets, never what it learns on the way."""

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.tuning import BudgetPart, Recipe, RunRecord
from penstock.tuning.recipes.checks import check_recipe


def raise_budget(recipe: Recipe, more: BudgetPart | None) -> Recipe:
    """Return the recipe with the bounds that `more` names. Raises `InvalidInput` for one that is lower than it was, or none."""
    if more is None:
        return recipe
    given = {name: value for name, value in msgspec.structs.asdict(more).items() if value is not None}
    for name, value in given.items():
        before = getattr(recipe.budget, name)
        if before is not None and value < before:
            raise InvalidInput(
                f"{name} is {before:g}; {value:g} would be less.",
                hint="Bounds are raised here, to the whole that a run may take, what it has taken included.",
                where=name,
            )
    raised = msgspec.structs.replace(recipe, budget=msgspec.structs.replace(recipe.budget, **given))
    for path, problem, hint in check_recipe(raised):
        if path[:1] == ("budget",):
            raise InvalidInput(f"{path[-1]}: {problem}.", hint=hint, where=str(path[-1]))
    return raised


def gains_minutes(record: RunRecord, before: Recipe, after: Recipe) -> bool:
    """Whether a run that ended because its minutes were used up has more of them now."""
    old, new = before.budget.max_minutes, after.budget.max_minutes
    is_cut = (record.result or {}).get("ended") == "budget"
    return is_cut and old is not None and new is not None and new > old
