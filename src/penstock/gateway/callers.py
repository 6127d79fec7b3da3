"""Calls that apps make: whose they are, told to the apps process and taken back from it, and what of them limits refuse.

Only the installation's own key is believed. With any other key these headers mean nothing, whoever sends them.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from penstock.base.errors import InvalidInput, PenstockError
from penstock.gateway.admission import authenticate
from penstock.gateway.calls import Call
from penstock.gateway.errors import BudgetReached, EndlessCall, LimitReached
from penstock.gateway.http import Header
from penstock.gateway.table import Table
from penstock.spec.callers import (
    CALLER_HEADER,
    GROUPS_HEADER,
    PRINCIPALS_HEADER,
    PROMPT_HEADER,
    REFUSAL_HEADER,
    ROUTES_HEADER,
    Caller,
)
from penstock.spec.routes import KeyRow

_CALLER, _PROMPT, _REFUSAL = (name.encode() for name in (CALLER_HEADER, PROMPT_HEADER, REFUSAL_HEADER))
_GROUPS, _PRINCIPALS, _ROUTES = (name.encode() for name in (GROUPS_HEADER, PRINCIPALS_HEADER, ROUTES_HEADER))
Refusal = LimitReached | EndlessCall
"""What ends all that is being done for a caller, told through every app on the way."""
_REFUSALS: dict[str, type[Refusal]] = {kind.code: kind for kind in (LimitReached, BudgetReached, EndlessCall)}
_MAX_PROMPT_BYTES = 512
MAX_BEHIND = 4
"""Apps and prompts that may ask one behind the other: each may call several times, so that their calls multiply."""


class _Refusal(msgspec.Struct):
    code: str
    message: str
    hint: str | None = None
    fields: dict[str, object] = {}


_callers = msgspec.json.Decoder(Caller)
_refusals = msgspec.json.Decoder(_Refusal)


def identify(call: Call, table: Table, headers: dict[bytes, bytes], secret: bytes | None) -> None:
    """Note whose call it is; raise what `authenticate` does. A call that an app makes is its caller's, with all that follows."""
    call.key = row = authenticate(table, secret)
    if row is not table.internal_row:
        return
    told = headers.get(_CALLER)
    if told is None:
        return
    try:
        caller = _callers.decode(urlsafe_b64decode(told))
    except (ValueError, msgspec.MsgspecError):
        raise InvalidInput(f"{CALLER_HEADER} does not say who called.") from None
    call.caller = _with_prompt(caller, headers.get(_PROMPT))
    call.key = table.find_key_row(caller.key) or _vanished(caller)
    # as the gateway knew them: what stands in these headers has been made to fit there
    for name, value in ((b"x-penstock-user", caller.user), (b"x-penstock-session", caller.session)):
        if value is not None:
            headers[name] = value.encode()
    call.groups = caller.groups
    headers.pop(_GROUPS, None)


def caller_line(call: Call, model: str) -> bytes:
    """Return the header line that tells an app, known as `model`, who calls it.

    Raises `EndlessCall` where the app is asked already by those it would be asked for.
    """
    key, route, before = call.key, call.asked or call.route, call.caller
    assert key is not None
    assert route is not None
    if before is not None and call.operation != "search":
        _refuse_endless(before.models, model)
    user = call.user or (call.envelope.user if call.envelope is not None else None)
    caller = Caller(
        key=key.id,
        project=key.project,
        user=user[:200] if user else None,
        is_user_of_body=bool(user) and call.reader is None,
        session=call.session,
        groups=call.groups,
        routes=_add(before.routes if before is not None else (), route.route.name),
        models=_add(before.models if before is not None else (), model),
    )
    return b"%b: %b\r\n" % (_CALLER, urlsafe_b64encode(msgspec.json.encode(caller)))


def relayed_caller_line(call: Call) -> bytes:
    """Return the header line that tells the apps process who asks it something that is no call."""
    key, before = call.key, call.caller
    assert key is not None
    caller = Caller(
        key=key.id,
        project=key.project,
        user=call.user,
        is_user_of_body=call.user is not None and call.reader is None,
        session=call.session,
        groups=call.groups,
        routes=before.routes if before is not None else (),
        models=before.models if before is not None else (),
    )
    return b"%b: %b\r\n" % (_CALLER, urlsafe_b64encode(msgspec.json.encode(caller)))


def principals_line(call: Call) -> bytes:
    """Return the header line that tells an app as whom it may read documents: the user and groups of the headers.

    Not the `user` of a body: clients write anything there, to tell people apart and not to let them in.
    """
    named = [f"user:{call.reader}"] if call.reader else []
    named += [f"group:{group}" for group in call.groups]
    if not named:
        return b""
    told = ",".join(quote(each, safe=":") for each in named)
    return b"%b: %b\r\n" % (_PRINCIPALS, told.encode("ascii"))


def routes_line(key: KeyRow) -> bytes:
    """Return the header line that tells an app which routes its caller may call; nothing where these are all."""
    if key.routes is None:
        return b""
    return b"%b: %b\r\n" % (_ROUTES, ",".join(quote(each, safe=":") for each in key.routes).encode("ascii"))


def refusal_headers(call: Call, error: PenstockError) -> Sequence[Header]:
    """Return what tells the gateway that serves the outer call why the inner one was refused, where that ends both."""
    if call.caller is None or not isinstance(error, Refusal):
        return ()
    return ((_REFUSAL, urlsafe_b64encode(msgspec.json.encode(error.as_dict()))),)


def read_refusal(headers: Sequence[Header]) -> Refusal | None:
    """Return the error that refused a call which an app made, told by the app's reply; None without one."""
    told = next((value for name, value in headers if name == _REFUSAL), None)
    if told is None:
        return None
    try:
        refusal = _refusals.decode(urlsafe_b64decode(told))
    except (ValueError, msgspec.MsgspecError):
        return None
    kind = _REFUSALS.get(refusal.code)
    return kind(refusal.message, hint=refusal.hint, **refusal.fields) if kind is not None else None


def _with_prompt(caller: Caller, told: bytes | None) -> Caller:
    if told is None or len(told) > _MAX_PROMPT_BYTES:
        return caller
    name, _, stamp = told.decode("ascii", "replace").partition(" ")
    return msgspec.structs.replace(caller, prompt=(name, stamp)) if stamp else caller


def _vanished(caller: Caller) -> KeyRow:
    """Return the row of a key that was deleted while its call was being served, or that this worker does not know yet."""
    return KeyRow(id=caller.key, name=caller.key, secret_sha256="", project=caller.project)


def _refuse_endless(asked: tuple[str, ...], model: str) -> None:
    if model in asked:
        circle = " → ".join((*asked[asked.index(model) :], model))
        raise EndlessCall(
            f"{model!r} would be asked by itself: {circle}.", hint="Give one of them another model."
        )
    if len(asked) >= MAX_BEHIND:
        raise EndlessCall(
            f"{MAX_BEHIND} apps and prompts ask one behind the other already: {' → '.join((*asked, model))}.",
            hint="Let one of them ask a model itself.",
        )


def _add(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)
