"""What a key may move a protected alias on: a verdict of this installation, or, with a permission of its own, a reason.

Knows no registry: whether the evidence proves the version is asked there.
"""

from collections.abc import Mapping
from typing import Any

from penstock.access.permissions import Permission, check_permission
from penstock.spec.routes import KeyRow


def check_claim(
    key: KeyRow | None,
    *,
    is_protected: bool,
    override_reason: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Raise `Forbidden` where this asks for more than the key may.

    Of a protected alias two things need `aliases.override`: a reason in the place of evidence, and the verdict over
    evaluations whose answers or scores were handed in, for nobody here has seen how they were made.
    """
    if key is None or not is_protected:
        return
    if (override_reason or "").strip() or (evidence or {}).get("handed_in"):
        check_permission(key, Permission.ALIASES_OVERRIDE)
