"""`score`: predictions of any system become a folder that `compare` takes; nothing of a model is loaded."""

# ruff: noqa: RUF001  # other scripts are meant
import json
import subprocess
import sys
from pathlib import Path

import pytest

from revinst.commands.compare import main as compare
from revinst.commands.score import main as score
from revinst.data.example_table import load_examples
from revinst.errors import UserError

TORCHLESS = "import sys; from revinst.commands.score import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def rows() -> list[dict]:
    """Quickstart's first 40; predicted is the reference without its last word, in every fourth row something else."""
    examples = list(load_examples("quickstart")[0][:40])
    return [
        {
            "response": each.response,
            "reference": each.instruction,
            "prediction": "Name three rivers." if n % 4 == 0 else each.instruction.rsplit(" ", 1)[0],
            "category": "long" if len(each.response) > 200 else "short",
            "id": f"row-{n}",
        }
        for n, each in enumerate(examples)
    ]


def test_scores_a_file_without_pytorch(rows, tmp_path):
    path = write_lines(tmp_path / "theirs.jsonl", rows)
    command = [sys.executable, "-c", TORCHLESS, str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    scores, folder = json.loads(done.stdout), tmp_path / "theirs-scores"
    assert scores == json.loads((folder / "scores.json").read_text())
    assert scores["n"] == 40 and 0.5 < scores["metrics"]["rougeL"]["mean"] < 0.9
    assert set(scores["baselines"]) == {
        "random_instruction",
        "best_constant",
        "lead_words",
        "what_is",
        "nearest_response",
    }
    assert set(scores["by_category"]) == {"long", "short"} and scores["gains"]["what_is"]["rougeL"]["p"] < 0.01
    written = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [row["id"] for row in written] == [row["id"] for row in rows] and written[0]["rougeL"] < written[1]["rougeL"]
    assert "theirs.jsonl" in (folder / "report.html").read_text()


def test_compares_two_systems_and_takes_baselines_from_training_rows(rows, tmp_path, capsys):
    train = write_lines(
        tmp_path / "train.jsonl", [{"instruction": f"Where is {n}?", "response": f"It is at {n}."} for n in range(30)]
    )
    renamed = [
        {{"prediction": "out", "reference": "gold"}.get(name, name): text for name, text in row.items()} for row in rows
    ]
    theirs = write_lines(tmp_path / "theirs.jsonl", renamed)
    ours = write_lines(tmp_path / "ours.jsonl", [row | {"prediction": row["reference"]} for row in rows])
    columns = ["--columns", "{prediction: out, reference: gold}"]
    assert score([str(theirs), *columns, "--train", str(train), "--output", str(tmp_path / "a")]) == 0
    assert score([str(ours), "--output", str(tmp_path / "b")]) == 0
    found = json.loads((tmp_path / "a" / "predictions.jsonl").read_text().splitlines()[0])
    assert found["max_similarity"] is not None
    capsys.readouterr()
    assert compare([str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["n"] == 40 and pair["wins"] == 40 and pair["ci95"][0] > 0


def test_says_where_googles_rouge_is_blind(rows, tmp_path, capsys):
    chinese = {"response": "彗星是冰和尘埃的球体。", "reference": "什么是彗星？", "prediction": "彗星是什么？"}
    assert score([str(write_lines(tmp_path / "mixed.jsonl", [*rows[:5], chinese]))]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "predictions" in shown and "in 1 of 6 rows" in shown and "rougeL_unicode" in shown
    metrics = json.loads((tmp_path / "mixed-scores" / "scores.json").read_text())["metrics"]
    assert metrics["rougeL"]["n"] == 5 and metrics["rougeL_unicode"]["n"] == 6


def test_other_rows_never_replace_scores(rows, tmp_path):
    path = write_lines(tmp_path / "theirs.jsonl", rows)
    score([str(path)])
    before = (tmp_path / "theirs-scores" / "predictions.jsonl").read_text()
    score([str(path)])
    write_lines(path, rows[:20])
    with pytest.raises(UserError, match="made with another rows; choose another --output"):
        score([str(path)])
    assert (tmp_path / "theirs-scores" / "predictions.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prediction": 3}, r":2: 'prediction' must be text, is int"),
        ({"reference": ""}, r":2: 'reference' is empty"),
        ({"id": "row-0"}, r":2: a second row with the id row-0"),
        ({"prediction": "a\u0000b"}, r":2: 'prediction' holds a NUL byte"),
    ],
)
def test_mistakes_are_named(rows, tmp_path, change, named):
    path = write_lines(tmp_path / "theirs.jsonl", [rows[0], rows[1] | change])
    with pytest.raises(UserError, match=named):
        score([str(path)])
    assert not (tmp_path / "theirs-scores").exists()


def test_columns_and_files_that_are_not_there(rows, tmp_path):
    path = write_lines(tmp_path / "theirs.jsonl", [rows[0]])
    for wrong, named in (
        ("{gold: x}", "unknown field 'gold'"),
        ("x", "give {FIELD"),
        ("{prediction: y}", "no column 'y'"),
    ):
        with pytest.raises(UserError, match=named):
            score([str(path), "--columns", wrong])
    with pytest.raises(UserError, match="one row is too few"):
        score([str(path)])
    with pytest.raises(UserError, match="no such file"):
        score([str(tmp_path / "none.jsonl")])
