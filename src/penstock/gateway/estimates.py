"""Token counts where a provider told none: a quarter of the bytes of the text, never presented as more than that."""

from collections.abc import Iterable, Iterator
from operator import attrgetter

import msgspec

from penstock.dialects.registry import DIALECTS
from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.text_sizes import BYTES_PER_TOKEN, estimate_prompt_tokens, estimate_reply_tokens
from penstock.spec.hub import Event, PartDelta, PartStart, Refusal, Text, Thinking, ToolCall
from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, Usage

WRITING = frozenset({"chat", "text_completion"})
COUNTED = WRITING | {"embeddings"}
"""Operations whose use can be told from the length of texts."""
_inputs = attrgetter(*INPUT_CLASSES)
_outputs = attrgetter(*OUTPUT_CLASSES)
MAX_PARSED_BYTES = 512 * 1024


def input_estimate(call: Call) -> int:
    """Return about how many tokens the request has. The limiter's own figure where there is one."""
    if call.hold is not None:
        prompt_tokens: int = call.hold.facts.prompt_tokens
        return prompt_tokens
    return estimate_prompt_tokens(call.body)


def complete_usage(call: Call) -> Usage | None:
    """Return the usage of a call that a provider answered: as told, what is missing estimated and marked so.

    None where nothing was told and lengths tell nothing (images, speech). Of a stream that was cut off the provider's
    count of the answer may be that of its beginning; then the longer of told and estimated counts.
    """
    told = call.usage
    if told is None:
        if call.operation not in COUNTED:
            return None
        told = Usage()
    changes: dict[str, int | bool] = {}
    if told.input_tokens is None:
        changes["input_uncached"] = input_estimate(call)
    if call.operation in WRITING:
        known = told.output_tokens
        if known is None:
            changes["output_text"] = output_estimate(call)
        elif is_cut(call) and (seen := output_estimate(call)) > known:
            changes["output_text"] = (told.output_text or 0) + seen - known
    if not changes:
        return told
    return msgspec.structs.replace(told, estimated=True, reported_usd=None, **changes)


def lost_usage(call: Call, record: AttemptRecord) -> Usage | None:
    """Return the usage of an attempt that was sent and did not serve the call: as told, else its input estimated.

    What it may have written is unknown, and nothing is made up for it.
    """
    told = record.usage
    if call.operation not in COUNTED or (told is not None and told.input_tokens is not None):
        return told
    return msgspec.structs.replace(
        told or Usage(), input_uncached=input_estimate(call), estimated=True, reported_usd=None
    )


def is_cut(call: Call) -> bool:
    """Return whether the answer is a stream of which an end is missing, and with it perhaps the true count."""
    return call.streamed and call.error_code is not None and not call.is_whole


def is_complete(usage: Usage | None, operation: str) -> bool:
    """Return whether a provider told all that a bill needs."""
    if usage is None:
        return operation not in COUNTED
    if usage.input_uncached is not None and usage.output_text is not None:
        return True
    if operation in WRITING and _outputs(usage).count(None) == len(OUTPUT_CLASSES):
        return False
    return _inputs(usage).count(None) < len(INPUT_CLASSES)


def output_estimate(call: Call) -> int:
    """Return about how many tokens the answer has that went to the client.

    Limits and bills both ask, and a stream has to be read for it: the second time costs nothing.
    """
    known = call.output_guess
    if known is None or known[0] != call.output_size:
        known = call.output_guess = call.output_size, _guess_output(call)
    return known[1]


def _guess_output(call: Call) -> int:
    kept = call.output
    if isinstance(kept, bytes):
        return _text_tokens(kept, call, is_stream=False)
    if kept:
        return _text_tokens(b"".join(kept), call, is_stream=True)
    return estimate_reply_tokens(call.output_size, streamed=call.streamed)


def _text_tokens(body: bytes, call: Call, *, is_stream: bool) -> int:
    size = max(len(body), call.output_size)
    dialect = DIALECTS.get(call.dialect)
    n_text: int | None = None
    if dialect is not None and len(body) <= MAX_PARSED_BYTES and call.operation == "chat":
        if is_stream:
            n_text = sum(_text_sizes(dialect.stream_reader().feed(body)))
        elif len(body) == size:
            try:
                reply = dialect.read_reply(body)
            except ValueError:
                reply = None
            if reply is not None:
                n_text = sum(_part_size(part) for choice in reply.choices for part in choice.parts)
    if n_text is None:
        return estimate_reply_tokens(size, streamed=is_stream)
    # what was too long to be kept is taken to be of the same kind
    return -(-n_text * size // (max(1, len(body)) * BYTES_PER_TOKEN))


def _text_sizes(events: Iterable[Event]) -> Iterator[int]:
    for event in events:
        if isinstance(event, PartDelta):
            yield len(event.text.encode("utf-8", "replace"))
        elif isinstance(event, PartStart):
            yield _part_size(event.part)


def _part_size(part: object) -> int:
    if isinstance(part, Text | Refusal | Thinking):
        return len((part.text or "").encode("utf-8", "replace"))
    if isinstance(part, ToolCall):
        return len(part.arguments.encode("utf-8", "replace")) + len(part.name)
    return 0
