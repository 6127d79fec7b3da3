"""Parsing: documents and megabytes a second for each format, and what a folder of mixed documents takes of memory.

Each format is parsed in this process first (one processor, no copying), then the whole corpus through the pool as
an ingest does it, while the memory of this process and of all that parse is summed every 20 ms. The floor is reading
the same bytes and decoding them as text.

    python bench/parsing.py [--megabytes 60] [--processes 2] [--no-record]
"""

import argparse
import contextlib
import io
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import docx
import fpdf
import pptx
import xlsxwriter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.record import record_result

from penstock.knowledge.parse import ParserPool, parse_document
from penstock.knowledge.types import ParsedDocument

WORDS = [
    "sleep",
    "bread",
    "water",
    "light",
    "morning",
    "evening",
    "salt",
    "walk",
    "slow",
    "breath",
    "rest",
    "child",
    "garden",
    "winter",
    "summer",
    "heart",
    "blood",
    "clean",
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "was",
    "on",
    "are",
    "as",
    "with",
    "be",
    "by",
    "this",
    "from",
    "or",
    "at",
    "which",
    "not",
    "have",
    "has",
    "were",
    "but",
]
SAMPLE_EVERY_S = 0.02
LIMIT_MB = 1024
PLAIN_MB_EACH = 2.0
"""Size of the text files that fill a corpus up."""


def sentences(chance: random.Random, n: int) -> str:
    """Return so many sentences."""
    return " ".join(
        " ".join(chance.choices(WORDS, k=chance.randint(6, 18))).capitalize() + "." for _ in range(n)
    )


