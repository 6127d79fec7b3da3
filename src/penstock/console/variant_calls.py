"""What the playground's variants ask: a saved version by its name, or turns that are not saved, filled in here. Pure but for the prompts."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.evals.types import EvaluationRecord
from penstock.prompts.inputs import read_messages
from penstock.prompts.service import PromptService, read_content
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, TargetSpec

MAX_VARIANTS = 4
_STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
_OURS = frozenset({"model", "messages", "stream", "stream_options", "prompt_variables", "prompt_model"})


class VariantCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One variant and the values it is asked with."""

    prompt: str | None = None
    """`prompt:NAME@3`; or `content`."""
    content: dict[str, Any] | None = None
    model: str | None = None
    """Instead of the prompt's own."""
    parameters: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    messages: list[dict[str, Any]] = []
    """The talk so far, which a case brings along."""


class VariantSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One saved variant that is to be evaluated."""

    prompt: str
    model: str | None = None
    parameters: dict[str, Any] = {}


class VariantRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Variants, and the cases they are run on."""

    variants: list[VariantSpec]
    dataset: str
    scorer: str
    limit: int = 50


def decode_call(raw: bytes) -> VariantCall:
    """Return what the page sent; raise `InvalidInput`."""
    call: VariantCall = _decode(raw, VariantCall)
    if (call.prompt is None) == (call.content is None):
        raise InvalidInput("A variant is a saved version or messages.", hint="Give `prompt` or `content`.")
    taken = sorted(_OURS & set(call.parameters))
    if taken:
        raise InvalidInput(f"{taken[0]} is no parameter of a variant.", param=taken[0])
    return call


def decode_run(raw: bytes) -> VariantRun:
    """Return what is to be evaluated; raise `InvalidInput`."""
    run: VariantRun = _decode(raw, VariantRun)
    if not 1 <= len(run.variants) <= MAX_VARIANTS:
        raise InvalidInput(f"There may be 1 to {MAX_VARIANTS} variants.")
    if not 1 <= run.limit <= 1_000_000:
        raise InvalidInput("How many cases?", hint="A whole number from 1 on.", param="limit")
    if any(not each.prompt.startswith("prompt:") for each in run.variants):
        raise InvalidInput("An evaluation needs a saved version of each variant.", hint="Save it first.")
    return run


def build_body(call: VariantCall, prompts: PromptService) -> bytes:
    """Return the gateway's request for a variant. Blocking: examples are read. Raises what rendering raises."""
    if call.prompt is not None:
        body: dict[str, Any] = {
            "model": call.prompt,
            "messages": call.messages,
            "prompt_variables": call.variables,
            **call.parameters,
        }
        if call.model:
            body["prompt_model"] = call.model
        return msgspec.json.encode({**body, **_STREAMED})
    content = read_content(call.content)
    model = call.model or content.model
    if not model:
        raise InvalidInput("Which model is to answer?", hint="Choose one for this variant.", param="model")
    history = read_messages(call.messages)
    rendered = prompts.preview(content, call.variables, history=history, model=model).rendered
    if not any(str(message.get("content") or "").strip() for message in rendered.messages):
        raise InvalidInput("There is nothing to send yet.", hint="Write a message.")
    return msgspec.json.encode({**rendered.request(), **call.parameters, "model": model, **_STREAMED})


def make_specs(run: VariantRun, *, tag: str) -> list[EvaluationSpec]:
    """Return one evaluation a variant, over the same cases."""
    dataset = run.dataset if ":" in run.dataset else f"dataset:{run.dataset}"
    return [
        EvaluationSpec(
            name=_name(each, dataset),
            target=TargetSpec(
                model=each.model or each.prompt,
                prompt=each.prompt if each.model else None,
                parameters=each.parameters,
            ),
            dataset=dataset,
            limit=run.limit,
            scorers=[ScorerSpec(scorer=run.scorer)],
            tags=["playground", tag],
        )
        for each in run.variants
    ]


def find_pages(records: list[EvaluationRecord], tag: str) -> list[tuple[str, str]]:
    """Return where the evaluations of one run are looked at, with the words of the link."""
    if len(records) == 1:
        return [(f"/evaluations/{records[0].id}", "see it")]
    found = [(f"/evaluations?tag={tag}", "see how far they are")]
    first = records[0]
    found += [
        (f"/evaluations/compare?a={first.id}&b={other.id}", f"compare A with {letter}")
        for letter, other in zip("BCD", records[1:], strict=False)
    ]
    return found


def _name(each: VariantSpec, dataset: str) -> str:
    settings = [each.model] if each.model else []
    settings += [f"{key}={value}" for key, value in each.parameters.items()]
    inner = f" ({', '.join(settings)})" if settings else ""
    return f"{each.prompt}{inner} on {dataset.removeprefix('dataset:')}"[:80]


def _decode(raw: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidInput(f"This cannot be read: {error}.") from error
