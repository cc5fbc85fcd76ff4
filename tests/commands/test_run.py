"""fit -> evaluate -> generate -> merge through the command, on the tiny model; the run folder as documented."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, MistralConfig

from revinst import cli
from revinst.commands.fit import warn_of_gguf
from revinst.data.example_table import load_examples
from revinst.evaluation.baselines import BASELINES
from revinst.inference.engine.engine import GenerationSettings
from revinst.inference.load import load_for_inference
from revinst.inference.trained import open_trained
from revinst.runs.metrics import MetricsFile
from tests.evaluation.stand_in import serving
from tests.tiny import tiny_config

GAINS = ("prediction", "reference", "shuffled")
OPTIONS = {
    "data.source": "quickstart",
    "data.seq_len": 256,
    "data.rows_per_step": 8,
    "data.heldout_fraction": 0.03,
    "data.val_fraction": 0.02,
    "model.lora": "{r: 4, alpha: 8, dropout: 0.1, target_modules: all-linear}",
    "model.lr": 0.01,
    "trainer.max_steps": 6,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "checkpoint.every_steps": 2,
    "checkpoint.keep_last": 2,
    "samples.every_steps": 4,
}


def run_command(*args: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(arg) for arg in args])
    return int(stopped.value.code or 0)


def fit(runs: Path, name: str, base: Path, **options: object) -> int:
    values = OPTIONS | {"model.base": base, "runs_dir": runs, "run_name": name} | options
    return run_command("fit", *(part for key, value in values.items() for part in (f"--{key}", value)))


@pytest.fixture(scope="module")
def runs(tiny_llama, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert fit(folder, "one", tiny_llama) == 0
    return folder


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder(runs, tiny_llama):
    run = runs / "one"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["completed"] and manifest["steps"] == 6 and manifest["versions"]["torch"] == torch.__version__
    split = json.loads((run / "split.json").read_text())
    assert len(split["train"]) + len(split["val"]) + len(split["heldout"]) == 400
    assert split["hash"] == manifest["hashes"]["split"]
    rows = metrics(run)
    assert [int(row["step"]) for row in rows] == list(range(6))
    assert all(5 < float(row["train/loss"]) < 15 and float(row["train/grad_norm"]) > 0 for row in rows)
    assert float(rows[0]["train/lr"]) == pytest.approx(0.01) and float(rows[-1]["perf/tokens_per_s"]) > 0
    assert rows[-1]["val/loss"]
    kept = sorted(path.name for path in (run / "checkpoints").glob("*.ckpt"))
    assert kept == ["step-000004.ckpt", "step-000006.ckpt"]
    checkpoint = torch.load(run / "checkpoints" / "step-000006.ckpt", weights_only=True)
    assert len(checkpoint["state_dict"]) == 28 and all("lora_" in name for name in checkpoint["state_dict"])
    assert (run / "adapter" / "adapter_model.safetensors").stat().st_size < 100_000
    assert list(run.glob("tensorboard/events*"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["base"] == str(tiny_llama) and config["model"]["lora"]["r"] == 4
    assert "base" not in config["data"] and "seed" not in config["data"]


@pytest.mark.wide
def test_rows_left_out_are_listed(tiny_llama, tmp_path):
    """A bad line, a row whose target fills its row alone, and 60 good ones."""
    rows = [{"instruction": f"What is {n}?", "response": f"A number, {n}."} for n in range(60)]
    rows.append({"instruction": "why " * 100, "response": "A long story."})
    lines = ["{not json", *map(json.dumps, rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    options = {"data.source": tmp_path / "rows.jsonl", "data.on_bad_row": "skip", "data.seq_len": 64}
    options |= {"data.heldout_fraction": 0, "data.val_fraction": 0, "trainer.max_steps": 1, "samples.every_steps": 0}
    assert fit(tmp_path / "runs", "one", tiny_llama, **options) == 0
    run = tmp_path / "runs" / "one"
    discarded = [json.loads(line) for line in (run / "discarded.jsonl").read_text().splitlines()]
    assert [row["reason"].split(" ")[:2] for row in discarded] == [["not", "JSON"], ["the", "target"]]
    assert discarded[0]["where"] == f"{tmp_path / 'rows.jsonl'}:1"
    manifest = json.loads((run / "manifest.json").read_text())
    counts = manifest["data"]
    assert (counts["train"], counts["discarded"], counts["truncated"]) == (61, 2, 0)
    assert manifest["reasons"]["packing"].startswith("best_fit")
    assert manifest["reasons"]["packed rows"].startswith("computed as by plain transformers")


def test_config_of_a_run_repeats_it(runs):
    code = run_command(
        "fit", "--config", runs / "one" / "config.yaml", "--run_name", "again", "--samples.every_steps", 0
    )
    assert code == 0
    first, second = (torch.load(runs / name / "checkpoints" / "step-000006.ckpt") for name in ("one", "again"))
    assert all(torch.equal(first["state_dict"][key], value) for key, value in second["state_dict"].items())


@pytest.mark.parametrize("stop", [2, 3])
def test_stopped_run_goes_on_to_the_same_end(runs, tiny_llama, stop):
    """Bit-equal, dropout included: the steps, the optimizer's state and the logged losses."""
    name = f"stopped-{stop}"
    assert fit(runs, name, tiny_llama, **{"trainer.max_steps": stop}) == 0
    assert fit(runs, name, tiny_llama) == 0
    whole, resumed = (torch.load(runs / n / "checkpoints" / "step-000006.ckpt") for n in ("one", name))
    assert all(torch.equal(whole["state_dict"][key], value) for key, value in resumed["state_dict"].items())
    states = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (whole, resumed)]
    assert len(states[0]) == 28
    assert all(torch.equal(states[0][i]["exp_avg_sq"], states[1][i]["exp_avg_sq"]) for i in states[0])
    losses = [[row["train/loss"] for row in metrics(runs / n)] for n in ("one", name)]
    assert losses[0] == losses[1] and len(losses[0]) == 6


