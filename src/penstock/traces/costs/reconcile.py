"""The ledger beside a provider's export: by day, model and class, with what likely explains each difference. Pure."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES
from penstock.store.spans.ledger_types import CostRow
from penstock.traces.costs.exports import MEASURES, Export, ExportRow

_DATED = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{8}|@\d{8}|-latest)$")
_ZERO = Decimal(0)
_AT_MIDNIGHT = Decimal("0.1")
"""Up to which part of a day's sum calls around midnight are a likely cause."""
ALL_MODELS = "(all models)"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One number of theirs beside ours."""

    day: str
    model: str
    measure: str
    ours: Decimal
    theirs: Decimal
    difference: Decimal
    """Ours less theirs."""
    share: Decimal
    """The difference as a part of the larger of both."""
    is_over: bool
    causes: list[str] = []


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of a whole export."""

    export: str
    provider: str | None
    days: list[str]
    tolerance: Decimal
    n_compared: int
    lines: list[Line]
    """Those that differ, the largest first; the others are only counted."""
    is_within: bool


class _Ours(msgspec.Struct, kw_only=True):
    counts: dict[str, Decimal]
    n_calls: int = 0
    n_estimated: int = 0
    n_unpriced: int = 0
    estimated: dict[str, Decimal] = {}
    """By `input`, `output` and `cost_usd`, how much of ours is estimated."""


def reconcile(export: Export, rows: Sequence[CostRow], *, tolerance: Decimal) -> Reconciliation:
    """Compare an export with the ledger's sums by day and model."""
    names_models = any(row.model is not None for row in export.rows)
    theirs = _by_name(export.rows, names_models=names_models)
    ours = _own_by_name(rows, {row.day for row in export.rows}, names_models=names_models)
    last_day = max((row.day for row in export.rows), default="")
    measures = [name for name in MEASURES if any(name in counts for counts in theirs.values())]
    lines: list[Line] = []
    n_compared = 0
    for key in sorted(set(theirs) | set(ours)):
        mine = ours.get(key, _Ours(counts={}))
        told = theirs.get(key)
        for measure in measures:
            if told is not None and measure not in told:
                continue
            given, owned = (told or {}).get(measure, _ZERO), mine.counts.get(measure, _ZERO)
            if given == owned == 0:
                continue
            n_compared += 1
            if given != owned:
                lines.append(_line(key, measure, owned, given, tolerance))
    unequal = {(line.day, line.model, line.measure) for line in lines}
    explained = [
        msgspec.structs.replace(
            line,
            causes=_explain(
                line,
                ours.get((line.day, line.model), _Ours(counts={})),
                theirs,
                unequal,
                is_last=line.day == last_day,
            ),
        )
        for line in lines
    ]
    explained.sort(key=lambda line: (not line.is_over, -line.share, line.day, line.model, line.measure))
    return Reconciliation(
        export=export.kind,
        provider=export.provider,
        days=sorted({row.day for row in export.rows}),
        tolerance=tolerance,
        n_compared=n_compared,
        lines=explained,
        is_within=not any(line.is_over for line in explained),
    )


def base_name(model: str) -> str:
    """Return a model's name without vendor prefix, date or `-latest`, as both sides may or may not write them."""
    return _DATED.sub("", model.lower().rpartition("/")[2])


def _by_name(rows: Iterable[ExportRow], *, names_models: bool) -> dict[tuple[str, str], dict[str, Decimal]]:
    found: dict[tuple[str, str], dict[str, Decimal]] = {}
    for row in rows:
        model = base_name(row.model) if names_models and row.model else ALL_MODELS
        counts = found.setdefault((row.day, model), {})
        for name, count in row.counts.items():
            counts[name] = counts.get(name, _ZERO) + count
    return found


