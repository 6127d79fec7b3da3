"""What licence a model that was made from another may carry.

Permissive licences let a derived model be given another licence; every other one, and an unknown one, stays with what
was made from it. Not legal advice: it refuses what is plainly wrong and tells what it does not know.
"""

import re

from penstock.tuning.errors import LicenseConflict

PERMISSIVE = frozenset(
    {
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "isc",
        "zlib",
        "0bsd",
        "unlicense",
        "cc0-1.0",
        "cc-by-4.0",
        "cdla-permissive-2.0",
    }
)


def inherit_license(base: str | None, asked: str | None, *, has_base: bool) -> str | None:
    """Return the licence of a model made from a base of licence `base`; None when nobody said one.

    Raises `LicenseConflict` when `asked` is another than the base's and the base's does not allow that.
    """
    if not has_base or asked is None:
        return asked if not has_base else base
    if base is None:
        raise LicenseConflict(
            f"The base's licence is unknown, so what is made from it cannot be given {asked}.",
            hint="Leave output.license out, or register the base with its licence.",
        )
    if _same(base, asked) or is_permissive(base):
        return asked
    raise LicenseConflict(
        f"The base is under {base}, which stays with what is made from it; {asked} was asked for.",
        hint="Leave output.license out to inherit it.",
        base=base,
        asked=asked,
    )


def is_permissive(license_id: str) -> bool:
    """Return whether what is made from something under this licence may carry another one."""
    return _plain(license_id) in PERMISSIVE


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(license_id: str) -> str:
    return re.sub(r"[\s_]+", "-", license_id.strip().lower())
