"""How servers depart from the dialect they speak. A provider row names its quirks; writers of requests obey them.

A quirk changes how something is said. Where it means that something cannot be said at all, the writer leaves it out
and lists it under `dropped`.
"""

from collections.abc import Iterable

QUIRKS: dict[str, str] = {
    "max_tokens": "Knows only `max_tokens`, the old name, whatever the model.",
    "max_completion_tokens": "Wants `max_completion_tokens`, whatever the model's name.",
    "no_developer_role": "Refuses the role `developer`; it is sent as `system`.",
    "no_stream_usage": "Refuses `stream_options`; set from the provider's `stream_usage = false`.",
    "no_parallel_tools": "Refuses `parallel_tool_calls`.",
    "no_strict_tools": "Refuses `strict` in tools.",
    "no_json_schema": "Has no `response_format` of type `json_schema`; plain JSON is asked for.",
    "no_named_tool_choice": "Cannot be told which tool to call; any is asked for.",
    "tool_choice_any": 'Says `"any"` for `tool_choice: "required"`.',
    "no_reasoning_effort": "Refuses `reasoning_effort`.",
    "no_seed": "Refuses `seed`.",
    "random_seed": "Says `random_seed` for `seed`.",
    "no_penalties": "Refuses `frequency_penalty` and `presence_penalty`.",
    "no_logprobs": "Refuses `logprobs` and `top_logprobs`.",
    "no_n": "Gives one choice only; refuses `n`.",
    "no_user": "Refuses `user`.",
    "no_metadata": "Refuses `metadata` (and `store`).",
    "top_k": "Understands `top_k`, which OpenAI does not.",
    "rerank_voyage": "Reranks as Voyage does: `top_k` in, `data` out.",
    "video_url": "Takes videos as content parts of type `video_url`.",
    "string_content": "Takes message content as one string only; texts are joined, media are left out.",
    "reasoning_field:reasoning": "Reads earlier thoughts of the assistant from `reasoning`.",
    "reasoning_field:reasoning_content": "Reads earlier thoughts of the assistant from `reasoning_content`.",
}
"""Every quirk there is, with what it means."""


def find_unknown(quirks: Iterable[str]) -> list[str]:
    """Return those of `quirks` that no writer knows, in order."""
    return [quirk for quirk in quirks if quirk not in QUIRKS]


def find_reasoning_field(quirks: Iterable[str]) -> str | None:
    """Return the member a server reads earlier thoughts from, or None if it takes none."""
    for quirk in sorted(quirks):
        kind, _, field = quirk.partition(":")
        if kind == "reasoning_field":
            return field
    return None