def make_pdf(chance: random.Random) -> bytes:
    """Ten pages."""
    pdf = fpdf.FPDF()
    for page in range(10):
        pdf.add_page()
        pdf.set_font("helvetica", size=16)
        pdf.multi_cell(0, 10, f"Chapter {page}", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("helvetica", size=10)
        for _ in range(4):
            pdf.multi_cell(0, 5, sentences(chance, 8), new_x="LMARGIN", new_y="NEXT")
            pdf.ln(3)
    return bytes(pdf.output())


def make_docx(chance: random.Random) -> bytes:
    """About twenty pages."""
    document = docx.Document()
    for chapter in range(20):
        document.add_heading(f"Chapter {chapter}", 1)
        for _ in range(6):
            document.add_paragraph(sentences(chance, 8))
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def make_pptx(chance: random.Random) -> bytes:
    """Twenty slides."""
    show = pptx.Presentation()
    for number in range(20):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = f"Slide {number}"
        slide.placeholders[1].text_frame.text = "\n".join(sentences(chance, 1) for _ in range(5))
    buffer = io.BytesIO()
    show.save(buffer)
    return buffer.getvalue()


def make_xlsx(chance: random.Random) -> bytes:
    """Two thousand rows of eight cells."""
    buffer = io.BytesIO()
    workbook = xlsxwriter.Workbook(buffer, {"in_memory": True})
    sheet = workbook.add_worksheet()
    sheet.write_row(0, 0, [f"column {number}" for number in range(8)])
    for row in range(2000):
        sheet.write_row(row + 1, 0, [chance.choice(WORDS), chance.random(), row, *chance.choices(WORDS, k=5)])
    workbook.close()
    return buffer.getvalue()


def make_html(chance: random.Random) -> bytes:
    """A page of 100 kB with menus around it."""
    menu = "<nav><ul>" + "".join(f"<li><a href='/{n}'>Menu {n}</a></li>" for n in range(40)) + "</ul></nav>"
    body = "".join(
        f"<h2 id='c{n}'>Chapter {n}</h2><p>{sentences(chance, 10)}</p><ul><li>{sentences(chance, 1)}</li></ul>"
        for n in range(100)
    )
    return f"<!doctype html><html lang=en><body>{menu}<main><h1>Page</h1>{body}</main></body></html>".encode()


def make_markdown(chance: random.Random) -> bytes:
    """An article of 100 kB."""
    return "\n\n".join(
        f"## Chapter {n}\n\n{sentences(chance, 10)}\n\n- {sentences(chance, 1)}\n- {sentences(chance, 1)}"
        for n in range(100)
    ).encode()


def make_csv(chance: random.Random) -> bytes:
    """Two thousand rows of eight cells."""
    rows = [",".join(f"column {n}" for n in range(8))]
    rows += [",".join([str(row), *chance.choices(WORDS, k=7)]) for row in range(2000)]
    return "\n".join(rows).encode()


def make_mail(chance: random.Random) -> bytes:
    """A mail with a text attached."""
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "ada@example.org", "News"
    mail.set_content(sentences(chance, 30))
    mail.add_attachment(
        sentences(chance, 200).encode(), maintype="text", subtype="plain", filename="more.txt"
    )
    return bytes(mail)


def make_json(chance: random.Random) -> bytes:
    """A thousand records."""
    import json

    return json.dumps(
        [{"id": n, "title": f"T{n}", "text": sentences(chance, 4)} for n in range(1000)]
    ).encode()


def make_text(chance: random.Random) -> bytes:
    """Plain text of two megabytes."""
    block = "\n\n".join(sentences(chance, 12) for _ in range(150))
    return (block * (int(PLAIN_MB_EACH * 1e6) // len(block) + 1)).encode()


FORMATS: dict[str, tuple[Callable[[random.Random], bytes], int]] = {
    "pdf": (make_pdf, 8),
    "docx": (make_docx, 8),
    "pptx": (make_pptx, 6),
    "xlsx": (make_xlsx, 4),
    "html": (make_html, 12),
    "md": (make_markdown, 12),
    "csv": (make_csv, 8),
    "eml": (make_mail, 30),
    "json": (make_json, 4),
    "txt": (make_text, 4),
}


def measure_format(suffix: str, documents: list[bytes]) -> dict[str, float]:
    """Return rates of one format in this process; the best of three rounds."""
    size = sum(len(each) for each in documents)
    parse_document(f"warm.{suffix}", documents[0])
    best = min(_time_round(suffix, documents) for _ in range(3))
    started = time.perf_counter()
    for each in documents:
        each.decode("utf-8", "replace").split()
    floor = time.perf_counter() - started
    chars = sum(parse_document(f"x.{suffix}", each).n_chars for each in documents)
    return {
        "documents_per_s": len(documents) / best,
        "mb_per_s": size / best / 1e6,
        "text_mb_per_s": chars / best / 1e6,
        "floor_mb_per_s": size / floor / 1e6,
    }


def _time_round(suffix: str, documents: list[bytes]) -> float:
    started = time.process_time()
    for number, each in enumerate(documents):
        parse_document(f"{number}.{suffix}", each)
    return time.process_time() - started


def write_corpus(folder: Path, megabytes: float, samples: dict[str, list[bytes]]) -> int:
    """Fill a folder with copies of the samples, each format an equal share of bytes; return the bytes."""
    share = megabytes * 1e6 / len(samples)
    total = 0
    for suffix, documents in samples.items():
        written = number = 0
        while written < share:
            data = documents[number % len(documents)]
            (folder / f"{number:06d}.{suffix}").write_bytes(data)
            written += len(data)
            number += 1
        total += written
    return total


class MemoryWatch:
    """Sums the resident memory of this process and its children while a block runs."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.peak_mb = max(self.peak_mb, sum(_resident_mb(pid) for pid in ["self", *_children()]))


def _children() -> list[str]:
    found: list[str] = []
    for tasks in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ended since
            found += (tasks / "children").read_text().split()
    return found


def _resident_mb(pid: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it ended since
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def measure_folder(folder: Path, size: int, processes: int) -> dict[str, float]:
    """Return the rate and the memory of parsing a folder through the pool, results dropped as they come."""

    def items() -> Iterator[tuple[str, Callable[[], bytes]]]:
        for path in sorted(folder.iterdir()):
            yield path.name, path.read_bytes

    n = n_failed = 0
    with MemoryWatch() as watch, ParserPool(processes) as pool:
        started = time.perf_counter()
        for _, outcome in pool.parse_all(items()):
            n += 1
            n_failed += not isinstance(outcome, ParsedDocument)
        seconds = time.perf_counter() - started
    return {
        "megabytes": size / 1e6,
        "documents": n,
        "failed": n_failed,
        "seconds": seconds,
        "mb_per_s": size / seconds / 1e6,
        "peak_mb": watch.peak_mb,
    }


def main() -> None:
    """Measure, print and record."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=float, default=60.0)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--no-record", action="store_true")
    chosen = options.parse_args()
    chance = random.Random(7)
    samples = {suffix: [make(chance) for _ in range(n)] for suffix, (make, n) in FORMATS.items()}
    print(f"{'format':8}{'documents/s':>14}{'MB/s':>10}{'text MB/s':>12}{'floor MB/s':>12}")
    formats: dict[str, dict[str, float]] = {}
    for suffix, documents in samples.items():
        found = formats[suffix] = measure_format(suffix, documents)
        print(
            f"{suffix:8}{found['documents_per_s']:14.1f}{found['mb_per_s']:10.2f}{found['text_mb_per_s']:12.2f}"
            f"{found['floor_mb_per_s']:12.0f}"
        )
    with tempfile.TemporaryDirectory() as name:
        size = write_corpus(Path(name), chosen.megabytes, samples)
        folder = measure_folder(Path(name), size, chosen.processes)
    print(
        f"folder: {folder['megabytes']:.0f} MB in {folder['documents']:.0f} documents, {folder['failed']:.0f} failed, "
        f"{folder['seconds']:.1f} s, {folder['mb_per_s']:.2f} MB/s, peak {folder['peak_mb']:.0f} MB "
        f"(bound {LIMIT_MB} MB): {'within' if folder['peak_mb'] < LIMIT_MB else 'OVER'}"
    )
    if not chosen.no_record:
        record_result("parsing", {"formats": formats, "folder": folder})


if __name__ == "__main__":
    main()
