"""Takes out what has little to do with the question, so that a model is not led astray by it. Pure."""

from collections.abc import Sequence

from penstock.knowledge.retrieval.types import Candidate, Dropped
from penstock.spec.knowledge import SearchRecipe


def is_judged(recipe: SearchRecipe) -> bool:
    """Return whether a recipe takes anything out."""
    return (
        recipe.min_dense_score is not None
        or recipe.min_rerank_score is not None
        or recipe.min_relative_score > 0
    )


def judge_relevance(
    candidates: Sequence[Candidate], recipe: SearchRecipe
) -> tuple[list[Candidate], list[Dropped]]:
    """Return what stays, in order, and what goes with the reason.

    A score that was not made condemns nothing, but where the second look must find a passage relevant, those below
    its depth do not stand in for the ones that it refused.
    """
    is_looked = any(each.rerank is not None for each in candidates)
    best = max((each.score for each in candidates), default=0.0)
    floor = recipe.min_relative_score * best
    kept: list[Candidate] = []
    dropped: list[Dropped] = []
    for each in candidates:
        reason = _find_fault(each, recipe, floor, is_looked=is_looked)
        if reason is None:
            kept.append(each)
        else:
            dropped.append(Dropped(candidate=each, reason=reason))
    return kept, dropped


def _find_fault(each: Candidate, recipe: SearchRecipe, floor: float, *, is_looked: bool) -> str | None:
    least = recipe.min_dense_score
    if least is not None and each.lexical is None and each.dense is not None and each.dense < least:
        return f"shares no word with the question, and its cosine {each.dense:.3f} is below {least:g}"
    least = recipe.min_rerank_score
    if least is not None and is_looked and each.rerank is None:
        return "the second look did not come so far"
    if least is not None and each.rerank is not None and each.rerank < least:
        return f"the second look's score {each.rerank:.3f} is below {least:g}"
    if each.score < floor:
        return f"its score {each.score:.3f} is below {recipe.min_relative_score:g} of the best one's"
    return None
