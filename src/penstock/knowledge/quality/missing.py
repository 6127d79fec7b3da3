"""Why a passage that is in the index was not shown: the first reason that holds, with its ranks and its words."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from penstock.knowledge.index.types import IndexDocument
from penstock.knowledge.quality.corpus import StoredCorpus
from penstock.knowledge.quality.labels import PassageText
from penstock.knowledge.quality.report_types import Missed, MissReason
from penstock.knowledge.quality.types import MappedLabel
from penstock.knowledge.quality.words import split_words
from penstock.knowledge.retrieval.conditions import meets
from penstock.knowledge.retrieval.filters import may_read
from penstock.knowledge.retrieval.types import Stage
from penstock.spec.knowledge import ChosenScope, Properties

DEPTH = 2000
"""Candidates of either kind that are looked through for what was missed."""
_NEAR = 0.8
_PREFIX = 5
NO_READERS = "no_readers"
HINTS: Mapping[str, str] = {
    "left_out": "Look at the source's rules and at what it leaves out: penstock knowledge document list {base} --state left_out",
    "parse_error": "Mend the file or its password, or turn on text recognition, then ingest again.",
    "unknown_document": "Add it to a source, then ingest.",
    "not_indexed": "Ingest again; until then the older version is served.",
    "text_missing": "The text may stand in a picture, or the label is older than the document.",
    "no_access": "Ask as one of its readers: --as user:NAME or --as group:NAME.",
    NO_READERS: "Give it `readers` at its source, or none of the field at all, then ingest again.",
    "filtered": "A condition of the search leaves it out.",
    "below_k": "Ask for more passages, or re-rank.",
    "dropped": "Loosen the stage that took it out, and measure what that does to other questions.",
    "not_a_candidate": "Say it in the document's own words, add the question's words to it, or use a stronger embedder.",
}


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Where a passage stands by one kind of search."""

    rank: int
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Deep:
    """Ranks of passages by one kind of search alone, deeper than searches go."""

    ranks: Mapping[tuple[str, int] | str, Rank]
    depth: int
    problem: str | None = None

    def find(self, passage: PassageText) -> Rank | None:
        """Return where a passage stands, or None."""
        return self.ranks.get((passage.document_id, passage.position)) or self.ranks.get(passage.id)