def test_finished_run_is_left_alone(runs, tiny_llama, capsys):
    before = (runs / "one" / "metrics.csv").read_bytes()
    assert fit(runs, "one", tiny_llama) == 0
    assert "has finished" in capsys.readouterr().out
    assert (runs / "one" / "metrics.csv").read_bytes() == before


def test_changed_config_is_refused(runs, tiny_llama, capsys):
    assert fit(runs, "stopped-2", tiny_llama, **{"trainer.max_steps": 8, "model.lr": 0.5}) == 2
    assert "model.lr: 0.01 -> 0.5" in capsys.readouterr().err
    assert fit(runs, "one", tiny_llama, resume="never") == 2


@pytest.fixture(scope="module")
def evaluation(runs) -> Path:
    assert run_command("evaluate", runs / "one", "--max_new_tokens", 8) == 0
    return runs / "one" / "evaluation" / "max-8"


def test_evaluation(runs, evaluation, capsys):
    scores = json.loads((evaluation / "scores.json").read_text())
    heldout = json.loads((runs / "one" / "split.json").read_text())["heldout"]
    rows = [json.loads(line) for line in (evaluation / "predictions.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == heldout and len(heldout) == scores["n"] >= 8
    assert set(scores["baselines"]) == set(BASELINES)
    mean = sum(row["rougeL"] for row in rows) / len(rows)
    assert scores["metrics"]["rougeL"]["mean"] == pytest.approx(mean)
    assert 5 < scores["heldout_loss"] < 15
    assert all(row["num_tokens"] <= 8 and row["stopped"] in ("eos", "length") for row in rows)
    assert "what_is" in (evaluation / "report.html").read_text()
    assert run_command("evaluate", runs / "one", "--max_new_tokens", 8, "--json") == 0
    assert json.loads(capsys.readouterr().out) == scores


def test_killed_evaluation_goes_on_at_the_next_row(runs, evaluation, monkeypatch):
    """Two rows and a torn one are there: only the others are made, and the file ends as it was."""
    path = evaluation / "predictions.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    made = []
    from revinst.inference.predictions import PredictionFile

    append = PredictionFile.append
    monkeypatch.setattr(PredictionFile, "append", lambda self, row: (made.append(row.id), append(self, row)))
    assert run_command("evaluate", runs / "one", "--max_new_tokens", 8) == 0
    assert len(made) == len(lines) - 2
    assert path.read_bytes() == whole


def test_a_run_that_skipped_a_step_has_a_report_with_curves(runs, evaluation):
    path, report = runs / "one" / "metrics.csv", evaluation / "report.html"
    whole = path.read_bytes()
    metrics = MetricsFile(path)
    metrics.add(int(metrics.rows[-1]["step"]), {"bad_rows": "0123456789abcdef row-2"})
    metrics.save()
    report.unlink()
    assert run_command("evaluate", runs / "one", "--max_new_tokens", 8) == 0
    assert "train/loss over training steps" in report.read_text()
    path.write_bytes(whole)


def test_killed_likelihood_pass_goes_on_at_the_next_row(runs, tmp_path, monkeypatch):
    """Killed at the fifth log p: no row is scored twice, and the result is that of one run."""
    from revinst.inference.predictions import LikelihoodFile

    options = ("--limit", 6, "--max_new_tokens", 3, "--likelihood", "--output", tmp_path / "cut")
    append, keys = LikelihoodFile.append, []

    def killed(self, key, value):
        if len(keys) == 5:
            raise KeyboardInterrupt
        keys.append(key)
        append(self, key, value)

    monkeypatch.setattr(LikelihoodFile, "append", killed)
    assert run_command("evaluate", runs / "one", *options) == 130
    file = tmp_path / "cut" / "log_p.jsonl"
    file.write_bytes(file.read_bytes() + b'["torn')
    monkeypatch.setattr(LikelihoodFile, "append", lambda self, key, value: (keys.append(key), append(self, key, value)))
    assert run_command("evaluate", runs / "one", *options) == 0
    assert len(keys) == len(set(keys)) == len(file.read_text().splitlines()) > 20
    assert run_command("evaluate", runs / "one", *options[:-1], tmp_path / "whole") == 0
    cut, whole = (
        [json.loads(line) for line in (tmp_path / name / "predictions.jsonl").open()] for name in ("cut", "whole")
    )
    for ours, theirs in zip(cut, whole, strict=True):
        assert ours == {k: pytest.approx(v, rel=1e-3) if isinstance(v, float) else v for k, v in theirs.items()}


def test_checkpoints_are_ranked_on_validation_rows(runs, capsys):
    """The last checkpoint is the finished adapter; an unknown step is refused with those that there are."""
    val = json.loads((runs / "one" / "split.json").read_text())["val"]
    options = ("--part", "val", "--max_new_tokens", 8, "--name")
    for name, *step in (("final",), ("at-4", "--checkpoint", 4), ("at-6", "--checkpoint", 6)):
        assert run_command("evaluate", runs / "one", *options, name, *step) == 0
    folders = [runs / "one" / "evaluation" / name for name in ("at-4", "at-6", "final")]
    texts = [[json.loads(line) for line in (folder / "predictions.jsonl").open()] for folder in folders]
    assert [row["id"] for row in texts[0]] == val
    assert [row["prediction"] for row in texts[1]] == [row["prediction"] for row in texts[2]]
    assert [row["logp_reference"] for row in texts[0]] != [row["logp_reference"] for row in texts[1]]
    capsys.readouterr()
    assert run_command("compare", *folders, "--rank", "--metric", "logp_reference", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    means = [system["mean"] for system in result["systems"]]
    assert means == sorted(means, reverse=True) and means[0] > means[2]
    assert result["against"] == result["systems"][0]["name"] != str(folders[0])
    assert run_command("evaluate", runs / "one", "--checkpoint", 5) == 2
    assert "no checkpoint of step 5; there are: 4, 6" in capsys.readouterr().err


def test_predictions_of_other_settings_stay(runs, evaluation):
    """Neither taken over nor replaced; a part that one of several ranks had written is as much as the file."""
    from revinst.errors import UserError
    from revinst.inference.predictions import PredictionFile

    path = runs / "predictions.jsonl"
    path.write_bytes((evaluation / "predictions.jsonl").read_bytes())
    settings = json.loads((evaluation / "predictions.settings.json").read_text())
    (runs / "predictions.settings.json").write_text(json.dumps(settings))
    whole = path.read_bytes()
    assert len(PredictionFile(path, settings).open()) >= 8
    other = PredictionFile(path, settings | {"template": "other"})
    part = path.with_name("predictions.part-1-of-2.jsonl")
    for kept in (path, part):
        with pytest.raises(UserError, match=r"predictions.jsonl: made with another template; choose another output"):
            other.open()
        assert kept.read_bytes() == whole
        if kept == path:
            path.rename(part)


def test_likelihoods_and_samples(runs, tmp_path):
    """Null where a row does not fit, else what the model gives; picks lie between the worst and the best sample."""
    options = ("--limit", 8, "--max_new_tokens", 4, "--samples", 3, "--temperature", 1, "--likelihood")
    assert run_command("evaluate", runs / "one", *options, "--output", tmp_path) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and all(len(row["samples"]) == len(row["votes"]) == 3 for row in rows)
    assert all(row["pick"] == "greedy" and row["picked"] is None for row in rows)
    assert len({text for row in rows for text in row["samples"]}) > 8
    for row in rows:
        assert row["logp_reference"] < -5 and row["logp_prediction"] < -5
        assert all(row[f"gain_{name}"] is None or abs(row[f"gain_{name}"]) < 100 for name in GAINS)
    known = [row["gain_prediction"] for row in rows if row["gain_prediction"] is not None]
    assert len(known) >= 4 and scores["metrics"]["gain_prediction"]["mean"] == pytest.approx(sum(known) / len(known))
    samples = scores["samples"]
    assert samples["k"] == 3 and samples["best_of_k"]["rougeL"]["mean"] >= samples["mean"]["rougeL"]["mean"]
    assert 0 <= samples["self_agreement"]["mean"] <= 1 and set(samples["likelihood"]) == set(samples["consensus"])
    gain = samples["consensus"]["rougeL"]["mean"] - samples["greedy"]["rougeL"]["mean"]
    assert samples["greedy"]["rougeL"]["mean"] == scores["metrics"]["rougeL"]["mean"]
    assert samples["gain"]["rougeL"]["difference"] == pytest.approx(gain)
    consensus = (*options[:-1], "--pick", "consensus")
    assert run_command("evaluate", runs / "one", *consensus, "--output", tmp_path / "consensus") == 0
    picked = [json.loads(line) for line in (tmp_path / "consensus" / "predictions.jsonl").read_text().splitlines()]
    assert [row["samples"] for row in picked] == [row["samples"] for row in rows], "the same samples"
    for row in picked:
        assert row["picked"] == row["pick_consensus"] and row["prediction"] == row["samples"][row["picked"]]
        assert row["votes"][row["picked"]] == max(row["votes"]) or not all(row["samples"])
    scores = json.loads((tmp_path / "consensus" / "scores.json").read_text())
    assert scores["metrics"]["rougeL"]["mean"] == samples["consensus"]["rougeL"]["mean"]
    assert scores["samples"]["greedy"] == samples["greedy"] and scores["settings"]["pick"] == "consensus"
    assert "NaN" not in (tmp_path / "scores.json").read_text() + (tmp_path / "predictions.jsonl").read_text()


def test_similarity_in_meaning_stands_beside_its_baselines(runs, tmp_path, monkeypatch, capsys):
    from revinst.evaluation import embedding
    from revinst.evaluation.scores import score_predictions

    monkeypatch.setattr(
        embedding, "semantic_similarity", lambda folder, ours, refs: score_predictions(ours, refs)["chrf"]
    )
    monkeypatch.setattr(embedding, "find_spec", lambda name: True)  # the library is an extra
    (tmp_path / "config.json").write_text("{}")
    options = ("--limit", 4, "--max_new_tokens", 2, "--semantic", tmp_path, "--output", tmp_path / "out")
    assert run_command("evaluate", runs / "one", *options) == 0
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert all(scores["baselines"][name]["semantic"] == scores["baselines"][name]["chrf"] for name in BASELINES)
    assert scores["metrics"]["semantic"]["mean"] == scores["metrics"]["chrf"]["mean"]
    assert "semantic: " in capsys.readouterr().out


def test_a_judge_rates_what_a_run_writes(runs, tmp_path, capsys):
    with serving() as server:
        judge = ("--judge", server.url, "--judge_model", "m", "--judge_limit", 3)
        options = ("--limit", 4, "--max_new_tokens", 2, "--output", tmp_path / "out", *judge)
        assert run_command("evaluate", runs / "one", *options) == 0
        scores = json.loads((tmp_path / "out" / "scores.json").read_text())
        assert scores["metrics"]["judge"]["n"] == scores["judge"]["n"] == 3
        assert "judge, 1-5: " in capsys.readouterr().out and run_command("evaluate", runs / "one", *options) == 0
        assert 1 <= len(server.paid) == len(set(server.paid)) <= 3, "equal predictions for equal texts are one question"


@pytest.mark.wide
def test_round_trip_through_a_run_that_writes_responses(runs, tiny_llama, tmp_path, capsys):
    """Its adapter is what scores; a run that writes instructions, or that learnt the rows, is refused."""
    options = {"data.template": "forward", "trainer.max_steps": 2, "model.lr": 0.05, "samples.every_steps": 0}
    assert fit(runs, "forward", tiny_llama, **options) == 0
    args = ("evaluate", runs / "one", "--limit", 4, "--max_new_tokens", 4)
    assert run_command(*args, "--forward", runs / "one", "--output", tmp_path / "no") == 2
    assert "it does not write responses" in capsys.readouterr().err
    for name, option in (("base", ("--likelihood",)), ("tuned", ("--forward", runs / "forward"))):
        assert run_command(*args, *option, "--output", tmp_path / name) == 0
    base, tuned = (json.loads((tmp_path / name / "scores.json").read_text()) for name in ("base", "tuned"))
    assert tuned["settings"]["gain"]["model"] == "forward" != base["settings"]["gain"]["model"] == str(tiny_llama)
    for name in ("reference", "shuffled"):  # the predictions of a random model may be empty, and then gain nothing
        ours, theirs = (scores["metrics"][f"gain_{name}"]["mean"] for scores in (tuned, base))
        assert abs(ours - theirs) > 1e-3
    assert tuned["metrics"]["logp_prediction"]["mean"] == pytest.approx(base["metrics"]["logp_prediction"]["mean"])
    train = json.loads((runs / "forward" / "split.json").read_text())["train"]
    path = tmp_path / "rows.jsonl"
    pairs = [{"id": train[0], "instruction": "Is it new?", "response": "No."}, {"instruction": "And?", "response": "!"}]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    args = ("evaluate", runs / "one" / "adapter", "--input", path, "--output", tmp_path / "rows")
    assert run_command(*args, "--seq_len", 256, "--forward", runs / "forward") == 2
    assert f"was trained on 1 of the rows, the first is {train[0]}" in capsys.readouterr().err


def test_samples_need_a_temperature(runs, capsys):
    assert run_command("evaluate", runs / "one", "--samples", 2, "--temperature", 0) == 2
    assert "--temperature" in capsys.readouterr().err


def test_rows_of_the_training_part_are_refused(runs, tmp_path, capsys):
    """Known by id, or by their words under another id."""
    train = json.loads((runs / "one" / "split.json").read_text())["train"]
    by_id = {example.id: example for example in load_examples("quickstart")[0]}
    chosen = [by_id[example_id] for example_id in train[:2]]
    new = {"id": "new", "instruction": "Is this row a new one?", "response": "It is, of all rows here."}
    again = {"id": "again", "instruction": chosen[1].instruction.upper(), "response": chosen[1].response + " "}
    first = {"instruction": chosen[0].instruction, "context": chosen[0].context, "response": chosen[0].response}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (new, again, first)))
    args = ("evaluate", runs / "one", "--input", path, "--output", tmp_path / "out", "--max_new_tokens", 2)
    assert run_command(*args) == 2
    assert "trained on 2 of its 3 rows, the first is again;" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run_command(*args, "--allow_trained_rows") == 0
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "out" / "predictions.jsonl").open())}
    assert rows["again"]["max_similarity"] == 1 > rows["new"]["max_similarity"]


