"""What an import gives: rows, prompts, evaluations, gates, and a report of everything that is not the same afterwards."""

from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.spec.cases import Case
from penstock.spec.evaluations import EvaluationSpec
from penstock.spec.prompts import PromptContent

NoteKind = Literal["left out", "changed", "assumed", "to do"]
"""`left out`: not carried over. `changed`: carried over, but it may judge otherwise. `assumed`: the format leaves it open, or we
had to guess. `to do`: works once a person has set something."""
UNSET_MODEL = "set-the-model"
"""Stands where a route must be named and nobody said which."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """One thing that is not the same afterwards."""

    kind: NoteKind
    where: str
    """File and line, or file and field: `promptfooconfig.yaml:17`, `evals/math.yaml: args.few_shot_jsonl`."""
    what: str


@dataclass(frozen=True, kw_only=True)
class GateDraft:
    """A gate file to be."""

    evaluation: str
    """Name of the evaluation it judges."""
    rules: list[str]


@dataclass(kw_only=True)
class Imported:
    """What was read, growing while it is read. Names are unique within their kind."""

    source: str
    """What it was read as: `promptfoo`, `OpenAI Evals registry`, …"""
    datasets: dict[str, list[Case]] = field(default_factory=dict)
    prompts: dict[str, PromptContent] = field(default_factory=dict)
    evaluations: dict[str, EvaluationSpec] = field(default_factory=dict)
    """`file` is the name of a dataset above; whoever writes the files makes a path of it."""
    gates: dict[str, GateDraft] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def note(self, kind: NoteKind, where: str, what: str) -> None:
        """Add a line to the report; the same line twice counts once."""
        note = Note(kind=kind, where=where, what=what)
        if note not in self.notes:
            self.notes.append(note)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the files do not say."""

    model: str | None = None
    """The route that answers; None: what the files name."""
    judge: str | None = None
    """The route that judges."""
    shots: int = 5
    """Few-shot examples before each multiple-choice question."""

    @property
    def judge_model(self) -> str:
        """The judge's route, or the word that stands for a missing one."""
        return self.judge or UNSET_MODEL


def slug(text: str, *, taken: Any = ()) -> str:
    """Return a name as assets have it (lower case, digits, dash), unlike those in `taken`."""
    kept = "".join(char if char.isascii() and char.isalnum() else "-" for char in text.lower())
    base = "-".join(part for part in kept.split("-") if part)[:60].strip("-") or "imported"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name
