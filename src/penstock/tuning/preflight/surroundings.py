"""What can be wrong before a single row is read: the base, its tokens, licences, memory and disk, adapters. Pure."""

import re
from collections.abc import Iterator

from penstock.base.errors import PenstockError
from penstock.spec.datasets import DatasetFacts
from penstock.spec.messages import Message
from penstock.tuning.preflight.types import BaseFacts, Finding, FindingCode, Flight
from penstock.tuning.renderer import Renderer

SERVABLE_TARGETS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
"""Linear layers whose adapters both llama.cpp and vLLM load."""
_TOKEN = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:start|end|bos|eos|pad|unk)(?:_of_\w+)?>|\[/?INST\]")
"""What looks like a control token in a rendered conversation."""
_COARSE = frozenset({"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "int8", "int4"})
_FORBIDDING = re.compile(r"(^|-)nd(-|$)|no-?deriv", re.IGNORECASE)
_NON_COMMERCIAL = re.compile(r"(^|-)nc(-|$)|non-?commercial|research-only", re.IGNORECASE)
_STAYING = re.compile(r"(^|-)sa(-|$)|^(a|l)?gpl|^llama|^gemma|^openrail|^bigscience", re.IGNORECASE)
_NAMELESS = frozenset({"", "other", "unknown", "none", "proprietary"})


def look_around(flight: Flight) -> Iterator[Finding]:
    """Yield what is wrong around the rows."""
    if flight.base is not None:
        yield from _look_at_base(flight.base)
    if flight.renderer is not None:
        yield from _look_at_renderer(flight, flight.renderer)
    yield from _look_at_licences(flight)
    yield from _look_at_adapter(flight)


def refuse(code: FindingCode, message: str, hint: str) -> Finding:
    """Return a finding about no row in particular that keeps the run from starting."""
    return Finding(code=code, severity="refuse", message=message, hint=hint)


def warn(code: FindingCode, message: str, hint: str) -> Finding:
    """Return a finding about no row in particular that is told and no more."""
    return Finding(code=code, severity="warn", message=message, hint=hint)


def _look_at_base(base: BaseFacts) -> Iterator[Finding]:
    if base.revision is None or base.digest is None:
        yield refuse(
            "base-without-revision",
            f"{base.ref} does not say of which revision its weights are, so nobody could train the same again.",
            "Pull it again by revision: penstock model pull OWNER/NAME --revision COMMIT.",
        )
    if (base.precision or "").lower() in _COARSE:
        yield refuse(
            "base-not-trainable",
            f"{base.ref} is stored as {base.precision}: what rounding took away cannot be trained back.",
            "Name the version that it was quantised from.",
        )


def _look_at_renderer(flight: Flight, renderer: Renderer) -> Iterator[Finding]:
    declared = None if flight.base is None else flight.base.renderer_digest
    if declared is not None and declared != renderer.digest:
        yield refuse(
            "template-mismatch",
            f"The base's version declares the renderer {declared[:19]}…, but the run would render with"
            f" {renderer.digest[:19]}….",
            "Train with the template that the model is served with; register the model again if it has changed.",
        )
    if flight.base is not None and flight.base.vocab_size is not None:
        n_ids = renderer.vocab_size
        if n_ids > flight.base.vocab_size:
            yield warn(
                "vocabulary-mismatch",
                f"The tokenizer knows {n_ids:,} tokens, the model {flight.base.vocab_size:,}.",
                "Rows that use a token the model has no weights for are refused one by one.",
            )
    if renderer.spec.chat_template is None:
        return
    odd = sorted(find_odd_tokens(renderer))
    if odd:
        yield refuse(
            "unknown-special-tokens",
            f"The chat template writes {', '.join(odd)}, which the tokenizer does not know as one token each.",
            "Take a base whose template fits its tokenizer, or add the tokens to the tokenizer before training it.",
        )
    if not renderer.stop_ids:
        yield refuse(
            "eos-not-trained",
            "No token ends a turn: neither eos_token nor the chat template names one that the tokenizer knows.",
            "Give the renderer stop_tokens, or a template that writes eos_token behind each reply.",
        )


def find_odd_tokens(renderer: Renderer) -> set[str]:
    """Return what the template writes like a control token and the tokenizer cuts into several."""
    said = [
        Message(role="system", content="a"),
        Message(role="user", content="b"),
        Message(role="assistant", content="c"),
    ]
    text = ""
    for messages in (said, said[1:]):
        try:
            text += renderer.render_text(messages) + renderer.render_text(messages[:-1])
        except PenstockError:  # a template may refuse system messages; rows that have one are told
            continue
    named = [
        token for name, token in renderer.spec.special_tokens.items() if name in {"bos_token", "eos_token"}
    ]
    found = {*_TOKEN.findall(text), *named, *(renderer.spec.stop_tokens or ())}
    return {token for token in found if token and renderer.count_ids(token) != 1}


def _look_at_licences(flight: Flight) -> Iterator[Finding]:
    named: list[tuple[str, str | None]] = []
    if flight.base is not None:
        named.append((flight.base.ref, flight.base.license))
    if flight.train.facts.license is not None or _is_from_elsewhere(flight.train.facts):
        named.append((flight.train.ref, flight.train.facts.license))
    for ref, licence in named:
        yield from _judge_licence(ref, licence)


def _judge_licence(ref: str, licence: str | None) -> Iterator[Finding]:
    text = (licence or "").strip()
    if text.lower() in _NAMELESS:
        yield warn(
            "licence",
            f"Nobody knows under which licence {ref} is.",
            "Look it up where it comes from, and register it with its licence.",
        )
    elif _FORBIDDING.search(text):
        yield refuse(
            "licence",
            f"{ref} is under {text}, which forbids to make anything from it.",
            "Take another base or other data.",
        )
    elif _NON_COMMERCIAL.search(text):
        yield warn(
            "licence",
            f"{ref} is under {text}: what is made from it must not be used commercially.",
            "The model's card will say so.",
        )
    elif _STAYING.search(text):
        yield warn(
            "licence", f"{ref} is under {text}, which stays with what is made from it.", "Read its terms."
        )


def _is_from_elsewhere(facts: DatasetFacts) -> bool:
    return any(source.get("kind") == "hub" for source in facts.sources)


def _look_at_adapter(flight: Flight) -> Iterator[Finding]:
    recipe = flight.recipe
    adapter = recipe.adapter
    is_kept = recipe.output.form != "merged"
    if adapter is not None:
        odd = sorted({target.rpartition(".")[2] for target in adapter.targets} - SERVABLE_TARGETS)
        if odd:
            yield refuse(
                "adapter-not-servable",
                f"Adapters of {', '.join(odd)} are served by no engine and merged by nothing here.",
                f"Leave targets out to take all of {', '.join(sorted(SERVABLE_TARGETS))}.",
            )
    if recipe.method == "dora" and is_kept:
        yield refuse(
            "adapter-not-servable",
            "Engines load plain low-rank adapters; the magnitudes of DoRA would be left out.",
            'Merge it: output.form = "merged".',
        )
