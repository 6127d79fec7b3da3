"""What versions are measured on: cases and texts of datasets and files, rendered by a prompt; and the scoring of their replies."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock import data as package_data
from penstock.base.digest import digest_json
from penstock.base.errors import PenstockError
from penstock.datasets.handbook import PROOF_CASES
from penstock.evals.catalogue import Catalogue
from penstock.evals.ports import PinnedTarget
from penstock.evals.running.scoring import check_names, column_of, judge, prepare
from penstock.evals.running.targets import request_body
from penstock.evals.scorers.types import Scorer, ScorerTools
from penstock.evals.statistics.types import ScoredCase
from penstock.evals.types import ScoreColumn
from penstock.spec.cases import Case, Output, OutputError
from penstock.spec.evaluations import ScorerSpec, TargetSpec
from penstock.spec.messages import Message
from penstock.spec.prompts import PromptContent
from penstock.tuning.compress.errors import CannotMeasure
from penstock.tuning.compress.types import TaskItem, TaskReply, TextItem

HANDBOOK = "handbook"
_SHIPPED = Path(package_data.__file__).parent / "handbook"
HANDBOOK_CASES = PROOF_CASES
"""What `handbook` stands for: held-out questions in every wording, with the reply that is wanted."""
HANDBOOK_PROMPT = _SHIPPED / "gate" / "answer-numbered.prompt"
_TEXT_FILES = frozenset({".txt", ".md"})
_UNSUITED = frozenset({"judge", "embedder", "likelihood", "logprobs", "cost", "samples"})
SCORER_TIMEOUT_S = 60.0
"""Of one scorer on one reply."""
Fill = Callable[[PromptContent, Mapping[str, Any]], tuple[list[dict[str, Any]], Mapping[str, Any]]]
"""Returns messages and parameters that a prompt makes of variables."""


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Cases ready to be asked, and what is needed to score the replies."""

    cases: tuple[Case, ...]
    items: tuple[TaskItem, ...]
    scorers: tuple[Scorer, ...]
    columns: Mapping[str, ScoreColumn]
    source: str
    digest: str


def make_tasks(
    cases: Sequence[Case],
    *,
    source: str,
    prompt: PromptContent | None,
    fill: Fill,
    scorers: Sequence[ScorerSpec],
    catalogue: Catalogue,
    parameters: Mapping[str, Any],
) -> Tasks:
    """Return the cases as they are asked.

    Raises `CannotMeasure` for scorers that need a judge, an embedder or the record of a call, and those of a prompt that does not fit.
    """
    if not cases:
        raise CannotMeasure(f"{source} holds no case.")
    items = tuple(ask_case(case, prompt, fill, parameters) for case in cases)
    made = prepare([catalogue.create(each) for each in scorers], lambda: cases)
    check_names(made)
    columns = {}
    for scorer, spec in zip(made, scorers, strict=True):
        needs = sorted(_UNSUITED & scorer.info.needs)
        if needs or scorer.figure is not None:
            why = f"it needs {', '.join(needs)}" if needs else "its figure is no mean of cases"
            raise CannotMeasure(
                f"The scorer {scorer.name!r} cannot be used here: {why}.",
                hint="Deploy the version and run an evaluation on it.",
            )
        columns[scorer.name] = column_of(scorer, spec)
    asked = {
        "items": msgspec.to_builtins(items),
        "expected": [msgspec.to_builtins(case.expected) for case in cases],
        "scorers": [column.stamp for column in columns.values()],
    }
    return Tasks(
        cases=tuple(cases),
        items=items,
        scorers=tuple(made),
        columns=columns,
        source=source,
        digest=digest_json(asked),
    )


def ask_case(case: Case, prompt: PromptContent | None, fill: Fill, parameters: Mapping[str, Any]) -> TaskItem:
    """Return the case as it is asked: by the prompt where there is one, else its messages or its one text."""
    told: Mapping[str, Any] = {}
    try:
        if prompt is not None:
            takes = prompt.variables
            wanted = {name: value for name, value in case.inputs.items() if not takes or name in takes}
            messages, told = fill(prompt, wanted)
        else:
            pinned = PinnedTarget(spec=TargetSpec(model="model"), versions={}, stamp="")
            messages = request_body(pinned, case)["messages"]
    except PenstockError as error:
        raise CannotMeasure(f"Case {case.id!r} cannot be asked: {error.message}", hint=error.hint) from error
    limit = {**told, **parameters}.get("max_tokens")
    return TaskItem(
        case=case.id,
        messages=tuple(_message(each) for each in messages),
        max_tokens=int(limit) if limit else None,
    )


def texts_of_cases(cases: Sequence[Case], items: Sequence[TaskItem]) -> Iterator[TextItem]:
    """Yield each case with its (first) reference as the reply to be read; those without one are left out."""
    for case, item in zip(cases, items, strict=True):
        reference = case.expected[0] if isinstance(case.expected, list) and case.expected else case.expected
        if isinstance(reference, str) and reference:
            reply = Message(role="assistant", content=reference)
            yield TextItem(row=case.id, group=case.group, messages=(*item.messages, reply))


def is_text_file(place: str) -> bool:
    """Whether a place names a file of plain text."""
    return Path(place).suffix.lower() in _TEXT_FILES


def read_texts(path: Path) -> Iterator[TextItem]:
    """Yield the paragraphs of a text file."""
    paragraphs = [each.strip() for each in path.read_text(encoding="utf-8").split("\n\n")]
    for number, paragraph in enumerate(filter(None, paragraphs), 1):
        yield TextItem(row=f"{path.name}:{number}", text=paragraph)


def score_replies(tasks: Tasks, replies: Iterable[TaskReply]) -> dict[str, list[ScoredCase]]:
    """Return the scores of each scorer, case by case. What could not be asked has no score and counts as an error."""
    by_case = {reply.case: reply for reply in replies}

    async def run() -> dict[str, list[ScoredCase]]:
        found: dict[str, list[ScoredCase]] = {scorer.name: [] for scorer in tasks.scorers}
        for case in tasks.cases:
            output = _output(by_case[case.id])
            for scorer in tasks.scorers:
                scores = await judge(scorer, case, [output], ScorerTools(), timeout_s=SCORER_TIMEOUT_S)
                values = [score.value for score in scores if score.value is not None]
                found[scorer.name].append(
                    ScoredCase(
                        case_id=case.id,
                        group=case.group,
                        values=values,
                        n_undefined=sum(score.status == "undefined" for score in scores),
                        n_errors=sum(score.status == "error" for score in scores),
                    )
                )
        return found

    return asyncio.run(run())


def _output(reply: TaskReply) -> Output:
    if reply.error is not None:
        error = OutputError(code="engine", message=reply.error)
        return Output(case_id=reply.case, status="error", error=error)
    return Output(case_id=reply.case, text=reply.text, finish_reason=reply.finish)


def _message(told: Mapping[str, Any]) -> Message:
    role, content = told.get("role"), told.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    if role == "developer":
        role = "system"
    if role not in {"system", "user", "assistant", "tool"} or not isinstance(content, str):
        raise CannotMeasure(f"A turn of role {role!r} cannot be sent to a local model.")
    return Message(role=role, content=content)
