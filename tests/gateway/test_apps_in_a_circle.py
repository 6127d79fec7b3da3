"""Apps that ask each other in a circle, or one behind the other without end, are stopped before their calls multiply."""

from typing import Any

import msgspec
import openai
import pytest

from penstock.spec.routes import Route, Target
from tests.gateway.knowledge_house import House, house

__all__ = ["house"]  # a fixture
QUESTION: list[Any] = [{"role": "user", "content": "How long do adults sleep?"}]


def begin_with(house: House, models: dict[str, str]) -> None:
    """Serve apps by name, each asking the model beside it."""
    house.apps[:] = [
        msgspec.structs.replace(house.apps[0], name=name, model=model) for name, model in models.items()
    ]
    targets = {name: (Target(provider="apps", model=name),) for name in models}
    house.begin(
        routes=tuple(
            Route(name=name, targets=targets[name], kind="chat") for name in models if name != "handbook"
        )
    )


@pytest.mark.parametrize("models", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
async def test_apps_that_lead_back_to_themselves_are_refused_by_name(
    house: House, models: dict[str, str]
) -> None:
    begin_with(house, models)
    with pytest.raises(openai.APIStatusError, match=r"would be asked by itself: .* → ") as refused:
        await house.client().chat.completions.create(model="a", messages=QUESTION)
    assert refused.value.status_code >= 400
    assert len(house.retriever.scopes) == len(models)  # each was asked once, and none again
    assert house.bench.upstream.seen == []


async def test_a_chain_of_apps_has_an_end(house: House) -> None:
    begin_with(house, {"a": "b", "b": "c", "c": "d", "d": "gpt-4o-mini"})
    reply = await house.client().chat.completions.create(model="a", messages=QUESTION)
    assert reply.choices[0].message.content
    begin_with(house, {"a": "b", "b": "c", "c": "d", "d": "e", "e": "gpt-4o-mini"})
    with pytest.raises(openai.APIStatusError, match="a → b → c → d → e"):
        await house.client().chat.completions.create(model="a", messages=QUESTION)
