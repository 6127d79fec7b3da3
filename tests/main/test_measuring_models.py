"""Measuring versions: what is asked of which process, figures with intervals, pairs of the same rows, and sentences."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.main.model_comparing import compare_models
from penstock.main.model_measuring import MeasuringRooms, choose_parts, create_measuring, measure_models
from penstock.main.rooms import Rooms
from penstock.prompts.files import read_prompt
from penstock.registry.types import Version
from penstock.spec.evaluations import ScorerSpec
from penstock.spec.home import Home
from penstock.tuning.compress.errors import CannotMeasure, UnknownMeasurement
from penstock.tuning.compress.requests import MeasureRequest
from penstock.tuning.compress.store import MeasurementStore, summarise
from penstock.tuning.compress.types import (
    MeasureWork,
    ModelMeasurement,
    RowChances,
    SizeFacts,
    SpeedPlan,
    SpeedRound,
    TaskReply,
    TextFacts,
    VersionFacts,
)

CASES = "\n".join(
    f'{{"id": "c{number}", "input": "What is {number}?", "expected": "It is {number}.", "group": "g{number // 2}"}}'
    for number in range(12)
)
PROMPT = """+++
variables.input = { type = "text" }
parameters = { max_tokens = 7 }
+++

--- system
Be short.

--- user
{{ input }}
"""


class Bench:
    """Stands for the measuring process: remembers what it was asked, answers by the version's place."""

    def __init__(self) -> None:
        self.work: list[MeasureWork] = []
        self.speed_of: list[float] = [100.0, 150.0, 90.0]
        self.renderers = ["same", "same", "same"]
        self.wrong: set[tuple[int, str]] = set()
        self.failed: set[tuple[int, str]] = set()
        self.window = 512
        self.nats = 10.0
        self.tells_processor = True

    def __call__(self, home: Home, asked: dict[str, Any], tell: Any) -> dict[str, Any]:
        work = msgspec.convert(asked["work"], MeasureWork)
        self.work.append(work)
        facts = [self.facts(place, digest, work) for place, digest in enumerate(work.versions)]
        return {"facts": msgspec.to_builtins(facts)}

    def facts(self, place: int, digest: str, work: MeasureWork) -> VersionFacts:
        rows = tuple(
            RowChances(
                row=item.row,
                group=item.group,
                n_tokens=10,
                n_bytes=40,
                nll=self.nats + number / 10 + place,
                kl=(0.1 + number / 100) * place if place else None,
                n_same_top=9 - (number % 3 == 0) if place else None,
            )
            for number, item in enumerate(work.texts)
        )
        replies = tuple(
            TaskReply(
                case=item.case,
                text="nonsense"
                if (place, item.case) in self.wrong
                else f"It is {item.case.removeprefix('c')}.",
                finish="stop",
                error="the prompt is over its context" if (place, item.case) in self.failed else None,
            )
            for item in work.tasks
        )
        rounds = tuple(
            SpeedRound(
                streams=1,
                prompt_tokens=100,
                prompt_s=0.1,
                reply_tokens=100,
                reply_s=100 / (self.speed_of[place] + one),
                reply_processor_s=(0.4 - 0.1 * place) * (1 + one / 100) if self.tells_processor else None,
            )
            for one in range(work.speed.rounds)
        )
        return VersionFacts(
            version=f"model:m@{place + 1}",
            digest=digest,
            size=SizeFacts(file_bytes=1000 - 400 * place, load_s=0.1) if "size" in work.parts else None,
            speed=rounds if "speed" in work.parts else (),
            texts=TextFacts(
                rows=rows, renderer_digest=self.renderers[place], window=self.window, n_vocabulary=4096
            )
            if work.texts
            else None,
            replies=replies,
        )


@pytest.fixture
def rooms(home: Home) -> Iterator[Rooms]:
    opened = Rooms(home)
    yield opened
    opened.close()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def measuring(rooms: Rooms, bench: Bench) -> MeasuringRooms:
    made = create_measuring(rooms.home, rooms.registry, rooms.blobs, MeasurementStore(rooms.engine))
    return MeasuringRooms(
        home=made.home,
        registry=made.registry,
        blobs=made.blobs,
        store=made.store,
        datasets=made.datasets,
        fill=made.fill,
        read_prompt_content=made.read_prompt_content,
        run=bench,
        clock=lambda: 7,
    )


