"""Every command of README.md as it stands there, one after the other, with a tiny base and few rows."""

import contextlib
import io
import json
import re
import runpy
import shlex
import threading
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wide, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def folder(root, tiny_base, tmp_path_factory) -> Path:
    """What the commands name: the quickstart's config, small, and the reader's own files."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "configs").mkdir()
    config = (root / "configs" / "quickstart.yaml").read_text(encoding="utf-8")
    small = {
        "models/smollm2-135m": tiny_base.as_posix(), "max_steps: 24": "max_steps: 2", "seq_len: 1024": "seq_len: 256",
        "every_steps: 16": "every_steps: 0", "heldout_fraction: 0.3 ": "heldout_fraction: 0.05 ",
    }  # fmt: skip
    for old, new in small.items():
        assert old in config
        config = config.replace(old, new)
    (folder / "configs" / "quickstart.yaml").write_text(config, encoding="utf-8")
    texts = [{"response": f"Water boils at {degrees} degrees in the mountains."} for degrees in range(90, 96)]
    predictions = [row | {"reference": "When does water boil?", "prediction": "When does it boil?"} for row in texts]
    for name, rows in {"texts.jsonl": texts, "predictions.jsonl": predictions}.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_mail = runpy.run_path(str(root / "scripts" / "made_mail.py"))["write_mbox"]
    write_mail(folder / "mail.mbox")
    return folder


def lines(root: Path) -> list[list[str]]:
    table = re.findall(r"^\| `(revinst [^`]+)`", (root / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line)[1:] for line in table]


def test_the_commands_of_the_readme_in_their_order(root, folder, monkeypatch):
    from tests.tiny import run_in_process

    monkeypatch.chdir(folder)
    for line in lines(root):
        if line[0] == "demo":
            continue  # below: it ends when it is told to
        given = [word.replace("me@example.com", "mara@example.org") for word in line]
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            assert run_in_process(*given) == 0, f"{' '.join(line)}\n{said.getvalue()[-2000:]}"
    made = ("runs/quickstart/evaluation/report.html", "instructions.jsonl", "runs/own", "runs/merged/config.json")
    assert [name for name in made if not (folder / name).exists()] == []
    assert len((folder / "instructions.jsonl").read_text(encoding="utf-8").splitlines()) == 6


def test_the_demo_answers(folder, offline_cpu):
    import subprocess
    import sys

    command = [sys.executable, "-m", "revinst.cli", "demo", "runs/quickstart"]
    with subprocess.Popen(
        command, cwd=folder, env=offline_cpu, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        late = threading.Timer(120, demo.kill)
        late.start()
        try:
            said = ""
            assert demo.stdout is not None
            for line in demo.stdout:
                said += line
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    page = urllib.request.urlopen(found[0], timeout=30).read().decode()
                    assert "revinst" in page
                    return
            pytest.fail(said[-2000:])
        finally:
            late.cancel()
            demo.kill()
