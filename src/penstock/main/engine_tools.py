"""What scorers ask the embedded engine for that no gateway has: a vector for each token, and chances of a given text."""

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool

from penstock.base.errors import InvalidInput, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from penstock.spec.cases import TokenChance

TIMEOUT_S = 120.0


class EngineTools:
    """Asks the engine process of this installation, which listens on loopback and takes its internal key."""

    def __init__(self, find_url: Callable[[], str], internal_key: str) -> None:
        self._find_url = find_url
        self._key = internal_key

    async def embed_tokens(self, model: str, texts: Sequence[str]) -> list[list[list[float]]]:
        """Return a vector for each token of each text: `evals.scorers.types.EmbedTokens`."""
        reply = await run_in_threadpool(
            self._post, "/v1/token_embeddings", {"model": model, "input": list(texts)}
        )
        try:
            return [
                [[float(number) for number in row] for row in each["embeddings"]] for each in reply["data"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamError("The engine answered with something that is no vectors.") from error

    async def likelihood(self, model: str, prompt: str, continuation: str) -> list[TokenChance]:
        """Return the chances of `continuation` after `prompt`: `evals.scorers.types.Likelihood`."""
        body = {"model": model, "prompt": prompt, "continuation": continuation}
        reply = await run_in_threadpool(self._post, "/v1/likelihoods", body)
        try:
            return [
                TokenChance(token=str(each["token"]), logprob=float(each["logprob"]))
                for each in reply["tokens"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamError("The engine answered with something that is no likelihood.") from error

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = urlsplit(self._find_url())
        assert url.hostname is not None
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        try:
            connection.request("POST", path, body=json.dumps(body).encode(), headers=headers)
            response = connection.getresponse()
            status, data = response.status, response.read()
        except TimeoutError as error:
            raise UpstreamTimeout(f"The engine did not answer within {TIMEOUT_S:.0f} s.") from error
        except (OSError, http.client.HTTPException) as error:
            raise UpstreamUnavailable(
                "The embedded engine cannot be reached.", hint="`penstock doctor` says why."
            ) from error
        finally:
            connection.close()
        try:
            reply = json.loads(data)
        except ValueError as error:
            raise UpstreamError(f"The engine answered status {status} without JSON.") from error
        if status != http.client.OK or not isinstance(reply, dict):
            told = reply.get("error") if isinstance(reply, dict) else None
            message = str(told.get("message")) if isinstance(told, dict) else f"status {status}"
            if 400 <= status < 500:
                raise InvalidInput(f"The engine cannot do that: {message}")
            raise UpstreamError(f"The engine failed: {message}")
        return reply