def test_bare_adapter_takes_baselines_from_the_other_half(runs, tmp_path):
    path = tmp_path / "rows.jsonl"
    pairs = [{"instruction": f"Write {n}?", "response": f"It is the number {n}."} for n in ("one", "two", "three")]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    out = tmp_path / "out"
    adapter = runs / "one" / "adapter"
    assert run_command("evaluate", adapter, "--input", path, "--output", out, "--max_new_tokens", 2) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert set(scores["baselines"]) == set(BASELINES) and "other half" in scores["settings"]["floors"]["from"]
    assert scores["baselines"]["nearest_response"]["exact_match"] == 0, "no row is its own nearest"


def test_compare(runs, evaluation, tmp_path, capsys):
    assert run_command("compare", evaluation, evaluation / "base", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    scores = json.loads((evaluation / "scores.json").read_text())
    (pair,) = result["pairs"]
    gain = scores["gains"]["base"]["rougeL"]
    assert pair["difference"] == pytest.approx(-gain["difference"]) and pair["p"] == gain["p"]
    assert run_command("compare", evaluation, evaluation / "predictions.jsonl") == 0
    assert "1.0000" in capsys.readouterr().out
    lines = (evaluation / "predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "predictions.jsonl").write_text("".join(lines[1:]))
    assert run_command("compare", evaluation, tmp_path) == 2
    assert json.loads(lines[0])["id"] in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "folder"])
