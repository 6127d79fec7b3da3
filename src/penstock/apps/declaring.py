"""Declarations as people write them: a few lines of TOML, YAML or JSON. Pure, but for the filter's reader that is passed in.

What a file leaves out is chosen for its model: Pocket gets the form it was trained on, any other model a conversation of six
messages and a question that is rewritten to stand alone. A registered version holds everything in full.
"""

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import msgspec
import yaml

from penstock.apps.errors import WrongDeclaration
from penstock.apps.handbook import POCKET, declare_handbook
from penstock.apps.shelf import ReadFilter
from penstock.apps.step_settings import CheckStep, ExpandStep, FilterStep, RewriteStep
from penstock.apps.types import STEP_ORDER, STYLES, AppDeclaration, declaration_content
from penstock.base.errors import CallerError

MAX_FILE_CHARS = 200_000
MAX_K = 200
DEFAULT_TOKENS = 2000
"""Twice what 700 English words are, as models whose tokenizer is not here are counted rather high."""
_STEPS: Mapping[str, type[msgspec.Struct]] = {
    "rewrite": RewriteStep,
    "expand": ExpandStep,
    "filter": FilterStep,
    "check": CheckStep,
}
_FIELDS = AppDeclaration.__struct_fields__
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,78}[a-z0-9])?")
_PROMPT = re.compile(r"prompt:[a-z0-9][a-z0-9._-]*(?:@[a-z0-9][a-z0-9._:-]*)?")
_AT_LEAST: Mapping[str, float] = {
    "k": 1,
    "max_sentences": 1,
    "max_prompt_words": 1,
    "max_prompt_tokens": 32,
    "max_tokens": 1,
    "temperature": 0,
    "retrieve_timeout_s": 0.01,
    "answer_timeout_s": 0.01,
    "deadline_s": 0.01,
    "turns": 0,
    "retrieve_retries": 0,
    "answer_retries": 0,
    "timeout_s": 0.01,
    "retries": 0,
    "variants": 1,
    "min_dense_score": -1,
    "min_relative_score": 0,
    "min_grounded": 0,
}
_AT_MOST: Mapping[str, float] = {
    "k": MAX_K,
    "max_sentences": 24,
    "retrieve_retries": 5,
    "answer_retries": 5,
    "retries": 5,
    "variants": 8,
    "turns": 40,
    "min_grounded": 1,
    "min_dense_score": 1,
    "min_relative_score": 1,
    "temperature": 10,
    "max_tokens": 1_000_000,
    "max_prompt_tokens": 1_000_000,
    "max_prompt_words": 1_000_000,
    "retrieve_timeout_s": 3600,
    "answer_timeout_s": 3600,
    "deadline_s": 3600,
    "timeout_s": 3600,
}


def read_declaration(text: str, *, file: str, read_filter: ReadFilter) -> AppDeclaration:
    """Return the app that a file declares; `file` says by its ending how it is written.

    Raises `WrongDeclaration` that names everything that is wrong, unknown keys with the nearest known one.
    """
    return make_declaration(parse_declaration(text, file), file=file, read_filter=read_filter)


def make_declaration(told: Mapping[str, Any], *, file: str, read_filter: ReadFilter) -> AppDeclaration:
    """Return the app that these members declare; raise `WrongDeclaration`."""
    problems = list(_find_unknown(told))
    missing = [name for name in ("name", "knowledge", "model") if not isinstance(told.get(name), str)]
    problems += [f"`{name}` is missing: it has to be a text" for name in missing]
    if problems:
        raise WrongDeclaration(problems, file=file)
    members = {**_defaults(told), **told}
    members["filters"] = _read_filters(members.get("filters", []), read_filter, problems)
    try:
        app = msgspec.convert(members, AppDeclaration)
    except msgspec.ValidationError as error:
        raise WrongDeclaration([*problems, _plain(str(error))], file=file) from None
    problems += find_problems(app)
    if problems:
        raise WrongDeclaration(problems, file=file)
    return app


def find_problems(app: AppDeclaration) -> list[str]:
    """Return what is wrong with a declaration, whatever is there to serve it."""
    problems = [
        f"`{field}` is {value!r}: use lower-case letters, digits, dot, dash, underscore"
        for field, value in (("name", app.name), ("knowledge", app.knowledge))
        if not _NAME.fullmatch(value)
    ]
    problems += _find_wrong_steps(app)
    problems += _find_circles(app)
    if app.prompt not in STYLES and not _PROMPT.fullmatch(app.prompt):
        known = ", ".join(STYLES)
        problems.append(f"`prompt` is {app.prompt!r}: write {known}, prompt:NAME or prompt:NAME@ALIAS")
    if app.quote_only and app.prompt not in STYLES:
        problems.append("`quote_only` goes with the built-in prompts alone")
    problems += _find_out_of_bounds(app, "")
    for step in _STEPS:
        problems += _find_out_of_bounds(getattr(app, step), f"{step}.")
    if app.filter.kind == "rerank" and "filter" in app.steps and app.filter.model is None:
        problems.append("`filter.model` is missing: `rerank` needs a route that reranks")
    return problems


