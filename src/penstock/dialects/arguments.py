"""Arguments of tool calls: JSON text in the hub, an object in dialects that hold them so."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput


def read_arguments(text: str) -> dict[str, Any] | None:
    """Return the object that `text` holds; `{}` for empty text, None if it is not a JSON object."""
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def need_arguments(text: str, path: str) -> dict[str, Any]:
    """Return the object that `text` holds; raises `InvalidInput` that names `path` if it is not one."""
    found = read_arguments(text)
    if found is None:
        raise InvalidInput(
            f"The arguments of the tool call at `{path}` are not a JSON object.",
            hint="This target takes arguments as an object; send back what the model wrote, or `{}`.",
            param=path,
        )
    return found


def write_arguments(value: Any) -> str:
    """Return the JSON text of arguments that came as an object; `""` where there are none."""
    return msgspec.json.encode(value).decode() if value else ""
