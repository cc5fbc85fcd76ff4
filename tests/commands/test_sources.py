"""Every form that data.source may have, through all commands that read it; and what a dry run leaves as it was."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from revinst.data.example_table import list_sources, load_examples
from revinst.export.card import build_card
from revinst.inference.trained import open_trained
from tests.commands.test_evaluation_folders import FEW, fit
from tests.tiny import run_in_process

FORMS = {
    "weighted": lambda one, two: {"source": one, "weight": 2},
    "mixed": lambda one, two: [{"source": one}, two],
    "all_weighted": lambda one, two: [{"source": one, "weight": 0.5}, {"source": two, "weight": 3}],
}


def write_sources(folder: Path) -> tuple[str, str]:
    rows = load_examples("quickstart")[0]
    paths = folder / "dolly-a.jsonl", folder / "own-b.jsonl"
    for path, part in zip(paths, (rows[:24], rows[24:48]), strict=True):
        pairs = [{"instruction": row.instruction, "response": row.response} for row in part]
        path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return str(paths[0]), str(paths[1])


@pytest.fixture(scope="module")
def run(tiny_llama, tmp_path_factory) -> Path:
    """A run with the hardest form."""
    runs = tmp_path_factory.mktemp("runs")
    source = FORMS["all_weighted"](*write_sources(runs))
    assert fit(runs, "one", tiny_llama, **{"data.source": json.dumps(source), "data.rows_per_step": 4}) == 0
    return runs / "one"


def hash_folder(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("form", FORMS)
def test_card_inspect_and_plan(run, tmp_path, form, capsys):
    names = write_sources(tmp_path)
    source = FORMS[form](*names)
    copy = shutil.copytree(run, tmp_path / "copy")
    config = copy / "config.yaml"
    lines = config.read_text().split("data:\n  source:")
    config.write_text(
        lines[0] + f"data:\n  source: {json.dumps(source)}\n  columns:" + lines[1].partition("columns:")[2]
    )
    trained = open_trained(str(copy))
    assert trained.config.data.source == source
    card = build_card(trained, "me/it", "nf4")
    used = [name for name in names if name in json.dumps(source)]
    assert [Path(name).name in card for name in names] == [name in used for name in names]
    assert len(list_sources(source)) == len(used) and "CC BY-SA 3.0" in card and str(tmp_path) not in card
    capsys.readouterr()
    for command in ("inspect", "plan"):
        assert run_in_process(command, config, "--json") == 0
        assert json.loads(capsys.readouterr().out)


def test_merge_evaluate_and_report(run, tmp_path):
    assert run_in_process("evaluate", run, *FEW) == 0
    assert run_in_process("merge", run, tmp_path / "merged", "--drift_rows", 2) == 0
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "own-b.jsonl" in card and "## Drift" in card and (tmp_path / "merged" / "drift.json").is_file()
    assert json.loads((run / "manifest.json").read_text())["data"]["source"][1]["weight"] == 3


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_dry_run_changes_no_byte(run, tmp_path, capsys, unfinished):
    """It lists what would be sent, the card and tokenizer that a real one writes among it."""
    copy = shutil.copytree(run, tmp_path / "copy")
    if unfinished:
        shutil.rmtree(copy / "adapter")
        manifest = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps(manifest | {"completed": False}))
    else:
        (copy / "adapter" / "README.md").write_text("old")
        (copy / "adapter" / "tokenizer.json").write_text("{}")
    before = hash_folder(copy)
    args = ("publish", copy, "--push_to_hub", "me/it", "--dry_run", *(["--unfinished"] * unfinished))
    assert run_in_process(*args) == 0
    assert hash_folder(copy) == before
    lines = capsys.readouterr().out.splitlines()
    sizes = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in lines[:-1]}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json"} <= set(sizes)
    assert sizes["README.md"] > 1000 and sizes["tokenizer.json"] > 10_000, "as a real one would send them"
    assert sum(sizes.values()) == int(lines[-1].split()[0].replace(",", ""))


def test_card_of_a_run_that_writes_responses(run):
    """Its scores have another shape; and a metric that no row has is no number."""
    trained = open_trained(str(run))
    scores = run / "evaluation" / "scores.json"
    metrics = {name: {"mean": 0.5, "ci95": [0.4, 0.6]} for name in ("rouge1", "rouge2", "rougeL")}
    scores.parent.mkdir(exist_ok=True)
    (scores.parent / "predictions.jsonl").write_text("")
    scores.write_text(json.dumps({"n": 9, "tuned": {"metrics": metrics}, "base": {"metrics": metrics}}))
    assert build_card(trained, "me/it").count("0.500 [0.400, 0.600]") == 6
    none = {name: {"mean": None, "ci95": [None, None]} for name in metrics}
    baselines = {"what_is": dict.fromkeys(metrics)}
    scores.write_text(json.dumps({"n": 9, "metrics": none, "baselines": baselines}))
    assert "| what is | - | - | - |" in build_card(trained, "me/it")
    shutil.rmtree(scores.parent)


def test_a_run_that_was_copied_goes_on_in_no_other_folder(run, tmp_path, capsys):
    """Its config names the folder that the run had: neither is that one trained on, nor begun anew."""
    copy = shutil.copytree(run, tmp_path / "a copy")
    before = hash_folder(run)
    capsys.readouterr()
    for named in (copy, copy / "config.yaml"):
        assert run_in_process("fit", named, "--trainer.max_steps", 3) == 2
        assert f"it names {run}; to go on in its folder: --runs_dir {tmp_path} --run_name 'a copy'" in (
            capsys.readouterr().err
        )
    assert hash_folder(run) == before
    assert run_in_process("fit", run) == 0
    assert run_in_process("fit", copy, "--runs_dir", tmp_path, "--run_name", "a copy") == 0
    assert capsys.readouterr().out.count("has finished") == 2
