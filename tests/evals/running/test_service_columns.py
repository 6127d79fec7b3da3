"""Scores and figures that describe the service have every case alone; those of content keep their groups."""

from penstock.spec.evaluations import ScorerSpec
from tests.evals.running.house import House


def test_scores_of_the_service_are_counted_by_case_and_those_of_content_by_group(house: House) -> None:
    house.fill(24)
    for number, case in enumerate(house.source.cases):
        house.source.cases[number] = case.__class__(
            id=case.id, inputs=case.inputs, expected=case.expected, group=f"g{number % 4}"
        )
    names = ("exact", "latency", "tokens", "error_rate")
    record = house.evaluate(scorers=[ScorerSpec(scorer=name) for name in names])
    assert [column.counted_by for column in record.columns] == ["group", "case", "case", "case"]
    found = {each.name: each for each in house.service.estimates(record.id).estimates}
    assert found["exact"].n_groups == 4
    assert (found["errors"].method, found["error_rate"].method) == ("wilson, by case", "wilson, by case")
    assert found["errors"].n_groups is None
    assert found["latency_ms"].method.endswith("by case")
