"""The merge: what it adds to what, held against PEFT's own forward, and how much memory it takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.export import merge as merging
from revinst.export.merge import plan_merge, write_merge, write_text_files
from revinst.inference.load import load_for_inference
from revinst.model.base import load_base, round_to_nf4
from revinst.model.base_files import write_tensors
from tests.tiny import tiny_config, write_peft_adapter

IDS = torch.arange(50, 90)[None]
CPU = torch.device("cpu")
LORA = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 24}},
    "one_layer": {"target_modules": ["v_proj", "up_proj"], "layers_to_transform": [1]},
    "regex": {"target_modules": r".*\.1\.self_attn\.(q|v)_proj"},
    "dora": {"use_dora": True},
    "saved_norm": {"modules_to_save": ["norm"]},
    "saved_head": {"modules_to_save": ["lm_head"]},
    "saved_both": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "on_head": {"target_modules": ["q_proj", "lm_head"]},
}


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def small(request, tmp_path_factory) -> Path:
    """A random bf16 Llama with 300 ids."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("small")
    config = tiny_config(vocab_size=300, initializer_range=0.2, tie_word_embeddings=request.param)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def merge(base: Path, adapter: Path, out: Path, onto: str) -> Path:
    out.mkdir()
    write_merge(plan_merge(str(base), adapter, onto), out)
    return out


@torch.no_grad()
def log_p(model: torch.nn.Module) -> torch.Tensor:
    return model(IDS).logits.float().log_softmax(-1)


@torch.no_grad()
def log_p_of(folder: Path) -> torch.Tensor:
    return log_p(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def kl(p: torch.Tensor, q: torch.Tensor) -> float:
    return (p.exp() * (p - q)).sum(-1).mean().item()


@pytest.mark.parametrize("kind", LORA)
@pytest.mark.parametrize("onto", ["nf4", "16bit"])
def test_merged_is_what_peft_computes(small, tmp_path, kind, onto):
    """PEFT's forward in fp32 on the same base values; the merged weights differ by one rounding to bf16."""
    adapter = write_peft_adapter(small, tmp_path / "adapter", **LORA[kind])
    quantization = "nf4" if onto == "nf4" else "none"
    base = load_for_inference(str(small), None, CPU, quantization, dequantize=True).base.float()
    untouched = log_p(base)
    expected = log_p(PeftModel.from_pretrained(base, adapter))
    merged = log_p_of(merge(small, adapter, tmp_path / "merged", onto))
    assert kl(expected, untouched) > 0.01
    assert kl(expected, merged) < 0.02 * kl(expected, untouched) and kl(expected, merged) < 1e-3


MIXTURE = {"num_local_experts": 4, "num_experts_per_tok": 2, "target_modules": ["q_proj", "o_proj"]}
RENAMED = {"target_modules": ["query_key_value", "dense_4h_to_h"]}


@pytest.mark.parametrize(
    ("model_type", "options", "part"),
    [
        ("mixtral", MIXTURE, "model.layers.1.block_sparse_moe.experts.3.w2.weight"),
        ("qwen3_moe", MIXTURE, "model.layers.1.mlp.experts.3.down_proj.weight"),
        ("gpt_neox", RENAMED, "embed_out.weight"),
    ],
)
@pytest.mark.parametrize("onto", ["nf4", "16bit"])
def test_tensors_keep_the_names_of_the_bases_files(tmp_path, model_type, options, part, onto):
    """transformers renames tensors when it loads them, and stacks a mixture's experts; servers want the files'."""
    torch.manual_seed(0)
    options = dict(options)
    targets = options.pop("target_modules")
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = AutoConfig.for_model(
        model_type, **sizes, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2, **options
    )
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(base)
    adapter = write_peft_adapter(base, tmp_path / "adapter", target_modules=targets)
    merged = merge(base, adapter, tmp_path / "merged", onto)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, merged))
    assert before.keys() == after.keys() and torch.equal(before[part], after[part])
    quantization = "nf4" if onto == "nf4" else "none"
    network = load_for_inference(str(base), None, CPU, quantization, dequantize=True).base.float()
    untouched = log_p(network)
    adapted = PeftModel.from_pretrained(network, adapter)
    expected = log_p(adapted)
    # A router may take another expert where two are as good, so a mixture's weights are compared instead.
    assert "moe" in model_type or kl(expected, log_p_of(merged)) < 0.02 * kl(expected, untouched)
    by_peft, own = adapted.merge_and_unload().state_dict(), AutoModelForCausalLM.from_pretrained(merged).state_dict()
    assert by_peft.keys() == own.keys()
    assert all((own[name] != weight.to(own[name].dtype)).float().mean() < 1e-3 for name, weight in by_peft.items())


