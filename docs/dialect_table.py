"""Writes the table of `docs/internals/dialects.md`: what each dialect can be told, found by telling it.

python docs/dialect_table.py
"""

from pathlib import Path

from penstock.dialects.registry import DIALECTS
from penstock.spec.hub import (
    HubRequest,
    Media,
    Message,
    Reasoning,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from penstock.spec.routes import DialectName

PAGE = Path(__file__).parent / "internals" / "dialects.md"
BEGIN, END = "<!-- table: python docs/dialect_table.py -->", "<!-- end of table -->"
MODELS: dict[DialectName, str] = {
    "openai": "any",
    "responses": "any",
    "anthropic": "claude-opus-4-6",
    "gemini": "gemini-2.5-pro",
    "bedrock": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "cohere": "command-a-03-2025",
}
"""What can be said depends on the model in places; these stand for their dialects."""
_PNG = "iVBORw0KGgo="


def asked(source: DialectName, *parts: Text | Media, **said: object) -> HubRequest:
    """Return a plain request of one user message that says one thing more."""
    message = Message(role="user", parts=[Text(text="hi"), *parts])
    request = HubRequest(source=source, model="m", messages=[message], max_tokens=100)
    for name, value in said.items():
        setattr(request, name, value)
    return request


def with_tool(source: DialectName, tool: Tool | None = None, **said: object) -> HubRequest:
    """Return a request that offers a tool."""
    found = tool or Tool(name="look", parameters={"type": "object", "properties": {}})
    return asked(source, tools=[found], **said)


def with_turn(source: DialectName, call: ToolCall, result: ToolResult, *thoughts: Thinking) -> HubRequest:
    """Return a request in whose past a tool was called."""
    request = with_tool(source)
    request.messages += [
        Message(role="assistant", parts=[*thoughts, call]),
        Message(role="user", parts=[result]),
    ]
    return request


def features(source: DialectName) -> dict[str, HubRequest]:
    """Return what is told, by the name of its row."""
    call = ToolCall(id="call_1", name="look", arguments="{}")
    said = [Text(text="12")]
    other = Message(role="system", parts=[Text(text="s", extra={"x_mark": 1})])
    schema = ResponseFormat(kind="schema", name="a", schema={"type": "object", "properties": {}})
    thought = Thinking(text="hm", signature="s", origin=source)
    png = Media(kind="image", media_type="image/png", data=_PNG)
    return {
        "image, inline": asked(source, png),
        "image by URL": asked(source, Media(kind="image", url="https://example.org/a.png")),
        "sound, inline": asked(source, Media(kind="audio", media_type="audio/wav", data="UklGRg==")),
        "PDF, inline": asked(source, Media(kind="document", media_type="application/pdf", data="JVBERi0=")),
        "PDF by URL": asked(source, Media(kind="document", url="https://example.org/a.pdf")),
        "tools, parallel calls and results": with_turn(
            source, call, ToolResult(call_id="call_1", parts=list(said))
        ),
        "image in a tool's result": with_turn(source, call, ToolResult(call_id="call_1", parts=[png])),
        "error mark of a result": with_turn(
            source, call, ToolResult(call_id="call_1", parts=list(said), is_error=True)
        ),
        "one call at a time": with_tool(source, parallel_tool_calls=False),
        "any tool must be called": with_tool(source, tool_choice=ToolChoice(kind="required")),
        "this tool must be called": with_tool(
            source, Tool(name="look"), tool_choice=ToolChoice(kind="named", name="look")
        ),
        "strict tool": with_tool(source, Tool(name="look", parameters={"type": "object"}, strict=True)),
        "any JSON": asked(source, response_format=ResponseFormat(kind="json")),
        "JSON by schema": asked(source, response_format=schema),
        "earlier thoughts of another provider": with_turn(
            source, call, ToolResult(call_id="call_1", parts=list(said)), thought
        ),
        "reasoning effort": asked(source, reasoning=Reasoning(effort="low")),
        "reasoning budget": asked(source, reasoning=Reasoning(enabled=True, budget_tokens=2048)),
        "`temperature` up to 1": asked(source, temperature=0.5),
        "`temperature` over 1": asked(source, temperature=1.5),
        "`top_p`": asked(source, top_p=0.5),
        "`top_k`": asked(source, top_k=5),
        "`stop`": asked(source, stop=["END"]),
        "`seed`": asked(source, seed=7),
        "`n` over 1": asked(source, n=2),
        "penalties": asked(source, frequency_penalty=0.5, presence_penalty=0.5),
        "`logprobs`": asked(source, logprobs=True),
        "`user`": asked(source, user="u"),
        "`metadata`": asked(source, metadata={"a": "b"}),
        "name of a message": asked(
            source, messages=[Message(role="user", name="ada", parts=[Text(text="hi")])]
        ),
        "members the hub has no word for": asked(
            source, messages=[other, Message(role="user", parts=[Text(text="hi")])], extra={"x_new": 1}
        ),
    }


def is_told(target: DialectName, row: str) -> bool:
    """Return whether `target` takes what `row` says from a client of another dialect without a loss."""
    source: DialectName = "gemini" if target in ("anthropic", "bedrock", "cohere") else "anthropic"
    request = features(source)[row]
    return not DIALECTS[target].write_request(request, model=MODELS[target], quirks=frozenset()).dropped


def write_table() -> str:
    """Return the table as Markdown."""
    names = list(DIALECTS)
    lines = [f"| said by another client | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in features("anthropic"):
        cells = " | ".join("yes" if is_told(name, row) else "dropped" for name in names)
        lines.append(f"| {row} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Replace the table of the page."""
    before, rest = PAGE.read_text().split(BEGIN, 1)
    PAGE.write_text(f"{before}{BEGIN}\n{write_table()}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main()
