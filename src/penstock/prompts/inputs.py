"""From a chat request to a prompt's variables and history."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.spec.prompts import PromptContent
from penstock.templating.variables import is_message


def read_inputs(
    content: PromptContent, body: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return variables and history of a request.

    Without `prompt_variables` the text of the last user message is the one required text variable, where the prompt has
    exactly one, and what stood before it is the history. Raises `InvalidInput`.
    """
    messages = read_messages(body.get("messages"))
    given = body.get("prompt_variables")
    if given is not None and not isinstance(given, dict):
        raise InvalidInput(
            "`prompt_variables` must be an object of variables by name.", param="prompt_variables"
        )
    if given is not None:
        return dict(given), messages
    needed = [name for name, variable in content.variables.items() if variable.required]
    if len(needed) != 1 or content.variables[needed[0]].type != "text":
        return {}, messages
    for place in range(len(messages) - 1, -1, -1):
        if messages[place]["role"] == "user":
            text = message_text(messages[place])
            return {needed[0]: text}, messages[:place] + messages[place + 1 :]
    return {}, messages


def read_messages(value: Any) -> list[dict[str, Any]]:
    """Return the messages of a request; raise `InvalidInput` for what is none."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(is_message(each) for each in value):
        raise InvalidInput("`messages` must be a list of messages with a role.", param="messages")
    return list(value)


def message_text(message: Mapping[str, Any]) -> str:
    """Return the text of a message; raise `InvalidInput` for parts that are none."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for part in content if isinstance(content, Sequence) else ():
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidInput(
                "The last user message is the prompt's variable, which takes text only.",
                hint="Give the variable in `prompt_variables`, and a history slot takes the message.",
                param="messages",
            )
        texts.append(part["text"])
    return "\n".join(texts)
