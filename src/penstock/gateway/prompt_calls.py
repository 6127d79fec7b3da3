"""Calls that prompts answer: what a request says of the prompt, and whether its key may ask the model that it names.

A prompt asks its model with this installation's own key, so a caller who names another model must be one who may call it.
"""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.gateway.admission import resolve_route
from penstock.gateway.calls import Call
from penstock.gateway.table import PROMPT, ReadyRoute, Table
from penstock.spec.routes import KeyRow


class _Said(msgspec.Struct):
    prompt_model: Any = None


def find_route(table: Table, call: Call, model: str) -> ReadyRoute:
    """Return the route called `model`; raise what `resolve_route` does, for the model that is to answer a prompt too.

    An app may ask its model, whatever its caller's key may call.
    """
    key = call.key if call.caller is None else table.internal_row
    assert key is not None
    route = resolve_route(table, key, model, call.endpoint.kind)
    if route.asks_prompt:
        _check_prompt_model(table, key, call.body)
    return route


def _check_prompt_model(table: Table, key: KeyRow, body: bytes) -> None:
    try:
        model = msgspec.json.decode(body, type=_Said).prompt_model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # a form, or what is refused elsewhere
    if model is None:
        return
    if not isinstance(model, str) or not model:
        raise InvalidInput("`prompt_model` must be the name of a model.", param="prompt_model")
    resolve_route(table, key, model, "chat")


def read_prompt_object(body: bytes) -> bytes:
    """Return a request of the responses API whose `prompt` names one of ours, as a request to that prompt.

    `{"prompt": {"id": "triage", "version": "3", "variables": {…}}}` asks `prompt:triage@3`. With a `model` beside it the id
    must begin with `prompt:`, since others are the provider's own; that model then stands in for the prompt's.
    """
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body  # what is wrong with it is told where it is read
    told = request.get("prompt") if isinstance(request, dict) else None
    if not isinstance(told, dict) or not isinstance(told.get("id"), str):
        return body
    model, name = request.get("model"), told["id"]
    is_asked = isinstance(model, str) and model.startswith(PROMPT)
    if model and not is_asked and not name.startswith(PROMPT):
        return body
    request.pop("prompt")
    if not is_asked:
        if model:
            request["prompt_model"] = model
        version = told.get("version")
        request["model"] = PROMPT + name.removeprefix(PROMPT) + (f"@{version}" if version else "")
    variables = told.get("variables")
    if isinstance(variables, dict):
        given = {key: _text_of(value) for key, value in variables.items()}
        request["prompt_variables"] = {**given, **(request.get("prompt_variables") or {})}
    return msgspec.json.encode(request)


def _text_of(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") == "input_text":
        return value.get("text")
    return value
