"""How well the `handbook` app answers all held-out questions: as written, rephrased, and those without an answer.

Floor: the sentence with most rare words in common with the question among the ten best passages of plain BM25
search (no model at all). Intervals are 95 % bootstrap over questions. Needs the `demo` extra.
"""

import json
import math
import random
import re
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import openai

from penstock.main.demo import APP, ARTICLES, ensure_running, prepare_models
from penstock.main.demo_questions import QUESTIONS, token_f1
from penstock.main.home_files import create_home, read_admin_key
from penstock.main.knowledge_rooms import KnowledgeRooms
from penstock.main.submitting import follow, submit_ingest
from penstock.spec.home import Home
from record import record_result


def interval(values: list[float], *, n_draws: int = 2000) -> list[float]:
    """Return the 95 % percentile bootstrap interval of the mean."""
    rng = random.Random(7)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(n_draws))
    return [round(means[int(0.025 * n_draws)], 3), round(means[int(0.975 * n_draws)], 3)]


def load_rows() -> list[dict[str, Any]]:
    """Return the held-out questions."""
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    return [row for row in rows if row["split"] == "heldout"]


class OverlapFloor:
    """Answers with the sentence of the search's passages that shares most rare words with the question."""

    def __init__(self, installation: KnowledgeRooms) -> None:
        self.knowledge = installation.knowledge
        passages = [hit.text for row in load_rows() for hit in self._search(row["question"])]
        self.counts = Counter(word for text in set(passages) for word in set(_words(text)))
        self.n_passages = len(set(passages))

    def _search(self, question: str) -> list[Any]:
        return [hit for hit in self.knowledge.search(APP, question, 10) if hit.lexical_score is not None]

    def answer(self, question: str) -> str:
        """Return a sentence, empty when no passage shares a word."""
        wanted = set(_words(question))
        sentences = [sentence for hit in self._search(question) for sentence in hit.sentences]
        weight = {word: math.log(1 + self.n_passages / (1 + self.counts[word])) for word in wanted}
        return max(
            sentences, key=lambda text: sum(weight[word] for word in wanted & set(_words(text))), default=""
        )


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def main() -> None:
    """Ask, score, record."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Home(root=Path(folder) / "home")
        create_home(home)
        with ensure_running(home, print) as instance:
            installation = KnowledgeRooms(home)
            results["embedder"] = prepare_models(installation, home, instance, print, lambda *_: None)
            follow(installation, submit_ingest(installation, APP, ARTICLES), lambda *_: None)
            client = openai.OpenAI(
                base_url=f"{instance.addresses.gateway_url}/v1", api_key=read_admin_key(home), max_retries=8
            )
            floor = OverlapFloor(installation)
            rows = load_rows()
            answerable = [row for row in rows if row["answer"] is not None]
            for name, pairs in {
                "as_written": [(row["question"], row) for row in answerable],
                "rephrased": [(text, row) for row in answerable for text in row["alternatives"]],
                "unanswerable": [(row["question"], row) for row in rows if row["answer"] is None],
            }.items():
                results[name] = ask_all(client, floor, pairs)
            installation.close()
    record_result("answers", results, packages=("openai", "xllamacpp"))


def ask_all(
    client: openai.OpenAI, floor: OverlapFloor, pairs: list[tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    """Return scores of app and floor on these questions."""
    f1, floor_f1, cited, declined = [], [], [], []
    for text, row in pairs:
        reply = client.chat.completions.create(model=APP, messages=[{"role": "user", "content": text}])
        answer = reply.choices[0].message.content or ""
        documents = [citation["document"] for citation in (reply.model_extra or {})["citations"]]
        declined.append(float(not documents))
        if row["answer"] is not None:
            f1.append(token_f1(answer, row["answer"]))
            floor_f1.append(token_f1(floor.answer(text), row["answer"]))
            cited.append(float(row["document"] in documents))
    found: dict[str, Any] = {"n": len(pairs), "declined": round(statistics.fmean(declined), 3)}
    if f1:
        found |= {
            "token_f1": round(statistics.fmean(f1), 3),
            "token_f1_interval": interval(f1),
            "floor_token_f1": round(statistics.fmean(floor_f1), 3),
            "floor_token_f1_interval": interval(floor_f1),
            "right_document_cited": round(statistics.fmean(cited), 3),
        }
    return found


if __name__ == "__main__":
    main()
