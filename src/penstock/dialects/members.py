"""Takes members out of a JSON object by name and type, and gives back the rest that nobody asked for.

Made for converting requests: what is wrong is named by its path, what is unknown is kept. A member that is `null`
counts as not said.
"""

from typing import Any, TypeVar

import msgspec

from penstock.base.errors import InvalidInput

T = TypeVar("T")


class Members:
    """One JSON object. Every taking method returns None where the member is absent, and raises `InvalidInput` with
    the member's path where it has another type."""

    __slots__ = ("_left", "path")

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            raise wrong(path or "the body", "an object", value)
        self._left: dict[str, Any] = dict(value)
        self.path = path

    def take(self, name: str) -> Any:
        """Return the value of `name` whatever its type."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """Return a string."""
        return self._typed(name, str, "a string")

    def flag(self, name: str) -> bool | None:
        """Return a boolean."""
        return self._typed(name, bool, "true or false")

    def integer(self, name: str) -> int | None:
        """Return a whole number (`3.0` counts as one)."""
        value = self.number(name)
        if value is None:
            return None
        if value != value // 1:
            raise wrong(self.at(name), "a whole number", value)
        return int(value)

    def number(self, name: str) -> float | None:
        """Return a number."""
        value = self._left.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise wrong(self.at(name), "a number", value)
        return value

    def listed(self, name: str) -> list[Any]:
        """Return a list, empty where there is none."""
        return self._typed(name, list, "a list") or []

    def inner(self, name: str) -> "Members | None":
        """Return an object."""
        value = self._left.pop(name, None)
        return None if value is None else Members(value, self.at(name))

    def inners(self, name: str) -> "list[Members]":
        """Return a list of objects, empty where there is none."""
        return [Members(value, f"{self.at(name)}[{index}]") for index, value in enumerate(self.listed(name))]

    def table(self, name: str) -> dict[str, Any] | None:
        """Return an object as it is."""
        return self._typed(name, dict, "an object")

    def required(self, name: str) -> str:
        """Return a string that must be there; it may be empty."""
        value = self.text(name)
        if value is None:
            raise InvalidInput(f"`{self.at(name)}` is missing.", param=self.at(name))
        return value

    def peek(self, name: str) -> Any:
        """Return the value of `name` without taking it."""
        return self._left.get(name)

    def at(self, name: str) -> str:
        """Return the path of the member `name`."""
        return f"{self.path}.{name}" if self.path else name

    def put(self, name: str, value: Any) -> None:
        """Leave `value` behind under `name`, to be part of the rest."""
        self._left[name] = value

    def rest(self) -> dict[str, Any]:
        """Return what has not been taken, `null` members left out."""
        return {name: value for name, value in self._left.items() if value is not None}

    def _typed(self, name: str, kind: type[T], says: str) -> T | None:
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, kind):
            raise wrong(self.at(name), says, value)
        return value


def wrong(path: str, expected: str, value: object) -> InvalidInput:
    """Return the error that says what `path` should be."""
    found = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}.get(type(value), "")
    got = f", not {found}" if found else ""
    return InvalidInput(f"`{path}` must be {expected}{got}.", param=path)


def decode_object(body: bytes) -> Members:
    """Return the members of a request body; raises `InvalidInput` if it is not one JSON object."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(
            f"The request body is not valid JSON: {error}.",
            hint="Send one JSON object with Content-Type: application/json.",
        ) from None
    return Members(value)


def one_or_more(value: Any, path: str) -> list[str]:
    """Return the texts of a member that is one string or a list of them, such as `stop`."""
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise wrong(path, "a string or a list of strings", value)
    return texts
