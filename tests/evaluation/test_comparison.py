"""`compare`: same rows only, seeds as one system, Holm over categories."""

import csv
import doctest
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from revinst.errors import UserError
from revinst.evaluation import choice
from revinst.evaluation.choice import find_files
from revinst.evaluation.comparison import build_comparison_tables, compare_systems, note_disagreement, read_system
from tests.tiny import run_in_process


def write_rows(path: Path, values: np.ndarray, skip: int = 0, **changes: str | None) -> Path:
    rows = [
        {"id": f"r{n}", "category": "qa" if n % 2 else "poem", "reference": f"What is {n}?", "rougeL": value}
        | ({"group": f"g{n // 2}"})
        | changes
        for n, value in enumerate(values.tolist())
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[skip:]))
    return path


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).random(1000)


def compare(*paths: object) -> dict:
    return compare_systems([read_system(str(path)) for path in paths])


def test_identical_and_planted(values, tmp_path):
    a = write_rows(tmp_path / "a.jsonl", values)
    noise = np.random.default_rng(1).normal(0.05, 0.3, size=1000)
    b = write_rows(tmp_path / "b.jsonl", values + noise)
    result = compare(a, a, b)
    same, better = result["pairs"]
    assert result["n"] == 1000 and result["num_groups"] == 500 and result["against"] == str(a)
    assert same["p"] == same["p_holm"] == 1 and same["ties"] == 1000
    assert better["p_holm"] == pytest.approx(2 * better["p"]) and better["p_holm"] < 0.01 and better["ci95"][0] > 0
    parts = better["by_category"]
    assert sum(part["n"] for part in parts.values()) == 1000
    assert all(part["p_holm"] >= part["p"] for part in parts.values())
    assert max(part["p_holm"] for part in parts.values()) > min(part["p"] for part in parts.values())
    assert [table.row_count for table in build_comparison_tables(result)] == [3, 3, 3]
    assert same["note"] == better["note"] == ""


def test_other_rows_are_refused_by_name(values, tmp_path):
    a = write_rows(tmp_path / "a.jsonl", values[:9])
    fewer = write_rows(tmp_path / "b.jsonl", values[:9], skip=5)
    with pytest.raises(UserError, match=r"b.jsonl lacks 5 rows .*\(r0, r1, r2, \.\.\.\)"):
        compare(a, fewer)
    with pytest.raises(UserError, match=r"b.jsonl lacks 5 rows"):
        compare(fewer, a)
    other = write_rows(tmp_path / "c.jsonl", values[:9], reference="another")
    with pytest.raises(UserError, match="row r0 has another reference"):
        compare(a, other)


def test_seeds_are_one_system(values, tmp_path):
    seeds = [write_rows(tmp_path / f"{n}.jsonl", values + shift) for n, shift in enumerate((0.0, 0.1, 0.2))]
    result = compare(seeds[0], ",".join(map(str, seeds)))
    one, three = result["systems"]
    assert (
        one["sd"] is None and three["sd"] == pytest.approx(0.1) and three["mean"] == pytest.approx(values.mean() + 0.1)
    )
    assert result["pairs"][0]["difference"] == pytest.approx(0.1) and len(three["seeds"]) == 3
    assert three["name"] == str(tmp_path / "{0,1,2}.jsonl")


def test_names_of_seeds():
    assert doctest.testmod(choice).attempted == 2 and doctest.testmod(choice).failed == 0


def test_what_is_no_evaluation(values, tmp_path):
    with pytest.raises(UserError, match="revinst evaluate"):
        read_system(str(tmp_path))
    (tmp_path / "x.jsonl").write_text("[]\n")
    with pytest.raises(UserError, match=r"x.jsonl:1: no prediction row"):
        read_system(str(tmp_path / "x.jsonl"))
    (tmp_path / "x.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match=r"x.jsonl:1: no prediction row \('reference'\)"):
        read_system(str(tmp_path / "x.jsonl"))


@pytest.mark.parametrize("rank", [False, True])
def test_metric_that_no_row_of_a_seed_has(values, tmp_path, rank, recwarn):
    """One line names the system; nothing is sorted by NaN and numpy says nothing about empty means."""
    scored = write_rows(tmp_path / "a.jsonl", values[:9])
    empty = write_rows(tmp_path / "empty.jsonl", values[:9], rougeL=None)
    for paths in ((scored, empty), (empty, scored), (empty, empty), (scored, f"{scored},{empty}")):
        with pytest.raises(UserError, match=r"empty.jsonl: no row has a rougeL; .* --help") as caught:
            compare_systems([read_system(str(path)) for path in paths], rank=rank)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"a\.jsonl: no row has a bleu"):
        compare_systems([read_system(str(scored))] * 2, "bleu", rank=rank)
    with pytest.raises(UserError, match=r'--metric category: no score; .*a.jsonl has "poem" there'):
        compare_systems([read_system(str(scored))] * 2, "category", rank=rank)
    assert not recwarn.list


