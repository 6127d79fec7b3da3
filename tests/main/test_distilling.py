"""A dataset of a teacher's replies: prompts as training writes them, provenance, held-out rows untouched."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.main.chat_calls import read_chat_answer
from penstock.main.dataset_rooms import create_datasets
from penstock.main.distilling import DistillParts, make_distilled, prepare_distilled
from penstock.main.rooms import Rooms
from penstock.prompts.files import read_prompt
from penstock.spec.datasets import DatasetRow
from penstock.spec.home import Home
from penstock.spec.tuning import BudgetPart, DataPart, DistillPart, OutputPart, Recipe
from penstock.tuning.compress.distilling import TeacherReply
from penstock.tuning.compress.errors import BadDistillation
from penstock.tuning.compress.requests import DistillRequest

PROMPT = '+++\nvariables.topic = { type = "text" }\n+++\n\n--- user\nTell me of {{ topic }}.\n'


class Echo:
    def __init__(self) -> None:
        self.asked: list[list[Mapping[str, Any]]] = []
        self.version = "model:big@4 sha256:ab"
        self.price_usd: Decimal | None = None

    def ask(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any],
        session: str,
    ) -> TeacherReply:
        self.asked.append(list(messages))
        return TeacherReply(
            status="ok",
            text=f"I say {messages[-1]['content']}",
            finish="stop",
            version=self.version,
        )

    def price(self, model: str, *, input_tokens: int, output_tokens: int) -> Decimal | None:
        return self.price_usd


class Plain:
    def step(self, name: str, inputs: dict[str, Any], fn: Callable[[], Any]) -> Any:
        return fn()

    def progress(self, fraction: float | None, message: str | None = None) -> None: ...

    def log(self, text: str) -> None: ...

    def check_cancelled(self) -> None: ...


@pytest.fixture
def parts(home: Home) -> Iterator[DistillParts]:
    rooms = Rooms(home)
    datasets = create_datasets(home, rooms.registry, rooms.blobs)
    rooms.registry.register("prompt", "about", msgspec.to_builtins(read_prompt(PROMPT)))
    rows = [
        DatasetRow(
            id=f"r{number}",
            fields={"inputs": {"topic": f"thing {number}"}, "expected": f"human {number}"},
            split="dev" if number > 3 else "train",
        )
        for number in range(6)
    ]
    datasets.create_from_rows("topics", rows, "cases", licence="cc-by-4.0")
    yield DistillParts(registry=rooms.registry, datasets=datasets, teacher=Echo())
    rooms.close()


def recipe(**data: Any) -> Recipe:
    return Recipe(
        name="small",
        method="distill",
        data=DataPart(train="dataset:topics", template="prompt:about", **data),
        output=OutputPart(name="small"),
        distill=DistillPart(teacher="big"),
    )


def rows_of(parts: DistillParts, ref: str) -> dict[str, DatasetRow]:
    return {row.id: row for row in parts.datasets.read(ref)}


def test_the_teacher_is_asked_what_training_will_ask_and_held_out_rows_stay_human(
    parts: DistillParts,
) -> None:
    ref = prepare_distilled(recipe(eval_split="dev"), Plain(), parts=parts)
    rows = rows_of(parts, ref)
    assert ref == "dataset:small-replies@1" and len(rows) == 6
    assert rows["r0"].fields["messages"] == [
        {"role": "user", "content": "Tell me of thing 0."},
        {"role": "assistant", "content": "I say Tell me of thing 0."},
    ]
    assert rows["r5"].fields["messages"][-1] == {"role": "assistant", "content": "human 5"}
    assert rows["r5"].split == "dev"
    assert len(parts.teacher.asked) == 4  # type: ignore[attr-defined]


def test_the_version_says_who_wrote_it_from_what(parts: DistillParts) -> None:
    made = make_distilled(
        DistillRequest(
            dataset="dataset:topics", name="replies", part=DistillPart(teacher="big"), template="prompt:about"
        ),
        Plain(),
        parts=parts,
    ).version
    prompts = parts.datasets.get("dataset:topics")
    assert prompts.digest in parts.registry.resolve("dataset:replies").parents
    step = made.facts.steps[-1]
    assert (step["step"], step["teacher"], step["prompts"]) == ("distill", "big", "dataset:topics@1")
    assert step["teacher_versions"] == {"model:big@4 sha256:ab": 6} and step["cost_usd"] is None
    assert made.facts.license is None  # nobody knows the terms of a teacher that is not of this registry


def test_a_teacher_of_this_registry_is_a_parent_and_its_licence_holds_for_its_replies(
    parts: DistillParts,
) -> None:
    teacher = parts.registry.register("model", "big", {"kind": "chat", "license": "cc-by-nc-4.0"})
    parts.teacher.version = f"{teacher.label} {teacher.digest[:19]}"  # type: ignore[attr-defined]
    request = DistillRequest(
        dataset="dataset:topics", name="replies", part=DistillPart(teacher="big"), template="prompt:about"
    )
    made = make_distilled(request, Plain(), parts=parts).version
    assert made.facts.license == "cc-by-4.0 AND cc-by-nc-4.0"
    assert teacher.digest in parts.registry.resolve("dataset:replies").parents
    told = msgspec.structs.replace(request, name="told", license="odc-by")
    assert make_distilled(told, Plain(), parts=parts).version.facts.license == "odc-by"
    parts.teacher.version = f"{teacher.label} sha256:0000"  # type: ignore[attr-defined]
    other = make_distilled(msgspec.structs.replace(request, name="other"), Plain(), parts=parts).version
    assert other.facts.license is None


def test_a_budget_that_lets_few_calls_be_made_is_no_run(parts: DistillParts) -> None:
    parts.teacher.price_usd = Decimal("0.1")  # type: ignore[attr-defined]
    poor = msgspec.structs.replace(recipe(), budget=BudgetPart(max_cost_usd=0.2))
    with pytest.raises(BadDistillation, match="2 of 6 calls"):
        prepare_distilled(poor, Plain(), parts=parts)


def test_asked_again_the_same_replies_are_the_same_version(parts: DistillParts) -> None:
    assert prepare_distilled(recipe(), Plain(), parts=parts) == prepare_distilled(
        recipe(), Plain(), parts=parts
    )


def test_rows_without_an_answer_are_asked_all_the_same(parts: DistillParts) -> None:
    rows = [DatasetRow(id="a", fields={"input": "why?"})]
    parts.datasets.create_from_rows("bare", rows, "cases")
    chats = [DatasetRow(id="b", fields={"messages": [{"role": "user", "content": "how?"}]})]
    parts.datasets.create_from_rows("open", chats, "chat")
    for name in ("bare", "open"):
        request = DistillRequest(
            dataset=f"dataset:{name}", name=f"{name}-replies", part=DistillPart(teacher="big")
        )
        made = make_distilled(request, Plain(), parts=parts)
        assert made.tally.n_kept == 1
    assert [asked[-1]["content"] for asked in parts.teacher.asked] == ["why?", "how?"]  # type: ignore[attr-defined]


def test_a_split_that_holds_no_row_is_refused(parts: DistillParts) -> None:
    with pytest.raises(BadDistillation, match="no prompt"):
        prepare_distilled(recipe(split="test", eval="dataset:topics"), Plain(), parts=parts)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"choices":[{"message":{"content":"x"},"finish_reason":"length"}]}', ("ok", "length", False)),
        (
            200,
            b'{"choices":[{"message":{"content":"x","refusal":"no"},"finish_reason":"stop"}]}',
            ("refused", "stop", False),
        ),
        (
            200,
            b'{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}',
            ("refused", "content_filter", False),
        ),
        (429, b'{"error":{"message":"slow down"}}', ("error", None, True)),
        (400, b'{"error":{"message":"too long"}}', ("error", None, False)),
        (200, b"<html>", ("error", None, False)),
        (504, b"", ("timeout", None, True)),
    ],
)
def test_replies_of_the_gateway_are_read_for_what_they_are(
    status: int, body: bytes, expected: tuple[str, str | None, bool]
) -> None:
    reply = read_chat_answer(status, body, {"x-penstock-version": "v"})
    assert (reply.status, reply.finish, reply.is_transient) == expected
