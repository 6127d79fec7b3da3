"""`deploy.deployments.ports.Prover`: asks engines to show what they serve and holds it against the registry."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.deploy.deployments.proofs import Expected, judge_engine
from penstock.deploy.deployments.types import Generation, PinnedModel
from penstock.main.embedded import SHIPPED, ModelRooms
from penstock.main.engine_calls import EngineCalls
from penstock.main.server_proofs import prove_server
from penstock.registry.types import Version
from penstock.spec.tuning import DeploymentSpec
from penstock.tuning.model_files import GGUF
from penstock.tuning.served import load_served_renderer

N_PROMPTS = 3
MAX_PROMPT_TOKENS = 200
MAX_OTHERS = 32
ROOM = 8
"""Tokens of a context that a proof leaves free for what comes after a prompt."""
TIMEOUT_S = 300.0
_TEXTS = ("Walking every day keeps the heart strong.", "How much water should I drink?", "120/80 mmHg")


class EngineProver:
    """Proofs over one home. May take seconds: it runs in a background thread."""

    def __init__(self, rooms: ModelRooms) -> None:
        self._rooms = rooms

    def prove(self, spec: DeploymentSpec, generation: Generation, urls: Sequence[str]) -> Mapping[str, Any]:
        """Return the proof of each process; see the port."""
        if spec.engine != "embedded":
            key = self._key(spec, urls[0])
            return {"engines": [prove_server(self._rooms, generation, url, key) for url in urls]}
        proofs = []
        for number, url in enumerate(urls):
            adapters = generation.adapters
            if generation.is_strict:
                n_base = len(urls) - len(adapters)
                adapters = () if number < n_base else (adapters[number - n_base],)
            proofs.append(
                self.prove_model(
                    url, generation.served_name, generation.model, adapters, context=generation.context_length
                )
            )
        return {"engines": proofs}

    def prove_model(
        self,
        url: str,
        served_name: str,
        model: PinnedModel,
        adapters: Sequence[PinnedModel] = (),
        *,
        context: int | None = None,
    ) -> dict[str, Any]:
        """Return the proof of one model of an engine of our own, served with that context; raise `ProofFailed`,
        `UpstreamError`."""
        version = self._rooms.registry.get_by_digest(model.digest)
        expected = fit_prompts(self.expect(version, adapters), context)
        calls = EngineCalls(url, self._rooms.internal_key, timeout_s=TIMEOUT_S)
        shown = calls.demand(
            "POST",
            "/proof",
            {
                "model": served_name,
                "prompts": [list(each) for each in expected.prompts],
                "stop_ids": list(expected.stop_ids),
                "other_ids": self._others(version, expected.stop_ids),
                "fresh": True,
            },
        )
        return judge_engine(shown, expected)

    def expect(self, version: Version, adapters: Sequence[PinnedModel] = ()) -> Expected:
        """Return what was registered of a version."""
        content = {**_shipped_probe(version), **version.content}
        stored = [each for each in content.get("probe") or () if each.get("ids")]
        if stored:
            prompts = [tuple(each["ids"]) for each in stored]
        elif content.get("golden"):
            prompts = [tuple(each["ids"][:MAX_PROMPT_TOKENS]) for each in content["golden"]][:N_PROMPTS]
        else:
            renderer = load_served_renderer(self._rooms.models.serve_version(version.label))
            prompts = [tuple(ids) for ids in renderer.encode_texts(_TEXTS)]
        return Expected(
            label=version.label,
            digest=version.digest,
            renderer_digest=content.get("renderer_digest"),
            prompts=tuple(prompts),
            stop_ids=tuple(content.get("stop_ids") or ()),
            precision=str(content.get("precision") or "f16"),
            stored=tuple({int(token): value for token, value in each["top"].items()} for each in stored)
            if stored
            else None,
            adapters=tuple(each.digest for each in adapters),
        )

    def _others(self, version: Version, stop_ids: Sequence[int]) -> list[int]:
        """Return control tokens that are no stop tokens: whether the engine ends a reply at them is told."""
        if version.content.get("kind") != "chat" or not stop_ids:
            return []
        renderer = load_served_renderer(self._rooms.models.serve_version(version.label))
        return sorted(set(renderer.control_tokens.values()) - set(stop_ids))[:MAX_OTHERS]

    def _key(self, spec: DeploymentSpec, url: str) -> str | None:
        if spec.engine == "vllm" and not spec.url:
            return self._rooms.internal_key
        return self._rooms.open_secret(spec.secret, url) if spec.secret else None


def _shipped_probe(version: Version) -> dict[str, Any]:
    """Return what the shipped model must say, where a version has its very file: its manifest is older than probes."""
    try:
        told: dict[str, Any] = json.loads((SHIPPED / "pocket" / "probe.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return told if told.pop("gguf", None) == version.artefacts.get(GGUF) else {}


def fit_prompts(expected: Expected, context: int | None) -> Expected:
    """Return what is expected with prompts that a context holds. What was noted at registration after a prompt says
    nothing of its beginning, so a prompt that is cut is held against a fresh load of the file alone."""
    longest = max(map(len, expected.prompts), default=0)
    if context is None or longest + ROOM <= context:
        return expected
    fitting = [number for number, each in enumerate(expected.prompts) if len(each) + ROOM <= context]
    if expected.stored is not None and fitting:
        return dataclasses.replace(
            expected,
            prompts=tuple(expected.prompts[number] for number in fitting),
            stored=tuple(expected.stored[number] for number in fitting),
        )
    cut = tuple(each[: max(1, context - ROOM)] for each in expected.prompts)
    return dataclasses.replace(expected, prompts=cut, stored=None)
