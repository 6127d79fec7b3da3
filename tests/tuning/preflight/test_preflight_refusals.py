"""Each silent loss that people report is refused before anything starts, with the numbers of the rows."""

from typing import Any

import msgspec
import pytest

from penstock.spec.datasets import DatasetRow
from penstock.spec.prompts import PromptContent, PromptMessage, PromptVariable
from penstock.spec.tuning import AdapterPart, HeldOutPart, OutputPart
from penstock.tuning.preflight.flight import fly
from penstock.tuning.preflight.types import Finding, Preflight
from tests.tuning.chat_templates import (
    CHATML,
    NO_SYSTEM,
    PLAIN,
    THINKING,
    WORDS,
    make_renderer,
    make_tokenizer,
)
from tests.tuning.preflight.flights import RENDERER, chat, flight, good_rows, recipe, source


def look(preflight: Preflight, code: str) -> Finding:
    """Return the one finding of a code."""
    (found,) = [each for each in preflight.findings if each.code == code]
    return found


def codes(preflight: Preflight) -> list[str]:
    return [each.code for each in preflight.findings]


def test_rows_that_are_well_are_let_through() -> None:
    found = fly(flight(good_rows(60)))
    assert not found.findings
    assert not found.is_refused
    assert found.train is not None
    assert (found.train.n_read, found.train.n_kept, found.train.n_sequences) == (60, 60, 60)


# -- masks and ends


@pytest.mark.parametrize("answer", ["", "   "])
def test_marin_7237_a_row_with_nothing_to_learn(answer: str) -> None:
    """marin#7237, liquid-finetune#37, trl#4879: all-zero masks, silently."""
    rows = good_rows(20)
    rows[6] = chat("What now?", answer)
    found = fly(flight(rows))
    if answer:  # spaces are tokens: they are learnt as they stand
        assert not found.findings
        return
    empty = look(found, "empty-mask")
    assert (empty.severity, empty.rows, empty.n_rows) == ("refuse", [7], 1)


def test_trl_6025_truncation_never_empties_a_mask() -> None:
    """trl#6025: a mask emptied by truncation gives a loss of 0 and a gradient that is no number."""
    rows = [*good_rows(20), chat("Long?", "word " * 400)]
    found = fly(flight(rows, recipe=recipe(data={"truncate": "keep_end", "max_truncated_share": 0.5})))
    told = look(found, "truncated")
    assert (told.severity, told.rows) == ("warn", [21])
    assert found.train is not None
    assert (found.train.n_dropped, found.train.n_truncated, found.train.n_kept) == (1, 0, 20)


def test_qwen3_1522_an_end_that_is_not_learnt() -> None:
    """Qwen3#1522: a model that never learnt to stop."""
    found = fly(flight(good_rows(12), renderer=make_renderer(WORDS)))
    told = look(found, "eos-not-trained")
    assert told.severity == "refuse"
    assert told.n_rows == 12
    assert told.rows == list(range(1, 13))


def test_no_token_that_ends_a_turn_is_told_before_any_row_is_read() -> None:
    tokenizer = make_tokenizer(special=("<|pad|>",))
    found = fly(flight([], renderer=make_renderer(WORDS, tokenizer=tokenizer)))
    assert "eos-not-trained" in codes(found)


# -- length


def test_trl_3449_a_row_over_the_length_is_refused_with_its_number() -> None:
    """trl#3449, unsloth#2904, trl#2118: rows cut at 1024 tokens without a word."""
    rows = good_rows(30)
    rows[11] = chat("Why?", "because " * 300)
    found = fly(flight(rows))
    told = look(found, "truncated")
    assert (told.severity, told.rows, told.n_rows) == ("refuse", [12], 1)
    assert "256" in told.message
    assert "The model reads at most 256 tokens" in told.hint


@pytest.mark.parametrize(("allowed", "severity"), [(0.01, "refuse"), (0.1, "warn")])
@pytest.mark.parametrize("policy", ["drop", "keep_end"])
def test_rows_that_are_cut_beyond_the_stated_share_are_refused(
    policy: str, allowed: float, severity: str
) -> None:
    rows = good_rows(40)
    rows[3] = chat("word " * 300 + "?", "Yes.")
    found = fly(flight(rows, recipe=recipe(data={"truncate": policy, "max_truncated_share": allowed})))
    assert look(found, "truncated").severity == severity
    assert found.train is not None
    assert found.train.n_lost_tokens > 0
    assert found.train.n_kept == (39 if policy == "drop" else 40)


