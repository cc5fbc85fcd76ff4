"""Two evaluations that can differ in a prediction never share a folder, and compare and the card find the right one."""

import json
import shutil
from pathlib import Path

import pytest

from revinst.commands.decoding import read_decoding
from revinst.commands.evaluate import build_options, read_settings
from revinst.data.example_table import load_examples
from revinst.data.examples import Example
from revinst.evaluation.evaluate import find_folder
from revinst.evaluation.folders import place_evaluation
from revinst.export.card import describe_scores
from revinst.inference.engine.engine import GenerationSettings
from revinst.inference.key import ModelKey, PredictionKey
from revinst.inference.predictions import PredictionFile
from revinst.inference.predictor import Predictor
from revinst.inference.trained import open_trained
from revinst.launch.ranks import Ranks
from revinst.model.hardware import choose_dtype, pick_device
from tests.tiny import run_in_process

FEW = ("--limit", 2, "--max_new_tokens", 2)
PAIRS = [{"instruction": f"What is {n}?", "response": f"It is the number {n}, no more."} for n in ("one", "two", "six")]
OPTIONS = {
    "data.seq_len": 256,
    "data.rows_per_step": 8,
    "data.heldout_fraction": 0.1,
    "data.val_fraction": 0.1,
    "model.lora": "{r: 4, alpha: 8, dropout: 0.0, target_modules: all-linear}",
    "model.lr": 0.01,
    "trainer.max_steps": 2,
    "trainer.enable_progress_bar": "false",
    "checkpoint.every_steps": 1,
    "checkpoint.keep_last": 3,
    "samples.every_steps": 0,
}


def fit(runs: Path, name: str, base: Path, **options: object) -> int:
    places = {"data.source": runs / "rows.jsonl", "model.base": base, "runs_dir": runs, "run_name": name}
    values = OPTIONS | places | options
    return run_in_process("fit", *(part for key, value in values.items() for part in (f"--{key}", value)))


