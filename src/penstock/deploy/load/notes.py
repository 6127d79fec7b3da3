"""What a reader of a load test's figures should know before believing them. Pure."""

from collections.abc import Sequence

from penstock.deploy.load.types import LoadSpec, Sample


def find_notes(spec: LoadSpec, samples: Sequence[Sample], warmups: Sequence[Sample]) -> list[str]:
    """Return sentences about replies that were kept, retried, short, whole or without usage."""
    notes = []
    ok = [sample for sample in samples if not sample.error]
    cached = sum(sample.cache in {"hit", "semantic", "shared"} for sample in ok)
    if cached:
        notes.append(f"{cached} replies came from the gateway's cache: nobody was asked for them.")
    retried = sum((sample.attempts or 1) > 1 for sample in samples)
    if retried:
        notes.append(
            f"The gateway sent {retried} calls more than once (retries or fallbacks of the route); their whole time counts."
        )
    short = [
        each for each in ok if each.completion_tokens is not None and each.completion_tokens < each.max_tokens
    ]
    if ok and len(short) > len(ok) / 2:
        mean = sum(each.completion_tokens or 0 for each in short) / len(short)
        notes.append(
            f"{len(short)} of {len(ok)} replies ended before the length that was asked for (after {mean:.0f} tokens on average): "
            "the model stops by itself, so figures are of the lengths it writes."
        )
    told = [each for each in ok if each.completion_tokens and each.n_pieces]
    pieces, tokens = sum(each.n_pieces for each in told), sum(each.completion_tokens or 0 for each in told)
    if told and spec.stream and tokens > 1.2 * pieces:
        notes.append(
            f"Pieces of the streams hold {tokens / pieces:.1f} tokens on average, so times between pieces are longer than "
            "those between tokens; tpot is by tokens."
        )
    without = sum(each.completion_tokens is None for each in ok)
    if without:
        notes.append(f"{without} replies tell no usage; token rates leave them out.")
    if spec.stream and ok and not any(each.first_s is not None for each in ok):
        notes.append("No reply came as a stream, so there is no time to the first token.")
    failed = sum(bool(each.error) for each in warmups)
    if failed:
        notes.append(f"{failed} of {len(warmups)} calls of the warm-up failed: {warmups[-1].detail}")
    return notes
