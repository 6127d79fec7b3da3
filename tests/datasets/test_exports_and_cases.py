"""Rows out again, in other formats, and as cases of evaluations."""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.datasets.cases import case_to_row, row_to_case
from penstock.datasets.convert import convert_row
from penstock.datasets.errors import EmptyDataset, WrongFormat
from penstock.datasets.service import DatasetService
from penstock.datasets.types import ReadOptions
from penstock.spec.cases import Case, Passage
from penstock.spec.datasets import DatasetFormat, DatasetRow, Provenance

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}],
}
EVERYTHING = [
    DatasetRow(
        id="1",
        fields={"input": '[not, json] "quoted", and\nlines\r\n', "expected": ["a", "b"], "relevant": []},
        split="train",
        group="g, 1",
        tags=["x,y", "z"],
        metadata={"lang": "ไทย", "n": 2**70, "deep": {"b": [1.5, None], "a": True}},
        provenance=Provenance(kind="trace", source="t/s", detail={"model": "m"}),
    ),
    DatasetRow(id="2", fields={"input": "plain", "expected": 1, "passages": ["p", {"text": "t", "id": "i"}]}),
    DatasetRow(id="3", fields={"inputs": {"b": 1, "a": ""}, "expected": "[1]"}, split="dev/1"),
    DatasetRow(id="4", fields={"messages": [USER, CALLING]}, metadata={"empty": ""}),
]


def content(pieces: Any) -> bytes:
    return b"".join(pieces)


def come_back(
    datasets: DatasetService, tmp_path: Path, ref: str, form: str, of: DatasetFormat
) -> list[DatasetRow]:
    data = content(datasets.export(ref, form))
    path = tmp_path / f"back-{form}"
    if form == "huggingface":
        zipfile.ZipFile(io.BytesIO(data)).extractall(path)
    else:
        path = tmp_path / f"back.{form}"
        path.write_bytes(data)
    return list(datasets.read(datasets.create("back", path, ReadOptions(format=of)).ref))


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "parquet", "huggingface"])
def test_rows_come_back_as_they_were(datasets: DatasetService, tmp_path: Path, form: str) -> None:
    made = datasets.create_from_rows("a", EVERYTHING, "cases", licence="MIT", description="Some.")
    back = come_back(datasets, tmp_path, made.ref, form, "cases")
    back.sort(key=lambda row: row.id)
    # whoever knows no other place names the file; where a row was first made stays known
    unplaced = [
        msgspec.structs.replace(row, provenance=row.provenance if row.id == "1" else None) for row in back
    ]
    assert unplaced == EVERYTHING
    if form != "huggingface":
        assert datasets.get("back").facts.rows_digest == made.facts.rows_digest


@pytest.mark.parametrize(
    ("of", "fields"),
    [
        ("chat", {"messages": [USER, ASSISTANT], "tools": [{"type": "function"}]}),
        ("instruct", {"instruction": "i", "input": "", "output": "o"}),
        ("preference", {"prompt": "p", "chosen": "[c]", "rejected": [ASSISTANT]}),
        ("label", {"text": "007", "label": 3}),
        ("retrieval", {"query": "q", "relevant": ["1"], "answer": "a"}),
    ],
)
def test_every_format_survives_tables(
    datasets: DatasetService, tmp_path: Path, of: DatasetFormat, fields: Any
) -> None:
    datasets.create_from_rows("a", [DatasetRow(id="1", fields=fields)], of)
    for form in ("jsonl", "csv", "parquet"):
        assert [(row.id, row.fields) for row in come_back(datasets, tmp_path, "a", form, of)] == [
            ("1", fields)
        ]


