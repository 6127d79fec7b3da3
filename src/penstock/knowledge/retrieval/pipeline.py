"""One search, stage by stage: question, selection, candidates, fusion, boosts, second look, relevance, diversity,
documents, parents, cut. Each stage is timed and can be explained; the order is the same every time.

Knows no database and no gateway: passages, the question's vector and second looks come through ports. Everything
behind the selection sees selected rows alone: nobody's second look, note or explanation is told of others.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from penstock.base.errors import UpstreamError
from penstock.knowledge.index.types import Place
from penstock.knowledge.retrieval.boosts import measure_authority, measure_freshness, mix_boosts
from penstock.knowledge.retrieval.candidates import NOTHING, Found, find_by_vector, find_by_words, fuse
from penstock.knowledge.retrieval.diversity import order_diversely
from penstock.knowledge.retrieval.filters import Selected, SelectionCache
from penstock.knowledge.retrieval.fusion import find_weight
from penstock.knowledge.retrieval.parents import ParentReader, merge_parents
from penstock.knowledge.retrieval.question import analyse_question
from penstock.knowledge.retrieval.relevance import is_judged, judge_relevance
from penstock.knowledge.retrieval.second_look import look_again
from penstock.knowledge.retrieval.types import (
    Candidate,
    Dropped,
    EmbedQuery,
    LoadPassages,
    PassageRow,
    Ranked,
    RankedMode,
    RankedPassage,
    Rerankers,
    RerankText,
    SearchedIndex,
    Stage,
    StageName,
    Vector,
)
from penstock.spec.knowledge import ChosenScope, SearchRecipe

MAX_LOOKS_AT_ONCE = 8
"""Second looks under way at the same time, over all searches; further ones wait within their own time limit."""


class Searcher:
    """Searches open indexes. Keeps nothing of a question; safe from several threads."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._selections = SelectionCache()
        self._executor = ThreadPoolExecutor(MAX_LOOKS_AT_ONCE, thread_name_prefix="second-look")

    def search(
        self,
        index: SearchedIndex,
        query: str,
        *,
        recipe: SearchRecipe,
        scope: ChosenScope,
        k: int,
        embed_query: EmbedQuery,
        load_passages: LoadPassages,
        rerankers: Rerankers,
        now_ns: int,
        traceparent: str | None = None,
        explain: bool = False,
    ) -> Ranked:
        """Return at most `k` passages, best first. Never raises for what a question holds."""
        run = _Run(
            index=index,
            query=query,
            recipe=recipe,
            k=k,
            load_passages=load_passages,
            rerankers=rerankers,
            now_ns=now_ns,
            traceparent=traceparent,
            explain=explain,
            clock=self._clock,
            executor=self._executor,
        )
        return run.search(embed_query, lambda: self._selections.select(index, scope))

    def close(self) -> None:
        """End the threads; a second look under way is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)


_LOSSES = (
    ("relevance", "were found irrelevant"),
    ("per_document", "stand behind others of their document"),
    ("parents", "stand in a parent that is shown"),
)


@dataclass(kw_only=True)
class _Run:
    """The state of one search. `pool` are the candidates in their order after the last stage."""

    index: SearchedIndex
    query: str
    recipe: SearchRecipe
    k: int
    load_passages: LoadPassages
    rerankers: Rerankers
    now_ns: int
    traceparent: str | None
    explain: bool
    clock: Callable[[], float]
    executor: ThreadPoolExecutor
    pool: Sequence[Candidate] = ()
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    loaded: dict[Place, PassageRow | None] = field(default_factory=dict)
    mode: RankedMode = "none"

    def search(self, embed_query: EmbedQuery, select: Callable[[], Selected]) -> Ranked:
        if not self.query.strip():
            return Ranked(passages=(), mode="none", notes=("the query is empty",), n_rows=None, stages=())
        begun = self.clock()
        selected = select()
        self.notes += selected.notes
        self._tell("selection", begun, n_in=selected.n_readable, n_out=selected.count)
        if selected.count:
            self._find(embed_query, selected)
            self._boost()
            self._look_again()
            self._judge()
            self._diversify()
            self._cap_documents()
        passages = self._show()
        return Ranked(
            passages=tuple(passages),
            mode=self.mode if passages else "none",
            notes=tuple(dict.fromkeys(self.notes)),
            shortfall=self._shortfall(len(passages), selected) if len(passages) < self.k else None,
            n_rows=selected.count,
            stages=tuple(self.stages),
        )

    def _find(self, embed_query: EmbedQuery, selected: Selected) -> None:
        begun = self.clock()
        analysis = analyse_question(self.query)
        weight = find_weight(self.recipe, self.index.embedder, is_exact=analysis.is_exact)
        vector: Vector | None = None
        note = None
        if weight > 0:
            vector, note = embed_query(self.query)
        if note:
            self.notes.append(note)
        exact = [*analysis.quoted, *analysis.identifiers]
        said = f"dense weight {weight:g}" + (f"; asks for {', '.join(map(repr, exact))}" if exact else "")
        self._tell("question", begun, n_in=0, n_out=0, note=said)
        limit = max(self.k, self.recipe.n_candidates)
        lexical = dense = NOTHING
        begun = self.clock()
        if vector is None or weight < 1:
            lexical = find_by_words(self.index, self.query, self.recipe, limit=limit, rows=selected.rows)
            self._tell("lexical", begun, n_in=selected.count, n_out=len(lexical.rows))
        if vector is not None:
            begun = self.clock()
            try:
                dense = find_by_vector(self.index, vector, limit=limit, rows=selected.rows)
                self._tell("dense", begun, n_in=selected.count, n_out=len(dense.rows))
                self._fuse(lexical, dense, vector, weight)
            except UpstreamError as error:  # a server of vectors; the index of words lies here
                self.notes.append(f"vectors could not be searched, words alone were: {error.message}")
                vector, dense = None, NOTHING
                if weight >= 1:
                    lexical = find_by_words(
                        self.index, self.query, self.recipe, limit=limit, rows=selected.rows
                    )
        if vector is None:
            self._fuse(lexical, dense, None, weight)
        self.mode = "lexical" if vector is None else "dense" if weight >= 1 else "hybrid"

    def _fuse(self, lexical: Found, dense: Found, vector: Vector | None, weight: float) -> None:
        begun = self.clock()
        self.pool = fuse(
            self.index, lexical=lexical, dense=dense, vector=vector, recipe=self.recipe, weight=weight
        )
        self._tell("fusion", begun, n_in=len(lexical.rows) + len(dense.rows), n_out=len(self.pool))

    def _boost(self) -> None:
        recipe = self.recipe
        if recipe.freshness_weight <= 0 and recipe.authority_weight <= 0:
            return
        begun = self.clock()
        boosted = []
        for each in self.pool:
            document = self.index.documents[int(self.index.document_of[each.row])]
            fresh = trust = None
            if recipe.freshness_weight > 0:
                fresh = measure_freshness(
                    document, now_ns=self.now_ns, half_life_days=recipe.freshness_half_life_days
                )
            if recipe.authority_weight > 0:
                trust = measure_authority(document)
            score = mix_boosts(each.score, fresh, trust, recipe)
            boosted.append(replace(each, score=score, freshness=fresh, authority=trust))
        self.pool = sorted(boosted, key=lambda each: (-each.score, each.row))
        self._tell("boosts", begun, n_in=len(boosted), n_out=len(boosted))

    def _look_again(self) -> None:
        recipe = self.recipe.rerank
        if recipe is None or not self.pool:
            return
        begun = self.clock()
        n_in = len(self.pool)
        reranker = self.rerankers.get(recipe.kind)
        note: str | None
        if reranker is None:
            note = f"no second look ({recipe.kind}): none of this kind is there"
        else:
            passages = self._load(self.pool[: recipe.depth])
            head = [each for each in self.pool[: recipe.depth] if passages[each.place] is not None]
            texts = [_as_text(row) for each in head if (row := passages[each.place]) is not None]
            look = look_again(
                self.executor,
                reranker,
                self.query,
                candidates=[*head, *self.pool[recipe.depth :]],
                texts=texts,
                recipe=recipe,
                traceparent=self.traceparent,
            )
            self.pool, note = look.candidates, look.note
        if note:
            self.notes.append(note)
        self._tell("rerank", begun, n_in=n_in, n_out=len(self.pool), note=note)

    def _judge(self) -> None:
        if not is_judged(self.recipe):
            return
        begun = self.clock()
        kept, dropped = judge_relevance(self.pool, self.recipe)
        if dropped:
            n_in, self.pool = len(self.pool), kept
            self._tell("relevance", begun, n_in=n_in, n_out=len(kept), dropped=dropped)

    def _diversify(self) -> None:
        if self.recipe.diversity <= 0 or len(self.pool) < 2:
            return
        begun = self.clock()
        try:
            vectors = self.index.dense.vectors([each.row for each in self.pool])
        except UpstreamError as error:
            self.notes.append(f"nothing was spread by difference: {error.message}")
            return
        if vectors.size == 0:
            self.notes.append("no vectors: nothing was spread by difference")
            return
        scores = np.array([each.score for each in self.pool])
        order = order_diversely(scores, vectors, self.recipe.diversity, n_first=max(2 * self.k, 10))
        self.pool = [self.pool[place] for place in order]
        self._tell("diversity", begun, n_in=len(order), n_out=len(order))

    def _cap_documents(self) -> None:
        limit = self.recipe.max_per_document
        if limit is None:
            return
        begun = self.clock()
        counts: dict[str, int] = {}
        kept: list[Candidate] = []
        dropped: list[Dropped] = []
        for each in self.pool:
            document = each.place[0]
            counts[document] = counts.get(document, 0) + 1
            if counts[document] <= limit:
                kept.append(each)
            else:
                reason = f"{limit} passages of this document stand above it"
                dropped.append(Dropped(candidate=each, reason=reason))
        n_in, self.pool = len(self.pool), kept
        self._tell("per_document", begun, n_in=n_in, n_out=len(kept), dropped=dropped)

    def _show(self) -> list[RankedPassage]:
        """Load and put together what is shown, a few at a time: parents that merge make room for further ones."""
        begun = self.clock()
        reader = ParentReader(self.index.places, self.load_passages)
        shown: tuple[RankedPassage, ...] = ()
        merged: dict[int, Dropped] = {}
        at = 0
        has_parents = False
        while at < len(self.pool) and len(shown) < self.k:
            batch = self.pool[at : at + max(self.k - len(shown), 1)]
            at += len(batch)
            passages = self._load(batch)
            reader.remember({place: row for place, row in passages.items() if row is not None})
            ready = []
            for each in batch:
                row = passages[each.place]
                if row is not None:  # else it was erased between the search and now
                    ready.append(_as_ranked(each, row, *reader.read(each, row)))
                    has_parents = has_parents or row.parent_start is not None
            outcome = merge_parents([*shown, *ready])
            shown = outcome.passages
            for candidate, into in outcome.merged:
                merged[candidate.row] = Dropped(candidate=candidate, reason=f"shown within {into}")
        if has_parents:
            self._tell("parents", begun, n_in=at, n_out=len(shown), dropped=list(merged.values()))
        begun = self.clock()
        rest = [
            Dropped(candidate=each, reason=f"below the first {self.k}")
            for each in self.pool[at:]
            if self.explain
        ]
        n_in = len(self.pool)
        self.pool = [passage.candidate for passage in shown]
        self._tell("cut", begun, n_in=n_in, n_out=len(shown), dropped=rest)
        return list(shown)

    def _load(self, candidates: Sequence[Candidate]) -> Mapping[Place, PassageRow | None]:
        missing = [each.place for each in candidates if each.place not in self.loaded]
        if missing:
            found = self.load_passages(missing)
            self.loaded.update((place, found.get(place)) for place in missing)
        return self.loaded

    def _shortfall(self, n_shown: int, selected: Selected) -> str:
        """Say why there are fewer than k, from what this caller may see alone."""
        # never by whether rows were kept from the caller: that something is hidden is itself not told
        if selected.count == 0:
            why = "nothing here matches the filter" if selected.is_filtered else "nothing is here"
        elif selected.count < self.k:
            what = "match the filter" if selected.is_filtered else "are here"
            why = f"{selected.count} passages {what}"
        else:
            lost: dict[str, int] = {stage.name: stage.n_in - stage.n_out for stage in self.stages}
            parts = [f"{lost[name]} {text}" for name, text in _LOSSES if lost.get(name)]
            if not parts and self.mode == "lexical":
                parts.append("no others share a word with the question")
            why = "; ".join(parts) or "the rest was erased meanwhile"
        return f"{n_shown} of {self.k}: {why}"

    def _tell(
        self,
        name: StageName,
        begun: float,
        *,
        n_in: int,
        n_out: int,
        note: str | None = None,
        dropped: Sequence[Dropped] = (),
    ) -> None:
        self.stages.append(
            Stage(
                name=name,
                seconds=self.clock() - begun,
                n_in=n_in,
                n_out=n_out,
                note=note,
                candidates=tuple(self.pool) if self.explain else (),
                dropped=tuple(dropped) if self.explain else (),
            )
        )


def _as_text(row: PassageRow) -> RerankText:
    return RerankText(id=row.id, title=row.title, section=row.section, text=row.text)


def _as_ranked(candidate: Candidate, row: PassageRow, text: str, start: int, end: int) -> RankedPassage:
    return RankedPassage(
        candidate=candidate,
        passage_id=row.id,
        document=row.path,
        title=row.title,
        section=row.section,
        anchor=row.anchor,
        text=text,
        start=start,
        end=end,
        found_text=row.text,
        found_start=row.start_char,
        found_end=row.end_char,
    )
