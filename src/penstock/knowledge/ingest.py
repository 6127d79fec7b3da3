"""From a folder to a generation: find, parse what is new, embed what is new, build, publish.

Safe to stop at any point and to run again: document versions, vectors and generations are addressed by
content, so finished work is found and not repeated, and the live generation changes only at the very end, in
one step. An unchanged folder costs reading and hashing its files.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.base.digest import digest_bytes, digest_file
from penstock.knowledge import queries
from penstock.knowledge.chunk import Chunks, chunk_document
from penstock.knowledge.embedding.vectors import embed_digest
from penstock.knowledge.errors import MassDeletion, NoDocuments, UnreadableDocument
from penstock.knowledge.parse import SUFFIXES, parse_document
from penstock.knowledge.parse.dispatch import MAX_BYTES
from penstock.knowledge.parse.text import clean_line
from penstock.knowledge.recipes import cut_digest, document_id
from penstock.knowledge.sources.folder_scan import SourceFile, scan_folder
from penstock.knowledge.types import Dropped, IngestContext, ParsedDocument
from penstock.spec.knowledge import Recipe

_log = logging.getLogger(__name__)
MASS_DELETION_FLOOR = 2
MASS_DELETION_SHARE = 0.5


class BlobSink(Protocol):
    """Keeps the bytes of every document version."""

    def put_bytes(self, data: bytes, /) -> str:
        """Keep `data` and return its digest."""


@dataclass(frozen=True, kw_only=True)
class LiveDocument:
    """A document of the generation before that holds at least one passage."""

    id: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What the source holds now, compared with the generation before. Only documents that hold passages count;
    `document_ids` also names the unreadable ones, so that lists can show them with their reason."""

    document_ids: tuple[str, ...]
    n_live: int
    added: int
    changed: int
    unchanged: int
    deleted: int
    dropped: tuple[Dropped, ...]


def read_source(
    engine: Engine,
    blobs: BlobSink,
    *,
    base: str,
    folder: Path,
    recipe: Recipe,
    embedder: str,
    before: Mapping[str, LiveDocument],
    ctx: IngestContext,
    allow_mass_deletion: bool,
) -> Changes:
    """Bring the control tables up to what `folder` holds. `before` maps paths to what is live.

    Raises `MassDeletion` or `NoDocuments`, unless the deletion is allowed and there was something to delete.
    """
    files, dropped = scan_folder(folder)
    may_empty = allow_mass_deletion and bool(before)
    if not files and not may_empty:
        _refuse_empty(folder, dropped, was_live=bool(before))
    ctx.progress(0.02, f"found {len(files)} documents")
    parse_digest = cut_digest(recipe, embedder)
    ids: dict[str, str] = {}
    digests: dict[str, str] = {}
    for file in files:
        try:
            digest = _digest_source(file)
        except (OSError, UnreadableDocument) as error:
            dropped.append(Dropped(path=file.path, reason=_reason(error)))
            continue
        digests[file.path] = digest
        ids[file.path] = document_id(base, file.path, digest, parse_digest)
    _guard_deletion(before, digests, allowed=allow_mass_deletion)
    with engine.connect() as connection:
        known = set(queries.find_documents(connection, base, list(ids.values())))
    fresh = [file for file in files if file.path in ids and ids[file.path] not in known]
    for number, file in enumerate(fresh, start=1):
        ctx.check_cancelled()
        outcome = ctx.step(
            "parse",
            {"document": ids[file.path], "path": file.path},
            lambda file=file: _add_document(  # type: ignore[misc]
                engine, blobs, file, base=base, recipe=recipe, parse_digest=parse_digest
            ),
        )
        ids[file.path] = outcome["id"]
        ctx.progress(0.02 + 0.38 * number / len(fresh), f"read {number} of {len(fresh)} new documents")
    with engine.connect() as connection:
        rows = queries.find_documents(connection, base, list(ids.values()))
    for path, each in ids.items():
        row = rows[each]
        dropped.extend(Dropped(path=path, reason=problem) for problem in row.problems)
        if row.error:
            dropped.append(Dropped(path=path, reason=row.error))
        if row.n_dropped_chars:
            reason = f"{row.n_dropped_chars} characters in pieces without a letter or digit"
            dropped.append(Dropped(path=path, reason=reason))
    live = {path: rows[each] for path, each in ids.items() if rows[each].n_passages}
    if not live and not may_empty:
        _refuse_empty(folder, dropped, was_live=bool(before))
    _guard_deletion(before, {path: row.digest for path, row in live.items()}, allowed=allow_mass_deletion)
    return Changes(
        document_ids=tuple(sorted(ids.values())),
        n_live=len(live),
        added=sum(path not in before for path in live),
        changed=sum(path in before and before[path].id != row.id for path, row in live.items()),
        unchanged=sum(path in before and before[path].id == row.id for path, row in live.items()),
        deleted=sum(path not in live for path in before),
        dropped=tuple(dropped),
    )


