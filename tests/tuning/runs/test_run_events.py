"""Events are read as they are written: by cursor, whole lines only, without what a resume has made void."""

from pathlib import Path

import msgspec

from penstock.spec.tuning import RunEvent
from penstock.tuning.runs.driving import cut_torn_line
from penstock.tuning.runs.events import iter_events, kept_events, read_curves, read_events, read_samples, thin
from penstock.tuning.runs.types import CurvePoint


def step(number: int, loss: float | None = None) -> RunEvent:
    return RunEvent(
        kind="step", at_ns=number, step=number, values={"loss": loss if loss is not None else 1 / number}
    )


def begun(resumed: str | None) -> RunEvent:
    return RunEvent(kind="begun", at_ns=0, detail={"resumed_from": resumed})


def write(path: Path, *events: RunEvent) -> None:
    with path.open("ab") as file:
        for event in events:
            file.write(msgspec.json.encode(event) + b"\n")


def test_a_cursor_goes_on_where_the_last_page_ended_while_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert read_events(path).rows == []
    write(path, begun(None), step(1), step(2))
    page = read_events(path, limit=2)
    assert [event.step for event in page.rows] == [0, 1]
    write(path, step(3))
    rest = read_events(path, after=page.next_after, is_final=True)
    assert [event.step for event in rest.rows] == [2, 3]
    assert rest.is_final
    assert read_events(path, after=rest.next_after).rows == []


def test_a_line_that_is_not_whole_waits_and_one_that_is_damaged_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, step(1))
    with path.open("ab") as file:
        file.write(b'{"kind": "st')
    page = read_events(path)
    assert [event.step for event in page.rows] == [1]
    with path.open("ab") as file:
        file.write(b"\n")
    write(path, step(2))
    assert [event.step for event in read_events(path, after=page.next_after).rows] == [2]


def test_kinds_are_chosen_without_losing_the_place(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, step(1), RunEvent(kind="eval", at_ns=1, step=1, values={"loss": 2.0, "n": 4}), step(2))
    page = read_events(path, kinds=("eval",))
    assert [event.kind for event in page.rows] == ["eval"]
    assert page.next_after == path.stat().st_size


def test_steps_that_a_resume_has_made_void_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(
        path, begun(None), step(1, 1.0), step(2, 9.0), step(3, 9.0), begun("checkpoints/step-1"), step(2, 0.5)
    )
    losses = [
        (event.step, event.values["loss"]) for event in kept_events(iter_events(path)) if event.kind == "step"
    ]
    assert losses == [(1, 1.0), (2, 0.5)]
    (curve,) = read_curves(path)
    assert [(point.step, point.value) for point in curve.points] == [(1, 1.0), (2, 0.5)]


def test_values_that_are_no_numbers_make_no_point(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, step(1), RunEvent(kind="step", at_ns=2, step=2, values={"loss": None}), step(3))
    (curve,) = read_curves(path)
    assert [point.step for point in curve.points] == [1, 3]


def test_thinning_keeps_the_ends() -> None:
    points = [CurvePoint(step=number, value=0.0) for number in range(1000)]
    thinned = thin(points, 10)
    assert len(thinned) == 10
    assert (thinned[0].step, thinned[-1].step) == (0, 999)
    assert thin(points[:5], 10) == points[:5]


def test_samples_are_told_by_step(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    detail = {"prompt": "asked", "reference": "wanted", "row": 3}
    write(path, begun(None), RunEvent(kind="sample", at_ns=1, step=4, text="said", detail=detail))
    (sample,) = read_samples(path)
    assert (sample.step, sample.prompt, sample.reference, sample.reply, sample.row) == (
        4,
        "asked",
        "wanted",
        "said",
        3,
    )


def test_a_torn_line_is_cut_and_whole_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert cut_torn_line(path) == 0
    path.write_bytes(b"a\nb\nc")
    assert cut_torn_line(path) == 4
    assert path.read_bytes() == b"a\nb\n"
    path.write_bytes(b"x" * 70_000)
    assert cut_torn_line(path) == 0
