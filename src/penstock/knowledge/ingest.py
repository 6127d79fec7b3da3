"""From a folder to a generation: find, parse what is new, embed what is new, build, publish.

Safe to stop at any point and to run again: document versions, vectors and generations are addressed by
content, so finished work is found and not repeated, and the live generation changes only at the very end, in
one step. An unchanged folder costs reading and hashing its files.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.base.digest import digest_bytes, digest_file, digest_json
from penstock.knowledge import queries
from penstock.knowledge.chunk import CHUNKER, Chunks, chunk_document
from penstock.knowledge.embed import embed_digest
from penstock.knowledge.errors import MassDeletion, UnreadableDocument
from penstock.knowledge.parse import parse_document
from penstock.knowledge.parse.dispatch import MAX_BYTES
from penstock.knowledge.parse.text import clean_line
from penstock.knowledge.sources import SourceFile, scan_folder
from penstock.knowledge.types import Dropped, IngestContext, ParsedDocument, Recipe

PARSER = "parse@2"
_log = logging.getLogger(__name__)
MASS_DELETION_FLOOR = 5
MASS_DELETION_SHARE = 0.5


class BlobSink(Protocol):
    """Keeps the bytes of every document version."""

    def put_bytes(self, data: bytes, /) -> str:
        """Keep `data` and return its digest."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What the source holds now, compared with the generation before."""

    document_ids: tuple[str, ...]
    added: int
    changed: int
    unchanged: int
    deleted: int
    dropped: tuple[Dropped, ...]


def parse_digest_of(recipe: Recipe) -> str:
    """Return the digest of everything that decides how bytes become passages."""
    return digest_json({"parser": PARSER, "chunker": CHUNKER, "max_words": recipe.max_words})


def read_source(
    engine: Engine,
    blobs: BlobSink,
    *,
    base: str,
    folder: Path,
    recipe: Recipe,
    before: dict[str, str],
    ctx: IngestContext,
    allow_mass_deletion: bool,
) -> Changes:
    """Bring the control tables up to what `folder` holds. `before` maps paths to live document ids."""
    files, dropped = scan_folder(folder)
    _guard_deletion(before, {file.path for file in files}, allowed=allow_mass_deletion)
    ctx.progress(0.02, f"found {len(files)} documents")
    parse_digest = parse_digest_of(recipe)
    ids: dict[str, str] = {}
    for file in files:
        try:
            digest = _digest_source(file)
        except (OSError, UnreadableDocument) as error:
            dropped.append(Dropped(path=file.path, reason=_reason(error)))
            continue
        ids[file.path] = document_id(base, file.path, digest, parse_digest)
    with engine.connect() as connection:
        known = set(queries.find_documents(connection, base, list(ids.values())))
    fresh = [file for file in files if file.path in ids and ids[file.path] not in known]
    for number, file in enumerate(fresh, start=1):
        ctx.check_cancelled()
        outcome = ctx.step(
            "parse",
            {"document": ids[file.path], "path": file.path},
            lambda file=file: _add_document(engine, blobs, base, file, recipe),  # type: ignore[misc]
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
    return Changes(
        document_ids=tuple(sorted(ids.values())),
        added=sum(path not in before for path in ids),
        changed=sum(path in before and before[path] != each for path, each in ids.items()),
        unchanged=sum(before.get(path) == each for path, each in ids.items()),
        deleted=sum(path not in ids for path in before),
        dropped=tuple(dropped),
    )


def document_id(base: str, path: str, digest: str, parse_digest: str) -> str:
    """Return the id of one version of one document, cut by one recipe."""
    return f"doc_{digest_json([base, path, digest, parse_digest]).removeprefix('sha256:')[:24]}"


def generation_id(base: str, recipe: Recipe, embedder: str, document_ids: Sequence[str]) -> str:
    """Return the id of a generation: equal documents, recipe and embedder give the equal id."""
    content = [base, recipe_as_dict(recipe), embedder, sorted(document_ids)]
    return f"gen_{digest_json(content).removeprefix('sha256:')[:24]}"


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as JSON values."""
    return {name: getattr(recipe, name) for name in recipe.__struct_fields__}


def _guard_deletion(before: dict[str, str], paths: set[str], *, allowed: bool) -> None:
    gone = [path for path in before if path not in paths]
    if allowed or len(gone) <= MASS_DELETION_FLOOR or len(gone) <= MASS_DELETION_SHARE * len(before):
        return
    raise MassDeletion(
        f"{len(gone)} of {len(before)} documents are gone from the source, such as {min(gone)!r}.",
        hint="Check the folder; if they are to be removed, ingest again and allow the deletion.",
        n_gone=len(gone),
        n_before=len(before),
    )


def _digest_source(file: SourceFile) -> str:
    size = file.absolute.stat().st_size
    if size > MAX_BYTES:
        raise UnreadableDocument(f"{size:,} bytes; the limit is {MAX_BYTES:,}.")
    return digest_file(file.absolute)


def _add_document(
    engine: Engine, blobs: BlobSink, base: str, file: SourceFile, recipe: Recipe
) -> dict[str, Any]:
    # Read again rather than trusting the digest of the scan: the file may have changed since.
    data = file.absolute.read_bytes()
    digest, parse_digest = digest_bytes(data), parse_digest_of(recipe)
    parsed: ParsedDocument | None = None
    error: str | None = None
    chunks = Chunks(passages=(), n_dropped_chars=0)
    try:
        parsed = parse_document(file.path, data)
        chunks = chunk_document(parsed, path=file.path, max_words=recipe.max_words)
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
