"""Proves a server of somebody else's make: vLLM, or anything that speaks OpenAI's words.

Such a server renders messages itself, so the first thing held against the registry is how many tokens it makes of the
golden conversations. Then, as far as it takes token ids, what it says after them. How strong the proof is, is told.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from penstock.base.errors import UpstreamError
from penstock.deploy.deployments.errors import DeploymentInvalid
from penstock.deploy.deployments.proofs import SOURCE_NATS, Findings, difference
from penstock.deploy.deployments.types import Generation
from penstock.main.embedded import ModelRooms
from penstock.main.engine_calls import EngineCalls
from penstock.tuning.renderer import Renderer
from penstock.tuning.served import load_served_renderer

N_TOP = 5
GREEDY_TOKENS = 8
PROBE_TIMEOUT_S = 300.0
Strength = Literal["logprobs", "greedy", "tokens", "names"]
"""`logprobs`: after the same ids it says the same. `greedy`: it begins replies alike. `tokens`: it makes as many tokens
of the same messages. `names`: nothing could be compared but the model's name."""


def prove_server(rooms: ModelRooms, generation: Generation, url: str, key: str | None) -> dict[str, Any]:
    """Return the proof of a server; raise `ProofFailed`, `DeploymentInvalid`, `UpstreamError`."""
    calls = EngineCalls(url, key, timeout_s=120.0)
    name = generation.served_name
    _demand_name(calls, name)
    version = rooms.registry.get_by_digest(generation.model.digest)
    golden = [each for each in version.content.get("golden") or () if _ends_open(each)]
    found = Findings(version.label)
    server = _Server(found=found, calls=calls, name=name)
    strength: Strength = "names"
    if golden and server.hold_counts(golden):
        strength = "tokens"
    prompts = [each["ids"][:200] for each in golden][:3]
    if prompts and not found.problems and "model.gguf" in version.artefacts:
        reference = _ask_own_engine(rooms, version.label, prompts)
        renderer = load_served_renderer(rooms.models.serve_version(version.label))
        if server.hold_logprobs(
            prompts, reference, renderer, SOURCE_NATS.get(str(version.content["precision"]), 0.5)
        ):
            strength = "logprobs"
        elif not found.problems and server.hold_greedy(prompts, reference):
            strength = "greedy"
    return {**found.finish(), "strength": strength, "note": _NOTES[strength]}


_NOTES: Mapping[Strength, str] = {
    "logprobs": "log-probabilities after the same token ids, and token counts of the same messages",
    "greedy": "the server tells no log-probabilities: replies to the same token ids begin alike",
    "tokens": "the server takes no token ids: it makes as many tokens of the golden conversations as the renderer, "
    "which is weaker than a comparison of what it says",
    "names": "nothing could be compared but the model's name",
}


def _demand_name(calls: EngineCalls, name: str) -> None:
    reply = calls.get("/models")
    if reply.status in {401, 403}:
        raise DeploymentInvalid(
            f"{calls.url} refuses the key: {reply.message}", hint="Name a sealed secret with --secret."
        )
    listed = reply.body.get("data") if isinstance(reply.body, dict) else None
    if not isinstance(listed, list):
        raise UpstreamError(f"{calls.url}/models does not list models: {reply.message}")
    names = [str(each.get("id")) for each in listed if isinstance(each, dict)]
    if name not in names:
        raise DeploymentInvalid(
            f"{calls.url} serves no model {name!r}; it serves {', '.join(names) or 'none'}.",
            hint="Give the name it has there with --served-name.",
        )


def _ends_open(golden: Mapping[str, Any]) -> bool:
    """Whether the ids are what a chat call renders to: those with a mask hold the answer too."""
    return bool(golden.get("messages")) and not golden.get("mask")


