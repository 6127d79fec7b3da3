"""What an engine can say of a given text: the chance of each of its tokens, and a vector for each of them.

Chances are asked for token by token, each forced by a bias that is added after the probabilities were taken; the prompt's part stays in
the engine's memory, so a text of n tokens costs about as much as writing it. The engine tells nothing beside half a character, so there
the chances of the whole vocabulary are asked for instead.
"""

import http.client
import json
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import InvalidInput
from penstock.providers.engines.errors import ContextOverflow, EngineFailed
from penstock.providers.engines.llama import LlamaEngine
from penstock.providers.engines.types import PromptRenderer
from penstock.spec.messages import Message

MAX_TOKENS = 4096
"""Of a text whose chances are asked for."""
MAX_TEXTS = 64
WHOLE_VOCABULARY = 1_000_000
TIMEOUT_S = 60.0


class LikelihoodRequest(msgspec.Struct, frozen=True):
    """How likely is `continuation` after `prompt`? With an empty prompt the text stands by itself."""

    model: str
    continuation: str
    prompt: str = ""


class TokenEmbeddingRequest(msgspec.Struct, frozen=True):
    """A vector for each token of each text: as numbers, or as base64 of float32 with `dims` numbers a token."""

    model: str
    input: list[str]
    encoding_format: Literal["float", "base64"] = "float"


def read_likelihood(body: bytes) -> LikelihoodRequest:
    """Return the checked request; raise `InvalidInput`."""
    request: LikelihoodRequest = _decode(body, LikelihoodRequest)
    if not request.continuation.strip():
        raise InvalidInput("`continuation` is empty.", param="continuation")
    return request


def read_token_embedding(body: bytes) -> TokenEmbeddingRequest:
    """Return the checked request; raise `InvalidInput`."""
    request: TokenEmbeddingRequest = _decode(body, TokenEmbeddingRequest)
    if not 1 <= len(request.input) <= MAX_TEXTS or not all(text.strip() for text in request.input):
        raise InvalidInput(f"`input` holds 1 to {MAX_TEXTS} texts, none of them empty.", param="input")
    return request


def measure_likelihood(
    engine: LlamaEngine,
    renderer: PromptRenderer,
    request: LikelihoodRequest,
    is_cancelled: Callable[[], bool],
) -> list[tuple[str, float]]:
    """Return each token of the continuation with its log probability.

    With a prompt, that is a user's turn and the continuation the start of the answer; the end of the turn is not measured. Without
    one the first token has nothing before it but the model's own start token, and is left out where there is none.
    """
    start, end = find_edges(renderer)
    whole = renderer.encode_texts([request.continuation])[0]
    text_ids = whole[len(start) : len(whole) - len(end)]
    before = (
        renderer.render_chat([Message(role="user", content=request.prompt)])
        if request.prompt
        else list(start)
    )
    ids = [*before, *text_ids]
    if len(text_ids) > MAX_TOKENS or len(ids) >= engine.context_length:
        raise ContextOverflow(
            f"Prompt and text have {len(ids)} tokens; the model reads {engine.context_length}.",
            n_prompt_tokens=len(ids),
            context_length=engine.context_length,
        )
    printable_id = renderer.encode_texts(["a"])[0][len(start)]
    found = []
    for place in range(max(1, len(before)), len(ids)):
        if is_cancelled():
            break
        found.append(_measure_token(engine, ids[:place], ids[place], printable_id))
    return found


def find_edges(renderer: PromptRenderer) -> tuple[list[int], list[int]]:
    """Return the tokens that a model puts before and after any text."""
    first, second = renderer.encode_texts(["a", "1"])
    n_start = 0
    while n_start < min(len(first), len(second)) and first[n_start] == second[n_start]:
        n_start += 1
    n_end = 0
    while n_end < min(len(first), len(second)) - n_start and first[-1 - n_end] == second[-1 - n_end]:
        n_end += 1
    return list(first[:n_start]), list(first[len(first) - n_end :])


def _measure_token(
    engine: LlamaEngine, before: Sequence[int], token_id: int, printable_id: int
) -> tuple[str, float]:
    told = engine.forced_logprob(before, token_id)
    if told is not None:
        return told
    everything = engine.next_logprobs(before, WHOLE_VOCABULARY, printable_id=printable_id)
    if token_id not in everything:
        raise EngineFailed("The engine tells no probability of a token of its own vocabulary.")
    return "\ufffd", everything[token_id]


class TokenEncoder:
    """An encoder loaded a second time, without pooling: one vector a token. May be used from several threads.

    The in-process handlers refuse that, the server's own port does not; it listens on loopback behind a key that nobody is told.
    """

    def __init__(self, gguf: Path, *, context_length: int, n_threads: int = 1) -> None:
        import xllamacpp  # 100 MB of native code, for the processes that run weights only

        self._context_length = context_length
        self._key = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_ctx = context_length
        params.n_parallel = 1
        params.cpuparams.n_threads = n_threads
        params.cpuparams_batch.n_threads = n_threads
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [self._key]
        params.verbosity = 0
        params.warmup = False
        params.fit_params = False
        params.ui = False
        params.embedding = True
        params.n_batch = params.n_ubatch = max(context_length, 2048)
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_NONE
        try:
            self._server = xllamacpp.Server(params)
        except (
            Exception
        ) as error:  # the binding raises bare RuntimeError for anything that native code reports
            raise EngineFailed(f"The engine could not load {gguf.name} without pooling: {error}") from error
        self._address = urlsplit(self._server.listening_address)

    def encode(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return one L2-normalised row a token. Raises `ContextOverflow`, `EngineFailed`."""
        rows = self.states(ids)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: NDArray[np.float32] = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        return unit

    def states(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return one row a token as it comes out of the last layer; of a chat model, what its head is multiplied with.

        Raises as `encode` does.
        """
        if len(ids) > self._context_length:
            raise ContextOverflow(
                f"A text has {len(ids)} tokens; the model reads at most {self._context_length}.",
                n_prompt_tokens=len(ids),
                context_length=self._context_length,
            )
        body = json.dumps({"content": [list(ids)], "embd_normalize": -1}).encode()
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        with self._lock:
            connection = http.client.HTTPConnection(
                str(self._address.hostname), self._address.port, timeout=TIMEOUT_S
            )
            try:
                connection.request("POST", "/embedding", body=body, headers=headers)
                response = connection.getresponse()
                answer: Any = json.loads(response.read())
                return np.asarray(answer[0]["embedding"], dtype=np.float32)
            except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
                raise EngineFailed(f"The engine gave no token vectors: {error}") from error
            finally:
                connection.close()


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"The body cannot be read: {error}.") from error
