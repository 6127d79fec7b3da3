"""What went in and what came out of a foreign span, out of whichever attributes or events it stands in.

Chat calls become `{"messages": […], "tools": […]}`, answers lists of messages, whatever the dialect; levels that
flattened lists carry between a list and its items (`message`, `tool_call` …) are opened. Only the source that is used
is taken out of the attributes: other copies stay.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.spec.spans import SpanEvent
from penstock.telemetry.attribute_json import parse_json
from penstock.telemetry.flattened import is_under, unflatten
from penstock.telemetry.shapes import PayloadNames, Shape

_MAX_DEPTH = 6


class LastPayloads:
    """The payloads of the spans before in a request, by attribute: a call, its chain and its agent often bring the same.

    They are given the same object again, so that it is read, and later stored, once. Nobody may change it.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, Any]] = {}

    def take(self, names: PayloadNames, attributes: dict[str, Any]) -> tuple[Any, Any]:
        """Do what `take_payloads` does, for names that are plain."""
        given = self._take(attributes, names.input, names)
        return given, self._take(attributes, names.output, names)

    def _take(self, attributes: dict[str, Any], sources: Sequence[str], names: PayloadNames) -> Any:
        for source in sources:
            value = attributes.get(source)
            if value is None or value == "":
                continue
            last = self._last.get(source)
            if last is not None and last[0] == value and not _is_text(source, attributes):
                del attributes[source]
                return last[1]
            taken, _ = _take(attributes, (source,), [])
            if not isinstance(taken, list | dict):
                return taken
            if isinstance(taken, list):
                taken = _opened_list(taken, names.levels, 0)
                if sources is names.input and source in names.messages:
                    taken = {"messages": taken}
            if isinstance(value, str):
                self._last[source] = value, taken
            return taken
        return None


def take_payloads(
    shape: Shape, attributes: dict[str, Any], last: LastPayloads | None = None
) -> tuple[Any, Any]:
    """Remove the payload attributes from `attributes`, which has names of `shape`, and return them as (input, output).

    With `last` a payload that the span before had too is the same object.
    """
    names, flat = shape.payload, shape.flat
    if last is not None and names.is_plain:
        return last.take(names, attributes)
    given, source = _take(attributes, names.input, flat)
    if names.is_joined:
        answer = _take_answer(names, attributes, flat)
    else:
        answer, _ = _take(attributes, names.output, flat)
    if isinstance(given, list):
        given = _opened_list(given, names.levels, 0)
        if source in names.messages:
            given = _request(given, names, attributes, flat)
    elif given is None and names.events:
        given, answer = _take_event_list(attributes, names.events, answer)
    if isinstance(answer, list):
        answer = _opened_list(answer, names.levels, 0)
    return given, answer


def _request(
    messages: list[Any], names: PayloadNames, attributes: dict[str, Any], flat: list[str]
) -> dict[str, Any]:
    """Return a chat call: its messages, with what the system said and which tools there are."""
    given: dict[str, Any] = {"messages": messages}
    if names.has_system:
        _add_system(messages, parse_json(attributes.pop(names.system, None)))
    if names.tools:
        tools, _ = _take(attributes, names.tools, flat)
        if tools:
            given["tools"] = (
                [_tool(item, names.levels) for item in tools] if isinstance(tools, list) else tools
            )
    return given


def fill_from_events(events: Sequence[SpanEvent], given: Any, answer: Any) -> tuple[Any, Any]:
    """Fill payloads from the per-message events of conventions before 1.37, and the one event of those since."""
    asked: list[Any] = []
    said: list[Any] = []
    for event in events:
        name, attributes = event.name, event.attributes
        if not name.startswith("gen_ai."):
            continue
        if name == "gen_ai.choice":
            said.append(parse_members(attributes))
        elif name.endswith(".message"):
            asked.append({"role": name.split(".")[1], **parse_members(attributes)})
        elif name == "gen_ai.content.prompt" and given is None:
            given = parse_json(attributes.get("gen_ai.prompt"))
        elif name == "gen_ai.content.completion" and answer is None:
            answer = parse_json(attributes.get("gen_ai.completion"))
        elif name == "gen_ai.client.inference.operation.details":
            given, answer = _from_details(attributes, given, answer)
    return (
        {"messages": asked} if given is None and asked else given,
        said if answer is None and said else answer,
    )


