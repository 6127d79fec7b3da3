"""References to versioned things: `kind:name`, `kind:name@alias`, `kind:name@3`, `kind:name@sha256:…`."""

import re
from typing import Literal, get_args

import msgspec

from penstock.base.errors import InvalidInput

AssetKind = Literal["prompt", "model", "dataset", "knowledge", "app", "guard", "scorer", "pipeline"]
ASSET_KINDS: tuple[str, ...] = get_args(AssetKind)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,78}[a-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{8,64}")


class AssetRef(msgspec.Struct, frozen=True, kw_only=True):
    """Names an asset, or one version of it by alias, number or digest (at most one of the three is set)."""

    kind: AssetKind
    name: str
    alias: str | None = None
    number: int | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tail = self.alias or (str(self.number) if self.number is not None else self.digest)
        return f"{self.kind}:{self.name}@{tail}" if tail else f"{self.kind}:{self.name}"


def parse_asset_ref(text: str) -> AssetRef:
    """Return the reference that `text` writes; raise `InvalidInput` that says which part is wrong."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in ASSET_KINDS:
        raise InvalidInput(
            f"{text!r} is not an asset reference.",
            hint=f"Write KIND:NAME or KIND:NAME@ALIAS, with KIND one of {', '.join(ASSET_KINDS)}.",
        )
    name, at, tail = rest.partition("@")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is not an asset name.", hint="Use lower-case letters, digits, dot, dash, underscore."
        )
    if not at:
        return AssetRef(kind=kind, name=name)  # type: ignore[arg-type]  # membership was checked above
    if tail.isascii() and tail.isdigit():
        return AssetRef(kind=kind, name=name, number=int(tail))  # type: ignore[arg-type]
    if _DIGEST.fullmatch(tail):
        return AssetRef(kind=kind, name=name, digest=tail)  # type: ignore[arg-type]
    if _NAME.fullmatch(tail):
        return AssetRef(kind=kind, name=name, alias=tail)  # type: ignore[arg-type]
    raise InvalidInput(f"{tail!r} is neither an alias, a version number nor a digest.", reference=text)
