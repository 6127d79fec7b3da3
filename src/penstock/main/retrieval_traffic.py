"""Questions to knowledge bases and answers of apps out of the span store, and the judges that look at them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from penstock.evals.judges.service import JudgeService
from penstock.knowledge.embedding.vectors import embed_rows
from penstock.knowledge.quality.ports import AnsweredTrace, ReadAnswers
from penstock.knowledge.quality.report_types import Asked, TriadSettings
from penstock.knowledge.recipes import read_recipe
from penstock.knowledge.types import EmbedderSource
from penstock.spec.cases import Case, Output, Passage
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.knowledge import Condition as SearchCondition
from penstock.spec.scores import Score, SpanScore
from penstock.spec.search import All, Compare, Condition
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.export_rows import DuckDBSpanExport
from penstock.store.spans.types import ScoreRow, SpanQuery, SpanRow
from penstock.traces.lists import TraceListService
from penstock.traces.scores import ScoreService

ABSTAINED = frozenset({"abstained", "not-known", "nothing-found", "nothing-relevant", "not-grounded"})
"""What an app's span calls an answer that is none."""
_PAGE = 100
_READ_PAGE = 500
_Key = tuple[str, str]
_MAX_PAGES = 20
"""Of answers that are looked at in one round."""
_GOOD = 0.5
_DOWN = frozenset({"down", "thumbs_down", "thumbs-down", "bad", "negative", "no"})
_UP = frozenset({"up", "thumbs_up", "thumbs-up", "good", "positive", "yes"})


class RecordedRetrievals:
    """`knowledge.quality.ports.RecordedQuestions` over the span store. May be called from any thread."""

    def __init__(self, spans: DuckDBSpanStore, lists: TraceListService) -> None:
        self._lists = lists
        self._whole = DuckDBSpanExport(spans.file)

    def read(
        self, base: str, *, since_ns: int | None, until_ns: int | None = None, limit: int
    ) -> Iterator[Asked]:
        """Yield what was asked of a base, newest first.

        An app's searches for one answer are one question, the first of them: the rest are wordings that a model made.
        Every other search is a question of its own, however many its trace has.
        """
        name = f"retrieve {base}"
        where: tuple[Condition, ...] = (
            Compare(field="kind", operator="=", value="retrieval"),
            Compare(field="name", operator="=", value=name),
        )
        size = min(_READ_PAGE, max(limit, _PAGE))
        query = SpanQuery(since_ns=since_ns, until_ns=until_ns, where=All(parts=where), limit=size)
        seen: set[_Key] = set()
        n_asked = 0
        while True:
            page = self._lists.list_spans(query)
            for asked in self._read_page([row for row in page.rows if _key_of(row) not in seen], name, seen):
                yield asked
                n_asked += 1
                if n_asked >= limit:
                    return
            if page.next_cursor is None:
                return
            query = msgspec.structs.replace(query, cursor=page.next_cursor)

    def _read_page(self, rows: Sequence[SpanRow], name: str, seen: set[_Key]) -> Iterator[Asked]:
        """Yield the questions of some searches; what belongs to them is read at once, and added to `seen`."""
        parents = list(dict.fromkeys((row.trace_id, row.parent_id) for row in rows if row.parent_id))
        apps = {
            _key_of(span): span
            for span in self._whole.read_spans(parents)
            if span.kind == "app" and not span.is_foreign
        }
        below: dict[_Key, list[_Key]] = {}
        for trace_id, parent, own in self._whole.find_children(list(apps), kind="retrieval", name=name):
            below.setdefault((trace_id, parent), []).append((trace_id, own))
        wanted = dict.fromkeys([*map(_key_of, rows), *(key for keys in below.values() for key in keys)])
        whole = {_key_of(span): span for span in self._whole.read_spans(list(wanted))}
        scores = self._read_scores([*{row.trace_id for row in rows}])
        for row in rows:
            key, app_key = _key_of(row), (row.trace_id, row.parent_id or "")
            if key in seen or key not in whole or whole[key].is_foreign:
                continue
            app = apps.get(app_key)
            keys = below.get(app_key, [key])
            seen.update(keys)
            its_own = {*keys, app_key}
            thumbs = _thumbs(
                score for about, score in scores.get(row.trace_id, ()) if about is None or about in its_own
            )
            asked = read_asked([whole[each] for each in keys if each in whole], app, thumbs)
            if asked is not None:
                yield asked

    def _read_scores(self, trace_ids: Sequence[str]) -> dict[str, list[tuple[_Key | None, ScoreRow]]]:
        """Return what people said of each trace, the latest first, with the search or app that it is about if it is about one."""
        told = self._whole.list_scores_of(trace_ids, source="human")
        keys = [(score.trace_id or "", score.span_id) for score in told if score.span_id]
        of_one = {_key_of(span) for span in self._whole.read_spans(keys) if span.kind in {"app", "retrieval"}}
        found: dict[str, list[tuple[_Key | None, ScoreRow]]] = {}
        for score in told:
            key = (score.trace_id or "", score.span_id or "")
            found.setdefault(key[0], []).append((key if key in of_one else None, score))
        return found


