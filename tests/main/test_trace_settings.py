"""`[traces]`: masks, projects and targets reach what uses them; mistakes are told where they stand."""

from pathlib import Path

import pytest

from penstock.main.errors import SettingsInvalid
from penstock.main.instance import Addresses
from penstock.main.planning import plan
from penstock.main.settings import parse_settings
from penstock.spec.masks import MaskRule

GOOD = b"""
[traces.projects.clinic]
capture_payloads = false
[[traces.masks]]
name = "email"
builtin = "email"
where = ["all"]
[[traces.masks]]
name = "order"
pattern = "ORD-[0-9]+"
project = "shop"
[[traces.forward]]
name = "team"
url = "https://otel.example.com/v1/traces"
headers_env = "TEAM"
"""


def test_masks_and_projects_reach_the_snapshot() -> None:
    limits = plan(parse_settings(GOOD, path=Path("penstock.toml")), {}, Addresses()).limits
    assert limits.masks == (
        MaskRule(name="email", builtin="email", where=("input", "output", "attributes", "identity")),
        MaskRule(name="order", pattern="ORD-[0-9]+", project="shop"),
    )
    assert (limits.captures("clinic"), limits.captures("shop")) == (False, True)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b'[[traces.masks]]\nname = "a"\npattern = "("', 3, "no pattern that can be used"),
        (b'[[traces.masks]]\nname = "a"\npattern = "x*"', 3, "met by an empty text"),
        (b'[[traces.masks]]\nname = "a"', 1, "either builtin or pattern"),
        (
            b'[[traces.masks]]\nname = "a"\nbuiltin = "email"\n[[traces.masks]]\nname = "a"\nbuiltin = "iban"',
            4,
            "already",
        ),
        (b'[[traces.masks]]\nname = "a"\nbuiltin = "names"', 3, "builtin"),
        (b'[[traces.forward]]\nname = "a"\nurl = "ftp://x"', 3, "must be an address"),
        (b"[traces]\ngrpc_port = 70000", 2, "grpc_port"),
    ],
)
def test_mistakes_are_told_where_they_stand(text: bytes, line: int, message: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        parse_settings(text, path=Path("penstock.toml"))
    assert f"line {line}" in str(caught.value)
    assert message in str(caught.value)
