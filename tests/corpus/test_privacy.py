"""What was not redacted does not go up by accident, and what redaction wrote for its owner lies beside the folder."""

import json
import shutil

import pytest

from revinst.corpus.build import build_texts
from revinst.corpus.settings import Reading
from revinst.data.redacted import find_unredacted, is_unredacted
from revinst.runs.folder import Run
from tests.commands.test_run import fit, run_command
from tests.corpus.test_chats import write_whatsapp

TO = ("--push_to_hub", "me/own", "--dry_run")


def write_corpus(folder, redact):
    """As far as it matters here."""
    folder.mkdir()
    rows = [{"instruction": f"Say {number} in words.", "context": "", "response": f"It is {number} plus {number}."}
            for number in range(24)]  # fmt: skip
    (folder / "dataset.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "settings.json").write_text(json.dumps({"column": "text", "redact": redact}))
    (folder / "card.json").write_text(json.dumps({"settings": {"column": "text", "redact": redact}}))
    return folder


def test_names_of_a_chat_go_and_mine_stay(tmp_path):
    """The other's name alone, though no text of theirs is kept; two files of the owner beside the folder."""
    texts = ("Thanks Kim! Alex here, ask Robin Quark or @boq, 12 Baker Street.", "Call me on 0171 2345678.")
    source = write_whatsapp(tmp_path, "ios_uk", *texts)
    out = tmp_path / "own"
    records = build_texts(out, Reading(source, ("alex moreau",), redact=True))
    assert [record["author"] for record in records] == ["Alex Moreau"] * 2
    assert (
        records[0]["text"].startswith("Thanks [NAME_1]! Alex here") and "[HANDLE_1], [ADDRESS_1]" in records[0]["text"]
    )
    assert any("[PHONE_1]" in record["text"] for record in records)
    report = tmp_path / "own.redaction.txt"
    assert report.stat().st_mode & 0o777 == 0o600 and "Robin Quark" in report.read_text()
    assert not any("redaction" in path.name or "placeholders" in path.name for path in out.rglob("*"))


def test_what_counts_as_unredacted(tmp_path):
    redacted, as_it_was = write_corpus(tmp_path / "a", True), write_corpus(tmp_path / "b", False)
    (tmp_path / "c").mkdir()
    assert [is_unredacted(folder) for folder in (redacted, as_it_was, tmp_path / "c", tmp_path)] == [False, True] + [
        False
    ] * 2
    of_a_round = as_it_was / "rounds" / "1" / "rows.jsonl"
    sources = [str(folder / "dataset.jsonl") for folder in (redacted, as_it_was)] + [str(of_a_round), "quickstart"]
    assert find_unredacted(sources) == sources[1:3]


@pytest.mark.parametrize("dry_run", [[], ["--dry_run"]])
def test_a_set_is_refused(tmp_path, capsys, dry_run):
    folder = write_corpus(tmp_path / "own", False)
    args = ("publish", folder, "--dataset", "--push_to_hub", "me/own", *dry_run)
    assert run_command(*args) == 2
    error = capsys.readouterr().err
    assert "without --redact" in error and "--keep_private" in error and len(error.splitlines()) == 1
    assert run_command("publish", folder, "--dataset", *TO, "--keep_private") == 0
    assert "dataset.jsonl" in capsys.readouterr().out
    assert run_command("publish", folder, "--dataset", *TO, "--keep_private", "--public") == 2
    assert "exclude each other" in capsys.readouterr().err
    assert run_command("publish", write_corpus(tmp_path / "redacted", True), "--dataset", *TO) == 0


def test_corpus_says_so_before_it_begins(backward_run, mbox, tmp_path, capsys):
    args = ("corpus", mbox, tmp_path / "out", "--run", backward_run, "--push_to_hub", "me/own")
    assert run_command(*args) == 2 and "own texts go up with --redact" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.wide
def test_a_model_of_such_a_set_is_refused(tiny_llama, tmp_path, capsys):
    """The run, its adapter folder, its merged model and a run on that, also when the set is gone."""
    source = write_corpus(tmp_path / "own", False) / "dataset.jsonl"
    options = {"data.source": str(source), "trainer.max_steps": 1}
    assert fit(tmp_path, "private", tiny_llama, **options) == 0
    run = tmp_path / "private"
    assert Run(run).read_manifest()["data"]["unredacted"] == [str(source)]
    shutil.rmtree(tmp_path / "own")
    merged = tmp_path / "merged"
    assert run_command("merge", run, merged, "--drift_rows", 0, *TO) == 2 and not merged.exists()
    assert run_command("merge", run, merged, "--drift_rows", 0) == 0
    capsys.readouterr()
    for what in (run, run / "adapter", merged):
        assert run_command("publish", what, *TO) == 2 and "without --redact" in capsys.readouterr().err
        assert run_command("publish", what, *TO, "--keep_private") == 0
    capsys.readouterr()
    assert fit(tmp_path, "second", merged, **{"trainer.max_steps": 1}) == 0
    assert run_command("publish", tmp_path / "second", *TO) == 2 and str(source) in capsys.readouterr().err
