"""Files as people have them: what is understood, and what is told about what is wrong."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from penstock.base.errors import InvalidInput
from penstock.datasets.errors import InvalidRows, SourceRefused, UnknownFormat, UnreadableSource
from penstock.datasets.intake import Intake
from penstock.datasets.readers.json_array import read_json_array
from penstock.datasets.readers.parquet import read_parquet
from penstock.datasets.readers.tables import read_table
from penstock.datasets.service import DatasetService
from penstock.datasets.sources import find_files, split_of
from penstock.datasets.types import RawRow, Read, ReadOptions, RowProblem, SourceReport
from penstock.spec.datasets import DatasetRow


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def check(datasets: DatasetService, path: Path, **options: Any) -> SourceReport:
    return datasets.check(path, ReadOptions(**options))


def read_file_of(path: Path) -> Iterator[Read]:
    return read_parquet(path, path.stem)


def told(report: SourceReport) -> list[tuple[str, str | None, str]]:
    return [(each.place, each.column, each.reason) for each in report.problems]


@pytest.mark.parametrize(
    ("row", "form", "fields"),
    [
        ({"question": "q", "answer": "a"}, "cases", {"input": "q", "expected": "a"}),
        ({"input": {"name": "Ada"}, "expected": 3}, "cases", {"inputs": {"name": "Ada"}, "expected": 3}),
        (
            {"input": [{"role": "user", "content": "q"}], "ideal": ["a", "b"]},
            "cases",
            {"messages": [{"role": "user", "content": "q"}], "expected": ["a", "b"]},
        ),
        (
            {"instruction": "i", "input": "", "output": "o"},
            "instruct",
            {"instruction": "i", "input": "", "output": "o"},
        ),
        ({"prompt": "i", "completion": "o"}, "instruct", {"instruction": "i", "output": "o"}),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            "chat",
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a", "weight": 0},
                ],
                "tools": [{"type": "function"}],
            },
            "chat",
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a", "weight": 0},
                ],
                "tools": [{"type": "function"}],
            },
        ),
        (
            {"prompt": "p", "chosen": "c", "rejected": "r"},
            "preference",
            {"prompt": "p", "chosen": "c", "rejected": "r"},
        ),
        (
            {
                "input": {"messages": [{"role": "user", "content": "q"}]},
                "preferred_output": [{"role": "assistant", "content": "c"}],
                "non_preferred_output": [{"role": "assistant", "content": "r"}],
            },
            "preference",
            {
                "messages": [{"role": "user", "content": "q"}],
                "chosen": [{"role": "assistant", "content": "c"}],
                "rejected": [{"role": "assistant", "content": "r"}],
            },
        ),
        ({"text": "t", "label": 1}, "label", {"text": "t", "label": 1}),
        ({"query": "q", "relevant": [1, "b"]}, "retrieval", {"query": "q", "relevant": ["1", "b"]}),
        ({"query": "q", "passages": "p"}, "retrieval", {"query": "q", "passages": ["p"]}),
    ],
)
def test_rows_that_others_write_are_recognised(
    datasets: DatasetService, tmp_path: Path, row: Any, form: str, fields: Any
) -> None:
    report = check(datasets, write(tmp_path, "rows.jsonl", lines({**row, "lang": "de"})))
    assert (report.format, report.n_problems) == (form, 0)
    assert report.samples[0].fields == fields
    assert report.samples[0].metadata == {"lang": "de"}


def test_every_problem_is_told_with_its_row_and_column(datasets: DatasetService, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "bad.jsonl",
        b"\xef\xbb\xbf"
        + b"\n".join(
            [
                b'{"id": "a", "input": "\xe4\xbd\xa0\xe5\xa5\xbd"}\r',
                b'{"id": "a", "input": "again"}',
                b'{"input": "trailing",}',
                b'{"input": NaN}',
                b'{"input": "x", "n": 1e999}',
                b'{"input": "half \\ud83d"}',
                b'{"input": "\xff\xfe"}',
                b'["no object"]',
                b'{"input": 5}',
                b'{"id": "", "input": "x"}',
                b'{"input": "ok", "tags": {"a": 1}}',
                b"",
                b'{"expected": "nothing was asked"}',
                b'{"input": "cut',
            ]
        ),
    )
    report = check(datasets, path)
    assert report.n_rows == 1
    assert told(report) == [
        ("bad.jsonl:2", "id", "duplicate id"),
        ("bad.jsonl:3", None, "not JSON"),
        ("bad.jsonl:4", None, "not JSON"),
        ("bad.jsonl:5", None, "not JSON"),
        ("bad.jsonl:6", None, "not JSON"),
        ("bad.jsonl:7", None, "not UTF-8"),
        ("bad.jsonl:8", None, "not an object"),
        ("bad.jsonl:9", "input", "wrong type"),
        ("bad.jsonl:10", "id", "empty id"),
        ("bad.jsonl:11", "tags", "wrong type"),
        ("bad.jsonl:13", "input", "input missing"),
        ("bad.jsonl:14", None, "not JSON"),
    ]
    messages = " | ".join(each.message for each in report.problems)
    for words in (
        "trailing comma",
        "NaN or Infinity",
        "too large",
        "lone surrogate",
        "bytes that are not UTF-8",
    ):
        assert words in messages
    with pytest.raises(InvalidRows) as caught:
        datasets.create("bad", path)
    assert caught.value.fields["n_problems"] == 12
    assert datasets.list_datasets() == []
    made = datasets.create("bad", path, ReadOptions(skip_invalid=True))
    assert made.facts.n_rows == 1
    assert made.facts.left_out["not JSON"] == 5
    assert made.facts.sources[0]["n_left_out"] == 12
    assert made.problems[0].place == "bad.jsonl:2"


def test_of_many_problems_the_first_fifty_are_told_and_all_are_counted(
    datasets: DatasetService, tmp_path: Path
) -> None:
    path = write(tmp_path, "many.jsonl", lines({"input": "ok"}, *({"input": n} for n in range(80))))
    report = check(datasets, path)
    assert (len(report.problems), report.n_problems, report.left_out) == (50, 80, {"wrong type": 80})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("blank.jsonl", b"\n\n", "holds no rows"),
        ("utf16.csv", "a,b\n".encode("utf-16"), "UTF-16"),
        ("packed.jsonl", b"\x1f\x8b\x08\x00", "compressed"),
        ("fake.parquet", b"not parquet at all", "cannot be read as Parquet"),
        ("what.bin", b"\x00\x01\x02", "how what.bin holds its rows"),
        ("twice.csv", b"a,a\n1,2\n", "more than once"),
    ],
)
def test_what_cannot_be_read_at_all_says_why(
    datasets: DatasetService, tmp_path: Path, name: str, text: bytes, words: str
) -> None:
    with pytest.raises(UnreadableSource, match=words):
        check(datasets, write(tmp_path, name, text))


def test_unknown_columns_are_asked_about_and_can_be_mapped(datasets: DatasetService, tmp_path: Path) -> None:
    path = write(tmp_path, "fragen.jsonl", lines({"Frage": "q", "meta": {"a": 1}, "Ort": {"doc": "d.md"}}))
    with pytest.raises(UnknownFormat, match="Frage") as caught:
        check(datasets, path)
    assert "--map" in str(caught.value)
    row = check(
        datasets, path, mapping={"input": "Frage", "group": "Ort.doc", "relevant": "Ort.doc"}
    ).samples[0]
    assert (row.fields, row.group) == ({"input": "q", "relevant": ["d.md"]}, "d.md")
    assert row.metadata == {"meta": {"a": 1}}
    with (
        pytest.raises(ValueError, match="no column 'Fragge'")
        if False
        else pytest.raises(Exception, match="Fragge")
    ):
        check(datasets, path, mapping={"input": "Fragge"})
    with pytest.raises(InvalidInput, match="no field 'inptu'"):
        check(datasets, path, mapping={"inptu": "Frage"})


def test_a_column_that_only_later_rows_have_is_still_its_field(
    datasets: DatasetService, tmp_path: Path
) -> None:
    rows = [{"input": f"q{n}"} for n in range(300)] + [{"input": "last", "expected": "e", "group": "g"}]
    made = datasets.create("late", write(tmp_path, "late.jsonl", lines(*rows)))
    last = list(datasets.read(made.ref))[-1]
    assert (last.fields, last.group, last.metadata) == ({"input": "last", "expected": "e"}, "g", {})


def test_tables_count_rows_as_a_spreadsheet_does(datasets: DatasetService, tmp_path: Path) -> None:
    text = 'id;input;expected\r\n1;"two\r\nlines";\r\n2;short\r\n3;\xfc;x\r\n'.encode("latin-1")
    report = check(datasets, write(tmp_path, "t.csv", text))
    assert report.samples[0].fields == {"input": "two\r\nlines"}
    assert told(report) == [
        ("t.csv:3", None, "wrong number of cells"),
        ("t.csv:4", None, "not UTF-8"),
    ]
    broken = check(datasets, write(tmp_path, "open.csv", 'input,expected\na,b\n"never closed,b\n'))
    assert told(broken) == [("open.csv:3", None, "not CSV")]


def test_a_json_array_is_read_element_by_element(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.datasets.readers.json_array._PIECE", 7)  # every place of a cut
    rows = [{"input": 'a "quoted\\" ] } text', "n": [1, {"a": []}]}, {"input": "ü\n"}, {}]
    found = list(read_json_array(write(tmp_path, "a.json", " " + json.dumps(rows, indent=1)), "a.json"))
    assert [each.value for each in found if isinstance(each, RawRow)] == rows
    assert list(read_json_array(write(tmp_path, "e.json", "[ ]"), "e.json")) == []


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('[{"a": 1},]', "b.json:2", "comma stands before the end"),
        ('[{"a": 1},,{"a": 2}]', "b.json:2", "missing before a comma"),
        ('[{"a": 1}', "b.json:1", "does not end"),
        ('[{"a": "x', "b.json:1", "text does not end"),
        ('{"a": 1}', "b.json:1", "not a JSON array"),
    ],
)
def test_a_broken_json_array_says_where(tmp_path: Path, text: str, place: str, words: str) -> None:
    last = list(read_json_array(write(tmp_path, "b.json", text), "b.json"))[-1]
    assert not isinstance(last, RawRow)
    assert (last.place, words in last.message) == (place, True)


def test_a_folder_as_hugging_face_lays_it_out_gives_splits_by_file(
    datasets: DatasetService, tmp_path: Path
) -> None:
    folder = tmp_path / "hf"
    for split in ("train", "validation"):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        duckdb.sql(
            f"SELECT '{split}' AS question, [{{role: 'user', content: 'q'}}] AS talk, NULL AS nothing, 1.5::DECIMAL(4,2) AS d"
        ).write_parquet(str(path))
    write(folder, "README.md", "# card")
    write(folder, "extra.jsonl", lines({"other": 1}))
    made = datasets.create("hf", folder)
    rows = list(datasets.read(made.ref))
    assert made.facts.splits == {"train": 1, "validation": 1}
    assert rows[0].fields == {"input": "train"}
    assert rows[0].metadata == {"talk": [{"role": "user", "content": "q"}], "d": 1.5}
    assert rows[0].provenance is not None
    assert rows[0].provenance.source == "data/train-00000-of-00001.parquet:1"


def test_parquet_with_nan_or_bytes_is_a_problem_of_its_row(datasets: DatasetService, tmp_path: Path) -> None:
    path = tmp_path / "n.parquet"
    duckdb.sql("SELECT 'q' AS input, 'NaN'::DOUBLE AS score UNION ALL SELECT 'r', 1").write_parquet(str(path))
    report = check(datasets, path)
    assert (report.n_rows, told(report)) == (1, [("n.parquet:1", "score", "value that cannot be kept")])


def test_arrow_folders_are_read_or_say_what_they_need(datasets: DatasetService, tmp_path: Path) -> None:
    write(tmp_path, "saved/data-00000-of-00001.arrow", b"\xff\xff\xff\xff0000")
    with pytest.raises(UnreadableSource, match=r"pyarrow|Arrow stream"):
        datasets.check(tmp_path / "saved")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("val.jsonl", "validation"),
        ("my-test.csv", "test"),
        ("training_rows.csv", "train"),
        ("contest.csv", None),
        ("rows.parquet", None),
        ("data/unsplit-00000-of-00001.parquet", None),
    ],
)
def test_file_names_tell_splits_as_hubs_do(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_home_and_relative_places_are_refused(datasets: DatasetService, tmp_path: Path) -> None:
    write(tmp_path, "home/admin.key", "secret")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "home" / "admin.key")
    around = str(tmp_path)  # a folder is read with all below it
    for place in (str(tmp_path / "home" / "admin.key"), str(tmp_path / "link.jsonl"), around):
        with pytest.raises(SourceRefused, match="lies in the home"):
            datasets.create("x", place)
    with pytest.raises(InvalidInput, match="absolute"):
        datasets.create("x", "rows.jsonl")


def test_rows_without_ids_get_stable_ones_and_equal_rows_different_ones(
    datasets: DatasetService, tmp_path: Path
) -> None:
    path = write(tmp_path, "r.jsonl", lines({"input": "a"}, {"input": "b"}, {"input": "a"}, {"input": "a"}))
    first = [row.id for row in datasets.read(datasets.create("one", path).ref)]
    other = write(tmp_path, "s.jsonl", lines({"input": "b"}, {"input": "a", "lang": "x"}))
    assert first[2:] == [f"{first[0]}~2", f"{first[0]}~3"]
    assert {row.id for row in datasets.read(datasets.create("two", other).ref)} == set(first[:2])


def test_reading_a_large_file_holds_a_small_part_of_it(datasets: DatasetService, tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "large.jsonl"
    text = "many words of one row " * 2600
    with path.open("w") as file:
        for number in range(1_050):
            file.write(json.dumps({"id": f"q{number}", "input": text, "group": f"g{number // 5}"}) + "\n")
    assert path.stat().st_size > 55_000_000
    tracemalloc.start()
    made = datasets.create("large", path)
    n_read = sum(1 for _ in datasets.read(made.ref))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_read == made.facts.n_rows == 1_050
    assert peak < 25_000_000


def test_the_handbook_questions_are_a_data_set_of_their_own(datasets: DatasetService) -> None:
    made = datasets.create("handbook-questions", "handbook:questions")
    row = datasets.row(made.ref, "alcohol-1")
    assert isinstance(row, DatasetRow)
    assert (made.facts.n_rows > 300, made.facts.n_groups, row.group) == (True, 69, "alcohol.md")
    assert row.fields["relevant"] == ["alcohol.md"]
    assert row.fields["expected"] in row.fields["passages"][0]["text"]


def test_the_held_out_cases_come_with_the_sentences_their_answers_stand_among(
    datasets: DatasetService,
) -> None:
    made = datasets.create("handbook-cases", "handbook:cases")
    rows = list(datasets.read(made.ref))
    answerable = [row for row in rows if row.tags == ["answerable"]]
    assert (len(rows), len(answerable), made.facts.n_groups) == (96, 80, 16)
    assert all(row.fields["expected"] in row.fields["inputs"]["sentences"] for row in answerable)


def test_cases_for_tuning_hold_the_reply_that_is_wanted_and_share_no_article_with_those_that_prove_it(
    datasets: DatasetService,
) -> None:
    tuning = list(datasets.read(datasets.create("tuning", "handbook:tuning").ref))
    proof = list(datasets.read(datasets.create("proof", "handbook:held-out").ref))
    assert {row.split for row in tuning} == {"train", "dev"}
    assert {row.split for row in proof} == {"heldout"}
    parts = [{row.group for row in rows} for rows in (tuning, proof)]
    parts += [{row.group for row in tuning if row.split == split} for split in ("train", "dev")]
    assert not parts[0] & parts[1]
    assert not parts[2] & parts[3]
    said = [{text for row in rows for text in row.fields["inputs"]["sentences"]} for rows in (tuning, proof)]
    assert len(said[0] & said[1]) < 5  # a sentence or two stands in two articles
    for row in [*tuning, *proof]:
        sentences, expected = row.fields["inputs"]["sentences"], row.fields["expected"]
        assert 3 <= len(sentences) <= 14
        if row.tags == ["answerable"]:
            mark, _, answer = expected.partition(" ")
            assert sentences[int(mark[1:-1]) - 1] == answer
        else:
            assert expected == "I do not know from these passages."


def test_intake_stops_at_its_limit(tmp_path: Path, datasets: DatasetService) -> None:
    path = write(tmp_path, "r.jsonl", lines(*({"input": f"q{n}"} for n in range(10))))
    assert datasets.create("few", path, ReadOptions(limit=3)).facts.n_rows == 3
    assert isinstance(Intake(find_files(path, "r", None), ReadOptions(), "r").plan.columns, dict)


def test_a_small_parquet_of_large_rows_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT CASE WHEN i = 7 THEN repeat('b', 17000000) ELSE repeat('a', 4000000) END AS input"
            f" FROM range(100) AS t(i)) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
        )
    assert path.stat().st_size < 10_000
    tracemalloc.start()
    sizes = [len(read.value["input"]) if isinstance(read, RawRow) else read for read in read_file_of(path)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    problem = sizes.pop(7)
    assert isinstance(problem, RowProblem)
    assert (problem.place, problem.reason) == ("large:8", "row too large")
    assert sizes == [4_000_000] * 99
    assert peak < 80_000_000, "four rows at a time"


def test_parquet_of_every_kind_of_column_comes_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "kinds.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            """COPY (SELECT i AS "a""b'c", i > 9 AS flag, i::DECIMAL(10, 2) AS money, DATE '2024-01-02' AS day,
            [{'role': 'user', 'parts': [repeat('x', i), NULL]}, NULL] AS turns, MAP(['k'], [[i]]) AS held,
            CASE WHEN i = 3 THEN NULL ELSE {'name': 'Ada', 'n': NULL::INTEGER} END AS who, TIMESTAMP '2024-01-02' AS at
            FROM range(5000) AS t(i)) TO '"""
            f"{path}' (FORMAT parquet)"
        )
    rows = [read.value for read in read_file_of(path) if isinstance(read, RawRow)]
    assert [each["a\"b'c"] for each in rows] == list(range(5000))
    assert rows[2]["turns"] == [{"role": "user", "parts": ["xx", None]}, None]
    assert (rows[2]["who"], "who" in rows[3], rows[3]["held"]) == ({"name": "Ada"}, False, {"k": [3]})


