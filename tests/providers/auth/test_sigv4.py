"""SigV4 against the documented examples of AWS (IAM ListUsers, and cases of the signature test suite)."""

import pytest

from penstock.providers.auth.sigv4 import AwsKeys, SigV4Signer, sign, signing_key

KEYS = AwsKeys(access_key_id="AKIDEXAMPLE", secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
DATE = "20150830T123600Z"
HOST = ("host", "example.amazonaws.com")
DATED = ("x-amz-date", DATE)


def signature(method: str, path_query: str, headers: list[tuple[str, str]], body: bytes = b"") -> str:
    value = sign(
        keys=KEYS,
        region="us-east-1",
        service="service",
        method=method,
        path_query=path_query,
        headers=headers,
        body=body,
        amz_date=DATE,
    )
    return value.rpartition("Signature=")[2]


def test_the_key_is_derived_as_the_reference_shows() -> None:
    key = signing_key(KEYS.secret_access_key, "20150830", "us-east-1", "iam")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


def test_the_documented_request_gets_the_documented_header() -> None:
    value = sign(
        keys=KEYS,
        region="us-east-1",
        service="iam",
        method="GET",
        path_query="/?Action=ListUsers&Version=2010-05-08",
        headers=[
            ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("Host", "iam.amazonaws.com"),
            ("X-Amz-Date", DATE),
        ],
        body=b"",
        amz_date=DATE,
    )
    assert value == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


@pytest.mark.parametrize(
    ("method", "path_query", "expected"),
    [
        ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ],
)
def test_cases_of_the_signature_test_suite(method: str, path_query: str, expected: str) -> None:
    assert signature(method, path_query, [HOST, DATED]) == expected


def test_a_form_body_and_its_type_are_signed() -> None:
    found = signature(
        "POST", "/", [HOST, DATED, ("content-type", "application/x-www-form-urlencoded")], b"Param1=value1"
    )
    assert found == "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"


async def test_a_model_id_in_the_path_is_encoded_once_more_for_the_signature() -> None:
    signer = SigV4Signer(KEYS, region="us-east-1", service="bedrock")
    target = b"/model/anthropic.claude-x%3A0/converse"
    body = b'{"messages":[]}'
    got = dict(
        await signer.headers(b"POST", b"bedrock-runtime.us-east-1.amazonaws.com", target, body, 1440938160.0)
    )
    assert got[b"x-amz-date"] == DATE.encode()
    assert b"x-amz-security-token" not in got
    assert got[b"authorization"] == (
        b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, "
        b"SignedHeaders=content-type;host;x-amz-date, "
        b"Signature=67f63a0306404c664e1922a96b9d668d72410222f4fc45fdfc77d0c543b73c34"
    ), "what AWS's own client signs for the same request"


async def test_a_session_token_is_sent_and_signed() -> None:
    keys = AwsKeys(access_key_id="A", secret_access_key="S", session_token="T//token==")
    got = dict(
        await SigV4Signer(keys, region="r", service="bedrock").headers(b"POST", b"h", b"/p", b"{}", 0.0)
    )
    assert got[b"x-amz-security-token"] == b"T//token=="
    assert b"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token," in got[b"authorization"]


def test_the_secret_is_not_shown() -> None:
    assert "wJalr" not in repr(KEYS)