def parse_members(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return attributes with the JSON texts among them as the values they hold."""
    return {name: parse_json(value) for name, value in attributes.items()}


def _from_details(attributes: dict[str, Any], given: Any, answer: Any) -> tuple[Any, Any]:
    messages = parse_json(attributes.get("gen_ai.input.messages"))
    if given is None and isinstance(messages, list):
        given = {"messages": list(messages)}
        _add_system(given["messages"], parse_json(attributes.get("gen_ai.system_instructions")))
        tools = parse_json(attributes.get("gen_ai.tool.definitions"))
        if tools:
            given["tools"] = tools
    return given, parse_json(attributes.get("gen_ai.output.messages")) if answer is None else answer


def _take(attributes: dict[str, Any], sources: Sequence[str], flat: list[str]) -> tuple[Any, str | None]:
    for source in sources:
        value = attributes.get(source)
        if value is not None and value != "":
            is_text = _is_text(source, attributes)
            del attributes[source]
            return value if is_text else parse_json(value), source
        if flat and source not in attributes:
            names = [name for name in flat if is_under(name, source) and name in attributes]
            if names:
                return unflatten({name: attributes.pop(name) for name in names}, source), source
    return None, None


def _is_text(source: str, attributes: Mapping[str, Any]) -> bool:
    """Return whether `input.value` or `output.value` is said to be text, even if it looks like JSON."""
    return (
        source.endswith(".value") and attributes.get(f"{source.rpartition('.')[0]}.mime_type") == "text/plain"
    )


def _take_answer(names: PayloadNames, attributes: dict[str, Any], flat: list[str]) -> Any:
    if not attributes.get(names.joined_tool_calls) and not any(
        attributes.get(name) for name in names.joined_content
    ):
        answer, _ = _take(attributes, names.output, flat)
        return answer
    rank = names.output.index(names.joined_name)
    answer, source = _take(attributes, names.output[:rank], flat)
    if source is not None:
        return answer
    message: dict[str, Any] = {"role": "assistant"}
    content, _ = _take(attributes, names.joined_content, flat)
    if content is not None:
        message["content"] = content
    calls = parse_json(attributes.get(names.joined_tool_calls))
    if calls:
        del attributes[names.joined_tool_calls]
        message["tool_calls"] = calls
    return [message]


def _take_event_list(attributes: dict[str, Any], names: Sequence[str], answer: Any) -> tuple[Any, Any]:
    """Split one attribute with a list of message events into what was asked and what was answered."""
    for name in names:
        found = parse_json(attributes.get(name))
        if not isinstance(found, list) or not all(
            isinstance(item, dict) and "event.name" in item for item in found
        ):
            continue
        del attributes[name]
        asked = [item for item in found if item["event.name"] != "gen_ai.choice"]
        said = [item for item in found if item["event.name"] == "gen_ai.choice"]
        return {"messages": asked} if asked else None, said or None if answer is None else answer
    return None, answer


def _add_system(messages: list[Any], system: Any) -> None:
    if system is not None:
        messages.insert(0, {"role": "system", "parts" if isinstance(system, list) else "content": system})


def _tool(item: Any, levels: frozenset[str]) -> Any:
    """Return a tool's definition, which some senders write as JSON text within a list."""
    opened = _opened(parse_json(item), levels, 0)
    if isinstance(opened, dict) and set(opened) == {"json_schema"}:
        return parse_json(opened["json_schema"])
    return opened


def _opened_list(items: list[Any], levels: frozenset[str], depth: int) -> list[Any]:
    """Open the levels of each; what most messages are, a role and a text, has nothing in it to be opened."""
    return [
        each
        if type(each) is dict and len(each) == 2 and "role" in each and type(each.get("content")) is str
        else _opened(each, levels, depth)
        for each in items
    ]


def _opened(item: Any, levels: frozenset[str], depth: int) -> Any:
    """Open the levels of flattened lists: `{"message": {…}}`, `contents: [{"message_content": {…}}]`."""
    if depth > _MAX_DEPTH:
        return item
    if isinstance(item, list):
        return _opened_list(item, levels, depth + 1)
    if not isinstance(item, dict):
        return item
    if len(item) == 1:
        [(name, inner)] = item.items()
        if name in levels and isinstance(inner, dict):
            return _opened(inner, levels, depth + 1)
    if "contents" in item and "content" not in item:
        item = {"content" if name == "contents" else name: value for name, value in item.items()}
    content, calls = item.get("content"), item.get("tool_calls")
    if isinstance(content, list):
        item = {**item, "content": _opened(content, levels, depth + 1)}
    if isinstance(calls, list):
        item = {**item, "tool_calls": _opened(calls, levels, depth + 1)}
    return item