@pytest.mark.parametrize("n_rows", [1, 3_000])
def test_a_bad_quote_within_a_line_costs_that_line_alone(
    datasets: DatasetService, tmp_path: Path, n_rows: int
) -> None:
    text = 'input,expected\n"a"x,1\n' + "".join(f"q{n},1\n" for n in range(n_rows))
    made = datasets.create("a", write(tmp_path, "t.csv", text), ReadOptions(skip_invalid=True))
    assert (made.facts.n_rows, made.facts.left_out) == (n_rows, {"not CSV": 1})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'input,expected\na,b\n"open,1\nc,d\ne,f\n'),
        ("t.csv", 'input,expected\na,b\n"open,1\nc,"d\ne,f\n'),
        ("t.json", '[{"input": "a"}, {"input": "b"},, {"input": "c"}]'),
        ("t.json", '[{"input": "a"}, {"input": "b"'),
    ],
)
def test_what_cannot_be_read_to_its_end_is_refused_whatever_may_be_skipped(
    datasets: DatasetService, tmp_path: Path, name: str, text: str
) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(InvalidRows, match="nothing after it could be read") as caught:
        datasets.create("a", path, ReadOptions(skip_invalid=True))
    assert "never the rest of a file" in str(caught.value.hint)
    assert check(datasets, path).left_out == {"the rest of the file could not be read": 1}


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (b"a" * 30_000_000, "row too large"),
        (b'"' + b"a" * 30_000_000, "the rest of the file could not be read"),
        (b'"' + (b"a" * 999 + b"\n") * 30_000, "the rest of the file could not be read"),
    ],
)
def test_a_table_row_without_an_end_is_never_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: bytes, reason: str
) -> None:
    monkeypatch.setattr("penstock.datasets.readers.tables.MAX_ROW_BYTES", 1_000_000)
    path = write(tmp_path, "t.csv", b"input,expected\nq,1\n" + second + b"\nlast,2\n")
    tracemalloc.start()
    read = list(read_table(path, "t.csv"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000_000
    assert [each.reason for each in read if isinstance(each, RowProblem)] == [reason]
    values = [each.value["input"] for each in read if isinstance(each, RawRow)]
    assert values == (["q", "last"] if reason == "row too large" else ["q"])
    header = write(tmp_path, "h.csv", b"a" * 30_000_000)
    with pytest.raises(UnreadableSource, match="header"):
        list(read_table(header, "h.csv"))


@pytest.mark.parametrize("place", ["/tmp/\x00", "/" + "a" * 5000, "~nosuchuser/x"])
def test_texts_that_can_be_no_path_are_refused(datasets: DatasetService, place: str) -> None:
    with pytest.raises(InvalidInput, match="is no path") as caught:
        datasets.create("a", place)
    assert len(str(caught.value)) < 1000
