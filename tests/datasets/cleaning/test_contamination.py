"""Contamination: held-out rows that stand elsewhere are found with proof, templates prove nothing."""

from penstock.datasets.cleaning.contamination import ContaminationOptions, find_contamination
from penstock.spec.datasets import DatasetRow

SENTENCE = "Water that has boiled for a full minute is safe to drink at sea level even when the river is not"


def rows(prefix: str, *texts: str) -> list[DatasetRow]:
    return [DatasetRow(id=f"{prefix}{i}", fields={"input": text}) for i, text in enumerate(texts)]


def test_a_held_out_row_inside_a_longer_text_is_found_by_its_words() -> None:
    found = find_contamination(
        rows("h", SENTENCE, "What is the boiling point of water on a mountain of three thousand metres"),
        rows(
            "o",
            f"An article. {SENTENCE}. It goes on for many more words about other things than that one.",
            "no",
        ),
    )
    assert [(each.held, each.other, each.kind, each.share) for each in found.contacts] == [
        ("h0", "o0", "ngrams", 1.0)
    ]


def test_short_rows_are_found_only_when_they_are_the_same() -> None:
    found = find_contamination(
        rows("h", "Capital of Peru?"), rows("o", "capital of peru", "capital of Perugia")
    )
    assert [(each.other, each.kind) for each in found.contacts] == [("o0", "exact")]


def test_every_held_out_row_with_the_same_text_is_named() -> None:
    found = find_contamination(rows("h", "Why?", "Why?"), rows("o", "why"), ContaminationOptions(near=None))
    assert found.held == {"h0", "h1"}


def test_a_template_that_all_rows_share_proves_nothing_and_is_told() -> None:
    template = "Answer the following question as briefly as you can and name the source of it please"
    held = rows("h", *(f"{template}: topic {n} {'abcdefghij'[n % 10] * 3}" for n in range(200)))
    found = find_contamination(held, rows("o", f"{template}: whatever else is asked here today"))
    assert found.contacts == ()
    assert found.n_common_ngrams > 5


def test_chinese_is_compared_by_characters() -> None:
    text = "每天喝足够的水对身体健康非常重要尤其是在夏天"
    found = find_contamination(
        rows("h", text), rows("o", f"健康小贴士一{text}请记住这一点并告诉您的家人和朋友们谢谢")
    )
    assert found.held == {"h0"}


def test_nothing_held_out_finds_nothing() -> None:
    found = find_contamination([], rows("o", SENTENCE))
    assert (found.n_held, found.n_other, found.contacts) == (0, 1, ())
