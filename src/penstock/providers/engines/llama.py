"""One model on an in-process llama.cpp server (xllamacpp), called directly rather than over its HTTP port.

The direct handlers and the port were measured side by side (docs/lab-log.md): the handlers save a hop and a JSON
round trip. xllamacpp opens its port all the same; it listens on loopback behind a key that nobody is told.
A crash in native code takes the process with it, which is why this lives in the engine process alone.
"""

import base64
import http.client
import json
import logging
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import InvalidInput
from penstock.providers.engines.choices import write_grammar
from penstock.providers.engines.errors import ContextOverflow, EngineFailed
from penstock.providers.engines.types import FinishReason, GenerationEnd, ModelKind, Sampling

_log = logging.getLogger(__name__)


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None


class _CachedTokens(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens = msgspec.field(default_factory=_CachedTokens)


class _Failure(msgspec.Struct):
    code: int = 500
    message: str = ""
    type: str = ""
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Failure | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class LlamaEngine:
    """A loaded model. Methods block and may be called from several threads; calls share the batch."""

    def __init__(
        self,
        gguf: Path,
        *,
        kind: ModelKind,
        context_length: int,
        n_slots: int = 4,
        n_threads: int = 1,
        exact_cache: bool = False,
        adapters: Sequence[tuple[Path, float]] = (),
    ) -> None:
        """Load the file. `exact_cache` keeps keys and values in float32 (for parity proofs).

        `adapters` are low-rank adapters of this base with their scales; each call names at most one of them.
        """
        import xllamacpp  # 100 MB of native code, for the processes that run weights only

        self._scales = [scale for _, scale in adapters]
        self.context_length = context_length
        self.n_slots = n_slots
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_ctx = context_length * n_slots
        params.n_parallel = n_slots
        params.cpuparams.n_threads = n_threads
        params.cpuparams_batch.n_threads = n_threads
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        self._key = secrets.token_urlsafe(32)
        params.api_keys = [self._key]
        params.verbosity = 0
        params.warmup = False  # costs a second per model; the first call is as fast without it for small ones
        params.fit_params = False  # would shrink the context silently on a small machine
        params.use_jinja = False  # prompts are token ids
        params.ui = False
        params.cache_ram_mib = 0  # slots keep their own prompts; this would copy every former one as well
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), scale) for path, scale in adapters]
        # a reranker is read at its first token; its head is applied outside, see `ranking`
        self._normalize = -1 if kind == "rerank" else 2
        if kind == "rerank":
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_CLS
        if kind in ("embedding", "rerank"):
            params.embedding = True
            params.n_batch = params.n_ubatch = max(context_length, 2048)  # an encoder sees a text at once
        if exact_cache:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        try:
            self._server = xllamacpp.Server(params)
        except (
            Exception
        ) as error:  # the binding raises bare RuntimeError for anything that native code reports
            raise EngineFailed(f"The engine could not load {gguf.name}: {error}") from error

    def generate(
        self,
        ids: Sequence[int],
        sampling: Sampling,
        on_text: Callable[[str], bool],
        *,
        adapter: int | None = None,
    ) -> GenerationEnd:
        """Generate a reply to `ids` and hand each piece of text to `on_text`; stop when that returns True.

        `adapter` is the number of the adapter to use, from 0; None: the base alone.

        `max_tokens` beyond the context ends as `length`, which the caller sees. Raises `ContextOverflow` if the
        prompt leaves no room for a token, `EngineFailed` if the engine breaks.
        """
        check_fit(len(ids), self.context_length)
        ended: list[_Chunk] = []
        stopped = False
        n_pieces = 0

        def take(data: bytes) -> bool:
            nonlocal stopped, n_pieces
            chunk = _decode_chunk(data)
            if chunk.error is not None or chunk.usage is not None:
                ended.append(chunk)
            if chunk.choices and chunk.choices[0].text:
                n_pieces += 1
                stopped = on_text(chunk.choices[0].text)
            return stopped

        try:
            self._server.handle_completions(
                json.dumps(
                    _completion_body(ids, sampling, self.context_length, self.scales(adapter))
                ).encode(),
                take,
            )
        except Exception as error:  # see __init__
            raise EngineFailed(f"The engine broke while generating: {error}") from error
        last = ended[-1] if ended else None
        if last is not None and last.error is not None:
            raise _as_error(last.error)
        if last is None or last.usage is None:
            if not stopped:
                raise EngineFailed("The engine ended a reply without saying why.")
            return GenerationEnd(
                finish_reason="cancelled", prompt_tokens=len(ids), completion_tokens=n_pieces, cached_tokens=0
            )
        reason: FinishReason = (
            "length" if last.choices and last.choices[0].finish_reason == "length" else "stop"
        )
        return GenerationEnd(
            finish_reason=reason,
            prompt_tokens=last.usage.prompt_tokens,
            completion_tokens=last.usage.completion_tokens,
            cached_tokens=last.usage.prompt_tokens_details.cached_tokens,
        )

    def embed(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one L2-normalised row per list of ids (of a reranker, as it comes out of the encoder).

        Raises `ContextOverflow` for a text that is too long.
        """
        for number, ids in enumerate(texts):
            if len(ids) > self.context_length:
                raise ContextOverflow(
                    f"Input {number} has {len(ids)} tokens; the model reads at most {self.context_length}.",
                    n_prompt_tokens=len(ids),
                    context_length=self.context_length,
                )
        body = {
            "input": [list(ids) for ids in texts],
            "encoding_format": "base64",
            "embd_normalize": self._normalize,
        }
        answer = self._call(self._server.handle_embeddings, body)
        rows = sorted(answer["data"], key=lambda item: int(item["index"]))
        return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in rows])

    def scales(self, adapter: int | None) -> list[dict[str, float]]:
        """Return what a call says of the adapters: always all of them, each with its scale.

        A call that leaves this out, or names only some, is answered from the keys and values that another adapter's
        call left behind, and leaves wrong ones itself (llama.cpp issue 26207).
        """
        return [
            {"id": number, "scale": scale if number == adapter else 0.0}
            for number, scale in enumerate(self._scales)
        ]

    def next_logprobs(
        self,
        ids: Sequence[int],
        n_top: int,
        *,
        printable_id: int,
        adapter: int | None = None,
        use_cache: bool = False,
    ) -> dict[int, float]:
        """Return log-probabilities (before any sampling) of the `n_top` likeliest next tokens after `ids`.

        `printable_id` is any token that is a whole character of text: it is what gets sampled, because the
        engine tells no probabilities beside an end token or half a character. They are told from before the bias.
        """
        body = {
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": n_top,
            "n_probs": n_top,
            "logit_bias": [[printable_id, 1000.0]],
            "cache_prompt": use_cache,
            "lora": self.scales(adapter),
        }
        answer = self._call(self._server.handle_completions, body)
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {int(item["id"]): float(item["logprob"]) for item in top}

    def forced_logprob(self, ids: Sequence[int], token_id: int) -> tuple[str, float] | None:
        """Return text and log-probability (before any sampling) of `token_id` after `ids`.

        None beside an end token or half a character, of which the engine tells nothing. The prompt's part stays in memory.
        """
        body = {
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": 1,
            "n_probs": 1,
            "logit_bias": [[token_id, 1000.0]],
            "cache_prompt": True,
            "lora": self.scales(None),
        }
        answer = self._call(self._server.handle_completions, body)
        told = (answer["choices"][0].get("logprobs") or {}).get("content") or []
        if not told or int(told[0]["id"]) != token_id:
            return None
        return str(told[0]["token"]), float(told[0]["logprob"])

    def tokenize(self, text: str) -> list[int]:
        """Return the ids that the engine's own tokenizer makes of plain text: for proofs, never for prompts."""
        answer = self._ask_port("/tokenize", {"content": text, "add_special": False, "parse_special": False})
        return [int(each) for each in answer["tokens"]]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text that the engine makes of ids, as it does with every reply."""
        return str(self._ask_port("/detokenize", {"tokens": list(ids)})["content"])

    def _ask_port(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The binding has no handler for these, its own port on loopback does."""
        address = urlsplit(self._server.listening_address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, ValueError) as error:
            raise EngineFailed(f"The engine does not answer at its port: {error}") from error
        finally:
            connection.close()
        if "error" in answer:
            raise EngineFailed(f"The engine failed: {answer['error']}")
        return answer

    def ends_at(self, ids: Sequence[int], token_id: int) -> bool:
        """Return whether a reply to `ids` ends when it comes to `token_id`."""
        body = {
            "prompt": list(ids),
            "max_tokens": 2,
            "temperature": 0.0,
            "logit_bias": [[token_id, 1000.0]],
            "cache_prompt": False,
            "lora": self.scales(None),
        }
        answer = self._call(self._server.handle_completions, body)
        return bool(answer["choices"][0]["finish_reason"] == "stop")

    def _call(
        self, handler: Callable[[dict[str, Any]], dict[str, Any]], body: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            answer = handler(body)
        except Exception as error:  # see __init__
            raise EngineFailed(f"The engine broke: {error}") from error
        if "error" in answer:
            raise _as_error(msgspec.convert(answer["error"], _Failure, strict=False))
        return answer


def check_fit(n_prompt: int, context_length: int) -> None:
    """Raise `ContextOverflow` unless the prompt leaves room for at least one token."""
    if n_prompt >= context_length:
        raise ContextOverflow(
            f"This model's maximum context length is {context_length} tokens, but the messages take {n_prompt}.",
            hint="Shorten the messages; nothing is cut silently.",
            n_prompt_tokens=n_prompt,
            context_length=context_length,
        )


def _completion_body(
    ids: Sequence[int], sampling: Sampling, context_length: int, scales: list[dict[str, float]]
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt": list(ids),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": min(sampling.max_tokens or context_length, context_length - len(ids)),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "typical_p": 1.0,
        "repeat_penalty": sampling.repeat_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "dry_multiplier": 0.0,
        "xtc_probability": 0.0,
        "mirostat": 0,
        "stop": list(sampling.stop),
        "cache_prompt": True,
        "lora": scales,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.json_schema is not None:
        body["json_schema"] = sampling.json_schema
    if sampling.choices:
        body["grammar"] = write_grammar(sampling.choices)
    if sampling.grammar is not None:
        body["grammar"] = sampling.grammar
    if sampling.shown_tokens:
        body["preserved_tokens"] = list(sampling.shown_tokens)
    if sampling.logit_bias:
        body["logit_bias"] = [list(pair) for pair in sampling.logit_bias]
    return body


def _as_error(failure: _Failure) -> Exception:
    if failure.type == "exceed_context_size_error":
        return ContextOverflow(
            f"This model's context is {failure.n_ctx} tokens; the prompt takes {failure.n_prompt_tokens}.",
            n_prompt_tokens=failure.n_prompt_tokens,
            context_length=failure.n_ctx,
        )
    if 400 <= failure.code < 500:
        return InvalidInput(f"The engine refused the request: {failure.message}")
    return EngineFailed(f"The engine failed: {failure.message}")