def test_generate(runs, tmp_path, kind):
    texts = ["Paris is a city.", 'Comets, "dirty snowballs",\nhave tails.']
    source = tmp_path / f"texts.{kind}"
    if kind == "txt":
        source.write_text(texts[0])
    elif kind == "jsonl":
        source.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    elif kind == "csv":
        with source.open("w", newline="") as file:
            csv.writer(file).writerows([["body"], *([text] for text in texts)])
    else:
        source.mkdir()
        for number, text in enumerate(texts):
            (source / f"{number}.txt").write_text(text)
    out = tmp_path / "out.jsonl"
    args = ("generate", runs / "one", source, "--output", out, "--column", "body", "--max_new_tokens", 5)
    args += ("--pick", "greedy")
    assert run_command(*args) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(row["response"] for row in rows) == sorted(texts[:1] if kind == "txt" else texts)
    assert all(row["stopped"] == "eos" or row["num_tokens"] == 5 for row in rows)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_a_run_is_loaded_in_the_precision_asked_for(runs, precision, dtype):
    model = open_trained(str(runs / "one")).load(GenerationSettings(precision=precision))
    dtypes = [parameter.dtype for parameter in model.parameters()]
    assert len(dtypes) > 30 and set(dtypes) == {dtype}


def test_merged_model_is_the_tuned_one(runs, tiny_llama, tmp_path, monkeypatch):
    """Loads with plain transformers; next-token distributions as with the adapter kept apart."""
    assert run_command("merge", runs / "one", tmp_path / "merged") == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert not hasattr(merged.config, "quantization_config") and not hasattr(merged, "peft_config")
    ids = torch.arange(100, 300)[None]
    tuned = load_for_inference(
        str(tiny_llama), runs / "one" / "adapter", torch.device("cpu"), "nf4", torch.bfloat16, dequantize=True
    ).float()
    with torch.no_grad():
        p, q = (model(ids).logits.log_softmax(-1) for model in (tuned.model, merged))
        with tuned.without_adapter():
            base = tuned.model(ids).logits.log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)
    assert kl.mean() < 1e-3 and (p.exp() * (p - base)).sum(-1).mean() > 10 * kl.mean()
    assert run_command("merge", runs / "one", tmp_path / "merged") == 2, "an existing folder is not overwritten"


