"""What an engine process shows of a model it hosts, so that others can hold it against what was registered.

It shows, it does not judge: log-probabilities after given ids, whether given tokens end a reply, how many tokens it
counted, and whether its adapters keep apart. What is compared with what is decided by whoever asks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.types import HostedModel, Sampling

MAX_PROMPTS = 32
N_TOP = 16
_ROUNDS = 2
Ids = list[int]


class ProofRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/proof`."""

    model: str
    prompts: list[Ids]
    stop_ids: list[int] = []
    other_ids: list[int] = []
    """Further tokens of which is asked whether they end a reply."""
    n_top: int = N_TOP
    fresh: bool = False
    """Also load the file once more, alone, and show what that says."""


def read_proof(body: bytes) -> ProofRequest:
    """Return the request; raise `InvalidInput`."""
    try:
        request = msgspec.json.decode(body, type=ProofRequest)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidInput(f"The request does not fit: {error}.") from error
    if not 1 <= len(request.prompts) <= MAX_PROMPTS or not all(request.prompts):
        raise InvalidInput(f"`prompts` must be 1 to {MAX_PROMPTS} lists of token ids.", param="prompts")
    return request


def show_chat(engine: LlamaEngine, hosted: HostedModel, request: ProofRequest) -> dict[str, Any]:
    """Return what the loaded model says to the prompts."""
    printable = hosted.renderer.encode_texts(["a"])[0][-1]
    first = request.prompts[0]
    return {
        **_facts(hosted, engine),
        "probes": [_probe(engine, ids, request.n_top, printable) for ids in request.prompts],
        "fresh": _load_again(engine, hosted, request, printable) if request.fresh else None,
        "stops": {str(each): engine.ends_at(first, each) for each in request.stop_ids},
        "others": {str(each): engine.ends_at(first, each) for each in request.other_ids},
        "adapters": compare_adapters(engine, hosted, request.prompts, printable),
    }


def show_vectors(engine: LlamaEngine, hosted: HostedModel, request: ProofRequest) -> dict[str, Any]:
    """Return what an encoder makes of the ids."""
    fresh = None
    if request.fresh:
        again = LlamaEngine(
            hosted.served.gguf,
            kind=hosted.served.kind,
            context_length=min(hosted.served.context_length, 512),
            n_slots=1,
        )
        fresh = again.embed(request.prompts).tolist()
    return {
        **_facts(hosted, engine),
        "vectors": engine.embed(request.prompts).tolist(),
        "fresh": fresh,
        "adapters": None,
    }


def compare_adapters(
    engine: LlamaEngine, hosted: HostedModel, prompts: Sequence[Ids], printable_id: int
) -> dict[str, Any] | None:
    """Return how far answers that reuse former calls' work are from those that do not, with adapters in turn.

    A cache that is keyed without the adapter gives one adapter's keys and values to the next (llama.cpp issue 26207,
    vLLM issue 42125). `effect` is how far each adapter is from the base; 0 says that it was not applied at all.
    """
    adapters = hosted.served.adapters
    if not adapters:
        return None
    wanted: tuple[int | None, ...] = (None, *range(len(adapters)))

    def ask(ids: Ids, adapter: int | None, *, use_cache: bool) -> Mapping[int, float]:
        return engine.next_logprobs(
            ids, N_TOP, printable_id=printable_id, adapter=adapter, use_cache=use_cache
        )

    truth = {
        (number, adapter): ask(ids, adapter, use_cache=False)
        for number, ids in enumerate(prompts)
        for adapter in wanted
    }
    seen: list[float] = []
    for _ in range(_ROUNDS):
        for number, ids in enumerate(prompts):
            # there and back, so that each one follows each neighbour both ways
            seen += [
                difference(truth[number, adapter], ask(ids, adapter, use_cache=True))
                for adapter in chain(wanted, reversed(wanted))
            ]
    effects = {
        each.digest: find_largest(difference(truth[n, None], truth[n, number]) for n in range(len(prompts)))
        for number, each in enumerate(adapters)
    }
    return {"max_difference": find_largest(seen), "n_compared": len(seen), "effect": effects}


def find_largest(differences: Iterable[float]) -> float:
    """Return the largest, or NaN where one is: `max` loses it, by where it stands. What is NaN here is null in JSON."""
    found = list(differences)
    return math.nan if any(map(math.isnan, found)) else max(found, default=0.0)


def difference(expected: Mapping[int, float], seen: Mapping[int, float]) -> float:
    """Return the largest difference among the likeliest half of `expected`; a token missing in `seen` counts with
    the distance to the least likely one there. NaN where either holds what is no number."""
    if not all(map(math.isfinite, [*expected.values(), *seen.values()])):
        return math.nan
    floor = min(seen.values())
    likeliest = sorted(expected, key=lambda each: -expected[each])[: max(1, len(expected) // 2)]
    return max(abs(expected[each] - seen.get(each, min(floor, expected[each]))) for each in likeliest)


def _facts(hosted: HostedModel, engine: LlamaEngine) -> dict[str, Any]:
    served = hosted.served
    return {
        "model": served.name,
        "version": served.version,
        "digest": served.digest,
        "renderer_digest": hosted.renderer.digest,
        "context_length": engine.context_length,
        "sampling": msgspec.to_builtins(served.sampling),
        "stop_ids": list(served.stop_ids),
    }


def _probe(engine: LlamaEngine, ids: Ids, n_top: int, printable_id: int) -> dict[str, Any]:
    greedy = Sampling(
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        repeat_penalty=1.0,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        max_tokens=1,
        stop=(),
        seed=None,
    )
    counted = engine.generate(ids, greedy, lambda _: False)
    return {
        "top": _texts(engine.next_logprobs(ids, n_top, printable_id=printable_id)),
        "n_prompt_tokens": counted.prompt_tokens,
    }


def _load_again(
    engine: LlamaEngine, hosted: HostedModel, request: ProofRequest, printable_id: int
) -> list[dict[str, float]]:
    longest = max(map(len, request.prompts)) + 8
    again = LlamaEngine(
        hosted.served.gguf,
        kind="chat",
        context_length=min(engine.context_length, max(longest, 256)),
        n_slots=1,
    )
    return [
        _texts(again.next_logprobs(ids, request.n_top, printable_id=printable_id)) for ids in request.prompts
    ]


def _texts(found: Mapping[int, float]) -> dict[str, float]:
    return {str(token): value for token, value in found.items()}
