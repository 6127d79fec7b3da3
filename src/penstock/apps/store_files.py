"""Documents of knowledge bases as files of vector stores: lists, one, and what it says. Each read of documents is a span."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from penstock.apps.document_ids import file_id_of, path_of
from penstock.apps.shelf import DocumentText, Shelf, ShelvedDocument
from penstock.apps.tracing import OpenSpan, TraceContext, Tracer
from penstock.base.errors import InvalidInput
from penstock.base.web_addresses import web_address
from penstock.spec.knowledge import ChosenScope

MAX_PAGE = 100
_COUNT = re.compile(r"[0-9]{1,3}")
Told = TypeVar("Told")


class StoreFiles:
    """Reads for any number of callers at once on one event loop, as whom each one's context says."""

    def __init__(self, shelf: Shelf, tracer: Tracer, executor: Executor) -> None:
        self._shelf = shelf
        self._tracer = tracer
        self._executor = executor

    async def list_page(self, name: str, page: Mapping[str, str], context: TraceContext) -> dict[str, Any]:
        """Return a page of the documents of a base; raise `InvalidInput` for a cursor that is none."""
        is_down, limit = page.get("order") == "desc", int(page["limit"])
        after, before = _read_cursor(page, "after"), _read_cursor(page, "before")
        is_back = before is not None and after is None  # the page in front of the cursor, nearest first
        scope = _scope_of(context)
        with self._span("list", name, context) as span:
            span.input = {"base": name, "limit": limit, "after": after, "before": before}
            found = await self._in_thread(
                lambda: self._shelf.page_documents(
                    name,
                    after=before if is_back else after,
                    limit=limit + 1,
                    is_down=is_down != is_back,
                    scope=scope,
                )
            )
            if before is not None and not is_back:
                found = [each for each in found if (each.path > before if is_down else each.path < before)]
            shown = list(found[:limit])
            if is_back:
                shown.reverse()
            span.attributes["document.n_listed"] = len(shown)
            return list_reply([describe_file(name, each) for each in shown], has_more=len(found) > limit)

    async def describe(self, name: str, path: str, context: TraceContext) -> dict[str, Any]:
        """Return one document; raise `NotFound`."""
        scope = _scope_of(context)
        with self._span("look at", name, context) as span:
            span.input = {"base": name, "document": path}
            return describe_file(
                name, await self._in_thread(lambda: self._shelf.find_document(name, path, scope=scope))
            )

    async def read(self, name: str, path: str, context: TraceContext) -> dict[str, Any]:
        """Return what a document says; raise `NotFound`."""
        scope = _scope_of(context)
        with self._span("read", name, context) as span:
            span.input = {"base": name, "document": path}
            text = await self._in_thread(lambda: self._shelf.read_document(name, path, scope=scope))
            span.attributes["document.n_chars"] = len(text.text)
            return _describe_content(file_id_of(path), text)

    @contextmanager
    def _span(self, verb: str, name: str, context: TraceContext) -> Iterator[OpenSpan]:
        with self._tracer.span(f"{verb} {name}", "internal", context) as span:
            span.attributes["document.principals"] = list(context.principals)
            yield span

    async def _in_thread(self, work: Callable[[], Told]) -> Told:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


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
            for name, value in (("title", document.title), ("url", web_address(document.url)))
            if value is not None
        },
        "data": [{"type": "text", "text": document.text}],
        "has_more": False,
        "next_page": None,
    }


def read_page(query: bytes) -> dict[str, str]:
    """Return what a query asks of a list, `limit` always; raise `InvalidInput`."""
    asked = dict(parse_qsl(query.decode("latin-1")))
    limit = asked.get("limit", "20")
    if not _COUNT.fullmatch(limit) or not 1 <= int(limit) <= MAX_PAGE:
        raise InvalidInput(f"`limit` must be between 1 and {MAX_PAGE}.", param="limit")
    if asked.get("order", "asc") not in ("asc", "desc"):
        raise InvalidInput("`order` is `asc` or `desc`.", param="order")
    return {**asked, "limit": limit}


def cut_page(
    rows: Mapping[str, dict[str, Any]], page: Mapping[str, str]
) -> tuple[list[dict[str, Any]], bool]:
    """Return a page of rows by name, which is also what the cursors say, and whether more follow. A name that is gone has its place."""
    is_down, limit = page.get("order") == "desc", int(page["limit"])
    after, before = page.get("after"), page.get("before")
    low, high = (before, after) if is_down else (after, before)
    names = [
        name
        for name in sorted(rows, reverse=is_down)
        if (low is None or name > low) and (high is None or name < high)
    ]
    # in front of a cursor the nearest ones are the page
    kept = names[-limit:] if before is not None and after is None else names[:limit]
    return [rows[name] for name in kept], len(names) > limit


def list_reply(rows: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a page as OpenAI's clients read it."""
    return {
        "object": "list",
        "data": list(rows),
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
        "has_more": has_more,
    }


def _read_cursor(page: Mapping[str, str], name: str) -> str | None:
    """Return the path that a cursor of a list of files stands for."""
    if name not in page:
        return None
    path = path_of(page[name])
    if path is None:
        raise InvalidInput(f"`{name}` is no id of a file.", param=name)
    return path


def _scope_of(context: TraceContext) -> ChosenScope:
    return ChosenScope(principals=list(context.principals))
