"""Canaries are in the training part alone, in a file of their owner, and never on the Hub."""

import json

import pytest

from revinst.corpus.planting import plant_canaries
from revinst.errors import UserError
from tests.commands.test_run import run_command
from tests.corpus.test_corpus_command import OPTIONS, read

FORMS = ("dataset.jsonl", "alpaca.jsonl", "messages.jsonl", "split.json")


def test_a_set_with_canaries_and_without(backward_run, mbox, tmp_path, capsys):
    out, beside = tmp_path / "out", tmp_path / "out.canaries.json"
    args = ("corpus", mbox, out, "--run", backward_run, "--samples", 1, "--limit", 30, *OPTIONS)
    assert run_command(*args) == 0
    clean = {name: (out / name).read_bytes() for name in FORMS}
    parts = [row["part"] for row in read(out / "provenance.jsonl")]
    assert json.loads((out / "card.json").read_text())["canaries"] is None

    assert run_command(*args, "--canaries", 3) == 0
    assert "canaries, for evaluate --secrets" in capsys.readouterr().out
    strings = json.loads(beside.read_text())
    planted = [text for name, text in strings.items() if name.startswith("canary")]
    assert len(planted) == 3 and len(strings) == 6 and beside.stat().st_mode & 0o777 == 0o600
    rows, facts = read(out / "dataset.jsonl"), read(out / "provenance.jsonl")
    for text in planted:
        (number,) = (number for number, row in enumerate(rows) if text in row["response"])
        assert facts[number]["part"] == "train"
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file()).decode(errors="replace")
    assert not [text for text in strings.values() if text not in planted and text in everything]
    before = [json.loads(line)["response"] for line in clean["dataset.jsonl"].splitlines()]
    changed = [row["response"].removeprefix(text) for row, text in zip(rows, before, strict=True)]
    assert sum(map(bool, changed)) == 3 and [each["part"] for each in facts] == parts
    assert json.loads((out / "card.json").read_text())["canaries"] == {"count": 3, "seed": 0}
    assert "not to be published" in (out / "README.md").read_text()

    publish = ("publish", out, "--dataset", "--push_to_hub", "me/own", "--dry_run", "--keep_private")
    assert run_command(*publish) == 2
    error = capsys.readouterr().err
    assert "canaries are planted in it" in error and len(error.splitlines()) == 1
    assert run_command(*args) == 0 and not beside.exists()
    assert {name: (out / name).read_bytes() for name in FORMS} == clean
    assert run_command(*publish) == 0
    (out / "card.json").unlink()  # as a kill leaves it, before which there may have been canaries
    assert run_command(*publish) == 2 and "an unfinished corpus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--canaries", "51"], "--canaries 51: from 0 to 50"),
        (["--canaries", "-1"], "from 0 to 50"),
        (["--canaries", "2", "--redact", "--push_to_hub", "me/own"], "a set with them is not published"),
        (["--canaries", "2", "--texts_only"], "give --run"),
    ],
)
def test_options_that_mean_nothing(backward_run, mbox, tmp_path, capsys, options, says):
    assert run_command("corpus", mbox, tmp_path / "out", "--run", backward_run, *OPTIONS, *options) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_too_few_texts(tmp_path):
    """As many stay without one; what is too long to be trained on for certain takes none."""
    records = [{"text": "Hello."}] * 3 + [{"text": "word " * 400}] * 2 + [{"text": "Held out."}]
    parts = ["train"] * 5 + ["heldout"]
    with pytest.raises(UserError, match="only 3 training texts are short enough for one; at most --canaries 1"):
        plant_canaries(records, range(6), parts, 2, 0, tmp_path / "own.canaries.json")
    assert not list(tmp_path.iterdir())
    planted = plant_canaries(records, range(6), parts, 1, 0, tmp_path / "own.canaries.json")
    assert [text["text"] != record["text"] for text, record in zip(planted, records, strict=True)].count(True) == 1
    assert planted[3] == records[3] and planted[5] == records[5]
