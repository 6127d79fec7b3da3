"""A comparison's table says of each figure which questions it is of."""

import pytest

from penstock.cli.knowledge_quality_rows import print_comparison
from penstock.knowledge.quality.types import CompareRequest, GenerationComparison, Replay
from penstock.spec.evaluations import Comparison


def test_a_figure_of_labelled_and_of_replayed_questions_is_told_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figure = Comparison(name="latency_ms", baseline=1.0, candidate=2.0, difference=1.0)
    made = GenerationComparison(
        id="cmp_1",
        base="wiki",
        baseline="gen_a",
        candidate="gen_b",
        verdict="undecided",
        reason="too few",
        request=CompareRequest(candidate="b"),
        labelled=[figure],
        replay=Replay(n_questions=1, differences=[figure]),
    )
    print_comparison(made)
    rows = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines() if "latency_ms" in line]
    assert rows == [["labelled", "latency_ms"], ["replayed", "latency_ms"]]
