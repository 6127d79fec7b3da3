"""Scorers that people write: a function of a module or of a file, told the case and the output by the names of its parameters.

They run only in the process of the person who asks. An exception is an error score with the line of the function where it
happened; it is never a zero and never stops the run. The file's digest is part of the stamp, so another text is another scorer.
"""

import hashlib
import importlib
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from penstock.evals.scorers.errors import BadScorerParameters, PythonScorerNotFound
from penstock.evals.scorers.reading import whole_text
from penstock.evals.scorers.types import (
    Figure,
    ScorerInfo,
    ScorerTools,
    make_error,
    make_score,
    score_unanswered,
)
from penstock.spec.cases import Case, Output
from penstock.spec.evaluations import Direction
from penstock.spec.scores import Score

GIVEN = ("case", "output", "outputs", "text", "expected", "inputs", "passages", "metadata")
"""What a function may ask for by name, beside the parameters of its specification."""
_FACTS = "penstock_scorer"
F = TypeVar("F", bound=Callable[..., Any])


def scorer(
    *,
    direction: Direction = "higher",
    low: float | None = 0.0,
    high: float | None = 1.0,
    unit: str | None = None,
    version: int = 1,
    undefined_when: str = "",
    takes_errors: bool = False,
) -> Callable[[F], F]:
    """Say what a scorer function's numbers mean; without it they are unbounded, and higher is better."""

    def mark(function: F) -> F:
        facts = {
            "direction": direction,
            "low": low,
            "high": high,
            "unit": unit,
            "version": version,
            "undefined_when": undefined_when,
            "takes_errors": takes_errors,
            "scale": "bounded" if low is not None and high is not None else "unbounded",
        }
        setattr(function, _FACTS, facts)
        return function

    return mark


def is_python(name: str) -> bool:
    """Return whether a scorer's name is `module:function` or `file.py:function`."""
    target, colon, function = name.rpartition(":")
    return bool(colon) and function.isidentifier() and target not in {"", "scorer"}