def _own_by_name(
    rows: Sequence[CostRow], days: set[str], *, names_models: bool
) -> dict[tuple[str, str], _Ours]:
    found: dict[tuple[str, str], _Ours] = {}
    for row in rows:
        day = row.group.get("day") or ""
        if day not in days:
            continue
        model = base_name(row.group.get("model") or "unknown") if names_models else ALL_MODELS
        mine = found.setdefault((day, model), _Ours(counts={}))
        mine.n_calls += row.n_calls
        mine.n_estimated += row.n_estimated
        mine.n_unpriced += row.n_unpriced
        for name, part in _estimated_parts(row).items():
            mine.estimated[name] = mine.estimated.get(name, _ZERO) + part
        for name, count in _own_counts(row).items():
            mine.counts[name] = mine.counts.get(name, _ZERO) + count
    return found


def _own_counts(row: CostRow) -> dict[str, Decimal]:
    counts: dict[str, Decimal] = {
        name: Decimal(count) for name, count in row.classes.items() if name in MEASURES
    }
    counts["requests"] = Decimal(row.n_calls - row.n_cached)
    counts["input"] = Decimal(sum(row.classes.get(name, 0) for name in INPUT_CLASSES))
    counts["output"] = Decimal(sum(row.classes.get(name, 0) for name in OUTPUT_CLASSES))
    counts["cost_usd"] = row.cost_usd or _ZERO
    return counts


def _estimated_parts(row: CostRow) -> dict[str, Decimal]:
    """Return how much of a row is estimated, where it does not say, by the number of such calls."""
    if not row.n_estimated:
        return {}
    share = Decimal(row.n_estimated) / row.n_calls
    counts = _own_counts(row)
    told = {
        "input": row.estimated_input_tokens,
        "output": row.estimated_output_tokens,
        "cost_usd": row.estimated_usd,
    }
    return {name: counts[name] * share if part is None else Decimal(part) for name, part in told.items()}


def _line(key: tuple[str, str], measure: str, ours: Decimal, theirs: Decimal, tolerance: Decimal) -> Line:
    share = abs(ours - theirs) / max(abs(ours), abs(theirs))
    return Line(
        day=key[0],
        model=key[1],
        measure=measure,
        ours=ours,
        theirs=theirs,
        difference=ours - theirs,
        share=share,
        is_over=share > tolerance,
    )


def _explain(
    line: Line,
    mine: _Ours,
    theirs: dict[tuple[str, str], dict[str, Decimal]],
    unequal: set[tuple[str, str, str]],
    *,
    is_last: bool,
) -> list[str]:
    """Return what may be behind a difference, the likeliest first: only what can be as large as the difference."""
    causes: list[str] = []
    is_more = line.difference > 0
    tokens_agree = not any(
        (line.day, line.model, measure) in unequal for measure in ("input", "output", "input_cache_read")
    )
    has_tokens = "input" in theirs.get((line.day, line.model), {})
    if not mine.n_calls and line.ours == 0:
        causes.append("none of this went through the gateway: calls with this account from elsewhere")
    elif line.theirs == 0 and line.ours > 0:
        causes.append(
            "the export lacks this: another account, project or workspace, or another name of the model"
        )
    if line.measure == "cost_usd":
        if mine.n_unpriced and not is_more:
            causes.append(
                f"{mine.n_unpriced} of our calls have no known price and stay so; one under [[prices]] is for later calls"
            )
        if has_tokens and tokens_agree:
            causes.append(
                "tokens agree, so the price differs: a discount, a batch or priority tier, tax, a fee"
            )
    if mine.n_estimated and abs(line.difference) <= mine.estimated.get(_total_of(line.measure), _ZERO):
        causes.append(f"{mine.n_estimated} of our calls are estimates, because the provider sent no usage")
    if is_last and is_more:
        causes.append("the export's last day may not be complete yet: providers add to it for hours")
    if not causes and not is_more:
        causes.append("calls with this account that did not go through the gateway")
    if not causes:
        causes.append(
            "calls around midnight UTC, which the provider counts when they end and we when they begin"
            if line.share <= _AT_MIDNIGHT
            else "nothing we know of: another account or project has a part of these calls, or the export was filtered"
        )
    return causes


def _total_of(measure: str) -> str:
    """Return the total that a measure is a part of."""
    return measure if measure in {"cost_usd", "requests"} else measure.partition("_")[0]
