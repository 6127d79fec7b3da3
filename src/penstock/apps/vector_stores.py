"""Knowledge bases in the shape of OpenAI's vector stores, so that official clients search and read them unchanged.

A base is a vector store with its own name as id, a document a file whose id is made of its path. Nothing can be written
here: bases are filled by ingests.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import msgspec

from penstock.apps.citations import open_at
from penstock.apps.document_ids import file_id_of, path_of
from penstock.apps.errors import UnknownStore, UnsupportedRequest
from penstock.apps.query_rewriting import QueryRewriting, choose_app
from penstock.apps.ranking import make_adjust, read_ranking
from penstock.apps.searching import Search, Searching, fuse, shown_version
from penstock.apps.shelf import ReadFilter, Routes, Shelf, ShelvedBase
from penstock.apps.store_files import StoreFiles, cut_page, list_reply, read_page
from penstock.apps.tracing import TraceContext, Tracer
from penstock.apps.types import AppDeclaration, Found, FoundPassage
from penstock.base.errors import CallerError, InvalidInput
from penstock.spec.knowledge import ChosenScope, Condition, PropertyValue

MAX_RESULTS = 50
MAX_QUERIES = 8
MAX_QUERY_CHARS = 8000
SEARCH_TIMEOUT_S = 30.0
MAX_ATTRIBUTES, MAX_KEY_CHARS, MAX_VALUE_CHARS = 16, 64, 512
"""What attributes of files may have in OpenAI's shape."""
_PATH = re.compile(r"/v1/vector_stores(?:/([^/]+)(?:/(search|files)(?:/([^/]+)(?:/(content))?)?)?)?/?")
Told = TypeVar("Told")


class _Body(msgspec.Struct, frozen=True):
    query: str | list[str]
    filters: dict[str, Any] | str | None = None
    max_num_results: int | None = None
    ranking_options: Any = None
    rewrite_query: bool | None = None


_decoder = msgspec.json.Decoder(_Body)


def serves_path(path: str) -> bool:
    """Return whether `path` is one of vector stores."""
    return path.startswith("/v1/vector_stores") and _PATH.fullmatch(path) is not None


class VectorStores:
    """Answers requests about vector stores. Any number at once on one event loop."""

    def __init__(
        self,
        *,
        shelf: Shelf,
        searching: Searching,
        read_filter: ReadFilter,
        executor: Executor,
        tracer: Tracer,
        rewriting: QueryRewriting,
        list_apps: Callable[[], Sequence[AppDeclaration]] = tuple,
    ) -> None:
        """`list_apps` are told beside the bases that they answer from, and lend searches their rewrite step."""
        self._rewriting = rewriting
        self._list_apps = list_apps
        self._shelf = shelf
        self._files = StoreFiles(shelf, tracer, executor)
        self._searching = searching
        self._read_filter = read_filter
        self._executor = executor

    async def search(
        self, path: str, data: bytes, routes: Routes, context: TraceContext
    ) -> tuple[dict[str, Any], str]:
        """Return the page of results, and which version was searched. The key was checked by the gateway.

        Raises `InvalidInput` naming the wrong member, `NotFound` for a base that is not there, and what searching raises.
        """
        name, verb, file_id, _ = _split(path)
        if name is None or verb != "search" or file_id is not None:
            raise UnknownStore("Only a search takes POST here.", hint="POST /v1/vector_stores/NAME/search")
        body = _read_body(data)
        queries = _read_queries(body)
        conditions = [] if body.filters in (None, "", {}) else [self._condition(body.filters)]
        k = _read_count(body)
        ranking = read_ranking(body.ranking_options)
        notes: list[str] = []
        if body.rewrite_query:
            queries = await self._rewrite(name, queries, routes, context, notes)
        asked = Search(
            knowledge=name,
            query="",
            k=k,
            conditions=conditions,
            adjust=make_adjust(ranking),
            timeout_s=SEARCH_TIMEOUT_S,
        )
        found = await self._find(asked, queries, context)
        first = found[0]
        notes += [first.note] if first.note else []
        hits = first.hits if len(found) == 1 else fuse([each.hits for each in found])[:k]
        floor = ranking.score_threshold
        shown = [hit for hit in hits if floor is None or hit.score >= floor]
        page = {
            "object": "vector_store.search_results.page",
            "search_query": queries,
            "data": [describe_hit(hit) for hit in shown],
            "has_more": False,
            "next_page": None,
            "knowledge": {
                "version": first.version,
                "generation": first.generation,
                "embedder": first.embedder,
                "mode": first.mode,
                "note": "; ".join(notes) or None,
            },
        }
        return page, shown_version(name, first)

    async def look(self, path: str, query: bytes, routes: Routes, context: TraceContext) -> dict[str, Any]:
        """Return what GET `path` answers for a key that may call `routes`; raise `NotFound`, `InvalidInput`."""
        name, verb, file_id, content = _split(path)
        page = read_page(query)
        scope = ChosenScope(principals=list(context.principals))
        if name is None:
            bases = await self._in_thread(lambda: self._shelf.list_bases(scope=scope))
            apps = [app for app in self._list_apps() if routes.may_call(app.name)]
            seen = {base.name: describe_base(base, apps) for base in bases if routes.may_search(base.name)}
            rows, has_more = cut_page(seen, page)
            return list_reply(rows, has_more=has_more)
        if not routes.may_search(name) or verb == "search":
            raise _unknown(name)
        if verb is None:
            bases = await self._in_thread(lambda: self._shelf.list_bases(scope=scope))
            found = [base for base in bases if base.name == name]
            if not found:
                raise _unknown(name)
            return describe_base(found[0], [app for app in self._list_apps() if routes.may_call(app.name)])
        if file_id is None:
            return await self._files.list_page(name, page, context)
        document_path = path_of(file_id)
        if document_path is None:
            raise UnknownStore(f"There is no file {file_id[:100]!r} in {name!r}.")
        if content is None:
            return await self._files.describe(name, document_path, context)
        return await self._files.read(name, document_path, context)

    async def _find(self, asked: Search, queries: Sequence[str], context: TraceContext) -> list[Found]:
        """Return one search a query, all of one generation."""
        found: list[Found] = []
        for query in queries:
            generation = found[0].generation if found else None
            each = msgspec.structs.replace(asked, query=query, generation=generation)
            found.append(await self._searching.search(each, context))
        return found

    async def _rewrite(
        self, name: str, queries: Sequence[str], routes: Routes, context: TraceContext, notes: list[str]
    ) -> list[str]:
        app = choose_app(self._list_apps(), name, routes)
        if app is None:
            raise UnsupportedRequest(
                f"No app that this key may ask rewrites questions for {name!r}.",
                hint="Leave `rewrite_query` out, or declare an app over this base with the step `rewrite`.",
                param="rewrite_query",
            )
        work = [self._rewriting.rewrite(app, query, context) for query in queries]
        told = await asyncio.gather(*work)
        notes += dict.fromkeys(note for _, note in told if note)
        return [query for query, _ in told]

    def _condition(self, told: Any) -> Condition:
        try:
            return self._read_filter(told)
        except CallerError as error:
            error.fields.setdefault("param", "filters")
            raise

    async def _in_thread(self, work: Callable[[], Told]) -> Told:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def describe_hit(hit: FoundPassage) -> dict[str, Any]:
    """Return a result: what OpenAI's clients read, and beside it where the passage stands."""
    url = open_at(hit.url, hit.anchor)
    place = {"title": hit.title, "section": hit.section, "anchor": hit.anchor, "url": url}
    attributes: dict[str, Any] = {name: value for name, value in place.items() if value is not None}
    for name, value in hit.attributes.items():
        if len(attributes) < MAX_ATTRIBUTES and name != "url":
            attributes.setdefault(name[:MAX_KEY_CHARS], _as_attribute(value))
    return {
        "file_id": file_id_of(hit.document),
        "filename": hit.document,
        "score": round(hit.score, 6),
        "attributes": attributes,
        "content": [{"type": "text", "text": hit.text}],
        "passage_id": hit.passage_id,
        "dense_score": hit.dense_score,
        "lexical_score": hit.lexical_score,
    }


