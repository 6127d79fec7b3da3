"""From a checked request to what an engine is given: the ids of the prompt, and what holds the reply to a form.

What was evaluated is said with the reply: the renderer's digest and the digest of the ids, so that whoever reads the
trace can tell whether a call was rendered as in training.
"""

import dataclasses
from collections.abc import Sequence

import msgspec

from penstock.base.digest import digest_ids
from penstock.providers.engines.choices import bias_first_tokens
from penstock.providers.engines.errors import UnsupportedParameter
from penstock.providers.engines.requests import GenerationRequest
from penstock.providers.engines.tool_calls import (
    MARKS,
    CallForm,
    CallReader,
    find_form,
    open_reader,
    write_call_grammar,
)
from penstock.providers.engines.types import PromptRenderer, Sampling
from penstock.spec.messages import Message
from penstock.spec.rendering import PROMPT_IDS_HEADER, RENDERER_HEADER

_RENDERER, _PROMPT_IDS = RENDERER_HEADER.encode(), PROMPT_IDS_HEADER.encode()


def find_call_form(request: GenerationRequest, renderer: PromptRenderer) -> CallForm | None:
    """Return how the model writes calls of the tools that the request has; None where it has none.

    Raises `UnsupportedParameter` for a model that knows no tools, or whose way of calling them is not known here.
    """
    if not request.tools.tools:
        return None
    names = renderer.template_names
    if "tools" not in names:
        raise UnsupportedParameter(
            f"The model {request.model!r} knows no tools: its chat template has no place for them.",
            hint="Ask a model whose template reads tools, or send `tool_choice` none.",
            param="tools",
        )
    form = find_form(names)
    if form is None:
        raise UnsupportedParameter(
            f"How the model {request.model!r} writes calls of tools is not known to the local engine.",
            hint="Known are <tool_call> with JSON (Hermes, Qwen) and JSON alone (Llama 3).",
            param="tools",
        )
    return form


def read_calls(request: GenerationRequest, form: CallForm | None) -> CallReader | None:
    """Return what finds calls in the reply; None where there can be none."""
    if form is None:
        return None
    return open_reader(form, request.tools.names, is_single=request.tools.is_single)


def hold_to_form(
    request: GenerationRequest, sampling: Sampling, form: CallForm | None, renderer: PromptRenderer
) -> Sampling:
    """Return the sampling with everything that needs the model's own tokens: biases, and calls that are forced."""
    if form is not None:
        forced = request.tools.forced_tools()
        grammar = write_call_grammar(form, forced) if forced else None
        return dataclasses.replace(sampling, shown_tokens=MARKS, grammar=grammar)
    if request.choice_bias:
        biases = bias_first_tokens(sampling.choices, request.choice_bias, renderer.encode_texts)
        return dataclasses.replace(sampling, logit_bias=biases)
    return sampling


def render_prompt(
    request: GenerationRequest, renderer: PromptRenderer
) -> tuple[list[int], list[tuple[bytes, bytes]]]:
    """Return the ids to evaluate, and the headers that say so of the reply. Takes time for a long prompt."""
    rendered = [(_RENDERER, renderer.digest.encode())]
    if request.messages is not None:
        ids = renderer.render_chat(_fit_messages(request.messages, renderer), tools=request.tools.tools)
    elif isinstance(request.prompt, str):
        ids = renderer.encode_texts([request.prompt])[0]
    else:
        ids, rendered = list(request.prompt or ()), []
    return ids, [*rendered, (_PROMPT_IDS, digest_ids(ids).encode())]


def _fit_messages(messages: Sequence[Message], renderer: PromptRenderer) -> Sequence[Message]:
    """Leave out thoughts of former turns where the template has no place for them: clients send back what any model
    of the conversation has thought."""
    if "reasoning_content" in renderer.template_names or all(each.reasoning is None for each in messages):
        return messages
    return [msgspec.structs.replace(each, reasoning=None) for each in messages]
