"""What each stage of a search does on the handbook's labelled questions, beside the search without it.

Every wording of every answerable question is asked (1,035), five passages wanted. Recall is the share whose answer sentence
is among them; `elsewhere` the share of shown passages that stand in another article than the answer; `unanswerable` how many
passages are shown, on average, for the questions that no article answers. Differences in recall are paired by question and
clustered by article. Latency is not measured here: questions are embedded once, and second looks run in this process.

    python bench/retrieval_stages.py --minilm HF_FOLDER [--every N]
"""

# ruff: noqa: ARG002  # embedders here keep the port's signature
import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.record import record_result

from penstock.knowledge.one_embedder import OneEmbedder
from penstock.knowledge.quality.ports import Figure, QuestionValue
from penstock.knowledge.retrieval.late_interaction import LateInteraction
from penstock.knowledge.service import KnowledgeService
from penstock.knowledge.types import EmbedUsage, TextKind
from penstock.main.retrieval_scoring import EvaluationScoring
from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.measuring import TokenEncoder
from penstock.registry.service import Registry
from penstock.spec.knowledge import RerankRecipe, SearchRecipe
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.tuning.models import ModelService
from penstock.tuning.served import load_served_renderer

HANDBOOK = Path(__file__).resolve().parents[1] / "src" / "penstock" / "data" / "handbook"
K = 5
STAGES: dict[str, SearchRecipe] = {
    "as it is": SearchRecipe(),
    "words alone": SearchRecipe(fusion="lexical"),
    "vectors alone": SearchRecipe(fusion="dense"),
    "reciprocal ranks": SearchRecipe(fusion="rrf"),
    "late interaction, half": SearchRecipe(
        rerank=RerankRecipe(kind="late-interaction", weight=0.5, timeout_s=60)
    ),
    "late interaction, whole": SearchRecipe(rerank=RerankRecipe(kind="late-interaction", timeout_s=60)),
    "diversity 0.2": SearchRecipe(diversity=0.2),
    "two a document": SearchRecipe(max_per_document=2),
    "cosine from 0.16": SearchRecipe(min_dense_score=0.16),
    "cosine from 0.3": SearchRecipe(min_dense_score=0.3),
    "share of the best 0.5": SearchRecipe(min_relative_score=0.5),
    "share of the best 0.7": SearchRecipe(min_relative_score=0.7),
    "share of the best 0.85": SearchRecipe(min_relative_score=0.85),
}


class MiniLM:
    """MiniLM on the embedded engine, in this process; each text is embedded once."""

    id = "minilm"
    max_tokens = 512
    usage = EmbedUsage()

    def __init__(self, models: ModelService, folder: Path) -> None:
        models.pull("minilm", f"folder:{folder}")
        (served,) = models.embedded_models()
        self._renderer = load_served_renderer(served)
        self._engine = LlamaEngine(served.gguf, kind="embedding", context_length=512, n_slots=1)
        self._encoder = TokenEncoder(served.gguf, context_length=512)
        self._known: dict[str, NDArray[np.float32]] = {}

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._renderer.encode_texts(texts)]

    def embed(
        self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None
    ) -> NDArray[np.float32]:
        for text in texts:
            if text not in self._known:
                self._known[text] = self._engine.embed(self._renderer.encode_texts([text]))[0]
        return np.stack([self._known[text] for text in texts])

    def embed_tokens(self, model: str, texts: Sequence[str], timeout_s: float) -> list[NDArray[np.float32]]:
        return [self._encoder.encode(ids)[1:-1] for ids in self._renderer.encode_texts(texts)]


def read_questions(every: int) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """Return each n-th wording of the answerable questions with its row, and of the others."""
    rows = [json.loads(line) for line in (HANDBOOK / "questions.jsonl").read_text().splitlines()]
    asked = [(text, row) for row in rows for text in [row["question"], *row["alternatives"]]]
    answerable = [pair for pair in asked if pair[1]["answer"]]
    return answerable[::every], [text for text, row in asked if not row["answer"]][::every]


def measure(
    service: KnowledgeService, recipe: SearchRecipe, every: int
) -> tuple[list[QuestionValue], dict[str, float]]:
    """Return whether each question was answered, and what else was shown."""
    answerable, others = read_questions(every)
    values = []
    n_shown = n_elsewhere = 0
    for number, (text, row) in enumerate(answerable):
        hits = service.retrieve("handbook", text, K, recipe=recipe).hits
        is_found = any(
            hit.document == row["document"] and row["answer"] in " ".join(hit.text.split()) for hit in hits
        )
        values.append(QuestionValue(id=str(number), value=float(is_found), group=row["document"]))
        n_shown += len(hits)
        n_elsewhere += sum(hit.document != row["document"] for hit in hits)
    n_idle = sum(len(service.retrieve("handbook", text, K, recipe=recipe).hits) for text in others)
    return values, {
        "shown": round(n_shown / len(answerable), 2),
        "elsewhere": round(n_elsewhere / max(1, n_shown), 3),
        "unanswerable": round(n_idle / len(others), 2),
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minilm", type=Path, required=True, help="Hugging Face folder of all-MiniLM-L6-v2")
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        help="Ask each n-th wording alone; 3: the questions as written, without their other phrasings.",
    )
    options = parser.parse_args()
    scoring = EvaluationScoring()
    figure = Figure(name=f"recall@{K}", is_binary=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        engine = open_control(f"sqlite:///{root / 'control.db'}")
        blobs = BlobStore(str(root / "blobs"))
        model = MiniLM(ModelService(Registry(engine, blobs), blobs, work=root / "work"), options.minilm)
        look = LateInteraction(model.embed_tokens, lambda _: ("minilm", "minilm"), kept_bytes=1 << 30)
        service = KnowledgeService(
            engine, blobs, root / "indexes", OneEmbedder(model), rerankers={"late-interaction": look}
        )
        service.ingest("handbook", HANDBOOK / "articles")
        measured = {name: measure(service, recipe, options.every) for name, recipe in STAGES.items()}
        engine.dispose()
    base = measured["as it is"][0]
    others = [name for name in measured if name != "as it is"]
    compared = scoring.compare([(figure, base, measured[name][0]) for name in others], level=0.95)
    differences = dict(zip(others, compared, strict=True))
    results: dict[str, Any] = {"n": len(base)}
    for name, (values, shown) in measured.items():
        (recall,) = scoring.estimate(figure, values, level=0.95)
        row: dict[str, Any] = {
            f"recall@{K}": _rounded(recall.value),
            "95": [_rounded(recall.low), _rounded(recall.high)],
        }
        if name in differences:
            found = differences[name]
            row["difference"] = [_rounded(found.difference), _rounded(found.low), _rounded(found.high)]
            row["p_holm"] = _rounded(found.p_adjusted)
        results[name] = row | shown
    record_result("retrieval_stages", results, packages=("numpy", "xllamacpp"))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


if __name__ == "__main__":
    main()