def test_a_length_beyond_what_the_model_reads_is_no_length() -> None:
    rows = [*good_rows(5), chat("Why?", "because " * 300)]
    found = fly(flight(rows, recipe=recipe(data={"max_length": 100_000})))
    assert look(found, "truncated").rows == [6]


# -- template


def test_ms_swift_9276_a_template_that_asks_otherwise_than_it_trains() -> None:
    """ms-swift#9276, tinker-cookbook#860: the trained prefix is not the generation prompt."""
    odd = CHATML.replace("<|im_start|>assistant\n' }}{% endif", "<|im_start|>assistant: ' }}{% endif")
    told = look(fly(flight(good_rows(3), renderer=make_renderer(odd))), "template-mismatch")
    assert (told.severity, told.rows) == ("refuse", [1, 2, 3])
    assert "assistant: " in told.message


@pytest.mark.parametrize("token", ["<|im_start|>", "<start_of_turn>", "[INST]"])
def test_unsloth_1832_rows_that_hold_template_text(token: str) -> None:
    """unsloth#1832: data that was rendered before it was rendered; also in the manner of another family."""
    rows = [*good_rows(3), *(chat(f"{token}user Hello {n}", f"Good day {n}") for n in range(3))]
    told = look(fly(flight(rows)), "template-mismatch")
    assert (told.severity, told.rows) == ("refuse", [4, 5, 6])
    assert token in told.message


def test_a_row_that_speaks_about_a_template_among_many_is_only_told() -> None:
    rows = [*good_rows(200), chat("What does <|im_start|> do?", "It begins a turn.")]
    told = look(fly(flight(rows)), "template-mismatch")
    assert (told.severity, told.rows) == ("warn", [201])


def test_llamafactory_10396_a_base_that_declares_another_renderer() -> None:
    """LlamaFactory#10396, #5232: exported with another template than it was trained with."""
    other = make_renderer(PLAIN).digest
    assert (
        look(fly(flight(good_rows(3), base={"renderer_digest": other})), "template-mismatch").severity
        == "refuse"
    )
    assert not fly(flight(good_rows(3), base={"renderer_digest": RENDERER.digest})).findings


def test_a_template_that_refuses_system_messages_is_told_in_its_own_words() -> None:
    found = fly(
        flight(good_rows(3), renderer=make_renderer(NO_SYSTEM), recipe=recipe(data={"system": "Be brief."}))
    )
    told = look(found, "rows-not-understood")
    assert "System role not supported" in told.message
    assert told.rows == [1, 2, 3]


def test_llamafactory_10336_thoughts_that_serving_drops_split_the_rows() -> None:
    """LlamaFactory#10336, trl#6361: empty thoughts kept in training and dropped in serving."""
    messages = [{"role": role, "content": f"{role} {n}"} for n in range(3) for role in ("user", "assistant")]
    rows = [DatasetRow(id="talk", fields={"messages": messages})]
    found = fly(flight(rows, renderer=make_renderer(THINKING)))
    assert look(found, "split-by-turn").severity == "warn"
    assert found.train is not None
    assert (found.train.n_kept, found.train.n_sequences, found.train.n_split_by_turn) == (1, 3, 1)


def test_a_base_without_a_template_trains_no_conversation() -> None:
    found = fly(flight(good_rows(2), renderer=make_renderer(None)))
    assert look(found, "rows-not-understood").rows == [1, 2]


# -- tokens


def test_llama_cpp_7062_two_tokens_that_begin() -> None:
    """llama.cpp#7062, #15086: the template writes one and something else another."""
    told = look(fly(flight(good_rows(2), renderer=make_renderer("{{ bos_token }}" + PLAIN))), "double-bos")
    assert (told.severity, told.rows) == ("refuse", [1, 2])