@pytest.fixture(scope="module")
def trained(tiny_llama, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    rows = load_examples("quickstart")[0][:40]
    write_pairs(runs / "rows.jsonl", [{"instruction": row.instruction, "response": row.response} for row in rows])
    assert fit(runs, "one", tiny_llama) == 0
    return runs / "one"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy that has not been evaluated yet."""
    shutil.copy(trained.parent / "rows.jsonl", tmp_path)
    return shutil.copytree(trained, tmp_path / "one")


def write_pairs(path: Path, pairs: list[dict]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def files_of(folder: Path, name: str = "predictions.jsonl") -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob(name)}


def settings_of(folder: Path) -> dict:
    return json.loads((folder / "predictions.settings.json").read_text())


def test_no_evaluation_replaces_another(run, tmp_path):
    given = [
        FEW,
        (*FEW, "--input", write_pairs(tmp_path / "a" / "t.jsonl", PAIRS)),
        (*FEW, "--input", write_pairs(tmp_path / "b" / "t.jsonl", PAIRS[1:])),
        (*FEW, "--input", write_pairs(tmp_path / "base.jsonl", PAIRS)),
        (*FEW, "--adapter", "none"),
    ]
    for options in given:
        before = files_of(run)
        assert run_in_process("evaluate", run, *options) == 0
        after = files_of(run)
        assert before.items() < after.items(), (
            f"{options}: no folder of its own, or it replaced what another had written"
        )
    names = {folder.name for folder in (run / "evaluation").iterdir()}
    assert {"limit-2-max-2", "base-limit-2-max-2"} < names and len(names) == len(given)
    before = files_of(run)
    assert run_in_process("evaluate", run, *given[1]) == 0 and files_of(run) == before, "the same again"


def test_every_option_that_changes_a_text_has_a_folder_of_its_own(run):
    trained = open_trained(str(run))
    rows = [Example(str(n), **pair, context="", category="") for n, pair in enumerate(PAIRS)]
    sampled = ("--temperature", "1")
    given = [
        (),
        ("--adapter", "none"),
        ("--max_new_tokens", "8"),
        ("--engine", "hf"),
        ("--precision", "fp32"),
        ("--precision", "bf16"),
        ("--part", "val"),
        sampled,
        ("--temperature", "1.0000001"),  # the same in six digits
        (*sampled, "--top_p", "0.5"),
        (*sampled, "--top_k", "3"),
        (*sampled, "--top_k", "40"),
        (*sampled, "--seed", "3"),
        (*sampled, "--samples", "3"),
        ("--samples", "3"),
        ("--samples", "3", "--pick", "consensus"),
        ("--samples", "3", "--pick", "consensus", "--utility", "chrf"),
    ]
    claimed: list[Path] = []
    of_rows = {len(chosen): Predictor(trained, chosen, GenerationSettings()) for chosen in (rows, rows[:2])}
    for args, count in [*((args, 3) for args in given), ((), 2), (sampled, 2)]:
        options, predictor = build_options().parse_args([str(run), *args]), of_rows[count]
        predictor.settings, picks = read_decoding(options, "greedy", Ranks(), trained.new_tokens)
        asked = read_settings(options, picks)
        folder = find_folder(predictor, asked)
        described = predictor.key(options.adapter == "run", picks=picks).to_json()
        PredictionFile(folder / "predictions.jsonl", described).open()
        (folder / "predictions.jsonl").touch()
        assert find_folder(predictor, asked) == folder, "the same again"
        claimed.append(folder)
    default = choose_dtype(pick_device())[0]
    same = [claimed[0], claimed[4 if default == "fp32" else 5]]  # the device's own precision is no other evaluation
    assert same[0] == same[1] == run / "evaluation" and len(set(claimed)) == len(claimed) - 1
    assert claimed[1].name == "base" and claimed[-2].name.startswith("defaults-")


@pytest.mark.wide
def test_a_name_or_output_is_not_taken_twice(run, tmp_path, capsys):
    mine, out = run / "evaluation" / "mine", tmp_path / "out"
    for option, name, folder, others in (
        ("--name", "mine", mine, (("--limit", 3),)),
        ("--output", out, out, (("--temperature", 1, "--samples", 2),)),
    ):
        assert run_in_process("evaluate", run, *FEW, option, name) == 0
        before = files_of(folder, "*.*")
        for other in others:
            assert run_in_process("evaluate", run, *FEW, option, name, *other) == 2
            error = capsys.readouterr().err.splitlines()[-1]
            assert f"{folder / 'predictions.jsonl'}: made with another " in error and "choose another --name" in error
        assert files_of(folder, "*.*") == before and len(before) > 4


def test_what_an_adapter_folder_does_not_say_itself(trained, tmp_path, capsys):
    """--seq_len, --template and the adapter's own alpha change what it writes: none of them goes on with another's."""
    adapter = shutil.copytree(trained / "adapter", tmp_path / "adapter")
    rows = write_pairs(tmp_path / "rows.jsonl", PAIRS)
    command = ("generate", adapter, rows, "--output", tmp_path / "out.jsonl", "--max_new_tokens", 2)
    command += ("--pick", "greedy")
    assert run_in_process(*command) == 0
    for other, name in ((("--seq_len", 90), "seq_len"), (("--template", "alpaca"), "template")):
        assert run_in_process(*command, *other) == 2
        assert f"made with another {name};" in capsys.readouterr().err
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 80}))
    assert run_in_process(*command) == 2 and "made with another lora;" in capsys.readouterr().err


def test_another_base_in_the_same_folder_is_another_base(trained, tiny_llama, tmp_path, capsys):
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    rows = write_pairs(tmp_path / "rows.jsonl", PAIRS)
    options = ("--base", base, "--output", tmp_path / "out.jsonl", "--max_new_tokens", 2, "--pick", "greedy")
    assert run_in_process("generate", trained / "adapter", rows, *options) == 0
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    assert run_in_process("generate", trained / "adapter", rows, *options) == 2
    assert "made with another base_files;" in capsys.readouterr().err


def test_folders_of_earlier_versions(run, capsys):
    """Gone on with where they are, and read by compare; another adapter's is not taken for ours, and kept aside."""
    assert run_in_process("evaluate", run, *FEW) == 0
    folder = run / "evaluation" / "limit-2-max-2"
    kept = ("base", "quantization", "adapter", "template", "generation", "rows")
    (folder / "predictions.settings.json").write_text(json.dumps({name: settings_of(folder)[name] for name in kept}))
    before = files_of(run)
    assert run_in_process("evaluate", run, *FEW) == 0 and files_of(run) == before
    assert run_in_process("compare", folder / "base", run) == 0
    (folder / "predictions.settings.json").write_text(json.dumps(settings_of(folder) | {"adapter": "0" * 16}))
    assert run_in_process("compare", folder / "base", run) == 2
    assert f"another adapter; name one of {folder}" in capsys.readouterr().err
    assert run_in_process("evaluate", run, *FEW) == 0
    (aside,) = set((run / "evaluation").iterdir()) - {folder}
    assert {*before.values()} <= {*files_of(run).values()}
    assert settings_of(aside)["adapter"] == "0" * 16 != settings_of(folder)["adapter"]
    capsys.readouterr()
    assert run_in_process("compare", folder, run, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pairs"][0]["ties"] == 2
    shutil.rmtree(aside)


def test_the_defaults_keep_their_folder_and_the_card_takes_its_own_adapters(run, capsys):
    assert run_in_process("evaluate", run, "--limit", 2) == 0  # the defaults, for speed on two rows
    evaluation = run / "evaluation"
    (evaluation / "limit-2").rename(run / "two")
    shutil.rmtree(evaluation)
    (run / "two").rename(evaluation)
    trained = open_trained(str(run))
    assert "on 2 held-out rows" in describe_scores(trained)
    (evaluation / "predictions.settings.json").write_text(json.dumps(settings_of(evaluation) | {"adapter": "0" * 16}))
    assert describe_scores(trained) == ""


def key_of(adapter: str, rows: str = "1") -> PredictionKey:
    model = ModelKey("base", "1f", "2e", "nf4", adapter, {"r": 4}, "3d", False, 256, "end", False, False)
    return PredictionKey(model, {"max_new_tokens": 100, "temperature": 0.0}, rows)


def test_an_outdated_evaluation_makes_room(tmp_path):
    """The run was trained on: `evaluation/` is always its present adapter's."""
    root, old = tmp_path / "evaluation", key_of("0" * 16)
    for folder, settings in (
        (root, old.to_json()),
        (root / "base", {"adapter": None}),
        (root / "val", {"adapter": "0" * 16}),
    ):
        write_evaluation(folder, 3)
        (folder / "predictions.settings.json").write_text(json.dumps(settings))
        (folder / "scores.json").write_text(json.dumps(settings))
    before = files_of(root, "*.json*")
    assert place_evaluation(old, root) == root and files_of(root, "*.json*") == before
    other = place_evaluation(key_of("1" * 16, rows="2"), root)
    assert other.name.startswith("defaults-") and files_of(root, "*.json*") == before, (
        "other rows: that one is not outdated"
    )
    assert place_evaluation(key_of("1" * 16), root) == root
    after = files_of(root, "*.json*")
    (moved,) = root.glob("defaults-*")
    assert (
        json.loads((moved / "scores.json").read_text()) == old.to_json()
        and (moved / "base" / "predictions.jsonl").is_file()
    )
    assert not (root / "predictions.jsonl").exists() and {*before.values()} == {*after.values()}
    kept = [path for path in before if path.parent != root]
    assert len(kept) == 6 and all(after[path] == before[path] for path in kept)


def write_evaluation(folder: Path, count: int) -> Path:
    rows = [{"id": str(n), "reference": "What?", "prediction": "What?", "rougeL": 1.0} for n in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    write_pairs(folder / "predictions.jsonl", rows)
    return folder


def test_compare_finds_what_evaluate_wrote(tmp_path, capsys):
    """By the same options in all runs; by the rows of a folder that is named; where it can't know it names all."""
    runs = one, two = [tmp_path / name for name in ("one", "two")]
    for run in runs:
        write_evaluation(run / "evaluation" / "limit-5", 5)
    val = write_evaluation(one / "evaluation" / "val", 4)

    def compare(*paths: Path) -> dict:
        capsys.readouterr()
        assert run_in_process("compare", *paths, "--json") == 0
        return json.loads(capsys.readouterr().out)

    assert compare(one, two)["n"] == 5 == compare(two, one)["n"] and compare(val, one)["n"] == 4
    assert compare(f"{one},{two}")["systems"][0]["seeds"] == [1.0, 1.0]
    write_evaluation(two / "evaluation" / "val", 4)
    assert run_in_process("compare", one, two) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert all(str(run / "evaluation" / name) in error for run in runs for name in ("limit-5", "val"))
    for run in runs:
        write_evaluation(run / "rest", 7)
        (run / "rest" / "predictions.jsonl").rename(run / "evaluation" / "predictions.jsonl")
    assert compare(one, two)["n"] == 7, "the defaults"
    assert run_in_process("compare", one, tmp_path) == 2
    assert "run `revinst evaluate` first" in capsys.readouterr().err


def test_a_checkpoint_of_the_same_step_after_a_forced_resume(run, tiny_llama, capsys):
    """Its adapter is exported again; its evaluation takes the place of the first one, of which nothing is lost."""
    at_2 = ("evaluate", run, "--checkpoint", 2, *FEW, "--json")
    assert run_in_process(*at_2) == 0
    first, before = json.loads(capsys.readouterr().out), files_of(run / "evaluation")
    options = {"model.lr": 0.03, "resume_force": "true", "resume": run / "checkpoints" / "step-000001.ckpt"}
    assert fit(run.parent, run.name, tiny_llama, **options) == 0
    capsys.readouterr()
    assert run_in_process(*at_2) == 0
    second = json.loads(capsys.readouterr().out)
    final = open_trained(str(run)).key.adapter
    assert second["settings"]["adapter"] == final != first["settings"]["adapter"]
    assert abs(second["heldout_loss"] - first["heldout_loss"]) > 1e-4
    after = files_of(run / "evaluation")
    assert {*before.values()} < {*after.values()} and all("step-000002" in str(path) for path in after)
    folders = [path.parent for path in after if path.parent.name != "base"]
    named = {settings_of(folder)["adapter"]: folder.name for folder in folders}
    assert named[first["settings"]["adapter"]].startswith(f"{named[final]}-") and len(named) == len(folders) == 2