def _as_attribute(value: PropertyValue) -> str | int | float | bool:
    """Return a property as OpenAI's clients take attributes: no lists, no long texts."""
    told = ", ".join(value) if isinstance(value, list) else value
    return told[:MAX_VALUE_CHARS] if isinstance(told, str) else told


def describe_base(base: ShelvedBase, apps: Sequence[AppDeclaration]) -> dict[str, Any]:
    """Return a knowledge base as a vector store, with those of `apps` that answer from it."""
    changed_s = base.updated_ns // 1_000_000_000
    n = base.n_documents
    return {
        "id": base.name,
        "object": "vector_store",
        "created_at": changed_s,
        "last_active_at": changed_s,
        "name": base.name,
        "status": "completed",
        "usage_bytes": None,
        "file_counts": {"in_progress": 0, "completed": n, "failed": 0, "cancelled": 0, "total": n},
        "metadata": {"version": base.version or "", "n_passages": str(base.n_passages)},
        "apps": [
            {"name": app.name, "description": app.description} for app in apps if app.knowledge == base.name
        ],
    }


def _split(path: str) -> tuple[str | None, str | None, str | None, str | None]:
    found = _PATH.fullmatch(path)
    if found is None:
        raise UnknownStore(f"There is no {path[:200]!r} here.")
    name = found.group(1)
    return (
        None if name is None else name.removeprefix("knowledge:"),
        found.group(2),
        found.group(3),
        found.group(4),
    )


def _read_body(data: bytes) -> _Body:
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The request body is wrong: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"The request body is not valid JSON: {error}.") from None


def _read_queries(body: _Body) -> list[str]:
    queries = [body.query] if isinstance(body.query, str) else body.query
    if not queries or not all(query.strip() for query in queries):
        raise InvalidInput("`query` is empty.", hint="Give a text, or several.", param="query")
    if len(queries) > MAX_QUERIES:
        raise UnsupportedRequest(f"A search takes {MAX_QUERIES} queries, not {len(queries)}.", param="query")
    longest = max(map(len, queries))
    if longest > MAX_QUERY_CHARS:
        raise InvalidInput(
            f"A query may have {MAX_QUERY_CHARS:,} characters, not {longest:,}.", param="query"
        )
    return queries


def _read_count(body: _Body) -> int:
    k = 10 if body.max_num_results is None else body.max_num_results
    if not 1 <= k <= MAX_RESULTS:
        raise InvalidInput(
            f"`max_num_results` must be between 1 and {MAX_RESULTS}, not {k}.", param="max_num_results"
        )
    return k


def _unknown(name: str) -> UnknownStore:
    return UnknownStore(
        f"There is no knowledge base {name!r} for this key.", hint="GET /v1/vector_stores lists them."
    )
