"""Composites, checks of cases, and people's own Python."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from penstock.base.errors import PenstockError
from penstock.evals.catalogue import Catalogue
from penstock.evals.scorers.catalogue import create_scorer
from penstock.evals.scorers.errors import BadScorerParameters, PythonNotLoaded, PythonScorerNotFound
from penstock.evals.scorers.types import Preparable, ScorerTools
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.scores import Score
from tests.evals.scorers.judging import ask, judge, make

PARTS = [
    {"scorer": "contains", "parameters": {"values": ["cat"]}, "weight": 3},
    {"scorer": "length", "parameters": {"maximum": 2}},
]


@pytest.mark.parametrize(
    ("combine", "text", "value"),
    [
        ("mean", "a cat", 1.0),
        ("mean", "a cat or two", 0.75),
        ("all", "a cat or two", 0.0),
        ("any", "a dog or two cats", 1.0),
        ("min", "a cat or two", 0.0),
        ("max", "a dog", 1.0),
    ],
)
def test_parts_are_combined_with_their_weights(combine: str, text: str, value: float) -> None:
    score = judge("composite", text, parts=PARTS, combine=combine)
    assert score.value == value
    assert [part["weight"] for part in score.evidence["parts"]] == [3.0, 1.0]


def test_an_undefined_part_makes_the_whole_undefined_unless_it_may_be_left_out() -> None:
    parts = [*PARTS, {"scorer": "exact"}]
    score = judge("composite", "a cat", parts=parts)
    assert (score.status, score.value) == ("undefined", None)
    assert "exact" in str(score.reason)
    assert judge("composite", "a cat", parts=parts, undefined="leave_out").value == 1.0
    assert (
        judge("composite", "a cat", parts=[{"scorer": "exact"}], undefined="leave_out").status == "undefined"
    )


def test_parts_that_point_the_other_way_must_be_turned_first() -> None:
    with pytest.raises(BadScorerParameters, match="not = true"):
        make("composite", parts=[{"scorer": "exact"}, {"scorer": "toxicity"}])
    turned = {"scorer": "toxicity", "parameters": {"not": True}}
    assert judge("composite", "you idiot", "you idiot", parts=[{"scorer": "exact"}, turned]).value == 0.5
    with pytest.raises(BadScorerParameters, match="parts"):
        make("composite")


def test_another_part_or_weight_is_another_stamp_and_classes_are_prepared() -> None:
    first = make("composite", parts=PARTS)
    assert first.info.stamp != make("composite", parts=PARTS[:1]).info.stamp
    mixed = make("composite", parts=[{"scorer": "f1", "parameters": {"threshold": 0.5}}])
    assert isinstance(mixed, Preparable)
    prepared = mixed.prepare([Case(id="1", expected="a"), Case(id="2", expected="b")])
    assert ask(prepared, Case(id="1", expected="a"), Output(case_id="1", text="a")).value == 1.0


def checks(*parts: dict[str, Any], **metadata: Any) -> Case:
    return Case(id="1", metadata={"checks": list(parts), **metadata})


def test_each_case_brings_its_own_checks() -> None:
    scorer = make("checks")
    cat = {"scorer": "contains", "parameters": {"values": ["cat"]}}
    short = {"scorer": "length", "parameters": {"maximum": 2}, "weight": 3}
    output = Output(case_id="1", text="a cat or two")
    assert ask(scorer, checks(cat), output).value == 1.0
    assert ask(scorer, checks(cat, short), output).value == 0.0
    assert ask(scorer, checks(cat, short, threshold=0.25), output).value == 1.0
    assert ask(scorer, checks(cat, short, threshold=0.3), output).value == 0.0
    assert ask(scorer, Case(id="1"), output).status == "undefined"


def test_a_check_that_cannot_be_made_is_an_error_of_that_case_alone() -> None:
    scorer = make("checks")
    output = Output(case_id="1", text="a")
    for wrong in (
        {"scorer": "regex", "parameters": {"pattern": "("}},
        {"scorer": "toxicity"},
        {"scorers": "x"},
    ):
        score = ask(scorer, checks(wrong), output)
        assert (score.status, score.fault) == ("error", "scorer"), wrong


@pytest.mark.parametrize(
    "wrong",
    [
        {"scorer": "checks"},
        {"scorer": "checks", "parameters": {"threshold": 0.5}},
        {"scorer": "composite", "parameters": {"parts": [{"scorer": "checks"}]}},
        {"scorer": "scorer:own"},
    ],
)
def test_checks_among_the_checks_of_a_case_end_at_once(wrong: dict[str, Any]) -> None:
    catalogue = Catalogue(read_registered=lambda _: ScorerSpec(scorer="checks"))
    scorer = catalogue.create(ScorerSpec(scorer="checks"))
    output = Output(case_id="1", text="a")

    async def score() -> Score:
        (made,) = await asyncio.wait_for(scorer.score(checks(wrong, wrong), [output], ScorerTools()), 120)
        return made

    score_made = asyncio.run(score())
    assert (score_made.status, score_made.fault) == ("error", "scorer")
    assert "`checks` cannot be" in str(score_made.reason)
    fine = {"scorer": "contains", "parameters": {"values": ["a"]}}
    assert ask(scorer, checks(fine), output).value == 1.0


def test_checks_without_any_weight_do_not_pass() -> None:
    missing = {"scorer": "contains", "parameters": {"values": ["zz"]}}
    output = Output(case_id="1", text="hi")
    assert ask(make("checks"), checks({**missing, "weight": 0}), output).status == "undefined"
    assert ask(make("checks"), checks({**missing, "weight": -1}), output).status == "error"


def test_parts_that_others_know_are_made_by_them() -> None:
    class Always:
        info = make("exact").info
        name = "judge"
        figure = None

        async def score(self, case: Case, outputs: list[Output], tools: ScorerTools) -> list[Score]:
            return [Score(name="judge", value=0.25, status="scored", scorer="judge@1#00000000")]

    def create(spec: ScorerSpec) -> Any:
        return Always() if spec.scorer == "judge" else create_scorer(spec, create_part=create)

    scorer = create(ScorerSpec(scorer="composite", parameters={"parts": [{"scorer": "judge"}]}))
    assert ask(scorer, Case(id="1"), Output(case_id="1", text="x")).value == 0.25


OWN = '''
from penstock.evals.scorers.python import scorer

def plain(text, expected):
    """How much longer it is."""
    return len(text) - len(expected)

def truth(text) -> bool:
    return "cat" in text

async def later(output, low=1):
    return {"value": low, "label": "fine", "reason": "because", "evidence": {"n": 1}}

def broken(case):
    known = {}
    return known["missing"]

def several(text):
    return [{"name": "a", "value": 1}, {"name": "b", "value": None, "reason": "no b"}]

def spread(outputs):
    return len({each.text for each in outputs})

@scorer(direction="lower", low=0, high=10, unit="words")
def bounded(text):
    return len(text.split())

def wrong(text):
    return "good"

def asks(text, moon):
    return 1
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def run(
    path: Path, function: str, text: str = "a cat", expected: Any = "a", **parameters: Any
) -> list[Score]:
    scorer = make(f"{path}:{function}", load_python=True, **parameters)
    return asyncio.run(
        scorer.score(Case(id="1", expected=expected), [Output(case_id="1", text=text)], ScorerTools())
    )


def test_a_function_is_given_what_it_asks_for_and_may_return_anything_sensible(own: Path) -> None:
    assert run(own, "plain")[0].value == 4.0
    truth = run(own, "truth")[0]
    assert (truth.value, make(f"{own}:truth", load_python=True).info.scale) == (1.0, "binary")
    later = run(own, "later", low=3)[0]
    assert (later.value, later.label, later.reason, later.evidence) == (3.0, "fine", "because", {"n": 1})
    assert [(score.name, score.status) for score in run(own, "several")] == [
        ("several.a", "scored"),
        ("several.b", "undefined"),
    ]


def test_an_exception_is_an_error_score_with_the_line(own: Path) -> None:
    (score,) = run(own, "broken")
    assert (score.status, score.fault, score.value) == ("error", "scorer", None)
    assert "KeyError" in str(score.reason)
    assert 'own.py: `return known["missing"]`' in str(score.reason)


def test_what_is_no_number_or_out_of_bounds_is_an_error_and_no_score(own: Path) -> None:
    assert run(own, "wrong")[0].status == "error"
    assert run(own, "bounded")[0].value == 2.0
    assert run(own, "bounded", text="word " * 11)[0].status == "error"
    info = make(f"{own}:bounded", load_python=True).info
    assert (info.direction, info.high, info.unit, info.scale) == ("lower", 10, "words", "bounded")


def test_a_function_may_see_all_repeats(own: Path) -> None:
    scorer = make(f"{own}:spread", load_python=True)
    assert "samples" in scorer.info.needs
    outputs = [Output(case_id="1", repeat=at, text=text) for at, text in enumerate("aab")]
    (score,) = asyncio.run(scorer.score(Case(id="1"), outputs, ScorerTools()))
    assert score.value == 2.0


def test_another_text_of_the_file_is_another_stamp(own: Path) -> None:
    before = make(f"{own}:plain", load_python=True).info.stamp
    own.write_text(OWN + "\n# changed\n")
    assert make(f"{own}:plain", load_python=True).info.stamp != before


def test_python_is_loaded_only_where_it_is_allowed_and_faults_are_told(own: Path, tmp_path: Path) -> None:
    with pytest.raises(PythonNotLoaded):
        make(f"{own}:plain")
    for name, error, told in (
        (f"{own}:nothing", PythonScorerNotFound, "no function"),
        (f"{tmp_path}/none.py:f", PythonScorerNotFound, "no file"),
        ("no_such_module_here:f", PythonScorerNotFound, "cannot be loaded"),
        (f"{own}:asks", BadScorerParameters, "moon"),
    ):
        with pytest.raises(PenstockError, match=told) as caught:
            make(name, load_python=True)
        assert isinstance(caught.value, error)


async def test_checks_of_a_row_run_no_code_though_the_specification_may(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef f(case, output):\n    return 1.0\n"
    )
    scorer = Catalogue(load_python=True).create(ScorerSpec(scorer="checks"))
    for part in (f"{planted}:f", "os:system"):
        for row in ({"scorer": part}, {"scorer": "composite", "parameters": {"parts": [{"scorer": part}]}}):
            case = checks(row)
            [score] = await scorer.score(case, [Output(case_id="1", text="x")], ScorerTools())
            assert (score.status, score.value) == ("error", None), part
    assert not (tmp_path / "ran").exists()
