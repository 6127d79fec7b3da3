"""What a question found, what it missed, and why: the search asked again with everything kept, and deeper than it goes.

For whatever was expected and is not among the first k, the first reason that holds is told, in this order: it is in no document
of the generation (left out, unreadable, unknown); the asker may not read it or a filter leaves it out; a stage took it out; it
stands below k; it was no candidate, with its rank by meaning and by words.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.base.errors import PenstockError
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.corpus import StoredCorpus
from penstock.knowledge.quality.figures import passage_ids
from penstock.knowledge.quality.finding import Found, GenerationFinder
from penstock.knowledge.quality.labels import LabelMapper
from penstock.knowledge.quality.missing import DEPTH, HINTS, Deep, Rank, Why, as_sentence
from penstock.knowledge.quality.ports import Searching
from penstock.knowledge.quality.recipes import read_search
from penstock.knowledge.quality.report_types import (
    ExplainedHit,
    ExplainedStage,
    Explanation,
    Missed,
    MissReason,
)
from penstock.knowledge.quality.types import Label, MappedLabel
from penstock.knowledge.quality.words import content_words, split_words
from penstock.knowledge.retrieval.types import Candidate, Stage
from penstock.knowledge.types import Retrieval
from penstock.spec.knowledge import ChosenScope, SearchRecipe

MAX_K = 200
MAX_DROPPED = 50
MAX_WORDS = 16


class Explainer:
    """Explains questions. May be called from any thread."""

    def __init__(self, engine: Engine, searching: Searching) -> None:
        self._engine = engine
        self._searching = searching
        self._finder = GenerationFinder(engine, searching)

    def explain(
        self,
        base: str,
        question: str,
        *,
        expect: Sequence[str | Label] = (),
        named: str | None = None,
        k: int = 5,
        scope: ChosenScope | None = None,
        recipe: SearchRecipe | None = None,
    ) -> Explanation:
        """Return what was found, stage by stage, and for each thing expected why it was not.

        `expect` names documents (`alcohol.md`), sections (`alcohol.md#Effects on health`), passages by id, or words
        that should stand in what is found. `named` is a track or a generation; None: what is live. Raises as
        searching does, and `UnknownGeneration`.
        """
        found = self._finder.find(base, named)
        asked = ChosenScope() if scope is None else scope
        retrieval = self._searching.retrieve(
            base, question, k, scope=asked, generation=found.generation, recipe=recipe, explain=True
        )
        corpus = StoredCorpus(self._engine, base, found.generation)
        mapper = LabelMapper(corpus)
        mapped = [
            mapper.map(each if isinstance(each, Label) else read_expected(each, corpus)) for each in expect
        ]
        stages = _stages_of(retrieval)
        words = content_words(question)[:MAX_WORDS]
        shown = {name for hit in retrieval.hits for name in passage_ids(hit)}
        missed: list[Missed] = []
        if any(shown.isdisjoint(each.passages) for each in mapped):
            search = read_search(found.recipe) if recipe is None else recipe
            deep = {
                kind: self._look_deep(found, question, asked, search, kind) for kind in ("dense", "lexical")
            }
            with self._engine.connect() as connection:
                sources = queries.list_source_names(connection, base)
            why = Why(corpus=corpus, words=words, stages=stages, deep=deep, scope=asked, k=k, sources=sources)
            missed = [
                self._explain_missed(base, each, why) for each in mapped if shown.isdisjoint(each.passages)
            ]
        return Explanation(
            base=base,
            generation=found.generation,
            version=retrieval.version or found.version,
            question=question,
            k=k,
            mode=retrieval.mode,
            note=retrieval.note,
            embedder=retrieval.embedder,
            hits=_hits_of(retrieval, stages, corpus, words, mapped),
            stages=[_stage_of(stage, corpus) for stage in stages],
            missed=missed,
            found=[each for each in mapped if not shown.isdisjoint(each.passages)],
            n_rows=getattr(retrieval, "n_rows", None),
            words=words,
            absent_words=self._find_absent(found, words),
        )

    def _look_deep(
        self, found: Found, question: str, scope: ChosenScope, search: SearchRecipe, kind: str
    ) -> Deep:
        """Return ranks by one kind alone, without a second look or anything that takes candidates out."""
        alone = msgspec.structs.replace(
            search,
            fusion="dense" if kind == "dense" else "lexical",
            dense_weight=1.0 if kind == "dense" else 0.0,
            identifier_weight=None,
            n_candidates=DEPTH,
            rerank=None,
            diversity=0.0,
            freshness_weight=0.0,
            authority_weight=0.0,
            max_per_document=None,
            min_dense_score=None,
            min_relative_score=0.0,
            min_rerank_score=None,
        )
        try:
            retrieval = self._searching.retrieve(
                found.base,
                question,
                MAX_K,
                scope=scope,
                generation=found.generation,
                recipe=alone,
                explain=True,
            )
        except PenstockError as error:
            return Deep(ranks={}, depth=0, problem=error.message)
        if kind == "dense" and retrieval.mode == "lexical":
            return Deep(ranks={}, depth=0, problem=retrieval.note)
        ranks: dict[tuple[str, int] | str, Rank] = {}
        for stage in _stages_of(retrieval):
            for candidate in stage.candidates if stage.name == kind else ():
                rank = candidate.dense_rank if kind == "dense" else candidate.lexical_rank
                if rank is not None:
                    score = candidate.dense if kind == "dense" else candidate.lexical
                    ranks[candidate.place] = Rank(rank=rank, score=score)
        depth = min(DEPTH, len(ranks)) if ranks else len(retrieval.hits)
        for number, hit in enumerate(retrieval.hits, 1):
            score = hit.dense_score if kind == "dense" else hit.lexical_score
            if score is not None or kind == "dense":
                ranks.setdefault(hit.passage_id, Rank(rank=number, score=score))
        return Deep(ranks=ranks, depth=depth)

    def _find_absent(self, found: Found, words: Sequence[str]) -> list[str]:
        by_words = SearchRecipe(fusion="lexical", dense_weight=0.0)
        absent: list[str] = []
        for word in words:
            try:
                hits = self._searching.retrieve(
                    found.base, word, 1, generation=found.generation, recipe=by_words
                ).hits
            except PenstockError:
                return absent
            if not hits:
                absent.append(word)
        return absent

    def _explain_missed(self, base: str, mapped: MappedLabel, why: Why) -> Missed:
        if not mapped.passages:
            return self._explain_absent(base, mapped, why)
        return why.explain(mapped)

    def _explain_absent(self, base: str, mapped: MappedLabel, why: Why) -> Missed:
        label, document = mapped.label, mapped.label.document
        reason: MissReason = "text_missing" if label.quote is not None else "unknown_document"
        sentence = mapped.reason or "nothing in this generation is that"
        if document is not None and document in why.corpus.documents:
            error = why.corpus.error(document)
            if error is not None:
                reason, sentence = "parse_error", f"{document} could not be read: {error}"
            else:
                reason = "text_missing"
                problems = list(why.corpus.documents[document].problems or [])
                if problems:
                    sentence = f"{sentence}. Of {document} was not read: {'; '.join(map(str, problems[:3]))}"
        elif document is not None:
            told = self._ask_sources(base, document)
            if told is not None:
                reason, sentence = told
        return Missed(
            label=label,
            why=reason,
            sentence=as_sentence(sentence),
            next=HINTS[reason].format(base=base),
            document=document,
        )

    def _ask_sources(self, base: str, document: str) -> tuple[MissReason, str] | None:
        """Return what sources and older versions know of a document that the generation does not hold."""
        with self._engine.connect() as connection:
            items = [row for row in queries.list_items(connection, base) if _is_path(row, document)]
            versions = queries.list_document_versions(connection, base, document)
        for row in items:
            if row.state == "left_out":
                return (
                    "left_out",
                    f"the source {row.source} leaves {document} out: {row.reason or 'no reason kept'}",
                )
            if row.state == "unreadable":
                return "parse_error", f"the source {row.source} could not read {document}: {row.reason or ''}"
            if row.state == "gone":
                return "unknown_document", f"{document} is gone from the source {row.source}"
            return "not_indexed", f"the source {row.source} holds {document}, but this generation does not"
        if versions and versions[0].error:
            return "parse_error", f"{document} could not be read: {versions[0].error}"
        if versions:
            return "not_indexed", f"{document} was read once, but this generation does not hold it"
        return None


def read_expected(text: str, corpus: StoredCorpus) -> Label:
    """Return what a person means: a document, a section of one (`document#section`), a passage's id, or words."""
    text = text.strip()
    if text in corpus.documents:
        return Label(document=text)
    document, mark, section = text.partition("#")
    if mark and section and (document in corpus.documents or "." in document):
        return Label(document=document, section=section)
    if text.startswith("psg_") and " " not in text:
        return Label(passage_id=text)
    if " " not in text and ("." in text or "/" in text):
        return Label(document=text)
    return Label(quote=text)


