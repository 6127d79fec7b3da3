"""Finds a field in a `multipart/form-data` body and replaces its value; every other byte stays (RFC 7578, RFC 2046).

Files in the form are stepped over, never copied or decoded.
"""

import re
from email.message import Message
from typing import NamedTuple

from penstock.dialects.port import Envelope
from penstock.gateway.errors import WrongForm

_NAME = re.compile(
    rb'^content-disposition:[^\r\n]*?;[ \t]*name="?([^";\r\n]*)"?', re.IGNORECASE | re.MULTILINE
)
_FILE = re.compile(rb"^content-disposition:[^\r\n]*?;[ \t]*filename\*?=", re.IGNORECASE | re.MULTILINE)
_NAMES = re.compile(rb"^content-disposition[ \t]*:|;[ \t]*name\*?[ \t]*=", re.IGNORECASE | re.MULTILINE)
_MAX_HEAD_BYTES = 8192
_MAX_PARTS = 256
_MAX_VALUE_BYTES = 1024


class _Field(NamedTuple):
    name: bytes
    start: int
    end: int
    is_file: bool


def peek_form(body: bytes, content_type: bytes) -> Envelope:
    """Return what a form says of its call; raise `WrongForm` if it is none or names its model not exactly once."""
    model: str | None = None
    stream = False
    n: int | None = None
    for field in _fields(body, content_type):
        is_long = field.end - field.start > _MAX_VALUE_BYTES
        if _is_model(field.name):
            # all parts are sent on, so there must be no other that the provider might take for the model
            if model is not None:
                raise WrongForm("`model` is given twice.", param="model")
            if field.is_file or is_long or field.name != b"model":
                raise WrongForm("`model` is no plain, short field.", param="model")
            model = body[field.start : field.end].decode("utf-8", "replace").strip()
        if field.is_file or is_long:
            continue
        value = body[field.start : field.end]
        if field.name == b"stream":
            stream = value.strip().lower() in (b"true", b"1")
        elif field.name == b"n" and value.isdigit():
            n = int(value)
    if not model:
        raise WrongForm(
            "The form names no `model`.", hint="Name a route; GET /v1/models lists them.", param="model"
        )
    return Envelope(model=model, stream=stream, n=n)


def replace_form_model(body: bytes, content_type: bytes, model: str) -> bytes:
    """Return `body`, which `peek_form` accepted, with its model replaced."""
    for field in _fields(body, content_type):
        if field.name == b"model" and not field.is_file:
            return b"".join((body[: field.start], model.encode(), body[field.end :]))
    return body


def _is_model(name: bytes) -> bool:
    """Return whether some reader of forms takes `name` for `model`: blanks and escapes are not read alike by all."""
    return name.replace(b"\\", b"").strip(b" \t'") == b"model"


def _fields(body: bytes, content_type: bytes) -> list[_Field]:
    boundary = find_boundary(content_type)
    fields: list[_Field] = []
    at = 0 if body.startswith(boundary) else body.find(b"\r\n" + boundary) + 2
    if at == 1:
        raise _broken("its boundary does not occur")
    while True:
        after = at + len(boundary)
        if body[after : after + 2] == b"--":
            return fields
        head_start = body.find(b"\r\n", after, after + 256)
        head_end = body.find(b"\r\n\r\n", after, after + _MAX_HEAD_BYTES)
        at = body.find(b"\r\n" + boundary, head_end + 2) + 2 if head_end >= 0 else 1
        if head_start < 0 or at == 1 or len(fields) >= _MAX_PARTS:
            raise _broken(
                "a part has no end" if len(fields) < _MAX_PARTS else f"it has over {_MAX_PARTS} parts"
            )
        head = body[head_start + 2 : head_end]
        name = _NAME.search(head)
        if len(_NAMES.findall(head)) > 2:
            raise _broken("a part has two names")  # of which its reader might take the other one
        if name is None:
            raise _broken("a part has no name")  # or one written so that only some readers find it
        fields.append(
            _Field(
                name.group(1),
                head_end + 4,
                max(at - 2, head_end + 4),
                bool(_FILE.search(head)),
            )
        )


def find_boundary(content_type: bytes) -> bytes:
    """Return the boundary that a form's content type names, with its dashes; raise `WrongForm`."""
    message = Message()
    message["content-type"] = content_type.decode("latin-1")
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/form-data" or not boundary or len(boundary) > 200:
        raise WrongForm(
            "This address takes a form.", hint="Send Content-Type: multipart/form-data with its boundary."
        )
    return b"--" + boundary.encode("latin-1", "replace")


def _broken(why: str) -> WrongForm:
    return WrongForm(f"The form cannot be read: {why}.", hint="Send multipart/form-data as RFC 7578 has it.")
