"""Every file in configs/ parses, names no unknown key, and says in its header how to launch it."""

import json
import re
from pathlib import Path

import pytest

from revinst.commands.plan import main as plan
from revinst.config.file import read_yaml
from revinst.config.keys import flatten
from revinst.config.parser import dump_config, read_config
from revinst.config.trainer_flags import check_trainer_flags
from revinst.data.prompt import load_template, prompt_text
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.training.resume import config_difference
from revinst.training.strategies import ShardedStrategy, check_optimizer
from revinst.training.trainer import make_classes
from scripts.shapes import TURNS, add_chat, write_config
from scripts.sweep import spell

RECIPE_OF_LLAMA_2 = ("llama3.1-8b", "mistral-7b", "qwen3-8b", "gemma3-4b")
CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def test_all_are_tested():
    names = {path.stem for path in CONFIGS}
    print(f"{len(CONFIGS)} configs")
    assert {"quickstart", "smollm2-dolly", "llama2-7b", "llama2-7b-blog", "llama2-7b-ddp", "llama2-70b-fsdp"} <= names
    assert {*RECIPE_OF_LLAMA_2} <= names


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config(path):
    config = read_config(["--config", str(path)])
    check_trainer_flags(config)
    assert config.run_name == path.stem
    assert f"configs/{path.name}" in path.read_text().split("run_name")[0]


def flatten_config(name: str) -> dict:
    config = read_config(["--config", str(next(path for path in CONFIGS if path.stem == name))])
    return flatten(read_yaml(dump_config(config)))


def test_blog_recipe():
    """The values of the blog's recipe table."""
    config = read_config(["--config", str(next(p for p in CONFIGS if p.stem == "llama2-7b-blog"))])
    data, model = config.data, config.model
    assert (data.template, data.supervise, data.packing, data.seq_len) == ("blog", "all", "joined", 2048)
    assert (data.rows_per_step, data.micro_batch_size, config.trainer.max_epochs) == (12, "auto", 3)
    assert (model.lora.r, model.lora.alpha, model.lora.dropout) == (64, 16, 0.1)
    assert list(model.lora.target_modules) == ["q_proj", "v_proj"]
    assert (model.optimizer, model.lr, model.lr_schedule) == ("paged_adamw_32bit", 2e-4, "constant")
    assert (model.weight_decay, model.max_grad_norm, model.quantization) == (0.0, 0.3, "nf4")


@pytest.mark.parametrize("name", RECIPE_OF_LLAMA_2)
def test_bases_that_people_take_have_the_recipe_of_llama_2(name):
    """All keys but the run's name, the base and its prompt."""
    ours, llama = (flatten_config(each) for each in (name, "llama2-7b"))
    assert {key for key in ours if ours[key] != llama[key]} <= {"run_name", "model.base", "data.template"}
    assert ours["data.template"] == ("chat" if name in TURNS else "blog")


