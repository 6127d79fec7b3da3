"""Rows with a teacher's replies: what a run of method `distill` is trained on, and what `penstock tune distill` makes.

Prompts come from a dataset as training reads it (with the prompt template and system message of the recipe), the replies from any
model of the gateway, and what comes out is a version of a dataset that says which version of which teacher wrote it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.errors import PenstockError
from penstock.datasets.cases import row_to_case
from penstock.datasets.service import DatasetService
from penstock.datasets.types import DatasetVersion
from penstock.registry.service import Registry
from penstock.registry.types import Version
from penstock.spec.cases import Case
from penstock.spec.datasets import DatasetFormat, DatasetRow
from penstock.spec.prompts import PromptContent
from penstock.spec.tuning import Recipe
from penstock.tuning.compress.distilling import (
    AskedRow,
    Distillation,
    DistillContext,
    DistillTally,
    Teacher,
    distil,
)
from penstock.tuning.compress.errors import BadDistillation
from penstock.tuning.compress.reply_journal import ReplyJournal
from penstock.tuning.compress.requests import DistillRequest
from penstock.tuning.rows.reading import RowReader

REPLIES = "-replies"
MIN_ASKED_SHARE = 0.5
"""Of the calls that a recipe asks for: trained on less, it would be another recipe than was meant."""
_ANY = "?"


@dataclass(frozen=True, kw_only=True)
class DistillParts:
    """What distillation is made from."""

    registry: Registry
    datasets: DatasetService
    teacher: Teacher


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """The version that was made, and how."""

    version: DatasetVersion
    tally: DistillTally


def prepare_distilled(
    recipe: Recipe, context: DistillContext, arriving: Path | None = None, *, parts: DistillParts
) -> str:
    """Return `dataset:NAME@NUMBER` with the teacher's replies to the training rows of a recipe.

    A job that is taken over asks nothing twice; `arriving` is the file that keeps what has come of a wave under way. Raises `BadDistillation`, `TeacherUnusable`.
    """
    if recipe.distill is None:
        raise BadDistillation("The recipe names no teacher.", hint="Add [distill] with a teacher.")
    request = DistillRequest(
        dataset=recipe.data.train,
        name=f"{recipe.name}{REPLIES}",
        part=recipe.distill,
        split=recipe.data.split,
        keep_split=None if recipe.data.eval is not None else recipe.data.eval_split,
        template=recipe.data.template,
        system=recipe.data.system,
        max_rows=recipe.data.max_rows,
        seed=recipe.seed,
        max_cost_usd=recipe.budget.max_cost_usd,
    )
    made = make_distilled(request, context, arriving, parts=parts)
    n_wanted = made.tally.n_calls + made.tally.n_not_asked
    if made.tally.n_calls < MIN_ASKED_SHARE * n_wanted:
        raise BadDistillation(
            f"The budget of {recipe.budget.max_cost_usd} USD let {made.tally.n_calls} of {n_wanted} calls be made: too few to train on."
            f" The replies are {made.version.ref}.",
            hint="Raise budget.max_cost_usd, or ask for fewer rows with data.max_rows; a run of another method takes them as they are.",
        )
    return made.version.ref


def make_distilled(
    request: DistillRequest, context: DistillContext, arriving: Path | None = None, *, parts: DistillParts
) -> Distilled:
    """Ask the teacher and return the version with its replies; see `prepare_distilled` for `arriving`."""
    source = parts.datasets.get(request.dataset)
    reader = RowReader(
        form=source.facts.format,
        kind="supervised",
        as_case=_as_case,
        prompt=_read_template(parts.registry, request.template),
        system=request.system,
    )
    context.progress(0.0, f"reading {source.ref}")
    asked: list[AskedRow] = []
    kept: list[DatasetRow] = []
    for number, row in enumerate(parts.datasets.read(source.ref), 1):
        if request.keep_split is not None and row.split == request.keep_split:
            kept.append(_as_chat(reader, number, row))
        elif request.split not in {None, row.split}:
            continue
        elif request.max_rows is None or len(asked) < request.max_rows:
            asked.append(_ask_row(reader, number, row))
    how = Distillation(part=request.part, seed=request.seed, max_cost_usd=request.max_cost_usd)
    arrived = None if arriving is None else ReplyJournal(arriving)
    rows, tally = distil(
        asked, how, parts.teacher, context, session=f"distill:{request.name}", arrived=arrived
    )
    teachers = find_teachers(parts.registry, tally)
    version = parts.datasets.create_from_rows(
        request.name,
        [*rows, *kept],
        "chat",
        parents=[source.digest, *(each.digest for each in teachers if each is not None)],
        sources=[
            {"kind": "model", "source": request.part.teacher, "n_rows": len(rows)},
            *([{"kind": "dataset", "source": source.ref, "n_rows": len(kept)}] if kept else []),
        ],
        steps=[{"step": "distill", "prompts": source.ref, **_parameters(request), **tally.as_fields()}],
        left_out=dict(tally.left_out),
        description=f"Replies of {request.part.teacher} to the prompts of {source.ref}.",
        licence=request.license or join_licences(source.facts.license, teachers),
        note=f"distilled from {request.part.teacher}",
    )
    context.progress(1.0, f"{version.ref}: {tally.n_kept} replies, {tally.cost_text}")
    return Distilled(version=version, tally=tally)


def find_teachers(registry: Registry, tally: DistillTally) -> list[Version | None]:
    """Return who wrote the replies: versions of this registry, None for whom it does not know."""
    return [_find_teacher(registry, told) for told in sorted(tally.versions)]


def _find_teacher(registry: Registry, told: str) -> Version | None:
    label, _, digest = told.partition(" ")
    if not label.startswith("model:") or not digest:
        return None
    try:
        version = registry.resolve(label)
    except PenstockError:
        return None
    return version if version.digest.startswith(digest) else None


def join_licences(prompts: str | None, teachers: Sequence[Version | None]) -> str | None:
    """Return what prompts and replies are under together; None where nobody knows of one of them."""
    named = {prompts, *(None if each is None else each.content.get("license") for each in teachers)}
    known = sorted(each for each in named if each)
    return " AND ".join(known) if len(known) == len(named) else None


def _parameters(request: DistillRequest) -> dict[str, Any]:
    part = request.part
    return {
        "teacher": part.teacher,
        "temperature": part.temperature,
        "max_tokens": part.max_tokens,
        "n_per_prompt": part.n_per_prompt,
        "seed": request.seed,
        "template": request.template,
    }


def _read_template(registry: Registry, reference: str | None) -> PromptContent | None:
    if reference is None:
        return None
    return msgspec.convert(dict(registry.resolve(reference).content), PromptContent)


def _as_case(row: DatasetRow, form: DatasetFormat) -> Case:
    """Return the case; one without an answer is asked all the same."""
    case = row_to_case(row, form)
    return case if case.expected is not None else msgspec.structs.replace(case, expected=_ANY)


def _ask_row(reader: RowReader, number: int, row: DatasetRow) -> AskedRow:
    if reader.form == "chat" and row.fields["messages"][-1].get("role") != "assistant":
        messages = [*row.fields["messages"], {"role": "assistant", "content": _ANY}]
        row = msgspec.structs.replace(row, fields={**row.fields, "messages": messages})
    read = _read(reader, number, row)
    asked = read[:-1]
    if not asked:
        raise BadDistillation(
            f"Row {number} ({row.id}) asks nothing.", hint="Text without turns cannot be distilled."
        )
    return AskedRow(row=row, messages=tuple(_without_weight(asked)))


def _as_chat(reader: RowReader, number: int, row: DatasetRow) -> DatasetRow:
    return msgspec.structs.replace(row, fields={"messages": _read(reader, number, row)})


def _read(reader: RowReader, number: int, row: DatasetRow) -> list[dict[str, Any]]:
    try:
        return list(reader.read(number, row)[0].messages)
    except PenstockError as error:
        raise BadDistillation(f"Row {number} ({row.id}): {error.message}", hint=error.hint) from error


def _without_weight(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the turns as they are sent: the weight is for training alone."""
    for message in messages:
        yield {name: value for name, value in message.items() if name != "weight"}