def write_declaration(app: AppDeclaration) -> str:
    """Return a declaration as JSON text with everything that is said, which `read_declaration` reads back."""
    return json.dumps(declaration_content(app), indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def diff_declarations(before: AppDeclaration, after: AppDeclaration) -> list[dict[str, Any]]:
    """Return what differs, a row for each member: its path, before and after."""
    a, b = (dict(_flatten(msgspec.to_builtins(app))) for app in (before, after))
    return [
        {"field": name, "before": a.get(name), "after": b.get(name)}
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]


def parse_declaration(text: str, file: str) -> dict[str, Any]:
    """Return the members that a file holds, unchecked; raise `WrongDeclaration` for a file that cannot be read."""
    if len(text) > MAX_FILE_CHARS:
        raise WrongDeclaration([f"the file has over {MAX_FILE_CHARS:,} characters"], file=file)
    ending = file.rpartition(".")[2].lower()
    try:
        if ending in ("yaml", "yml"):
            told = yaml.safe_load(text)
        elif ending == "json":
            told = json.loads(text)
        else:
            told = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise WrongDeclaration([f"it cannot be read as {ending or 'toml'}: {said}"], file=file) from None
    if not isinstance(told, dict):
        raise WrongDeclaration(["it holds no table of members"], file=file)
    return told


def _defaults(told: Mapping[str, Any]) -> dict[str, Any]:
    model = str(told["model"])
    base = declare_handbook(model=model, knowledge=str(told["knowledge"]), name=str(told["name"]))
    found: dict[str, Any] = msgspec.to_builtins(base)
    if model != POCKET:
        found.update(steps=["rewrite", "retrieve", "answer"], turns=6, max_prompt_tokens=DEFAULT_TOKENS)
    return found


def _find_unknown(told: Mapping[str, Any]) -> Iterator[str]:
    for name, value in told.items():
        if name not in _FIELDS:
            yield _unknown(name, _FIELDS)
        elif (step := _STEPS.get(name)) is not None and isinstance(value, Mapping):
            for member in value:
                if member not in step.__struct_fields__:
                    yield f"in [{name}]: {_unknown(member, step.__struct_fields__)}"


def _unknown(name: Any, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"there is no key {str(name)!r}" + (
        f", did you mean {near[0]!r}" if near else f" (known: {', '.join(known)})"
    )


def _read_filters(told: Any, read_filter: ReadFilter, problems: list[str]) -> list[Any]:
    each = told if isinstance(told, list) else [told]
    found: list[Any] = []
    for one in each:
        if isinstance(one, Mapping) and "op" in one:
            found.append(one)  # as registered versions hold it
        elif isinstance(one, str | dict):
            if not one:
                continue
            try:
                found.append(msgspec.to_builtins(read_filter(one)))
            except CallerError as error:
                problems.append(f"`filters`: {error.message.partition(chr(10))[0].rstrip('.')}")
        else:
            problems.append(f"`filters` holds {type(one).__name__}: write a text such as `language:de`")
    return found


def _find_wrong_steps(app: AppDeclaration) -> Iterator[str]:
    steps = app.steps
    for needed in ("retrieve", "answer"):
        if needed not in steps:
            yield f"`steps` has no {needed!r}: every app retrieves and answers"
    if list(steps) != [step for step in STEP_ORDER if step in steps]:
        yield f"`steps` run in this order, each once: {', '.join(STEP_ORDER)}"


def _find_circles(app: AppDeclaration) -> Iterator[str]:
    asked = {"model": app.model, "answer_fallback": app.answer_fallback}
    for step in _STEPS:
        asked |= {f"{step}.{name}": getattr(getattr(app, step), name) for name in ("model", "fallback")}
    for field, model in asked.items():
        if model is not None and model.partition("@")[0] == app.name:
            yield f"`{field}` is {model!r}, the app itself: it would ask itself without end"


def _find_out_of_bounds(section: msgspec.Struct, prefix: str) -> Iterator[str]:
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if not math.isfinite(value):
            yield f"`{prefix}{name}` is {value}: write a number"
            continue
        low, high = _AT_LEAST.get(name), _AT_MOST.get(name)
        if low is not None and value < low:
            yield f"`{prefix}{name}` is {value:g}: it has to be at least {low:g}"
        if high is not None and value > high:
            yield f"`{prefix}{name}` is {value:g}: it may be at most {high:g}"


def _plain(text: str) -> str:
    found = re.search(r" - at `\$\.?([^`]*)`", text)
    if found is None:
        return text
    where, told = found.group(1), text[: found.start()].rstrip(".")
    return f"`{where}`: {told}{_say_choices(where, told)}"


def _say_choices(where: str, told: str) -> str:
    """Return the values that a member takes, the nearest one first where one is near."""
    given = re.search(r"Invalid enum value '(.*)'", told)
    if given is None:
        return ""
    kind: Any = AppDeclaration
    for name in re.sub(r"\[.*?\]", "", where).split("."):
        kind = get_type_hints(kind).get(name) if isinstance(kind, type) else None
    known = [each for each in _literals(kind) if isinstance(each, str)]
    near = difflib.get_close_matches(given[1], known, n=1, cutoff=0.5)
    return (
        f", did you mean {near[0]!r}? (known: {', '.join(known)})"
        if near
        else f" (known: {', '.join(known)})"
    )


def _literals(kind: Any) -> Iterator[Any]:
    for each in get_args(kind):
        yield from _literals(each) if get_args(each) else (each,)


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, dict):
            yield from _flatten(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each