@pytest.mark.wide
@pytest.mark.parametrize("name", RECIPE_OF_LLAMA_2)
def test_planned_at_their_shape(name, base, tmp_path, capsys):
    """As the header says, for a card of 24 GB."""
    write_config(name, tmp_path, Path(base))
    path = next(path for path in CONFIGS if path.stem == name)
    keys = ["--model.base", str(tmp_path), "--data.source", "quickstart", "--data.val_fraction", "0.02"]
    capsys.readouterr()
    assert plan([str(path), *keys, "--device", "cuda", "--memory_gib", "22", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["fits"] and planned["micro_batch_size"] == 8 and planned["recomputed_layers"][0] > 30
    said = re.search(r"Memory by `revinst plan`: ([\d.]+) GiB with the 8 rows", path.read_text())
    assert said and float(said[1]) == pytest.approx(planned["memory_gib"]["peak"], rel=0.03)


@pytest.mark.parametrize("name", TURNS)
def test_a_chat_is_of_the_bases_kind(name, base, tmp_path):
    """Its turn tokens are one id each, and what ends a turn ends a text."""
    write_config(name, tmp_path, Path(base))
    add_chat(name, tmp_path)
    start, middle, end, answers = TURNS[name]
    tokenizer = load_tokenizer(str(tmp_path))
    prompt = prompt_text(load_template("chat", tokenizer.hf))
    assert prompt.endswith("\n\n{response}" + end + start + answers + middle)
    assert tokenizer.hf.convert_ids_to_tokens(tokenizer.eos_id) == end.strip()
    ids = tokenizer.encode_fixed(prompt, parse_special=True)
    assert ids.count(tokenizer.eos_id) == 1 and ids[0] == tokenizer.bos_id


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ("deepspeed_stage_3", "use ddp, or fsdp2"),
        ("deepspeed", "fsdp2"),
        ("fsdp", "use fsdp2"),
        ("ddp_spawn", "choose from auto, ddp and fsdp2"),
        ("ddp_notebook_find_unused_parameters_true", "choose from auto, ddp and fsdp2"),
        ("lightning.pytorch.strategies.ModelParallelStrategy", "use fsdp2"),
    ],
)
def test_strategies_that_do_not_train_right_are_refused(strategy, reason):
    path = next(p for p in CONFIGS if p.stem == "llama2-7b-ddp")
    config = read_config(["--config", str(path), "--trainer.strategy", strategy])
    with pytest.raises(UserError, match=f"trainer.strategy {strategy}: .*{reason}"):
        check_trainer_flags(config)


def test_sharded_weights_need_torchs_adamw():
    """Or bitsandbytes would fail in its kernels, hours after the start of a download."""
    for name in ("paged_adamw_32bit", "paged_adamw_8bit"):
        with pytest.raises(UserError, match=f"model.optimizer {name}: .*use model.optimizer: adamw"):
            check_optimizer(ShardedStrategy(), name)
        check_optimizer("ddp", name)
    check_optimizer(ShardedStrategy(), "adamw")


@pytest.mark.parametrize("logger", ["WandbLogger", "[WandbLogger]"])
def test_a_logger_that_is_not_installed_is_said_in_one_line(logger, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", "")
    with pytest.raises(UserError, match=r"^lightning\.pytorch\.loggers\.WandbLogger: "):
        make_classes(read_config(["--trainer.logger", logger, "--trainer.max_steps", "1"]).trainer)


def test_a_resumed_run_may_have_another_logger():
    ours = [dump_config(read_config(["--trainer.max_steps", "1"]))]
    for logger in ("false", "{class_path: CSVLogger, init_args: {save_dir: here}}", "[{class_path: WandbLogger}]"):
        ours.append(dump_config(read_config(["--trainer.max_steps", "1", "--trainer.logger", logger])))
    assert "save_dir: here" in ours[2]
    assert not any(config_difference(old, new) for old in ours for new in ours)
    assert config_difference(ours[0], ours[1].replace("lr: 0.0002", "lr: 0.1")) == ["model.lr: 0.0002 -> 0.1"]


SWEEPS = sorted((CONFIGS[0].parent / "sweeps").glob("*.yaml"))


def test_trials_of_sweeps_name_keys():
    """`trainer.callbacks` is null in the config itself, as all of Lightning's keys that it does not set."""
    known = flatten_config("smollm2-dolly")
    for sweep in SWEEPS:
        trials = read_yaml(sweep.read_text(encoding="utf-8"))
        given = [json.dumps(overrides, sort_keys=True) for overrides in trials.values()]
        assert len(given) == len(set(given)) > 2, f"{sweep}: two are the same"
        assert {key for overrides in trials.values() for key in overrides} <= known.keys() | {"trainer.callbacks"}


@pytest.mark.wide
@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_trials_of_sweeps(sweep):
    for overrides in read_yaml(sweep.read_text(encoding="utf-8")).values():
        given = [part for key, value in overrides.items() for part in (f"--{key}", spell(value))]
        config = read_config(["--config", str(CONFIGS[0].parent / "smollm2-dolly.yaml"), *given])
        make_classes(config.trainer)
