"""Evaluations that were written to files because no Penstock was running, read as gates read stored ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.evals.catalogue import Catalogue
from penstock.evals.errors import UnknownScore
from penstock.evals.figures import OPERATIONAL
from penstock.evals.rows import question_digest, slices_of
from penstock.evals.scorers.types import Figure
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import EvaluationRecord, ScoreColumn
from penstock.main.case_lines import case_line
from penstock.spec.cases import Case
from penstock.spec.evaluations import ScorerSpec


class FileEvaluations:
    """Some report files; the id of each is the evaluation's own."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._found: dict[str, tuple[EvaluationRecord, list[dict[str, Any]]]] = {}
        for path in paths:
            record, rows = _read(path)
            self._found[record.id] = (record, rows)
        self.ids = list(self._found)

    def get(self, evaluation_id: str) -> EvaluationRecord:
        """Return the record of one of the files."""
        return self._found[evaluation_id][0]

    def scored_cases(self, evaluation_id: str, score: str) -> tuple[list[ScoredCase], ScoreColumn]:
        """Return the cases with their values of a score, and what it is. Raises `UnknownScore`."""
        record, rows = self._found[evaluation_id]
        column = next((each for each in record.columns if each.name == score), None)
        if column is not None:
            return [_scored(row, score, record.spec.slices) for row in rows], column
        if score in OPERATIONAL:
            return [_operational(row, score, record.spec.slices) for row in rows], OPERATIONAL[score]
        known = [each.name for each in record.columns] + list(OPERATIONAL)
        raise UnknownScore(f"The evaluation has no score {score!r}; it has {', '.join(known)}.")

    def different_cases(self, baseline: str, candidate: str) -> frozenset[str]:
        """Return the ids under which the two were asked different things."""
        known, ours = (_questions(self._found[each][1]) for each in (baseline, candidate))
        return frozenset(case_id for case_id in ours if known.get(case_id, ours[case_id]) != ours[case_id])

    def figure(self, record: EvaluationRecord, column: ScoreColumn) -> Figure | None:
        """Return how the figure of a built-in score is made where that is not the mean."""
        _ = record
        if not column.has_figure or not column.scorer:
            return None
        spec = ScorerSpec(scorer=column.scorer, name=column.name, parameters=column.parameters)
        return Catalogue().create(spec).figure

    def lines(self, evaluation_id: str, limit: int) -> list[str]:
        """Return one line a case: id, scores, answer."""
        rows = self._found[evaluation_id][1]
        return [case_line(row["case"]["id"], row["outputs"], row["scores"]) for row in rows[:limit]]


def _read(path: Path) -> tuple[EvaluationRecord, list[dict[str, Any]]]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        record = msgspec.convert(lines[0]["evaluation"], EvaluationRecord, strict=False)
        rows = [line for line in lines[1:] if "case" in line]
    except (OSError, ValueError, KeyError, IndexError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{path} is no file of an evaluation: {error}.") from error
    # whether the cases are the same is seen case by case
    stamp = record.dataset_stamp or "cases of a local run"
    return msgspec.structs.replace(record, dataset_stamp=stamp), rows


def _questions(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    cases = [msgspec.convert(row["case"], Case, strict=False) for row in rows]
    return {case.id: question_digest(case) for case in cases}


def _of(row: dict[str, Any], slice_keys: Sequence[str]) -> dict[str, Any]:
    case = msgspec.convert(row["case"], Case, strict=False)
    return {"case_id": case.id, "group": case.group, "slices": tuple(slices_of(case, slice_keys))}


def _scored(row: dict[str, Any], name: str, slice_keys: Sequence[str]) -> ScoredCase:
    found = [score for score in row["scores"] if score["name"] == name]
    scored = [score for score in found if score["status"] == "scored"]
    return ScoredCase(
        values=[float(score["value"]) for score in scored],
        statistics=[score["statistics"] for score in scored if score.get("statistics")],
        n_undefined=sum(score["status"] == "undefined" for score in found),
        n_errors=sum(score["status"] == "error" for score in found),
        n_skipped=sum(score["status"] == "skipped" for score in found) if found else 1,
        **_of(row, slice_keys),
    )


def _operational(row: dict[str, Any], name: str, slice_keys: Sequence[str]) -> ScoredCase:
    values: list[float] = []
    counts = {"n_undefined": 0, "n_errors": 0, "n_skipped": 0}
    for output in row["outputs"]:
        status = output.get("status", "ok")
        value = output.get(name)
        if name == "output_tokens":
            value = (output.get("usage") or {}).get("output_tokens")
        if status == "skipped":
            counts["n_skipped"] += 1
        elif name == "errors":
            values.append(float(status == "error"))
        elif status == "error":
            counts["n_errors"] += 1
        elif value is None:
            counts["n_undefined"] += 1
        else:
            values.append(float(value))
    return ScoredCase(
        values=values,
        n_undefined=counts["n_undefined"],
        n_errors=counts["n_errors"],
        n_skipped=counts["n_skipped"],
        **_of(row, slice_keys),
    )
