"""`revinst inspect`: counts that add up, a split that does not leak, and what a person sees of the rows."""

import json
import random

import pytest
import yaml

from revinst import cli
from revinst.config.settings import DataSettings
from revinst.data.datamodule import InstructionDataModule
from revinst.data.packed_text import render_row

WORDS = [f"{a}{b}" for a in ("bar", "cel", "dor", "fin", "gul", "hem") for b in ("ova", "ist", "umbe", "ender", "ack")]
COUNTS = ["examples", "groups", "train", "val", "heldout", "dropped", "leaked_in_random_split", "rows", "targets"]
KEYS = [*COUNTS, "truncated", "max_similarity", "fill_pct"]
BAD_LINES = ['{"instruction": "x", "response":', '{"instruction": 7, "response": "y"}', '{"instruction": "caf\xe9"}']


def write_planted(path) -> int:
    """300 rows, 60 pairs that belong together (20 of each kind), 3 bad lines; returns the number of lines."""
    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(draw.choices(WORDS, k=count))

    rows = [
        {"instruction": words(9), "context": "", "response": words(20), "category": f"c{n % 3}"} for n in range(300)
    ]
    for n in range(20):
        same, changed, passage = rows[3 * n : 3 * n + 3]
        passage["context"] = words(15)
        rows.append({**same, "instruction": same["instruction"].upper() + "?", "response": words(20)})
        rows.append({**changed, "instruction": words(9), "response": changed["response"] + " more"})
        rows.append({**passage, "instruction": words(9), "response": words(20)})
    lines = [json.dumps(row).encode() for row in rows] + [line.encode("latin-1") for line in BAD_LINES]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return len(lines)


@pytest.fixture
def config(tmp_path, base) -> str:
    (tmp_path / "[red]").mkdir()
    data = {"source": str(tmp_path / "[red]" / "rows.jsonl"), "seq_len": 256, "on_bad_row": "skip"}
    content = {"data": data | {"heldout_fraction": 0.2, "val_fraction": 0.1}, "model": {"base": base}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    return str(tmp_path / "config.yaml")


def inspect(*args: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["inspect", *args])
    assert stopped.value.code == 0


def test_json_of_planted_rows(config, tmp_path, capsys):
    num_lines = write_planted(tmp_path / "[red]" / "rows.jsonl")
    inspect(config, "--json")
    summary = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= set(summary) and all(isinstance(summary[key], int | float) for key in KEYS)
    assert summary["examples"] == num_lines == 363 and summary["groups"] == 300
    assert (summary["train"], summary["val"], summary["heldout"], summary["dropped"]) == (252, 36, 72, 3)
    assert sum(summary["dropped_by_reason"].values()) == 3
    assert any(reason.startswith("not UTF-8 (byte N)") for reason in summary["dropped_by_reason"])
    assert summary["max_similarity"] < 0.7 and summary["leaked"] == 0
    assert summary["leaked_in_random_split"] > 2 and summary["moved_by_grouping"] > 10
    assert summary["documents_per_row"] * summary["rows"] == pytest.approx(252, abs=0.5)
    tokens = summary["tokens_per_step"] * summary["steps_per_epoch"]
    assert tokens == pytest.approx(summary["fill_pct"] / 100 * summary["rows"] * 256, rel=0.01)


def test_what_a_person_sees_in_a_narrow_terminal(config, tmp_path, capsys, monkeypatch):
    write_planted(tmp_path / "[red]" / "rows.jsonl")
    monkeypatch.setenv("COLUMNS", "50")
    inspect(config)
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 50
    assert "[red]/rows.jsonl" in text.replace("\n", "").replace(" ", "")  # the name of a file is no markup
    assert text.count("c0: 120") == text.count("a formatted sample") == 1
    assert all(f"row {number}:" in text for number in range(3)) and "row 3:" not in text
    assert "dropped: 1: not UTF-8 (byte N)" in text
    assert "tokenizer: gigatoken, checked" in text and "packing: best_fit, documents are whole" in text


def test_texts_do_not_command_the_terminal(config, tmp_path, capsys):
    row = {"instruction": "Clear \x1b[2J it.", "response": "Done\x1b]0;title\x07 now.", "category": "a\x1b[31m\x9b1m"}
    (tmp_path / "[red]" / "rows.jsonl").write_text(json.dumps(row))
    inspect(config, "--data.heldout_fraction", "0", "--data.val_fraction", "0")
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x07", "\x9b"} and out.count("Clear \u241b[2J it.") == 2 and "a\u241b[31m" in out


def test_colours_show_documents_and_what_is_supervised(base):
    data = InstructionDataModule(DataSettings(source="quickstart", seq_len=512), base)
    data.setup()
    row = next(row for row, numbers in enumerate(data.train_rows) if len(numbers) > 5)
    text, documents = render_row(data, row), data.train_documents
    pieces = [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]
    reverse = [piece for piece, style in pieces if "reverse" in style]
    examples = {example.id: example for example in data.examples_of("train")}
    shown = [examples[documents.ids[number]] for number in data.train_rows[row]]
    assert "".join(reverse) == "".join(f"{example.instruction}<|im_end|>" for example in shown)
    plain = [piece for piece, style in pieces if "reverse" not in style]
    assert len(plain) == len(shown) and all(e.response in piece for e, piece in zip(shown, plain, strict=True))
    assert len({style.split()[0] for _, style in pieces}) == 5
