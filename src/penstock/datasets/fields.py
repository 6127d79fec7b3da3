"""What the fields of each format must be: values brought into shape, and what is wrong with them. Pure functions."""

from collections.abc import Callable, Mapping
from typing import Any

from penstock.datasets.formats import fields_of
from penstock.datasets.rows import decode_json
from penstock.spec.datasets import DatasetFormat

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
"""What ShareGPT files call who speaks."""


class Unfit(ValueError):
    """A value cannot be what its field says. `reason` names the kind of problem."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def shape_fields(form: DatasetFormat, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a row in the shape that its format says; raise `Unfit` with `FIELD: …` as text."""
    fields: dict[str, Any] = {}
    known = fields_of(form)
    for name, value in given.items():
        if name not in known:
            raise Unfit(f"{name}: is no field of {form}; put it into the metadata", "unknown field")
        if value is not None:
            fields[name] = _shaped(form, name, value)
    if form == "cases":
        fields = _move_inputs(fields)
    _REQUIRED[form](fields)
    return fields


def shape_messages(value: Any, name: str = "messages") -> list[dict[str, Any]]:
    """Return chat messages in OpenAI's shape; ShareGPT's `from` and `value` are understood, JSON text is read."""
    items = _list(_read_text(value), name)
    if not items:
        raise Unfit(f"{name}: has no message", "no message")
    return [_shape_message(item, f"{name}.{number}") for number, item in enumerate(items)]


def shape_text(value: Any, name: str) -> str:
    """Return a text; numbers and yes or no of tables are no texts."""
    if not isinstance(value, str):
        raise Unfit(f"{name}: must be a text, not {_kind(value)}", "wrong type")
    return value


def shape_texts(value: Any, name: str) -> list[str]:
    """Return a list of texts; one text or number alone is a list of one."""
    value = _read_text(value)
    items = value if isinstance(value, list) else [value]
    texts = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise Unfit(f"{name}: must hold texts, not {_kind(item)}", "wrong type")
        texts.append(str(item))
    return texts


def shape_name(value: Any, name: str, max_chars: int) -> str:
    """Return a short text that names something: an id, a group, a split, a tag. Whole numbers become their digits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unfit(f"{name}: must be a text, not {_kind(value)}", "wrong type")
    text = str(value).strip()
    if not text:
        raise Unfit(f"{name}: is empty", f"empty {name}")
    if len(text) > max_chars:
        raise Unfit(
            f"{name}: has {len(text):,} characters, at most {max_chars} name something", f"{name} too long"
        )
    if not text.isprintable():
        raise Unfit(f"{name}: holds a character that cannot be shown", f"{name} with control characters")
    return text


def shape_object(value: Any, name: str) -> dict[str, Any]:
    """Return an object; JSON text of one is read."""
    value = _read_text(value)
    if not isinstance(value, Mapping):
        raise Unfit(f"{name}: must be an object, not {_kind(value)}", "wrong type")
    return dict(value)


def _shaped(form: DatasetFormat, name: str, value: Any) -> Any:
    if name == "messages":
        return shape_messages(value)
    if name in {"chosen", "rejected"}:
        read = _read_text(value)
        is_talk = isinstance(read, list) and bool(read) and isinstance(read[0], Mapping)
        return shape_messages(read, name) if is_talk else shape_text(value, name)
    if name == "passages":
        return _shape_passages(value)
    if name == "relevant":
        return shape_texts(value, name)
    if name == "tools":
        return [shape_object(each, "tools") for each in _list(_read_text(value), "tools")]
    if name == "inputs":
        read = _read_text(value)
        return dict(read) if isinstance(read, Mapping) else shape_text(value, name)
    if name == "input" and form == "cases":
        return dict(value) if isinstance(value, Mapping) else value
    if name == "label":
        return value if isinstance(value, str | int | bool) else _no_label(value)
    if name in {"expected", "answer"}:
        return value
    return shape_text(value, name)


def _no_label(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise Unfit(f"label: must be a text, a number or a list of them, not {_kind(value)}", "wrong type")


def _move_inputs(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields whose `input` is a text, whose `inputs` is an object and whose `messages` are messages."""
    asked = fields.get("input")
    if isinstance(asked, list) and "messages" not in fields:
        fields["messages"] = shape_messages(fields.pop("input"), "input")
    elif isinstance(asked, dict) and "inputs" not in fields:
        fields["inputs"] = fields.pop("input")
    elif asked is not None:
        fields["input"] = shape_text(asked, "input")
    if isinstance(fields.get("inputs"), str):
        text = fields.pop("inputs")
        fields.setdefault("input", text)
    return fields


