"""Other tools' evaluations as files of a folder: rows, prompts, evaluations, gates and a report; and, when asked, in the running home.

NAME.jsonl  NAME.prompt  NAME.eval.toml  NAME.gate.toml  REPORT.md
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from penstock.base.errors import InvalidInput
from penstock.base.files import write_atomic
from penstock.datasets.cases import case_to_row
from penstock.evals.importers.errors import ImportUnreadable
from penstock.evals.importers.multiple_choice import import_multiple_choice
from penstock.evals.importers.openai_hosted import import_hosted
from penstock.evals.importers.openai_registry import import_registry, is_registry
from penstock.evals.importers.promptfoo import import_promptfoo
from penstock.evals.importers.types import Imported, ImportOptions, NoteKind
from penstock.prompts.files import write_prompt
from penstock.prompts.toml_text import can_be_toml, toml_lines
from penstock.spec.cases import Case
from penstock.spec.evaluations import EvaluationSpec

ImportFormat = Literal["openai", "promptfoo", "multiple-choice"]
REPORT = "REPORT.md"
_HEADINGS: tuple[tuple[NoteKind, str], ...] = (
    ("to do", "To do before it runs"),
    ("left out", "Left out"),
    ("changed", "Carried over, but may judge otherwise"),
    ("assumed", "Assumed"),
)


@dataclass(frozen=True, kw_only=True)
class WrittenImport:
    """What an import left in its folder."""

    folder: str
    datasets: dict[str, int]
    """Name to number of cases."""
    prompts: list[str]
    evaluations: list[str]
    gates: list[str]
    notes: dict[str, int]
    """Kind to number of lines of the report."""
    report: str
    applied: list[str]
    """What was made in the running home: `dataset:NAME@1`, `prompt:NAME@1`."""


def read_foreign(form: ImportFormat, path: Path, options: ImportOptions) -> Imported:
    """Return what the file or folder holds; raise `ImportUnreadable`, `ImportTooLarge`."""
    if not path.exists():
        raise ImportUnreadable(f"There is nothing at {path}.")
    if form == "promptfoo":
        return import_promptfoo(path, options)
    if form == "multiple-choice":
        return import_multiple_choice(path, options)
    return import_registry(path, options) if is_registry(path) else import_hosted(path, options)


def write_import(
    imported: Imported,
    out: Path,
    *,
    replace: bool = False,
    apply: "Callable[[str, str, Path], str] | None" = None,
) -> WrittenImport:
    """Write everything into `out` and return what was written.

    `apply(kind, name, file)` makes a dataset or prompt of a file in a running home and returns its reference; evaluations then
    name the dataset's version instead of the file. Raises `InvalidInput` when a file is there already and may not be replaced.
    """
    if apply is None and imported.prompts:
        imported.note(
            "to do",
            f"{next(iter(imported.prompts))}.prompt",
            "the evaluations name prompts by prompt:NAME@latest: make them with `penstock prompt import`, or import with --apply",
        )
    files: dict[str, str] = {REPORT: write_report(imported)}
    for name, cases in imported.datasets.items():
        files[f"{name}.jsonl"] = "".join(_lines(cases))
    for name, prompt in imported.prompts.items():
        files[f"{name}.prompt"] = write_prompt(prompt)
    places = {name: _evaluation_file(spec) for name, spec in imported.evaluations.items()}
    for name, gate in imported.gates.items():
        body = {"name": name, "evaluation": places[gate.evaluation], "rules": gate.rules}
        files[f"{name}.gate.toml"] = _toml(body)
    names = [*files, *places.values()]
    taken = [name for name in names if (out / name).exists()]
    if taken and not replace:
        raise InvalidInput(
            f"{out} holds {taken[0]} already.", hint="Name another folder, or say --replace to write over it."
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomic(out / name, text.encode())
    applied: dict[str, str] = {}
    if apply is not None:
        for name in imported.prompts:
            applied[f"prompt:{name}"] = apply("prompt", name, out / f"{name}.prompt")
        for name in imported.datasets:
            applied[name] = apply("dataset", name, out / f"{name}.jsonl")
    for name, spec in imported.evaluations.items():
        write_atomic(out / places[name], _evaluation_text(spec, applied).encode())
    return WrittenImport(
        folder=str(out),
        datasets={name: len(cases) for name, cases in imported.datasets.items()},
        prompts=sorted(imported.prompts),
        evaluations=sorted(imported.evaluations),
        gates=sorted(imported.gates),
        notes=dict(Counter(note.kind for note in imported.notes)),
        report=str(out / REPORT),
        applied=list(applied.values()),
    )


def _lines(cases: list[Case]) -> Iterator[str]:
    for case in cases:
        row = msgspec.to_builtins(case_to_row(case))
        fields = row.pop("fields")
        yield json.dumps({"id": row.pop("id"), **fields, **row}, ensure_ascii=False) + "\n"


def _evaluation_file(spec: EvaluationSpec) -> str:
    """Return the file's name: JSON where it says null, which TOML has not (a choice of a judge that is worth nothing)."""
    return f"{spec.name}.eval.{'toml' if can_be_toml(msgspec.to_builtins(spec)) else 'json'}"


def _evaluation_text(spec: EvaluationSpec, applied: Mapping[str, str]) -> str:
    members: dict[str, Any] = msgspec.to_builtins(spec)
    file = members.pop("file", None)
    if file in applied:
        members["dataset"] = applied[file]
    elif file is not None:
        members["file"] = f"{file}.jsonl"
    order = ("name", "dataset", "file", "target", "repeats", "slices", "concurrency")
    ordered = {key: members[key] for key in order if key in members}
    ordered |= {key: value for key, value in members.items() if key not in ordered and key != "scorers"}
    if not can_be_toml(members):
        return json.dumps({**ordered, "scorers": members["scorers"]}, ensure_ascii=False, indent=2) + "\n"
    return _toml(ordered) + "".join(
        f"\n[[scorers]]\n{_scorer_toml(each)}" for each in members.get("scorers", [])
    )


def _toml(values: Mapping[str, Any]) -> str:
    return "\n".join(toml_lines(values)).strip("\n") + "\n"


def _scorer_toml(scorer: Mapping[str, Any]) -> str:
    """Return the members of one scorer; its parameters stand as `parameters.NAME`, below which tables go on one line."""
    parts = [_toml({key: value for key, value in scorer.items() if key != "parameters"})]
    for name, value in scorer.get("parameters", {}).items():
        (line,) = toml_lines({"v": [value]})
        parts.append(f"parameters.{_key(name)} = {line.removeprefix('v = [').removesuffix(']')}\n")
    return "".join(parts)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)


def write_report(imported: Imported) -> str:
    """Return the report as Markdown: what was read, and line by line what is not the same afterwards."""
    n_cases = sum(map(len, imported.datasets.values()))
    lines = [
        f"# Import of {imported.source}",
        "",
        ", ".join(
            (
                f"{len(imported.datasets)} datasets with {n_cases} cases",
                f"{len(imported.prompts)} prompts",
                f"{len(imported.evaluations)} evaluations",
                f"{len(imported.gates)} gates.",
            )
        ),
    ]
    for kind, heading in _HEADINGS:
        notes = [note for note in imported.notes if note.kind == kind]
        if notes:
            lines += ["", f"## {heading} ({len(notes)})", ""]
            lines += [f"- `{_plain(note.where)}`: {_plain(note.what)}" for note in notes]
    if not imported.notes:
        lines += ["", "Everything was carried over."]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("`", "'").replace("<", "‹")
