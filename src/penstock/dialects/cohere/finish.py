"""Why a reply ended, between Cohere's `finish_reason` and the hub."""

from penstock.dialects.finish_words import FinishWords

_WORDS = FinishWords(
    meanings={
        "COMPLETE": "stop",
        "STOP_SEQUENCE": "stop",
        "MAX_TOKENS": "length",
        "TOOL_CALL": "tool_calls",
        "ERROR_TOXIC": "content_filter",
        "ERROR": "error",
        "TIMEOUT": "error",
    },
    words={
        "stop": "COMPLETE",
        "length": "MAX_TOKENS",
        "tool_calls": "TOOL_CALL",
        "content_filter": "ERROR_TOXIC",
        "refusal": "ERROR_TOXIC",
        "error": "ERROR",
    },
    stop_sequence="STOP_SEQUENCE",
)
read_finish = _WORDS.read
write_finish = _WORDS.write