def load_function(name: str) -> tuple[Callable[..., Any], str]:
    """Return the function and the digest of its file; raise `PythonScorerNotFound` that says what is missing."""
    target, _, function_name = name.rpartition(":")
    try:
        if target.endswith(".py"):
            path = Path(target).expanduser().resolve()
            spec = importlib.util.spec_from_file_location(f"_penstock_scorer_{path.stem}", path)
            if spec is None or spec.loader is None or not path.is_file():
                raise PythonScorerNotFound(f"There is no file {target}.", scorer=name)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            if "" not in sys.path:
                sys.path.insert(0, "")  # as `python -m` has it: modules of the folder one stands in
            module = importlib.import_module(target)
            path = Path(module.__file__ or "")
    except PythonScorerNotFound:
        raise
    except Exception as error:  # a person's file may do anything when it is loaded
        line = _line_of(error, target)
        raise PythonScorerNotFound(
            f"{target} cannot be loaded: {type(error).__name__}: {error}{line}", scorer=name
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [each for each, value in vars(module).items() if inspect.isfunction(value)]
        raise PythonScorerNotFound(
            f"{target} has no function {function_name!r}.",
            hint=f"It has {', '.join(known)}." if known else None,
            scorer=name,
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
    return function, digest


class PythonScorer:
    """Calls a function of the person's own."""

    def __init__(
        self,
        spec_name: str,
        parameters: Mapping[str, Any],
        name: str,
        *,
        loaded: tuple[Callable[..., Any], str] | None = None,
    ) -> None:
        """`loaded` is the function with the digest of its code, where it is at hand already."""
        self._function, digest = loaded or load_function(spec_name)
        wanted = inspect.signature(self._function).parameters
        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in wanted.values())
        self._asked = tuple(each for each in GIVEN if each in wanted or takes_all)
        unknown = [
            each.name
            for each in wanted.values()
            if each.name not in GIVEN
            and each.name not in parameters
            and each.default is inspect.Parameter.empty
            and each.kind not in {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        ]
        if unknown:
            raise BadScorerParameters(
                spec_name,
                f"it asks for {', '.join(unknown)}; a scorer may ask for {', '.join(GIVEN)} and for its own parameters",
            )
        if not takes_all and (extra := [each for each in parameters if each not in wanted]):
            raise BadScorerParameters(spec_name, f"it takes no parameter {', '.join(extra)}")
        self._parameters = dict(parameters)
        self._path = inspect.getfile(inspect.unwrap(self._function))
        facts: dict[str, Any] = getattr(
            self._function, _FACTS, {"low": None, "high": None, "scale": "unbounded"}
        )
        if inspect.signature(self._function).return_annotation in {bool, "bool"}:
            facts = {**facts, "low": 0.0, "high": 1.0, "scale": "binary"}
        self._name = name or spec_name.rpartition(":")[2]
        self._info = ScorerInfo(
            name=spec_name,
            parameters={**parameters, "source": digest},
            summary=(inspect.getdoc(self._function) or "").split("\n")[0],
            needs=frozenset({"samples"}) if "outputs" in self._asked and not takes_all else frozenset(),
            **facts,
        )

    @property
    def info(self) -> ScorerInfo:
        """What it is."""
        return self._info

    @property
    def name(self) -> str:
        """Of its score."""
        return self._name

    @property
    def figure(self) -> Figure | None:
        """The mean."""
        return None

    async def score(self, case: Case, outputs: Sequence[Output], tools: ScorerTools) -> list[Score]:
        """Return what the function says of each output, or of all together where it asks for `outputs`."""
        _ = tools
        if "samples" in self._info.needs:
            return await self._call(case, outputs[0], outputs) if outputs else []
        return [score for output in outputs for score in await self._call(case, output, [output])]

    async def _call(self, case: Case, output: Output, outputs: Sequence[Output]) -> list[Score]:
        if output.status != "ok" and not self._info.takes_errors:
            return [score_unanswered(self, output)]
        given = {
            "case": case,
            "output": output,
            "outputs": list(outputs),
            "text": whole_text(output),
            "expected": case.expected,
            "inputs": case.inputs,
            "passages": output.passages,
            "metadata": case.metadata,
        }
        arguments = {name: given[name] for name in self._asked} | self._parameters
        try:
            result = self._function(**arguments)
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:  # the edge to a person's code: told as a score, with their line
            return [make_error(self, f"{type(error).__name__}: {error}{_line_of(error, self._path)}")]
        return self._read(result)

    def _read(self, result: Any) -> list[Score]:
        """Return scores of what a function returned: a number, a truth, None, a Score, a record, or a list of those."""
        if isinstance(result, list | tuple):
            return [score for each in result for score in self._read(each)]
        if isinstance(result, Score):
            return [msgspec.structs.replace(result, scorer=self._info.stamp)]
        if isinstance(result, Mapping):
            return [self._read_record(result)]
        return [self._from_value(result)]

    def _from_value(self, value: Any, **more: Any) -> Score:
        if value is None:
            return make_score(self, None, **{"reason": "the function returned None", **more})
        try:
            number = float(value)  # numpy's numbers and decimals, too
        except (TypeError, ValueError):
            return make_error(self, f"it returned {type(value).__name__} {str(value)[:80]!r}, not a number")
        if isinstance(value, str):
            return make_error(self, f"it returned a text ({value[:80]!r}), not a number")
        if math.isnan(number):
            return make_score(self, None, **{"reason": "the function returned NaN", **more})
        low, high = self._info.low, self._info.high
        if math.isinf(number) or (low is not None and number < low) or (high is not None and number > high):
            return make_error(self, f"it returned {number:g}, which is not between {low} and {high}")
        return make_score(self, number, **more)

    def _read_record(self, record: Mapping[str, Any]) -> Score:
        known = {"value", "label", "reason", "evidence", "name"}
        if "value" not in record or set(record) - known:
            return make_error(
                self,
                f"it returned an object with {', '.join(map(str, record))}; known: {', '.join(sorted(known))}",
            )
        more = {key: record[key] for key in ("label", "reason", "evidence") if record.get(key) is not None}
        score = self._from_value(record["value"], **more)
        name = record.get("name")
        return msgspec.structs.replace(score, name=f"{self._name}.{name}") if isinstance(name, str) else score


def _line_of(error: BaseException, path: str) -> str:
    """Return where in the person's own file it happened: ` (line 12 of checks.py: `x = 1 / 0`)`."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f" (line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).name == Path(path).name] or frames[-1:]
    if not own:
        return ""
    frame = own[-1]
    return f" (line {frame.lineno} of {Path(frame.filename).name}: `{(frame.line or '').strip()[:100]}`)"
