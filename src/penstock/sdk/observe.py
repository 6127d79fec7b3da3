"""`@penstock.observe`: a function whose every call is a span, whatever kind of function it is."""

import functools
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar, overload

from opentelemetry import context as otel

from penstock.sdk.observation import NOTHING, begin, restore
from penstock.sdk.runtime import RUNTIME
from penstock.sdk.settings import Redaction
from penstock.sdk.streams import Opening, Reduce, Stream, follow, follow_async
from penstock.spec.spans import SpanKind

F = TypeVar("F", bound=Callable[..., Any])
_GENERATORS = frozenset({types.GeneratorType, types.AsyncGeneratorType})
_SELF = frozenset({"self", "cls", "mcs"})


@overload
def observe(function: F, /) -> F: ...


@overload
def observe(
    *,
    name: str | None = None,
    kind: SpanKind = "chain",
    capture_input: bool = True,
    capture_output: bool = True,
    redact: Redaction | None = None,
    reduce: Reduce | None = None,
) -> Callable[[F], F]: ...


def observe(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    kind: SpanKind = "chain",
    capture_input: bool = True,
    capture_output: bool = True,
    redact: Redaction | None = None,
    reduce: Reduce | None = None,
) -> Any:
    """Make every call of a function a span: arguments as input, what it returns or yields as output.

    Functions, coroutines, generators, asynchronous generators and methods are taken, and functions that return a generator: its span
    ends when it is read to the end, closed, or left. `redact` blacks out arguments and fields by name, or changes every text;
    `reduce` makes one output of the list of what was yielded (texts are joined anyhow). The function behaves as it did: what
    it raises goes on, and nothing here adds to that.
    """
    plan = _Plan(
        name=name,
        kind=kind,
        capture_input=capture_input,
        capture_output=capture_output,
        redactions=() if redact is None else (redact,),
        reduce=reduce,
    )
    return plan.wrap if function is None else plan.wrap(function)


class _Plan:
    """How one function is observed."""

    def __init__(
        self,
        *,
        name: str | None,
        kind: SpanKind,
        capture_input: bool,
        capture_output: bool,
        redactions: tuple[Redaction, ...],
        reduce: Reduce | None,
    ) -> None:
        self.name = name or ""
        self.kind = kind
        self.capture_input, self.capture_output = capture_input, capture_output
        self.redactions = redactions
        self.reduce = reduce
        self._names: tuple[str, ...] = ()
        self._rest = "args"

    def wrap(self, function: Any) -> Any:
        """Return the observed function; class and static methods stay what they are."""
        if inspect.isclass(function):
            raise TypeError(f"penstock.observe is for functions: decorate the methods of {function.__name__}")
        if isinstance(function, classmethod | staticmethod):
            return type(function)(self.wrap(function.__func__))
        plan = _Plan(
            name=self.name
            or getattr(function, "__qualname__", type(function).__name__).replace("<locals>.", ""),
            kind=self.kind,
            capture_input=self.capture_input,
            capture_output=self.capture_output,
            redactions=self.redactions,
            reduce=self.reduce,
        )
        plan._read_names(function)
        if inspect.iscoroutinefunction(function):
            return plan._wrap_coroutine(function)
        return plan._wrap_call(function)

    def _read_names(self, function: Any) -> None:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return
        kinds = inspect.Parameter
        self._names = tuple(
            each.name
            for each in parameters
            if each.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        )
        self._rest = next((each.name for each in parameters if each.kind is kinds.VAR_POSITIONAL), "args")

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """Return the arguments by name, without `self`; None where they are not wanted."""
        if not self.capture_input:
            return None
        names = self._names
        given = dict(zip(names, args, strict=False))
        if names and names[0] in _SELF:
            given.pop(names[0], None)
        if len(args) > len(names):
            given[self._rest] = args[len(names) :]
        if kwargs:
            given.update(kwargs)
        return given

    def _opening(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opening:
        return Opening(
            self.name,
            self.kind,
            self.redactions,
            given=self._given(args, kwargs),
            capture=self.capture_output,
            reduce=self.reduce,
        )

    def _wrap_call(self, function: Any) -> Any:
        is_generator = inspect.isgeneratorfunction(function)
        is_async_generator = inspect.isasyncgenfunction(function)

        if is_generator or is_async_generator:
            drive: Any = follow if is_generator else follow_async

            @functools.wraps(function)
            def call_stream(*args: Any, **kwargs: Any) -> Any:
                source = function(*args, **kwargs)
                return source if RUNTIME.start() is None else drive(source, self._opening(args, kwargs))

            return call_stream

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            before = otel.get_current()
            observation, inside = begin(self.name, self.kind, before, self.redactions)
            if observation is NOTHING:
                return function(*args, **kwargs)
            if self.capture_input:
                observation.update(input=self._given(args, kwargs))
            otel.attach(inside)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                restore(observation, before)
                observation.fail(error)
                observation.end()
                raise
            restore(observation, before)
            if type(result) in _GENERATORS:
                return _follow_on(result, Stream(observation, inside, self.capture_output, self.reduce))
            if self.capture_output:
                observation.update(output=result)
            observation.end()
            return result

        return call

    def _wrap_coroutine(self, function: Any) -> Any:
        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            before = otel.get_current()
            observation, inside = begin(self.name, self.kind, before, self.redactions)
            if observation is NOTHING:
                return await function(*args, **kwargs)
            if self.capture_input:
                observation.update(input=self._given(args, kwargs))
            otel.attach(inside)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                restore(observation, before)
                if isinstance(error, GeneratorExit):  # the coroutine was dropped before it was done
                    observation.set("stream.aborted", True)
                else:
                    observation.fail(error)
                observation.end()
                raise
            restore(observation, before)
            if type(result) in _GENERATORS:
                return _follow_on(result, Stream(observation, inside, self.capture_output, self.reduce))
            if self.capture_output:
                observation.update(output=result)
            observation.end()
            return result

        return call


class _Open(Opening):
    """A stream that is open already, for a generator that an observed function returned."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def start(self) -> Stream:
        """Return it."""
        return self._stream


def _follow_on(
    source: Generator[Any, Any, Any] | AsyncGenerator[Any, Any], stream: Stream
) -> Generator[Any, Any, Any] | AsyncGenerator[Any, Any]:
    opening = _Open(stream)
    return follow(source, opening) if isinstance(source, Generator) else follow_async(source, opening)
