"""`llama-index`, unchanged but for its base URL; a program of its own. Prints one JSON object: what each check got."""

import json
import sys
from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    """Weather of a city."""

    city: str


def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"cold in {city}"


def main(url: str, key: str) -> dict[str, Any]:
    """Ask everything; the names of models are such as llama-index knows."""
    where: Any = {"api_base": url + "/v1", "api_key": key, "max_retries": 0}
    got: dict[str, Any] = {}
    question = [ChatMessage(role="user", content="What now?")]
    for server, text, tools in (
        ("openai", "gpt-4o-mini", "gpt-4.1"),
        ("anthropic", "gpt-4o", "gpt-4.1-mini"),
    ):
        model, caller = OpenAI(model=text, **where), OpenAI(model=tools, **where)
        chat = model.chat(question)
        weather = FunctionTool.from_defaults(get_weather)
        called = caller.chat_with_tools([weather], user_msg="What now?", allow_parallel_tool_calls=True)
        got[server] = {
            "complete": model.complete("What now?").text,
            "chat": chat.message.content,
            "streamed": "".join(piece.delta or "" for piece in model.stream_chat(question)),
            "tools": [call.tool_kwargs["city"] for call in caller.get_tool_calls_from_response(called)],
        }
    parsed = OpenAI(model="gpt-4.1-nano", **where).as_structured_llm(Weather).chat(question).raw
    got["structured"] = parsed.city if isinstance(parsed, Weather) else None
    embedder = OpenAIEmbedding(model="text-embedding-3-small", **where)
    got["embeddings"] = embedder.get_text_embedding_batch(["a", "b"])
    return got


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201  # a program that prints
