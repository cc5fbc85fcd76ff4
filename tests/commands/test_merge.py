"""merge through the command: card, snippet, drift report, GGUF; and adapters that PEFT alone made."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from revinst import cli
from revinst.data.example_table import load_examples
from revinst.data.prompt import load_template, prompt_text
from revinst.errors import UserError
from revinst.inference.trained import open_trained
from tests.tiny import write_peft_adapter

ROOT = Path(__file__).resolve().parents[2]


def run_command(*args: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(arg) for arg in args])
    return int(stopped.value.code or 0)


def write_rows(path: Path, count: int = 6) -> Path:
    rows = [
        {"instruction": f"What is thing {n}?", "response": f"Thing {n} is the number {n} of all the things."}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


KINDS = {
    "plain": {},
    "rslora_and_patterns": {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 3}},
    "dora": {"use_dora": True},
    "saved_modules": {"modules_to_save": ["embed_tokens", "lm_head"], "target_modules": ["q_proj", "v_proj"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_adapter_from_elsewhere(tiny_llama, tmp_path, kind, capfd):
    """merge, generate and evaluate take it; merged and apart write the same."""
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter", **KINDS[kind])
    rows = write_rows(tmp_path / "rows.jsonl")
    out = tmp_path / "out"
    assert run_command("merge", adapter, out, "--input", rows, "--template", "alpaca", "--seq_len", 512) == 0
    assert "template alpaca, 512 tokens" in capfd.readouterr().err
    drift = json.loads((out / "drift.json").read_text())
    form = drift["forms"]["bf16"]
    assert drift["rows"] == 6 and drift["computed_in"] == "float32" and form["kl"]["tokens"] > 30
    assert 0 < form["kl"]["mean"] < 1e-3 and form["equal_greedy"]["of"] == 6
    card = (out / "README.md").read_text()
    assert f"{form['kl']['mean']:.1e}" in card and "What is" not in card
    args = ("--max_new_tokens", 6, "--template", "alpaca")
    assert run_command("generate", adapter, rows, "--output", tmp_path / "texts.jsonl", "--pick", "greedy", *args) == 0
    assert run_command("evaluate", adapter, "--input", rows, "--output", tmp_path / "scores", *args) == 0
    written = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    scored = [json.loads(line) for line in (tmp_path / "scores" / "predictions.jsonl").read_text().splitlines()]
    assert len(written) == 6 and [row["prediction"] for row in written] == [row["prediction"] for row in scored]


def test_base_and_template_of_an_adapter_folder(tiny_llama, tmp_path, capsys):
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")
    rows = write_rows(tmp_path / "rows.jsonl")
    config = adapter / "adapter_config.json"
    named = json.loads(config.read_text())
    for base, says in (
        (None, "name it with --base"),
        ("/nowhere/llama", "is no folder here; name the base with --base"),
    ):
        config.write_text(json.dumps(named | {"base_model_name_or_path": base}))
        assert run_command("merge", adapter, tmp_path / "out") == 2
        assert says in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert run_command("merge", adapter, tmp_path / "out", "--base", tiny_llama, "--drift_rows", 0) == 0
    assert not (tmp_path / "out" / "drift.json").exists()
    outputs = []
    for template in ("blog", "alpaca"):
        out = tmp_path / f"{template}.jsonl"
        args = ("--base", tiny_llama, "--template", template, "--max_new_tokens", 8)
        assert run_command("generate", adapter, rows, "--output", out, "--pick", "greedy", *args) == 0
        outputs.append([json.loads(line)["prediction"] for line in out.read_text().splitlines()])
    assert outputs[0] != outputs[1]
    assert run_command("merge", adapter, tmp_path / "x", "--base", tiny_llama, "--template", "nowhere.txt") == 2
    assert "nowhere.txt" in capsys.readouterr().err and not (tmp_path / "x").exists()
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert run_command("merge", adapter, tmp_path / "x", "--base", tiny_llama) == 2
    assert "its weights are pickled" in capsys.readouterr().err


def test_onto_is_recorded_and_changes_the_weights(tiny_llama, tmp_path, capsys):
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")
    states = []
    for onto in ("nf4", "16bit"):
        assert run_command("merge", adapter, tmp_path / onto, "--onto", onto, "--drift_rows", 0) == 0
        assert json.loads((tmp_path / onto / "revinst_merge.json").read_text())["onto"] == onto
        states.append(AutoModelForCausalLM.from_pretrained(tmp_path / onto).state_dict())
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert run_command("merge", adapter, tmp_path / "x", "--onto", "nf4", "--quantization", "none") == 2
    assert "--onto nf4" in capsys.readouterr().err


def test_card_for_the_hub(tiny_llama, tmp_path):
    """Metadata that a YAML reader takes, a snippet that runs as it stands, and no path of this machine."""
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")
    out = tmp_path / "my-model"
    assert run_command("merge", adapter, out, "--drift_rows", 0, "--gguf", "q8_0") == 0
    _, head, body = (out / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["library_name"] == "transformers" and metadata["pipeline_tag"] == "text-generation"
    assert "base_model" not in metadata, "a local folder is no base on the Hub"
    assert "not known to revinst" in body
    texts = [path for path in out.rglob("*") if path.suffix in (".md", ".json") or path.name == "Modelfile"]
    assert len(texts) > 6
    assert all(str(tmp_path).encode() not in path.read_bytes() for path in texts)
    modelfile = (out / "gguf" / "Modelfile").read_text()
    assert "FROM ./my-model-q8_0.gguf" in modelfile and "### Input:\n{{ .Prompt }}\n" in modelfile
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
    snippet = snippet.replace("max_new_tokens=100", "max_new_tokens=5")
    env = os.environ | {"PYTHONPATH": ""}  # without revinst
    done = subprocess.run(
        [sys.executable, "-c", snippet + "\nprint(len(inputs['input_ids'][0]), output.shape[1])"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = map(int, done.stdout.splitlines()[-1].split())
    assert before < after <= before + 5


def test_dry_run_lists_and_sends_nothing(tiny_llama, tmp_path, capsys):
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")
    out = tmp_path / "out"
    args = ("--push_to_hub", "me/model", "--dry_run", "--drift_rows", 0)
    assert run_command("merge", adapter, out, *args) == 0
    listed = capsys.readouterr().out
    size = (out / "model.safetensors").stat().st_size
    assert f"{size:,}  model.safetensors" in listed and "nothing was sent" in listed
    assert all(path.name in listed for path in out.iterdir())


def test_card_of_an_adapter(tiny_llama, tmp_path, capsys, monkeypatch):
    """Written where there is none; somebody's own stays."""
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")
    (adapter / "README.md").unlink(missing_ok=True)
    monkeypatch.setattr("revinst.export.publish.push", lambda *args, **options: None)
    args = ("publish", adapter, "--push_to_hub", "me/adapter")
    assert run_command(*args) == 0
    card = (adapter / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "peft"
    assert 'AutoPeftModelForCausalLM.from_pretrained("me/adapter"' in card and str(tmp_path) not in card
    (adapter / "README.md").write_text("mine")
    assert run_command(*args) == 0 and (adapter / "README.md").read_text() == "mine"


def test_sampling_settings_of_the_base_are_left_behind(tiny_llama, tmp_path):
    """Llama 2 ships a temperature without do_sample, which transformers refuses to save. What ends a text stays."""
    base = tmp_path / "base"
    shutil.copytree(tiny_llama, base)
    (base / "generation_config.json").write_text(json.dumps({"temperature": 0.9, "top_p": 0.6, "eos_token_id": 7}))
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")
    assert run_command("merge", adapter, tmp_path / "out", "--base", base, "--drift_rows", 0) == 0
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert not {"temperature", "top_p"} & written.keys() and written["eos_token_id"] == [2, 7]


def test_a_merge_that_dies_leaves_nothing(tiny_llama, tmp_path, monkeypatch):
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("revinst.export.standalone.write_gguf_files", fail)  # the shards are written by then
    assert run_command("merge", adapter, tmp_path / "out", "--drift_rows", 0) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
    monkeypatch.undo()
    assert run_command("merge", adapter, tmp_path / "out", "--drift_rows", 0) == 0


@pytest.mark.parametrize(
    "spoil",
    ["export.card.describe_training", "export.gguf.split_steps", "export.standalone.write_text_files"],
)
def test_what_can_fail_fails_before_the_shards(tiny_llama, tmp_path, monkeypatch, capsys, spoil):
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")

    def fail(*args, **kwargs):
        raise UserError("boom")

    monkeypatch.setattr(f"revinst.{spoil}", fail)
    monkeypatch.setattr("revinst.export.merge.Merge.tensor", lambda self, name: pytest.fail("a shard was computed"))
    assert run_command("merge", adapter, tmp_path / "out", "--drift_rows", 0, "--gguf", "q8_0") == 2
    assert "boom" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_room_for_gguf_files_is_looked_for_with_that_for_the_shards(tiny_llama, tmp_path, monkeypatch, capsys):
    adapter = write_peft_adapter(tiny_llama, tmp_path / "adapter")
    shards = (tiny_llama / "model.safetensors").stat().st_size / 2  # in bf16
    monkeypatch.setattr("revinst.export.merge.shutil.disk_usage", lambda path: SimpleNamespace(free=1.5 * shards))
    assert run_command("merge", adapter, tmp_path / "x", "--drift_rows", 0, "--gguf", "bf16") == 2
    assert "GB are needed" in capsys.readouterr().err
    assert run_command("merge", adapter, tmp_path / "out", "--drift_rows", 0) == 0


@pytest.mark.wide
@pytest.mark.timeout(900)
def test_train_merge_export_and_load_without_revinst(base, tmp_path, monkeypatch):
    """SmolLM2: the instructions of the adapter on its 4-bit base, of both merges and of the GGUF file.

    Greedy in fp32. Bounds from what was seen, see dev/LOG.md.
    """
    fit = {
        "data.source": "quickstart",
        "data.seq_len": 384,
        "data.rows_per_step": 8,
        "data.heldout_fraction": 0.1,
        "model.base": base,
        "model.lora": "{r: 8, alpha: 16, dropout: 0.0, target_modules: all-linear}",
        "model.lr": 2e-3,
        "trainer.max_steps": 5,
        "runs_dir": tmp_path,
        "run_name": "run",
        "samples.every_steps": 1000,
    }
    assert run_command("fit", *(part for key, value in fit.items() for part in (f"--{key}", value))) == 0
    reports = {}
    for onto, extra in (("nf4", ("--gguf", "bf16", "q8_0")), ("16bit", ())):
        out = tmp_path / onto
        assert run_command("merge", tmp_path / "run", out, "--onto", onto, "--drift_rows", 6, *extra) == 0
        reports |= {f"{onto} {name}": f for name, f in json.loads((out / "drift.json").read_text())["forms"].items()}
    assert set(reports) == {"nf4 bf16", "nf4 gguf bf16", "nf4 gguf q8_0", "16bit bf16"}
    assert reports["nf4 bf16"]["kl"]["mean"] < 1e-3 < reports["16bit bf16"]["kl"]["mean"]
    assert reports["nf4 bf16"]["equal_greedy"]["share"] >= 0.75
    assert reports["nf4 gguf bf16"]["kl"]["mean"] == pytest.approx(reports["nf4 bf16"]["kl"]["mean"], rel=1e-3)
    assert reports["nf4 gguf q8_0"]["kl"]["mean"] < 0.02

    # The adapter as its card says:
    monkeypatch.setattr("revinst.export.publish.push", lambda *args, **options: None)
    assert run_command("publish", tmp_path / "run", "--push_to_hub", "me/adapter") == 0
    card = (tmp_path / "run" / "adapter" / "README.md").read_text()
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    snippet = snippet.replace("me/adapter", str(tmp_path / "run" / "adapter")).replace("=100", "=8")
    done = subprocess.run(
        [sys.executable, "-c", snippet + "\nprint(inputs['input_ids'][0, :2].tolist(), tokenizer.bos_token_id)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ids, bos = re.fullmatch(r"\[(.*)\] (\d+)", done.stdout.splitlines()[-1]).groups()
    assert ids.split(", ")[0] == bos != ids.split(", ")[1]

    # In plain transformers, the prompt as a text, one row at a time. After five steps texts are close calls.
    source = [{"id": str(n), "response": row.response} for n, row in enumerate(load_examples("quickstart")[0][:6])]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in source))
    assert run_command(
        "generate", tmp_path / "run", tmp_path / "texts.jsonl", "--output", tmp_path / "apart.jsonl",
        "--max_new_tokens", 24, "--engine", "hf", "--pick", "greedy", "--precision", "fp32",
    ) == 0  # fmt: skip
    apart = [json.loads(line)["prediction"] for line in (tmp_path / "apart.jsonl").read_text().splitlines()]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "nf4", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "nf4")
    prompt = prompt_text(load_template("blog"))
    written, trained = [], open_trained(str(tmp_path / "run"))
    encoded = trained.encode_to_generate(list(load_examples("quickstart")[0][:6]), 24).ids
    for row, as_trained in zip(source, encoded, strict=True):
        inputs = tokenizer(prompt.replace("{response}", row["response"]), return_tensors="pt")
        assert inputs.input_ids[0, 0] == tokenizer.bos_token_id and inputs.input_ids[0, 1] != tokenizer.bos_token_id
        assert inputs.input_ids[0].tolist() == list(as_trained)
        ids = model.generate(**inputs, max_new_tokens=24)[0, inputs.input_ids.shape[1] :]
        written.append(tokenizer.decode(ids, skip_special_tokens=True).strip())
    assert sum(a == b for a, b in zip(apart, written, strict=True)) >= 3, list(zip(apart, written, strict=True))
