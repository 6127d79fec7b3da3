"""Rules that make parts of spans unreadable before anything is written."""

from typing import Literal

import msgspec

MaskPlace = Literal["input", "output", "attributes", "identity"]
"""`attributes` covers what else holds text: attributes, events, links' attributes, status message, name, tags, and
comments of scores; `identity` the user and the session."""
BuiltInMask = Literal["email", "credit_card", "iban", "phone", "api_key"]


class MaskRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule: what `pattern` (RE2) or the built-in finder meets is replaced. Exactly one of the two is set."""

    name: str
    pattern: str | None = None
    builtin: BuiltInMask | None = None
    replacement: str = ""
    """Empty for the rule's name in brackets."""
    where: tuple[MaskPlace, ...] = ("input", "output", "attributes")
    project: str | None = None
    """Only spans of this project; None for all."""
