"""Judges held against people, ready to be read: figures with intervals, confusion, disagreements, answers to choose from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.console.formats import DASH
from penstock.console.interval_marks import Mark, place
from penstock.console.links import link
from penstock.evals.judges.types import Figure, JudgeCalibration, LabelledPair, LabelSet

SHARE = (0.0, 1.0)
BALANCE = (-1.0, 1.0)
MAX_PAIRS = 20
MAX_ANSWERS = 9
ANSWERS: tuple[tuple[str, str], ...] = (
    ("yes,no", "yes or no"),
    ("1,2,3,4,5", "1 to 5"),
)
"""What people can be asked to say, and what that is called."""
_YES_NO = {"yes": 1.0, "no": 0.0}


@dataclass(frozen=True, kw_only=True)
class FigureLine:
    """One figure of a calibration."""

    name: str
    value: str
    interval: str
    mark: Mark | None
    method: str
    """How it was made, or why there is none."""
    summary: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One thing that a person can say of an output."""

    word: str
    key: str
    """The digit that says it."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One output of which people and the judge say different things."""

    case_id: str
    human: str
    judged: str
    href: str | None


_FIGURES: tuple[tuple[str, str, tuple[float, float], str], ...] = (
    (
        "agreement",
        "Agreement",
        SHARE,
        "Share of outputs on which both say the same; for numbers, the correlation.",
    ),
    (
        "kappa",
        "Cohen's kappa",
        BALANCE,
        "Agreement beyond chance; it falls where nearly all answers are alike.",
    ),
    ("alpha", "Krippendorff's alpha", BALANCE, "As kappa, for any number of raters."),
    ("sensitivity", "Sensitivity", SHARE, "Of what people say yes to, the share the judge says yes to."),
    ("specificity", "Specificity", SHARE, "Of what people say no to, the share the judge says no to."),
    ("prevalence", "Share of yes by people", SHARE, "How often people say yes."),
    ("mean_error", "Judge − people", BALANCE, "How far the judge is off on average."),
    (
        "flip_rate",
        "Flips with the place",
        SHARE,
        "Of pairwise verdicts, the share that follows the place of the answers.",
    ),
    ("first_place", "First place wins", SHARE, "One half is fair."),
    (
        "length_bias",
        "Leans to length",
        BALANCE,
        "Correlation with the answer's length among outputs that people hold equal.",
    ),
    ("self_preference", "Leans to itself", BALANCE, "How much better it likes answers of its own model."),
)


def build_figures(calibration: JudgeCalibration) -> tuple[FigureLine, ...]:
    """Return what is known of a judge, figure by figure."""
    lines = []
    for field, name, scale, summary in _FIGURES:
        figure: Figure | None = getattr(calibration, field)
        if figure is not None:
            lines.append(build_figure(figure, name=name, scale=scale, summary=summary))
    return tuple(lines)


def build_figure(
    figure: Figure, *, name: str, scale: tuple[float, float] = SHARE, summary: str = ""
) -> FigureLine:
    """Return one figure drawn on an axis from `scale[0]` to `scale[1]`."""
    value = format_figure(figure.value, scale)
    interval = (
        ""
        if figure.low is None or figure.high is None
        else f"{format_figure(figure.low, scale).removesuffix(' %')} to {format_figure(figure.high, scale)}"
    )
    mark = None
    if figure.value is not None:
        mark = Mark(
            at=place(figure.value, scale),
            low=None if figure.low is None else place(figure.low, scale),
            high=None if figure.high is None else place(figure.high, scale),
            zero=50.0 if scale == BALANCE else None,
            words=f"{name}: {value}"
            + (f", {100 * figure.level:g} % interval {interval}" if interval else ""),
        )
    return FigureLine(
        name=name, value=value, interval=interval, mark=mark, method=figure.method, summary=summary
    )


def format_figure(value: float | None, scale: tuple[float, float]) -> str:
    """Return a share in percent, anything else as a plain number; a dash when it is unknown."""
    if value is None:
        return DASH
    text = f"{100 * value:.1f} %" if scale == SHARE else f"{value:.2f}"
    return text.replace("-", "−")


def find_disagreements(calibration: JudgeCalibration) -> tuple[Disagreement, ...]:
    """Return outputs of which both say different things; of numbers those that are furthest apart."""
    apart = sorted(calibration.pairs, key=_distance, reverse=True)
    return tuple(
        Disagreement(
            case_id=pair.case_id or pair.item,
            human=_word(pair.human, calibration),
            judged=_word(pair.judged, calibration),
            href=link(f"/evaluations/{pair.evaluation_id}", {"case": pair.case_id}) + "#case"
            if pair.evaluation_id and pair.case_id
            else None,
        )
        for pair in apart[:MAX_PAIRS]
        if _distance(pair) > 0
    )


def name_labels(calibration: JudgeCalibration) -> tuple[str, ...]:
    """Return the heads of the confusion table in words."""
    return tuple(_word(label, calibration) for label in calibration.labels)


def read_answers(text: str) -> tuple[Answer, ...]:
    """Return the answers that a text lists, at most nine, each with its digit."""
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    return tuple(Answer(word=word, key=str(number)) for number, word in enumerate(words[:MAX_ANSWERS], 1))


def answers_of(found: LabelSet | None) -> str:
    """Return the answers that a set of labels has used so far, as the form takes them."""
    values = [] if found is None else [_plain(each) for each in found.values]
    if not values or set(values) <= {"0", "1", "yes", "no"}:
        return ANSWERS[0][0]
    if all(each in {"1", "2", "3", "4", "5"} for each in values):
        return ANSWERS[1][0]
    return ",".join(sorted(values)[:MAX_ANSWERS])


def to_label(word: str) -> Mapping[str, float | str]:
    """Return an answer as value or label of a draft."""
    if word in _YES_NO:
        return {"value": _YES_NO[word]}
    try:
        return {"value": float(word)}
    except ValueError:
        return {"label": word}


def count_words(found: LabelSet) -> Sequence[tuple[str, int]]:
    """Return how often each answer was given, the most frequent first."""
    names = {"1": "yes", "0": "no"} if is_yes_or_no(found) else {}
    told = [(names.get(_plain(word), _plain(word)), count) for word, count in found.values.items()]
    return sorted(told, key=lambda each: (-each[1], each[0]))


def is_yes_or_no(found: LabelSet) -> bool:
    """Whether people said only yes and no."""
    return {_plain(word) for word in found.values} <= {"0", "1"}


def say_value(value: float | None, found: LabelSet) -> str:
    """Return what one label says, in words."""
    if value is None:
        return DASH
    text = f"{value:g}"
    return {"1": "yes", "0": "no"}.get(text, text) if is_yes_or_no(found) else text


def _plain(word: str) -> str:
    return word.removesuffix(".0")


def _distance(pair: LabelledPair) -> float:
    if isinstance(pair.human, str) or isinstance(pair.judged, str):
        return float(str(pair.human).casefold() != str(pair.judged).casefold())
    return abs(pair.human - pair.judged)


def _word(value: float | str, calibration: JudgeCalibration) -> str:
    text = value if isinstance(value, str) else f"{value:g}"
    if calibration.kind == "binary":
        return {"1": "yes", "0": "no"}.get(_plain(text), text)
    return text