def test_rank_takes_the_rows_that_have_a_value(values, tmp_path):
    """A missing value counts for nothing, neither in the order nor in the pair; a path may hold a comma."""
    low = write_rows(tmp_path / "low.jsonl", values[:40] - 0.2)
    high = write_rows(tmp_path / "a,b.jsonl", values[:40])
    lines = high.read_text().splitlines(keepends=True)
    high.write_text(json.dumps(json.loads(lines[0]) | {"rougeL": None}) + "\n" + "".join(lines[1:]))
    result = compare_systems([read_system(str(low)), read_system(str(high))], rank=True)
    assert result["against"] == str(high) and result["n"] == 40 and result["pairs"][0]["n"] == 39
    assert result["pairs"][0]["difference"] == pytest.approx(-0.2)
    assert result["systems"][0]["mean"] == pytest.approx(values[1:40].mean())


def test_names_that_look_like_markup_are_shown_as_they_are(values, tmp_path):
    """Rich would take `[/b]` for the end of something that never began."""
    paths = [write_rows(tmp_path / f"{name}.jsonl", values[:9], category="[/b] mail") for name in ("[a]", "[b]")]
    console = Console(width=400, file=io.StringIO())
    console.print(*build_comparison_tables(compare(*paths), least=0))
    text = "".join(console.file.getvalue().split())  # a title is as wide as its table
    assert "[/b]mail" in text and f"{paths[1]}minus{paths[0]}" in text


def test_small_categories_are_left_out_unless_asked(values, tmp_path):
    paths = [write_rows(tmp_path / f"{name}.jsonl", values[:13] + shift) for name, shift in (("a", 0), ("b", 0.1))]
    result = compare(*paths)
    assert {part["n"] for part in result["pairs"][0]["by_category"].values()} == {6, 7}
    assert [build_comparison_tables(result, least)[1].row_count for least in (0, 7, 10)] == [3, 2, 1]
    assert "left out: 2 with fewer than 10 rows" in str(build_comparison_tables(result)[1].caption)


def test_interval_and_p_that_disagree():
    pair = {"system": "b", "ci95": [0.01, 0.2], "p_holm": 0.03}
    assert note_disagreement(pair, 1) == "" == note_disagreement(pair | {"ci95": [None, None]}, 1)
    assert note_disagreement(pair | {"ci95": [-0.1, 0.2], "p_holm": 0.4}, 1) == ""
    assert "leaves 0 out and p is not below 0.05" in note_disagreement(pair | {"p_holm": 0.06}, 1)
    said = note_disagreement(pair | {"ci95": [-0.01, 0.2]}, 3)
    assert "holds 0 and p is below 0.05" in said and "adjusted for 3 comparisons" in said


def write_run(folder: Path, values: np.ndarray, config: str, label: str = "", **settings: object) -> Path:
    evaluation = folder / "evaluation" / label
    evaluation.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(f"run_name: {folder.name}\n{config}")
    (folder / "manifest.json").write_text(json.dumps({"hardware": {"dtype": "bf16"}, "completed": True}))
    write_rows(evaluation / "predictions.jsonl", values, prediction=f"{folder.name} <b>wrote</b> this")
    (evaluation / "predictions.settings.json").write_text(json.dumps({"base": "x", "adapter": folder.name} | settings))
    return folder


def test_in_what_runs_differ(values, tmp_path):
    """Of configs, manifests and how they wrote; names of runs and hashes that say nothing to people are left aside."""
    a = write_run(tmp_path / "a", values[:12], "model: {lr: 0.001, base: x}\n", generation={"max_new_tokens": 100})
    b = write_run(tmp_path / "b", values[:12], "model: {lr: 0.01, base: y}\n", generation={"max_new_tokens": 20})
    (b / "manifest.json").write_text(json.dumps({"hardware": {"dtype": "fp32"}}))
    assert compare(a, b)["differences"] == {
        "model.lr": ["0.001", "0.01"],
        "model.base": ["x", "y"],
        "computed in": ["bf16", "fp32"],
        "generation.max_new_tokens": ["100", "20"],
    }
    assert compare(a, a)["differences"] == {}
    base, tuned, other = (
        write_run(tmp_path / name, values[:12], "model: {lr: 0.1}\n", adapter=adapter, lora=lora)
        for name, adapter, lora in (("base", None, None), ("tuned", "1f", {"r": 4}), ("other", "2e", {"r": 8}))
    )
    assert compare(base / "evaluation", tuned)["differences"] == {"adapter": ["none", "trained"]}
    assert compare(tuned, other)["differences"] == {}
    assert build_comparison_tables(compare(a, b))[0].row_count == 4
    for name in ("out.md", "out.html"):
        assert run_in_process("compare", a, b, "--output", tmp_path / name) == 0
    assert "model.lr: 0.001, 0.01." in (tmp_path / "out.md").read_text().splitlines()
    assert '<th scope="row">model.lr</th><td>0.001</td><td>0.01</td>' in (tmp_path / "out.html").read_text()


