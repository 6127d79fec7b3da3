"""`penstock scorer`: what there is, what it means, one tried on a text, and versions of one's own."""

from pathlib import Path

import pytest

from penstock.evals.catalogue import Catalogue
from tests.cli.commands import call


def test_every_scorer_is_listed_and_shown_with_its_parameters(tmp_path: Path) -> None:
    listed = call("scorer", "list", "--json", home=tmp_path).json
    names = [row["scorer"] for row in listed]
    assert {info.name for info in Catalogue().list()} == set(names)
    assert len(names) == len(set(names))
    shown = call("scorer", "show", "bleu", "--json", home=tmp_path).json
    assert shown["range"] == "0 … 100"
    assert {each["name"] for each in shown["parameters"]} >= {"tokenize", "max_order", "extract"}
    assert all(
        each["explanation"]
        for name in ("contains", "checks", "composite")
        for each in call("scorer", "show", name, "--json", home=tmp_path).json["parameters"]
        if each["name"] in {"mode", "whole_words", "key", "undefined", "extract", "always"}
    )


@pytest.mark.parametrize("name", ["exact", "f1", "retrieval_recall", "checks", "composite", "groundedness"])
def test_every_kind_of_scorer_can_be_shown(name: str, tmp_path: Path) -> None:
    assert call("scorer", "show", name, home=tmp_path).code == 0


def test_a_scorer_is_tried_on_a_text(tmp_path: Path) -> None:
    tried = call(
        "scorer", "try", "token_f1", "--text", "a cat", "--expected", "cat", "--expected", "a cat", "--json", home=tmp_path
    )  # fmt: skip
    assert tried.json[0]["value"] == 1.0
    ranked = call(
        "scorer", "try", "retrieval_mrr", "--passage", "a=one", "--passage", "b=two", "--relevant", "b", "--json", home=tmp_path
    )  # fmt: skip
    assert ranked.json[0]["value"] == 0.5
    undefined = call("scorer", "try", "exact", "--text", "x", home=tmp_path)
    assert "undefined" in undefined.out
    assert (
        call("scorer", "try", "f1", "--text", "a", "--expected", "a", "--json", home=tmp_path).json[0][
            "value"
        ]
        == 1
    )


def test_wrong_names_and_parameters_are_told_with_what_is_right(tmp_path: Path) -> None:
    wrong = call("scorer", "try", "tokenf1", "--text", "x", home=tmp_path)
    assert (wrong.code, "token_f1" in wrong.err) == (2, True)
    assert "look-around" in call("scorer", "try", "regex", "--set", "pattern=(?=x)", home=tmp_path).err
    assert (
        "judge try"
        in call("scorer", "try", "groundedness", "--set", "model=m", "--text", "x", home=tmp_path).err
    )
    assert "There are" in call("scorer", "list", "--group", "nothing", home=tmp_path).err


def test_a_scorer_with_parameters_is_kept_as_a_version(tmp_path: Path) -> None:
    made = call("scorer", "create", "lenient", "token_f1", "--set", "threshold=0.6", "--json", home=tmp_path)
    assert made.json["version"] == "scorer:lenient@1"
    tried = call(
        "scorer",
        "try",
        "scorer:lenient",
        "--text",
        "a cat sat",
        "--expected",
        "a cat",
        "--json",
        home=tmp_path,
    )
    assert (tried.json[0]["value"], tried.json[0]["name"]) == (1.0, "lenient")
    assert call("scorer", "create", "wrong", "token_f1", "--set", "weight=1", home=tmp_path).code == 2
    assert "scorer:lenient" in call("scorer", "list", "--group", "kept", home=tmp_path).out


def test_peoples_own_python_runs_in_their_own_process(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def longer(text, expected):\n    return len(text) - len(expected)\n")
    tried = call(
        "scorer", "try", f"{tmp_path}/own.py:longer", "--text", "abc", "--expected", "a", "--json", home=tmp_path / "home"
    )  # fmt: skip
    assert tried.json[0]["value"] == 2.0
