"""Rules as they are written, and what is said of wrong ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import PenstockError
from penstock.evals.gates.errors import GateInvalid, RuleInvalid
from penstock.evals.gates.files import read_gate
from penstock.evals.gates.grammar import parse_rule
from penstock.evals.gates.types import Bound, Rule


@pytest.mark.parametrize(
    ("text", "measure", "statistic", "operator", "bound"),
    [
        ("exact >= 0.8", "exact", "mean", ">=", Bound(amount=0.8)),
        (
            "token_f1 >= baseline - 1 point",
            "token_f1",
            "mean",
            ">=",
            Bound(is_baseline=True, amount=-1, unit="point"),
        ),
        (
            "quality ≥ baseline − 1 point",
            "quality",
            "mean",
            ">=",
            Bound(is_baseline=True, amount=-1, unit="point"),
        ),
        ("f1 > baseline", "f1", "mean", ">", Bound(is_baseline=True)),
        ("f1 > baseline + 0.02", "f1", "mean", ">", Bound(is_baseline=True, amount=0.02)),
        ("latency <= 2 s", "latency_ms", "mean", "<=", Bound(amount=2, unit="s")),
        ("latency_ms max <= 9_000", "latency_ms", "max", "<=", Bound(amount=9000)),
        ("cost mean <= 0.002 usd", "cost_usd", "mean", "<=", Bound(amount=0.002, unit="usd")),
        ("cost total <= $1,200", "cost_usd", "total", "<=", Bound(amount=1200, unit="usd")),
        ("cost <= baseline + 10 %", "cost_usd", "mean", "<=", Bound(is_baseline=True, amount=10, unit="%")),
        ("errors < 1%", "errors", "mean", "<", Bound(amount=1, unit="%")),
        ("leakage == 0", "leakage", "every", "==", Bound()),
        ("no leakage", "leakage", "every", "==", Bound()),
        ("no new pii", "pii", "new", "==", Bound(is_baseline=True)),
        ('"my score" >= -0.5', "my score", "mean", ">=", Bound(amount=-0.5)),
        ("no >= 0.5", "no", "mean", ">=", Bound(amount=0.5)),
    ],
)
def test_a_rule_reads_as_it_is_written(
    text: str, measure: str, statistic: str, operator: str, bound: Bound
) -> None:
    rule = parse_rule(text)
    assert (rule.measure, rule.statistic, rule.operator, rule.bound) == (measure, statistic, operator, bound)
    assert rule.text == text


def test_quantiles_slices_and_levels_are_read() -> None:
    assert parse_rule("latency p95 <= 2000").quantile == 0.95
    assert parse_rule("latency median <= 2000").quantile == 0.5
    assert parse_rule("latency p99.9 <= 2000").quantile == pytest.approx(0.999)
    rule = parse_rule("token_f1 by split >= baseline - 2 points at 90 %")
    assert (rule.by, rule.level) == ("split", 0.9)


@pytest.mark.parametrize(
    ("text", "position", "told"),
    [
        ("", 0, "the rule is empty"),
        (">= 3", 0, "begins with the name of a score"),
        ("token_f1", 8, "a comparison should stand"),
        ("token_f1 >= ", 11, "a number or `baseline`"),
        ("token_f1 >= basline", 12, "a number or `baseline`"),
        ("token_f1 p101 >= 1", 9, "'p101' is no statistic"),
        ("token_f1 >= baseline - 1", 23, "a margin of 1 of what?"),
        ("exact >= 0.8 0.9", 13, "more than a rule has"),
        ("exact >= 3 euros", 11, "'euros' is no unit"),
        ("exact == baseline", 9, "asks each case for a number"),
        ("cost total by split <= 1", 20, "a total is over everything"),
        ("cost total <= baseline", 14, "held against a number"),
        ("exact by >= 1", 9, "`by` needs the name"),
        ("exact >= 0.8 at 20 %", 16, "between 50 % and 100 %"),
        ("exact ! 3", 6, "'!' has no meaning"),
    ],
)
def test_a_wrong_rule_is_pointed_at(text: str, position: int, told: str) -> None:
    with pytest.raises(RuleInvalid) as refusal:
        parse_rule(text)
    assert refusal.value.fields["position"] == position
    assert told in refusal.value.message


def test_a_near_word_is_offered() -> None:
    with pytest.raises(RuleInvalid) as refusal:
        parse_rule("f1 >= basline")
    assert refusal.value.hint == "Did you mean 'baseline'?"


@given(st.text(max_size=60))
@settings(max_examples=120, deadline=None)
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    position = 0
    try:
        assert isinstance(parse_rule(text), Rule)
    except RuleInvalid as refusal:
        position = refusal.fields["position"]
    assert 0 <= position <= len(text)


def test_a_file_holds_lines_and_tables() -> None:
    spec = read_gate(
        """
        name = "triage"
        candidate = "prompt:triage@latest"
        baseline = "prompt:triage@prod"
        level = 0.9
        correction = "bh"
        rules = ["exact >= 0.8"]

        [evaluation]
        name = "triage"
        target = { model = "small" }

        [[rule]]
        measure = "token_f1"
        by = "lang"
        at_least = "baseline - 2 points"
        level = 0.99
        """
    )
    assert [rule.text for rule in spec.rules] == [
        "exact >= 0.8",
        "token_f1 by lang >= baseline - 2 points at 99 %",
    ]
    assert (spec.level, spec.correction, spec.candidate) == (0.9, "bh", "prompt:triage@latest")
    assert spec.evaluation is not None
    assert spec.evaluation.target.model == "small"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "is no TOML"),
        ('rules = ["exact >= 1"]', "needs a name"),
        ('name = "x"', "has no rules"),
        ('name = "x"\nrules = []', "has no rules"),
        ('name = "x"\nruels = ["exact >= 1"]', "'ruels' is no key"),
        ('name = "x"\nrules = "exact >= 1"', "is a list of lines"),
        ('name = "x"\nrules = [3]', "is no rule"),
        ('name = "x"\nlevel = 95\nrules = ["exact >= 1"]', "is no level"),
        ('name = "x"\nmin_coverage = 2\nrules = ["exact >= 1"]', "between 0 and 1"),
        ('name = "x"\ncorrection = "magic"\nrules = ["exact >= 1"]', "cannot be read"),
        ('name = "x"\nevaluation = "other.toml"\nrules = ["exact >= 1"]', "given whole"),
        ('name = "x"\n[evaluation]\nname = "y"\n[[rule]]\nmeasure = "a"\nequals = 0', "cannot be read"),
        ('name = "x"\n[[rule]]\nmeasure = "a"', "exactly one of"),
        ('name = "x"\n[[rule]]\nmeasure = "a"\nat_lest = 1', "'at_lest' is no key"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(PenstockError, match=told) as refusal:
        read_gate(text)
    assert isinstance(refusal.value, GateInvalid | RuleInvalid)
