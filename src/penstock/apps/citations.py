"""Which sentences an answer rests on. A mark is believed only if its sentence shares the answer's words.

Small models slip: they copy a sentence and name its neighbour, or change a word. So each mark is checked by
word overlap; where it fails, the best matching sentence is cited instead; where none matches, none is.
"""

import re
from collections.abc import Sequence

from penstock.apps.grounding import Source, find_marks
from penstock.spec.messages import Citation

MIN_OVERLAP = 0.6
MIN_WORDS = 2
_WORD = re.compile(r"\w+")
_LIGHT = frozenset(["a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that", "the", "this", "to", "was", "with"])  # fmt: skip


def measure_overlap(claim: str, sentence: str) -> float:
    """Return the share of the shorter text's content words that the other one holds; 0 for too few words."""
    left, right = _content_words(claim), _content_words(sentence)
    smaller = min(len(left), len(right))
    if smaller < MIN_WORDS:
        return 1.0 if left == right and left else 0.0
    return len(left & right) / smaller


def cite(reply: str, answer: str, sources: Sequence[Source]) -> tuple[Citation, ...]:
    """Return the citations of `reply` (with marks), whose text without marks is `answer`, in order of mention."""
    cited: dict[int, None] = {}
    by_mark = {source.mark: source for source in sources}
    for mark, claims in find_marks(reply):
        source = by_mark.get(mark)
        if source is not None and any(
            measure_overlap(each, source.sentence) >= MIN_OVERLAP for each in claims
        ):
            cited[mark] = None
            continue
        for claim in claims:
            if (best := _best_match(claim, sources)) is not None:
                cited[best.mark] = None
                break
    if not cited and (best := _best_match(answer, sources)) is not None:
        cited[best.mark] = None
    return tuple(_citation(by_mark[mark]) for mark in cited)


def _best_match(claim: str, sources: Sequence[Source]) -> Source | None:
    """Return the source that matches best; between equals the longer common part wins, then the rank."""
    words = _content_words(claim)
    scored = [
        (
            measure_overlap(claim, source.sentence),
            len(words & _content_words(source.sentence)),
            -source.mark,
            source,
        )
        for source in sources
    ]
    overlap, _, _, source = max(scored, key=lambda item: item[:3], default=(0.0, 0, 0, None))
    return source if overlap >= MIN_OVERLAP else None


def _content_words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.casefold()) if word not in _LIGHT}


def _citation(source: Source) -> Citation:
    return Citation(
        document=source.passage.document,
        section=source.passage.section,
        passage_id=source.passage.passage_id,
        quote=source.sentence,
    )
