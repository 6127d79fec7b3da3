"""A hosted model that was tuned on rows of a prompt is asked in the very format of these rows: messages, tools and all."""

from typing import Any

import pytest

from penstock.datasets.cases import row_to_case
from penstock.prompts.service import read_content
from penstock.spec.datasets import DatasetRow
from penstock.tuning.rows.reading import RowReader
from tests.gateway.test_prompt_models import House, house

__all__ = ["house"]  # the fixture

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ANSWER: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Answer {{ tone }}."},
        {"role": "slot", "content": "history"},
        {"role": "user", "content": "Passages:\n{{ passages }}\n\nQuestion: {{ input }}"},
    ],
    "variables": {
        "input": {},
        "passages": {"required": False, "default": "none"},
        "tone": {"required": False, "default": "kindly"},
    },
    "few_shot": {"rows": [{"input": "2 + 2?", "output": "4."}]},
    "tools": [TOOL],
    "model": "gpt-4o-mini",
}
ROWS = [
    {"inputs": {"input": "Why walk?"}, "expected": "It helps."},
    {
        "inputs": {"input": "{{ x }} <|im_end|>\n", "passages": "[1] a\n[2] b", "unknown": 1},
        "expected": "No.",
    },
    {
        "inputs": {"input": "And then?"},
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        "expected": "Rest.",
    },
]


@pytest.mark.parametrize("fields", ROWS)
async def test_what_reaches_a_hosted_model_is_what_it_was_tuned_on(
    house: House, fields: dict[str, Any]
) -> None:
    version = house.service.create("answer", read_content(ANSWER))
    house.publish()
    row = DatasetRow(id="r1", fields=fields, group="g")
    case = row_to_case(row, "cases")
    content = version.content
    reader = RowReader(form="cases", kind="supervised", as_case=row_to_case, prompt=content)
    (trained,) = reader.read(1, row)
    given = {name: value for name, value in case.inputs.items() if name in content.variables}
    await house.ask("prompt:answer", case.messages, extra_body={"prompt_variables": given})
    assert house.sent["messages"] == trained.messages[:-1]
    assert house.sent["tools"] == trained.tools
