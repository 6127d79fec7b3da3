"""penstock.toml: what it accepts, and that each mistake is named with its line and a cure."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.toml_lines import locate_lines
from penstock.main.errors import SettingsExist, SettingsInvalid
from penstock.main.settings import Settings, load_settings, parse_settings
from penstock.main.settings_template import TEMPLATE, write_template
from penstock.spec.home import Home

PATH = Path("penstock.toml")


def read(text: str) -> Settings:
    return parse_settings(text.encode(), path=PATH).settings


def problems_of(text: str) -> list[tuple[int, str]]:
    with pytest.raises(SettingsInvalid) as caught:
        read(text)
    return [
        (item["line"], f"{item['where']}: {item['message']} {item['hint']}")
        for item in caught.value.fields["problems"]
    ]


def test_no_file_is_the_same_as_an_empty_one(home: Home) -> None:
    assert load_settings(home.settings).settings == read("") == Settings()


def test_the_documented_form_is_read() -> None:
    settings = read(
        """
[providers.local]
dialect = "openai"
base_url = "http://127.0.0.1:9100/v1"
api_key_env = "LOCAL_KEY"            # optional

[routes."gpt-4o-mini"]
targets = [{ provider = "local", model = "gpt-4o-mini", weight = 1 }]
"""
    )
    assert settings.providers["local"].base_url == "http://127.0.0.1:9100/v1"
    assert settings.routes["gpt-4o-mini"].targets[0].weight == 1.0


def test_the_template_of_init_is_valid_and_changes_nothing(home: Home) -> None:
    write_template(home)
    assert load_settings(home.settings).settings == Settings()


def test_every_commented_line_of_the_template_is_valid_once_uncommented() -> None:
    lines = [
        line[2:] if line.startswith("# ") and (" = " in line or line[2] == "[") else line
        for line in TEMPLATE.split("\n")
    ]
    lines = [line for line in lines if not line.startswith("control_url_env")]  # it is the other choice
    settings = read("\n".join(lines))
    assert settings.providers["local"].api_key_env == "LOCAL_KEY"
    assert settings.up.port == 4600


def test_init_never_replaces_a_file_unasked(home: Home) -> None:
    home.settings.write_text("# mine\n")
    with pytest.raises(SettingsExist):
        write_template(home)
    assert home.settings.read_text() == "# mine\n"
    write_template(home, force=True)
    assert home.settings.read_text() == TEMPLATE


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            '[provider.local]\nbase_url = "http://x"',
            1,
            ["unknown key 'provider'", "Did you mean 'providers'?"],
        ),
        (
            '[providers.local]\nbase_ulr = "http://x"',
            2,
            ["unknown key 'base_ulr'", "Did you mean 'base_url'?"],
        ),
        ('[providers.local]\n\nbase_url = "ftp://x"', 3, ["providers.local.base_url", "must be an address"]),
        ('[providers.local]\nbase_url = "http://u:p@x/v1"', 2, ["no user name or password", "api_key_env"]),
        ('[providers.local]\nbase_url = "http://x"\napi_key_env = "sk-123 456"', 3, ["environment variable"]),
        ('[providers.Local]\nbase_url = "http://x"', 1, ["is not a provider's name"]),
        ('[providers.local]\ndialect = "opnai"', 2, ["Did you mean 'openai'?"]),
        ("[up]\nport = 70000", 2, ["up.port", "65535", "70000"]),
        ("[up]\nworkers = 0", 2, ["up.workers", "greater than or equal to 1"]),
        ('[up]\nport = "4600"', 2, ["up.port", "valid integer", "'4600'"]),
        ("up = 3", 1, ["up:", "table"]),
        ("[routes.a]\ntargets = []", 2, ["at least 1 item"]),
        ("[routes.a]\nkind = 'chat'", 1, ["the key 'targets' is missing"]),
        (
            '[routes.a]\ntargets = [\n {provider="p", model="m"},\n {provider="p", modle="m"},\n]',
            4,
            ["Did you mean 'model'?"],
        ),
        (
            '[[routes.a.targets]]\nprovider="p"\nmodel="m"\n[[routes.a.targets]]\nprovider="p"\nmodel="m"\nweight=-1',
            7,
            ["weight"],
        ),
        ('[routes."bad\\nname"]\ntargets = [{provider="p", model="m"}]', 1, ["printable ASCII"]),
        ("[storage]\ncontrol_url = 'sqlite:////x'\ncontrol_url_env = 'X'", 3, ["Keep one of the two"]),
        ("[traces]\ncapture_payload = false", 2, ["Did you mean 'capture_payloads'?"]),
        ("[limits]\nmax_body_bytes = 1.5", 2, ["valid integer"]),
    ],
)
def test_each_mistake_is_named_with_its_line_and_a_cure(text: str, line: int, words: list[str]) -> None:
    found = problems_of(text)
    assert any(number == line and all(word in told for word in words) for number, told in found), found


def test_all_mistakes_are_told_at_once_in_order() -> None:
    found = problems_of("[up]\nprot = 1\nworkers = 0\n[limits]\nmax_json_depth = 0\n")
    assert [line for line, _ in found] == [2, 3, 5]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("[up\nport = 1", 1, 4),
        ("a = 1\nb = [1,", 2, 8),
        ("[up]\nport = ", 2, 8),
        ("a = 1\na = 2", 2, 6),
        ('x = "abc', 1, 9),
    ],
)
def test_damaged_toml_shows_the_line_and_a_caret(text: str, line: int, column: int) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read(text)
    message, caret = caught.value.message.rsplit("\n", 1)
    assert caught.value.fields["line"] == line
    assert message.split("\n")[-1].strip() == text.split("\n")[line - 1].strip()
    assert abs(caret.index("^") - 2 - (column - 1)) <= 1


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe\x00", b"a = '\xe9'", b"\x00", b"a" * (5 << 20), b"[" * 20_000, b"a = " + b"[" * 20_000],
)
def test_garbage_is_refused_without_a_crash(data: bytes) -> None:
    with pytest.raises(SettingsInvalid):
        parse_settings(data, path=PATH)


def test_a_folder_in_the_place_of_the_file_is_told(home: Home) -> None:
    home.settings.mkdir()
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load_settings(home.settings)


def test_no_secret_is_repeated_in_an_error() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read('[providers.local]\napi_key_env = "sk-verysecretvalue1234567890"')
    assert "verysecret" not in str(caught.value)


def test_lines_are_found_through_strings_arrays_and_inline_tables() -> None:
    text = '''a = """
[not.a.table]
"""
"b.c" = { d = 1, e = [ # note ] }
  { f = '}' },
] }
[[t]]
x = 1979-05-27 07:32:00
[[t]]
[t.y]
z = "\\"]"
'''
    lines = locate_lines(text)
    assert lines[("a",)] == 1
    assert lines[("b.c", "e")] == 4
    assert lines[("b.c", "e", 0, "f")] == 5
    assert (lines[("t", 0, "x")], lines[("t", 1, "y", "z")]) == (8, 11)


_NAMES = st.text(alphabet="abcxyz-_09", min_size=1, max_size=8)


@given(
    st.dictionaries(_NAMES, st.dictionaries(_NAMES, st.integers(), max_size=4), max_size=5), st.integers(0, 3)
)
def test_every_key_of_a_generated_file_is_found_on_its_line(
    tables: dict[str, dict[str, int]], blank: int
) -> None:
    text, expected = "", {}
    for table, values in tables.items():
        text += "\n" * blank + f"[{table}]\n"
        for key, value in values.items():
            expected[(table, key)] = text.count("\n") + 1
            text += f"{key} = {value}\n"
    lines = locate_lines(text)
    assert {path: lines[path] for path in expected} == expected