def test_generate_deletes_nothing_that_it_did_not_make(runs, tmp_path, capsys):
    source, out = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    texts = ["Paris is a city.", "Comets have tails of dust.", "Salt melts ice on roads."]
    source.write_text("".join(json.dumps({"id": str(n), "response": text}) + "\n" for n, text in enumerate(texts)))
    before = source.read_bytes()
    args = ("generate", runs / "one", source, "--max_new_tokens", 5, "--pick", "greedy")
    assert run_command(*args, "--output", source) == 2 and source.read_bytes() == before
    out.write_bytes(b'{"mine": 1}\n')
    assert run_command(*args, "--output", out) == 2 and out.read_bytes() == b'{"mine": 1}\n'
    assert "not made by revinst" in capsys.readouterr().err
    out.unlink()
    assert run_command(*args, "--output", out) == 0
    made = out.read_bytes()
    assert [json.loads(line)["id"] for line in made.splitlines()] == ["0", "1", "2"]
    other = (*args[:-2], "--samples", 1, "--temperature", 1)
    assert run_command(*other, "--output", out) == 2 and out.read_bytes() == made
    assert run_command(*args, "--output", out, "--limit", 1) == 0 and out.read_bytes() == made
    source.write_text(source.read_text().replace("Paris is a city.", "Rome has seven hills."))
    assert run_command(*args, "--output", out) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["response"] for row in rows] == ["Rome has seven hills.", *texts[1:]]


