"""Asks a prompt once through the gateway of a home, as its owner."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from penstock.base.errors import UpstreamError, UpstreamUnavailable
from penstock.main.home_files import read_admin_key
from penstock.main.instance import require_instance
from penstock.spec.home import Home

TIMEOUT_S = 600.0


def ask_prompt(
    home: Home, reference: str, variables: dict[str, Any], *, model: str | None = None
) -> dict[str, Any]:
    """Return text, finish reason, usage, version and trace of one answer; raise `UpstreamError` for a refusal."""
    url = urlsplit(require_instance(home).addresses.gateway_url)
    assert url.hostname is not None
    body: dict[str, Any] = {"model": reference, "messages": [], "prompt_variables": variables}
    if model is not None:
        body["prompt_model"] = model
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
    headers = {"authorization": f"Bearer {read_admin_key(home)}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", body=json.dumps(body).encode(), headers=headers)
        response = connection.getresponse()
        told = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UpstreamUnavailable(
            "The gateway does not answer.", hint="`penstock doctor` says more."
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise UpstreamError(str(told.get("error", {}).get("message", f"status {response.status}")))
    choice = told["choices"][0]
    return {
        "text": choice["message"].get("content"),
        "finish": choice.get("finish_reason"),
        "model": told.get("model"),
        "usage": told.get("usage"),
        "version": response.getheader("x-penstock-version"),
        "trace": response.getheader("x-penstock-trace-id"),
    }