def test_a_layer_whose_adapter_is_never_computed_is_refused(tmp_path):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    mamba = {"use_mamba_kernels": False, "mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1}
    config = AutoConfig.for_model("jamba", vocab_size=300, num_hidden_layers=2, num_experts=2, **sizes, **mamba)
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(base)
    adapter = write_peft_adapter(base, tmp_path / "adapter", target_modules=["dt_proj", "in_proj"])
    with pytest.raises(UserError, match=r"an adapter on model\.layers\.0\.mamba\.dt_proj can't be merged"):
        plan_merge(str(base), adapter, "16bit")
    adapter = write_peft_adapter(base, tmp_path / "other", target_modules=["in_proj", "x_proj", "out_proj"])
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    untouched, expected = log_p(network), log_p(PeftModel.from_pretrained(network, adapter))
    assert kl(expected, log_p_of(merge(base, adapter, tmp_path / "merged", "16bit"))) < 0.02 * kl(expected, untouched)


def test_every_tensor_is_rounded_once_from_fp32(small, tmp_path):
    adapter = write_peft_adapter(small, tmp_path / "adapter")
    merged = load_file(merge(small, adapter, tmp_path / "merged", "nf4") / "model.safetensors")
    base = load_for_inference(str(small), None, CPU, "nf4", dequantize=True).base
    state = load_file(adapter / "adapter_model.safetensors")
    own = dict(base.state_dict())
    changed = 0
    for name, tensor in merged.items():
        a = state.get(f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight")
        expected = own[name]
        if a is not None:
            b = state[f"base_model.model.{name.removesuffix('.weight')}.lora_B.weight"]
            exact = expected.double() + 2.0 * (b.double() @ a.double())
            expected = exact.to(torch.bfloat16)
            changed += 1
            assert (tensor != expected).float().mean() < 1e-3  # a tie that fp32 and fp64 round apart
            continue
        assert torch.equal(tensor, expected), name
    assert changed == 14


def test_shards_are_written_one_by_one_with_an_index(small, tmp_path, monkeypatch):
    adapter = write_peft_adapter(small, tmp_path / "adapter")
    whole = merge(small, adapter, tmp_path / "whole", "nf4")
    monkeypatch.setattr(merging, "SHARD_BYTES", 40_000)
    parts = merge(small, adapter, tmp_path / "parts", "nf4")
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in parts.glob("*.safetensors"))
    assert len(files) > 3 and sorted(set(index["weight_map"].values())) == files
    tensors = {name: tensor for file in files for name, tensor in load_file(parts / file).items()}
    expected = load_file(whole / "model.safetensors")
    assert index["weight_map"].keys() == tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    # and a base in shards, of fp16, with a buffer that older checkpoints carry
    for file in files:
        old = {name: tensor.half() for name, tensor in load_file(parts / file).items()}
        if file == files[0]:
            old["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
        save_file(old, parts / file, metadata={"format": "pt"})
    index["weight_map"]["model.layers.0.self_attn.rotary_emb.inv_freq"] = files[0]
    (parts / "model.safetensors.index.json").write_text(json.dumps(index))
    again = merge(parts, adapter, tmp_path / "again", "16bit")
    monkeypatch.undo()
    names = [name for path in again.glob("*.safetensors") for name in safe_open(path, "pt").keys()]  # noqa: SIM118
    assert sorted(names) == sorted(expected)
    assert torch.isfinite(log_p_of(again)).all()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "can't be read"),
        (lambda folder: change_config(folder, intermediate_size=256), "does not fit the model"),
        (lambda folder: change_config(folder, num_hidden_layers=3), "9 tensors are missing"),
        (lambda folder: change_config(folder, vocab_size=301), "its config.json says"),
        (lambda folder: change_config(folder, pad_token_id=49152), "no model can be built from its config.json"),
        (lambda folder: change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4}), "quantised"),
        (lambda folder: drop_tensor(folder, "model.norm.weight"), "1 tensors are missing, the first is model.norm"),
    ],
)
def test_base_that_does_not_fit(tiny_llama, tmp_path, spoil, says):
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(tiny_llama).save_pretrained(base)
    adapter = write_peft_adapter(base, tmp_path / "adapter")
    spoil(base)
    with pytest.raises(UserError, match=says):
        plan_merge(str(base), adapter, "16bit")  # before a shard is written


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def drop_tensor(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_end_and_padding_are_the_tokenizers(tiny_llama, tmp_path):
    """Whatever the base's own generation settings say, and where its tokenizer has no padding token."""
    tokenizer = load_tokenizer(str(tiny_llama))
    tokenizer.hf.pad_token = None
    config = AutoConfig.from_pretrained(tiny_llama)
    config.eos_token_id = [77, 78]
    write_text_files(tmp_path, config, tokenizer)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written["eos_token_id"] == tokenizer.eos_id and written["pad_token_id"] == tokenizer.pad_id
    assert "temperature" not in written and not written.get("do_sample")
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == tokenizer.eos_id
    again = load_tokenizer(str(tmp_path))
    assert again.hf.pad_token_id == tokenizer.pad_id and len(again.hf) == len(tokenizer.hf)


MEASURE = """
import json, sys
from pathlib import Path
import torch
import revinst.export.merge as merging
from revinst.model.base import round_to_nf4
from revinst.system import peak_bytes
merging.SHARD_BYTES = 300 * 10**6
round_to_nf4(torch.ones(64, 64, dtype=torch.bfloat16))  # imports
merge = merging.plan_merge(sys.argv[2], Path(sys.argv[3]), "nf4")
before = peak_bytes()
out = Path(sys.argv[1]); out.mkdir()
merging.write_merge(merge, out)
print(json.dumps([before, peak_bytes()]))
"""


@pytest.mark.wide
def test_memory_follows_the_tensor_and_not_the_shard(tmp_path):
    """A model of 0.5 GB in two shards: the process grows by some tensors of 6 MB and what malloc keeps of them."""
    config = LlamaConfig(
        vocab_size=1000, hidden_size=1024, intermediate_size=3072, num_hidden_layers=20, num_attention_heads=8
    )
    base = tmp_path / "base"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(base, max_shard_size="200MB")
    adapter = write_peft_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    run = [sys.executable, "-c", MEASURE, tmp_path / "merged", base, adapter]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    before, peak = json.loads(done.stdout.splitlines()[-1])
    sizes = [path.stat().st_size for path in (tmp_path / "merged").glob("*.safetensors")]
    assert sum(sizes) > 500e6 and len(sizes) == 2 and max(sizes) > 250e6
    grown = f"{(peak - before) / 1e6:.0f} MB over {before / 1e6:.0f} MB"
    assert 10e6 < peak - before < 0.75 * max(sizes), grown
    load_base(str(tmp_path / "merged"), CPU, "none")


def test_files_are_those_of_safetensors(tmp_path):
    """The same numbers, names and metadata as its own writer gives, of any shape."""
    tensors = {
        name: torch.randn(shape).to(torch.bfloat16)
        for name, shape in {"b": (3, 5), "a": (7,), "empty": (0, 4), "é.one": (), "c": (2, 3, 4)}.items()
    }
    write_tensors(tmp_path / "ours", {name: tensor.shape for name, tensor in tensors.items()}, tensors.__getitem__)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    ours, theirs = (load_file(tmp_path / name) for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys() == tensors.keys()
    assert all(torch.equal(ours[name], tensor) and ours[name].shape == tensor.shape for name, tensor in tensors.items())
    with safe_open(tmp_path / "ours", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.gpu
def test_4_bit_values_of_cpu_and_gpu():
    """A merge without a GPU has the numbers of training on one, but for a few blocks whose scale is a step away."""
    torch.manual_seed(0)
    for shape in ((512, 1024), (4096, 11008)):
        weight = torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
        pairs = [quantize_4bit(w, quant_type="nf4", compress_statistics=True) for w in (weight, weight.cuda())]
        (here, here_state), (there, there_state) = pairs
        assert torch.equal(here, there.cpu()), f"{shape}: the 4-bit numbers differ"
        values = dequantize_4bit(there, there_state).cpu()
        assert torch.equal(round_to_nf4(weight), values), f"{shape}: merging on this machine"
        steps = (here_state.absmax.int() - there_state.absmax.cpu().int()).abs()
        assert steps.max() <= 1 and steps.float().mean() < 0.005, f"{shape}: {steps.float().mean():.2%} of the blocks"
