"""Property 8: no group of near-duplicates straddles the split, and a random split on the same rows does leak."""

# other scripts are meant
import itertools
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from revinst.data.audit import audit_random_split, audit_split, count_moved
from revinst.data.example_table import build_examples, load_examples
from revinst.data.examples import Example
from revinst.data.overlap import ROUNDS, find_nearest_texts, near_duplicates
from revinst.data.split import Split, group_duplicates, select_examples, split_examples
from revinst.data.words import normalise
from revinst.errors import UserError

PARTS = ("train", "val", "heldout")


def write_words(seed: str, count: int) -> str:
    """Words that are no near-duplicate of any others."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(count))


def build_rows(count: int, category: str = "") -> list[Example]:
    return [
        Example(f"{category}{n}", write_words(f"q{category}{n}", 5), "", write_words(f"a{category}{n}", 8), category)
        for n in range(count)
    ]


def plant_duplicates() -> tuple[list[Example], list[list[str]]]:
    """400 rows, and the groups of ids that must stay together: 20 of each way to be a duplicate."""
    rows, groups = build_rows(300), []
    for n in range(0, 100, 5):
        exact, case, response, context, chained = rows[n : n + 5]
        rows[n + 3] = context = replace(context, context=write_words(f"context {n}", 9))
        copies = [
            replace(exact, id=f"exact{n}"),
            replace(
                case, id=f"case{n}", instruction=f"  {case.instruction.upper()}?", response=write_words(f"else {n}", 8)
            ),
            replace(response, id=f"response{n}", instruction=write_words(f"other words {n}", 5)),
            replace(
                context,
                id=f"context{n}",
                instruction=write_words(f"about {n}", 5),
                response=write_words(f"reply {n}", 8),
            ),
        ]
        # a chain: the first shares its instruction, the second only the first one's response
        chain = [
            replace(chained, id=f"chain{n}", response=write_words(f"chain {n}", 8)),
            Example(f"end{n}", write_words(f"end {n}", 5), "", write_words(f"chain {n}", 8).upper(), ""),
        ]
        rows += [*copies, *chain]
        groups += [[row.id, copy.id] for row, copy in zip((exact, case, response, context), copies, strict=True)]
        groups.append([chained.id, *(row.id for row in chain)])
    return rows, groups


def part_of(split: Split) -> dict[str, str]:
    return {example_id: part for part in PARTS for example_id in getattr(split, part)}


def split_at_random(examples: list[Example], heldout_fraction: float, seed: int) -> set[str]:
    ids = [example.id for example in examples]
    return set(random.Random(seed).sample(ids, round(heldout_fraction * len(ids))))


def count_straddling(examples: list[Example], heldout: set[str]) -> int:
    groups = [{examples[row].id for row in group} for group in group_duplicates(examples)]
    return sum(bool(group & heldout) and bool(group - heldout) for group in groups)


@pytest.mark.parametrize("seed", range(5))
def test_no_planted_group_straddles_but_a_random_split_leaks(seed):
    examples, groups = plant_duplicates()
    part = part_of(split_examples(examples, 0.2, 0.1, seed))
    parts = [{part[example_id] for example_id in group} for group in groups]
    assert len(groups) == 100 and all(len(found) == 1 for found in parts)
    assert len(set().union(*parts)) == 3  # they are not simply all in train
    leaked = split_at_random(examples, 0.2, seed)
    assert sum(0 < len(leaked & set(group)) < len(group) for group in groups) > 10


def test_no_group_of_real_rows_straddles_but_a_random_split_leaks(dolly):
    examples, _ = load_examples(dolly)
    assert sum(len(group) > 1 for group in group_duplicates(examples)) > 50
    split = split_examples(examples, 0.1, 0.05, seed=42)
    assert count_straddling(examples, set(split.heldout)) == count_straddling(examples, set(split.val)) == 0
    assert count_straddling(examples, split_at_random(examples, 0.1, seed=42)) > 5
    assert len(split.heldout) == pytest.approx(598, abs=1)
    assert len(split.val) == pytest.approx(299, abs=1)


def test_near_duplicates_of_scripts_without_spaces_and_of_one_word():
    """A long text with another character in it belongs to the first; a label that all rows share joins none."""
    texts = {
        "zh": "先把洋葱慢慢炒香再加入胡萝卜孜然和红扁豆最后倒入一点醋即可",
        "ja": "玉ねぎをゆっくり炒めてからにんじんとクミンと赤レンズ豆を加え最後に酢を少し入れます",
        "th": "ผัดหัวหอมช้าๆแล้วใส่แครอทยี่หร่าและถั่วเลนทิลแดงสุดท้ายเติมน้ำส้มสายชูเล็กน้อย",
    }
    rows = []
    for name, text in texts.items():
        rows += [
            Example(name, f"{name}?", "", text, ""),
            Example(f"{name}2", f"{name[::-1]}?", "", f"{text[:12]}我{text[13:]}", ""),
        ]
    groups = [{rows[row].id for row in group} for group in group_duplicates(rows)]
    assert sorted(map(sorted, groups)) == [[name, f"{name}2"] for name in sorted(texts)]
    for label in ("ポジティブ", "积极的情绪", "เชิงบวกมาก", "긍정적이다"):
        labelled = [replace(row, response=label) for row in build_rows(20)]
        assert len(group_duplicates(labelled)) == 20, label


def test_groups_are_those_planted_and_no_more():
    examples, groups = plant_duplicates()
    found = [{examples[row].id for row in group} for group in group_duplicates(examples)]
    assert sorted(sorted(group) for group in found if len(group) > 1) == sorted(sorted(group) for group in groups)
    assert sum(map(len, found)) == len(examples)


def test_unrelated_rows_may_share_a_short_response_and_an_empty_context():
    rows = [replace(row, response="Yes, it is") for row in build_rows(20)]
    assert len(group_duplicates(rows)) == 20
    assert len(group_duplicates([replace(row, response="Yes, it certainly is") for row in rows])) == 1


@pytest.mark.parametrize(
    "contexts",
    [
        ["N/A", "NaN", "<noinput>", "none", "-", "n.a.", "No context provided."],
        ["keine Angabe", "Aucun contexte.", "无", "нет"],
        ["see above"],  # a label, in more rows than a short response may be
        ["Imechukuliwa kutoka kwenye orodha ya maswali yetu"],  # nobody listed it, but most rows have it
    ],
    ids=lambda contexts: contexts[0],
)
def test_a_placeholder_or_what_most_rows_have_as_a_context_joins_nothing(contexts):
    rows = [replace(row, context=contexts[n % len(contexts)]) for n, row in enumerate(build_rows(60))]
    rows[50:] = [replace(row, context=f"One text that two rows are about, {n // 2}") for n, row in enumerate(rows[50:])]
    split = split_examples(rows, 0.3, 0.05, seed=42)
    assert (len(split.heldout), len(split.val), len(split.train)) == (18, 3, 39)
    assert len(split.groups) == 5 and all(len(group) == 2 for group in split.groups)


def test_a_short_context_that_few_rows_share_still_joins_them():
    rows = build_rows(40)
    rows[:10] = [replace(row, context="The Danube") for row in rows[:10]]
    assert sorted(map(len, group_duplicates(rows)))[-1] == 10
    rows[10] = replace(rows[10], context="The Danube")
    assert sorted(map(len, group_duplicates(rows)))[-1] == 1


def test_a_long_context_joins_however_many_share_it():
    rows = [replace(row, context=write_words("passage", 20)) for row in build_rows(40)]
    assert len(group_duplicates(rows)) == 1


def test_a_placeholder_as_instruction_joins_nothing():
    assert len(group_duplicates([replace(row, instruction="N/A") for row in build_rows(20)])) == 20


def test_the_split_of_rows_without_placeholders_is_what_it_was(dolly):
    """Recorded before there was a word about placeholders."""
    for source, expected in {"quickstart": "aaf673fb2b39bfe0", dolly: "91293ce1bd43c258"}.items():
        examples, _ = load_examples(source)
        assert split_examples(examples, 0.1, 0.05, seed=42).hash == expected


def test_every_row_is_in_exactly_one_part():
    examples, _ = plant_duplicates()
    split = split_examples(examples, 0.2, 0.1, seed=0)
    ids = Counter([*split.train, *split.val, *split.heldout])
    assert ids == Counter(example.id for example in examples)
    assert min(len(split.train), len(split.val), len(split.heldout)) > 30


def test_fractions_hold_in_every_category():
    examples = [row for count, category in [(100, "a"), (200, "b"), (50, "c")] for row in build_rows(count, category)]
    split = split_examples(examples, 0.1, 0.06, seed=1)
    category = {example.id: example.category for example in examples}
    assert Counter(category[example_id] for example_id in split.heldout) == {"a": 10, "b": 20, "c": 5}
    assert Counter(category[example_id] for example_id in split.val) == {"a": 6, "b": 12, "c": 3}


def test_fractions_hold_over_many_small_categories():
    """A tenth of 3 rows is no row, but a tenth of 100 such categories is 30."""
    examples = [row for n in range(100) for row in build_rows(3, f"category {n} ")]
    split = split_examples(examples, 0.1, 0.05, seed=1)
    assert len(split.heldout) == pytest.approx(30, abs=1)
    assert len(split.val) == pytest.approx(15, abs=1)


def test_a_group_larger_than_a_part_goes_to_train():
    rows = build_rows(100)
    rows[:30] = [replace(row, context="One text that 30 rows are about") for row in rows[:30]]
    for seed in range(20):
        split = split_examples(rows, 0.1, 0.1, seed)
        assert (len(split.heldout), len(split.val), len(split.train)) == (10, 10, 80)
        assert {row.id for row in rows[:30]} <= set(split.train)


def test_a_fraction_of_zero_is_an_empty_part():
    split = split_examples(build_rows(50), 0.0, 0.1, seed=0)
    assert (len(split.heldout), len(split.val), len(split.train)) == (0, 5, 45)


def test_the_split_does_not_depend_on_the_order_of_rows():
    examples, _ = plant_duplicates()
    split = split_examples(examples, 0.2, 0.1, seed=3)
    for seed in range(3):
        shuffled = random.Random(seed).sample(examples, len(examples))
        assert shuffled != examples
        again = split_examples(shuffled, 0.2, 0.1, seed=3)
        assert again == split and again.hash == split.hash


def test_the_split_changes_with_the_seed():
    examples, _ = plant_duplicates()
    splits = [split_examples(examples, 0.2, 0.1, seed) for seed in range(5)]
    assert len({split.hash for split in splits}) == 5
    common = set.intersection(*(set(split.heldout) for split in splits))
    assert len(common) < 10 < len(splits[0].heldout)


def test_a_new_row_moves_few_others():
    """The order comes from hashes of ids, so a grown file keeps nearly all rows where they were."""
    before = part_of(split_examples(build_rows(1000), 0.1, 0.05, seed=0))
    after = part_of(split_examples(build_rows(1010), 0.1, 0.05, seed=0))
    moved = [example_id for example_id, part in before.items() if after[example_id] != part]
    assert len(moved) <= 10 and len(before) == 1000
    assert len(set(before.values())) == 3


@pytest.mark.parametrize("fractions", [(0.6, 0.4), (1.0, 0.0), (-0.1, 0.2), (0.2, -0.1), (float("nan"), 0.1)])
def test_fractions_that_leave_no_training_rows_are_refused(fractions):
    with pytest.raises(UserError, match=r"data.heldout_fraction .* must leave rows to train on"):
        split_examples(build_rows(50), *fractions, seed=0)


def test_too_few_rows_are_refused():
    with pytest.raises(UserError, match="1 rows are too few to split"):
        split_examples(build_rows(1), 0.9, 0.0, seed=0)


def test_select_examples_keeps_the_order_asked_for():
    examples = build_rows(5)
    assert [example.id for example in select_examples(build_examples(examples), ["3", "0", "4"])] == ["3", "0", "4"]
    with pytest.raises(UserError, match=r"2 of 3 rows .* the first is 77; the source changed"):
        select_examples(build_examples(examples), ["3", "77", "78"])


# ---- near-duplicates -------------------------------------------------------------------------------------------------


def jaccard(a: str, b: str) -> float:
    """The textbook: sets of 5-character strings."""
    sets = [{text[n : n + 5] for n in range(max(len(text) - 4, 1))} for text in map(normalise, (a, b))]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_one_changed_word_is_a_near_duplicate_and_none_crosses():
    rows, pairs = build_rows(300), []
    for n in range(0, 300, 6):
        words = rows[n].response.split()
        changed = replace(
            rows[n], id=f"changed{n}", instruction=write_words(f"i{n}", 5), response=" ".join([*words[:-1], "zz"])
        )
        rows.append(changed)
        if jaccard(rows[n].response, changed.response) >= 0.7:
            pairs.append({rows[n].id, changed.id})
    groups = [{rows[row].id for row in group} for group in group_duplicates(rows) if len(group) > 1]
    assert sorted(map(sorted, groups)) == sorted(map(sorted, pairs)) and len(pairs) > 25
    for seed in range(5):
        parts = part_of(split_examples(rows, 0.2, 0.1, seed))
        assert all(len({parts[example_id] for example_id in pair}) == 1 for pair in pairs)


def test_pairs_and_nearest_rows_are_those_of_brute_force():
    draw = random.Random(0)
    texts = [write_words(f"t{n}", 6) for n in range(60)]
    for _ in range(240):
        letters = list(draw.choice(texts))
        for _ in range(draw.randint(1, 4)):
            letters[draw.randrange(len(letters))] = draw.choice("abcdefghij ")
        texts.append(normalise("".join(letters)))
    texts = sorted({text for text in texts if text})
    table = np.array([[jaccard(a, b) for b in texts] for a in texts])
    expected = {(i, j) for i, j in itertools.combinations(range(len(texts)), 2) if table[i, j] >= 0.7}
    pairs = Counter(tuple(sorted(pair)) for pair in near_duplicates(texts))
    assert set(pairs) == expected and len(expected) > 50 and max(pairs.values()) <= ROUNDS
    index, similarity = find_nearest_texts(texts[:40], texts[40:])
    assert similarity.tolist() == pytest.approx(table[:40, 40:].max(axis=1).tolist())
    rows = [row for row in range(40) if index[row] >= 0]
    assert [table[row, 40 + index[row]] for row in rows] == pytest.approx(similarity[rows].tolist()) and len(rows) > 10


def test_real_rows_a_random_split_leaks_and_ours_does_not(dolly):
    """Property 8 on Dolly, checked without the code that made the split."""
    examples, _ = load_examples(dolly)
    split = split_examples(examples, 0.1, 0.05, seed=42)
    audit, at_random = audit_split(examples, split), audit_random_split(examples, split, seed=42)
    assert len(audit.ids) == len(split.heldout) == 598
    assert audit.max_similarity < 0.7 and audit.leaked == 0 and at_random.leaked > 10
    worst = int(audit.similarity.argmax())
    a, b = select_examples(examples, split.heldout)[worst], select_examples(examples, split.train)[audit.nearest[worst]]
    largest = max(jaccard(a.instruction, b.instruction), jaccard(a.response, b.response))
    assert largest == pytest.approx(audit.max_similarity)
    assert 0 < count_moved(examples, split, seed=42) < 200
