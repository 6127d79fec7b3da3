"""Two searches for one question beside each other: what each found, stage by stage, and how ranks changed. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from penstock.knowledge.quality.report_types import ExplainedHit, Explanation


@dataclass(frozen=True, kw_only=True)
class HitLine:
    """One passage that was found."""

    hit: ExplainedHit
    href: str
    bar_pct: float
    """Its score against the best one's."""
    change: str
    """Against the other side, in words; empty where there is none."""
    change_tone: str
    said: str
    """What somebody said of it for this question: `label`, `up`, `down`; empty for nothing."""


@dataclass(frozen=True, kw_only=True)
class GoneLine:
    """A passage that the other side found and this one did not."""

    rank: int
    place: str
    href: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """One search."""

    title: str
    explanation: Explanation | None
    error: str
    """Why it could not be searched; empty when it could."""
    lines: tuple[HitLine, ...] = ()
    gone: tuple[GoneLine, ...] = ()
    total_ms: float = 0.0

    @property
    def kind_of_search(self) -> str:
        """How it was searched, in words."""
        words = {
            "hybrid": "by meaning and words",
            "dense": "by meaning",
            "lexical": "by words",
            "none": "nothing was searched",
        }
        return words.get(self.explanation.mode, self.explanation.mode) if self.explanation else ""


def make_side(
    base: str,
    title: str,
    found: Explanation | None,
    *,
    error: str = "",
    other: Explanation | None = None,
    said: Mapping[str, str] | None = None,
) -> Side:
    """Return a search as it is shown; with `other`, how it differs from that one."""
    if found is None:
        return Side(title=title, explanation=None, error=error)
    best = max((hit.score for hit in found.hits), default=0.0)
    lines = []
    for hit in found.hits:
        change, tone = ("", "same") if other is None else tell_change(hit, other.hits)
        lines.append(
            HitLine(
                hit=hit,
                href=passage_href(base, hit.document, hit.passage_id),
                bar_pct=round(100 * hit.score / best, 1) if best > 0 else 0.0,
                change=change,
                change_tone=tone,
                said=(said or {}).get(hit.passage_id, ""),
            )
        )
    return Side(
        title=title,
        explanation=found,
        error=error,
        lines=tuple(lines),
        gone=() if other is None else find_gone(base, found.hits, other.hits),
        total_ms=sum(stage.ms for stage in found.stages),
    )


def tell_change(hit: ExplainedHit, others: Sequence[ExplainedHit]) -> tuple[str, str]:
    """Return where the other side has the same passage, or the same section cut otherwise, in words with a tone."""
    same = next((each for each in others if each.passage_id == hit.passage_id), None)
    word = ""
    if same is None:
        same = next((each for each in others if _place(each) == _place(hit)), None)
        word = "same section, "
    if same is None:
        return "new", "up"
    if same.rank == hit.rank:
        return f"{word}same rank", "same"
    step = same.rank - hit.rank
    return (f"{word}up {step}", "up") if step > 0 else (f"{word}down {-step}", "down")


def find_gone(
    base: str, hits: Sequence[ExplainedHit], others: Sequence[ExplainedHit]
) -> tuple[GoneLine, ...]:
    """Return what the other side found and this one did not, neither the passage nor its section."""
    ids = {hit.passage_id for hit in hits}
    places = {_place(hit) for hit in hits}
    return tuple(
        GoneLine(
            rank=each.rank,
            place=" · ".join(part for part in (each.document, each.section) if part),
            href=passage_href(base, each.document, each.passage_id),
        )
        for each in others
        if each.passage_id not in ids and _place(each) not in places
    )


def passage_href(base: str, document: str, passage_id: str) -> str:
    """Return where a passage stands on the page of its document."""
    return f"/knowledge/{base}/documents/{quote(document)}#{quote(passage_id)}"


def _place(hit: ExplainedHit) -> tuple[str, str | None]:
    return hit.document, hit.section
