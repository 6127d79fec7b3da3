"""What a single call shows, in milliseconds. Pure.

Latencies are counted from the moment a call was due; those of `*_sent` from the moment it was sent. With a sender that keeps
its plan the two differ only by waiting for a free place.
"""

from collections.abc import Callable, Mapping

from penstock.deploy.load.types import Sample


def ttft(sample: Sample) -> float | None:
    """Due to the first piece with text; None for whole replies."""
    return None if sample.first_s is None else (sample.first_s - sample.due_s) * 1000


def ttft_sent(sample: Sample) -> float | None:
    """Sent to the first piece with text."""
    return None if sample.first_s is None else (sample.first_s - sample.sent_s) * 1000


def e2e(sample: Sample) -> float | None:
    """Due to the end."""
    return (sample.ended_s - sample.due_s) * 1000


def e2e_sent(sample: Sample) -> float | None:
    """Sent to the end."""
    return (sample.ended_s - sample.sent_s) * 1000


def tpot(sample: Sample) -> float | None:
    """(End − first piece) / (completion tokens − 1), tokens as the reply's usage tells them."""
    if sample.first_s is None or sample.completion_tokens is None or sample.completion_tokens < 2:
        return None
    return (sample.ended_s - sample.first_s) * 1000 / (sample.completion_tokens - 1)


def itl(sample: Sample) -> float | None:
    """The longest time between two pieces; over many calls all times between pieces are counted instead."""
    return sample.longest_gap_ms


def overhead(sample: Sample) -> float | None:
    """What the gateway says it added before the provider was asked."""
    return sample.overhead_ms


def lateness(sample: Sample) -> float | None:
    """By how much the sender woke too late."""
    return sample.late_s * 1000


MEASURES: Mapping[str, Callable[[Sample], float | None]] = {
    "ttft": ttft,
    "e2e": e2e,
    "ttft_sent": ttft_sent,
    "e2e_sent": e2e_sent,
    "tpot": tpot,
    "itl": itl,
    "overhead": overhead,
    "lateness": lateness,
}


def queueing(sample: Sample, alone_ms: float | None) -> float | None:
    """Return by how much the first text (or the end of a whole reply) came later than for a call that is alone."""
    begun = ttft(sample) if sample.first_s is not None else e2e(sample)
    return None if alone_ms is None or begun is None else max(0.0, begun - alone_ms)


def alone_times(warmups: list[Sample]) -> dict[tuple[str, str], float]:
    """Return the median time to the first text of calls that were alone, by target and class.

    The very first call of a target is left out when there are others: it opens connections and fills caches.
    """
    found: dict[tuple[str, str], list[float]] = {}
    seen: set[str] = set()
    repeated = {sample.target for sample in warmups if sample.number > 0 and not sample.error}
    for sample in warmups:
        is_first = sample.target not in seen
        seen.add(sample.target)
        if sample.error or (is_first and sample.target in repeated):
            continue
        value = ttft(sample) if sample.first_s is not None else e2e(sample)
        if value is not None:
            found.setdefault((sample.target, sample.kind), []).append(value)
            found.setdefault((sample.target, ""), []).append(value)
    return {key: sorted(values)[len(values) // 2] for key, values in found.items()}


def alone_of(sample: Sample, alone: Mapping[tuple[str, str], float]) -> float | None:
    """Return what such a call takes alone."""
    return alone.get((sample.target, sample.kind), alone.get((sample.target, "")))