def _refuse_empty(folder: Path, dropped: Sequence[Dropped], *, was_live: bool) -> NoReturn:
    """Raise `NoDocuments` with the first reason, if any file was there at all."""
    seen = "it is empty"
    if dropped:
        more = f" and {len(dropped) - 1} more" if len(dropped) > 1 else ""
        seen = f"left out: {dropped[0].path} ({dropped[0].reason}){more}"
    raise NoDocuments(
        f"{str(folder)!r} holds no document that can be read: {seen}.",
        hint="To empty the knowledge base, ingest again with --allow-mass-deletion."
        if was_live
        else f"Name a folder with files of these kinds: {', '.join(sorted(SUFFIXES))}.",
    )


def _guard_deletion(before: Mapping[str, LiveDocument], digests: Mapping[str, str], *, allowed: bool) -> None:
    """Stop when most of what was live is gone. What lies under another name now is not gone."""
    present = set(digests.values())
    gone = [path for path, live in before.items() if path not in digests and live.digest not in present]
    if allowed or len(gone) < MASS_DELETION_FLOOR or len(gone) <= MASS_DELETION_SHARE * len(before):
        return
    raise MassDeletion(
        f"{len(gone)} of {len(before)} documents are gone from the source or no longer readable, such as "
        f"{min(gone)!r}.",
        hint="Check the folder; if they are to be removed, ingest again with --allow-mass-deletion.",
        n_gone=len(gone),
        n_before=len(before),
    )


def _digest_source(file: SourceFile) -> str:
    size = file.absolute.stat().st_size
    if size > MAX_BYTES:
        raise UnreadableDocument(f"{size:,} bytes; the limit is {MAX_BYTES:,}.")
    return digest_file(file.absolute)


def _add_document(
    engine: Engine, blobs: BlobSink, file: SourceFile, *, base: str, recipe: Recipe, parse_digest: str
) -> dict[str, Any]:
    # Read again rather than trusting the digest of the scan: the file may have changed since.
    data = file.absolute.read_bytes()
    digest = digest_bytes(data)
    parsed: ParsedDocument | None = None
    error: str | None = None
    chunks = Chunks(passages=(), n_dropped_chars=0)
    try:
        parsed = parse_document(file.path, data)
        chunks = chunk_document(parsed, path=file.path, recipe=recipe.chunk)
    except UnreadableDocument as problem:
        error = _reason(problem)
    except Exception as problem:  # whatever a parser does on one hostile file, the other files go on
        _log.exception("parser failed", extra={"path": file.path})
        error = f"the parser failed: {type(problem).__name__}: {problem}"[:500]
    blobs.put_bytes(data)
    own_id = document_id(base, file.path, digest, parse_digest)
    title = parsed.title if parsed else None
    document = {
        "id": own_id,
        "base": base,
        "path": file.path,
        "digest": digest,
        "parse_digest": parse_digest,
        "title": title,
        "media_type": parsed.media_type if parsed else None,
        "size_bytes": len(data),
        "n_passages": len(chunks.passages),
        "n_dropped_chars": chunks.n_dropped_chars,
        "problems": list(parsed.problems) if parsed else [],
        "error": clean_line(error) if error else None,
        "created_ns": now_ns(),
    }
    rows = [
        {
            "document_id": own_id,
            "position": position,
            "id": passage.id,
            "section": passage.section,
            "anchor": passage.anchor,
            "start_char": passage.start,
            "end_char": passage.end,
            "text": passage.text,
            "embed_digest": embed_digest(title=title, section=passage.section, text=passage.text),
        }
        for position, passage in enumerate(chunks.passages)
    ]
    with engine.begin() as connection:
        queries.add_document(connection, document, rows)
    return {"id": own_id, "passages": len(rows), "error": error}


def _reason(error: OSError | UnreadableDocument) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return f"{error.message} {error.hint}" if error.hint else error.message
