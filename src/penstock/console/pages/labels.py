"""Where people label outputs: the most useful ones first, one key an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from penstock.access.declarations import Caller, actor_of, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput
from penstock.console.case_words import answer_of, asked_of, text_of
from penstock.console.judge_lines import ANSWERS, Answer, answers_of, read_answers, to_label
from penstock.console.links import link
from penstock.console.pages.judges import ACTIVE, find_set, list_evaluations
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.evals.judges.types import Drawn, LabelDraft
from penstock.spec.cases import Case, Output

PATH = f"{ACTIVE}/label"
BATCH = 12


@dataclass(frozen=True, kw_only=True)
class LabelLine:
    """One output to be labelled."""

    case: Case
    output: Output
    asked: str
    expected: str
    answer: str
    drawn: Drawn
    why: str


@dataclass(frozen=True, kw_only=True)
class LabelPage(Page):
    """The next outputs; without a name or an evaluation the form that asks for them."""

    template: ClassVar[str] = "label.html"
    name: str
    evaluation: str
    evaluation_name: str
    answers: tuple[Answer, ...]
    answers_text: str
    lines: tuple[LabelLine, ...]
    evaluations: tuple[tuple[str, str], ...]
    choices: tuple[tuple[str, str], ...] = ANSWERS
    n_labelled: int
    """Outputs that have this label, of all evaluations."""
    names: tuple[str, ...]
    case_id: str


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/judges/label`."""
    router = APIRouter(include_in_schema=False)

    @router.get(PATH)
    @needs(Permission.EVALS_WRITE)
    def show_label(request: Request) -> Response:
        params = request.query_params
        name, evaluation = params.get("name", "").strip(), params.get("evaluation", "").strip()
        found = find_set(services, name) if name else None
        text = params.get("own", "").strip() or params.get("answers", "").strip() or answers_of(found)
        record = services.evaluations.get(evaluation) if evaluation else None
        lines = find_lines(services, evaluation, name, params) if record is not None and name else ()
        page = LabelPage(
            frame=renderer.frame(request, f"Label {name}" if name else "Label outputs", ACTIVE),
            name=name,
            evaluation=record.id if record else "",
            evaluation_name=f"{record.name} · {record.target}" if record else "",
            answers=read_answers(text),
            answers_text=text,
            lines=lines,
            evaluations=list_evaluations(services),
            n_labelled=found.n_items if found else 0,
            names=tuple(each.name for each in services.judges.labels.sets()),
            case_id=params.get("case", ""),
        )
        return renderer.show(page)

    @router.post(PATH)
    @needs(Permission.EVALS_WRITE)
    def take_label(request: Request) -> Response:
        caller: Caller = request.state.caller
        form = caller.form
        services.judges.labels.add([read_draft(form)], actor=actor_of(caller))
        if "application/json" in request.headers.get("accept", ""):
            return Response(status_code=204)
        kept = {name: form.get(name, "") for name in ("name", "evaluation", "answers")}
        return RedirectResponse(link(PATH, kept), status_code=303)

    return router


def read_draft(form: Mapping[str, str]) -> LabelDraft:
    """Return the label that a form says; raise `InvalidInput` for one that says nothing."""
    word, repeat = form.get("answer", "").strip(), form.get("repeat", "0")
    if not word:
        raise InvalidInput("A label needs an answer.")
    said = to_label(word)
    value, label = said.get("value"), said.get("label")
    return LabelDraft(
        name=form.get("name", "").strip(),
        value=value if isinstance(value, float) else None,
        label=label if isinstance(label, str) else None,
        comment=form.get("comment", "").strip(),
        drawn="chosen" if form.get("drawn") == "chosen" else "random",
        evaluation=form.get("evaluation", ""),
        case_id=form.get("case", ""),
        repeat=int(repeat) if repeat.isascii() and repeat.isdigit() and len(repeat) < 6 else 0,
    )


def find_lines(
    services: ConsoleServices, evaluation: str, name: str, params: Mapping[str, str]
) -> tuple[LabelLine, ...]:
    """Return the outputs to label next; with a case named, those of that case alone."""
    case_id = params.get("case", "")
    if case_id:
        view = services.evaluations.case(evaluation, case_id)
        return tuple(
            _line(view.case, output, "chosen", "chosen by hand")
            for output in view.outputs
            if output.status == "ok"
        )
    found = services.judges.next_items(evaluation, name, n=BATCH)
    return tuple(_line(each.item.case, each.item.output, each.drawn, each.why) for each in found)


def _line(case: Case, output: Output, drawn: Drawn, why: str) -> LabelLine:
    return LabelLine(
        case=case,
        output=output,
        asked=asked_of(case),
        expected=text_of(case.expected),
        answer=answer_of(output),
        drawn=drawn,
        why=why,
    )
