"""A datasheet: what a version of a dataset is made of, from facts alone (after Gebru et al., "Datasheets for Datasets", 2018).

Nothing is written by a model and nothing is guessed beyond what says so: what is not known is said to be unknown. One
function gathers the facts, one writes them as Markdown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.clock import iso_from_ns
from penstock.base.digest import short_digest
from penstock.datasets.cleaning.contamination import ContaminationReport
from penstock.datasets.cleaning.personal import PersonalReport, report_personal
from penstock.datasets.cleaning.profile import Lengths, Profile, profile_rows
from penstock.datasets.types import DatasetVersion
from penstock.spec.datasets import DatasetRow

UNKNOWN = "unknown"


class SharedRows(msgspec.Struct, frozen=True, kw_only=True):
    """What the version has in common with another dataset of the home."""

    ref: str
    n_rows: int
    """Rows of this version that stand in the other one too."""
    example_ids: list[str]


class Ancestor(msgspec.Struct, frozen=True, kw_only=True):
    """A version that this one was made from or that was made from it."""

    label: str
    digest: str
    distance: int


class Datasheet(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one version. None and empty mean unknown or not asked."""

    version: DatasetVersion
    license: str | None
    provenance: dict[str, int]
    """Kind of source to number of rows; rows that do not say count under `unknown`."""
    synthetic: dict[str, int]
    """Model to number of rows that it proposed."""
    question_chars: Lengths
    answer_chars: Lengths
    languages: dict[str, int]
    labels: dict[str, int]
    notes: dict[str, int]
    """Suspicion to number of rows."""
    remarks: list[str]
    personal: dict[str, int]
    """Kind to number of places."""
    n_rows_personal: int
    personal_note: str
    ancestors: list[Ancestor]
    descendants: list[Ancestor]
    shared: list[SharedRows] | None
    """None where other datasets were not compared."""


def make_sheet(
    version: DatasetVersion,
    read: Callable[[], Iterable[DatasetRow]],
    *,
    ancestors: Sequence[Ancestor] = (),
    descendants: Sequence[Ancestor] = (),
    shared: Sequence[tuple[str, ContaminationReport]] | None = None,
) -> Datasheet:
    """Return the sheet of a version; its rows are read three times and never held."""
    profile: Profile = profile_rows(read(), version.facts.format)
    personal: PersonalReport = report_personal(read())
    provenance, synthetic = _count_provenance(read())
    return Datasheet(
        version=version,
        license=version.facts.license,
        provenance=provenance,
        synthetic=synthetic,
        question_chars=profile.question_chars,
        answer_chars=profile.answer_chars,
        languages=profile.languages,
        labels=profile.labels,
        notes={each.kind: each.n_rows for each in profile.notes},
        remarks=list(profile.remarks),
        personal=personal.by_kind(),
        n_rows_personal=personal.n_rows_with,
        personal_note=personal.note,
        ancestors=list(ancestors),
        descendants=list(descendants),
        shared=None
        if shared is None
        else [
            SharedRows(ref=ref, n_rows=len(report.held), example_ids=sorted(report.held)[:10])
            for ref, report in shared
        ],
    )


def _count_provenance(rows: Iterable[DatasetRow]) -> tuple[dict[str, int], dict[str, int]]:
    kinds: dict[str, int] = {}
    models: dict[str, int] = {}
    for row in rows:
        kind = row.provenance.kind if row.provenance else UNKNOWN
        kinds[kind] = kinds.get(kind, 0) + 1
        if row.provenance and kind == "synthetic":
            model = str(row.provenance.detail.get("model") or row.provenance.source or UNKNOWN)
            models[model] = models.get(model, 0) + 1
    return kinds, models