def _key_of(row: SpanRow | Span) -> _Key:
    return row.trace_id, row.span_id


def _thumbs(scores: Iterable[ScoreRow]) -> str | None:
    """Return what a person said last."""
    for score in scores:
        label = (score.label or "").lower()
        if label in _DOWN or (score.value is not None and score.value < _GOOD):
            return "down"
        if label in _UP or score.value is not None:
            return "up"
    return None


def read_asked(spans: Sequence[Span], app: Span | None, thumbs: str | None) -> Asked | None:
    """Return the searches for one answer, in order, with its app's span where there is one, as a question.

    None when the first has no payload.
    """
    first = spans[0]
    query = first.input.get("query") if isinstance(first.input, Mapping) else None
    if not isinstance(query, str) or not query.strip():
        return None
    hits: list[Mapping[str, Any]] = []
    counts: list[int] = []
    for span in spans:
        told = span.output.get("documents") if isinstance(span.output, Mapping) else None
        found = [each for each in told if isinstance(each, Mapping)] if isinstance(told, list) else []
        hits += found
        n_hits = span.attributes.get("retrieval.n_hits")
        if isinstance(n_hits, int) or span.output is not None:
            counts.append(n_hits if isinstance(n_hits, int) else len(found))
    outcome = None if app is None else app.attributes.get("app.outcome")
    abstained = None
    if app is not None and app.status != "error":
        abstained = bool(app.attributes.get("app.is_unknown")) or outcome in ABSTAINED
    return Asked(
        question=query,
        time_ns=first.start_ns,
        trace_id=first.trace_id,
        app=None if app is None else app.name.removeprefix("app "),
        n_hits=max(counts, default=None),
        n_wordings=len({str(span.input) for span in spans}) - 1,
        top_score=_highest(hits, "score"),
        top_dense_score=_highest(hits, "dense_score"),
        has_abstained=abstained,
        thumbs="down" if thumbs == "down" else "up" if thumbs == "up" else None,
        is_unanswerable=(first if app is None else app).status == "error",
        documents=list(dict.fromkeys(str(each["document"]) for each in hits if each.get("document"))),
        cited=[] if app is None else read_cited(app),
        generation=_text(first.attributes.get("retrieval.generation")),
        conditions=_read_conditions(first.input.get("filters")),
        principals=_read_principals(first.attributes.get("retrieval.principals")),
    )


def _read_conditions(told: Any) -> list[SearchCondition]:
    try:
        return msgspec.convert(told or [], list[SearchCondition])
    except msgspec.ValidationError:
        return []


def _read_principals(told: Any) -> list[str] | None:
    return [each for each in told if isinstance(each, str)] if isinstance(told, list) else None


def read_cited(app: Span) -> list[str]:
    """Return the documents that an app's answer cites, each once."""
    told = app.output.get("citations") if isinstance(app.output, Mapping) else None
    if not isinstance(told, list):
        return []
    return list(
        dict.fromkeys(
            str(each["document"]) for each in told if isinstance(each, Mapping) and each.get("document")
        )
    )


