"""Six statistical metrics of Ragas on the cases of `bench/scoring.py`; run by an interpreter of its own.

    python -m venv peer && peer/bin/pip install ragas sacrebleu rouge-score rapidfuzz 'langchain-community<0.4' 'langchain<1'
    python bench/scoring_ragas.py --write pairs.json     # by this project's interpreter: the cases, and our own times
    peer/bin/python bench/scoring_ragas.py pairs.json    # processor seconds and means of Ragas

Ragas names no release of langchain-community that it needs; newer ones than 0.3 break its import.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

NAMES: dict[str, dict[str, object]] = {
    "bleu": {},
    "rouge_1": {"tokenizer": "rouge_score"},
    "rouge_l": {"tokenizer": "rouge_score"},
    "chrf": {},
    "exact": {},
    "levenshtein": {},
}


def write_pairs(path: Path) -> None:
    """Write the cases, and print our own processor seconds and means."""
    from scoring import make_pairs, ours

    pairs = make_pairs(1000, 40)
    path.write_text(json.dumps(pairs), encoding="utf-8")
    for name, parameters in NAMES.items():
        run = ours(name, **parameters)
        begin = time.process_time()
        values = run(pairs)
        print(f"{name:12} {time.process_time() - begin:.3f} s  mean {sum(values) / len(values):.6f}")


def run_ragas(path: Path) -> None:
    """Print Ragas' processor seconds and means over the same cases."""
    import ragas
    from ragas import SingleTurnSample
    from ragas.metrics import BleuScore, ChrfScore, ExactMatch, NonLLMStringSimilarity, RougeScore

    pairs = json.loads(path.read_text(encoding="utf-8"))
    metrics = {
        "bleu": BleuScore(),
        "rouge_1": RougeScore(rouge_type="rouge1", mode="fmeasure"),
        "rouge_l": RougeScore(rouge_type="rougeL", mode="fmeasure"),
        "chrf": ChrfScore(),
        "exact": ExactMatch(),
        "levenshtein": NonLLMStringSimilarity(),
    }
    print(f"ragas {ragas.__version__}")

    async def score_all(metric: Any) -> list[float]:
        return [
            await metric.single_turn_ascore(SingleTurnSample(response=answer, reference=reference))
            for answer, reference in pairs
        ]

    for name, metric in metrics.items():
        begin = time.process_time()
        values = asyncio.run(score_all(metric))
        print(f"{name:12} {time.process_time() - begin:.3f} s  mean {sum(values) / len(values):.6f}")


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write_pairs(Path(sys.argv[2]))
    else:
        run_ragas(Path(sys.argv[1]))
