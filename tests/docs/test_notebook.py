"""docs/quickstart.ipynb is clean, and runs from top to bottom on a CPU at a tiny size."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

TINY = {
    "STEPS, ROWS = 24, 120": "STEPS, ROWS = 2, 2",
    "max_steps {STEPS}": "max_steps {STEPS} --data.seq_len 256 --data.rows_per_step 1 --samples.every_steps 0",
    "[:40]": "[:12]",
    "--max_new_tokens 40": "--max_new_tokens 8",
    "--max_new_tokens 60": "--max_new_tokens 4",
    "--limit {ROWS}\n": "--limit {ROWS} --max_new_tokens 4\n",
}


@pytest.fixture(scope="module")
def cells(root) -> list[dict]:
    return json.loads((root / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]


def test_the_notebook_is_clean_and_its_commands_exist(root, cells):
    from revinst.cli import COMMANDS
    from revinst.commands.fit import build_options

    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 7 and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)
    lines = [line for cell in code for line in cell["source"] if line.startswith("!")]
    used = {re.match(r"!revinst (\w+) ", line)[1] for line in lines}  # type: ignore[index]  # each is one
    assert {"init", "fetch", "fit", "evaluate", "generate", "corpus"} == used <= set(COMMANDS)
    assert build_options()._option_string_actions.keys() >= {"--trainer.max_steps"}
    text = "".join(line for cell in cells for line in cell["source"])
    links = re.findall(r"\]\(([\w./-]+)\)", text)
    assert len(links) > 4 and {link for link in links if not (root / "docs" / link).is_file()} == set()


@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_it_runs(root, cells, base, tmp_path, monkeypatch):
    """All but its first cell, which installs; every file that a cell should leave is there."""
    nbclient = pytest.importorskip("nbclient", reason="pip install 'revinst[notebook]'")
    import nbformat

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    notebook = nbformat.read(root / "docs" / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    notebook.cells = [cell for cell in notebook.cells if "install" not in cell.metadata.get("tags", [])]
    for old, new in (TINY | {'Path.home() / "revinst-notebook"': f"Path({str(tmp_path / 'work')!r})"}).items():
        assert any(old in f"{cell.source}\n" for cell in notebook.cells), old
        for cell in notebook.cells:
            cell.source = f"{cell.source}\n".replace(old, new).rstrip("\n")
    client = nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    work = tmp_path / "work" / "first"
    for run in ("first", "personal"):
        manifest = json.loads((work / "runs" / run / "manifest.json").read_text())
        assert manifest["completed"] and manifest["steps"] == 2, said[-3000:]
        assert list((work / "runs" / run).glob("evaluation/*/report.html"))
    assert len((work / "instructions.jsonl").read_text().splitlines()) == 2
    assert (work / "runs" / "own" / "dataset.jsonl").stat().st_size > 1000
    assert said.count("prediction: ") == 2 and "Traceback" not in said