def write_markdown(sheet: Datasheet) -> str:
    """Return the sheet as Markdown for people."""
    version = sheet.version
    parts = [
        f"# {version.ref}",
        "\n".join(_plain(line) for line in version.facts.description.splitlines())
        or "No description was given.",
        _facts(sheet),
        *(_section(title, body(sheet)) for title, body in _SECTIONS),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _facts(sheet: Datasheet) -> str:
    version, facts = sheet.version, sheet.version.facts
    rows = [
        ("Rows", f"{facts.n_rows:,}"),
        ("Format", facts.format),
        ("Made", f"{iso_from_ns(version.created_ns)[:19]}Z"),
        ("By", UNKNOWN),
        ("Note", _plain(version.note) or "none"),
        ("License", _plain(sheet.license or UNKNOWN)),
        ("Groups", UNKNOWN if facts.n_groups is None else f"{facts.n_groups:,}"),
        ("Fields", ", ".join(f"`{_plain(name)}`" for name in facts.fields) or UNKNOWN),
        ("Rows digest", f"`{facts.rows_digest}`"),
    ]
    return _table(("", ""), rows)


def _composition(sheet: Datasheet) -> str:
    facts = sheet.version.facts
    lengths = [_length_row("question", sheet.question_chars), _length_row("answer", sheet.answer_chars)]
    parts = [
        "Splits:",
        _table(("split", "rows"), [(name or "(none)", f"{n:,}") for name, n in facts.splits.items()]),
    ]
    for title, counts in (("tag", facts.tags), ("label", sheet.labels)):
        if counts:
            rows = [(name, f"{n:,}") for name, n in counts.items()]
            parts += [f"{title.capitalize()}s:", _table((title, "rows"), rows)]
    parts += ["Lengths in characters:", _table(("side", "rows", "least", "median", "95 %", "most"), lengths)]
    languages = [(name, f"{n:,}") for name, n in sheet.languages.items()]
    parts += ["Languages of the questions, guessed from script and function words:"]
    parts += [_table(("language", "rows"), languages)]
    return "\n\n".join(parts)


def _length_row(name: str, lengths: Lengths) -> tuple[str, ...]:
    numbers = (lengths.min, lengths.median, lengths.p95, lengths.max)
    return (name, f"{lengths.n:,}", *("unknown" if each is None else f"{each:,}" for each in numbers))


def _origin(sheet: Datasheet) -> str:
    facts = sheet.version.facts
    parts = []
    if facts.sources:
        columns = ("kind", "source", "rows", "left out", "digest")
        parts.append(_table(columns, [_source_row(each) for each in facts.sources]))
    else:
        parts.append("Sources are unknown.")
    parts.append("Where its rows say that they are from:")
    parts.append(_table(("provenance", "rows"), [(k, f"{n:,}") for k, n in sheet.provenance.items()]))
    if sheet.synthetic:
        models = [(name, f"{n:,}") for name, n in sheet.synthetic.items()]
        parts.append("Proposed by a model and accepted by a person:")
        parts.append(_table(("model", "rows"), models))
    return "\n\n".join(parts)


def _source_row(source: Mapping[str, Any]) -> tuple[str, ...]:
    def number(name: str) -> str:
        value = source.get(name)
        return f"{value:,}" if isinstance(value, int) else UNKNOWN

    digest = source.get("digest")
    return (
        str(source.get("kind") or UNKNOWN),
        str(source.get("source") or UNKNOWN),
        number("n_rows"),
        number("n_left_out"),
        short_digest(str(digest)) if digest else UNKNOWN,
    )


def _steps(sheet: Datasheet) -> str:
    facts = sheet.version.facts
    lines = [f"{number}. {describe_step(step)}" for number, step in enumerate(facts.steps, 1)]
    parts = ["\n".join(lines) if lines else "No step is on record."]
    if facts.left_out:
        left_out = [(reason, f"{n:,}") for reason, n in facts.left_out.items()]
        parts.append("Left out on the way:")
        parts.append(_table(("reason", "rows"), left_out))
    return "\n\n".join(parts)


def describe_step(step: Mapping[str, Any]) -> str:
    """Return a step in one line: its name, what it removed or changed, its parameters."""
    said = [_plain(str(step.get("step") or step.get("kind") or step.get("name") or UNKNOWN))]
    removed = step.get("removed")
    if isinstance(removed, Mapping):
        said.append("removed " + ", ".join(f"{n:,} {_plain(str(why))}" for why, n in removed.items()))
    if isinstance(step.get("n_changed"), int):
        said.append(f"changed {step['n_changed']:,} rows")
    if isinstance(step.get("n_before"), int) and isinstance(step.get("n_after"), int):
        said.append(f"{step['n_before']:,} → {step['n_after']:,} rows")
    shown = {"step", "kind", "name", "removed", "n_changed", "n_before", "n_after", "parameters"}
    rest = {name: value for name, value in step.items() if name not in shown}
    parameters = step.get("parameters")
    rest |= dict(parameters) if isinstance(parameters, Mapping) else {}
    if rest:
        said.append(", ".join(f"{name} {_short(value)}" for name, value in rest.items()))
    return "; ".join(said)


def _quality(sheet: Datasheet) -> str:
    parts = []
    if sheet.notes:
        parts.append(_table(("to look at", "rows"), [(name, f"{n:,}") for name, n in sheet.notes.items()]))
    else:
        parts.append("Nothing stood out: no empty, repeated, cut off, contradicting or self-answering rows.")
    parts += sheet.remarks
    return "\n\n".join(parts)


def _personal(sheet: Datasheet) -> str:
    found = _table(("kind", "places"), [(name, f"{n:,}") for name, n in sheet.personal.items()])
    return f"{sheet.n_rows_personal:,} rows hold something of these kinds. {sheet.personal_note}\n\n{found}"


def _lineage(sheet: Datasheet) -> str:
    def lines(nodes: Sequence[Ancestor]) -> str:
        shown = [f"- {each.label} (`{short_digest(each.digest)}`)" for each in nodes]
        return "\n".join(shown) if shown else "nothing on record"

    return f"Made from:\n\n{lines(sheet.ancestors)}\n\nMade from it:\n\n{lines(sheet.descendants)}"


def _contamination(sheet: Datasheet) -> str:
    if sheet.shared is None:
        return "Other datasets were not compared: unknown."
    if not sheet.shared:
        return "There is no other dataset here to compare with."
    rows = [(each.ref, f"{each.n_rows:,}", ", ".join(each.example_ids[:3])) for each in sheet.shared]
    return _table(("dataset", "rows that stand there too", "such as"), rows)


_SECTIONS: tuple[tuple[str, Callable[[Datasheet], str]], ...] = (
    ("What is in it", _composition),
    ("Where it comes from", _origin),
    ("What was done", _steps),
    ("What to look at", _quality),
    ("Personal data", _personal),
    ("Lineage", _lineage),
    ("Shared with other datasets", _contamination),
)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
    return "\n".join([head, *(f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows)])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return _plain(text if len(text) <= 80 else text[:79] + "…")


def _plain(text: str) -> str:
    """Return text of people on one line, unable to break out of a table cell or to become markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("![", "!\\[")
