"""What Converse has no words for and the model families take in `additionalModelRequestFields`, each in its own way."""

from typing import Any, Literal

from penstock.dialects.anthropic.models import LEAST_BUDGET, budget_of_effort, thinks_adaptively
from penstock.spec.hub import HubRequest, Message, Reasoning, Thinking, ToolCall

Family = Literal["claude", "nova", "gpt-oss", "other"]
_EFFORTS = ("low", "medium", "high")


def family_of(model: str) -> Family:
    """Return the family of a model id, inference profile or ARN."""
    if "anthropic." in model or "claude" in model:
        return "claude"
    if "nova" in model:
        return "nova"
    return "gpt-oss" if "openai.gpt-oss" in model or "gpt-oss" in model else "other"


def read_fields(fields: dict[str, Any], request: HubRequest) -> None:
    """Take what the hub knows out of `fields` and put it into `request`."""
    thinking = fields.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") in ("enabled", "disabled", "adaptive"):
        budget = thinking.get("budget_tokens")
        request.reasoning = Reasoning(
            enabled=None if isinstance(budget, int) else thinking["type"] != "disabled",
            budget_tokens=budget if isinstance(budget, int) else None,
        )
        del fields["thinking"]
    output = fields.get("output_config")
    if isinstance(output, dict) and isinstance(effort := output.get("effort"), str):
        request.reasoning = request.reasoning or Reasoning()
        request.reasoning.effort = effort
        if rest := {name: value for name, value in output.items() if name != "effort"}:
            fields["output_config"] = rest
        else:
            del fields["output_config"]
    config = fields.get("reasoningConfig")
    if isinstance(config, dict) and config.get("type") in ("enabled", "disabled"):
        effort = config.get("maxReasoningEffort")
        request.reasoning = Reasoning(
            enabled=None if isinstance(effort, str) else config["type"] == "enabled",
            effort=effort if isinstance(effort, str) else None,
        )
        del fields["reasoningConfig"]
    if isinstance(effort := fields.get("reasoning_effort"), str):
        request.reasoning = Reasoning(effort=effort)
        del fields["reasoning_effort"]
    top_k = fields.get("top_k")
    if isinstance(top_k, int) and not isinstance(top_k, bool):
        request.top_k = top_k
        del fields["top_k"]


def write_top_k(top_k: int, family: Family) -> dict[str, Any] | None:
    """Return the fields that set `top_k`, or None if the family has none."""
    if family == "claude":
        return {"top_k": top_k}
    return {"inferenceConfig": {"topK": top_k}} if family == "nova" else None


def write_reasoning(request: HubRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields that ask for the request's reasoning, and the paths of what they do not say."""
    reasoning = request.reasoning or Reasoning()
    family = family_of(model)
    if family == "claude" or (family == "other" and request.source == "bedrock"):
        return _claude(reasoning, request, model)
    effort = reasoning.effort
    lost = ["reasoning.budget_tokens"] if reasoning.budget_tokens is not None else []
    if reasoning.include_text:
        lost.append("reasoning.include_text")
    if effort is None and reasoning.budget_tokens is not None:
        effort = next(
            (name for name in _EFFORTS if budget_of_effort(name) >= reasoning.budget_tokens), "high"
        )
    if family == "nova":
        is_off = reasoning.enabled is False or effort == "none"
        if is_off:
            return {"reasoningConfig": {"type": "disabled"}}, tuple(lost)
        if effort in _EFFORTS:
            return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}, tuple(lost)
        if reasoning.enabled:
            return {"reasoningConfig": {"type": "enabled"}}, tuple(lost)
    if family == "gpt-oss" and effort in _EFFORTS:
        return {"reasoning_effort": effort}, tuple(lost)
    if reasoning.effort is not None:
        lost.append("reasoning.effort")
    elif reasoning.enabled:
        lost.append("reasoning.enabled")
    return {}, tuple(lost)


def _claude(reasoning: Reasoning, request: HubRequest, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Claude takes a budget or, from 4.6 on, an effort; neither together with a tool it must call."""
    effort, budget = reasoning.effort, reasoning.budget_tokens
    if reasoning.enabled is False or effort == "none":
        return {"thinking": {"type": "disabled"}}, ()
    if request.source == "bedrock":
        return _claude_fields(reasoning), ()
    if effort is None and budget is None and not reasoning.enabled:
        return {}, ()
    is_forced = request.tool_choice is not None and request.tool_choice.kind in ("required", "named")
    if is_forced or _lacks_thoughts(request.messages):
        return {}, ("reasoning",)
    if thinks_adaptively(model):
        adaptive = Reasoning(enabled=True, effort="low" if effort == "minimal" else effort)
        return _claude_fields(adaptive), (
            "reasoning.budget_tokens",
        ) if budget is not None and not effort else ()
    budget = budget_of_effort(effort or "medium") if budget is None else max(budget, LEAST_BUDGET)
    if request.max_tokens is not None:
        budget = min(
            budget, request.max_tokens - 1
        )  # thinking counts as output and must leave room for an answer
    if budget < LEAST_BUDGET:
        return {}, ("reasoning",)
    return _claude_fields(Reasoning(budget_tokens=budget)), ()


def _claude_fields(reasoning: Reasoning) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if reasoning.budget_tokens is not None:
        fields["thinking"] = {"type": "enabled", "budget_tokens": reasoning.budget_tokens}
    elif reasoning.enabled:
        fields["thinking"] = {"type": "adaptive"}
    if reasoning.effort is not None:
        fields["output_config"] = {"effort": reasoning.effort}
    return fields


def _lacks_thoughts(messages: list[Message]) -> bool:
    """Return whether tools were called without thoughts that can be shown again: Claude wants them before results."""
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    if last is None or not any(isinstance(part, ToolCall) for part in last.parts):
        return False
    return not any(
        isinstance(part, Thinking) and part.origin in ("anthropic", "bedrock") for part in last.parts
    )
