"""Why a reply ended, between Anthropic's `stop_reason` and the hub."""

from penstock.dialects.finish_words import FinishWords

_WORDS = FinishWords(
    meanings={
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "pause_turn": "pause",
        "refusal": "refusal",
    },
    words={
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "pause": "pause_turn",
        "refusal": "refusal",
        "content_filter": "refusal",
    },
    stop_sequence="stop_sequence",
)
read_finish = _WORDS.read
write_finish = _WORDS.write
