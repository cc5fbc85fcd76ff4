"""publish against a stand-in of the Hub: what arrives, what is resumed, who may see it, where the token is not."""

import subprocess
from pathlib import Path

import pytest

from revinst.export.publish import PUBLISHED
from tests.commands.hub import TOKEN, Hub, run_beside, serve_hub
from tests.tiny import run_in_process


@pytest.fixture
def hub():
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path) -> Path:
    """As a merged model's: three large files, small ones, and what is not to be sent."""
    folder = tmp_path / "model"
    (folder / "gguf").mkdir(parents=True)
    (folder / "revinst_merge.json").write_text("{}")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    for number in range(3):
        (folder / f"model-{number}.safetensors").write_bytes(bytes([number]) * 300_000)
    (folder / "gguf" / "m.gguf").write_bytes(b"g" * 50_000)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "state").write_text("mine")
    (folder / "left.tmp").write_text("mine")
    return folder


def publish(hub: Hub, folder: Path, *args: object) -> subprocess.CompletedProcess:
    return run_beside(hub, folder.parent / "hf", "publish", folder, "--push_to_hub", "me/model", *args)


def contents(folder: Path) -> dict[str, bytes]:
    left_out = (".cache/state", "left.tmp")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if name not in left_out}


def test_everything_arrives_in_a_private_repository(hub, folder):
    done = publish(hub, folder)
    assert done.returncode == 0, done.stderr
    assert hub.files == contents(folder) and len(hub.files) == 6
    assert hub.repositories["me/model"]["visibility"] == "private"
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout + done.stderr and "uploaded to me/model" in done.stdout
    assert not any("me/model" in path for path in hub.unknown)


def test_public_and_data_set(hub, folder):
    (folder / "revinst_merge.json").unlink()
    done = publish(hub, folder, "--dataset", "--public")
    assert done.returncode == 0, done.stderr
    request = hub.repositories["me/model"]
    assert request["type"] == "dataset" and request["visibility"] == "public"
    assert hub.files == contents(folder)


def test_dry_run_sends_nothing(hub, folder):
    done = publish(hub, folder, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert hub.repositories == {} and hub.puts == [] and hub.tokens == set()
    lines = done.stdout.splitlines()
    assert {line.split()[1] for line in lines[:-1]} == set(contents(folder))
    assert {int(line.split()[0].replace(",", "")) for line in lines[:-1]} == {len(c) for c in contents(folder).values()}


@pytest.mark.wide  # the Hub client waits and tries five times before it gives up
def test_upload_goes_on_after_a_cut(hub, folder):
    """What had arrived is not sent again."""
    hub.cut_after = 2
    done = publish(hub, folder)
    assert done.returncode == 2 and hub.files == {} and len(hub.objects) == 2
    assert "Traceback" not in done.stderr and TOKEN not in done.stdout + done.stderr
    assert "goes on with the files that have not arrived" in done.stderr
    arrived, sent = set(hub.objects), len(hub.puts)
    hub.cut_after = None
    done = publish(hub, folder)
    assert done.returncode == 0, done.stderr
    assert hub.files == contents(folder)
    again = hub.puts[sent:]
    assert len(again) == 2 and not arrived & set(again)


def test_a_public_repository_gets_nothing_private(hub, folder):
    hub.repositories["me/model"] = {"visibility": "public"}
    done = publish(hub, folder)
    assert done.returncode == 2 and hub.puts == [] and hub.files == {}
    assert "it is there already and public; pass --public" in done.stderr
    assert publish(hub, folder, "--public").returncode == 0 and hub.files == contents(folder)


def test_refused_by_the_hub(hub, folder, monkeypatch):
    monkeypatch.setattr("tests.commands.hub.Handler.create", lambda self, request: self.answer({"error": "no"}, 403))
    done = publish(hub, folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr and TOKEN not in done.stderr
    assert "--push_to_hub me/model: " in done.stderr and "403" in done.stderr


def test_empty_folder(tmp_path, capsys):
    (tmp_path / "corpus").mkdir()
    to = ("--push_to_hub", "me/model", "--dataset")
    assert run_in_process("publish", tmp_path / "corpus", *to, "--dry_run") == 2
    assert "no files in it" in capsys.readouterr().err
    assert run_in_process("publish", tmp_path / "nowhere", *to) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_a_corpus_sends_only_the_finished_data_set(hub, tmp_path):
    """No text that was left out, no names of files, no checkpoint of a round."""
    folder = tmp_path / "own"
    (folder / "rounds" / "1" / "run").mkdir(parents=True)
    (folder / "shards").mkdir()
    for name in (*PUBLISHED, "texts.jsonl", "scored.jsonl", "discarded.jsonl", "dropped.jsonl", "provenance.jsonl",
                 "settings.json", "shards/00000.jsonl", "rounds/1/run/config.yaml"):  # fmt: skip
        (folder / name).write_text(f"of {name}")
    done = publish(hub, folder, "--dataset")
    assert done.returncode == 0, done.stderr
    assert hub.files == {name: f"of {name}".encode() for name in PUBLISHED}
    assert hub.repositories["me/model"] == hub.repositories["me/model"] | {"type": "dataset", "visibility": "private"}
