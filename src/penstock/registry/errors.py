"""What can be wrong with assets, versions and aliases. PS-21xx is the registry's block, whoever is at fault."""

from collections.abc import Iterable

from penstock.base.errors import CallerError, ConflictError, NotFound, PolicyError, suggest


class UnknownAsset(NotFound):
    """No asset has this kind and name."""

    code = "PS-2101"

    def __init__(self, *, asset: str, known: Iterable[str] = ()) -> None:
        names = tuple(known)
        super().__init__(
            f"unknown asset {asset}; {_listed('assets of this kind', names)}.",
            hint=suggest(asset, names),
            asset=asset,
            known=names,
        )


class UnknownVersion(NotFound):
    """The asset exists, but no version of it has this number or digest."""

    code = "PS-2102"

    def __init__(self, *, asset: str, version: str, latest: int) -> None:
        super().__init__(
            f"unknown version {version} of {asset}.",
            hint=f"Versions go from 1 to {latest}.",
            asset=asset,
            version=version,
            latest=latest,
        )


class UnknownAlias(NotFound):
    """The asset exists, but has no such alias."""

    code = "PS-2103"

    def __init__(self, *, asset: str, alias: str, known: Iterable[str] = ()) -> None:
        names = tuple(known)
        super().__init__(
            f"unknown alias {alias!r} for {asset}; {_listed('aliases', names)}.",
            hint=suggest(alias, names),
            asset=asset,
            alias=alias,
            known=names,
        )


class AmbiguousDigest(CallerError):
    """Several versions of the asset begin with this digest."""

    code = "PS-2104"


class MissingArtefact(NotFound):
    """A version may only name artefacts that the blob store holds."""

    code = "PS-2105"


class UnknownDigest(NotFound):
    """No version has this digest; a version may only descend from versions that are registered."""

    code = "PS-2106"


class ProtectedAlias(PolicyError):
    """A protected alias moves only with evidence, or with a reason that is recorded as an override."""

    code = "PS-2107"
    status = 403

    def __init__(self, *, asset: str, alias: str) -> None:
        super().__init__(
            f"alias {alias!r} of {asset} is protected and no evidence was given.",
            hint="Move it with the evidence of a gate, or give an override reason, which is recorded.",
            asset=asset,
            alias=alias,
        )


class AliasMoved(ConflictError):
    """Somebody moved the alias since it was looked at."""

    code = "PS-2108"


class NothingToRollBack(ConflictError):
    """The alias has no earlier target."""

    code = "PS-2109"


def _listed(what: str, names: tuple[str, ...]) -> str:
    if not names:
        return f"there are no {what} yet"
    shown = ", ".join(names[:20])
    return f"known: {shown}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