def _shape_message(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise Unfit(f"{where}: must be an object with role and content, not {_kind(item)}", "wrong message")
    message = {name: value for name, value in item.items() if value is not None or name == "content"}
    if "role" not in message and "from" in message:
        speaker = str(message.pop("from"))
        message = {"role": _SPEAKERS.get(speaker, speaker), "content": message.pop("value", None), **message}
    role = message.get("role")
    if role not in ROLES:
        raise Unfit(f"{where}: has the role {role!r}, not one of {', '.join(sorted(ROLES))}", "unknown role")
    content = message.get("content")
    says_otherwise = message.get("tool_calls") or message.get("function_call") or message.get("refusal")
    if content is None and not (role == "assistant" and says_otherwise):
        raise Unfit(f"{where}: has no content", "message without content")
    if not isinstance(content, str | list | None):
        raise Unfit(f"{where}: has content that is {_kind(content)}", "wrong message")
    if isinstance(content, list) and not all(isinstance(part, Mapping) for part in content):
        raise Unfit(f"{where}: has a part of content that is no object", "wrong message")
    return message


def _shape_passages(value: Any) -> list[Any]:
    read = _read_text(value)
    items = read if isinstance(read, list) else [read]
    shaped: list[Any] = []
    for number, item in enumerate(items):
        if isinstance(item, Mapping):
            if not isinstance(item.get("text"), str):
                raise Unfit(f"passages.{number}: has no text", "passage without text")
            shaped.append({name: each for name, each in item.items() if each is not None})
        else:
            shaped.append(shape_text(item, f"passages.{number}"))
    return shaped


def _need_text(fields: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in fields:
            raise Unfit(f"{name}: is missing", f"{name} missing")
        if isinstance(fields[name], str) and not fields[name].strip():
            raise Unfit(f"{name}: is empty", f"{name} empty")


def _need_case(fields: Mapping[str, Any]) -> None:
    if not any(name in fields for name in ("input", "inputs", "messages")):
        raise Unfit("input: is missing; a case needs input, inputs or messages", "input missing")
    if "input" in fields and len(fields) == 1:
        _need_text(fields, "input")


def _need_preference(fields: Mapping[str, Any]) -> None:
    if "messages" not in fields:
        _need_text(fields, "prompt")
    _need_text(fields, "chosen", "rejected")


def _need_retrieval(fields: Mapping[str, Any]) -> None:
    _need_text(fields, "query")
    if not fields.get("relevant") and not fields.get("passages"):
        raise Unfit(
            "relevant: is missing; what should be found is told by relevant or passages", "relevant missing"
        )


_REQUIRED: Mapping[DatasetFormat, Callable[[Mapping[str, Any]], None]] = {
    "cases": _need_case,
    "instruct": lambda fields: _need_text(fields, "instruction", "output"),
    "chat": lambda fields: _need_text(fields, "messages"),
    "preference": _need_preference,
    "label": lambda fields: _need_text(fields, "text", "label"),
    "retrieval": _need_retrieval,
}


def _read_text(value: Any) -> Any:
    """Return the JSON value that a cell of a table holds, where it looks like one."""
    if isinstance(value, str) and value[:1] in "[{" and value[-1:] in "]}":
        try:
            return decode_json(value.encode())
        except ValueError:
            return value
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unfit(f"{name}: must be a list, not {_kind(value)}", "wrong type")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"
