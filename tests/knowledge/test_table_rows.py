"""Tables are quoted by whole rows with the names of their columns, and never cut within one."""

from penstock.knowledge.retrieval.citations import CitedPassage, find_quote
from penstock.knowledge.sentences import split_sentences
from penstock.knowledge.table_rows import split_passage

TABLE = "| Team | Budget | Note |\n| --- | --- | --- |\n| Marketing | 700 | a \\| b |\n| Platform | 900 |  |"


def test_each_row_is_a_sentence_with_the_names_of_its_columns() -> None:
    assert split_passage(f"Budgets of 2026.\n\n{TABLE}\n\nAll in euros.") == (
        "Budgets of 2026.",
        "Team: Marketing; Budget: 700; Note: a | b",
        "Team: Platform; Budget: 900",
        "All in euros.",
    )


def test_a_passage_that_begins_within_a_table_takes_the_names_from_above() -> None:
    lead = "Budgets:\n\n| Team | Budget |\n| --- | --- |"
    assert split_passage("| Platform | 900 |\n| Sales | 20 |\n\n| odd | line |", lead) == (
        "Team: Platform; Budget: 900",
        "Team: Sales; Budget: 20",
        "| odd | line |",
    )
    assert split_passage("| Platform | 900 |", lead) == ("Team: Platform; Budget: 900",)


def test_text_without_a_table_has_the_sentences_it_had() -> None:
    for text in ("One. Two.", "```\na | b\n```", "a | b", "|x|\n|y|", "- one\n- two", ""):
        assert split_passage(text) == split_sentences(text)
    assert split_passage("| Team |\n| --- |") == ("Team",)


def test_a_quoted_row_stands_in_its_passage_and_a_changed_one_does_not() -> None:
    def verdict(quote: str, text: str = TABLE) -> str:
        found = find_quote(CitedPassage(passage_id="p", text=text, quote=quote))
        assert found.verdict != "near" or text[found.start : found.end].startswith("| ")
        return found.verdict

    for row in split_passage(TABLE):
        assert verdict(row) == "near"
    assert verdict("Team: Platform; Budget: 900", "| Platform | 900 |") == "near"
    assert verdict("Team: Platform; Budget: 700") == "absent"
    assert verdict("Team: Platform") == "absent"
