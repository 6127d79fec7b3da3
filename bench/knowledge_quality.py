"""Quality on the handbook's labelled questions: words, vectors, both, and a second look, each with intervals and differences.

A question is answered at k when one of the first k passages holds the words of its answer. `asked` are the questions as written,
`alternatives` their other phrasings, which share fewer words with the answer. MiniLM takes part with `--minilm FOLDER`, with a second
look by its token vectors; without it the built-in lexical embedder stands in. `--aa N` adds the rate of false alarms of a comparison
of two equal sides, over N simulated ones.

    python bench/knowledge_quality.py [--minilm HF_FOLDER] [--aa 500]
"""

# ruff: noqa: ARG002  # the embedder keeps the port's signature
import argparse
import json
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
from bench.retrieval_stages import MiniLM

from penstock.knowledge.one_embedder import OneEmbedder
from penstock.knowledge.quality.measuring import MeasuringService
from penstock.knowledge.quality.ports import Figure, QuestionValue, Sheet
from penstock.knowledge.quality.types import Measurement, MeasureRequest
from penstock.knowledge.retrieval.late_interaction import LateInteraction
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.types import EmbedUsage, TextKind
from penstock.main.dataset_rooms import create_datasets
from penstock.main.retrieval_questions import DatasetQuestions
from penstock.main.retrieval_scoring import EvaluationScoring
from penstock.providers.engines import lexical
from penstock.registry.service import Registry
from penstock.spec.home import Home
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.tuning.models import ModelService

HANDBOOK = Path(__file__).resolve().parents[1] / "src" / "penstock" / "data" / "handbook"
FIGURES = ("recall@1", "recall@5", "ndcg@10", "mrr@10", "latency_ms")


class LexicalEmbedder:
    """The embedder that is always there."""

    id = "lexical lexical@1"
    dims: int | None = None
    max_tokens: int | None = None
    usage = EmbedUsage()

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed(
        self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        return lexical.embed_texts(texts)


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--aa", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables = measure(Path(folder), given.minilm)
    result: dict[str, Any] = {"tables": tables}
    if given.aa:
        result["equal_sides"] = equal_sides(given.aa)
        print(f"equal sides, {given.aa}: {json.dumps(result['equal_sides'])}")
    record_result("knowledge_quality", result)
    return 0


def measure(root: Path, minilm: Path | None) -> list[dict[str, Any]]:
    """Return a table for each way of asking."""
    home = Home(root=root)
    engine = open_control(f"sqlite:///{root / 'control.sqlite'}")
    blobs = BlobStore(str(root / "blobs"))
    registry = Registry(engine, blobs)
    embedder: Any = LexicalEmbedder()
    rerankers = {}
    if minilm is not None:
        embedder = MiniLM(ModelService(registry, blobs, work=root / "models"), minilm)
        rerankers = {
            "late-interaction": LateInteraction(
                embedder.embed_tokens, lambda _: ("minilm", "minilm"), kept_bytes=1 << 30
            )
        }
    knowledge = KnowledgeService(engine, blobs, root / "indexes", OneEmbedder(embedder), rerankers=rerankers)
    knowledge.ingest("handbook", HANDBOOK / "articles")
    scoring = EvaluationScoring()
    service = MeasuringService(
        engine, knowledge, scoring, DatasetQuestions(create_datasets(home, registry, blobs))
    )
    tables = []
    for phrasing in ("asked", "alternatives"):
        for split in ("train", "heldout"):
            request = MeasureRequest(
                questions="handbook:questions",
                ks=(1, 5, 10),
                modes=("lexical", "dense", "hybrid", *(("reranked",) if minilm is not None else ())),
                by="answer",
                phrasing=phrasing,  # type: ignore[arg-type]
                where=f"split:{split}",
            )
            made = service.measure("handbook", request)
            tables.append(
                {"phrasing": phrasing, "split": split, "embedder": made.embedder, "rows": tell(made)}
            )
    return tables


def tell(made: Measurement) -> list[dict[str, Any]]:
    """Print a table and return its rows."""
    request = made.request
    print(
        f"\n{request.phrasing}, {request.where}: {made.n_questions} questions in {made.n_groups} articles, {made.embedder}"
    )
    rows = []
    for mode in made.modes:
        row: dict[str, Any] = {"mode": mode.mode}
        for each in mode.estimates:
            if each.name in FIGURES:
                row[each.name] = [
                    None if value is None else round(value, 4) for value in (each.value, each.low, each.high)
                ]
        row["vs_first"] = {
            each.name: [None if each.difference is None else round(each.difference, 4), each.word]
            for each in mode.differences
            if each.name in FIGURES
        }
        rows.append(row)
        shown = "  ".join(
            f"{name} {row[name][0]} ({row[name][1]} to {row[name][2]})" for name in FIGURES if name in row
        )
        print(f"  {mode.mode:<9} {shown}")
        if row["vs_first"]:
            print(f"            against {made.modes[0].mode}: {row['vs_first']}")
    for text in made.reservations:
        print(f"  note: {text}")
    return rows


def equal_sides(n: int) -> dict[str, Any]:
    """Return how often two sides whose questions are answered by the same chance pass, fail or stay undecided."""
    scoring = EvaluationScoring()
    rng = np.random.default_rng(2026)
    rules = ["recall@5 >= baseline - 3 points", "ndcg@5 >= baseline - 3 points"]
    words: dict[str, int] = {}
    begun = time.perf_counter()
    for _ in range(n):
        difficulty = rng.beta(3, 1, 150)
        sides = []
        for name in ("baseline", "candidate"):
            recall = (rng.random(150) < difficulty).astype(float)
            columns = {"recall@5": recall, "ndcg@5": recall * rng.uniform(0.4, 1.0, 150)}
            sides.append(
                Sheet(
                    name=name,
                    columns={
                        title: (
                            Figure(name=title),
                            [
                                QuestionValue(id=str(i), value=float(v), group=str(i // 3))
                                for i, v in enumerate(values)
                            ],
                        )
                        for title, values in columns.items()
                    },
                )
            )
        verdict = scoring.judge(rules, baseline=sides[0], candidate=sides[1], level=0.95).verdict
        words[verdict] = words.get(verdict, 0) + 1
    return {
        "n": n,
        "fail_share": words.get("fail", 0) / n,
        **words,
        "seconds": round(time.perf_counter() - begun, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
