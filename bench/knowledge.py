"""Searching passages by vectors and words at size: our engines, LanceDB and Chroma, in one run over the same data.

Clustered vectors of 384 numbers, documents of ten passages, filters of 1 %, 10 % and 50 % of the documents. Every
engine is built and searched in a process of its own; recall is against a scan. Build times of ours include the index
of words and every check sum; peers hold vectors and one number a row. Peers are installed from their package registry
into a throw-away folder (PEERS_FOLDER keeps it between runs).

    python bench/knowledge.py [--rows 100000] [--engines exact usearch lancedb chroma] [--keep FOLDER]
    python bench/knowledge.py --rows 1000000      needs 4 GB of memory and of disk an engine, and an hour or two
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.knowledge_peers import SHARES, WARM, Corpus, K, disk_mb, measure, memory_mb
from bench.record import record_result

from penstock.knowledge.index.build import build_index
from penstock.knowledge.index.generation import OpenIndex, open_index
from penstock.knowledge.index.types import IndexDocument, IndexRow, Place
from penstock.knowledge.index.verify import verify_index
from penstock.knowledge.retrieval.pipeline import Searcher
from penstock.knowledge.retrieval.types import PassageRow
from penstock.spec.knowledge import ChosenScope, Condition, IndexRecipe, Properties, SearchRecipe

DIMS = 384
PER_DOCUMENT = 10
N_QUESTIONS = 500
N_CENTRES = 2000
SPREAD = 0.8
"""Length of a row's own part against its centre's, before it is made to length one."""
ENGINES = {
    "exact": IndexRecipe(kind="exact"),
    "usearch": IndexRecipe(kind="usearch"),
    "usearch-f32": IndexRecipe(kind="usearch", precision="f32"),
    "usearch-f16": IndexRecipe(kind="usearch", precision="f16"),
}
PEERS = {"lancedb": "lancedb", "chroma": "chromadb"}
DEFAULT = ("exact", "usearch", *PEERS)


# -- the corpus


def write_corpus(folder: Path, n_rows: int) -> None:
    """Write vectors, buckets, questions and what a scan finds for them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(N_CENTRES, DIMS)).astype(np.float32)
    matrix = np.lib.format.open_memmap(
        folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(n_rows, DIMS)
    )
    for start in range(0, n_rows, 50_000):
        size = min(50_000, n_rows - start)
        rows = centres[rng.integers(N_CENTRES, size=size)]
        rows = rows + SPREAD * rng.normal(size=(size, DIMS)).astype(np.float32)
        matrix[start : start + size] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    n_documents = -(-n_rows // PER_DOCUMENT)
    buckets = np.repeat(rng.integers(1000, size=n_documents), PER_DOCUMENT)[:n_rows]
    near = matrix[np.sort(rng.choice(n_rows, size=N_QUESTIONS, replace=False))]
    questions = near + 0.5 * rng.normal(size=near.shape) / np.sqrt(DIMS)
    questions = (questions / np.linalg.norm(questions, axis=1, keepdims=True)).astype(np.float32)
    np.save(folder / "buckets.npy", buckets)
    np.save(folder / "questions.npy", questions)
    best: dict[str, list[Any]] = {name: [] for name in SHARES}
    for start in range(0, n_rows, 50_000):
        scores = questions @ matrix[start : start + 50_000].T
        for name, below in SHARES.items():
            masked = np.where(buckets[start : start + 50_000] < below, scores, -2.0)
            size = min(K, masked.shape[1])
            places = np.argpartition(-masked, size - 1, axis=1)[:, :size]
            best[name].append((places + start, np.take_along_axis(masked, places, axis=1)))
    for name, parts in best.items():
        rows, scores = (np.concatenate([part[side] for part in parts], axis=1) for side in (0, 1))
        order = np.argsort(-scores, axis=1)[:, :K]
        np.save(folder / f"truth-{name}.npy", np.take_along_axis(rows, order, axis=1))
    matrix.flush()


class Texts:
    """Passages of 80 words whose frequencies fall as those of a language do."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        share = 1.0 / np.arange(1, 60_001)
        ranks = rng.choice(np.arange(1, 60_001), size=500_000, p=share / share.sum())
        self._words = [f"w{rank}" for rank in ranks.tolist()]

    def passage(self, number: int) -> str:
        """Return the text of a row."""
        start = random.Random(number).randrange(len(self._words) - 80)
        return " ".join(self._words[start : start + 80])

    def question(self, number: int) -> str:
        """Return six words of a passage, none of the hundred that a language uses all the time."""
        words = [word for word in self.passage(number * 37).split() if int(word[1:]) > 100]
        return " ".join(random.Random(number).sample(words, min(6, len(words))))


# -- our own parts, each in a process of its own


def build_own(engine: str, corpus: Corpus) -> dict[str, Any]:
    """Build, build again with one document in a hundred changed, and verify."""
    texts, n_rows = Texts(), len(corpus.vectors)

    def rows(changed: int) -> Iterator[IndexRow]:
        for number in range(n_rows):
            document, version = number // PER_DOCUMENT, 0
            if changed and document % changed == 0:
                version = 1
            yield IndexRow(
                place=(f"doc_{document:08d}_{version}", number % PER_DOCUMENT),
                title="",
                section="",
                text=texts.passage(number),
                embed_digest=str(number),
            )

    def documents(changed: int) -> Iterator[IndexDocument]:
        for document in range(-(-n_rows // PER_DOCUMENT)):
            version = int(bool(changed) and document % changed == 0)
            bucket = int(corpus.buckets[document * PER_DOCUMENT])
            yield IndexDocument(
                id=f"doc_{document:08d}_{version}",
                path=f"{document:08d}.md",
                properties=Properties(values={"bucket": bucket}),
            )

    def find_vectors(digests: Sequence[str]) -> dict[str, bytes]:
        numbers = [int(digest) for digest in digests]
        return {
            str(number): row.tobytes() for number, row in zip(numbers, corpus.vectors[numbers], strict=True)
        }

    def build(name: str, changed: int, previous: Path | None) -> float:
        begun = time.perf_counter()
        build_index(
            corpus.folder / name,
            rows(changed),
            embedder="bench",
            find_vectors=find_vectors,
            recipe=ENGINES[engine],
            documents=documents(changed),
            n_rows=n_rows,
            previous=previous,
        )
        return round(time.perf_counter() - begun, 1)

    folder = corpus.folder / f"index-{engine}"
    figures = {"build_s": build(folder.name, 0, None), "disk_mb": disk_mb(folder), **memory_mb()}
    figures["changed_1_percent_s"] = build(f"{folder.name}-again", 100, folder)
    shutil.rmtree(corpus.folder / f"{folder.name}-again")
    begun = time.perf_counter()
    findings = verify_index(folder)
    figures["verify_s"] = round(time.perf_counter() - begun, 1)
    figures["verify"] = {each.check: each.state for each in findings}
    return figures


def search_own(engine: str, corpus: Corpus) -> dict[str, Any]:
    """Measure the vectors alone, the words alone, and the whole search."""
    begun = time.perf_counter()
    index = open_index(corpus.folder / f"index-{engine}")
    index.dense.search(corpus.questions[0], K)
    figures: dict[str, Any] = {"first_answer_ms": round((time.perf_counter() - begun) * 1000, 1)}
    document_buckets = corpus.buckets[::PER_DOCUMENT]
    chosen = {below: index.select(document_buckets < below) for below in SHARES.values() if below < 1000}

    def ask(question: np.ndarray, below: int | None) -> list[int]:
        found: list[int] = index.dense.search(question, K, chosen[below] if below else None)[0].tolist()
        return found

    figures |= {**measure(corpus, ask), **memory_mb()}
    texts = Texts()
    questions = [texts.question(number) for number in range(200)]
    figures["words"] = percentiles(lambda number: index.lexical.search(questions[number % 200], limit=100))
    figures["whole"] = percentiles(make_search(index, corpus, questions, ChosenScope()))
    half = ChosenScope(conditions=[Condition(op="lt", field="bucket", value=500)])
    figures["whole_half"] = percentiles(make_search(index, corpus, questions, half))
    figures["memory_after"] = memory_mb()
    return figures


class StoredPassage:
    """Stands for a row of the control tables, which are not part of this."""

    section = anchor = parent_start = parent_end = title = None
    path, text, start_char, end_char, n_tokens = "a.md", "passage", 0, 7, 1

    def __init__(self, place: Place) -> None:
        self.id = f"{place[0]}/{place[1]}"
        self.document_id, self.position = place


def make_search(index: OpenIndex, corpus: Corpus, questions: Sequence[str], scope: ChosenScope) -> Any:
    """Return a search as a base does it, but for embedding the question and reading passages from tables."""
    searcher = Searcher()

    def load(places: Sequence[Place]) -> Mapping[Place, PassageRow]:
        return {place: cast("PassageRow", StoredPassage(place)) for place in places}

    def search(number: int) -> None:
        searcher.search(
            index,
            questions[number % len(questions)],
            recipe=SearchRecipe(dense_weight=0.7),
            scope=scope,
            k=K,
            embed_query=lambda _: (corpus.questions[number], None),
            load_passages=load,
            rerankers={},
            now_ns=0,
        )

    return search


def percentiles(ask: Any) -> dict[str, float]:
    """Return the median and 99th percentile of 200 askings."""
    times = []
    for number in range(-WARM, 200):
        begun = time.perf_counter()
        ask(number % 200)
        if number >= 0:
            times.append((time.perf_counter() - begun) * 1000)
    return {f"p{share}_ms": round(float(np.percentile(times, share)), 2) for share in (50, 99)}


# -- the run


def install_peers(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Install the peers below `folder` where they are not; return their interpreters."""
    pythons = {}
    for name in names:
        python = folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
            install = [str(python), "-m", "pip", "install", "--quiet", PEERS[name]]
            subprocess.run(install, check=True, stdout=sys.stderr)
        pythons[name] = python
    return pythons


def run_part(python: Path | str, script: str, *arguments: str) -> dict[str, Any]:
    """Run a part in a process of its own and return what it printed, or its error."""
    command = [str(python), str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {
            "error": done.stderr.strip().splitlines()[-1]
            if done.stderr.strip()
            else f"exit {done.returncode}"
        }
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--engines", nargs="+", default=list(DEFAULT), choices=[*ENGINES, *PEERS])
    parser.add_argument(
        "--keep", type=Path, help="leave corpus and indexes in this folder, and use what is there"
    )
    options = parser.parse_args()
    peers_folder = os.environ.get("PEERS_FOLDER")
    work = options.keep or Path(tempfile.mkdtemp(prefix="penstock-knowledge-"))
    peers = Path(peers_folder) if peers_folder else work / "peers"
    try:
        folder = work / f"corpus-{options.rows}"
        if not (folder / "truth-hundredth.npy").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_corpus(folder, options.rows)
        pythons = install_peers(peers, [name for name in options.engines if name in PEERS])
        results: dict[str, Any] = {"rows": options.rows, "dims": DIMS, "questions": N_QUESTIONS}
        for engine in options.engines:
            shutil.rmtree(folder / f"index-{engine}", ignore_errors=True)
            figures = {}
            for part in ("build", "search"):
                begun = time.perf_counter()
                if engine in PEERS:
                    figures[part] = run_part(pythons[engine], "knowledge_peers.py", engine, part, str(folder))
                else:
                    figures[part] = run_part(
                        sys.executable, "knowledge.py", "part", engine, part, str(folder)
                    )
                print(f"{engine} {part}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
            results[engine] = figures
            if options.keep is None:
                shutil.rmtree(folder / f"index-{engine}", ignore_errors=True)
        show = "from importlib.metadata import version; print(version(%r))"
        results["peers"] = {
            name: subprocess.check_output([str(python), "-c", show % PEERS[name]], text=True).strip()
            for name, python in pythons.items()
        }
    finally:
        if options.keep is None:
            shutil.rmtree(work, ignore_errors=True)
    sys.argv = [part if "/" not in part else Path(part).name for part in sys.argv]
    sys.argv[0] = "bench/knowledge.py"
    record_result("knowledge", results, packages=("numpy", "usearch", "numkong"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["part"]:
        _, _, own_engine, own_part, own_folder = sys.argv
        run = build_own if own_part == "build" else search_own
        print(json.dumps(run(own_engine, Corpus(Path(own_folder)))))
    else:
        main()