@dataclass(frozen=True, kw_only=True)
class Why:
    """Why a passage of the index was not shown."""

    corpus: StoredCorpus
    words: Sequence[str]
    stages: Sequence[Stage]
    deep: Mapping[str, Deep]
    scope: ChosenScope
    k: int
    sources: Mapping[str, str]
    """Names by id."""

    def explain(self, mapped: MappedLabel) -> Missed:
        """Return the first reason that holds, for the passage that came nearest."""
        wanted = frozenset(mapped.passages)
        passages = [
            (path, each)
            for path in self._paths(mapped)
            for each in self.corpus.passages(path)
            if each.id in wanted
        ]
        path, passage = min(passages, key=lambda each: self._nearness(each[1]))
        dense, lexical = self.deep["dense"].find(passage), self.deep["lexical"].find(passage)
        shared = [word for word in self.words if word in set(split_words(passage.text))]
        reason, sentence, rank = self._reason(path, passage, dense, lexical)
        return Missed(
            label=mapped.label,
            why=reason,
            sentence=as_sentence(sentence),
            next=HINTS[NO_READERS if reason == "no_access" and not self._readers(path) else reason],
            passage_id=passage.id,
            document=path,
            section=passage.section,
            text=passage.text,
            dense_rank=None if dense is None else dense.rank,
            dense_score=None if dense is None else dense.score,
            lexical_rank=None if lexical is None else lexical.rank,
            lexical_score=None if lexical is None else lexical.score,
            rank=rank,
            shared_words=shared,
            near_words=find_near(self.words, passage.text),
        )

    def _paths(self, mapped: MappedLabel) -> list[str]:
        document = mapped.label.document
        if document is not None and document in self.corpus.documents:
            here = {each.id for each in self.corpus.passages(document)}
            if here.issuperset(mapped.passages):
                return [document]
        return list(self.corpus.paths)

    def _nearness(self, passage: PassageText) -> tuple[int, int]:
        ranks = [each.rank for deep in self.deep.values() if (each := deep.find(passage)) is not None]
        return (min(ranks, default=DEPTH + 1), passage.position)

    def _reason(
        self, path: str, passage: PassageText, dense: Rank | None, lexical: Rank | None
    ) -> tuple[MissReason, str, int | None]:
        refused = self._refused(path)
        if refused is not None:
            return (*refused, None)
        place = (passage.document_id, passage.position)
        rank: int | None = None
        for stage in self.stages:
            for number, candidate in enumerate(stage.candidates, 1):
                if candidate.place == place:
                    rank = number
            for dropped in stage.dropped if stage.name != "cut" else ():
                if dropped.candidate.place == place:
                    why = f"{_name(path, passage)} was taken out by {stage.name}: {dropped.reason}"
                    return "dropped", why, None
        if rank is not None:
            return "below_k", f"{_name(path, passage)} stands at rank {rank}, below the first {self.k}", rank
        told = self._ranks_text(dense, lexical, passage)
        best = min((each.rank for each in (dense, lexical) if each is not None), default=None)
        if best is not None and best <= self.k and not self.stages:
            return "below_k", f"{_name(path, passage)} stands below the first {self.k}: {told}", None
        return "not_a_candidate", f"{_name(path, passage)} is in the index, but {told}", None

    def _refused(self, path: str) -> tuple[Literal["no_access", "filtered"], str] | None:
        row = self.corpus.documents[path]
        properties = msgspec.convert(row.properties or {}, Properties)
        if not may_read(properties.readers, self.scope.principals):
            readers = self._readers(path)
            if not readers:
                return "no_access", f"{path} may be read by nobody: its list of readers is empty"
            return "no_access", f"{path} may be read by {', '.join(readers)} alone"
        document = IndexDocument(
            id=row.id,
            path=path,
            title=row.title,
            media_type=row.media_type,
            source=self.sources.get(row.source_id or ""),
            added_ns=row.created_ns,
            properties=properties,
        )
        for condition in self.scope.conditions:
            if not meets(document, condition):
                told = condition.field or condition.op
                return "filtered", f"{path} does not meet the condition on {told}"
        return None

    def _readers(self, path: str) -> list[str] | None:
        return msgspec.convert(self.corpus.documents[path].properties or {}, Properties).readers

    def _ranks_text(self, dense: Rank | None, lexical: Rank | None, passage: PassageText) -> str:
        deep = self.deep["dense"]
        if dense is not None:
            by_meaning = f"stands at rank {dense.rank} by meaning"
        elif deep.problem is not None:
            by_meaning = f"was not looked for by meaning ({deep.problem})"
        else:
            by_meaning = (
                f"is not among the {deep.depth:,} nearest by meaning" if deep.depth else "has no vector"
            )
        if lexical is not None:
            by_words = f"at rank {lexical.rank} by words"
        elif any(word in set(split_words(passage.text)) for word in self.words):
            by_words = f"is not among the {self.deep['lexical'].depth:,} best by words"
        else:
            by_words = "shares no word with the question"
        return f"{by_meaning} and {by_words}"


def find_near(words: Sequence[str], text: str) -> dict[str, list[str]]:
    """Return, for words that the text lacks, words of the text that are spelled nearly the same."""
    there = sorted(set(split_words(text)))
    found: dict[str, list[str]] = {}
    for word in words:
        if word in there or len(word) < 4:
            continue
        near = difflib.get_close_matches(word, there, n=3, cutoff=_NEAR)
        near += [
            other
            for other in there
            if len(word) >= _PREFIX and other[:_PREFIX] == word[:_PREFIX] and other not in near
        ]
        if near:
            found[word] = near[:3]
    return found


def _name(path: str, passage: PassageText) -> str:
    return f"{path}#{passage.section}" if passage.section else path


def as_sentence(text: str) -> str:
    """Return a text as one sentence; a path at its beginning stays as it is."""
    text = text.strip().rstrip(".")
    if text.endswith("?"):
        return text
    return (
        f"{text[:1].upper()}{text[1:]}."
        if text and not text[:1].isupper() and "." not in text.split(" ")[0]
        else f"{text}."
    )
