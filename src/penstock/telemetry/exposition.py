"""Numbers for Prometheus: families of samples, written as text format 0.0.4 or OpenMetrics 1.0. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class MetricFamily:
    """One metric with its samples: labels and value of each. Counters end in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    samples: Iterable[tuple[Mapping[str, str], float]] = field(default_factory=tuple)


def choose_type(accept: str) -> str:
    """Return the content type to answer an `Accept` header with."""
    return OPEN if "application/openmetrics-text" in accept else PLAIN


def write_families(families: Iterable[MetricFamily], content_type: str) -> str:
    """Return all samples, those of one family together; families without any are left out."""
    is_open = content_type == OPEN
    lines: list[str] = []
    for family in families:
        samples = [f"{family.name}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
        if samples:
            shown = (
                family.name.removesuffix("_total") if is_open and family.kind == "counter" else family.name
            )
            lines += [
                f"# HELP {shown} {_escape_help(family.text)}",
                f"# TYPE {shown} {family.kind}",
                *samples,
            ]
    if is_open:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else f"{value:.15g}"
