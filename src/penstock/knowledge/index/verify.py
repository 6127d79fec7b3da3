"""Checks an index against itself and against the control tables, and says what to do about what is wrong.

An index is derived, so the advice is nearly always to rebuild it; the findings say why, and what searches were
missing meanwhile. Nothing is changed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penstock.base.digest import digest_file
from penstock.base.errors import PenstockError
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.index.documents import checksum_rows
from penstock.knowledge.index.generation import OpenIndex, open_index
from penstock.knowledge.index.manifest import read_manifest
from penstock.knowledge.index.types import Finding, FindVectors, IndexRow, Place, RowSelection
from penstock.knowledge.index.words import query_words

REBUILD = "Rebuild the index."
SAME_COSINE = 0.99
"""A vector that was held in halves or bytes is still the same one."""
PROBE_WORDS = 8


@dataclass(frozen=True, kw_only=True)
class IndexTruth:
    """What the control tables say an index must hold."""

    documents: Iterable[tuple[str, int]]
    """Id and number of passages of every document; those without passages may be among them."""
    find_rows: Callable[[Sequence[Place]], Mapping[Place, IndexRow]]
    """Called with at most `sample` places."""
    find_vectors: FindVectors


def verify_index(
    folder: Path, *, connection: str | None = None, truth: IndexTruth | None = None, sample: int = 100
) -> list[Finding]:
    """Return every check with what it found, failed ones first.

    Reads all files once. With `truth` the rows, vectors and words are compared with the control tables, vectors
    and words on `sample` rows spread over the index.
    """
    findings = _check_files(folder)
    if any(each.state == "failed" for each in findings):
        return findings
    try:
        index = open_index(folder, connection=connection)
    except PenstockError as error:
        return [*findings, _failed("opening", error.message, advice=error.hint or REBUILD)]
    try:
        findings += _check_documents(index, truth)
        findings += index.lexical.verify(index.n_rows)
        findings += _ask(lambda: index.dense.verify(sample))
        if truth is not None:
            findings += _ask(lambda: _compare_rows(index, truth, sample))
    finally:
        index.close()
    order = {"failed": 0, "warning": 1, "skipped": 2, "ok": 3}
    return sorted(findings, key=lambda each: order[each.state])


def _ask(check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except PenstockError as error:
        return [_failed("server", error.message, advice=error.hint or REBUILD)]


def _check_files(folder: Path) -> list[Finding]:
    if not folder.exists():
        return [_failed("files", f"there is no index {folder.name} on disk")]
    try:
        manifest = read_manifest(folder)
    except DamagedIndex as error:
        return [_failed("files", error.message)]
    changed = [name for name, file in manifest.files.items() if digest_file(folder / name) != file.digest]
    if changed:
        return [_failed("files", f"{', '.join(sorted(changed))}: the content is not what was written")]
    size = sum(file.size_bytes for file in manifest.files.values())
    return [
        Finding(
            check="files",
            state="ok",
            message=f"{len(manifest.files)} files, {size / 1e6:,.1f} MB, as written",
        )
    ]


def _check_documents(index: OpenIndex, truth: IndexTruth | None) -> list[Finding]:
    held = dict(index.table.count_rows())
    if checksum_rows(held.items()) != index.manifest.rows_checksum:
        return [_failed("documents", "rows belong to other documents than when the index was built")]
    if truth is None:
        return [Finding(check="documents", state="ok", message=f"{len(held):,} documents with passages")]
    wanted = {document: count for document, count in truth.documents if count}
    missing = [document for document in wanted if held.get(document) != wanted[document]]
    surplus = [document for document in held if document not in wanted]
    if not missing and not surplus:
        message = f"{len(held):,} documents, {index.n_rows:,} passages, as the control tables have them"
        return [Finding(check="documents", state="ok", message=message)]
    parts = []
    if missing:
        parts.append(f"{len(missing):,} documents are missing or lack passages, such as {missing[0]}")
    if surplus:
        parts.append(f"{len(surplus):,} are in the index alone, such as {surplus[0]}")
    return [_failed("documents", "; ".join(parts), measured=float(len(held)), threshold=float(len(wanted)))]


def _compare_rows(index: OpenIndex, truth: IndexTruth, sample: int) -> list[Finding]:
    if index.n_rows == 0:
        return []
    rows = np.unique(np.linspace(0, index.n_rows - 1, num=min(sample, index.n_rows)).astype(np.int64))
    places = [index.places[int(row)] for row in rows]
    known = truth.find_rows(places)
    pairs = [(int(row), known[place]) for row, place in zip(rows, places, strict=True) if place in known]
    findings = []
    if len(pairs) < len(rows):
        gone = next(place for place in places if place not in known)
        message = f"{len(rows) - len(pairs)} of {len(rows)} passages are gone from the tables, such as {gone}"
        findings.append(_failed("passages", message))
    if not pairs:
        return findings
    if index.dims:
        findings.append(_compare_vectors(index, truth, pairs))
    findings.append(_probe_words(index, pairs))
    return findings


def _compare_vectors(index: OpenIndex, truth: IndexTruth, pairs: Sequence[tuple[int, IndexRow]]) -> Finding:
    held = index.dense.vectors([row for row, _ in pairs])
    found = truth.find_vectors([row.embed_digest for _, row in pairs])
    wrong, compared = [], 0
    for (row, truth_row), vector in zip(pairs, held, strict=True):
        raw = found.get(truth_row.embed_digest)
        if raw is None:
            continue
        compared += 1
        wanted = np.frombuffer(raw, dtype="<f4")
        same = len(wanted) == len(vector) and (
            float(wanted @ vector) >= SAME_COSINE or not (wanted.any() or vector.any())
        )
        if not same:
            wrong.append(row)
    if wrong:
        return _failed(
            "vectors",
            f"{len(wrong)} of {compared} rows hold another passage's vector, such as row {wrong[0]}",
        )
    if not compared:
        return Finding(check="vectors", state="skipped", message="no vector of the sample is in the cache")
    return Finding(check="vectors", state="ok", message=f"{compared} vectors are those of their passages")


def _probe_words(index: OpenIndex, pairs: Sequence[tuple[int, IndexRow]]) -> Finding:
    """Ask for each passage by its own longest words, among itself alone: it must be found."""
    lost, asked = [], 0
    every = np.zeros(0, dtype=np.bool_)
    for row, truth_row in pairs:
        words = sorted(query_words(truth_row.text), key=len, reverse=True)[:PROBE_WORDS]
        if not words:
            continue
        asked += 1
        mask = np.zeros(index.n_rows, dtype=np.bool_)
        mask[row] = True
        alone = RowSelection(mask=mask, count=1, documents=every, document_of=index.document_of)
        if not index.lexical.search(" ".join(words), limit=1, rows=alone):
            lost.append(row)
    if lost:
        message = f"{len(lost)} of {asked} passages are not found by their own words, such as row {lost[0]}"
        return _failed("words", message, measured=1 - len(lost) / asked, threshold=1.0)
    return Finding(check="words", state="ok", message=f"{asked} passages are found by their own words")


def _failed(
    check: str,
    message: str,
    *,
    advice: str = REBUILD,
    measured: float | None = None,
    threshold: float | None = None,
) -> Finding:
    return Finding(
        check=check, state="failed", message=message, advice=advice, measured=measured, threshold=threshold
    )
