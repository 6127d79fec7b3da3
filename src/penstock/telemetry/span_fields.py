"""The fields of a span out of its attributes: what the table gives, put together.

Runs for every foreign span, most of whose fields are empty: only what is there is looked at.
"""

from collections.abc import Mapping
from typing import Any

from penstock.spec.spans import SpanEvent, SpanKind, SpanStatus
from penstock.telemetry import mapping
from penstock.telemetry.mapping_table import MappingTable
from penstock.telemetry.usage_rules import map_usage

_TEXTS = frozenset(
    {
        "cache",
        "environment",
        "error_code",
        "model",
        "provider",
        "release",
        "service",
        "session_id",
        "status_message",
        "user_id",
    }
)
"""Fields that are filled as they are."""


def map_span(
    table: MappingTable,
    picked: mapping.Picked,
    attributes: Mapping[str, Any],
    events: list[SpanEvent],
    *,
    resource: Mapping[str, Any],
    scope: str,
    name: str,
    start_ns: int,
    status: SpanStatus = "unset",
) -> dict[str, Any]:
    """Return the fields of a span that are known, from what `pick_fields` found and from `pick_resource`.

    `status` is what the span says itself. An exception event tells of a failure unless the span says that it went well.
    """
    values = picked.values
    for wanted, value in resource.items():
        values.setdefault(wanted, value)
    kind = picked.kind or mapping.map_kind(table, picked, attributes, scope, name)
    if status == "unset" and picked.shape.errors and mapping.tells_of_failure(picked.shape, attributes):
        status = "error"
    fields: dict[str, Any] = {"kind": kind, "status": status}
    for field, value in values.items():
        if field in _TEXTS:
            if type(value) is str:
                fields[field] = value
            elif not isinstance(value, dict | list):
                fields[field] = str(value)
    if events and status != "ok":
        _add_exception(fields, events)
    _add_rest(fields, values, kind, name)
    if "provider" in fields:
        fields["provider"] = mapping.map_provider(table, fields["provider"])
    usage = map_usage(
        table, values, scope=scope, provider=fields.get("provider") or "", sources=picked.sources
    )
    if usage is not None:
        fields["usage"] = usage
    if events or "ttft_s" in values or "ttft_ms" in values or "first_token_at" in values:
        fields["ttft_ms"] = mapping.map_ttft_ms(table, values, events, start_ns)
    return fields


def _add_rest(fields: dict[str, Any], values: Mapping[str, Any], kind: SpanKind, name: str) -> None:
    """Fill what takes more than copying."""
    agent, tool = mapping.map_names(values, kind, name)
    if agent is not None:
        fields["agent"] = agent
    if tool is not None:
        fields["tool"] = tool
    if "prompt" in values or "prompt_name" in values:
        fields["prompt"] = mapping.map_prompt(values)
    if "tags" in values:
        fields["tags"] = mapping.map_tags(values)
    if "cost_usd" in values and (cost := mapping.map_cost(values, kind)) is not None:
        fields["cost_usd"], fields["cost_source"] = cost, "reported by the sender"
    if isinstance(values.get("streamed"), bool):
        fields["streamed"] = values["streamed"]
    http_status = mapping.number_field(values, "http_status") if "http_status" in values else None
    if http_status is not None and 0 <= http_status < 1000:
        fields["http_status"] = int(http_status)


def _add_exception(fields: dict[str, Any], events: list[SpanEvent]) -> None:
    """Fill what the last exception event says, where the span does not say it itself."""
    if "error_code" in fields and "status_message" in fields:
        return
    raised = next((event.attributes for event in reversed(events) if event.name == "exception"), None)
    if raised is not None:
        for field, attribute in (("error_code", "exception.type"), ("status_message", "exception.message")):
            if raised.get(attribute) is not None:
                fields.setdefault(field, str(raised[attribute]))


def pick_resource(table: MappingTable, resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a resource fills where its spans do not."""
    found: dict[str, Any] = {}
    for wanted, names in table.resource.items():
        value = next((resource[name] for name in names if resource.get(name) not in (None, "")), None)
        if value is not None:
            found[wanted] = value
    return found
