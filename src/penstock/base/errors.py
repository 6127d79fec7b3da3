"""The error tree. It is split by whose fault the failure is, and every error can be acted on.

    PenstockError
    ├── CallerError     the request or the settings are wrong      PS-1xxx  4xx  exit 2
    │   ├── InvalidInput  (PS-1001)   ├── NotFound (PS-1404)
    │   ├── Unauthenticated (PS-1401) ├── Forbidden (PS-1403)
    │   └── TooLarge (PS-1413)
    ├── PolicyError     a rule of the operator says no             PS-2xxx  4xx  exit 3
    ├── ConflictError   somebody else changed or holds it          PS-3xxx  409  exit 4
    ├── UpstreamError   a provider or an engine failed             PS-4xxx  502  exit 5
    │   ├── UpstreamTimeout (PS-4504) └── UpstreamUnavailable (PS-4503)
    └── BugError        Penstock itself is wrong                   PS-9xxx  500  exit 70

Each class has a stable `code`, an HTTP `status` and a CLI `exit_code`; each instance has a message,
named `fields` and, where one exists, a `hint` that says what to do. Rooms add their own classes below
these five in their `errors.py`, each with a code of its own that never changes its meaning.
No secret may stand in any text: fields are passed through `redact` before they are shown.
"""

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class PenstockError(Exception):
    """Base of every error that Penstock raises on purpose."""

    code: ClassVar[str] = "PS-9000"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70
    kind: ClassVar[str] = "internal_error"
    """The OpenAI-style `type` of the error body."""

    def __init__(self, message: str, *, hint: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.message}{hint}  [{self.code}]"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.fields))

    def as_dict(self) -> dict[str, Any]:
        """Return the body that REST and `--json` show: code, message, hint and fields."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint:
            body["hint"] = self.hint
        if self.fields:
            body["fields"] = {name: value for name, value in self.fields.items() if value is not None}
        return body


def _rebuild(
    kind: type[PenstockError], message: str, hint: str | None, fields: dict[str, Any]
) -> PenstockError:
    error = kind.__new__(kind)
    PenstockError.__init__(error, message, hint=hint, **fields)
    return error


class CallerError(PenstockError):
    """The request, the command or the settings are wrong; sending the same again will fail again."""

    code = "PS-1000"
    status = 400
    exit_code = 2
    kind = "invalid_request_error"


class InvalidInput(CallerError):
    """A value is missing, malformed or out of range."""

    code = "PS-1001"


class NotFound(CallerError):
    """The named thing does not exist (or this caller may not know that it does)."""

    code = "PS-1404"
    status = 404
    kind = "not_found_error"


class Unauthenticated(CallerError):
    """No key, or a key that is not known here."""

    code = "PS-1401"
    status = 401
    kind = "authentication_error"


class Forbidden(CallerError):
    """The key is known but lacks the permission."""

    code = "PS-1403"
    status = 403
    kind = "permission_error"


class TooLarge(CallerError):
    """The body or a part of it is over the limit."""

    code = "PS-1413"
    status = 413


class PolicyError(PenstockError):
    """A rule the operator set (limit, budget, guard, gate) refused the call; the text names the rule."""

    code = "PS-2000"
    status = 429
    exit_code = 3
    kind = "policy_error"


class ConflictError(PenstockError):
    """Somebody else holds or changed the thing; look again, then retry."""

    code = "PS-3000"
    status = 409
    exit_code = 4
    kind = "conflict_error"


class UpstreamError(PenstockError):
    """A provider or an engine failed or answered what cannot be used."""

    code = "PS-4000"
    status = 502
    exit_code = 5
    kind = "upstream_error"


class UpstreamTimeout(UpstreamError):
    """A provider or an engine did not answer within the deadline."""

    code = "PS-4504"
    status = 504


class UpstreamUnavailable(UpstreamError):
    """A provider or an engine could not be reached."""

    code = "PS-4503"
    status = 503


class BugError(PenstockError):
    """An invariant of Penstock does not hold. Please report it with the code and the fields."""

    code = "PS-9000"


def suggest(word: str, known: Iterable[str]) -> str | None:
    """Return ` Did you mean 'x'?`-ready text for the nearest known word, or None if nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else None
