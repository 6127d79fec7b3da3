"""`/v1/files` and `/v1/batches` in OpenAI's shape: what clients leave is stored for the project of their key.

Files arrive straight on the disk, whatever their size. Batches are accepted and stay `validating`: nothing runs them yet,
and each reply about one says so in `x-penstock-warning`.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO, Any, Literal
from urllib.parse import parse_qsl, quote

import msgspec

from penstock.base.errors import InvalidInput, PenstockError
from penstock.gateway.admission import authenticate
from penstock.gateway.error_replies import send_error
from penstock.gateway.errors import (
    BatchOver,
    BodyTooSlow,
    DiskRefused,
    FilesFull,
    FileTooLarge,
    NotReady,
    TooBusy,
    UnknownBatch,
    UnknownFile,
    WrongForm,
    WrongMethod,
)
from penstock.gateway.http import (
    JSON,
    ClientGone,
    Header,
    Outbox,
    Receive,
    Scope,
    Send,
    read_body,
    send_reply,
)
from penstock.gateway.multipart import find_boundary
from penstock.gateway.table import Table
from penstock.gateway.uploads import FormReader
from penstock.spec.routes import KeyRow
from penstock.spec.snapshot import Limits
from penstock.store.files import FileStore, Record, StoredBatch, StoredFile, Upload

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
BATCH_ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/responses",
)
MAX_UPLOADS = 32
"""Arriving at once at one worker."""
MAX_RECORDS = 20_000
"""Files and batches of one project; lists read them all."""
_MAX_FORM_BYTES = 64 * 1024
"""What a form may be larger than its file."""
_SLOWEST_BYTES_PER_S = 64 * 1024
_PIECE_BYTES = 1024 * 1024
_MAX_BATCH_BYTES = 64 * 1024
_PATH = re.compile(r"/v1/(files|batches)(?:/([^/]+)(?:/(content|cancel))?)?/?")
_NOT_RUN: Header = (
    b"x-penstock-warning",
    b"This gateway stores batches and does not run them yet: the status stays validating.",
)


def serves_path(path: str) -> bool:
    """Return whether `path` is one of files or batches."""
    return path.startswith(("/v1/files", "/v1/batches")) and _PATH.fullmatch(path) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """One request, after its key was found good."""

    method: str
    name: str | None
    verb: str | None
    query: bytes
    headers: Mapping[bytes, bytes]
    key: KeyRow
    limits: Limits
    receive: Receive
    send: Send


class _Batch(msgspec.Struct, kw_only=True):
    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None


class Files:
    """The endpoints, over one store."""

    def __init__(self, store: FileStore, *, wait_s: float = 60.0) -> None:
        """`wait_s` is the time that a small body may take; a file gets more by its size."""
        self._store = store
        self._wait_s = wait_s
        self._n_uploads = 0

    async def answer(
        self, scope: Scope, table: Table | None, secret: bytes | None, receive: Receive, send: Send
    ) -> None:
        """Answer one request that came with the key `secret`."""
        outbox = Outbox(send)
        try:
            if table is None:
                raise NotReady
            found = _PATH.fullmatch(scope["path"])
            assert found is not None
            asked = _Asked(
                method=scope["method"],
                name=found.group(2),
                verb=found.group(3),
                query=scope["query_string"],
                headers=dict(scope["headers"]),
                key=authenticate(table, secret),
                limits=table.limits,
                receive=receive,
                send=outbox,
            )
            await (self._serve_files(asked) if found.group(1) == "files" else self._serve_batches(asked))
        except OSError as error:
            if outbox.has_begun:
                raise
            told = DiskRefused(
                f"The files cannot be kept or read: {error.strerror or error}.",
                hint="The operator should look at the disk of the home.",
            )
            await send_error(send, told)
        except ClientGone:
            return
        except PenstockError as error:
            if outbox.has_begun:
                raise  # the reply is cut off, which its length tells
            await send_error(send, error)

    # -- files

    async def _serve_files(self, asked: _Asked) -> None:
        project, name, method, send = asked.key.project, asked.name, asked.method, asked.send
        if name is None and method == "POST":
            await _send_json(send, _describe_file(await self._take_file(asked)))
        elif name is None:
            _need(method, "GET", "POST")
            await _send_json(send, await asyncio.to_thread(self._list_files, project, asked.query))
        elif asked.verb == "content":
            _need(method, "GET")
            await self._send_content(project, name, send)
        elif asked.verb is not None:
            raise _unknown_file(f"{name}/{asked.verb}")
        elif method == "DELETE":
            if not await asyncio.to_thread(self._store.delete_file, project, name):
                raise _unknown_file(name)
            await _send_json(send, {"id": name, "object": "file", "deleted": True})
        else:
            _need(method, "GET", "DELETE")
            file = await asyncio.to_thread(self._store.find_file, project, name)
            if file is None:
                raise _unknown_file(name)
            await _send_json(send, _describe_file(file))

    async def _take_file(self, asked: _Asked) -> StoredFile:
        headers, limits, key = asked.headers, asked.limits, asked.key
        form = FormReader(find_boundary(headers.get(b"content-type", b"")))
        declared = headers.get(b"content-length", b"")
        size = int(declared) if declared.isdigit() else limits.max_file_bytes
        if size > limits.max_file_bytes + _MAX_FORM_BYTES:
            raise _too_large(limits)
        if self._n_uploads >= MAX_UPLOADS:
            raise TooBusy(f"{MAX_UPLOADS} files are arriving already.", hint="Try again soon.")
        self._n_uploads += 1
        limit_s = self._wait_s + size / _SLOWEST_BYTES_PER_S
        try:
            room = await asyncio.to_thread(self._find_room, key.project, limits)
            if declared and size - _MAX_FORM_BYTES > room:
                raise _full(limits)
            upload = await asyncio.to_thread(self._store.begin, key.project)
            try:
                async with asyncio.timeout(limit_s):
                    await self._fill(upload, form, asked, room)
                # Others may have come at the same time; what is arriving counts too.
                await asyncio.to_thread(self._find_room, key.project, limits)
                return await asyncio.to_thread(_keep, upload, form, key)
            except TimeoutError:
                raise BodyTooSlow(limit_s) from None
            finally:
                upload.discard()
        finally:
            self._n_uploads -= 1

    def _find_room(self, project: str, limits: Limits) -> int:
        """Return how many bytes the project may still leave; raise `FilesFull` if there are none."""
        count, used = self._store.measure(project)
        if used > limits.max_project_file_bytes or count >= MAX_RECORDS:
            self._store.delete_expired(project)
            count, used = self._store.measure(project)
        if used > limits.max_project_file_bytes:
            raise _full(limits)
        if count >= MAX_RECORDS:
            raise FilesFull(f"This project has {count} files and batches.", hint="Delete some files.")
        return limits.max_project_file_bytes - used

    async def _fill(self, upload: Upload, form: FormReader, asked: _Asked, room: int) -> None:
        limits = asked.limits
        waiting: list[bytes] = []
        n_waiting = 0
        async for piece in _pieces(asked.receive):
            content = form.feed(piece)
            waiting.append(content)
            n_waiting += len(content)
            if upload.size_bytes + n_waiting > limits.max_file_bytes:
                raise _too_large(limits)
            if upload.size_bytes + n_waiting > room:
                raise _full(limits)
            if n_waiting >= _PIECE_BYTES:
                await asyncio.to_thread(upload.write, b"".join(waiting))
                waiting, n_waiting = [], 0
        form.finish()
        await asyncio.to_thread(upload.write, b"".join(waiting))

    def _list_files(self, project: str, query: bytes) -> dict[str, Any]:
        asked = _read_query(query, most=10_000, usual=10_000, known=("purpose", "order"))
        files = self._store.list_files(project)
        purpose = asked.get("purpose")
        wanted = [file for file in files if purpose is None or file.purpose == purpose]
        if asked.get("order", "desc") == "desc":
            wanted.reverse()
        page, has_more = _cut_page(iter(wanted), asked)
        return _list_reply([_describe_file(file) for file in page], has_more)

    async def _send_content(self, project: str, name: str, send: Send) -> None:
        file = await asyncio.to_thread(self._store.find_file, project, name)
        content = await asyncio.to_thread(self._store.open_file, project, name)
        if file is None or content is None:
            raise _unknown_file(name)
        try:
            await _send_file(file, content, send)
        finally:
            content.close()

    # -- batches

    async def _serve_batches(self, asked: _Asked) -> None:
        key, name, method, verb = asked.key, asked.name, asked.method, asked.verb
        if name is None and method == "POST":
            try:
                async with asyncio.timeout(self._wait_s):
                    declared = asked.headers.get(b"content-length")
                    body = await read_body(asked.receive, declared=declared, limit=_MAX_BATCH_BYTES)
            except TimeoutError:
                raise BodyTooSlow(self._wait_s) from None
            batch = await asyncio.to_thread(self._add_batch, key, body)
        elif name is None:
            _need(method, "GET", "POST")
            listed = await asyncio.to_thread(self._list_batches, key.project, asked.query)
            await _send_json(asked.send, listed, _NOT_RUN)
            return
        else:
            found = await asyncio.to_thread(self._store.find_batch, key.project, name)
            if found is None or verb == "content":
                raise UnknownBatch(
                    f"No such batch: {name[:100]}.", hint="GET /v1/batches lists them.", param="batch_id"
                )
            batch = found
            _need(method, "GET" if verb is None else "POST")
            if verb == "cancel":
                if batch.status != "validating":
                    raise BatchOver(f"The batch is {batch.status} and cannot be cancelled.")
                batch = await asyncio.to_thread(self._store.cancel_batch, batch)
        await _send_json(asked.send, _describe_batch(batch), _NOT_RUN)

    def _add_batch(self, key: KeyRow, body: bytes) -> StoredBatch:
        try:
            asked = msgspec.json.decode(body, type=_Batch)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidInput(f"This is no batch: {error}.", hint="See OpenAI's `batches.create`.") from None
        if asked.endpoint not in BATCH_ENDPOINTS:
            raise InvalidInput(
                f"Batches are not for {asked.endpoint[:100]!r}.",
                hint=f"They are for {', '.join(BATCH_ENDPOINTS)}.",
                param="endpoint",
            )
        metadata = asked.metadata or {}
        if len(metadata) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in metadata.items()):
            raise InvalidInput(
                "`metadata` has at most 16 names of 64 characters with texts of 512.", param="metadata"
            )
        file = self._store.find_file(key.project, asked.input_file_id)
        if file is None:
            raise _unknown_file(asked.input_file_id, param="input_file_id")
        if file.purpose != "batch":
            raise InvalidInput(
                f"The file {file.id} has the purpose {file.purpose!r}.",
                hint="Upload it with purpose `batch`.",
                param="input_file_id",
            )
        if self._store.measure(key.project)[0] >= MAX_RECORDS:
            raise FilesFull("This project has too many files and batches.", hint="Delete some files.")
        return self._store.add_batch(
            project=key.project,
            key_id=key.id,
            endpoint=asked.endpoint,
            input_file_id=file.id,
            completion_window=asked.completion_window,
            metadata=asked.metadata,
        )

    def _list_batches(self, project: str, query: bytes) -> dict[str, Any]:
        asked = _read_query(query, most=100, usual=20, known=())
        newest_first = reversed(list(self._store.list_batches(project)))
        page, has_more = _cut_page(newest_first, asked)
        return _list_reply([_describe_batch(batch) for batch in page], has_more)


def _keep(upload: Upload, form: FormReader, key: KeyRow) -> StoredFile:
    purpose = form.fields.get("purpose")
    if form.filename is None:
        raise WrongForm("The form has no file.", hint="Send it as `file`.", param="file")
    if purpose not in PURPOSES:
        raise InvalidInput(
            "`purpose` is missing." if purpose is None else f"There is no purpose {purpose[:50]!r}.",
            hint=f"Use one of {', '.join(PURPOSES)}.",
            param="purpose",
        )
    now_s = int(time.time())
    name = "".join(c for c in form.filename.replace("\\", "/").rpartition("/")[2] if c.isprintable())[:255]
    return upload.keep(
        project=key.project,
        key_id=key.id,
        filename=name or "file",
        purpose=purpose,
        created_s=now_s,
        expires_s=_read_expiry(form.fields, now_s),
    )


def _read_expiry(fields: Mapping[str, str], now_s: int) -> int | None:
    seconds = fields.get("expires_after[seconds]")
    if seconds is None:
        return None
    if not (seconds.isascii() and seconds.isdigit() and 3600 <= int(seconds[:10]) <= 2_592_000):
        raise InvalidInput("A file expires after 3600 to 2592000 seconds.", param="expires_after[seconds]")
    return now_s + int(seconds)


def _describe_file(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.created_s,
        "expires_at": file.expires_s,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


_NOT_YET = (
    "errors", "output_file_id", "error_file_id", "in_progress_at", "expires_at", "finalizing_at", "completed_at",
    "failed_at", "expired_at", "cancelling_at",
)  # fmt: skip


def _describe_batch(batch: StoredBatch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "created_at": batch.created_s,
        "cancelled_at": batch.cancelled_s,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": batch.metadata,
        **dict.fromkeys(_NOT_YET),
    }


def _list_reply(rows: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
    return {"object": "list", "data": rows, "has_more": has_more, "first_id": first, "last_id": last}


def _read_query(query: bytes, *, most: int, usual: int, known: tuple[str, ...]) -> dict[str, Any]:
    asked: dict[str, Any] = {"limit": usual, "after": None}
    for name, value in parse_qsl(query.decode("latin-1"), max_num_fields=64):
        if name == "limit":
            if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= most):
                raise InvalidInput(f"`limit` is a number from 1 to {most}.", param="limit")
            asked["limit"] = int(value)
        elif name == "order" and value not in ("asc", "desc"):
            raise InvalidInput("`order` is `asc` or `desc`.", param="order")
        elif name == "after" or name in known:
            asked[name] = value
    return asked


def _cut_page(rows: Iterator[Record], asked: Mapping[str, Any]) -> tuple[list[Record], bool]:
    """Return the rows after the one called `after` (all that are left if it is gone) and whether there are more."""
    after = asked["after"]
    if after is not None:
        is_descending = asked.get("order", "desc") == "desc"
        rows = (row for row in rows if (row.id < after if is_descending else row.id > after))
    page = list(islice(rows, asked["limit"] + 1))
    return page[: asked["limit"]], len(page) > asked["limit"]


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _send_json(send: Send, value: Any, *headers: Header) -> None:
    await send_reply(send, 200, [JSON, *headers], msgspec.json.encode(value))


async def _send_file(file: StoredFile, content: IO[bytes], send: Send) -> None:
    name = quote(file.filename, safe="").encode("ascii")
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % file.size_bytes),
        (b"content-disposition", b"attachment; filename*=UTF-8''" + name),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    read = partial(content.read, _PIECE_BYTES)
    while piece := await asyncio.to_thread(read):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _need(method: str, *allowed: str) -> None:
    if method not in allowed:
        ways = ", ".join(allowed)
        raise WrongMethod(f"This address does not answer {method[:20]}.", hint=f"Use {ways}.", allow=ways)


def _unknown_file(name: str, *, param: str = "file_id") -> PenstockError:
    return UnknownFile(f"No such File object: {name[:100]}.", hint="GET /v1/files lists them.", param=param)


def _too_large(limits: Limits) -> PenstockError:
    return FileTooLarge(
        f"The file is over {limits.max_file_bytes} bytes.",
        hint="The operator can raise max_file_bytes.",
        limit_bytes=limits.max_file_bytes,
    )


def _full(limits: Limits) -> PenstockError:
    return FilesFull(
        f"The files of this project would take over {limits.max_project_file_bytes} bytes.",
        hint="Delete some, or let the operator raise max_project_file_bytes.",
    )
