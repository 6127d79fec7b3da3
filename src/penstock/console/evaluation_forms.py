"""The form that starts an evaluation: what was typed, kept as it was typed, and the specification it means."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.spec.evaluations import EvaluationBudget, EvaluationSpec, ScorerSpec, TargetSpec

_SCORER = re.compile(
    r"(?:(?P<name>[\w.-]+)\s*=\s*)?(?P<scorer>[\w.:@/-]+)\s*(?P<parameters>\{.*\})?\s*(?:[x×](?P<samples>\d+))?"
)
SCORER_FORM = 'a name, `NAME {"parameter": value}`, or `as_called = NAME {…}`'


@dataclass(frozen=True, kw_only=True)
class EvaluationDraft:
    """Texts of the form."""

    name: str = ""
    dataset: str = ""
    target: str = ""
    prompt: str = ""
    parameters: str = ""
    scorers: str = ""
    split: str = ""
    limit: str = ""
    repeats: str = "1"
    seed: str = "0"
    slices: str = ""
    tags: str = ""
    usd: str = ""
    minutes: str = ""


def read_draft(form: Mapping[str, str]) -> EvaluationDraft:
    """Return what was typed; scorers that were ticked come before those that were written, the one in `first` before all."""
    texts = {name: form.get(name, "").strip() for name in EvaluationDraft.__dataclass_fields__}
    ticked = [name.removeprefix("use:") for name in form if name.startswith("use:")]
    ticked.sort(key=lambda name: name != form.get("first", ""))
    written = [line for line in texts["scorers"].splitlines() if line.strip() and line.strip() not in ticked]
    return EvaluationDraft(**{**texts, "scorers": "\n".join([*ticked, *written])})


def draft_of(spec: EvaluationSpec) -> EvaluationDraft:
    """Return the form of a specification, so that it can be run again with something changed."""
    where = spec.where.get("split", "")
    return EvaluationDraft(
        name=spec.name,
        dataset=spec.dataset or "",
        target=spec.target.model or spec.target.outputs or "",
        prompt=spec.target.prompt or "",
        parameters=_write_json(spec.target.parameters),
        scorers="\n".join(write_scorer(each) for each in spec.scorers),
        split=where if isinstance(where, str) else "",
        limit="" if spec.limit is None else str(spec.limit),
        repeats=str(spec.repeats),
        seed=str(spec.seed),
        slices=", ".join(spec.slices),
        tags=", ".join(spec.tags),
        usd="" if spec.budget.usd is None else str(spec.budget.usd),
        minutes="" if spec.budget.minutes is None else f"{spec.budget.minutes:g}",
    )


def to_spec(draft: EvaluationDraft) -> EvaluationSpec:
    """Return the specification that the form means; raise `InvalidInput` that names the field."""
    is_stored = draft.target.startswith("eval:")
    if not draft.dataset and not is_stored:
        raise InvalidInput(
            "An evaluation needs a dataset.", hint="Such as dataset:NAME@prod or dataset:NAME@3."
        )
    if not draft.target:
        raise InvalidInput(
            "An evaluation needs a target.",
            hint="A route, prompt:NAME@ALIAS, an app, or eval:ID to score it again.",
        )
    dataset = draft.dataset if ":" in draft.dataset or not draft.dataset else f"dataset:{draft.dataset}"
    return EvaluationSpec(
        name=draft.name or _name(draft),
        target=TargetSpec(
            model=None if is_stored else draft.target,
            outputs=draft.target if is_stored else None,
            prompt=draft.prompt or None,
            parameters=_read_json(draft.parameters, "Parameters"),
        ),
        dataset=dataset or None,
        where={"split": draft.split} if draft.split else {},
        limit=_read_count(draft.limit, "At most"),
        scorers=read_scorers(draft.scorers),
        repeats=_read_count(draft.repeats, "Repeats") or 1,
        seed=_read_count(draft.seed, "Seed", least=0) or 0,
        slices=_read_list(draft.slices),
        tags=_read_list(draft.tags),
        budget=EvaluationBudget(usd=_read_usd(draft.usd), minutes=_read_minutes(draft.minutes)),
    )


def read_scorers(text: str) -> list[ScorerSpec]:
    """Return the scorers that a text names, one a line; raise `InvalidInput` that names the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _SCORER.fullmatch(line.strip())
        if match is None:
            raise InvalidInput(
                f"Line {number} of the scorers cannot be read: {line.strip()[:80]!r}.",
                hint=f"Write {SCORER_FORM}.",
            )
        found.append(
            ScorerSpec(
                scorer=match["scorer"],
                name=match["name"] or "",
                parameters=_read_json(match["parameters"] or "", f"Line {number} of the scorers"),
                n_samples=int(match["samples"] or 1),
            )
        )
    if not found:
        raise InvalidInput("An evaluation needs at least one scorer.", hint=f"Write {SCORER_FORM}.")
    return found


def read_budget(form: Mapping[str, str]) -> EvaluationBudget | None:
    """Return the budget of a form that has one, None where the old one goes on."""
    usd, minutes = _read_usd(form.get("usd", "").strip()), _read_minutes(form.get("minutes", "").strip())
    return None if usd is None and minutes is None else EvaluationBudget(usd=usd, minutes=minutes)


def write_scorer(spec: ScorerSpec) -> str:
    """Return a scorer as it is written in the form."""
    name = f"{spec.name} = " if spec.name else ""
    parameters = f" {_write_json(spec.parameters)}" if spec.parameters else ""
    samples = f" x{spec.n_samples}" if spec.n_samples > 1 else ""
    return f"{name}{spec.scorer}{parameters}{samples}"


def _name(draft: EvaluationDraft) -> str:
    target = re.sub(r"[^\w.-]+", "-", draft.target).strip("-")
    dataset = re.sub(r"[^\w.-]+", "-", draft.dataset.removeprefix("dataset:").partition("@")[0]).strip("-")
    return f"{target}-on-{dataset}"[:80]


def _read_json(text: str, field: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{field}: no JSON: {error}.") from None
    if not isinstance(found, dict):
        raise InvalidInput(f'{field}: must be a JSON object such as {{"temperature": 0}}.')
    return found


def _write_json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False) if value else ""


def _read_count(text: str, field: str, *, least: int = 1) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise InvalidInput(f"{field} must be a whole number from {least} on, not {text[:40]!r}.")
    return int(text)


def _read_usd(text: str) -> Decimal | None:
    if not text:
        return None
    try:
        found = Decimal(text.removeprefix("$").replace(",", "."))
    except InvalidOperation:
        found = Decimal(0)
    if not (found.is_finite() and 0 < found < Decimal(10**9)):
        raise InvalidInput(f"The budget must be an amount in dollars over zero, not {text[:40]!r}.")
    return found


def _read_minutes(text: str) -> float | None:
    try:
        found = float(text.replace(",", ".")) if text else None
    except ValueError:
        found = 0.0
    if found is not None and not 0 < found < 1e6:
        raise InvalidInput(f"Minutes must be a number over zero, not {text[:40]!r}.")
    return found


def _read_list(text: str) -> list[str]:
    return [part for part in re.split(r"[,\s]+", text) if part]
