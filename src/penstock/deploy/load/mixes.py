"""What calls ask: classes by weight, prompts of stated lengths or from rows. Deterministic for a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

import msgspec

from penstock.deploy.load.errors import InvalidLoadTest, NothingToAsk
from penstock.deploy.load.types import Length, LoadSpec, MixClass

_WORDS = [
    "water",
    "walk",
    "light",
    "stone",
    "river",
    "bread",
    "table",
    "green",
    "paper",
    "morning",
    "window",
    "garden",
    "small",
    "round",
    "quiet",
    "early",
    "winter",
    "summer",
    "simple",
    "careful",
    "market",
    "letter",
    "number",
    "answer",
    "family",
    "school",
    "person",
    "minute",
    "hour",
    "day",
    "week",
    "open",
    "close",
    "carry",
    "bring",
    "write",
    "read",
    "learn",
    "teach",
    "begin",
    "finish",
    "follow",
    "measure",
    "count",
    "weigh",
    "rest",
    "sleep",
    "drink",
    "salt",
    "sugar",
    "fruit",
    "grain",
    "meal",
    "plate",
    "glass",
    "hand",
    "foot",
    "knee",
    "back",
    "heart",
    "breath",
    "step",
    "road",
    "hill",
    "bridge",
    "train",
]
START_WORDS_PER_TOKEN = 0.75
"""Until replies say what a prompt really came to."""


class Material(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a class of the mix draws from, where it is not words alone."""

    conversations: tuple[tuple[dict[str, Any], ...], ...] = ()
    """Messages of each row, in OpenAI's form."""
    lengths: tuple[tuple[int, int], ...] = ()
    """Prompt and completion tokens of recorded calls."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One call to be sent."""

    kind: str
    messages: Sequence[Mapping[str, Any]]
    max_tokens: int
    prompt_tokens: int
    """Wanted or guessed; what it came to is told by the reply."""


class Mix:
    """Draws calls. What is drawn for a number depends on seed, block and number alone: two targets are asked alike."""

    def __init__(self, spec: LoadSpec, material: Mapping[str, Material]) -> None:
        check_mix(spec)
        self._spec = spec
        self._material = material
        self._sums = list(accumulate(one.weight for one in spec.mix))
        for one in spec.mix:
            held = material.get(one.name)
            if one.source != "words" and (held is None or not (held.conversations or held.lengths)):
                raise NothingToAsk(f"{one.source!r} gives nothing to ask for class {one.name!r}.")

    def draw(
        self, block: int, number: int, words_per_token: float = START_WORDS_PER_TOKEN, kind: str | None = None
    ) -> Ask:
        """Return a call; `kind` asks for one of that class."""
        rng = Random(f"{self._spec.seed}/{block}/{number}")
        at = rng.random() * self._sums[-1]
        chosen = next(
            (one for one, total in zip(self._spec.mix, self._sums, strict=True) if at < total),
            self._spec.mix[-1],
        )
        if kind is not None:
            chosen = next(one for one in self._spec.mix if one.name == kind)
        held = self._material.get(chosen.name, Material())
        max_tokens = draw_length(chosen.completion_tokens, rng)
        if held.conversations:
            messages = rng.choice(held.conversations)
            return self._ask(chosen, messages, max_tokens, sum(len(_text(each)) for each in messages) // 4)
        prompt_tokens = draw_length(chosen.prompt_tokens, rng)
        if held.lengths:
            prompt_tokens, max_tokens = rng.choice(held.lengths)
        shared = write_words(
            Random(f"{self._spec.seed}/shared"), chosen.shared_prefix_tokens * words_per_token
        )
        own = max(0, prompt_tokens - chosen.shared_prefix_tokens)
        text = f"{shared} {write_words(rng, own * words_per_token)}".strip()
        return self._ask(chosen, [{"role": "user", "content": text}], max(1, max_tokens), prompt_tokens)

    def _ask(
        self, chosen: MixClass, messages: Sequence[Mapping[str, Any]], max_tokens: int, prompt_tokens: int
    ) -> Ask:
        system = [{"role": "system", "content": chosen.system}] if chosen.system else []
        return Ask(
            kind=chosen.name,
            messages=[*system, *messages],
            max_tokens=max_tokens,
            prompt_tokens=max(1, prompt_tokens),
        )


def write_words(rng: Random, n_words: float) -> str:
    """Return about so many words; the first differ, so that no prefix is kept from another call."""
    return " ".join(rng.choice(_WORDS) for _ in range(round(n_words)))


def draw_length(length: Length, rng: Random) -> int:
    """Return a number of tokens."""
    return length if isinstance(length, int) else rng.randint(*length)


def mean_length(length: Length) -> float:
    """Return tokens on average."""
    return float(length) if isinstance(length, int) else sum(length) / 2


def largest_length(length: Length) -> int:
    """Return the most tokens it can be."""
    return length if isinstance(length, int) else length[1]


def mean_sizes(spec: LoadSpec, material: Mapping[str, Material]) -> tuple[float, float]:
    """Return prompt and largest completion tokens of a call on average over the mix."""
    total = sum(one.weight for one in spec.mix)
    prompt = completion = 0.0
    for one in spec.mix:
        held, share = material.get(one.name, Material()), one.weight / total
        if held.lengths:
            prompt += share * sum(pair[0] for pair in held.lengths) / len(held.lengths)
            completion += share * sum(pair[1] for pair in held.lengths) / len(held.lengths)
            continue
        if held.conversations:
            letters = sum(len(_text(each)) for row in held.conversations for each in row)
            prompt += share * letters / 4 / len(held.conversations)
        else:
            prompt += share * mean_length(one.prompt_tokens)
        completion += share * mean_length(one.completion_tokens)
    return prompt, completion


def check_mix(spec: LoadSpec) -> None:
    """Raise `InvalidLoadTest` for classes that cannot be drawn."""
    if not spec.mix:
        raise InvalidLoadTest("A mix needs at least one class.", where="mix")
    names = [one.name for one in spec.mix]
    if len(set(names)) != len(names):
        raise InvalidLoadTest("Each class of the mix needs a name of its own.", where="mix")
    for one in spec.mix:
        if not one.weight > 0:
            raise InvalidLoadTest(f"The weight of class {one.name!r} is not over 0.", where="mix.weight")
        for what, length in (("prompt", one.prompt_tokens), ("completion", one.completion_tokens)):
            low, high = (length, length) if isinstance(length, int) else length
            if not 1 <= low <= high:
                raise InvalidLoadTest(
                    f"{one.name!r}: {what}_tokens is a number of tokens, or the least and the most.",
                    where=f"mix.{what}_tokens",
                )
        if one.source not in {"words", "traffic"} and not one.source.startswith("dataset:"):
            raise InvalidLoadTest(
                f"{one.source!r} is no source of prompts.",
                hint="Use words, traffic, or dataset:NAME@VERSION.",
                where="mix.source",
            )


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else str(content or "")