def test_control_tokens_of_the_template_that_the_tokenizer_cuts_up() -> None:
    """Qwen3#1522's other half: a template from elsewhere, whose tokens this tokenizer has not."""
    tokenizer = make_tokenizer(special=("<|pad|>", "<|end|>"))
    told = look(
        fly(flight(good_rows(2), renderer=make_renderer(CHATML, tokenizer=tokenizer))),
        "unknown-special-tokens",
    )
    assert told.severity == "refuse"
    assert "<|im_end|>" in told.message
    assert "<|im_start|>" in told.message


def test_tokens_that_the_model_has_no_weights_for() -> None:
    found = fly(flight(good_rows(4), base={"vocab_size": 200}))
    assert [each.severity for each in found.findings if each.code == "vocabulary-mismatch"] == [
        "refuse",
        "warn",
    ]
    refused = found.findings[0]
    assert refused.rows == [1, 2, 3, 4]


# -- data


def test_a_row_of_the_evaluation_data_in_the_training_data() -> None:
    """unslothai and open leaderboards' commonest complaint: the score was memory."""
    rows = good_rows(50)
    held = source([chat("  how MUCH sleep helps on day 16, and after rain", "Other.")], ref="dataset:held@1")
    rows[15] = chat("How much sleep helps on day 16, and after rain?", "About this.")
    for changes in ({"heldout": held}, {"guards": (held,)}):
        told = look(fly(flight(rows, **changes)), "contaminated")
        assert (told.severity, told.rows) == ("refuse", [16])
        assert "dataset:held@1" in told.message


def test_most_of_a_held_out_question_within_a_longer_one() -> None:
    question = (
        "which of the many herbs that grow in the old garden behind the mill can be dried for tea in winter"
    )
    rows = [*good_rows(30), chat(f"Tell me please, {question}, and why?", "Mint.")]
    held = source([chat(f"{question}?", "Mint.")], ref="dataset:held@1")
    assert look(fly(flight(rows, heldout=held)), "contaminated").rows == [31]


def test_a_share_held_out_by_chance_warns_where_rows_are_alike_and_groups_end_it() -> None:
    def rows(*, grouped: bool) -> list[DatasetRow]:
        return [
            chat(
                f"{wording} how long should a grown person of ordinary health walk on day {n} of the month"
                " when the weather outside is bad",
                f"{n} minutes{wording}",
                id=f"{n}{wording}",
                group=str(n) if grouped else None,
            )
            for n in range(20)
            for wording in ("Please,", "Well,", "Now,")
        ]

    part = {"eval_share": 0.4}
    told = look(fly(flight(rows(grouped=False), recipe=recipe(data=part))), "contaminated")
    assert told.severity == "warn"
    assert "group" in told.hint
    assert "contaminated" not in codes(fly(flight(rows(grouped=True), recipe=recipe(data=part))))


@pytest.mark.parametrize(("allowed", "severity"), [(0.0, "refuse"), (0.2, "warn")])
def test_rows_that_say_the_same(allowed: float, severity: str) -> None:
    rows = [
        *good_rows(10),
        chat("HOW much sleep helps?", "Much"),
        chat("How much sleep  helps?", "Much.", id="again"),
    ]
    told = look(fly(flight(rows, recipe=recipe(data={"max_duplicate_share": allowed}))), "duplicates")
    assert (told.severity, told.rows, told.n_rows) == (severity, [12], 1)


def test_the_same_question_with_other_answers_is_no_duplicate() -> None:
    rows = [chat("Name a colour.", colour, id=colour) for colour in ("red", "green", "blue")]
    assert not fly(flight(rows)).findings


def test_no_rows_and_no_held_out_rows() -> None:
    assert look(fly(flight([])), "zero-rows").severity == "refuse"
    rows = [msgspec.structs.replace(row, split="train") for row in good_rows(5)]
    assert "zero-rows" in codes(fly(flight(rows, recipe=recipe(data={"split": "tran"}))))
    told = look(fly(flight(rows, recipe=recipe(data={"eval_split": "test"}))), "zero-rows")
    assert "hold out" in told.message


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"messages": [{"role": "user", "content": "Hello"}]}, "end with the assistant"),
        ({"messages": [{"role": "critic", "content": "Hello"}]}, "critic"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, {"role": "assistant", "content": "A"}]}, "image_url"),
        ({"messages": []}, "no message"),
        ({}, "fields"),
    ],
)  # fmt: skip
def test_rows_that_nobody_can_train_on(fields: dict[str, Any], why: str) -> None:
    told = look(fly(flight([*good_rows(3), DatasetRow(id="x", fields=fields)])), "rows-not-understood")
    assert (told.severity, told.rows) == ("refuse", [4])
    assert why in told.message