def _stages_of(retrieval: Retrieval) -> Sequence[Stage]:
    stages: Sequence[Stage] = getattr(retrieval, "stages", ())
    return stages


def _hits_of(
    retrieval: Retrieval,
    stages: Sequence[Stage],
    corpus: StoredCorpus,
    words: Sequence[str],
    mapped: Sequence[MappedLabel],
) -> list[ExplainedHit]:
    known: dict[tuple[str, int], Candidate] = {}
    for stage in stages:
        known.update((candidate.place, candidate) for candidate in stage.candidates)
    expected = {name for each in mapped for name in each.passages}
    rows = []
    for rank, hit in enumerate(retrieval.hits, 1):
        passage = next((each for each in corpus.passages(hit.document) if each.id == hit.passage_id), None)
        candidate = None if passage is None else known.get((passage.document_id, passage.position))
        there = set(split_words(hit.text))
        rows.append(
            ExplainedHit(
                rank=rank,
                passage_id=hit.passage_id,
                document=hit.document,
                title=hit.title,
                section=hit.section,
                anchor=hit.anchor,
                text=hit.text,
                score=hit.score,
                dense_score=hit.dense_score,
                lexical_score=hit.lexical_score,
                is_expected=None if not mapped else not expected.isdisjoint(passage_ids(hit)),
                shared_words=[word for word in words if word in there],
                **_from_candidate(candidate),
            )
        )
    return rows


