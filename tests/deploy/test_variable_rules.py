"""Which variables an object of the control tables may name: no key goes to whoever edits providers."""

import msgspec
import pytest

from penstock.deploy.rows import CATALOGUE
from penstock.deploy.variable_rules import VariablePlaces
from penstock.spec.routes import Provider

ENVIRON = {
    "AWS_REGION": "eu-west-1",
    "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com",
    "OPENAI_API_KEY": "sk",
}
WRITTEN = Provider(name="lab", base_url="https://lab.example/v1", api_key_env="LAB_LOGIN")
PLACES = VariablePlaces((*CATALOGUE.values(), WRITTEN), ENVIRON)


def found(variable: str | None, base_url: str, filled_url: str | None = None) -> list[str]:
    row = Provider(name="x", base_url=base_url, api_key_env=variable)
    filled = msgspec.structs.replace(row, base_url=filled_url or base_url)
    problems = PLACES.problems(row, filled, own=("BIG_REDIS_TOKEN", None))
    return [message for _, message in problems]


@pytest.mark.parametrize(
    ("variable", "base_url"),
    [
        (None, "https://mine.example/v1"),
        ("MINE_KEY", "https://mine.example/v1"),
        ("mine_api_key", "https://mine.example/v1"),
        ("MINE_API_TOKEN_PROD", "https://mine.example/v1"),
        ("APIKEY", "https://mine.example/v1"),
        ("OPENAI_API_KEY", "https://api.openai.com/v2"),
        ("OPENAI_API_KEY", "https://API.openai.com:443/v1"),
        ("AWS_BEARER_TOKEN_BEDROCK", "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ("AZURE_OPENAI_API_KEY", "https://mine.openai.azure.com/openai/v1"),
        ("LAB_LOGIN", "https://lab.example/v2"),
    ],
)
def test_a_key_may_be_sent_where_it_belongs_or_where_nobody_else_has_it(
    variable: str | None, base_url: str
) -> None:
    assert found(variable, base_url) == []


@pytest.mark.parametrize(
    ("variable", "base_url", "words"),
    [
        (
            "OPENAI_API_KEY",
            "https://mine.example/v1",
            "is the key for https://api.openai.com and is not sent to",
        ),
        ("OPENAI_API_KEY", "http://api.openai.com/v1", "is not sent to http://api.openai.com"),
        ("OPENAI_API_KEY", "https://api.openai.com:8443/v1", "is not sent to"),
        (
            "AWS_BEARER_TOKEN_BEDROCK",
            "https://bedrock-runtime.x.amazonaws.com.mine.example",
            "is not sent to",
        ),
        ("AWS_BEARER_TOKEN_BEDROCK", "https://bedrock-runtime.mine.example/.amazonaws.com", "is not sent to"),
        ("AZURE_OPENAI_API_KEY", "https://other.openai.azure.com/openai/v1", "is not sent to"),
        ("LAB_LOGIN", "https://mine.example/v1", "is the key for https://lab.example"),
        ("GITHUB_TOKEN", "https://mine.example/v1", "is not sent to"),
        *(
            (variable, "https://mine.example/v1", "does not look like a provider's key")
            for variable in (
                "PATH",
                "PENSTOCK_CONTROL_URL",
                "PENSTOCK_KEY",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
                "GOOGLE_APPLICATION_CREDENTIALS",
                "AZURE_OPENAI_AD_TOKEN",
                "DATABASE_URL",
                "DB_KEY",
                "DJANGO_SECRET_KEY",
                "SSH_PRIVATE_KEY",
                "MONKEY",
                "BIG_REDIS_TOKEN",
            )
        ),
    ],
)
def test_no_other_variable_leaves_with_an_object(variable: str, base_url: str, words: str) -> None:
    problems = found(variable, base_url)
    assert len(problems) == 1
    assert words in problems[0]
    assert "penstock secret set" in problems[0]


def test_an_address_is_filled_from_variables_of_addresses_only() -> None:
    inside = "https://mine.example/{%s}/v1"
    assert found(None, inside % "AWS_REGION", "https://mine.example/eu-west-1/v1") == []
    assert found(None, inside % "OPENAI_API_KEY", "https://mine.example/sk/v1") == [
        "its address may not be filled from the variable 'OPENAI_API_KEY'"
    ]
