"""Profiles: each suspicion is raised where it should be, and nowhere else."""

from typing import Any

import pytest

from penstock.datasets.cleaning.languages import guess_language
from penstock.datasets.cleaning.profile import Profile, profile_rows
from penstock.spec.datasets import DatasetFormat, DatasetRow

PROSE = (
    "The river rises in the mountains and runs through four towns before it reaches the sea, where it is wide. "
    * 3
)


def profile(*fields: dict[str, Any], form: DatasetFormat = "cases") -> Profile:
    return profile_rows([DatasetRow(id=f"r{i}", fields=each) for i, each in enumerate(fields)], form)


def notes(found: Profile) -> dict[str, list[str]]:
    return {each.kind: each.row_ids for each in found.notes}


def test_good_rows_raise_nothing() -> None:
    found = profile({"input": "How many hours of sleep do adults need?", "expected": "Seven to nine."})
    assert notes(found) == {}
    assert (found.question_chars.min, found.answer_chars.max) == (39, 14)


@pytest.mark.parametrize(
    ("form", "fields", "kind"),
    [
        ("cases", {"input": "  ", "expected": "x"}, "empty question"),
        ("instruct", {"instruction": "Write a poem.", "output": ""}, "empty answer"),
        ("cases", {"input": "a"}, "very short"),
        ("cases", {"input": "again and again. " * 200}, "repeated text"),
        (
            "instruct",
            {"instruction": "Tell me of rivers.", "output": PROSE.strip() + " and then the"},
            "cut off",
        ),
        ("cases", {"input": "caf\u00c3\u00a9 at noon"}, "broken characters"),
        ("cases", {"input": "Is Lisbon the capital of Portugal?", "expected": "Lisbon"}, "leaked answer"),
    ],
)
def test_each_suspicion_is_raised_with_the_row(
    form: DatasetFormat, fields: dict[str, Any], kind: str
) -> None:
    assert notes(profile(fields, form=form)) == {kind: ["r0"]}


def test_two_answers_to_one_question_are_told_with_both_rows() -> None:
    found = profile(
        {"input": "Capital of Australia?", "expected": "Canberra"},
        {"input": "Highest mountain?", "expected": "Everest"},
        {"input": "capital of australia", "expected": "Sydney"},
        {"input": "capital of Australia?"},
    )
    assert notes(found) == {"contradiction": ["r0", "r2"]}


def test_part_of_a_word_is_no_leak() -> None:
    assert notes(profile({"input": "What is a category?", "expected": "cate"})) == {}


def test_skewed_and_rare_labels_are_remarked() -> None:
    labelled = [{"text": f"this is text number {n}", "label": "spam" if n else "ham"} for n in range(40)]
    found = profile(*labelled, form="label")
    assert found.labels == {"spam": 39, "ham": 1}
    assert len(found.remarks) == 2


def test_no_rows_have_no_lengths() -> None:
    found = profile()
    assert (found.n_rows, found.question_chars.median) == (0, None)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do you make the bread in this oven?", "en"),
        ("Wie lange sollte ich in der Nacht schlafen?", "de"),
        ("Combien de temps est-ce que les enfants dorment dans la nuit ?", "fr"),
        ("大多数成年人每晚需要七到九个小时的睡眠", "zh"),
        ("よく眠るにはどうすればいいですか", "ja"),
        ("잠을 잘 자려면 어떻게 해야 하나요", "ko"),
        ("ผู้ใหญ่ส่วนใหญ่ต้องการการนอนหลับ", "th"),
        ("Сколько часов нужно спать и как это влияет на вас", "ru"),
        ("xyzzy plugh", None),
        ("42", None),
    ],
)
def test_languages_are_guessed_or_left_unknown(text: str, language: str | None) -> None:
    assert guess_language(text) == language
