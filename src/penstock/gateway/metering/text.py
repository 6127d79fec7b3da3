"""Writes totals as Prometheus' text format 0.0.4, or as OpenMetrics 1.0 for those that ask for it."""

from collections.abc import Iterable

from penstock.gateway.metering.families import FAMILIES, Family
from penstock.gateway.metering.totals import Totals

PLAIN = b"text/plain; version=0.0.4; charset=utf-8"
OPEN = b"application/openmetrics-text; version=1.0.0; charset=utf-8"


def choose_format(accept: bytes) -> bytes:
    """Return the content type to answer an `Accept` header with."""
    return OPEN if b"application/openmetrics-text" in accept else PLAIN


def write_text(totals: Totals, content_type: bytes) -> bytes:
    """Return all series, family by family, in a fixed order."""
    is_open = content_type == OPEN
    lines: list[str] = []
    by_family: dict[str, list[tuple[tuple[str, ...], list[float]]]] = {}
    for (name, labels), values in sorted(totals.items()):
        by_family.setdefault(name, []).append((labels, values))
    for name, family in FAMILIES.items():
        series = by_family.get(name)
        if series is None:
            continue
        shown = name.removesuffix("_total") if is_open and family.kind == "counter" else name
        lines.append(f"# HELP {shown} {_escape_help(family.text)}")
        lines.append(f"# TYPE {shown} {family.kind}")
        for labels, values in series:
            pairs = list(zip(family.labels, labels, strict=True))
            lines.extend(_samples(family, pairs, values))
    if is_open:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode() if lines else b"\n"


def _samples(family: Family, pairs: list[tuple[str, str]], values: list[float]) -> Iterable[str]:
    if family.kind != "histogram":
        yield f"{family.name}{_labels(pairs)} {_number(values[0])}"
        return
    count = 0.0
    for bound, amount in zip((*family.bounds, float("inf")), values, strict=False):
        count += amount
        yield f"{family.name}_bucket{_labels([*pairs, ('le', _bound(bound))])} {_number(count)}"
    yield f"{family.name}_count{_labels(pairs)} {_number(count)}"
    yield f"{family.name}_sum{_labels(pairs)} {_number(values[-1])}"


def _labels(pairs: list[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in pairs) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _bound(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(value)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else f"{value:.15g}"