def _from_candidate(candidate: Candidate | None) -> dict[str, Any]:
    if candidate is None:
        return {}
    return {
        "dense_rank": candidate.dense_rank,
        "lexical_rank": candidate.lexical_rank,
        "fused_score": candidate.fused,
        "rerank_score": candidate.rerank,
        "freshness": candidate.freshness,
        "authority": candidate.authority,
    }


def _stage_of(stage: Stage, corpus: StoredCorpus) -> ExplainedStage:
    paths = {row.id: path for path, row in corpus.documents.items()}
    dropped = []
    for each in stage.dropped[:MAX_DROPPED]:
        document_id, position = each.candidate.place
        path = paths.get(document_id)
        passage = (
            next((one for one in corpus.passages(path) if one.position == position), None)
            if path is not None
            else None
        )
        dropped.append(
            {
                "document": path,
                "passage_id": None if passage is None else passage.id,
                "section": None if passage is None else passage.section,
                "reason": each.reason,
            }
        )
    return ExplainedStage(
        name=stage.name,
        ms=1000.0 * stage.seconds,
        n_in=stage.n_in,
        n_out=stage.n_out,
        note=stage.note,
        n_dropped=len(stage.dropped),
        dropped=dropped,
    )


def _is_path(row: Any, document: str) -> bool:
    prefix = str((row.settings or {}).get("prefix") or "")
    return document in {row.path, f"{prefix}{row.path}"}