def _highest(hits: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [each[name] for each in hits if isinstance(each.get(name), int | float)]
    return max(values, default=None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


class JudgedAnswers:
    """`knowledge.quality.ports.Answers` over the span store, judges and scores. May be called from any thread."""

    def __init__(
        self, spans: DuckDBSpanStore, lists: TraceListService, judges: JudgeService, scores: ScoreService
    ) -> None:
        self._spans, self._lists = spans, lists
        self._whole = DuckDBSpanExport(spans.file)
        self._judges, self._scores = judges, scores

    def read_answers(self, app: str, *, since_ns: int, until_ns: int, limit: int) -> ReadAnswers:
        """Return answers of an app, oldest first; those that failed or have no payload are passed over and counted."""
        if since_ns >= until_ns:
            return ReadAnswers(answers=[], until_ns=since_ns)
        where: tuple[Condition, ...] = (
            Compare(field="kind", operator="=", value="app"),
            Compare(field="name", operator="=", value=f"app {app}"),
        )
        query = SpanQuery(
            since_ns=since_ns, until_ns=until_ns, where=All(parts=where), order="oldest", limit=_PAGE
        )
        found: list[AnsweredTrace] = []
        n_looked_at = 0
        for _ in range(_MAX_PAGES):
            page = self._lists.list_spans(query)
            found += self._read_answers([(row.trace_id, row.span_id) for row in page.rows])
            n_looked_at += len(page.rows)
            if page.next_cursor is None:
                break
            query = msgspec.structs.replace(query, cursor=page.next_cursor)
            if len(found) >= limit:
                until_ns = page.rows[-1].start_ns + 1
                break
        else:
            until_ns = page.rows[-1].start_ns + 1
        found.sort(key=lambda each: each.time_ns)
        return ReadAnswers(answers=found, until_ns=until_ns, n_unreadable=n_looked_at - len(found))

    def _read_answers(self, keys: Sequence[tuple[str, str]]) -> list[AnsweredTrace]:
        found = []
        for span in self._whole.read_spans(keys):
            retrievals = [
                (each.trace_id, each.span_id)
                for each in self._spans.get_trace(span.trace_id)
                if each.kind == "retrieval"
            ]
            answer = read_answer(span, self._whole.read_spans(retrievals))
            if answer is not None:
                found.append(answer)
        return found

    def judge(self, settings: TriadSettings, answer: AnsweredTrace) -> Sequence[Score]:
        """Return one score of each judge."""
        passages = [
            Passage(text=str(each["text"]), id=_text(each.get("id")), document=_text(each.get("document")))
            for each in answer.passages
        ]
        case = Case(id=answer.trace_id, inputs={"input": answer.question})
        output = Output(case_id=answer.trace_id, text=answer.answer, passages=passages)
        scores: list[Score] = []
        for name in settings.judges:
            spec = ScorerSpec(scorer=name, parameters={"model": settings.judge})
            scores.extend(self._judges.try_once(spec, case, [output]))
        return scores

    def keep(self, answer: AnsweredTrace, scores: Sequence[Score]) -> None:
        """Send the scores to the app's span."""
        if scores:
            self._scores.add([as_span_score(answer, each) for each in scores], project=answer.project)


def read_answer(app: Span, retrievals: Sequence[Span]) -> AnsweredTrace | None:
    """Return an app's span with what was retrieved below it, or None when one of them has no payload or it failed."""
    if app.status == "error" or not isinstance(app.output, Mapping) or not isinstance(app.input, Mapping):
        return None
    text = app.output.get("content")
    messages = app.input.get("messages")
    question = None
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, Mapping) and message.get("role") == "user":
            question = _said(message.get("content"))
            break
    if not isinstance(text, str) or question is None:
        return None
    passages = []
    seen: set[str] = set()
    for span in retrievals:
        documents = span.output.get("documents") if isinstance(span.output, Mapping) else None
        for each in documents if isinstance(documents, list) else []:
            if isinstance(each, Mapping) and isinstance(each.get("text"), str) and each["text"] not in seen:
                seen.add(each["text"])
                passages.append(
                    {"text": each["text"], "id": each.get("passage_id"), "document": each.get("document")}
                )
    return AnsweredTrace(
        trace_id=app.trace_id,
        span_id=app.span_id,
        time_ns=app.start_ns,
        question=question,
        answer=text,
        passages=passages,
        project=app.project,
    )


def _said(content: Any) -> str | None:
    """Return the words of a message, also of one in parts; None when it has none."""
    if isinstance(content, list):
        parts = [each.get("text") for each in content if isinstance(each, Mapping)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) and content.strip() else None


def as_span_score(answer: AnsweredTrace, score: Score) -> SpanScore:
    """Return a judge's score as a judgement of the app's span."""
    return SpanScore(
        name=score.name,
        value=score.value,
        label=score.label,
        status=score.status,
        source="model",
        scorer=score.scorer,
        comment=score.reason,
        time_ns=0,
        trace_id=answer.trace_id,
        span_id=answer.span_id,
        evidence=score.evidence,
    )


class EmbeddedQuestions:
    """`knowledge.quality.ports.QuestionVectors`: by the embedder of what is live."""

    def __init__(
        self, embedders: EmbedderSource, read_recipe_of: Callable[[str], tuple[Mapping[str, Any], str]]
    ) -> None:
        """`read_recipe_of` returns recipe and embedder of the live generation of a base."""
        self._embedders = embedders
        self._read_recipe_of = read_recipe_of

    def embed(self, base: str, texts: Sequence[str]) -> Any:
        """Return one row of length one a text."""
        recipe, made_with = self._read_recipe_of(base)
        embedder = self._embedders.open(read_recipe(recipe).embed, made_with=made_with)
        return embed_rows(embedder, list(texts), "query")
