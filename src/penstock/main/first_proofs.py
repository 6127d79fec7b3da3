"""What an installation begins with is proven too: before its first engine serves a version, the file is asked.

Later versions are proven beside the engine that serves (`shared_engine.py`). The first one has nobody beside it, so the
process itself loads the file once, alone, and holds what it says against what was noted at registration. That is done
once for a version and a build of the engine, and remembered in `HOME/run/proven.json`.
"""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from penstock.base.errors import PenstockError
from penstock.base.files import write_atomic
from penstock.deploy.deployments.errors import ProofFailed
from penstock.deploy.deployments.proofs import judge_engine
from penstock.main.embedded import ModelRooms
from penstock.main.engine_proofs import EngineProver, fit_prompts
from penstock.main.hosting import host_version
from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.proof import ProofRequest, show_chat
from penstock.providers.engines.types import HostedModel

MIN_CONTEXT = 256
MAX_EARLIER = 3
"""So many versions before the one that `prod` names are tried at most: each is loaded."""
_MAX_KEPT = 200


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What is hosted of one model, and what was refused on the way to it."""

    hosted: HostedModel | None = None
    """None where no version of it may be served."""
    number: int | None = None
    refused: str | None = None
    """Why the version that `prod` names is not the one."""
    is_for_good: bool = False
    """Whether it was the version itself that failed, so that trying again changes nothing."""


class FirstProofs:
    """Proofs of one home by one build of the engine. Used by one process while nobody else writes the file."""

    def __init__(
        self,
        rooms: ModelRooms,
        *,
        build: str | None = None,
        load: Callable[[HostedModel, int], LlamaEngine] | None = None,
    ) -> None:
        """`load` loads a model with a context of so many tokens."""
        self._rooms = rooms
        self._build = build or engine_build()
        self._load = load or _load

    def begin(self, name: str, number: int) -> Begun:
        """Return the version to begin with: `number`, which `prod` names, or else the last one before it that proves."""
        try:
            return Begun(hosted=self.host(name, number), number=number)
        except PenstockError as error:
            refused = error
        told = Begun(refused=refused.message, is_for_good=isinstance(refused, ProofFailed))
        for earlier in islice(self._earlier(name, number), MAX_EARLIER):
            with suppress(PenstockError):
                return dataclasses.replace(told, hosted=self.host(name, earlier), number=earlier)
        return told

    def host(self, name: str, number: int) -> HostedModel:
        """Return a version, proven now or before; raise what makes it unfit to be served."""
        hosted = host_version(self._rooms, f"model:{name}@{number}")
        served = hosted.served
        if served.kind != "chat" or self._known().get(served.digest) == self._build:
            return hosted  # of encoders nothing was noted that could be asked for
        version = self._rooms.registry.get_by_digest(served.digest)
        expected = fit_prompts(EngineProver(self._rooms).expect(version), served.context_length)
        longest = max(map(len, expected.prompts))
        engine = self._load(hosted, min(served.context_length, max(MIN_CONTEXT, longest + 8)))
        request = ProofRequest(
            model=served.name,
            prompts=[list(each) for each in expected.prompts],
            stop_ids=list(expected.stop_ids),
        )
        judge_engine(show_chat(engine, hosted, request), expected)
        self._remember(served.digest)
        return hosted

    def _earlier(self, name: str, number: int) -> Iterator[int]:
        """Yield what `prod` named before, the latest first."""
        seen = {number}
        for move in self._rooms.registry.history("model", name, "prod"):
            for each in (move.to_number, move.from_number):
                if each is not None and each not in seen:
                    seen.add(each)
                    yield each

    @property
    def _path(self) -> Path:
        return self._rooms.home.run / "proven.json"

    def _known(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.DecodeError):
            return {}

    def _remember(self, digest: str) -> None:
        known = {**{each: by for each, by in self._known().items() if each != digest}, digest: self._build}
        latest = dict(list(known.items())[-_MAX_KEPT:])
        write_atomic(self._path, msgspec.json.encode(latest), mode=0o600)


def engine_build() -> str:
    """Return what else than the file decides what an engine says: its build, and the kind of machine."""
    return f"xllamacpp {importlib.metadata.version('xllamacpp')} {platform.machine()}"


def _load(hosted: HostedModel, context_length: int) -> LlamaEngine:
    return LlamaEngine(hosted.served.gguf, kind="chat", context_length=context_length, n_slots=1)
