"""Evaluations in files are compared case by case, whatever their ids say."""

import json
from pathlib import Path

from penstock.main.pytest_runs import judge_files
from penstock.main.report_files import FileEvaluations


def write(path: Path, evaluation_id: str, value: float, *, n_asked_anew: int = 0) -> Path:
    column = {"name": "exact", "stamp": "exact@1#aaaaaaaa", "scale": "binary"}
    head = {
        "id": evaluation_id,
        "name": "e",
        "state": "done",
        "spec": {"name": "e", "target": {"python": "module:function"}},
        "target": "t",
        "n_cases": 40,
        "columns": [column],
    }
    lines = [json.dumps({"evaluation": head, "figures": {}})]
    for n in range(40):
        word = "new" if n < n_asked_anew else "old"
        case = {"id": str(n), "inputs": {"input": f"{word} {n}"}, "expected": "yes"}
        score = {"name": "exact", "scorer": column["stamp"], "status": "scored", "value": value}
        lines.append(
            json.dumps({"case": case, "outputs": [{"case_id": str(n), "text": "x"}], "scores": [score]})
        )
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_other_questions_under_the_same_ids_are_no_pairs(tmp_path: Path) -> None:
    told = {"name": "g", "rules": ["exact >= baseline - 1 point"]}
    old = write(tmp_path / "old.jsonl", "eval_old", 0.0)
    same = write(tmp_path / "same.jsonl", "eval_same", 1.0, n_asked_anew=1)
    assert judge_files(told, FileEvaluations([same, old])).verdict == "pass", "39 of 40 are pairs"
    other = write(tmp_path / "other.jsonl", "eval_other", 1.0, n_asked_anew=40)
    result = judge_files(told, FileEvaluations([other, old]))
    assert result.verdict == "invalid"
    assert "only 0 of 40 cases can be paired" in result.rules[0].sentence
