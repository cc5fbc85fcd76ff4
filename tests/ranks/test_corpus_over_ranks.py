"""`corpus` with two processes: the files of one process; a round is trained on as many devices."""

import json
from pathlib import Path

import pytest

from scripts.made_mail import write_mbox
from tests.commands.test_run import fit
from tests.corpus.test_corpus_command import OPTIONS
from tests.ranks.forked import run_forked
from tests.tiny import run_in_process

pytestmark = pytest.mark.wide
FEW = ("--limit", 24, "--samples", 2, *OPTIONS)
FILES = ("texts.jsonl", "scored.jsonl", "dropped.jsonl", "dataset.jsonl", "provenance.jsonl")
BESIDE = ("placeholders.json", "redaction.txt", "canaries.json")


@pytest.fixture(scope="module")
def made(tiny_llama, tmp_path_factory) -> tuple[Path, Path]:
    """(run, mailbox)."""
    folder = tmp_path_factory.mktemp("corpus-ranks")
    write_mbox(folder / "mail.mbox")
    keys = {"trainer.max_steps": 2, "model.lr": 0.003, "trainer.accelerator": "cpu"}
    assert fit(folder, "backward", tiny_llama, **keys) == 0
    return folder / "backward", folder / "mail.mbox"


def prepare(folder: Path) -> Path:
    """Several shards of 5 texts."""
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({"shard_rows": 5}))
    return folder


def test_shards_over_ranks(made, tmp_path):
    """With placeholders and canaries: the texts are read once, and what lies beside the folder is the same."""
    run, mbox = made
    options = (*FEW, "--redact", "--canaries", 2)
    one, two, log = prepare(tmp_path / "one"), prepare(tmp_path / "two"), tmp_path / "log"
    assert run_in_process("corpus", mbox, one, "--run", run, *options) == 0
    assert run_forked(["corpus", mbox, two, "--run", run, *options], log) == [0, 0], log.read_text()
    assert len(list((two / "shards").iterdir())) >= 3
    for name in FILES:
        assert (two / name).read_bytes() == (one / name).read_bytes(), name
    for name in BESIDE:
        assert (tmp_path / f"two.{name}").read_bytes() == (tmp_path / f"one.{name}").read_bytes(), name
    assert "[NAME_1]" in (two / "dataset.jsonl").read_text(encoding="utf-8")
    assert log.read_text().count("texts got instructions in") == 1


def test_rounds_on_several_devices(made, tmp_path):
    run, mbox = made
    out, log = prepare(tmp_path / "out"), tmp_path / "log"
    codes = run_forked(["corpus", mbox, out, "--run", run, "--rounds", 1, *FEW], log)
    assert codes == [0, 0], log.read_text()
    losses = json.loads((out / "card.json").read_text())["rounds"]["loss"]
    manifest = json.loads((out / "rounds" / "1" / "run" / "manifest.json").read_text())
    assert len(losses) == 2 and manifest["completed"] and manifest["world_size"] == 2