_TEXT = st.text(max_size=20)
_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    values=st.lists(
        st.tuples(
            _TEXT.filter(str.strip),
            _VALUE.filter(lambda value: value is not None),
            st.dictionaries(_TEXT, _VALUE, max_size=2),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_row_survives_lines_and_tables(datasets: DatasetService, tmp_path: Path, values: Any) -> None:
    rows = [
        DatasetRow(id=f"r{n}", fields={"input": text, "expected": expected}, metadata=metadata)
        for n, (text, expected, metadata) in enumerate(values)
    ]
    datasets.create_from_rows("any", rows, "cases")
    made = datasets.list_versions("any")
    ref = next(each.ref for each in made if list(datasets.read(each.ref)) == rows)
    for form in ("jsonl", "csv"):
        back = come_back(datasets, tmp_path, ref, form, "cases")
        assert [(row.id, row.fields, row.metadata) for row in back] == [
            (row.id, row.fields, row.metadata) for row in rows
        ]


def test_parquet_has_columns_that_other_programs_read(datasets: DatasetService, tmp_path: Path) -> None:
    rows = [DatasetRow(id=f"{n}", fields={"messages": [USER, ASSISTANT]}, split="train") for n in range(3)]
    datasets.create_from_rows("chat", rows, "chat")
    path = tmp_path / "c.parquet"
    path.write_bytes(content(datasets.export("chat", "parquet")))
    found = duckdb.sql(f"SELECT messages[2].content, split FROM '{path}'").fetchall()
    assert found == [("a", "train")] * 3


def test_a_folder_names_its_splits_and_licence(datasets: DatasetService) -> None:
    datasets.create_from_rows("a", EVERYTHING, "cases", licence="MIT")
    archive = zipfile.ZipFile(io.BytesIO(content(datasets.export("a", "huggingface"))))
    assert set(archive.namelist()) == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "data/dev_1-00000-of-00001.parquet",
        "data/unsplit-00000-of-00001.parquet",
    }
    card = archive.read("README.md").decode()
    assert 'license: "MIT"' in card
    assert '  - split: "unsplit"\n    path: "data/unsplit-00000-of-00001.parquet"' in card


def test_fine_tuning_files_hold_what_openai_reads(datasets: DatasetService) -> None:
    datasets.create_from_rows(
        "i", [DatasetRow(id="1", fields={"instruction": "i", "input": "c", "output": "o"})], "instruct"
    )
    told = [json.loads(line) for line in content(datasets.export("i", "openai")).splitlines()]
    assert told == [
        {"messages": [{"role": "user", "content": "i\n\nc"}, {"role": "assistant", "content": "o"}]}
    ]
    pair = DatasetRow(id="1", fields={"prompt": "p", "chosen": "c", "rejected": "r"})
    datasets.create_from_rows("p", [pair], "preference")
    told = [json.loads(line) for line in content(datasets.export("p", "openai")).splitlines()]
    assert told[0]["input"] == {"messages": [{"role": "user", "content": "p"}]}
    assert told[0]["non_preferred_output"] == [{"role": "assistant", "content": "r"}]


def test_what_cannot_be_told_so_is_told_of_before_the_file_begins(datasets: DatasetService) -> None:
    rows = [
        DatasetRow(id="1", fields={"input": "q", "expected": "a"}),
        DatasetRow(id="2", fields={"input": "q"}),
    ]
    datasets.create_from_rows("a", rows, "cases")
    with pytest.raises(WrongFormat, match="'2'"):
        datasets.export("a", "openai")
    assert content(datasets.export("a", "openai", where="-expected:none")).count(b"\n") == 1
    datasets.create_from_rows("open", [DatasetRow(id="1", fields={"messages": [USER]})], "chat")
    with pytest.raises(WrongFormat, match="does not end with an answer"):
        datasets.export("open", "openai")
    with pytest.raises(InvalidInput, match="xlsx"):
        datasets.export("a", "xlsx")


def test_formats_are_converted_where_that_has_a_meaning(datasets: DatasetService) -> None:
    row = DatasetRow(
        id="1", fields={"instruction": "i", "output": "o"}, group="g", provenance=Provenance(kind="hub")
    )
    chat = convert_row(row, "instruct", "chat")
    assert chat.fields == {
        "messages": [{"role": "user", "content": "i"}, {"role": "assistant", "content": "o"}]
    }
    assert convert_row(chat, "chat", "instruct") == row
    assert convert_row(chat, "chat", "cases").fields == {
        "messages": [{"role": "user", "content": "i"}],
        "expected": "o",
    }
    for fields, of, to in (
        ({"messages": [USER, ASSISTANT, USER, ASSISTANT]}, "chat", "instruct"),
        ({"inputs": {"a": 1}, "expected": "x"}, "cases", "chat"),
        ({"input": "q", "expected": {"a": 1}}, "cases", "chat"),
        ({"text": "t", "label": "l"}, "label", "preference"),
    ):
        with pytest.raises(WrongFormat):
            convert_row(DatasetRow(id="1", fields=fields), of, to)  # type: ignore[arg-type]
    datasets.create_from_rows("i", [row], "instruct")
    made = datasets.convert("i", "chat", name="c")
    assert (made.facts.format, made.facts.steps[-1]["to"]) == ("chat", "chat")
    with pytest.raises(WrongFormat):
        datasets.convert("c", "chat")


@pytest.mark.parametrize(
    ("of", "fields", "inputs", "messages", "expected"),
    [
        ("cases", {"input": "q", "expected": ["a", "b"]}, {"input": "q"}, [], ["a", "b"]),
        ("cases", {"inputs": {"x": 1}}, {"x": 1}, [], None),
        ("cases", {"messages": [ASSISTANT, USER], "expected": "e"}, {"input": "q"}, [ASSISTANT, USER], "e"),
        ("chat", {"messages": [USER, ASSISTANT]}, {"input": "q"}, [USER], "a"),
        ("chat", {"messages": [USER]}, {"input": "q"}, [USER], None),
        (
            "instruct",
            {"instruction": "i", "input": "c", "output": "o"},
            {"instruction": "i", "context": "c", "input": "i\n\nc"},
            [],
            "o",
        ),
        ("preference", {"prompt": "p", "chosen": "c", "rejected": "r"}, {"input": "p"}, [], "c"),
        ("label", {"text": "t", "label": "l"}, {"input": "t"}, [], "l"),
        ("retrieval", {"query": "q", "relevant": ["d"], "answer": "a"}, {"input": "q"}, [], "a"),
    ],
)
def test_every_format_asks_a_case(
    of: DatasetFormat, fields: Any, inputs: Any, messages: Any, expected: Any
) -> None:
    row = DatasetRow(id="1", fields=fields, group="g", split="s", tags=["t"], metadata={"m": 1})
    case = row_to_case(row, of)
    assert (case.inputs, case.messages, case.expected) == (inputs, messages, expected)
    assert (case.id, case.group, case.split, case.tags, case.metadata["m"]) == ("1", "g", "s", ["t"], 1)
    if of == "preference":
        assert case.metadata["rejected"] == "r"
    if of == "retrieval":
        assert case.relevant == ["d"]


def test_cases_become_rows_and_cases_again() -> None:
    for case in (
        Case(
            id="1", inputs={"input": "q"}, expected="e", relevant=["d"], passages=[Passage(text="t", id="i")]
        ),
        Case(id="2", inputs={"a": 1, "b": "x"}),
        Case(id="3", inputs={"input": "q"}, messages=[USER], expected=3),
    ):
        assert row_to_case(case_to_row(case), "cases") == case


def test_splits_that_would_share_a_file_get_names_of_their_own(
    datasets: DatasetService, tmp_path: Path
) -> None:
    splits = [None, "unsplit", "a/b", "a_b", "A_B"]
    rows = [DatasetRow(id=f"{n}", fields={"input": f"{n}"}, split=split) for n, split in enumerate(splits)]
    made = datasets.create_from_rows("a", rows, "cases")
    archive = zipfile.ZipFile(io.BytesIO(content(datasets.export(made.ref, "huggingface"))))
    names = [name.casefold() for name in archive.namelist()]
    assert (len(names), len(set(names))) == (6, 6)
    back = come_back(datasets, tmp_path, made.ref, "huggingface", "cases")
    assert {(row.id, row.split) for row in back} == {(row.id, row.split) for row in rows}


def test_the_card_of_some_rows_counts_those_alone(datasets: DatasetService) -> None:
    made = datasets.create_from_rows("a", EVERYTHING, "cases")
    data = content(datasets.export("a", "huggingface", where="split:train"))
    archive = zipfile.ZipFile(io.BytesIO(data))
    card = archive.read("README.md").decode()
    n = made.facts.splits["train"]
    assert archive.namelist() == ["README.md", "data/train-00000-of-00001.parquet"]
    assert f"{n:,} rows (train {n:,}). Some of the {made.facts.n_rows} rows of version" in card
    assert made.facts.rows_digest not in card


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "openai", "huggingface"])
def test_an_export_of_no_rows_is_refused(datasets: DatasetService, form: str) -> None:
    datasets.create_from_rows("a", EVERYTHING, "cases")
    with pytest.raises(EmptyDataset, match="No row of dataset:a@1 is asked for"):
        content(datasets.export("a", form, where="split:nope"))


def test_a_table_for_a_spreadsheet_holds_no_formula(datasets: DatasetService) -> None:
    texts = ["=1+1", "@SUM(1)", "+x", "-y", "\t=1", "-12.5", "fine = yes"]
    rows = [DatasetRow(id=f"{n}", fields={"text": text, "label": "-1"}) for n, text in enumerate(texts)]
    datasets.create_from_rows("a", rows, "label")
    read = csv.DictReader(io.StringIO(content(datasets.export("a", "csv", is_for_spreadsheet=True)).decode()))
    told = [(row["text"], row["label"]) for row in read]
    assert [text for text, _ in told] == ["'=1+1", "'@SUM(1)", "'+x", "'-y", "'\t=1", "-12.5", "fine = yes"]
    assert {label for _, label in told} == {"-1"}
    plain = csv.DictReader(io.StringIO(content(datasets.export("a", "csv")).decode()))
    assert [row["text"] for row in plain] == texts
