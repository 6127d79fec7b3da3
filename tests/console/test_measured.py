"""Values read as what they are: few is not none, and of two counts the known one counts."""

import pytest

from penstock.console.formats import add_known
from penstock.console.measured import format_value


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0 %"),
        (0.0003, "< 0.1 %"),
        (0.0005, "0.1 %"),
        (0.5, "50.0 %"),
        (0.99987, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_few_failures_do_not_read_as_none(share: float, text: str) -> None:
    assert format_value(share, "share") == text


def test_of_two_counts_the_known_one_counts() -> None:
    assert (add_known(None, 5), add_known(3, None), add_known(3, 5), add_known(None, None)) == (5, 3, 8, None)
