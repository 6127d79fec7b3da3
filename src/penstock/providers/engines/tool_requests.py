"""What a request says of tools, checked: which there are, and whether one must be called.

Tools go to the chat template as they were sent, in their order and with their keys in theirs: so they stand in rows
that were trained on. What a template writes of them is the renderer's matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.providers.engines.errors import UnsupportedParameter

MAX_TOOLS = 128
MAX_NAME_CHARS = 128


@dataclass(frozen=True, kw_only=True)
class AskedTools:
    """Tools that the model is told of."""

    tools: tuple[dict[str, Any], ...] = ()
    """In OpenAI's shape; empty where there are none, or where `tool_choice` is `none`."""
    forced: tuple[str, ...] = ()
    """When not empty, the reply is a call of one of these tools."""
    is_single: bool = False
    """Whether one call at most is wanted."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tools, in their order."""
        return tuple(tool["function"]["name"] for tool in self.tools)

    def forced_tools(self) -> tuple[dict[str, Any], ...]:
        """Return the tools of which one must be called; empty when none must."""
        return tuple(tool for tool in self.tools if tool["function"]["name"] in self.forced)


NO_TOOLS = AskedTools()


def read_tools(tools: list[Any] | None, choice: Any, *, parallel: Any) -> AskedTools:
    """Return what is asked of tools; raise `InvalidInput`, `UnsupportedParameter`.

    With `tool_choice: "none"` the model is told of no tool, so that it cannot call one.
    """
    listed = tuple(_read_tool(number, tool) for number, tool in enumerate(tools or ()))
    if len(listed) > MAX_TOOLS:
        raise InvalidInput(
            f"`tools` holds {len(listed)} tools; at most {MAX_TOOLS} are taken.", param="tools"
        )
    names = tuple(tool["function"]["name"] for tool in listed)
    if len(set(names)) < len(names):
        raise InvalidInput("`tools` holds two tools of one name.", param="tools")
    forced = _read_choice(choice, names)
    if not listed or choice == "none":
        return NO_TOOLS
    return AskedTools(tools=listed, forced=forced, is_single=parallel is False)


def check_calls(calls: list[Any], where: str) -> tuple[dict[str, Any], ...]:
    """Return the calls of an assistant's former turn as they were sent; raise for what is no call of a function."""
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidInput(f"{where}.tool_calls holds what is no call of a function.", param=where)
        if not isinstance(function.get("arguments", ""), str | Mapping):
            raise InvalidInput(f"{where}.tool_calls has arguments that are no JSON text.", param=where)
    return tuple(dict(call) for call in calls)


def _read_tool(number: int, tool: Any) -> dict[str, Any]:
    where = f"tools[{number}]"
    if not isinstance(tool, dict):
        raise InvalidInput(f"{where} is no object.", param="tools")
    if tool.get("type") != "function":
        raise UnsupportedParameter(
            f"{where} is of type {tool.get('type')!r}; the local engine knows functions.", param="tools"
        )
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARS:
        raise InvalidInput(
            f"{where}.function has no name of 1 to {MAX_NAME_CHARS} characters.", param="tools"
        )
    return tool


def _read_choice(choice: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tools of which one must be called."""
    if choice is None or choice in ("none", "auto"):
        return ()
    if not names:
        raise InvalidInput("`tool_choice` asks for a call, and there are no `tools`.", param="tool_choice")
    if choice == "required":
        return names
    function = choice.get("function") if isinstance(choice, dict) else None
    if not isinstance(function, dict) or choice.get("type") != "function":
        raise UnsupportedParameter(
            "`tool_choice` is not known; known: none, auto, required, one function by name.",
            param="tool_choice",
        )
    if function.get("name") not in names:
        raise InvalidInput(
            f"`tool_choice` names {function.get('name')!r}; `tools` has {', '.join(names)}.",
            param="tool_choice",
        )
    return (function["name"],)
