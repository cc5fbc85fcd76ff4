"""transformers 4.56 and llama.cpp make the same of a merged folder as the installed transformers."""

import json
import math
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as BackendTokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from revinst.data.tokenizer import load_tokenizer
from revinst.export.gguf import write_gguf
from revinst.export.gguf_tokenizer import PRE_TOKENIZERS, split_steps
from revinst.export.merge import plan_merge, write_merge, write_text_files
from tests.export.readers import LLAMA_CPP, OLD_TRANSFORMERS, read_with, write_exact_gguf
from tests.model.base_cases import plain_model
from tests.tiny import run_in_process, write_peft_adapter

pytestmark = [pytest.mark.wide, pytest.mark.timeout(3600)]

PROMPT = "### Instruction:\nUse the Input below.\n\n### Input:\n{}\n\n### Response:\n"
TEXTS = [PROMPT.format(text) for text in ("A comet's tail: 1,234.5 km.", "naïve Ελληνικά 中文 🙂", "  x =\t[1]")]
TEXTS += ["plain text", "Don't we'll I'M"]
SPLIT_TEXTS = [*TEXTS, "HE'LL 2024-01-02 ab12345cd\r\n \n\n\tx_y__z", "testÉCOLE façade ΣΊΣΥΦΟΣ", "مرحبا ١٢٣ हिन्दी में"]
SPLIT_TEXTS += ["한국어 텍스트 日本語テキスト", "a\u00a0b   c…“q” — d  ½ ² Ⅳ ①   "]
LLAMA_3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
LONG = {"short_factor": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5], "long_factor": [float(n + 2) for n in range(8)]}
BY_LAYER = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
}
BASES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "llama-linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}},
    "llama-3": {"rope_parameters": LLAMA_3 | {"rope_type": "llama3", "rope_theta": 5e5}, "tie_word_embeddings": True},
    "mistral": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "sliding_window": 16},
    "qwen2": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "qwen3": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "gemma3_text": {
        **{"rope_parameters": BY_LAYER, "sliding_window": 16, "layer_types": list(BY_LAYER)},
        "query_pre_attn_scalar": 16,
    },
    "phi3": {
        "rope_parameters": LONG | {"rope_type": "longrope", "rope_theta": 3e4},
        "original_max_position_embeddings": 16,
    },
    "olmo2": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "granite": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "logits_scaling": 4.0},
    "stablelm": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5}},
    "gpt_neox": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5}},
    "mixtral": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "num_local_experts": 4},
}
THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
IN_WINDOWS = {
    "sliding_window": 16,
    "num_hidden_layers": 4,
    "layer_types": [*["sliding_attention"] * 3, "full_attention"],
}
YARN = {"rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 64}
SPLIT_ANGLES = {"full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 5e5}}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": True}
GRANITE = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.1}
IN_GGUF: dict[str, dict[str, Any]] = BASES | {
    "llama-biases": THETA | {"attention_bias": True, "mlp_bias": True},
    "llama-yarn": {"rope_parameters": YARN | {"attention_factor": 0.1 * math.log(8) + 1}},
    "qwen2-yarn": {"rope_parameters": YARN},
    "mistral": THETA | {"sliding_window": None, "head_dim": 32},
    "qwen3": THETA | {"head_dim": 32},
    "gemma2": {
        **THETA | {"sliding_window": 16, "query_pre_attn_scalar": 32, "head_dim": 32},
        **{"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    },
    # The short factors in a context of 512 tokens, and the long ones: no text has two tokens or fewer.
    "phi3": BASES["phi3"] | {"original_max_position_embeddings": 512, "max_position_embeddings": 2048},
    "phi3-long": BASES["phi3"] | {"original_max_position_embeddings": 2},
    "phi3-4": THETA,
    "smollm3": THETA | {"num_hidden_layers": 4},
    "olmo3": IN_WINDOWS | {"rope_parameters": SPLIT_ANGLES},
    "granite": BASES["granite"] | GRANITE,
    "granite-biases": BASES["granite"] | {"attention_bias": True, "mlp_bias": True},
    "cohere2": THETA | IN_WINDOWS | {"logit_scale": 0.25},
    "stablelm": BASES["stablelm"] | {"use_qkv_bias": True},
    "stablelm-parallel": BASES["stablelm"] | {"use_parallel_residual": True},
    "gpt_neox-sequential": BASES["gpt_neox"] | {"use_parallel_residual": False},
    "mixtral": BASES["mixtral"] | {"sliding_window": None},
    "qwen3_moe": THETA | EXPERTS,
}
ATTENTION = {"gpt_neox": ["query_key_value"], "phi3": ["qkv_proj"]}


def write_merged(folder: Path, model_type: str, tokenizer: Path, rows: int, **options: Any) -> Path:
    """A tiny random base with the tokenizer of a folder, an adapter on it, and both merged."""
    sizes = {"vocab_size": rows, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512}
    if model_type == "gpt_neox":
        del sizes["num_key_value_heads"], sizes["head_dim"]
    config = AutoConfig.for_model(model_type, pad_token_id=0, initializer_range=0.2, **sizes | options)
    plain_model(config).to(torch.bfloat16).save_pretrained(folder / "base")
    for path in tokenizer.glob("*token*"):
        shutil.copy(path, folder / "base")
    targets = ATTENTION.get(model_type, ["q_proj", "v_proj"])
    adapter = write_peft_adapter(folder / "base", folder / "adapter", target_modules=targets)
    merge = plan_merge(str(folder / "base"), adapter, "16bit")
    (folder / "merged").mkdir()
    write_text_files(folder / "merged", merge.base.config, load_tokenizer(str(folder / "base")))
    write_merge(merge, folder / "merged")
    return folder / "merged"


@torch.no_grad()
def read_here(folder: Path) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    ids = [tokenizer(text).input_ids for text in TEXTS]
    mask = torch.ones(1, len(ids[0]))
    written = model.generate(torch.tensor(ids[:1]), attention_mask=mask, max_new_tokens=12)[0].tolist()
    return {"ids": ids, "logits": [model(torch.tensor([row])).logits[0] for row in ids], "written": written}


def divergence(here: list[torch.Tensor], there: list[torch.Tensor]) -> float:
    """The largest mean KL of a text, nats."""
    pairs = [(p.log_softmax(-1), q.log_softmax(-1)) for p, q in zip(here, there, strict=True)]
    return max((p.exp() * (p - q)).sum(-1).mean().item() for p, q in pairs)


def check_greedy(here: list[torch.Tensor], there: list[torch.Tensor], margin: float = 0.05) -> None:
    """The same token at every place, but where two are equally likely up to what 16-bit activations round, in nats."""
    for p, q in zip(here, there, strict=True):
        best = p.log_softmax(-1).topk(2).values
        sure = best[:, 0] - best[:, 1] > margin
        assert sure.float().mean() > 0.5 and torch.equal(p.argmax(-1)[sure], q.argmax(-1)[sure])


def test_transformers_4_reads_each_base(base, sentencepiece_folder, tmp_path):
    folders = {}
    for name, options in BASES.items():
        model_type, by_bytes = name.split("-")[0], name.startswith("qwen")
        tokenizer, rows = (Path(base), 49152) if by_bytes else (sentencepiece_folder, 1064)
        folders[name] = write_merged(tmp_path / name, model_type, tokenizer, rows, **options)
    read = read_with("transformers-4.56", OLD_TRANSFORMERS, list(folders.values()), TEXTS, tmp_path)
    for name, there in zip(folders, read, strict=True):
        here = read_here(folders[name])
        tokenizer = load_tokenizer(str(tmp_path / name / "base"))
        assert here["ids"] == [[tokenizer.bos_id, *tokenizer.encode_fixed(text)] for text in TEXTS], name
        assert here["ids"] == there["ids"], name
        assert divergence(here["logits"], there["logits"]) < 1e-6, name
        assert here["written"] == there["written"], name


def test_transformers_4_reads_each_tokenizer(base, sentencepiece_folder, tmp_path):
    """A prompt begins with one BOS, a rendered chat too, and ends with itself; every end of the base is kept."""
    spelt = AutoTokenizer.from_pretrained(sentencepiece_folder, add_bos_token=True, add_eos_token=True)
    spelt.chat_template = "{{ bos_token }}{% for message in messages %}[{{ message.content }}]{% endfor %}"
    spelt.save_pretrained(tmp_path / "spelt")
    folders = [
        write_merged(tmp_path / "a", "llama", tmp_path / "spelt", 1000, eos_token_id=[2, 0]),
        write_merged(tmp_path / "b", "llama", tmp_path / "spelt", 1000, eos_token_id=[2, 0]),
        write_merged(tmp_path / "c", "llama", Path(base), 49152),
    ]
    tokenizer = load_tokenizer(str(tmp_path / "b" / "base"))
    tokenizer.hf.chat_template = spelt.chat_template
    write_text_files(folders[1], AutoConfig.from_pretrained(folders[1]), tokenizer, add_bos=False)
    read = read_with("transformers-4.56", OLD_TRANSFORMERS, folders, TEXTS, tmp_path)
    for folder, there in zip(folders, read, strict=True):
        assert there["ids"] == read_here(folder)["ids"]
        assert not any(row[-1] == 2 for row in there["ids"])
    assert [there["ids"][0][0] == 1 for there in read] == [True, False, True]
    assert read[1]["chat"].count(1) == 1 and read[1]["chat"][0] == 1, "a template that spells its BOS"
    assert [there["ends"] for there in read] == [[2, 0], [2, 0], 2]


def test_llama_cpp_computes_each_architecture(base, sentencepiece_folder, tmp_path):
    """In fp32, so that nothing is rounded: with norms, biases and routers random, each key and order of rows shows.

    llama.cpp looks GELU up in a table of 16 bits: Gemma's and GPT-NeoX's logits differ by some thousandths.
    """
    folders, files = {}, {}
    for name, options in IN_GGUF.items():
        by_bytes = name.startswith("qwen")
        tokenizer, rows = (Path(base), 49152) if by_bytes else (sentencepiece_folder, 1064)
        folders[name] = write_merged(tmp_path / name, name.split("-")[0], tokenizer, rows, **options)
        files[name] = tmp_path / f"{name}.gguf"
        write_exact_gguf(folders[name], files[name], load_tokenizer(str(folders[name])))
    read = read_with("llama.cpp", LLAMA_CPP, [*files.values()], TEXTS, tmp_path)
    for name, there in zip(files, read, strict=True):
        here = read_here(folders[name])
        assert here["ids"] == there["ids"] and min(map(len, there["ids"])) > 2, name
        assert divergence(here["logits"], there["logits"]) < 1e-6, name  # 3e-7 was seen
        bound = 2e-2 if name.startswith(("gemma", "gpt_neox")) else 2e-4  # 4e-3 and 5e-5 were seen
        pairs = zip(here["logits"], there["logits"], strict=True)
        assert max((p - q).abs().max() for p, q in pairs) < bound, name
        check_greedy(here["logits"], there["logits"], 2 * bound)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_llama_cpp_splits_text_as_each_kind_of_tokenizer(name, tmp_path):
    """The tokens are learnt from unsplit text, so that they cross wherever a text is not split."""
    kind, backend = PRE_TOKENIZERS[name], BackendTokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, min_frequency=1, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SPLIT_TEXTS, trainer)
    definition = json.loads(backend.to_str())
    steps = [step | ({"trim_offsets": True} if step["type"] == "ByteLevel" else {}) for step in kind.steps]
    definition["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    definition["normalizer"] = {"type": "NFC"} if kind.nfc else None
    definition["model"]["ignore_merges"] = kind.whole_words
    check_ids(definition, {"bos_token": "<|end|>", "eos_token": "<|end|>"}, name, tmp_path)


def test_llama_cpp_splits_text_as_gemmas_tokenizer(sentencepiece_folder, tmp_path):
    definition = json.loads(AutoTokenizer.from_pretrained(sentencepiece_folder).backend_tokenizer.to_str())
    definition["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    definition["pre_tokenizer"] = split
    check_ids(definition, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, "default", tmp_path)


def check_ids(definition: dict[str, Any], named: dict[str, str], kind: str, folder: Path) -> None:
    """named: special tokens. kind: llama.cpp's name for how text is split."""
    backend = BackendTokenizer.from_str(json.dumps(definition))
    PreTrainedTokenizerFast(tokenizer_object=backend, **named).save_pretrained(folder / "tokenizer")
    merged = write_merged(folder, "llama", folder / "tokenizer", backend.get_vocab_size())
    tokenizer, file = load_tokenizer(str(merged)), folder / "m.gguf"
    assert split_steps(tokenizer) == kind
    write_gguf(merged, file, "bf16", tokenizer)
    (there,) = read_with("llama.cpp", LLAMA_CPP, [file], SPLIT_TEXTS, folder)
    assert there["ids"] == [[tokenizer.bos_id, *tokenizer.encode_fixed(text)] for text in SPLIT_TEXTS]


def test_llama_cpp_takes_white_space_behind_phi_3s_special_tokens(sentencepiece_folder, tmp_path):
    hf = AutoTokenizer.from_pretrained(sentencepiece_folder)
    added = [AddedToken("<|endoftext|>", special=True), AddedToken("<|user|>", rstrip=True, special=True)]
    hf.add_special_tokens({"additional_special_tokens": added})
    hf.save_pretrained(tmp_path / "tokenizer")
    folder, file = write_merged(tmp_path, "phi3", tmp_path / "tokenizer", 1064, **THETA), tmp_path / "m.gguf"
    tokenizer = load_tokenizer(str(folder))
    write_gguf(folder, file, "bf16", tokenizer, add_bos=False, begins_with_text=False)
    texts = ["<|user|>\n  A comet's tail. <|user|> \nthen"]
    (there,) = read_with("llama.cpp", LLAMA_CPP, [file], texts, tmp_path)
    assert there["ids"] == [tokenizer.encode_fixed(text, parse_special=True) for text in texts]


def test_llama_cpp_reads_each_file(base, smollm, llama, sentencepiece_folder, tmp_path):
    """Byte-level and SentencePiece's tokens, more rows than tokens, one and two kinds of angles; and the real model."""
    theta = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    linear = {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}}
    cases = {
        "padded": (llama, write_merged(tmp_path / "padded", "llama", sentencepiece_folder, 1064, **theta)),
        "linear": (llama, write_merged(tmp_path / "linear", "llama", sentencepiece_folder, 1000, **linear)),
        "bytes": (smollm, write_merged(tmp_path / "bytes", "llama", Path(base), 49152, tie_word_embeddings=True)),
        "real": (smollm, Path(base)),
    }
    files = [tmp_path / f"{name}.gguf" for name in cases]
    for file, (tokenizer, folder) in zip(files, cases.values(), strict=True):
        write_gguf(folder, file, "bf16", tokenizer)
    read = read_with("llama.cpp", LLAMA_CPP, files, TEXTS, tmp_path)
    for there, (tokenizer, folder) in zip(read, cases.values(), strict=True):
        own = [[tokenizer.bos_id, *tokenizer.encode_fixed(text)] for text in TEXTS]
        assert there["ids"] == own and set(tokenizer.eos_ids) <= set(there["ends"])
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            here = [model(torch.tensor([row])).logits[0] for row in own]
        assert there["rows"] == model.config.vocab_size
        assert divergence(here, there["logits"]) < 2e-3  # 2e-4 was seen: llama.cpp rounds activations to bf16
        check_greedy(here, there["logits"])


def test_llama_cpp_reads_a_prompt_that_begins_with_a_special_token(sentencepiece_folder, tmp_path):
    """transformers puts a word mark before text at the very beginning alone; llama.cpp would behind BOS too."""
    folder, file = write_merged(tmp_path, "llama", sentencepiece_folder, 1000), tmp_path / "m.gguf"
    tokenizer = load_tokenizer(str(folder))
    write_gguf(folder, file, "bf16", tokenizer, add_bos=False, begins_with_text=False)
    texts = ["<s>[INST] A comet's tail. [/INST]", "<s>Say hi.</s>\nthen"]
    (there,) = read_with("llama.cpp", LLAMA_CPP, [file], texts, tmp_path)
    assert there["ids"] == [tokenizer.encode_fixed(text, parse_special=True) for text in texts]


@pytest.fixture(scope="module")
def default_base(tmp_path_factory) -> Path:
    """Llama 2's tokenizer by description, 32,001 ids on 32,000 rows: a SentencePiece model of that size and kind (of
    mistral-common, Apache-2.0) with `<pad>` behind it. The weights are tiny and random.
    """
    folder = tmp_path_factory.mktemp("default_base")
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "mistral-common==1.13.1", "-d", folder]
    if subprocess.run(fetch, capture_output=True, check=False).returncode:
        pytest.skip("mistral-common can't be downloaded")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        (folder / "tokenizer.model").write_bytes(wheel.read("mistral_common/data/tokenizer.model.v1"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named | {"tokenizer_class": "LlamaTokenizer"}))
    hf = AutoTokenizer.from_pretrained(folder)
    hf.add_special_tokens({"pad_token": "<pad>"})
    base = folder / "base"
    hf.save_pretrained(base)
    sizes = {"vocab_size": 32000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **sizes | heads, pad_token_id=0, initializer_range=0.15)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(base)
    assert len(AutoTokenizer.from_pretrained(base)) == 32001
    return base


def test_the_default_bases_tokenizer_through_the_whole_chain(default_base, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_text(json.dumps({"response": "A <pad> stands for nothing.</s>"}) + "\n")
    fit = {
        "data.source": "quickstart",
        "data.seq_len": 384,
        "model.base": default_base,
        "model.lr": 1e-2,
        "trainer.max_steps": 20,
        "run_name": "run",
        "samples.every_steps": 1000,
    }
    assert run_in_process("fit", *(part for key, value in fit.items() for part in (f"--{key}", value))) == 0
    assert "the base has no row for <pad>, which it is read without" in capfd.readouterr().out
    assert run_in_process("evaluate", "runs/run", "--limit", 2) == 0
    assert run_in_process("generate", "runs/run", "texts.jsonl", "--pick", "greedy", "--output", "made.jsonl") == 0
    assert run_in_process("merge", "runs/run", "out", "--drift_rows", 4, "--gguf", "bf16") == 0
    drift = json.loads(Path("out/drift.json").read_text())["forms"]
    assert all(form["kl"]["mean"] < 1e-3 and form["equal_greedy"]["share"] == 1 for form in drift.values())
    assert json.loads(Path("out/config.json").read_text())["pad_token_id"] < 32000
    here, files = read_here(Path("out")), [tmp_path / "out" / "gguf" / "out-bf16.gguf"]
    for name, script, paths in (
        ("transformers-4.56", OLD_TRANSFORMERS, [tmp_path / "out"]),
        ("llama.cpp", LLAMA_CPP, files),
    ):
        (there,) = read_with(name, script, paths, TEXTS, tmp_path)
        assert here["ids"] == there["ids"] and here["ids"][0][0] == 1
        assert divergence(here["logits"], there["logits"]) < 2e-3
        check_greedy(here["logits"], there["logits"])
    AutoTokenizer.from_pretrained("runs/run/adapter")
