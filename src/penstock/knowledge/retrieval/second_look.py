"""The second look: the best candidates scored again, with a bound on its time, mixed with the first order.

A second look that fails, takes too long or answers nonsense leaves the first order, and says so.
"""

import contextvars
import logging
import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace

import numpy as np

from penstock.base.errors import PenstockError
from penstock.knowledge.retrieval.errors import BadRerank, RerankTimeout
from penstock.knowledge.retrieval.fusion import spread
from penstock.knowledge.retrieval.types import Candidate, Reranker, RerankText
from penstock.spec.knowledge import RerankRecipe

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Candidates after the second look, best first, and why it did not happen if it did not."""

    candidates: list[Candidate]
    note: str | None = None


def look_again(
    executor: Executor,
    reranker: Reranker,
    query: str,
    *,
    candidates: Sequence[Candidate],
    texts: Sequence[RerankText],
    recipe: RerankRecipe,
    traceparent: str | None,
) -> Look:
    """Score the first `len(texts)` candidates again and order them; the rest follow, below them."""
    context = contextvars.copy_context()  # for whom the call is made travels in it
    future = executor.submit(
        context.run, lambda: reranker.score(query, texts, recipe, traceparent=traceparent)
    )
    try:
        scores = _wait(future, recipe.timeout_s, n_wanted=len(texts))
    except PenstockError as error:
        _log.warning("second look left out", extra={"kind": recipe.kind, "error": str(error)})
        return Look(candidates=list(candidates), note=f"no second look ({recipe.kind}): {error.message}")
    return Look(candidates=mix_looks(candidates, scores, recipe.weight))


def mix_looks(candidates: Sequence[Candidate], scores: Sequence[float], weight: float) -> list[Candidate]:
    """Return the candidates in their new order: `weight` of the second score between its lowest and highest,
    the rest the first score. Those that were not looked at keep their order below, and no score above."""
    n = len(scores)
    second = spread(np.array(scores, dtype=np.float64))
    mixed = [
        (1.0 - weight) * candidate.score + weight * float(own)
        for candidate, own in zip(candidates[:n], second, strict=True)
    ]
    order = sorted(range(n), key=lambda place: (-mixed[place], place))
    head = [replace(candidates[place], score=mixed[place], rerank=float(scores[place])) for place in order]
    floor = head[-1].score if head else math.inf
    return [*head, *(replace(each, score=min(each.score, floor)) for each in candidates[n:])]


def _wait(future: Future[Sequence[float]], timeout_s: float, *, n_wanted: int) -> list[float]:
    try:
        scores = [float(score) for score in future.result(timeout=timeout_s)]
    except FutureTimeout:
        future.cancel()
        raise RerankTimeout(f"it took longer than {timeout_s:g} s.") from None
    except (TypeError, ValueError) as error:
        raise BadRerank(f"it answered with something that is no score: {error}.") from error
    if len(scores) != n_wanted or not all(map(math.isfinite, scores)):
        raise BadRerank(f"it gave {len(scores)} scores for {n_wanted} passages, or some that are no numbers.")
    return scores
