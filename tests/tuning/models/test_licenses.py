"""Which licence a derived model may carry."""

import pytest

from penstock.tuning.errors import LicenseConflict
from penstock.tuning.licenses import inherit_license


@pytest.mark.parametrize(
    ("base", "asked", "outcome"),
    [
        ("Apache-2.0", None, "Apache-2.0"),
        ("Apache-2.0", "MIT", "MIT"),
        ("apache 2.0", "proprietary", "proprietary"),
        ("llama3.1", None, "llama3.1"),
        ("llama3.1", "Llama3.1", "Llama3.1"),
        (None, None, None),
    ],
)
def test_the_bases_licence_is_inherited_or_may_be_changed(
    base: str | None, asked: str | None, outcome: str | None
) -> None:
    assert inherit_license(base, asked, has_base=True) == outcome


@pytest.mark.parametrize(
    ("base", "asked"),
    [
        ("llama3.1", "MIT"),
        ("cc-by-nc-4.0", "Apache-2.0"),
        ("gpl-3.0", "MIT"),
        ("other", "MIT"),
        (None, "MIT"),
    ],
)
def test_what_the_base_does_not_allow_is_refused(base: str | None, asked: str) -> None:
    with pytest.raises(LicenseConflict) as caught:
        inherit_license(base, asked, has_base=True)
    assert "output.license" in (caught.value.hint or "")


def test_a_model_from_nothing_carries_what_was_asked() -> None:
    assert inherit_license(None, "MIT", has_base=False) == "MIT"
    assert inherit_license(None, None, has_base=False) is None
