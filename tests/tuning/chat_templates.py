"""Chat templates in the manner of well-known model families, written for these tests, and a tokenizer that knows their tokens."""

import json
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from penstock.base.digest import digest_bytes
from penstock.tuning.renderer import Renderer, RendererSpec, build_renderer
from tests.tuning.tiny_models import CORPUS

PLAIN = (
    "<|bos|>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Pocket's manner: no text of its own."""
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Qwen2's manner."""
THINKING = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last %}{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""Qwen3's manner: what was thought in earlier turns is left out."""
DATED = (
    "{{ bos_token }}{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% else %}"
    "{% set day = '26 Jul 2024' %}{% endif %}{{ '<|start_header|>system<|end_header|>\n\nToday: ' + day + '<|eot|>' }}"
    "{% for m in messages %}{{ '<|start_header|>' + m.role + '<|end_header|>\n\n' + m.content | trim + '<|eot|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header|>assistant<|end_header|>\n\n' }}{% endif %}"
)
"""Llama 3's manner: with the date of today."""
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim"
    " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""Gemma's manner: refuses system messages."""
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson + '\n' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for call in m.tool_calls or [] %}{{ '<tool_call>' + call.function | tojson + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = "{% for m in messages %}{{ '### ' + m.role + ':\n' + m.content + '\n\n' }}{% endfor %}{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
"""No control token at all, so nothing ends a turn."""
ENDS: dict[str, tuple[str, str]] = {
    "plain": (PLAIN, "<|end|>"),
    "chatml": (CHATML, "<|im_end|>"),
    "thinking": (THINKING, "<|im_end|>"),
    "dated": (DATED, "<|eot|>"),
    "no_system": (NO_SYSTEM, "<end_of_turn>"),
    "tools": (TOOLS, "<|im_end|>"),
}
"""Template and the token that ends its turns."""
SPECIAL = (
    "<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|im_start|>", "<|im_end|>",
    "<|start_header|>", "<|end_header|>", "<|eot|>", "<start_of_turn>", "<end_of_turn>",
)  # fmt: skip


def make_tokenizer(special: tuple[str, ...] = SPECIAL) -> bytes:
    """Return a byte-level tokenizer that knows the tokens of all templates here, as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS, *["assistant\n\n", "user\n\n"] * 9], trainer)
    tokenizer.add_tokens(
        [AddedToken(word, special=False, normalized=False) for word in ("<think>", "</think>")]
    )
    return tokenizer.to_str().encode()


def make_renderer(template: str | None, *, tokenizer: bytes | None = None, **changes: Any) -> Renderer:
    """Return a renderer of one of the templates."""
    data = tokenizer or make_tokenizer()
    eos = next((end for each, end in ENDS.values() if each == template), "<|end|>")
    known = {str(item["content"]) for item in json.loads(data)["added_tokens"]}
    special = {"bos_token": "<|bos|>", "eos_token": eos, "pad_token": "<|pad|>"}
    spec = RendererSpec(
        chat_template=template,
        tokenizer_digest=digest_bytes(data),
        special_tokens=changes.pop(
            "special_tokens", {name: token for name, token in special.items() if token in known}
        ),
        **changes,
    )
    return build_renderer(spec, data)