@dataclass(frozen=True, kw_only=True)
class _Server:
    """A server and what was found of it so far."""

    found: Findings
    calls: EngineCalls
    name: str

    def hold_counts(self, golden: Sequence[Mapping[str, Any]]) -> bool:
        """Compare how many tokens it makes of conversations; return whether it tells."""
        counts: list[int | None] = []
        for each in golden:
            messages = [{"role": one["role"], "content": one["content"]} for one in each["messages"]]
            reply = self.calls.post(
                "/chat/completions",
                {"model": self.name, "messages": messages, "max_tokens": 1, "temperature": 0},
            )
            if reply.status >= 500:
                raise UpstreamError(f"{self.calls.url} failed: {reply.message}")
            usage = reply.body.get("usage") if reply.status == 200 and isinstance(reply.body, dict) else None
            counts.append(usage.get("prompt_tokens") if isinstance(usage, dict) else None)
        expected = [len(each["ids"]) for each in golden]
        known = [(seen, own) for seen, own in zip(counts, expected, strict=True) if seen is not None]
        self.found.hold(
            "prompt_tokens",
            all(seen == own for seen, own in known),
            {"server": counts, "renderer": expected},
            f"it makes {counts} tokens of the golden conversations where the renderer makes {expected}: another "
            "template, or another token at the start",
        )
        return bool(known)

    def hold_logprobs(
        self,
        prompts: Sequence[list[int]],
        reference: Sequence[Mapping[str, Any]],
        renderer: Renderer,
        bound: float,
    ) -> bool:
        """Compare log-probabilities after token ids, both ways; return whether it tells them."""
        worst, n_compared = 0.0, 0
        for ids, own in zip(prompts, reference, strict=True):
            body = {"model": self.name, "prompt": ids, "max_tokens": 1, "temperature": 0, "logprobs": N_TOP}
            reply = self.calls.post("/completions", body)
            top = _top_logprobs(reply.body) if reply.status == 200 else None
            if top is None:
                return False
            listed = _by_text((renderer.decode([int(token)]), value) for token, value in own["top"].items())
            seen = _by_text(top.items())
            if not seen or not listed:  # pieces of characters only: nothing that both write alike
                continue
            n_compared += 1
            worst = max(worst, difference(listed, seen), difference(seen, listed))
        if not n_compared:
            return False
        self.found.hold(
            "logprobs",
            worst <= bound,
            {"max_difference": worst, "bound": bound, "n": n_compared},
            f"log-probabilities are {worst:.3g} nats from those of the registered file (bound {bound:g})",
        )
        return True

    def hold_greedy(self, prompts: Sequence[list[int]], reference: Sequence[Mapping[str, Any]]) -> bool:
        """Compare how replies to token ids begin; return whether it takes ids."""
        texts: list[str] = []
        for ids in prompts:
            body = {"model": self.name, "prompt": ids, "max_tokens": GREEDY_TOKENS, "temperature": 0}
            reply = self.calls.post("/completions", body)
            if reply.status != 200:
                return False
            try:
                texts.append(str(reply.body["choices"][0]["text"]))
            except (KeyError, IndexError, TypeError):
                return False
        own = [each["text"] for each in reference]
        self.found.hold(
            "greedy",
            texts == own,
            {"same": sum(a == b for a, b in zip(texts, own, strict=True)), "n": len(own)},
            f"its replies begin {texts} where those of the registered file begin {own}",
        )
        return True


def _by_text(top: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the likeliest of each text. Servers write the space before a word differently or not at all, and pieces of
    characters each in a way of its own: those are left out."""
    found: dict[str, float] = {}
    for written, value in top:
        text = written.lstrip(" \u2581\u0120") or " "
        if "\ufffd" not in text and not text.startswith(("bytes:", "\\x", "<0x")):
            found[text] = max(value, found.get(text, value))
    return found


def _top_logprobs(body: Any) -> dict[str, float] | None:
    try:
        (top, *_) = body["choices"][0]["logprobs"]["top_logprobs"]
        return {str(text): float(value) for text, value in top.items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def _ask_own_engine(rooms: ModelRooms, label: str, prompts: Sequence[list[int]]) -> list[dict[str, Any]]:
    """Return what the registered file says to the prompts, asked in a process of its own, for it is native code."""
    command = [sys.executable, "-m", "penstock.main.probing_process", str(rooms.home.root), label]
    body = json.dumps({"prompts": prompts, "n_top": 4 * N_TOP, "max_tokens": GREEDY_TOKENS})
    try:
        done = subprocess.run(
            command, input=body, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
        shown: list[dict[str, Any]] = json.loads(done.stdout)["prompts"]
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise UpstreamError(f"{label} could not be asked for comparison.") from error
    return shown
