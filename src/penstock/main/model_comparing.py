"""Versions of a model beside each other: everything newest that was measured, differences from the first, and a sentence for each.

Figures are compared over the same rows and cases only, and speed only within one session on one machine; what cannot be compared is
said, not guessed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from penstock.main.model_figures import PROCESSOR, compare_figures, list_unasked
from penstock.registry.service import Registry
from penstock.registry.types import Version
from penstock.spec.evaluations import Comparison, Estimate
from penstock.tuning.compress.errors import CannotMeasure, UnknownMeasurement
from penstock.tuning.compress.store import MeasurementStore
from penstock.tuning.compress.types import (
    ALL_PARTS,
    ComparedModel,
    MeasuredPart,
    ModelComparison,
    ModelMeasurement,
)

_SPEED = "reply_tokens_per_s_1"
_SPEEDS = ("prompt_tokens_per_s", "reply_tokens_per_s", PROCESSOR)
_DIVERGENCE = frozenset({"kl", "top1_agreement"})
"""Figures of two versions: they say something only beside the one that was measured with."""
_ANY_TOKENS = "bits_per_byte"
_TASKS = "tasks: "
_GUESSING = "texts: worse than chance: "


def compare_models(registry: Registry, store: MeasurementStore, refs: Sequence[str]) -> ModelComparison:
    """Return the versions that `refs` name beside the first of them.

    Raises `CannotMeasure` for fewer than two versions, `UnknownMeasurement` when nothing was measured of one.
    """
    versions = list({each.digest: each for each in map(registry.resolve, refs)}.values())
    if len(versions) < 2:
        raise CannotMeasure(
            "Name two versions or more.", hint="penstock model compare model:NAME@1 model:NAME@2"
        )
    known = {version.digest: store.newest(version.digest) for version in versions}
    for version in versions:
        if not known[version.digest]:
            raise UnknownMeasurement(
                f"Nothing was measured of {version.label}.",
                hint=f"penstock model measure {' '.join(each.label for each in versions)}",
            )
    first = versions[0]
    models = [
        _plain(first, known[first.digest]),
        *(
            _beside(store, first, known[first.digest], version, known[version.digest])
            for version in versions[1:]
        ),
    ]
    verdicts = tuple(make_verdict(models[0], each) for each in models[1:])
    return ModelComparison(models=tuple(models), verdicts=verdicts)


def _plain(
    version: Version, found: Mapping[MeasuredPart, ModelMeasurement], *, beside: str = ""
) -> ComparedModel:
    """Return the version; how far it diverges from another is told only where that one has the digest `beside`."""
    return ComparedModel(
        version=version.label,
        digest=version.digest,
        precision=version.content.get("precision"),
        n_parameters=version.content.get("n_parameters"),
        parents=tuple(version.parents),
        figures=tuple(
            figure
            for part in ALL_PARTS
            if part in found
            for figure in found[part].figures
            if figure.name not in _DIVERGENCE or found[part].against == beside
        ),
        notes=(*_tell_unasked(found), *_tell_guessing(found)),
    )


def _beside(
    store: MeasurementStore,
    first: Version,
    of_first: Mapping[MeasuredPart, ModelMeasurement],
    version: Version,
    found: Mapping[MeasuredPart, ModelMeasurement],
) -> ComparedModel:
    differences: list[Comparison] = []
    notes: list[str] = []
    chosen: dict[MeasuredPart, ModelMeasurement] = {}
    for part in ALL_PARTS:
        if part not in of_first and part not in found:
            continue
        if part not in of_first or part not in found:
            lacking = first.label if part not in of_first else version.label
            notes.append(f"{part}: not measured of {lacking}")
            if part in found:
                chosen[part] = found[part]
            continue
        pair = _pair(store.recent(first.digest, part), store.recent(version.digest, part), part)
        if pair is None:
            chosen[part] = found[part]
            notes.append(_tell_why(part))
            continue
        chosen[part] = pair[1]
        made = compare_figures(*pair)
        if part == "texts" and pair[0].facts["renderer_digest"] != pair[1].facts["renderer_digest"]:
            notes.append("perplexity: counts other tokens, so only bits per byte are compared")
            made = tuple(each for each in made if each.name == _ANY_TOKENS)
        # how far it diverges from whatever it was measured against is a figure of its own, no difference
        differences += [each for each in made if each.name not in _DIVERGENCE]
    if "texts" in chosen and "texts" in of_first and chosen["texts"].against != first.digest:
        notes.append("texts: how far they diverge is not known: they were never measured beside each other")
    plain = _plain(version, chosen, beside=first.digest)
    guessing = [*_tell_guessing(of_first), *_tell_guessing(chosen)]
    if guessing:  # a difference of two that guess is noise, however certain it looks
        differences = [
            msgspec.structs.replace(each, word="undecided")
            if each.name in {"perplexity", _ANY_TOKENS}
            else each
            for each in differences
        ]
    return ComparedModel(
        version=plain.version,
        digest=plain.digest,
        precision=plain.precision,
        n_parameters=plain.n_parameters,
        parents=plain.parents,
        figures=plain.figures,
        differences=tuple(differences),
        notes=(*notes, *plain.notes),
    )


def _pair(
    of_first: Sequence[ModelMeasurement], of_other: Sequence[ModelMeasurement], part: MeasuredPart
) -> tuple[ModelMeasurement, ModelMeasurement] | None:
    """Return the newest two that may be compared, those of one session before all others."""
    sessions = {each.session: each for each in of_first}
    together = [each for each in of_other if each.session in sessions]
    for each in sorted(together, key=lambda one: one.against != of_first[0].digest):  # stable: newest first
        return sessions[each.session], each
    if part == "speed":
        return None
    if part == "size":
        return of_first[0], of_other[0]
    for each in of_other:
        for base in of_first:
            if base.source_digest == each.source_digest and _window(base) == _window(each):
                return base, each
    return None


def _window(made: ModelMeasurement) -> Any:
    """Return the tokens that were read at once: perplexity after 256 tokens is another figure than after 512."""
    return made.facts.get("window") if made.part == "texts" else None


def _tell_unasked(found: Mapping[MeasuredPart, ModelMeasurement]) -> Iterator[str]:
    if "tasks" in found and (unasked := list_unasked(found["tasks"].facts)):
        n_cases = len(found["tasks"].facts.get("replies", ()))
        yield f"tasks: {len(unasked)} of {n_cases} cases could not be asked and count as the worst reply: {unasked[0].why}"


def _tell_guessing(found: Mapping[MeasuredPart, ModelMeasurement]) -> Iterator[str]:
    if "texts" not in found:
        return
    n_tokens = found["texts"].facts.get("n_vocabulary")
    value = next((each.value for each in found["texts"].figures if each.name == "perplexity"), None)
    if n_tokens is not None and value is not None and value > n_tokens:
        yield (
            f"{_GUESSING}a perplexity of {_plain_number(value)} is worse than blind guessing among {n_tokens:,} tokens,"
            " so these texts tell nothing of this model"
        )


def _tell_why(part: MeasuredPart) -> str:
    if part == "speed":
        return "speed: never measured in one session, so what else the machine did would decide"
    return (
        "tasks: measured on other cases" if part == "tasks" else "texts: measured on other texts or windows"
    )


# sentences


def make_verdict(first: ComparedModel, other: ComparedModel) -> str:
    """Return what a person needs to know of `other` beside `first`: size, speed, quality, and whether that is certain."""
    by_name = {each.name: each for each in other.differences}
    told = [*_tell_size(by_name), *_tell_speed(by_name), *_tell_quality(other, by_name)]
    told += [
        f"{model.version}: {note.removeprefix(_TASKS)}"
        for model in (first, other)
        for note in model.notes
        if told and note.startswith(_TASKS) and "could not be asked" in note
    ]
    precision = f" ({other.precision})" if other.precision else ""
    if not told:
        return (
            f"{other.version}{precision}: nothing was measured that could be compared with {first.version}."
        )
    return f"{other.version}{precision} beside {first.version}: {'; '.join(told)}."


def _tell_size(by_name: Mapping[str, Comparison]) -> Iterator[str]:
    size = by_name.get("file_bytes")
    if size is None or not size.baseline or size.candidate is None:
        return
    share = size.candidate / size.baseline
    yield f"{_bytes(size.candidate)} instead of {_bytes(size.baseline)} ({_percent(share - 1)})"


def _tell_speed(by_name: Mapping[str, Comparison]) -> Iterator[str]:
    speed = by_name.get(_SPEED)
    if speed is None or not speed.baseline or speed.difference is None:
        return
    change = _percent(speed.difference / speed.baseline)
    if speed.low is None or speed.high is None:
        yield f"replies {change} in speed"
        return
    bounds = f"95 % {_percent(speed.low / speed.baseline)} to {_percent(speed.high / speed.baseline)}"
    yield f"replies {change} in speed ({bounds}): {speed.word}"


def _tell_quality(other: ComparedModel, by_name: Mapping[str, Comparison]) -> Iterator[str]:
    perplexity = by_name.get("perplexity") or by_name.get(_ANY_TOKENS)
    if perplexity is not None and perplexity.difference is not None:
        yield _tell_difference(perplexity)
    yield from (note for note in other.notes if note.startswith(_GUESSING))
    agreement = next((each for each in other.figures if each.name == "top1_agreement"), None)
    if agreement is not None and agreement.value is not None:
        yield f"the same likeliest next token at {100 * agreement.value:.1f} % of places{_bounds_of(agreement)}"
    service = {
        _SPEED,
        "perplexity",
        _ANY_TOKENS,
        "file_bytes",
        "resident_bytes",
        "bits_per_parameter",
        "load_s",
    }
    for name, each in by_name.items():
        if name not in service and not name.startswith(_SPEEDS):
            yield _tell_difference(each)


def _tell_difference(each: Comparison) -> str:
    if each.difference is None or each.candidate is None or each.baseline is None:
        return f"{each.name} unknown"
    values = f"{_plain_number(each.candidate)} instead of {_plain_number(each.baseline)}"
    text = f"{each.name} {values} ({_plain_number(each.difference, '+')}"
    if each.low is not None and each.high is not None:
        text += f", 95 % {_plain_number(each.low, '+')} to {_plain_number(each.high, '+')}"
    return f"{text}): {each.word}"


def _plain_number(value: float, sign: str = "") -> str:
    """Return a number as tables show it, never as 6.462e+04."""
    if abs(value) >= 100:
        return f"{value:{sign},.0f}"
    return f"{value:+.3g}" if sign else f"{value:.4g}"


def _bounds_of(figure: Estimate) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f" [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _percent(share: float) -> str:
    return f"{100 * share:+.0f} %"


def _bytes(n: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return f"{n:.0f} B"
