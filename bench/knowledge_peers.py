"""One engine under the same vectors, questions and filters: run by `bench/knowledge.py`, in the engine's own environment.

Knows numpy alone until a peer is asked for, and prints one JSON object. Questions are asked one after the other, as
callers do; the time is that of the library's call, ids included.

    python bench/knowledge_peers.py (lancedb|chroma) (build|search) FOLDER
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K = 10
WARM = 20
SHARES = {"all": 1000, "half": 500, "tenth": 100, "hundredth": 10}
"""Rows whose bucket is below this number, of 1,000 buckets of whole documents."""
Ask = Callable[[np.ndarray, int | None], list[int]]


class Corpus:
    """What `bench/knowledge.py` wrote into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        self.buckets = np.load(folder / "buckets.npy")
        self.questions = np.load(folder / "questions.npy")

    def truth(self, name: str) -> np.ndarray:
        """Return the best rows of every question, by a scan."""
        return np.load(self.folder / f"truth-{name}.npy")


def measure(corpus: Corpus, ask: Ask) -> dict[str, Any]:
    """Return recall at 10 and milliseconds for every filter."""
    figures: dict[str, Any] = {}
    for name, below in SHARES.items():
        truth = corpus.truth(name)
        bound = None if below == 1000 else below
        for question in corpus.questions[:WARM]:
            ask(question, bound)
        times, found, short = [], 0, 0
        for question, best in zip(corpus.questions, truth, strict=True):
            begun = time.perf_counter()
            rows = ask(question, bound)
            times.append((time.perf_counter() - begun) * 1000)
            found += len(set(rows) & set(best.tolist()))
            short += len(rows) < K
        figures[name] = {
            "recall@10": round(found / truth.size, 4),
            "p50_ms": round(float(np.percentile(times, 50)), 2),
            "p99_ms": round(float(np.percentile(times, 99)), 2),
            "n_short": short,
        }
    return figures


def memory_mb() -> dict[str, float]:
    """Return this process's memory: its own, its share of mapped files, and the most it had of both."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    names = {"own": "RssAnon", "mapped": "RssFile", "peak": "VmHWM"}
    return {f"{name}_mb": round(int(fields[field].split()[0]) / 1024, 1) for name, field in names.items()}


def disk_mb(folder: Path) -> float:
    """Return what a folder holds."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


# -- peers


def build_lancedb(corpus: Corpus, folder: Path) -> None:
    """Write a table with an IVF-HNSW index of bytes, as its guide has it for this size, and one of the buckets."""
    import lancedb
    import pyarrow as pa

    n_rows, dims = corpus.vectors.shape
    schema = pa.schema([("id", pa.int64()), ("bucket", pa.int32()), ("vector", pa.list_(pa.float32(), dims))])

    def batches() -> Any:
        for start in range(0, n_rows, 20_000):
            part = np.ascontiguousarray(corpus.vectors[start : start + 20_000])
            yield pa.record_batch(
                [
                    pa.array(np.arange(start, start + len(part))),
                    pa.array(corpus.buckets[start : start + len(part)].astype(np.int32)),
                    pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), dims),
                ],
                schema=schema,
            )

    table = lancedb.connect(str(folder)).create_table("passages", data=batches(), schema=schema)
    table.create_index(
        metric="dot", vector_column_name="vector", index_type="IVF_HNSW_SQ", m=16, ef_construction=128
    )
    table.create_scalar_index("bucket", index_type="BTREE")
    table.optimize()


def open_lancedb(folder: Path) -> Ask:
    """Search with refining, which scores candidates again from the exact vectors."""
    import lancedb

    table = lancedb.connect(str(folder)).open_table("passages")

    def ask(question: np.ndarray, below: int | None) -> list[int]:
        search = table.search(question).distance_type("dot").ef(96).refine_factor(2).limit(K).select(["id"])
        if below is not None:
            search = search.where(f"bucket < {below}", prefilter=True)
        return [int(row) for row in search.to_arrow()["id"].to_pylist()]

    return ask


def build_chroma(corpus: Corpus, folder: Path) -> None:
    """Write a collection with the same graph parameters as ours."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(path=str(folder), settings=Settings(anonymized_telemetry=False))
    hnsw = {"space": "ip", "ef_construction": 128, "max_neighbors": 16, "ef_search": 96}
    collection = client.create_collection("passages", configuration={"hnsw": hnsw}, embedding_function=None)
    for start in range(0, len(corpus.vectors), 5000):
        part = np.ascontiguousarray(corpus.vectors[start : start + 5000])
        numbers = range(start, start + len(part))
        collection.add(
            ids=[str(number) for number in numbers],
            embeddings=part,
            metadatas=[{"bucket": int(corpus.buckets[number])} for number in numbers],
        )


def open_chroma(folder: Path) -> Ask:
    """Search with a `where` on the bucket."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(path=str(folder), settings=Settings(anonymized_telemetry=False))
    collection = client.get_collection("passages", embedding_function=None)

    def ask(question: np.ndarray, below: int | None) -> list[int]:
        where = None if below is None else {"bucket": {"$lt": below}}
        found = collection.query(query_embeddings=[question], n_results=K, where=where, include=[])
        return [int(each) for each in found["ids"][0]]

    return ask


PEERS = {"lancedb": (build_lancedb, open_lancedb), "chroma": (build_chroma, open_chroma)}


def main(peer: str, part: str, corpus_folder: Path) -> dict[str, Any]:
    """Build or search, and return the figures."""
    corpus = Corpus(corpus_folder)
    folder = corpus_folder / f"index-{peer}"
    build, open_ = PEERS[peer]
    begun = time.perf_counter()
    if part == "build":
        build(corpus, folder)
        return {"build_s": round(time.perf_counter() - begun, 1), "disk_mb": disk_mb(folder), **memory_mb()}
    ask = open_(folder)
    ask(corpus.questions[0], None)
    first = round((time.perf_counter() - begun) * 1000, 1)
    return {"first_answer_ms": first, **measure(corpus, ask), **memory_mb()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
