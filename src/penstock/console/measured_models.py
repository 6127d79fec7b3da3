"""What was measured of a model version, as rows of a table: each figure beside what it was before, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.console.estimate_lines import (
    ComparisonLine,
    EstimateLine,
    build_comparison_lines,
    build_estimate_line,
)
from penstock.console.formats import format_bytes
from penstock.console.interval_marks import scale_of_estimates
from penstock.console.score_words import MINUS
from penstock.spec.evaluations import Estimate
from penstock.tuning.compress.types import ALL_PARTS, MeasuredPart, ModelMeasurement

NAMES = {
    "file_bytes": "file",
    "resident_bytes": "memory when loaded",
    "bits_per_parameter": "bits a parameter",
    "load_s": "time to load",
    "bits_per_byte": "bits a byte of text",
    "kl": "divergence from the other",
    "same_top": "same likeliest token",
}
TITLES: Mapping[MeasuredPart, str] = {
    "size": "Size",
    "speed": "Speed",
    "texts": "Held-out texts",
    "tasks": "Tasks",
}


@dataclass(frozen=True, kw_only=True)
class MeasuredRow:
    """One figure, with its difference from the version that it was held against."""

    name: str
    line: EstimateLine
    value: str
    difference: ComparisonLine | None
    before: str
    change: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class MeasuredTable:
    """One part of what was measured."""

    title: str
    source: str | None
    made_ns: int
    actor: str
    against: str | None
    """Label of the version it was held against."""
    rows: tuple[MeasuredRow, ...]


def build_tables(
    found: Mapping[MeasuredPart, ModelMeasurement], *, own: str, labels: Mapping[str, str]
) -> tuple[MeasuredTable, ...]:
    """Return the newest measurement of each part; `labels` names versions by their digests."""
    tables = []
    for part in ALL_PARTS:
        made = found.get(part)
        if made is None:
            continue
        against = None if made.against is None else labels.get(made.against, made.against[:19])
        differences = {
            item.name: line
            for item, line in zip(
                made.differences,
                build_comparison_lines(made.differences, against or "the other", own),
                strict=True,
            )
        }
        tables.append(
            MeasuredTable(
                title=TITLES[part],
                source=made.source,
                made_ns=made.made_ns,
                actor=made.actor,
                against=against,
                rows=tuple(_row(each, differences.get(each.name)) for each in made.figures),
            )
        )
    return tuple(tables)


def name_measured(name: str) -> str:
    """Return what a measured figure is called: `reply_tokens_per_s_4` is told as 4 streams."""
    stem, _, streams = name.rpartition("_")
    if streams.isdigit() and stem.endswith(("tokens_per_s", "processor_ms_per_token")):
        side = "prompt tokens" if stem.startswith("prompt") else "reply tokens"
        if stem.endswith("per_token"):
            side = "processor time a reply token"
        return f"{side}, {streams} {'stream' if streams == '1' else 'streams'}"
    return NAMES.get(name, name.replace("_", " "))


def _row(item: Estimate, difference: ComparisonLine | None) -> MeasuredRow:
    name = name_measured(item.name)
    line = build_estimate_line(item, scale_of_estimates([item]), name=name)
    is_bytes = item.unit == "bytes" and item.value is not None
    before = "" if difference is None else difference.baseline
    change = "" if difference is None else difference.difference
    if difference is not None and is_bytes and difference.item.baseline is not None:
        before = format_bytes(round(difference.item.baseline))
        gap = round(difference.item.difference or 0)
        change = f"{'+' if gap > 0 else MINUS if gap < 0 else ''}{format_bytes(abs(gap))}"
    return MeasuredRow(
        name=name,
        line=line,
        value=format_bytes(round(item.value or 0)) if is_bytes else line.value,
        difference=difference,
        before=before,
        change=change,
        sentence="" if difference is None else difference.sentence,
    )
