"""Which sentences an answer rests on. A mark is believed only if its sentence shares the answer's words.

Small models slip: they copy a sentence and name its neighbour, or change a word. So each mark is checked by
word overlap; where it fails, the best matching sentence is cited instead; where none matches, none is.
"""

import re
from collections.abc import Sequence
from urllib.parse import quote

from penstock.apps.grounding import Source, find_marks
from penstock.base.web_addresses import web_address
from penstock.spec.messages import Citation

_BORDER = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_MARK = re.compile(r"\s*\[\d{1,2}\]")
_PAGE = re.compile(r"(?:^|&)page=(\d{1,6})")
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


def cite(
    reply: str, answer: str, sources: Sequence[Source], *, with_marks: bool = False
) -> tuple[Citation, ...]:
    """Return the citations of `reply` (with marks), whose text for readers is `answer`, in order of mention.

    `with_marks` says that the answer shows them, so that each citation tells its own.
    """
    cited: dict[int, str] = {}
    by_mark = {source.mark: source for source in sources}
    for mark, claims in find_marks(reply):
        source = by_mark.get(mark)
        borne = [] if source is None else [each for each in claims if _bears_out(source, each)]
        if borne:
            cited.setdefault(mark, borne[0])
            continue
        for claim in claims:
            if (best := _best_match(claim, sources)) is not None:
                cited.setdefault(best.mark, claim)
                break
    if not cited and (best := _best_match(answer, sources)) is not None:
        cited[best.mark] = answer
    return tuple(
        _citation(by_mark[mark], answer, claim, mark=mark if with_marks else None)
        for mark, claim in cited.items()
    )


def measure_grounding(answer: str, sources: Sequence[Source]) -> float | None:
    """Return the share of the answer's sentences whose words a source holds; None for an answer without a sentence."""
    claims = [text for text in split_claims(_MARK.sub("", answer)) if _content_words(text)]
    if not claims:
        return None
    borne = sum(any(_bears_out(source, claim) for source in sources) for claim in claims)
    return borne / len(claims)


def without_marks(text: str) -> str:
    """Return an answer as it reads without its marks."""
    return _MARK.sub("", text).strip()


def split_claims(text: str) -> list[str]:
    """Return the sentences of an answer."""
    return [piece for each in _BORDER.split(text) if (piece := each.strip())]


def _bears_out(source: Source, claim: str) -> bool:
    return measure_overlap(claim, source.sentence) >= MIN_OVERLAP


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


def _citation(source: Source, answer: str, claim: str, *, mark: int | None) -> Citation:
    passage = source.passage
    start, end = _place(answer, claim, source.sentence)
    page = _PAGE.search(passage.anchor or "")
    return Citation(
        document=passage.document,
        section=passage.section,
        passage_id=passage.passage_id,
        quote=source.sentence,
        title=passage.title,
        anchor=passage.anchor,
        page=int(page.group(1)) if page else None,
        url=open_at(passage.url, passage.anchor),
        mark=mark,
        start=start,
        end=end,
    )


def open_at(url: str | None, anchor: str | None) -> str | None:
    """Return the address that opens a document at an anchor; None for a document without one that leads to a page."""
    url = web_address(url)  # documents say it of themselves, and clients make links of it
    if url is None or not anchor or "#" in url:
        return url
    return f"{url}#{quote(anchor, safe='=&-._~')}"


def _place(answer: str, claim: str, sentence: str) -> tuple[int | None, int | None]:
    """Return where in the answer the sentence of the claim stands that shares most with the source; Nones if nowhere."""
    best = max(split_claims(claim), key=lambda each: measure_overlap(each, sentence), default="")
    start = answer.find(best) if best else -1
    return (None, None) if start < 0 else (start, start + len(best))
