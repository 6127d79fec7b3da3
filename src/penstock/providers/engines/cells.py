"""One model in an engine process: its engine, its lane, and what is made of it when it is first asked for."""

import threading
from dataclasses import dataclass

from penstock.providers.engines.errors import EngineFailed
from penstock.providers.engines.lanes import Lane
from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.measuring import TokenEncoder
from penstock.providers.engines.ranking import Ranker, read_head
from penstock.providers.engines.types import GenerationEnd, HostedModel


@dataclass
class Tally:
    """What a model has done since its process started. Written by the event loop alone."""

    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    busy_s: float = 0.0
    """Time that replies took, added up; more than the time that went by where slots worked side by side."""

    def count(self, end: GenerationEnd, took_s: float) -> None:
        """Count a reply."""
        self.requests += 1
        self.prompt_tokens += end.prompt_tokens
        self.cached_tokens += end.cached_tokens
        self.completion_tokens += end.completion_tokens
        self.busy_s += took_s


class Cell:
    """A hosted model, its engine (None if it did not load) and its lane."""

    def __init__(
        self, hosted: HostedModel, engine: LlamaEngine | None, lane: Lane, failure: str | None
    ) -> None:
        self.hosted = hosted
        self.tally = Tally()
        self.lane = lane
        self.failure = failure
        self._engine = engine
        self._encoder: TokenEncoder | None = None
        self._ranker: Ranker | None = None
        self._lock = threading.Lock()

    def ranker(self) -> Ranker:
        """The engine with the model's head, which is read when it is first asked for."""
        with self._lock:
            if self._ranker is None:
                head = read_head(self.hosted.served.gguf)
                self._ranker = Ranker(self.engine, self.hosted.renderer, head)
            return self._ranker

    def token_encoder(self, n_threads: int) -> TokenEncoder:
        """The model without pooling, loaded when it is first asked for: few installations ever do."""
        with self._lock:
            if self._encoder is None:
                served = self.hosted.served
                self._encoder = TokenEncoder(
                    served.gguf, context_length=served.context_length, n_threads=n_threads
                )
            return self._encoder

    @property
    def engine(self) -> LlamaEngine:
        """The loaded engine; raises `EngineFailed` if it did not load."""
        if self._engine is None:
            raise EngineFailed(f"The model {self.hosted.served.name} did not load: {self.failure}")
        return self._engine
