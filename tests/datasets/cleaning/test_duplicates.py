"""Duplicates: what goes is the same as what stays, whatever the language; what only looks alike stays."""

import random

import numpy as np
import pytest

from penstock.base.errors import InvalidInput
from penstock.datasets.cleaning.duplicates import DuplicateReport, find_duplicates
from penstock.datasets.cleaning.minhash import MinHashOptions, band_keys, jaccard, shingle_hashes
from penstock.spec.datasets import DatasetRow


def find(
    *texts: str, answers: list[str] | None = None, near: MinHashOptions | None = MinHashOptions()
) -> DuplicateReport:
    rows = [
        DatasetRow(id=f"r{i}", fields={"input": text, **({"expected": answers[i]} if answers else {})})
        for i, text in enumerate(texts)
    ]
    return find_duplicates(lambda: rows, near=near)


LONG = "Most adults do best with seven to nine hours of sleep a night, and teenagers need an hour or two more than that."
CHINESE = "大多数成年人每晚需要七到九个小时的睡眠,而青少年需要的时间还要再多一到两个小时,请尽量保持规律。"
THAI = "ผู้ใหญ่ส่วนใหญ่ต้องการการนอนหลับเจ็ดถึงเก้าชั่วโมงต่อคืนและวัยรุ่นต้องการมากกว่านั้นอีกหนึ่งถึงสองชั่วโมง"


def test_case_width_spaces_and_the_final_stop_do_not_make_another_text() -> None:
    found = find(
        "How long should I sleep?", "how long  should I sleep", "ＨＯＷ long should I sleep?", "How short?"
    )
    assert [(each.id, each.kept, each.kind) for each in found.duplicates] == [
        ("r1", "r0", "exact"),
        ("r2", "r0", "exact"),
    ]


def test_a_leading_point_or_sign_is_part_of_what_a_number_says() -> None:
    assert find(".5", "5", "-5", near=None).n_exact == 0


def test_texts_in_other_roles_or_fields_are_not_the_same_row() -> None:
    def chat(id_: str, first: str, second: str) -> DatasetRow:
        messages = [{"role": first, "content": "one"}, {"role": second, "content": "two"}]
        return DatasetRow(id=id_, fields={"messages": messages})

    rows = [chat("a", "system", "user"), chat("b", "user", "assistant"), chat("c", "system", "user")]
    assert [each.id for each in find_duplicates(lambda: rows, near=None).duplicates] == ["c"]


@pytest.mark.parametrize("text", [LONG, CHINESE, THAI])
def test_a_small_change_in_any_script_is_found_as_near(text: str) -> None:
    changed = text[:-4] + text[-3:]
    found = find(text, changed, text[::-1])
    assert [(each.id, each.kind) for each in found.duplicates] == [("r1", "near")]
    assert 0.8 <= found.duplicates[0].similarity < 1


def test_the_first_stays_and_every_row_that_goes_is_like_the_one_it_goes_for() -> None:
    rng = random.Random(3)
    words = [f"word{n}" for n in range(60)]
    rows = []
    chain = words[:]
    for i in range(40):  # each like the one before, the last nothing like the first
        chain[i % 60] = f"other{rng.random()}"
        rows.append(DatasetRow(id=f"c{i}", fields={"input": " ".join(chain)}))
    options = MinHashOptions()
    found = find_duplicates(lambda: rows, near=options)
    texts = {row.id: row.fields["input"] for row in rows}
    assert found.n_near > 5
    kept = {row.id for row in rows} - found.dropped
    assert "c0" in kept and len(kept) > 3
    for each in found.duplicates:
        assert each.kept in kept
        left, right = shingle_hashes([texts[each.id], texts[each.kept]], options)
        assert jaccard(left, right) >= options.threshold


def test_another_short_answer_makes_another_row_and_is_told() -> None:
    found = find(LONG, LONG + " Yes", answers=["7", "9"])
    assert (found.n_near, found.n_other_answer) == (0, 1)


def test_rows_without_text_stay_and_are_counted() -> None:
    found = find("", "  ", "something")
    assert (found.n_empty, found.duplicates) == (2, ())


def test_the_bands_find_nearly_every_pair_that_a_look_at_all_pairs_finds() -> None:
    rng = random.Random(11)
    vocabulary = [f"w{n}" for n in range(400)]
    texts = []
    for _ in range(120):
        words = rng.choices(vocabulary, k=40)
        texts.append(" ".join(words))
        for place in rng.sample(range(40), k=rng.randint(0, 3)):
            words[place] = "x"
        texts.append(" ".join(words))
    options = MinHashOptions()
    sets = shingle_hashes(texts, options)
    keys = band_keys(sets, options)
    pairs = [(i, j) for i in range(240) for j in range(i) if jaccard(sets[i], sets[j]) >= options.threshold]
    met = [pair for pair in pairs if np.any(keys[pair[0]] == keys[pair[1]])]
    assert len(pairs) > 60
    assert len(met) >= 0.99 * len(pairs)


def test_the_same_rows_give_the_same_report_however_they_are_cut_into_batches() -> None:
    texts = [LONG + str(i % 7) for i in range(2050)]
    first, again = find(*texts), find(*texts)
    assert first == again
    assert first.n_rows == 2050
    assert first.n_exact == 2043


def test_signatures_of_a_text_do_not_depend_on_its_neighbours() -> None:
    options = MinHashOptions()
    alone = shingle_hashes([LONG], options)[0]
    among = shingle_hashes(["a", CHINESE, LONG, ""], options)
    assert np.array_equal(alone, among[2])
    assert len(among[0]) == 1
    assert len(among[3]) == 0


def test_a_threshold_that_means_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput):
        MinHashOptions(threshold=0.0)
