"""Reads multiple-choice questions as MMLU ships them: CSV without a header, or CSV and JSONL with named columns, one file a subject.

Each question becomes a case whose turns are the few-shot examples of its own subject and the question; the subject is a slice. The
answer is the letter, read from wherever the reply says it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.evals.importers.documents import Folder
from penstock.evals.importers.errors import ImportUnreadable
from penstock.evals.importers.types import UNSET_MODEL, Imported, ImportOptions, slug
from penstock.spec.cases import Case
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, TargetSpec

LETTERS = "ABCDEFGHIJ"
EXTRACT = (
    r"(?m)(?:(?i:\b(?:answer|option|choice)(?:\s+is)?)\s*:?\s*[\(\[*]{0,3}"  # Answer: B, option (B)
    r"|(?i:\banswer(?:\s+is)?)\s*:?[^\n.(]{0,80}\("  # the answer is: Paris (B)
    r"|\\boxed\{|^\s*[\(\[*]{0,3})"
    r"([A-J]|[a-j][)\].:*]*\s*\z)"
    r"(?:[)\].:,;*}]|\s*$|\s+(?:because|since|as|is (?:right|correct))\b)"
)
"""The last letter that stands alone or with a mark behind it, at the beginning of a line or after "answer": `B`, `(B)`, `**B.**`,
`The answer is B.`; small ones only at the end of a reply. A word such as "A" or "I" before other words is no letter."""
INSTRUCTION = "Answer with the letter of the right choice alone."
_ENDINGS = {
    "_test": "test",
    "_dev": "dev",
    "_val": "validation",
    "_validation": "validation",
    "_train": "train",
}
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
Question = tuple[str, list[str], str, str]
"""Question, choices, letter of the right one, subject."""


def import_multiple_choice(path: Path, options: ImportOptions) -> Imported:
    """Return the questions of a file or a folder as one dataset and one evaluation.

    Files whose name ends on `_dev` are few-shot examples. Raises `ImportUnreadable` with file and line.
    """
    folder = Folder(path if path.is_dir() else path.parent)
    files, outside = folder.list_files(path, _SUFFIXES)
    if not files:
        raise ImportUnreadable(f"There is no {', '.join(_SUFFIXES)} file in {path.name}.")
    found = Imported(source="multiple choice")
    for name in outside:
        found.note("left out", name, "it lies outside the folder and is not read")
    examples: dict[str, list[Question]] = {}
    questions: list[tuple[str, str, Question]] = []
    for file in files:
        subject, split = _subject_of(file)
        for number, question in _read(folder, file, subject, found):
            where = f"{folder.name(file)}:{number}"
            if split == "dev":
                examples.setdefault(question[3], []).append(question)
            else:
                questions.append((where, split, question))
    if not questions:
        raise ImportUnreadable("There are only few-shot examples (`_dev`), and no questions.")
    name = slug(path.stem if path.is_file() else path.name)
    lacking = sorted({question[3] for *_, question in questions} - set(examples)) if options.shots else []
    if lacking:
        found.note(
            "changed", path.name, f"no examples (`_dev` files) for {', '.join(lacking[:10])}: asked without"
        )
    found.datasets[name] = [
        _case(where, split, question, examples.get(question[3], [])[: options.shots])
        for where, split, question in questions
    ]
    found.note("assumed", path.name, f"the system turn says: {INSTRUCTION}")
    if options.model is None:
        found.note(
            "to do",
            f"{name}.eval.toml",
            "name the route that answers as target.model (or import with --model)",
        )
    found.evaluations[name] = EvaluationSpec(
        name=name,
        target=TargetSpec(
            model=options.model or UNSET_MODEL, parameters={"temperature": 0, "max_tokens": 16}
        ),
        file=name,
        scorers=[
            ScorerSpec(
                scorer="accuracy",
                parameters={
                    "labels": list(LETTERS[: max(len(question[1]) for *_, question in questions)]),
                    "extract": EXTRACT,
                },
            )
        ],
        slices=["subject"],
    )
    return found


def _subject_of(file: Path) -> tuple[str, str]:
    stem = file.name.split(".")[0]
    for ending, split in _ENDINGS.items():
        if stem.endswith(ending):
            return stem.removesuffix(ending), split
    return stem, file.parent.name if file.parent.name in {"dev", "test", "train"} else "test"


def _read(folder: Folder, file: Path, subject: str, found: Imported) -> Iterator[tuple[int, Question]]:
    rows: Iterator[tuple[int, Any]]
    if file.suffix in {".csv", ".tsv"}:
        rows = _table_rows(folder.table(file), folder.name(file))
    else:
        rows = folder.json_lines(file)
    for number, row in rows:
        where = f"{folder.name(file)}:{number}"
        question = _question(row, subject)
        if question is None:
            found.note("left out", where, "no question with choices and a right answer among them")
        else:
            yield number, question


def _table_rows(table: Sequence[list[str]], where: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not table:
        raise ImportUnreadable(f"{where} is empty.")
    header = [cell.strip().lower() for cell in table[0]]
    if "question" in header and "answer" in header:
        for number, row in enumerate(table[1:], 2):
            yield number, dict(zip(header, row, strict=False))
        return
    for number, row in enumerate(table, 1):
        yield number, {"question": row[0], "choices": row[1:-1], "answer": row[-1]}


def _question(row: Any, subject: str) -> Question | None:
    if not isinstance(row, Mapping) or not isinstance(row.get("question"), str):
        return None
    choices = row.get("choices", row.get("options"))
    if isinstance(choices, Mapping):
        choices = choices.get("text", list(choices.values()))
    if not isinstance(choices, list):
        keys = [key for letter in LETTERS for key in (letter, letter.lower()) if key in row]
        choices = [row[key] for key in keys]
    texts = [str(choice) for choice in choices]
    if not 2 <= len(texts) <= len(LETTERS):
        return None
    letter = _letter(row.get("answer", row.get("answerKey", row.get("answer_index"))), texts)
    return None if letter is None else (row["question"], texts, letter, str(row.get("subject") or subject))


def _letter(answer: Any, choices: Sequence[str]) -> str | None:
    if isinstance(answer, int) and not isinstance(answer, bool):
        return LETTERS[answer] if 0 <= answer < len(choices) else None
    text = str(answer).strip()
    if len(text) == 1 and text.upper() in LETTERS[: len(choices)]:
        return text.upper()
    if text in choices:
        return LETTERS[choices.index(text)]
    return LETTERS[int(text)] if text.isdecimal() and int(text) < len(choices) else None


def _ask(question: Question) -> str:
    listed = "\n".join(f"{LETTERS[at]}. {choice}" for at, choice in enumerate(question[1]))
    return f"{question[0].strip()}\n{listed}\nAnswer:"


def _case(where: str, split: str, question: Question, examples: Sequence[Question]) -> Case:
    messages: list[dict[str, Any]] = [{"role": "system", "content": INSTRUCTION}]
    for example in examples:
        messages += [
            {"role": "user", "content": _ask(example)},
            {"role": "assistant", "content": example[2]},
        ]
    messages.append({"role": "user", "content": _ask(question)})
    return Case(
        id=where, messages=messages, expected=question[2], split=split, metadata={"subject": question[3]}
    )
