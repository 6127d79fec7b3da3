"""Personal data: numbers count only with their check digits, examples are masked, scrubbed rows hold none."""

import msgspec
import pytest

from penstock.base.errors import InvalidInput
from penstock.datasets.cleaning.personal import Scrubber, report_personal
from penstock.spec.datasets import DatasetRow
from penstock.telemetry.personal_data import check_kinds, find_personal


def kinds_in(text: str) -> list[tuple[str, str]]:
    return [(kind, text[start:end]) for start, end, kind in find_personal(text)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("jo.doe@mail.example.org", "email"),
        ("+49 170 1234567", "phone"),
        ("4111 1111 1111 1111", "credit_card"),
        ("DE89 3704 0044 0532 0130 00", "iban"),
        ("10.1.2.3", "ip"),
        ("2001:db8::1", "ip"),
        ("12345678Z", "national_id"),
        ("X1234567L", "national_id"),
        ("RSSMRA85T10A562S", "national_id"),
        ("2 55 08 14 168 025 38", "national_id"),
        ("11010519491231002X", "national_id"),
        ("529.982.247-25", "national_id"),
        ("44051401359", "national_id"),
        ("131052-308T", "national_id"),
    ],
)
def test_each_kind_is_found_whole_in_a_sentence(text: str, kind: str) -> None:
    assert kinds_in(f"It was {text}, they said.") == [(kind, text)]


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112",
        "12345678A",
        "RSSMRA85T10A562T",
        "255081416802539",
        "529.982.247-26",
        "44051401358",
        "12:30:45",
        "std::vector",
        "127.0.0.1",
        "300.1.2.3",
        "version 1.2.3",
    ],
)
def test_a_wrong_check_digit_or_another_form_is_nobodys(text: str) -> None:
    assert kinds_in(text) == []


def rows() -> list[DatasetRow]:
    return [
        DatasetRow(
            id="a",
            fields={"input": "Write to jo@example.org or jo@example.org."},
            metadata={"by": "al@example.org"},
        ),
        DatasetRow(
            id="b", fields={"messages": [{"role": "user", "content": "My card: 4111-1111-1111-1111"}]}
        ),
        DatasetRow(id="c", fields={"input": "nothing here"}, group="jo@example.org"),
        DatasetRow(id="d", fields={"input": "nothing at all", "inputs": {"card": 4111111111111111}}),
    ]


def test_the_report_counts_by_field_and_shows_no_value() -> None:
    report = report_personal(rows())
    text = msgspec.json.encode(report).decode()
    assert "jo@example.org" not in text and "4111-1111" not in text
    found = {(each.path, each.kind): (each.n_places, each.n_rows, each.row_ids) for each in report.findings}
    assert found["input", "email"] == (2, 1, ["a"])
    assert found["metadata.by", "email"] == (1, 1, ["a"])
    assert found["group", "email"] == (1, 1, ["c"])
    assert report.n_rows_with == 4
    assert report.by_kind()["iban"] == 0
    assert "Names of people" in report.note


def test_scrubbed_rows_hold_none_and_others_are_left_as_they_are() -> None:
    scrubber = Scrubber()
    scrubbed = [scrubber.scrub(row) for row in rows()]
    assert report_personal(scrubbed).findings == ()
    assert scrubbed[0].fields["input"] == "Write to [email] or [email]."
    assert scrubbed[3].fields["inputs"] == {"card": "[credit_card]"}
    assert [row.id for row in scrubbed] == ["a", "b", "c", "d"]
    assert (scrubber.n_changed, scrubber.replaced["email"]) == (4, 4)
    untouched = DatasetRow(id="x", fields={"input": "hello"})
    assert scrubber.scrub(untouched) is untouched


def test_only_the_kinds_that_were_asked_for_are_replaced() -> None:
    scrubber = Scrubber(kinds=check_kinds(["credit_card"]))
    assert scrubber.scrub(rows()[0]) is not None
    assert scrubber.n_changed == 0
    with pytest.raises(InvalidInput, match="Known"):
        check_kinds(["name"])
