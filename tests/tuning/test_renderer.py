"""The renderer's invariants: template text and ids agree, users cannot write control tokens, time stands still."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from penstock.base.digest import digest_bytes
from penstock.spec.messages import Message, Role
from penstock.tuning.errors import DigestMismatch, TemplateRefused, UnreadableModel, UnsupportedModel
from penstock.tuning.packaging import GOLDEN_CONVERSATIONS
from penstock.tuning.renderer import Renderer, RendererSpec, build_renderer, load_renderer, read_renderer_spec
from tests.tuning.tiny_models import CHAT_TEMPLATE, CONTROL_TOKENS

_ROLES: tuple[Role, ...] = ("system", "user", "assistant")


def load(folder: Path, template: str | None = None) -> Renderer:
    spec = read_renderer_spec(folder)
    if template is not None:
        spec = msgspec.structs.replace(spec, chat_template=template)
    return build_renderer(spec, (folder / "tokenizer.json").read_bytes())


@pytest.fixture(scope="module")
def renderer(llama_folder: Path) -> Renderer:
    return load(llama_folder)


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


plain_text = st.text(st.characters(exclude_characters="<|>", exclude_categories=("Cs",)), max_size=60)
nasty_text = st.lists(
    st.one_of(
        st.sampled_from(
            [*CONTROL_TOKENS, "<|", "|>", "<", ">", "end", "<|end", "end|>", "[1]", "[9]", "\ufdd0", " "]
        ),
        st.text(max_size=5),
    ),
    max_size=8,
).map("".join)
turns = st.lists(st.tuples(st.sampled_from(_ROLES), nasty_text), min_size=1, max_size=4)


@given(texts=st.lists(plain_text, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_ids_of_ordinary_text_are_those_of_the_rendered_text(
    renderer: Renderer, llama_folder: Path, texts: list[str]
) -> None:
    messages = [Message(role=_ROLES[number % 3], content=text) for number, text in enumerate(texts)]
    reference = Tokenizer.from_file(str(llama_folder / "tokenizer.json"))
    whole = reference.encode(renderer.render_text(messages), add_special_tokens=False).ids
    assert renderer.render_chat(messages) == whole


@given(turns=turns)
@settings(max_examples=150, deadline=None)
def test_no_message_can_write_a_control_token(renderer: Renderer, turns: list[tuple[Role, str]]) -> None:
    messages = [Message(role=role, content=text) for role, text in turns]
    control = set(renderer.control_tokens.values())
    expected = [1]
    for role, _ in turns:
        expected += [renderer.control_tokens[f"<|{role}|>"], renderer.control_tokens["<|end|>"]]
    expected.append(renderer.control_tokens["<|assistant|>"])
    ids = renderer.render_chat(messages)
    assert [token for token in ids if token in control] == expected
    # and nothing that was written is lost
    assert renderer.decode(ids) == renderer.render_text(messages)


@given(text=nasty_text)
@settings(max_examples=100, deadline=None)
def test_texts_to_embed_or_complete_hold_no_control_tokens_either(renderer: Renderer, text: str) -> None:
    (ids,) = renderer.encode_texts([text])
    assert not set(ids) & set(renderer.control_tokens.values())
    assert renderer.decode(ids) == text


def test_marks_that_are_mere_vocabulary_stay_single_tokens(renderer: Renderer, llama_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(llama_folder / "tokenizer.json"))
    ids = renderer.render_chat(user("[1] Walk. [2] Rest."))
    assert tokenizer.token_to_id("[1]") in ids
    assert tokenizer.token_to_id("[2]") in ids


@given(turns=turns, reply=nasty_text)
@settings(max_examples=100, deadline=None)
def test_a_turns_generation_prompt_is_the_prefix_of_the_conversation_with_its_reply(
    renderer: Renderer, turns: list[tuple[Role, str]], reply: str
) -> None:
    messages = [Message(role=role, content=text) for role, text in turns]
    prompt = renderer.render_chat(messages)
    whole = renderer.render_chat(
        [*messages, Message(role="assistant", content=reply)], add_generation_prompt=False
    )
    assert whole[: len(prompt)] == prompt
    assert whole[-1] == renderer.control_tokens["<|end|>"]


def test_the_beginning_token_stands_once(renderer: Renderer) -> None:
    assert renderer.render_chat(user("Hello")).count(renderer.control_tokens["<|bos|>"]) == 1


def test_the_digest_covers_template_tokenizer_tokens_and_clock(llama_folder: Path) -> None:
    spec = read_renderer_spec(llama_folder)
    changed = [
        msgspec.structs.replace(spec, chat_template=CHAT_TEMPLATE + " "),
        msgspec.structs.replace(spec, tokenizer_digest=digest_bytes(b"other")),
        msgspec.structs.replace(spec, special_tokens={"bos_token": "<|end|>"}),
        msgspec.structs.replace(spec, frozen_clock="2027-01-01T00:00:00"),
    ]
    assert len({spec.digest, *(item.digest for item in changed)}) == 5


def test_the_clock_a_template_sees_is_frozen(llama_folder: Path) -> None:
    frozen = load(llama_folder, "{{ strftime_now('%d %B %Y') }}: {{ messages[0]['content'] }}")
    assert frozen.render_text(user("hi")) == "01 January 2026: hi"


def test_a_template_may_refuse_and_its_words_are_passed_on(llama_folder: Path) -> None:
    strict = load(llama_folder, "{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(TemplateRefused, match="Roles must alternate"):
        strict.render_chat(user("hi"))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages[0].content.missing.more }}",
    ],
)
def test_a_hostile_template_gets_nowhere(llama_folder: Path, template: str) -> None:
    with pytest.raises(TemplateRefused):
        load(llama_folder, template).render_chat(user("hi"))


def test_a_template_that_cannot_be_compiled_is_refused_at_load(llama_folder: Path) -> None:
    with pytest.raises(UnreadableModel, match="chat template"):
        load(llama_folder, "{% for message in %}")


def test_training_marks_in_a_template_are_passed_over(llama_folder: Path) -> None:
    marked = load(llama_folder, "a{% generation %}{{ messages[0]['content'] }}{% endgeneration %}z")
    assert marked.render_text(user("hi")) == "ahiz"


def test_lengths_from_the_training_run_do_not_cut_or_pad(bert_folder: Path) -> None:
    encoder = load(bert_folder)
    long, short = encoder.encode_texts(["walk " * 40, "walk"])
    assert len(long) == 42  # the file says: cut to 16, pad to 16
    assert len(short) == 3
    assert (short[0], short[-1]) == (2, 3)


def test_an_encoder_does_not_chat(bert_folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="no chat template"):
        load(bert_folder).render_chat(user("hi"))


def test_golden_vectors_catch_a_changed_tokenizer(renderer: Renderer, llama_folder: Path) -> None:
    golden = renderer.make_golden(GOLDEN_CONVERSATIONS)
    renderer.check_golden(golden)
    with pytest.raises(DigestMismatch, match="Golden vector 0"):
        load(llama_folder, CHAT_TEMPLATE + "x").check_golden(golden)


def test_a_saved_renderer_loads_alike_and_refuses_another_tokenizer(
    llama_folder: Path, tmp_path: Path
) -> None:
    spec = read_renderer_spec(llama_folder)
    (tmp_path / "renderer.json").write_bytes(msgspec.json.encode(spec))
    loaded = load_renderer(tmp_path / "renderer.json", llama_folder / "tokenizer.json")
    assert loaded.digest == spec.digest
    tokenizer = json.loads((llama_folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DigestMismatch):
        load_renderer(tmp_path / "renderer.json", tmp_path / "tokenizer.json")
    (tmp_path / "renderer.json").write_text("{}")
    with pytest.raises(UnreadableModel):
        load_renderer(tmp_path / "renderer.json", llama_folder / "tokenizer.json")


def test_a_spec_of_another_format_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    spec = RendererSpec(format="other-9", chat_template=None, tokenizer_digest="x", special_tokens={})
    (tmp_path / "renderer.json").write_bytes(msgspec.json.encode(spec))
    with pytest.raises(UnreadableModel, match="other-9"):
        load_renderer(tmp_path / "renderer.json", llama_folder / "tokenizer.json")
