"""The questions of the handbook that ships with Penstock, as cases: with the passage that answers each and its document;
those of held-out articles with sentences among which the answer stands, for comparing prompts of the embedded model; and,
in every wording and with the reply that is wanted, those for tuning it and for proving what came of that.

What is learned about one article says something about its other questions too, so the document is the group.
"""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import msgspec

from penstock.datasets.handbook_cases import HELD_OUT, TUNING, write_cases

QUESTIONS = "handbook:questions"
CASES = "handbook:cases"
TUNING_CASES = "handbook:tuning"
PROOF_CASES = "handbook:held-out"
HANDBOOK = (QUESTIONS, CASES, TUNING_CASES, PROOF_CASES)
_DRAWN = {TUNING_CASES: TUNING, PROOF_CASES: HELD_OUT}
_HEADING = re.compile(r"^#{1,6}\s+(.*)$")


def write_handbook(folder: Path, which: str = QUESTIONS) -> Path:
    """Write one of `HANDBOOK` as JSON lines of format `cases` into `folder` and return the file."""
    data = files("penstock") / "data" / "handbook"
    if which == CASES:
        cases = folder / "held_out_cases.jsonl"
        cases.write_bytes((data / "held_out_cases.jsonl").read_bytes())
        return cases
    if which in _DRAWN:
        return write_cases(data, folder, _DRAWN[which])
    return _write_questions(data, folder)


def _write_questions(data: Traversable, folder: Path) -> Path:
    sections: dict[str, dict[str, str]] = {}
    target = folder / "questions.jsonl"
    with target.open("wb") as writing:
        for line in (data / "questions.jsonl").read_bytes().splitlines():
            question = msgspec.json.decode(line)
            document, section = question["document"], question["section"]
            if document not in sections:
                sections[document] = _read_sections(data / "articles" / document)
            text = sections[document].get(section)
            row = {
                "id": question["id"],
                "input": question["question"],
                "expected": question["answer"],
                "relevant": [document],
                "group": document,
                "split": question.get("split"),
                "metadata": {"section": section, "alternatives": question.get("alternatives", [])},
            }
            if text:
                row["passages"] = [{"text": text, "id": f"{document}#{section}", "document": document}]
            writing.write(msgspec.json.encode(row) + b"\n")
    return target


def _read_sections(article: Traversable) -> dict[str, str]:
    """Return heading to text of an article in Markdown; nothing for other forms."""
    if not article.name.endswith(".md") or not article.is_file():
        return {}
    found: dict[str, list[str]] = {}
    heading = ""
    for line in article.read_text(encoding="utf-8").splitlines():
        match = _HEADING.match(line)
        if match:
            heading = match[1].strip()
        else:
            found.setdefault(heading, []).append(line)
    return {name: "\n".join(lines).strip() for name, lines in found.items()}
