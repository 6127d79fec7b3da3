"""Which header each kind of authentication sends, and what is said to be missing."""

import pytest

from penstock.providers.auth.errors import CredentialsUnusable
from penstock.providers.auth.port import MissingKey, Signer
from penstock.providers.auth.signers import make_signer
from penstock.spec.routes import AuthKind, Provider

URL = "https://api.example.com/v1"


def signer(
    environ: dict[str, str], secrets: dict[str, str] | None = None, **row: object
) -> Signer | MissingKey:
    fields = {"name": "p", "base_url": URL, **row}
    return make_signer(Provider(**fields), environ, secrets or {})  # type: ignore[arg-type]


def lines(found: Signer | MissingKey) -> bytes | None:
    assert not isinstance(found, MissingKey), found
    return found.static_headers()


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("bearer", b"authorization: Bearer k1\r\n"),
        ("x-api-key", b"x-api-key: k1\r\n"),
        ("api-key", b"api-key: k1\r\n"),
        ("x-goog-api-key", b"x-goog-api-key: k1\r\n"),
        ("gcp", b"authorization: Bearer k1\r\n"),
        ("sigv4", b"authorization: Bearer k1\r\n"),
    ],
)
async def test_each_kind_has_its_header(auth: AuthKind, expected: bytes) -> None:
    found = signer({"K": " k1\n"}, auth=auth, api_key_env="K")
    assert lines(found) == expected
    assert not isinstance(found, MissingKey)
    pairs = await found.headers(b"POST", b"h", b"/", b"", 0.0)
    assert b"".join(name + b": " + value + b"\r\n" for name, value in pairs) == expected


def test_a_provider_without_keys_gets_no_header() -> None:
    assert lines(signer({}, auth="none")) == b""
    assert lines(signer({}, auth="bearer")) == b""


@pytest.mark.parametrize("text", ["", "  ", "ключ", "a\r\nx: y", "a\x00b"])
def test_what_cannot_be_a_header_counts_as_missing(text: str) -> None:
    assert signer({"K": text}, api_key_env="K") == MissingKey(variable="K")


def test_a_secret_wins_over_the_variable_and_is_named_when_missing() -> None:
    row = {"api_key_env": "K", "secret": "sealed"}
    assert lines(signer({"K": "env"}, {"sealed": "own"}, **row)) == b"authorization: Bearer own\r\n"
    assert signer({"K": "env"}, {}, **row) == MissingKey(variable="sealed")


def test_azure_takes_an_entra_token_where_no_key_is_set() -> None:
    row = {"auth": "api-key", "api_key_env": "AZURE_OPENAI_API_KEY"}
    assert lines(signer({"AZURE_OPENAI_AD_TOKEN": "t"}, **row)) == b"authorization: Bearer t\r\n"
    both = {"AZURE_OPENAI_AD_TOKEN": "t", "AZURE_OPENAI_API_KEY": "k"}
    assert lines(signer(both, **row)) == b"api-key: k\r\n"
    assert signer({}, **row) == MissingKey(variable="AZURE_OPENAI_API_KEY")


BEDROCK = {"auth": "sigv4", "base_url": "https://bedrock-runtime.eu-west-1.amazonaws.com"}
AWS = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}


async def test_bedrock_signs_with_the_usual_variables_for_the_region_of_its_host() -> None:
    found = signer(AWS, **BEDROCK)
    assert not isinstance(found, MissingKey)
    assert found.static_headers() is None
    sent = dict(await found.headers(b"POST", b"h", b"/", b"{}", 0.0))
    assert b"Credential=AK/19700101/eu-west-1/bedrock/aws4_request" in sent[b"authorization"]


async def test_a_bedrock_key_goes_before_signing_and_a_sealed_pair_is_read() -> None:
    with_key = {**AWS, "AWS_BEARER_TOKEN_BEDROCK": "bk"}
    assert lines(signer(with_key, **BEDROCK)) == b"authorization: Bearer bk\r\n"
    found = signer({}, {"aws": "AK2:SK2:TOKEN"}, **BEDROCK, secret="aws")
    assert not isinstance(found, MissingKey)
    sent = dict(await found.headers(b"POST", b"h", b"/", b"{}", 0.0))
    assert sent[b"x-amz-security-token"] == b"TOKEN"
    assert (
        lines(signer({}, {"aws": "ABSKkey"}, **BEDROCK, secret="aws")) == b"authorization: Bearer ABSKkey\r\n"
    )


def test_what_bedrock_lacks_is_named() -> None:
    assert signer({}, **BEDROCK) == MissingKey(variable="AWS_ACCESS_KEY_ID")
    assert signer({"AWS_ACCESS_KEY_ID": "a"}, **BEDROCK) == MissingKey(variable="AWS_SECRET_ACCESS_KEY")
    assert signer(AWS, auth="sigv4", base_url="http://127.0.0.1:9") == MissingKey(variable="AWS_REGION")


@pytest.mark.parametrize(
    "url",
    [
        "https://bedrock-runtime.us-east-1.amazonaws.com.evil.example.org",
        "https://proxy.example.org",
        "https://aiplatform.googleapis.com.evil.example.org",
        "http://aiplatform.googleapis.com",
    ],
)
def test_tokens_that_no_row_names_are_for_the_clouds_own_hosts_only(url: str) -> None:
    environ = {
        "AWS_BEARER_TOKEN_BEDROCK": "secret",
        "GCP_ACCESS_TOKEN": "secret",
        "GOOGLE_APPLICATION_CREDENTIALS": "/f",
        "AZURE_OPENAI_AD_TOKEN": "secret",
    }
    assert signer(environ, auth="sigv4", base_url=url) == MissingKey(variable="AWS_ACCESS_KEY_ID")
    assert signer(environ, auth="gcp", base_url=url) == MissingKey(variable="GCP_ACCESS_TOKEN")
    assert signer(environ, auth="api-key", base_url=url, api_key_env="K") == MissingKey(variable="K")
    named = signer(environ, auth="gcp", base_url=url, api_key_env="GCP_ACCESS_TOKEN")
    assert lines(named) == b"authorization: Bearer secret\r\n"


def test_a_google_key_file_that_is_none_is_refused_without_being_shown() -> None:
    async def fetch(url: str, form: bytes) -> tuple[int, bytes]:
        raise AssertionError

    row = Provider(name="vertex", base_url="https://aiplatform.googleapis.com/v1", auth="gcp")
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": "/file"}
    with pytest.raises(CredentialsUnusable) as caught:
        make_signer(row, environ, {}, fetch=fetch, read_text=lambda _: '{"private_key": "hush"}')
    assert "hush" not in str(caught.value)

    def unreadable(path: str) -> str:
        raise FileNotFoundError(path)

    with pytest.raises(CredentialsUnusable):
        make_signer(row, environ, {}, fetch=fetch, read_text=unreadable)
    assert make_signer(row, environ, {}) == MissingKey(variable="GCP_ACCESS_TOKEN")
