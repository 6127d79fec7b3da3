"""JSON out: results and errors in one form. Money is a string, so that it stays exact."""

from typing import Any

import msgspec
from starlette.responses import Response

from penstock.base.errors import PenstockError
from penstock.base.logs import redact


def json_reply(value: Any, *, status: int = 200) -> Response:
    """Return `value` (structs, dataclasses, JSON values) as a JSON response."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def error_reply(error: PenstockError) -> Response:
    """Return the body `{"error": {code, message, hint, fields}}` under the error's status."""
    text = msgspec.json.encode({"error": redact(error.as_dict())}, enc_hook=str)
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
    if error.status == 503:
        headers["retry-after"] = str(error.fields.get("retry_after_s", 1))
    return Response(text, status_code=error.status, media_type="application/json", headers=headers)