def version(rooms: Rooms, tmp_path: Path, number: int, *, parent: Version | None = None) -> Version:
    path = tmp_path / f"{number}.gguf"
    path.write_bytes(bytes([number]))
    content: dict[str, Any] = {"kind": "chat", "precision": "f16" if parent is None else "q8_0", "n": number}
    if parent is not None:
        base = {"asset": "model:m", "number": parent.number, "digest": parent.digest}
        content["lineage"] = {"base": base, "method": "quantise"}
    return rooms.registry.register(
        "model",
        "m",
        content,
        artefacts={"model.gguf": rooms.blobs.put_file(path)},
        parents=[] if parent is None else [parent.digest],
    )


@pytest.fixture
def pair(rooms: Rooms, tmp_path: Path) -> list[Version]:
    parent = version(rooms, tmp_path, 1)
    return [parent, version(rooms, tmp_path, 2, parent=parent)]


@pytest.fixture
def cases(tmp_path: Path) -> str:
    path = tmp_path / "cases.jsonl"
    path.write_text(CASES + "\n")
    return str(path)


def run(measuring: MeasuringRooms, *models: str, **request: Any) -> list[ModelMeasurement]:
    asked = MeasureRequest(models=models, **request)
    return measure_models(measuring, asked, actor="tester", tell=lambda _share, _text: None)


def names(made: Sequence[ModelMeasurement], part: str) -> set[str]:
    return {figure.name for each in made if each.part == part for figure in each.figures}


def test_a_child_alone_is_held_against_its_parent(
    measuring: MeasuringRooms, bench: Bench, pair: list[Version]
) -> None:
    made = run(measuring, "model:m@2", parts=("size",))
    assert bench.work[0].versions == (pair[0].digest, pair[1].digest)
    assert [each.against for each in made] == [None, pair[0].digest]


def test_every_figure_has_its_interval_and_every_difference_its_pairs(
    measuring: MeasuringRooms, pair: list[Version], cases: str
) -> None:
    made = run(measuring, "model:m@1", "model:m@2", cases=cases, speed=SpeedPlan(rounds=8, streams=(1,)))
    assert names(made, "tasks") == {"exact", "token_f1"}
    assert names(made, "texts") == {"perplexity", "bits_per_byte", "kl", "top1_agreement"}
    for each in made:
        for figure in each.figures:
            assert figure.value is not None
            assert each.part == "size" or (figure.low is not None and figure.high is not None), figure
    of_child = {each.part: each for each in made if each.against}
    perplexity = next(each for each in of_child["texts"].differences if each.name == "perplexity")
    assert perplexity.n_pairs == 12 and perplexity.word == "worse"
    assert perplexity.n_groups == 6
    faster, cheaper = (
        next(each for each in of_child["speed"].differences if each.name == name)
        for name in ("reply_tokens_per_s_1", "reply_processor_ms_per_token_1")
    )
    assert (faster.word, cheaper.word) == ("better", "better")
    assert cheaper.unit == "ms"
    assert cheaper.baseline == pytest.approx(4.0 * 1.035)
    assert cheaper.candidate == pytest.approx(3.0 * 1.035)


def test_rounds_that_were_kept_without_processor_time_have_no_figure_of_it(
    measuring: MeasuringRooms, bench: Bench, pair: list[Version]
) -> None:
    bench.tells_processor = False
    made = run(measuring, "model:m@1", parts=("speed",), speed=SpeedPlan(rounds=6, streams=(1,)))
    assert names(made, "speed") == {"prompt_tokens_per_s_1", "reply_tokens_per_s_1"}


def test_perplexity_is_that_of_all_tokens_together(
    measuring: MeasuringRooms, pair: list[Version], cases: str
) -> None:
    import math

    made = run(measuring, "model:m@1", cases=cases, parts=("texts",))
    figure = made[0].figures[0]
    assert figure.value == pytest.approx(math.exp(sum(10.0 + n / 10 for n in range(12)) / 120))


def test_cases_are_asked_by_the_prompt_and_their_references_are_the_texts(
    measuring: MeasuringRooms, bench: Bench, pair: list[Version], cases: str
) -> None:
    run(measuring, "model:m@1", cases=cases, prompt_content=read_prompt(PROMPT), parts=("texts", "tasks"))
    work = bench.work[0]
    assert [message.content for message in work.tasks[0].messages] == ["Be short.", "What is 0?"]
    assert work.tasks[0].max_tokens == 7
    assert [message.role for message in work.texts[0].messages] == ["system", "user", "assistant"]
    assert work.texts[0].messages[-1].content == "It is 0."


def test_the_handbook_is_at_hand(measuring: MeasuringRooms, bench: Bench, pair: list[Version]) -> None:
    run(
        measuring,
        "model:m@1",
        cases="handbook",
        limit=20,
        parts=("tasks",),
        scorers=(ScorerSpec(scorer="exact"),),
    )
    assert 0 < len(bench.work[0].tasks) <= 20
    assert "Question:" in bench.work[0].tasks[0].messages[-1].content


