"""Whether an answer stands in what it cites: each quote, each number and each sentence against the passages. Pure.

Words, not meaning: a claim that turns a sentence round with the same words passes. It finds quotes that stand nowhere,
numbers that were changed, and sentences that nothing cited speaks of.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from penstock.knowledge.sentences import split_sentences
from penstock.knowledge.table_rows import find_row

Verdict = Literal["exact", "near", "absent"]
MIN_OVERLAP = 0.6
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LIGHT_WORDS = (
    "a an and are as at be been but by can do does for from has have how i if in into is it its may no not of on or "
    "so such that the their then there these they this to was were what when which will with would you your"
)
_LIGHT = frozenset(_LIGHT_WORDS.split())


class Cited(Protocol):
    """A passage that an answer cites, and the words it cites from it."""

    @property
    def passage_id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def quote(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class CitedPassage:
    """A passage with what is quoted from it; without a quote the whole passage is cited."""

    passage_id: str
    text: str
    quote: str | None = None


@dataclass(frozen=True, kw_only=True)
class QuoteVerdict:
    """Whether a quote stands in its passage. `start` and `end` are its place there, None when it is absent."""

    passage_id: str
    quote: str
    verdict: Verdict
    """`near`: but for case, white space, quotation marks and hyphens, or a row of a table with its columns' names."""
    start: int | None
    end: int | None


@dataclass(frozen=True, kw_only=True)
class ClaimVerdict:
    """Whether a sentence of the answer is carried by a cited passage."""

    claim: str
    passage_id: str | None
    """The passage that carries it best; None when none does."""
    overlap: float
    """Share of the claim's content words in the best sentence pair of that passage."""
    missing_numbers: tuple[str, ...]
    """Numbers of the claim that stand in no cited passage."""

    @property
    def is_carried(self) -> bool:
        """Whether the passage carries the claim."""
        return self.passage_id is not None and not self.missing_numbers


@dataclass(frozen=True, kw_only=True)
class CitationReport:
    """Verdicts of one answer."""

    quotes: tuple[QuoteVerdict, ...]
    claims: tuple[ClaimVerdict, ...]

    @property
    def is_supported(self) -> bool:
        """Whether every quote stands in its passage and every claim is carried. False without any claim."""
        return (
            bool(self.claims)
            and all(quote.verdict != "absent" for quote in self.quotes)
            and all(claim.is_carried for claim in self.claims)
        )

    @property
    def share_carried(self) -> float | None:
        """Share of the claims that are carried; None without any."""
        if not self.claims:
            return None
        return sum(claim.is_carried for claim in self.claims) / len(self.claims)


def check_citations(
    answer: str, cited: Sequence[Cited], *, min_overlap: float = MIN_OVERLAP
) -> CitationReport:
    """Return a verdict for each quote and each sentence of `answer` (without marks) against what it cites."""
    quotes = tuple(find_quote(each) for each in cited if each.quote is not None)
    claims = tuple(
        _judge_claim(sentence, cited, min_overlap)
        for sentence in split_sentences(answer)
        if _content(sentence) or _NUMBER.search(sentence)
    )
    return CitationReport(quotes=quotes, claims=claims)


def find_quote(cited: Cited) -> QuoteVerdict:
    """Return where a quote stands in its passage."""
    quote = (cited.quote or "").strip()
    place = cited.text.find(quote) if quote else -1
    if place >= 0:
        return QuoteVerdict(
            passage_id=cited.passage_id, quote=quote, verdict="exact", start=place, end=place + len(quote)
        )
    text, offsets = _plain(cited.text)
    bare, _ = _plain(quote)
    place = text.find(bare) if bare else -1
    if place < 0:
        row = find_row(cited.text, quote)
        if row is not None:
            start, end = row
            return QuoteVerdict(
                passage_id=cited.passage_id, quote=quote, verdict="near", start=start, end=end
            )
        return QuoteVerdict(passage_id=cited.passage_id, quote=quote, verdict="absent", start=None, end=None)
    return QuoteVerdict(
        passage_id=cited.passage_id,
        quote=quote,
        verdict="near",
        start=offsets[place],
        end=offsets[place + len(bare) - 1] + 1,
    )


def _judge_claim(claim: str, cited: Sequence[Cited], min_overlap: float) -> ClaimVerdict:
    words = _content(claim)
    best_id: str | None = None
    best = 0.0
    for each in cited:
        overlap = _overlap(words, each.text)
        if overlap > best:
            best, best_id = overlap, each.passage_id
    numbers = dict.fromkeys(_NUMBER.findall(claim))
    known = {number for each in cited for number in _NUMBER.findall(each.text)}
    return ClaimVerdict(
        claim=claim,
        passage_id=best_id if best >= min_overlap else None,
        overlap=best,
        missing_numbers=tuple(number for number in numbers if number not in known),
    )


def _overlap(words: frozenset[str], text: str) -> float:
    """Return the share of the words in the best two sentences that follow each other."""
    sentences = [_content(sentence) for sentence in split_sentences(text)]
    pairs = [left | right for left, right in zip(sentences, [*sentences[1:], frozenset[str]()], strict=True)]
    if not words:
        return 0.0
    return max((len(words & pair) / len(words) for pair in pairs), default=0.0)


def _content(text: str) -> frozenset[str]:
    return frozenset(word for word in _WORD.findall(text.casefold()) if word not in _LIGHT)


def _plain(text: str) -> tuple[str, list[int]]:
    """Return the text with one kind of quotation mark and hyphen, without white space, lower case; and where each
    character stood. White space goes altogether: a quote over a line break or a hyphenated word is the same."""
    chars: list[str] = []
    offsets: list[int] = []
    for place, char in enumerate(text):
        if char.isspace():
            continue
        for one in _SAME.get(char, char).lower():
            chars.append(one)
            offsets.append(place)
    return "".join(chars), offsets


_SAME = {
    "“": '"',
    "”": '"',
    "„": '"',
    "«": '"',
    "»": '"',
    "’": "'",
    "‘": "'",
    "–": "-",
    "—": "-",
    "‐": "-",
    "‑": "-",
}