def test_all_reasons_are_told_and_all_rows_counted() -> None:
    rows = [
        DatasetRow(id=f"x{n}", fields={"messages": [{"role": f"r{n}", "content": "A"}]}) for n in range(30)
    ]
    told = look(fly(flight([*good_rows(3), *rows])), "rows-not-understood")
    assert told.n_rows == 30
    assert told.rows == list(range(4, 24))
    assert "29 other reasons" in told.message


# -- preferences


def preference(question: str, chosen: Any, rejected: Any) -> DatasetRow:
    return DatasetRow(id=question, fields={"prompt": question, "chosen": chosen, "rejected": rejected})


def test_an_answer_that_is_preferred_to_itself() -> None:
    rows = [preference("A?", "Yes.", "No."), preference("B?", "Yes.", "Yes.")]
    told = look(fly(flight(source(rows, "preference"), recipe=recipe("dpo"))), "chosen-is-rejected")
    assert (told.severity, told.rows) == ("refuse", [2])


def test_labels_of_one_kind_alone() -> None:
    rows = [msgspec.structs.replace(row, metadata={"label": True}) for row in good_rows(4)]
    told = look(fly(flight(rows, recipe=recipe("kto"))), "one-class-labels")
    assert told.severity == "refuse"
    rows[0] = msgspec.structs.replace(rows[0], metadata={"label": False})
    assert not fly(flight(rows, recipe=recipe("kto"))).findings


def test_dpo_without_a_worse_answer() -> None:
    assert look(fly(flight(good_rows(2), recipe=recipe("dpo"))), "rows-not-understood").rows == [1, 2]


# -- base, licence, machine, adapter


@pytest.mark.parametrize("missing", ["revision", "digest"])
def test_peft_1567_a_base_without_a_revision(missing: str) -> None:
    """peft#1567, #1658, transformers#29849: the base floats to whatever is newest."""
    told = look(fly(flight(good_rows(2), base={missing: None})), "base-without-revision")
    assert told.severity == "refuse"
    assert "revision" in told.hint


def test_a_rounded_base_is_no_base() -> None:
    assert (
        look(fly(flight(good_rows(2), base={"precision": "q8_0"})), "base-not-trainable").severity == "refuse"
    )
    assert not fly(flight(good_rows(2), base={"precision": "f16"})).findings


@pytest.mark.parametrize(
    ("licence", "severity"),
    [
        ("cc-by-nd-4.0", "refuse"), ("CC-BY-NC-ND-4.0", "refuse"), ("cc-by-nc-4.0", "warn"), ("gpl-3.0", "warn"),
        ("other", "warn"), (None, "warn"), ("apache-2.0", None), ("mit", None),
    ],
)  # fmt: skip
def test_licences_that_forbid_what_is_made_from_them(licence: str | None, severity: str | None) -> None:
    found = [each.severity for each in fly(flight(good_rows(2), base={"license": licence})).findings]
    assert found == ([severity] if severity else [])


def test_the_datas_licence_counts_too_and_ones_own_data_needs_none() -> None:
    train = source(good_rows(2), license="cc-by-nd-4.0")
    assert look(fly(flight(train)), "licence").severity == "refuse"
    pulled = source(good_rows(2), sources=[{"kind": "hub", "source": "someone/rows"}])
    assert look(fly(flight(pulled)), "licence").severity == "warn"


