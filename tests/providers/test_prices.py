"""Money: equal to genai-prices to the last digit, None where nothing is known, and one look-up a model."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.providers.catalogue import PROVIDERS, find_provider, providers_with_keys
from penstock.providers.prices import PriceBook
from penstock.providers.rates import Rate, RateCard, RateSet, look_up
from penstock.providers.rating import apply_card, cost_parts, note_gaps
from penstock.spec.routes import PriceRow
from penstock.spec.usage import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES, Usage

genai_prices = pytest.importorskip("genai_prices")
MODELS = [
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4o-mini-2024-07-18"),
    ("openai", "o3-mini"),
    ("openai", "text-embedding-3-small"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("groq", "llama-3.3-70b-versatile"),
    ("mistral", "mistral-large-latest"),
]
BOOK = PriceBook(lambda wanted: [look_up(*item) for item in wanted])
COUNT = st.none() | st.integers(0, 400_000)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.integers(0, 300_000),
    COUNT,
    COUNT,
    st.integers(0, 100_000),
    st.integers(1_700_000_000, 1_790_000_000),
)
def test_a_call_costs_what_genai_prices_says(
    model: tuple[str, str], plain: int, read: int | None, written: int | None, output: int, when_s: int
) -> None:
    is_embedding = "embedding" in model[1]
    usage = Usage(
        input_uncached=plain,
        input_cache_read=read,
        input_cache_write=written,
        output_text=0 if is_embedding else output,
    )
    cost = BOOK.price(*model, usage, when_s * 1_000_000_000)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=read or 0,
            cache_write_tokens=written or 0,
            output_tokens=usage.output_tokens or 0,
        ),
        model[1],
        provider_id=model[0],
        genai_request_timestamp=datetime.fromtimestamp(when_s, tz=UTC),
    )
    assert cost.usd == theirs.total_price
    assert cost.source.startswith("genai-prices ")


def test_an_unknown_model_has_no_price_and_says_why() -> None:
    cost = BOOK.price("openai", "no-such-model", Usage(input_uncached=1), 0)
    assert cost.usd is None
    assert "no-such-model" in cost.source


def test_what_is_free_is_zero_and_what_is_unknown_is_none() -> None:
    assert BOOK.price("local", "x", None, 0).usd == 0
    assert BOOK.price(None, "x", Usage(input_uncached=1), 0).usd is None
    assert BOOK.price("openai", "gpt-4o-mini", None, 0).usd is None


def test_a_token_class_without_a_price_makes_the_sum_unknown() -> None:
    book = PriceBook(
        lambda wanted: [RateCard(source="s", sets=[RateSet(rates={"input_uncached": Rate(usd=Decimal(1))})])]
    )
    assert book.price("p", "m", Usage(input_uncached=1_000_000), 0).usd == 1
    cost = book.price("p", "m", Usage(input_uncached=1, output_text=1), 0)
    assert cost.usd is None
    assert "output_text" in cost.source


def test_hours_of_the_day_and_days_of_change_choose_the_rates() -> None:
    def rates(usd: int) -> dict[str, Rate]:
        return {"input_uncached": Rate(usd=Decimal(usd))}

    card = RateCard(
        source="s",
        sets=[
            RateSet(rates=rates(1)),
            RateSet(rates=rates(2), starts_on="2026-03-01"),
            RateSet(rates=rates(3), hours=("22:00:00+00:00", "02:00:00+00:00")),
        ],
    )
    book = PriceBook(lambda wanted: [card])

    def usd(moment: str) -> Decimal | None:
        when = datetime.fromisoformat(moment).timestamp()
        return book.price("p", "m", Usage(input_uncached=1_000_000), int(when * 1e9)).usd

    assert usd("2026-02-28T12:00:00+00:00") == 1
    assert usd("2026-03-01T00:00:00+00:00") == 3
    assert usd("2026-03-01T02:00:00+00:00") == 2
    assert usd("2026-03-01T23:59:59+00:00") == 3


def test_cards_are_loaded_once_together_and_again_only_after_a_failure_s_pause() -> None:
    asked: list[Sequence[tuple[str, str]]] = []
    clock = [0.0]

    def loader(wanted: Sequence[tuple[str, str]]) -> list[RateCard]:
        asked.append(list(wanted))
        if len(asked) == 1:
            raise subprocess.SubprocessError
        return [RateCard(source="s", reason="none") for _ in wanted]

    book = PriceBook(loader, monotonic=lambda: clock[0])
    book.preload([("p", "a"), ("p", "b"), ("local", "c"), ("p", "a")])
    assert book.price("p", "a", Usage(input_uncached=1), 0).source == "the price table could not be read"
    assert asked == [[("p", "a"), ("p", "b")]]
    clock[0] = 61.0
    book.preload([("p", "a"), ("p", "b")])
    assert book.is_ready("p", "a")
    book.price("p", "b", Usage(input_uncached=1), 0)
    assert len(asked) == 2


def test_prices_are_looked_up_in_a_child_so_that_this_process_stays_small() -> None:
    program = (
        "import sys\n"
        "from penstock.providers.prices import price_call\n"
        "from penstock.spec.usage import Usage\n"
        "cost = price_call('openai', 'gpt-4o-mini', Usage(input_uncached=1000000), 1_770_000_000_000_000_000)\n"
        "print(cost.usd, 'genai_prices' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240
    )
    usd, is_loaded = run.stdout.split()
    assert Decimal(usd) == Decimal("0.15")
    assert is_loaded == "False"


def test_provider_rows_are_distinct_and_found_by_name() -> None:
    names = [provider.name for provider in PROVIDERS]
    assert len(set(names)) == len(names)
    assert find_provider("groq").base_url == "https://api.groq.com/openai/v1"
    with pytest.raises(Exception, match="Did you mean 'mistral'"):
        find_provider("mistal")


def test_only_hosted_providers_with_a_key_are_picked_up() -> None:
    environ = {"OPENAI_API_KEY": "x", "VLLM_API_KEY": "y", "XAI_API_KEY": ""}
    assert [provider.name for provider in providers_with_keys(environ)] == ["openai"]


def test_an_operator_s_price_wins_over_the_table_and_needs_no_table() -> None:
    book = PriceBook(lambda wanted: pytest.fail("the table is not asked"))
    book.set_own_prices(
        [
            PriceRow(provider="lab", model="llama*", usd_per_million={"input_uncached": Decimal(1)}),
            PriceRow(provider="lab", model="llama-3*", usd_per_million={"input_uncached": Decimal(2)}),
            PriceRow(
                provider="lab",
                model="llama-3-8b",
                usd_per_million={"input_uncached": Decimal(3)},
                usd_per_request=Decimal("0.5"),
            ),
        ]
    )
    million = Usage(input_uncached=1_000_000)
    for model, usd in (("llama-2", "1"), ("llama-3-70b", "2"), ("llama-3-8b", "3.5")):
        cost = book.price("openai", model, million, 0, provider="lab")
        assert (cost.usd, cost.source) == (Decimal(usd), "settings")
        assert book.estimate("openai", model, million, provider="lab") == Decimal(usd)
    assert book.price("local", "llama-2", million, 0, provider="lab").usd == 1
    assert book.price("local", "mistral", million, 0, provider="lab").usd == 0
    unknown = book.price("openai", "llama-2", Usage(input_uncached=1, output_text=1), 0, provider="lab")
    assert unknown.usd is None
    assert "settings has no price for output_text" in unknown.source
    assert book.estimate("openai", "gpt-4o-mini", million, provider="lab") is None


def test_classes_that_an_operator_s_price_leaves_out_count_at_the_rate_of_their_family() -> None:
    book = PriceBook(lambda wanted: pytest.fail("the table is not asked"))
    rates = {"input_uncached": Decimal("1.5"), "output_text": Decimal(6)}
    book.set_own_prices([PriceRow(provider="lab", model="m", usd_per_million=rates)])
    usage = Usage(input_uncached=1000, input_cache_read=2000, output_text=10, output_reasoning=90)
    cost = book.price("openai", "m", usage, 0, provider="lab")
    assert cost.usd == (Decimal("1.5") * 3000 + 6 * 100) / 1_000_000
    assert cost.source == "settings (input_cache_read at the input rate, output_reasoning at the output rate)"
    assert cost.rates["input_cache_read"] == Decimal("1.5")
    assert book.price_now("openai", "m", usage, 0, provider="lab") == cost
    plain = book.price("openai", "m", Usage(input_uncached=1, input_cache_read=0), 0, provider="lab")
    assert plain.source == "settings"
    rates["input_cache_read"] = Decimal(0)
    book.set_own_prices([PriceRow(provider="lab", model="m", usd_per_million=rates)])
    assert "cache_read" not in book.price("openai", "m", usage, 0, provider="lab").source


def test_sound_that_the_table_prices_as_text_says_so() -> None:
    told = BOOK.price("openai", "gpt-4o-mini", Usage(input_uncached=10, input_audio=5, output_audio=5), 0)
    assert told.usd is not None
    assert told.source.endswith(" (input_audio at the input rate, output_audio at the output rate)")
    plain = BOOK.price("openai", "gpt-4o-mini", Usage(input_uncached=10, input_cache_read=5), 0)
    assert "(" not in plain.source


def test_an_operator_is_told_what_a_price_leaves_out() -> None:
    assert note_gaps(TOKEN_CLASSES) == ()
    cached, thoughts = note_gaps(["input_uncached", "output_text", "input_audio"])
    assert cached.startswith("input_cache_read, input_cache_write")
    assert "input_audio" not in cached
    assert thoughts.startswith("output_reasoning")
    assert [note.split()[0] for note in note_gaps([])] == ["input", "output"]


SMALL = st.none() | st.integers(0, 10_000_000)
USAGES = st.builds(Usage, **dict.fromkeys(TOKEN_CLASSES, SMALL))
RATES = st.fixed_dictionaries(
    dict.fromkeys(TOKEN_CLASSES, st.integers(0, 10**9).map(lambda number: Decimal(number).scaleb(-6)))
)


@given(USAGES, RATES)
def test_money_is_the_sum_of_its_parts_and_never_negative(usage: Usage, usd: dict[str, Decimal]) -> None:
    card = RateCard(source="s", sets=[RateSet(rates={name: Rate(usd=rate) for name, rate in usd.items()})])
    cost = apply_card(card, usage, 0)
    counts = {name: getattr(usage, name) for name in TOKEN_CLASSES}
    parts = cost_parts(counts, cost.rates)
    assert cost.usd == sum((part[3] for part in parts), Decimal(0))
    assert all(part[3] >= 0 for part in parts)
    assert {part[0] for part in parts} == {name for name, count in counts.items() if count}


@given(USAGES, USAGES, RATES)
def test_without_tiers_two_calls_cost_what_one_call_with_both_would(
    one: Usage, two: Usage, usd: dict[str, Decimal]
) -> None:
    card = RateCard(source="s", sets=[RateSet(rates={name: Rate(usd=rate) for name, rate in usd.items()})])
    both = Usage(**{name: (getattr(one, name) or 0) + (getattr(two, name) or 0) for name in TOKEN_CLASSES})
    first, second, joint = (apply_card(card, usage, 0).usd for usage in (one, two, both))
    assert first is not None and second is not None
    assert first + second == joint


@given(USAGES)
def test_totals_are_the_sums_of_disjoint_classes(usage: Usage) -> None:
    assert not set(INPUT_CLASSES) & set(OUTPUT_CLASSES)
    assert set(INPUT_CLASSES) | set(OUTPUT_CLASSES) | {"estimated", "reported_usd"} == set(
        Usage.__struct_fields__
    )
    for total, names in ((usage.input_tokens, INPUT_CLASSES), (usage.output_tokens, OUTPUT_CLASSES)):
        known = [getattr(usage, name) for name in names if getattr(usage, name) is not None]
        assert total == (sum(known) if known else None)
    assert msgspec.structs.replace(usage, reported_usd=Decimal(9)).input_tokens == usage.input_tokens


def test_an_hour_in_the_provider_s_cache_and_images_have_prices_of_their_own() -> None:
    card = look_up("anthropic", "claude-sonnet-4-5")
    day = card.sets[0].rates
    assert day["input_cache_write_1h"].usd > day["input_cache_write"].usd
    assert "output_image" in look_up("google", "gemini-2.5-flash-image").sets[0].rates
    cost = apply_card(card, Usage(input_uncached=250_000, input_cache_write_1h=1000, output_text=10), 0)
    assert cost.tier_over == 200_000
