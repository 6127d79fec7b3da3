"""Rendering as the rest of Penstock calls it; the work itself is `templating`'s, which the SDK shares."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.spec.prompts import PromptContent
from penstock.templating.render import Rendered, render_prompt


def render(
    content: PromptContent,
    variables: Mapping[str, Any],
    *,
    history: Sequence[Mapping[str, Any]] = (),
    examples: Sequence[Mapping[str, Any]] = (),
) -> Rendered:
    """Return the messages, parameters, tools and response format that `content` makes of `variables`.

    `history` fills the slot of that name; `examples` are few-shot rows that were picked already, else those written in
    the prompt are taken. Raises `WrongVariables`, `RenderFailed`, `TooMuchWork`.
    """
    return render_prompt(content, variables, history=history, examples=examples)