def test_vllm_9280_an_adapter_that_no_engine_serves() -> None:
    """vllm#9280, #14978, LlamaFactory#9545: trained for hours, then refused by the engine."""
    odd = recipe(adapter=AdapterPart(targets=("q_proj", "embed_tokens")))
    assert "embed_tokens" in look(fly(flight(good_rows(2), recipe=odd)), "adapter-not-servable").message
    kept = recipe("dora", output=OutputPart(name="x", form="adapter"), adapter=AdapterPart())
    assert look(fly(flight(good_rows(2), recipe=kept)), "adapter-not-servable").severity == "refuse"
    assert not fly(flight(good_rows(2), recipe=recipe("dora", adapter=AdapterPart()))).findings


def test_refusals_come_first() -> None:
    found = fly(flight(good_rows(2), base={"license": None, "revision": None}))
    assert [each.severity for each in found.findings] == ["refuse", "warn"]


def test_a_template_whose_variables_the_rows_have_not() -> None:
    prompt = PromptContent(
        messages=[PromptMessage(role="user", content="{{ passage }}")],
        variables={"passage": PromptVariable()},
    )
    rows = [DatasetRow(id="a", fields={"input": "What?", "expected": "That."})]
    told = look(fly(flight(source(rows, "cases"), prompt=prompt)), "rows-not-understood")
    assert "'passage' is missing" in told.message


def test_a_model_from_nothing_has_no_base_to_look_at() -> None:
    found = fly(flight(good_rows(3), base=None, recipe=recipe("scratch")))
    assert not found.findings
    assert fly(flight([], base=None, renderer=None, recipe=recipe("scratch"))).is_refused


def test_what_is_measured_by_is_the_same_however_the_rows_are_ordered() -> None:
    part = {"eval_share": 0.3}
    measured = HeldOutPart(max_rows=4, n_samples=2)
    rows = good_rows(40)
    one = fly(flight(rows, recipe=recipe(data=part, evaluation=measured)))
    other = fly(flight(rows[::-1], recipe=recipe(data=part, evaluation=measured)))
    assert one.heldout is not None
    assert other.heldout is not None
    assert one.heldout.n_kept == other.heldout.n_kept == 4
    assert one.heldout.n_tokens == other.heldout.n_tokens
    assert one.train is not None
    assert 0 < one.train.n_kept < 40


@pytest.mark.parametrize("seed", range(8))
def test_of_few_rows_at_least_one_is_held_out(seed: int) -> None:
    """A share of 5 % takes none of ten rows by chance, and a refusal by chance helps nobody."""
    found = fly(flight(good_rows(10), recipe=recipe(data={"eval_share": 0.05}, seed=seed)))
    assert codes(found) == []
    assert found.train is not None
    assert found.heldout is not None
    assert found.heldout.n_kept >= 1
    assert found.train.n_kept + found.heldout.n_kept == 10


def test_rows_that_all_ask_the_same_are_not_all_held_out() -> None:
    rows = [chat("How much water helps?", f"About {number} glasses.", id=f"r{number}") for number in range(4)]
    found = fly(flight(rows, recipe=recipe(data={"eval_share": 0.05})))
    assert found.train is not None
    assert found.train.n_kept == 4
    assert "data.eval_share" in look(found, "zero-rows").hint


TEST_QUESTION = "How long should a healthy adult walk every single day to stay fit and well?"


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": f"{TEST_QUESTION} Thirty minutes, says a page."}],
        [
            {"role": "user", "content": "Say something."},
            {"role": "assistant", "content": f"{TEST_QUESTION} Half an hour."},
        ],
        [
            {"role": "user", "content": "Capital of Peru?"},
            {"role": "assistant", "content": "Lima."},
            {"role": "user", "content": "And its number?"},
            {"role": "assistant", "content": "One."},
        ],
    ],
    ids=["text without turns", "within an answer", "a short first turn"],
)
def test_a_test_question_is_found_wherever_it_is_learnt(messages: list[dict[str, str]]) -> None:
    """A run from nothing learns texts, and a conversation asks more than once: both taught the test unnoticed."""
    tests = source(
        [chat(TEST_QUESTION, "Thirty minutes."), chat("Capital of Peru?", "Lima.")], ref="dataset:exam@1"
    )
    rows = [*good_rows(5), DatasetRow(id="odd", fields={"messages": messages})]
    told = look(fly(flight(rows, guards=[tests])), "contaminated")
    assert (told.severity, told.rows) == ("refuse", [6])
