"""Knowledge bases in the shape of OpenAI's vector stores, so that official clients search and read them unchanged.

A base is a vector store with its own name as id, a document a file whose id is made of its path. Nothing can be written
here: bases are filled by ingests.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from penstock.apps.citations import open_at
from penstock.apps.document_ids import file_id_of, path_of
from penstock.apps.errors import UnknownStore, UnsupportedRequest
from penstock.apps.query_rewriting import QueryRewriting, choose_app
from penstock.apps.ranking import make_adjust, read_ranking
from penstock.apps.searching import Search, Searching, fuse, shown_version
from penstock.apps.shelf import DocumentText, ReadFilter, Routes, Shelf, ShelvedBase, ShelvedDocument
from penstock.apps.tracing import TraceContext
from penstock.apps.types import AppDeclaration, Found, FoundPassage
from penstock.base.errors import CallerError, InvalidInput
from penstock.spec.knowledge import ChosenScope, Condition, PropertyValue

MAX_RESULTS = 50
MAX_QUERIES = 8
MAX_PAGE = 100
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
        rewriting: QueryRewriting,
        list_apps: Callable[[], Sequence[AppDeclaration]] = tuple,
    ) -> None:
        """`list_apps` are told beside the bases that they answer from, and lend searches their rewrite step."""
        self._rewriting = rewriting
        self._list_apps = list_apps
        self._shelf = shelf
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
        page = _read_page(query)
        scope = ChosenScope(principals=list(context.principals))
        if name is None:
            bases = await self._in_thread(lambda: self._shelf.list_bases(scope=scope))
            apps = [app for app in self._list_apps() if routes.may_call(app.name)]
            seen = {base.name: describe_base(base, apps) for base in bases if routes.may_search(base.name)}
            return _list_reply(seen, page)
        if not routes.may_search(name) or verb == "search":
            raise _unknown(name)
        if verb is None:
            bases = await self._in_thread(lambda: self._shelf.list_bases(scope=scope))
            found = [base for base in bases if base.name == name]
            if not found:
                raise _unknown(name)
            return describe_base(found[0], [app for app in self._list_apps() if routes.may_call(app.name)])
        if file_id is None:
            documents = await self._in_thread(lambda: self._shelf.list_documents(name, scope=scope))
            files = {each.path: describe_file(name, each) for each in documents}
            return _list_reply(files, {**page, **_read_cursors(page)})
        document_path = path_of(file_id)
        if document_path is None:
            raise UnknownStore(f"There is no file {file_id[:100]!r} in {name!r}.")
        if content is None:
            documents = await self._in_thread(lambda: self._shelf.list_documents(name, scope=scope))
            for each in documents:
                if each.path == document_path:
                    return describe_file(name, each)
            raise UnknownStore(f"There is no file {document_path!r} in {name!r}.")
        text = await self._in_thread(lambda: self._shelf.read_document(name, document_path, scope=scope))
        return _describe_content(file_id, text)

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
        if len(attributes) < MAX_ATTRIBUTES:
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


def describe_file(name: str, document: ShelvedDocument) -> dict[str, Any]:
    """Return a document as a file of a vector store."""
    error = None if document.error is None else {"code": "unsupported_file", "message": document.error}
    return {
        "id": file_id_of(document.path),
        "object": "vector_store.file",
        "created_at": document.created_ns // 1_000_000_000,
        "vector_store_id": name,
        "status": "completed" if error is None else "failed",
        "usage_bytes": document.size_bytes,
        "last_error": error,
        "attributes": {
            "path": document.path,
            **({"title": document.title} if document.title else {}),
            **({"media_type": document.media_type} if document.media_type else {}),
        },
    }


def _describe_content(file_id: str, document: DocumentText) -> dict[str, Any]:
    return {
        "object": "vector_store.file_content.page",
        "file_id": file_id,
        "filename": document.path,
        "attributes": {
            name: value
            for name, value in (("title", document.title), ("url", document.url))
            if value is not None
        },
        "data": [{"type": "text", "text": document.text}],
        "has_more": False,
        "next_page": None,
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
    return queries


def _read_count(body: _Body) -> int:
    k = 10 if body.max_num_results is None else body.max_num_results
    if not 1 <= k <= MAX_RESULTS:
        raise InvalidInput(
            f"`max_num_results` must be between 1 and {MAX_RESULTS}, not {k}.", param="max_num_results"
        )
    return k


def _read_page(query: bytes) -> dict[str, str]:
    asked = dict(parse_qsl(query.decode("latin-1")))
    limit = asked.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= MAX_PAGE:
        raise InvalidInput(f"`limit` must be between 1 and {MAX_PAGE}.", param="limit")
    if asked.get("order", "asc") not in ("asc", "desc"):
        raise InvalidInput("`order` is `asc` or `desc`.", param="order")
    return {**asked, "limit": limit}


def _read_cursors(page: dict[str, str]) -> dict[str, str]:
    """Return the paths that the cursors of a list of files stand for."""
    found: dict[str, str] = {}
    for name in ("after", "before"):
        if name in page:
            path = path_of(page[name])
            if path is None:
                raise InvalidInput(f"`{name}` is no id of a file.", param=name)
            found[name] = path
    return found


def _list_reply(rows: dict[str, dict[str, Any]], page: dict[str, str]) -> dict[str, Any]:
    """Return a page of rows by name or path, which is also what the cursors say. One that is gone still has its place."""
    is_down = page.get("order") == "desc"
    after, before = page.get("after"), page.get("before")
    if is_down:
        after, before = before, after
    names = [
        name
        for name in sorted(rows, reverse=is_down)
        if (after is None or name > after) and (before is None or name < before)
    ]
    limit = int(page["limit"])
    shown = [rows[name] for name in names[:limit]]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(names) > limit,
    }


def _unknown(name: str) -> UnknownStore:
    return UnknownStore(
        f"There is no knowledge base {name!r} for this key.", hint="GET /v1/vector_stores lists them."
    )
