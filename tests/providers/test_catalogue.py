"""Every row of the catalogue can be used as it stands: address, dialect, quirks, price id, key variable."""

import pytest

from penstock.dialects.quirks import find_unknown
from penstock.dialects.registry import DIALECTS
from penstock.providers.auth.port import MissingKey
from penstock.providers.auth.signers import make_signer
from penstock.providers.catalogue import (
    PROVIDERS,
    address_variables,
    all_address_variables,
    fill_base_url,
    find_provider,
    providers_with_keys,
)
from penstock.providers.transport import parse_base_url
from penstock.spec.routes import Provider

ENVIRON = {
    "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com/",
    "AWS_REGION": "eu-central-1",
    "GOOGLE_CLOUD_LOCATION": "europe-west4",
    "GOOGLE_CLOUD_PROJECT": "my-project-1",
    "DATABRICKS_HOST": "dbc-1.cloud.databricks.com",
    "CLOUDFLARE_ACCOUNT_ID": "0123abcd",
}


def filled(provider: Provider) -> Provider:
    found = fill_base_url(provider, ENVIRON)
    assert not isinstance(found, MissingKey), found
    return found


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_each_row_can_be_used(provider: Provider) -> None:
    row = filled(provider)
    origin = parse_base_url(row.base_url)
    is_local = row.price_id == "local"
    assert origin.scheme == ("http" if is_local else "https")
    assert "{" not in row.base_url and not row.base_url.endswith("/")
    assert is_local == (origin.host == "127.0.0.1")
    assert {row.dialect, *row.also} <= DIALECTS.keys()
    assert row.dialect not in row.also
    assert find_unknown(row.quirks) == []
    assert row.auth == "none" or row.api_key_env is not None
    if not is_local:
        assert row.api_key_env is not None
        signer = make_signer(row, {row.api_key_env: "k"}, {})
        assert not isinstance(signer, MissingKey) and signer.static_headers()
    assert not any("key" in name or "auth" in name for name in row.headers), (
        "headers of rows are never secret"
    )


def test_rows_are_many_and_distinct() -> None:
    names = [provider.name for provider in PROVIDERS]
    assert len(names) == len(set(names)) >= 25
    expected = {
        "openai", "azure", "anthropic", "gemini", "vertex", "bedrock", "cohere", "mistral", "groq", "xai", "deepseek",
        "together", "fireworks", "openrouter", "perplexity", "cerebras", "ollama", "vllm", "sglang", "llamacpp", "lmstudio",
    }  # fmt: skip
    assert expected <= set(names)
    assert {find_provider(name).dialect for name in ("anthropic", "gemini", "bedrock", "cohere")} == {
        "anthropic", "gemini", "bedrock", "cohere",
    }  # fmt: skip


def test_each_price_id_is_known_to_the_price_table() -> None:
    genai_prices = pytest.importorskip("genai_prices.data_snapshot")
    known = {provider.id for provider in genai_prices.get_snapshot().providers}
    told = {provider.price_id for provider in PROVIDERS} - {None, "local"}
    assert told <= known


def test_addresses_are_filled_from_the_environment() -> None:
    assert filled(find_provider("azure")).base_url == "https://mine.openai.azure.com/openai/v1"
    assert (
        filled(find_provider("databricks")).base_url == "https://dbc-1.cloud.databricks.com/serving-endpoints"
    )
    vertex = filled(find_provider("vertex"))
    assert vertex.base_url == (
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/my-project-1/locations/europe-west4/publishers/google"
    )
    assert address_variables(find_provider("vertex")) == ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_PROJECT")
    bedrock = fill_base_url(find_provider("bedrock"), {"AWS_DEFAULT_REGION": "us-east-1"})
    assert (
        isinstance(bedrock, Provider)
        and bedrock.base_url == "https://bedrock-runtime.us-east-1.amazonaws.com"
    )
    openai = find_provider("openai")
    assert fill_base_url(openai, {}) is openai


@pytest.mark.parametrize(
    ("name", "environ", "variable"),
    [
        ("bedrock", {}, "AWS_REGION"),
        ("bedrock", {"AWS_REGION": "evil.org/x"}, "AWS_REGION"),
        ("bedrock", {"AWS_REGION": "a@evil.org"}, "AWS_REGION"),
        ("vertex", {"GOOGLE_CLOUD_LOCATION": "us"}, "GOOGLE_CLOUD_PROJECT"),
        ("vertex-global", {"GOOGLE_CLOUD_PROJECT": "../x"}, "GOOGLE_CLOUD_PROJECT"),
        ("azure", {"AZURE_OPENAI_ENDPOINT": "https://a.example.org?x="}, "AZURE_OPENAI_ENDPOINT"),
        ("azure", {"AZURE_OPENAI_ENDPOINT": "ftp://a.example.org"}, "AZURE_OPENAI_ENDPOINT"),
        ("azure", {"AZURE_OPENAI_ENDPOINT": "https://user@evil.example.org"}, "AZURE_OPENAI_ENDPOINT"),
    ],
)
def test_what_cannot_be_part_of_an_address_counts_as_missing(
    name: str, environ: dict[str, str], variable: str
) -> None:
    assert fill_base_url(find_provider(name), environ) == MissingKey(variable=variable)


def test_keys_wake_the_providers_they_are_for_and_keys_of_many_purposes_none() -> None:
    environ = {"AWS_BEARER_TOKEN_BEDROCK": "k", "MISTRAL_API_KEY": "k", "HF_TOKEN": "k", "GITHUB_TOKEN": "k"}
    assert [provider.name for provider in providers_with_keys(environ)] == ["mistral", "bedrock"]
    assert {"AWS_REGION", "AWS_DEFAULT_REGION", "AZURE_OPENAI_ENDPOINT"} <= all_address_variables()