def test_generate_takes_one_of_several(runs, tmp_path, monkeypatch, capsys):
    """Killed and gone on with, no text is written for twice; rows of an earlier call stay; another pick is refused."""
    from revinst.inference.predictions import SampleFile

    source, out = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    texts = ["Paris is a city.", "Comets have tails of dust.", "Salt melts ice on roads."]
    source.write_text("".join(json.dumps({"id": str(n), "response": text}) + "\n" for n, text in enumerate(texts)))
    args = ("generate", runs / "one", source, "--max_new_tokens", 5, "--samples", 3, "--output")
    append, keys = SampleFile.append, []

    def killed(self, key, value):
        if len(keys) == 1:
            raise KeyboardInterrupt
        keys.append(key)
        append(self, key, value)

    monkeypatch.setattr(SampleFile, "append", killed)
    assert run_command(*args, out) == 130 and not out.exists()
    monkeypatch.setattr(SampleFile, "append", lambda self, key, value: (keys.append(key), append(self, key, value)))
    assert run_command(*args, out) == 0 and len(keys) == len(set(keys)) == 3
    assert "samples: 3 each at temperature 0.7, their consensus is taken; 32" in capsys.readouterr().err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    for row, text in zip(rows, texts, strict=True):
        assert row["response"] == text and row["prediction"] == row["samples"][row["picked"]]
        assert len(row["votes"]) == 3 and row["pick"] == "consensus"
    made = out.read_bytes()
    assert run_command(*args, out, "--limit", 1) == 0 and out.read_bytes() == made and len(keys) == 3
    assert run_command(*args, out, "--pick", "likelihood") == 2 and "another pick;" in capsys.readouterr().err
    assert run_command(*args, tmp_path / "trip.jsonl", "--pick", "round_trip") == 0
    trip = [json.loads(line) for line in (tmp_path / "trip.jsonl").read_text().splitlines()]
    assert [row["samples"] for row in trip] == [row["samples"] for row in rows] and (
        tmp_path / "trip.log_p.jsonl"
    ).exists()


def test_fit_says_what_merge_will_refuse(tiny_llama, tmp_path, capsys):
    warn_of_gguf(str(tiny_llama))
    assert capsys.readouterr().err == ""
    config = MistralConfig.from_dict(tiny_config().to_dict() | {"model_type": "mistral", "sliding_window": 64})
    config.save_pretrained(tmp_path)
    warn_of_gguf(str(tmp_path))
    assert "merge --gguf will refuse this run: llama.cpp has no windows for llama" in capsys.readouterr().err
