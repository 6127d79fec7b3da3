"""The content of a prompt version in the registry. Frozen, no behaviour: rendering is the prompts room's.

A prompt answers as a model: `prompt:NAME`, `prompt:NAME@ALIAS`, `prompt:NAME@3`.
"""

from typing import Any, Literal

import msgspec

VariableType = Literal["text", "number", "integer", "boolean", "list", "object", "messages"]


class PromptVariable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One variable of a template."""

    type: VariableType = "text"
    required: bool = True
    default: Any = None
    """Used when the variable is not given and not required."""
    description: str = ""
    choices: list[Any] = []
    """When not empty, the only values taken."""
    max_chars: int | None = None


class PromptMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn whose text is a sandboxed Jinja template; `slot` stands for turns that are put in when rendering."""

    role: Literal["system", "developer", "user", "assistant", "slot"]
    content: str | list[dict[str, Any]] = ""
    """A template, or parts in OpenAI's shape whose texts are templates. For a slot: `examples` (the few-shot turns) or
    `history` (the caller's own messages)."""


class FewShot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Examples that are put where the `examples` slot stands (without a slot: before the last user turn)."""

    dataset: str | None = None
    """A pinned reference, `dataset:NAME@3`; None when the rows are written here."""
    rows: list[dict[str, Any]] = []
    """{input, output} each."""
    pick: Literal["fixed", "nearest", "random"] = "fixed"
    """`nearest`: those whose input is most like the case's, by embedding; `random` is seeded by the case."""
    ids: list[str] = []
    """With `fixed`: these rows of the dataset, in this order; empty: its first `count`."""
    count: int = 3
    input_template: str = "{{ input }}"
    output_template: str = "{{ output }}"
    seed: int = 0


class ChainOfThought(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Asks for reasoning before the answer, and keeps the two apart again."""

    instruction: str = "Think step by step, then write the answer after a line that says `Answer:`."
    answer_marker: str = "Answer:"
    """What stands before the answer; the text after its last occurrence is the answer that scorers and callers get."""
    strip: bool = True
    """Whether the caller gets the answer alone; the reasoning stays in the trace."""


class PromptContent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that decides what is sent: another digest is another prompt."""

    messages: list[PromptMessage]
    variables: dict[str, PromptVariable] = {}
    few_shot: FewShot | None = None
    chain_of_thought: ChainOfThought | None = None
    model: str | None = None
    """The route it is sent to; None: the caller names one with `prompt_model`, an evaluation with its target."""
    parameters: dict[str, Any] = {}
    """OpenAI's sampling parameters (`temperature`, `max_tokens`, …), sent as they are; the caller's own win."""
    tools: list[dict[str, Any]] = []
    tool_choice: Any = None
    output_schema: dict[str, Any] | None = None
    """JSON schema of the reply; sent as `response_format`."""
    description: str = ""
