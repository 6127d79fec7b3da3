"""Token counts as senders give them, in disjoint classes: no token is counted twice, none becomes negative.

The conventions say that input counts contain cached tokens and output counts reasoning. Not all keep to that: some pass
on a provider's figures that lie side by side. What the counts themselves prove comes first (a part that is larger than
its whole, a total that adds up in one way only), then the table's rules by instrumentation and provider, then the
conventions.
"""

from collections.abc import Mapping
from typing import Any

from penstock.spec.usage import Usage
from penstock.telemetry.mapping_table import MappingTable, OverlapRule

MAX_COUNT = 2**53


def map_usage(
    table: MappingTable,
    picked: Mapping[str, Any],
    *,
    scope: str = "",
    provider: str = "",
    sources: Mapping[str, str] | None = None,
) -> Usage | None:
    """Return the tokens in disjoint classes, or None when no count is given.

    `sources` names the attribute that each field was picked from.
    """
    given = count_of(picked["input"]) if "input" in picked else None
    answer = count_of(picked["output"]) if "output" in picked else None
    if given is None and answer is None:
        return None
    if table.usage_parts.isdisjoint(picked):
        return Usage(input_uncached=given, output_text=answer)
    counts = {name: count_of(value) for name, value in picked.items() if name in table.usage_fields}
    longer, written = counts.get("cache_write_1h"), counts.get("cache_write")
    if longer is not None and written is not None:
        written = max(0, written - longer)  # the total includes what is kept for an hour
    cached = (counts.get("cache_read") or 0) + (written or 0) + (longer or 0)
    apart = cached + (counts.get("input_audio") or 0) + (counts.get("input_image") or 0)
    thought = counts.get("reasoning") or 0
    shown = thought + (counts.get("output_audio") or 0) + (counts.get("output_image") or 0)
    rules = [rule for rule in table.rules if _is_met(rule, scope, provider.lower(), sources or {})]
    beside_input, beside_output = _proved(counts.get("total"), (given or 0) + (answer or 0), cached, thought)
    return Usage(
        input_uncached=_rest(given, apart, cached, _says(rules, "input"), beside_input),
        input_cache_read=counts.get("cache_read"),
        input_cache_write=written,
        input_cache_write_1h=longer,
        input_audio=counts.get("input_audio"),
        input_image=counts.get("input_image"),
        output_text=_rest(answer, shown, thought, _says(rules, "output"), beside_output),
        output_reasoning=counts.get("reasoning"),
        output_audio=counts.get("output_audio"),
        output_image=counts.get("output_image"),
    )


def _proved(total: int | None, plain: int, cached: int, thought: int) -> tuple[bool, bool]:
    """Return whether a total says that cached tokens, or reasoning, lie beside the two counts that make `plain`."""
    if total is None or cached == thought:
        return total == plain + cached + thought, total == plain + cached + thought
    return total in {plain + cached, plain + cached + thought}, total in {
        plain + thought,
        plain + cached + thought,
    }


def _rest(whole: int | None, apart: int, beside: int, said: str | None, is_proved_apart: bool) -> int | None:
    """Return what of `whole` is in no other class.

    `apart` are all the other classes, `beside` those of them that senders may count beside the whole.
    """
    if whole is None:
        return None
    if beside and (apart > whole or is_proved_apart or said == "exclusive"):
        apart -= beside
    return whole - apart if whole >= apart else whole


def _says(rules: list[OverlapRule], side: str) -> str | None:
    return next((said for rule in rules if (said := getattr(rule, side)) is not None), None)


def _is_met(rule: OverlapRule, scope: str, provider: str, sources: Mapping[str, str]) -> bool:
    """Return whether a rule speaks of these counts. A scope is met by itself and by what is below it."""
    if rule.scope and not (scope == rule.scope or scope.startswith((f"{rule.scope}.", f"{rule.scope} "))):
        return False
    if rule.provider and not provider.startswith(rule.provider):
        return False
    return not rule.names or any(source.startswith(rule.names) for source in sources.values())


def count_of(value: Any) -> int | None:
    """Return a count of tokens, or None for what is none."""
    if type(value) is int:
        return value if 0 <= value < MAX_COUNT else None
    if isinstance(value, bool):
        return None
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return count if 0 <= count < MAX_COUNT else None