def test_paragraphs_of_a_text_file_are_rows(
    measuring: MeasuringRooms, bench: Bench, pair: list[Version], tmp_path: Path
) -> None:
    path = tmp_path / "held.txt"
    path.write_text("One paragraph.\nStill it.\n\n\nAnother.\n")
    run(measuring, "model:m@1", texts=str(path), parts=("texts",))
    assert [item.text for item in bench.work[0].texts] == ["One paragraph.\nStill it.", "Another."]


def test_a_long_text_file_is_drawn_from_or_refused_and_never_cut_in_silence(
    measuring: MeasuringRooms, bench: Bench, pair: list[Version], tmp_path: Path
) -> None:
    path = tmp_path / "long.txt"
    path.write_text("\n\n".join(f"Paragraph {number}." for number in range(2500)))
    with pytest.raises(CannotMeasure, match="2,500 paragraphs") as caught:
        run(measuring, "model:m@1", texts=str(path), parts=("texts",))
    assert not bench.work and caught.value.hint is not None and "--limit" in caught.value.hint
    run(measuring, "model:m@1", texts=str(path), parts=("texts",), limit=10)
    drawn = [int(item.row.rpartition(":")[2]) for item in bench.work[0].texts]
    assert len(drawn) == 10 and drawn == sorted(drawn) and drawn[-1] > 1000  # not the first ones


def test_nothing_of_the_home_is_read_as_text(
    measuring: MeasuringRooms, pair: list[Version], home: Home
) -> None:
    secret = home.root / "notes.txt"
    secret.write_text("a key")
    with pytest.raises(Exception, match="home of this installation"):
        run(measuring, "model:m@1", texts=str(secret), parts=("texts",))


def test_scorers_that_need_another_model_are_refused_before_anything_is_loaded(
    measuring: MeasuringRooms, bench: Bench, pair: list[Version], cases: str
) -> None:
    with pytest.raises(CannotMeasure, match="cost"):
        run(measuring, "model:m@1", cases=cases, scorers=(ScorerSpec(scorer="cost"),))
    assert not bench.work


def test_a_part_that_nothing_is_named_for_is_refused() -> None:
    with pytest.raises(CannotMeasure, match="--texts"):
        choose_parts(MeasureRequest(models=("m",), parts=("texts",)), has_texts=False, has_tasks=False)
    assert choose_parts(MeasureRequest(models=("m",)), has_texts=False, has_tasks=False) == ("size", "speed")


def test_versions_stand_beside_each_other_with_a_sentence(
    measuring: MeasuringRooms, bench: Bench, rooms: Rooms, pair: list[Version], cases: str
) -> None:
    bench.wrong = {(1, "c3"), (1, "c4")}
    run(measuring, "model:m@1", "model:m@2", cases=cases, speed=SpeedPlan(rounds=8, streams=(1,)))
    found = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    verdict = found.verdicts[0]
    assert "model:m@2 (q8_0) beside model:m@1: 600 B instead of 1.00 kB (-40 %)" in verdict
    assert (
        "in speed (95 %" in verdict and "perplexity" in verdict and "token_f1 0.8333 instead of 1" in verdict
    )
    assert "the same likeliest next token at 86.7 % of places" in verdict
    assert not found.models[1].notes


def test_speed_of_other_sessions_is_not_compared(
    measuring: MeasuringRooms, rooms: Rooms, pair: list[Version]
) -> None:
    run(measuring, "model:m@1", parts=("speed", "size"))
    run(measuring, "model:m@2", against="model:m@2", parts=("speed", "size"))
    found = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    assert [each.name for each in found.models[1].differences] == ["file_bytes", "load_s"]
    assert any(note.startswith("speed: never measured in one session") for note in found.models[1].notes)


def test_other_rows_under_the_same_name_are_not_compared(
    measuring: MeasuringRooms, rooms: Rooms, pair: list[Version], cases: str
) -> None:
    run(measuring, "model:m@1", cases=cases, parts=("tasks",))
    Path(cases).write_text(CASES.replace("What is", "How much is") + "\n")
    run(measuring, "model:m@2", against="model:m@2", cases=cases, parts=("tasks",))
    found = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    assert not found.models[1].differences
    assert found.models[1].notes == ("tasks: measured on other cases",)


def test_perplexity_over_other_tokens_is_not_compared_but_bits_per_byte_are(
    measuring: MeasuringRooms, bench: Bench, rooms: Rooms, pair: list[Version], cases: str
) -> None:
    bench.renderers = ["one", "another", "third"]
    run(measuring, "model:m@1", "model:m@2", cases=cases, parts=("texts",))
    found = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    assert [each.name for each in found.models[1].differences] == ["bits_per_byte"]


