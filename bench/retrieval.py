"""Retrieval on the handbook's labelled questions: words, vectors and both, with intervals; and ingest, first and again.

A question counts as answered at k when one of the first k passages holds its answer sentence. `asked` are the
questions as written, `rephrased` their other phrasings, which share fewer words with the answer. Weights were
tuned on the training articles; figures are shown for both splits. MiniLM takes part with `--minilm FOLDER`.

    python bench/retrieval.py [--minilm HF_FOLDER]
"""

# ruff: noqa: ARG002  # embedders here keep the port's signature
import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.record import record_result

from penstock.base.ids import new_id
from penstock.knowledge.embedding.vectors import embed_rows
from penstock.knowledge.one_embedder import OneEmbedder
from penstock.knowledge.retrieval.fusion import choose_weight
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.types import Embedder, TextKind
from penstock.providers.engines import lexical
from penstock.providers.engines.llama import LlamaEngine
from penstock.registry.service import Registry
from penstock.spec.knowledge import Recipe, SearchRecipe
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.tuning.models import ModelService
from penstock.tuning.served import load_served_renderer

HANDBOOK = Path(__file__).resolve().parents[1] / "src" / "penstock" / "data" / "handbook"
Question = tuple[str, dict[str, Any]]


class LexicalEmbedder:
    """The embedder that is always there."""

    id = "lexical lexical@1"

    def embed(
        self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        return lexical.embed_texts(texts)


class MiniLM:
    """MiniLM on the embedded engine, in this process."""

    id = "minilm"

    def __init__(self, models: ModelService, folder: Path) -> None:
        models.pull("minilm", f"folder:{folder}")
        (served,) = models.embedded_models()
        self._renderer = load_served_renderer(served)
        self._engine = LlamaEngine(served.gguf, kind="embedding", context_length=512, n_slots=1)
        self._known: dict[str, NDArray[np.float32]] = {}

    def embed(
        self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        for text in texts:  # the same questions are asked once a weight
            if text not in self._known:
                self._known[text] = self._engine.embed(self._renderer.encode_texts([text]))[0]
        return np.stack([self._known[text] for text in texts])


class Known:
    """An embedder whose answers for these texts were computed before, so that searches alone are timed."""

    def __init__(self, embedder: Embedder, texts: Sequence[str]) -> None:
        self.id = embedder.id
        self._rows = dict(zip(texts, embed_rows(embedder, texts, "query"), strict=True))

    def embed(
        self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        return np.stack([self._rows[text] for text in texts])


def read_questions(split: str, *, rephrased: bool) -> list[Question]:
    """Return the answerable questions of a split."""
    rows = [json.loads(line) for line in (HANDBOOK / "questions.jsonl").read_text().splitlines()]
    return [
        (text, row)
        for row in rows
        if row["split"] == split and row["answer"]
        for text in (row["alternatives"] if rephrased else [row["question"]])
    ]


def measure(service: KnowledgeService, name: str, questions: Sequence[Question]) -> dict[str, Any]:
    """Return recall at 1, 3 and 5 with 95 % Wilson intervals, MRR at 10, and the median search time."""
    ranks: list[int | None] = []
    times: list[float] = []
    for text, row in questions:
        begun = time.perf_counter()
        hits = service.search(name, text, 10)
        times.append(time.perf_counter() - begun)
        ranks.append(
            next(
                (
                    rank
                    for rank, hit in enumerate(hits, start=1)
                    if hit.document == row["document"] and row["answer"] in " ".join(hit.text.split())
                ),
                None,
            )
        )
    figures: dict[str, Any] = {"n": len(ranks)}
    for k in (1, 3, 5):
        n_found = sum(rank is not None and rank <= k for rank in ranks)
        low, high = wilson(n_found, len(ranks))
        figures[f"recall@{k}"] = round(n_found / len(ranks), 3)
        figures[f"recall@{k}_95"] = [round(low, 3), round(high, 3)]
    figures["mrr@10"] = round(sum(1 / rank for rank in ranks if rank) / len(ranks), 3)
    figures["search_ms_p50"] = round(statistics.median(times) * 1000, 2)
    return figures


def wilson(n_hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval (Wilson 1927)."""
    share = n_hits / n
    middle = share + z * z / (2 * n)
    spread = z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minilm", type=Path, help="Hugging Face folder of all-MiniLM-L6-v2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        engine = open_control(f"sqlite:///{root / 'control.db'}")
        blobs = BlobStore(str(root / "blobs"))
        embedders: list[Embedder] = [LexicalEmbedder()]
        if options.minilm is not None:
            models = ModelService(Registry(engine, blobs), blobs, work=root / "work")
            embedders.append(MiniLM(models, options.minilm))
        results: dict[str, Any] = {}
        for embedder in embedders:
            name = embedder.id.split()[0]
            weights = {"words": 0.0, "vectors": 1.0, "both": choose_weight(embedder.id)}
            service = KnowledgeService(engine, blobs, root / "indexes", OneEmbedder(embedder))
            base = new_id("b").replace("_", "-")
            times = []
            for _ in range(2):
                begun = time.perf_counter()
                report = service.ingest(base, HANDBOOK / "articles")
                times.append(time.perf_counter() - begun)
            results[f"{name} ingest"] = {
                "passages": report.passages,
                "first_s": round(times[0], 2),
                "again_s": round(times[1], 3),
                "ratio": round(times[0] / times[1]),
            }
            for split in ("train", "heldout"):
                for rephrased in (False, True):
                    questions = read_questions(split, rephrased=rephrased)
                    known = Known(embedder, [text for text, _ in questions])
                    for label, weight in weights.items():
                        own = KnowledgeService(engine, blobs, root / "indexes", known)
                        own.ingest(
                            base,
                            HANDBOOK / "articles",
                            recipe=Recipe(search=SearchRecipe(dense_weight=weight)),
                        )
                        kind = "rephrased" if rephrased else "asked"
                        results[f"{name} {split} {kind} {label}"] = measure(own, base, questions)
        engine.dispose()
    record_result("retrieval", results, packages=("numpy", "xllamacpp"))


if __name__ == "__main__":
    main()