def test_the_only_evaluations_of_the_same_rows_are_taken(values, tmp_path, capsys):
    a = write_run(tmp_path / "a", values[:20], "model: {lr: 0.1}\n")
    write_run(tmp_path / "a", values[:12], "model: {lr: 0.1}\n", "few")
    b = write_run(tmp_path / "b", values[:12], "model: {lr: 0.2}\n", "other")
    files = find_files([str(a), str(b)])
    assert files == {a: a / "evaluation/few/predictions.jsonl", b: b / "evaluation/other/predictions.jsonl"}
    write_run(tmp_path / "a", values[:12], "model: {lr: 0.1}\n", "again")
    with pytest.raises(UserError, match="which evaluations to compare is not clear"):
        find_files([str(a), str(b)])
    assert run_in_process("compare", a) == 2
    said = capsys.readouterr().err
    assert "give two or more" in said and all(f"{a}/evaluation{name}" in said for name in ("", "/again", "/few"))


def test_written_for_a_reviewer(values, tmp_path, capsys):
    a, b = (write_run(tmp_path / name, values[:12] + shift, "x: 1\n") for name, shift in (("a&", 0), ("b", 0.1)))
    for name in ("out.md", "out.csv", "out.tex", "out.html"):
        assert run_in_process("compare", a, b, "--output", tmp_path / name) == 0
        assert "poem" not in (tmp_path / name).read_text(), "6 rows of it"
        assert run_in_process("compare", a, b, "--all_categories", "--output", tmp_path / name) == 0
    assert run_in_process("compare", a, b, "--output", tmp_path / "few.md") == 0
    assert "Left out: 2 categories with fewer than 10 rows." in (tmp_path / "few.md").read_text().splitlines()
    capsys.readouterr()
    table = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    assert [row["rows"] for row in table] == ["all", "poem", "qa"] and {row["n"] for row in table} == {"12", "6"}
    assert float(table[0]["difference"]) == pytest.approx(0.1, abs=1e-4) and table[0]["wins"] == "12"
    markdown = (tmp_path / "out.md").read_text().splitlines()
    assert "rougeL on 12 rows in 6 groups." in markdown and markdown[-1].count(" | ") == 10
    assert r"a\&" in (tmp_path / "out.tex").read_text() and "tabular" in (tmp_path / "out.tex").read_text()
    page = (tmp_path / "out.html").read_text()
    assert page.count("b \\u003cb\\u003ewrote") == 12 and "<b>wrote" not in page and page.count("</script>") == 2
    assert run_in_process("compare", a, b, "--output", tmp_path / "out.pdf") == 2
    assert "ends with .md, .csv, .tex, .html" in capsys.readouterr().err


def test_leads_with_the_rouge_that_reads_all_rows(values, tmp_path):
    paths = [write_rows(tmp_path / f"{name}.jsonl", values[:9] + shift) for name, shift in (("a", 0), ("b", 0.1))]
    for path in paths:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [row | {"rougeL_unicode": row["rougeL"]} | ({} if n else {"rougeL": None}) for n, row in enumerate(rows)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = compare(*paths)
    assert result["metric"] == "rougeL_unicode" and "in 1 of 9 rows" in result["why"] and result["pairs"][0]["n"] == 9
    console = Console(width=80, file=io.StringIO())
    console.print(build_comparison_tables(result)[0])
    assert "1 of 9 rows" in " ".join(console.file.getvalue().split())
    asked = compare_systems([read_system(str(path)) for path in paths], "rougeL")
    assert asked["metric"] == "rougeL" and asked["pairs"][0]["n"] == 8


def test_a_page_of_rows_without_predictions(values, tmp_path):
    """As other tools' files of scores are, or one where a system wrote nothing."""
    a = write_rows(tmp_path / "a.jsonl", values[:12])
    b = write_rows(tmp_path / "b.jsonl", values[:12], prediction=None)
    assert run_in_process("compare", a, b, "--output", tmp_path / "page.html") == 0
    assert "What is 11?" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("field", ["id", "category", "prediction"])
def test_a_row_that_is_no_valid_unicode_is_named(values, tmp_path, capsys, field):
    a = write_rows(tmp_path / "a.jsonl", values[:1])
    b = write_rows(tmp_path / "b.jsonl", values[:1], **{field: "a\ud800"})
    assert run_in_process("compare", a, b, "--output", tmp_path / "page.html") == 2
    assert f"{b}:1: no prediction row" in capsys.readouterr().err