def test_agreement_with_a_third_version_is_not_told_as_agreement_with_the_first(
    measuring: MeasuringRooms, rooms: Rooms, pair: list[Version], tmp_path: Path, cases: str
) -> None:
    version(rooms, tmp_path, 3, parent=pair[0])
    run(measuring, "model:m@1", "model:m@2", "model:m@3", cases=cases, parts=("texts",))
    found = compare_models(rooms.registry, measuring.store, ["model:m@2", "model:m@3"])
    assert "perplexity" in found.verdicts[0] and "likeliest" not in found.verdicts[0]
    for each in found.models:
        assert not {figure.name for figure in each.figures} & {"kl", "top1_agreement"}
    assert any("never measured beside each other" in note for note in found.models[1].notes)
    beside = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@3"])
    assert "the same likeliest next token" in beside.verdicts[0]


def test_cases_that_a_version_could_not_be_asked_count_as_wrong_and_are_told(
    measuring: MeasuringRooms, bench: Bench, rooms: Rooms, pair: list[Version], cases: str
) -> None:
    bench.failed = {(1, f"c{number}") for number in range(6)}
    bench.wrong = {(0, f"c{number}") for number in range(6)}
    made = run(measuring, "model:m@1", "model:m@2", cases=cases, parts=("tasks",))
    exact = next(each for each in made[1].differences if each.name == "exact")
    assert (exact.baseline, exact.candidate, exact.n_pairs) == (0.5, 0.5, 12)
    found = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    assert "model:m@2: 6 of 12 cases could not be asked" in found.verdicts[0]
    assert "the prompt is over its context" in found.models[1].notes[0] and not found.models[0].notes


def test_a_perplexity_above_the_vocabulary_is_told_to_say_nothing(
    measuring: MeasuringRooms, bench: Bench, rooms: Rooms, pair: list[Version], cases: str
) -> None:
    bench.nats = 110.0  # 11 nats a token, where blind guessing has 8.3
    run(measuring, "model:m@1", "model:m@2", cases=cases, parts=("texts",))
    found = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    assert "worse than blind guessing among 4,096 tokens" in found.verdicts[0]
    assert ": worse;" not in found.verdicts[0] and "e+0" not in found.verdicts[0]
    assert {each.word for each in found.models[1].differences} == {"undecided"}


def test_texts_read_in_other_windows_are_not_compared(
    measuring: MeasuringRooms, bench: Bench, rooms: Rooms, pair: list[Version], cases: str
) -> None:
    run(measuring, "model:m@1", cases=cases, parts=("texts",))
    bench.window = 256  # the least of the contexts that were measured together
    run(measuring, "model:m@2", against="model:m@2", cases=cases, parts=("texts",))
    found = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    assert not found.models[1].differences
    assert "texts: measured on other texts or windows" in found.models[1].notes


def test_a_difference_in_speed_is_not_claimed_where_rounds_do_not_show_one(
    measuring: MeasuringRooms, bench: Bench, rooms: Rooms, pair: list[Version]
) -> None:
    run(measuring, "model:m@1", "model:m@2", speed=SpeedPlan(rounds=3, streams=(1,)), parts=("speed",))
    found = compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    assert "in speed (95 %" in found.verdicts[0] and found.verdicts[0].endswith(": undecided.")


def test_what_was_never_measured_is_said_with_the_command(
    measuring: MeasuringRooms, rooms: Rooms, pair: list[Version]
) -> None:
    with pytest.raises(UnknownMeasurement) as caught:
        compare_models(rooms.registry, measuring.store, ["model:m@1", "model:m@2"])
    assert caught.value.hint == "penstock model measure model:m@1 model:m@2"


def test_measurements_are_listed_newest_first_and_told_for_a_card(
    measuring: MeasuringRooms, pair: list[Version], cases: str
) -> None:
    run(measuring, "model:m@1", cases=cases, parts=("size", "tasks"))
    page = measuring.store.list(digest=pair[0].digest, limit=1)
    assert page.total == 2 and page.next_cursor == page.rows[0].id
    rest = measuring.store.list(digest=pair[0].digest, cursor=page.next_cursor)
    assert {page.rows[0].part, rest.rows[0].part} == {"size", "tasks"} and rest.next_cursor is None
    lines = summarise(measuring.store.newest(pair[0].digest))
    assert "file_bytes: 1000 bytes" in lines
    assert any(line.startswith("exact: 1 [") for line in lines)
