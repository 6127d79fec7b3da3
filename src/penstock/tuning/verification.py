"""A version proven once more, as it lies there now: every byte, its renderer, on request the whole parity again."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.base.digest import digest_file
from penstock.base.errors import PenstockError
from penstock.tuning.checkout import check_out, check_out_adapter
from penstock.tuning.model_files import (
    ADAPTER_GGUF,
    GGUF,
    ORIGINAL,
    RENDERER,
    TOKENIZER,
    Blobs,
    ModelFiles,
    ModelVersion,
)
from penstock.tuning.parity import ParityReport, prove_adapter, prove_parity
from penstock.tuning.renderer import GoldenVector, load_renderer
from penstock.tuning.sources import Progress

FindVersion = Callable[[str], ModelVersion | None]
"""The version with a digest."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at. `passed` is None when it could not be."""

    name: str
    passed: bool | None
    detail: str


def verify_version(
    version: ModelVersion,
    blobs: Blobs,
    *,
    with_parity: bool,
    find: FindVersion,
    work: Path,
    tell: Progress = lambda *_: None,
) -> list[Check]:
    """Return what was found about every file, the renderer with its golden vectors and, `with_parity`, the proof.

    `tell` hears of each file before it is read, and of the proof.
    """
    checks: list[Check] = []
    for number, name in enumerate(sorted(version.artefacts)):
        tell(number / (len(version.artefacts) + 1), name)
        checks.append(_check_bytes(version, name, blobs))
    tell(len(checks) / (len(checks) + 1), "parity" if with_parity else "renderer")
    if RENDERER in version.artefacts and all(check.passed for check in checks):
        checks.append(_check_renderer(version, ModelFiles(blobs)))
    if with_parity and all(check.passed for check in checks):
        checks.append(_check_parity(version, ModelFiles(blobs), find, work))
    return checks


def _check_bytes(version: ModelVersion, name: str, blobs: Blobs) -> Check:
    wanted = version.artefacts[name]
    try:
        path = blobs.local_path(wanted)
        seen = digest_file(path)
    except (PenstockError, OSError) as error:
        return Check(name=name, passed=False, detail=str(error))
    size = f"{path.stat().st_size:,} bytes"
    return Check(name=name, passed=seen == wanted, detail=size if seen == wanted else f"damaged: {seen}")


def _check_renderer(version: ModelVersion, files: ModelFiles) -> Check:
    try:
        renderer = load_renderer(files.path(version, RENDERER), files.path(version, TOKENIZER))
        golden = msgspec.convert(version.content.get("golden") or [], list[GoldenVector])
        renderer.check_golden(golden)
    except PenstockError as error:
        return Check(name="renderer", passed=False, detail=str(error))
    same = version.content.get("renderer_digest") in (None, renderer.digest)
    detail = f"{len(golden)} golden vectors give the ids of registration"
    return Check(
        name="renderer", passed=same, detail=detail if same else f"another renderer: {renderer.digest}"
    )


def _check_parity(version: ModelVersion, files: ModelFiles, find: FindVersion, work: Path) -> Check:
    """Prove against the kept original, else against the version it was made from."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=work, prefix="verify-") as scratch:
            report = _prove_again(version, files, find, Path(scratch) / "source")
    except PenstockError as error:  # a file that no engine loads is no better than one that answers otherwise
        return Check(name="parity", passed=False, detail=str(error))
    if report is None:
        return Check(
            name="parity",
            passed=None,
            detail="its source is not kept here, so there is nothing to compare with",
        )
    detail = (
        f"mean KL {report.mean_kl:.2e} nats over {report.n_compared} positions"
        if report.mean_kl is not None
        else (f"over {report.n_compared} texts")
    )
    return Check(name="parity", passed=report.passed, detail=detail)


def _prove_again(
    version: ModelVersion, files: ModelFiles, find: FindVersion, folder: Path
) -> ParityReport | None:
    content = version.content
    base = find(((content.get("lineage") or {}).get("base") or {}).get("digest", ""))
    if content.get("adapter"):
        if base is None or ADAPTER_GGUF not in version.artefacts:
            return None
        check_out_adapter(version, base, files, folder)
        return prove_adapter(
            folder,
            files.path(base, GGUF),
            files.path(version, ADAPTER_GGUF),
            precision=base.content["precision"],
        )
    source = version if f"{ORIGINAL}config.json" in version.artefacts else None
    if source is None and (content.get("lineage") or {}).get("method") in ("quantise", "convert"):
        source = base
    if source is None:
        return None
    check_out(source, files, folder)
    return prove_parity(folder, files.path(version, GGUF), precision=content["precision"])
