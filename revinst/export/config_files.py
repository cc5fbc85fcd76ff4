"""A merged model's config.json and generation_config.json, as transformers from 4.56 on and servers read them alike."""

from pathlib import Path
from typing import TYPE_CHECKING

from revinst.data.tokenizer import Tokenizer
from revinst.runs.files import read_json, write_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig

OLD_KINDS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")  # of rotary angles, in transformers 4.56
OWN_NAMES = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}  # GPT-NeoX's there


def write_config(config: "PretrainedConfig", folder: Path) -> None:
    """transformers' own config.json, and beside its names those of 4.x, which takes defaults where it finds none."""
    config.save_pretrained(folder)
    values = read_json(folder / "config.json")
    for part in (values, *(value for value in values.values() if isinstance(value, dict))):
        names = rotary_names(part.get("rope_parameters"))
        own = OWN_NAMES if part.get("model_type", "").startswith("gpt_neox") else {}
        part.update({own.get(name, name): value for name, value in names.items()})
    write_json(folder / "config.json", values)


def rotary_names(rope: object) -> dict[str, object]:
    """`rope_parameters` of transformers 5 as 4.x names them; none for a kind that 4.x has not.

    >>> rotary_names({"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6})
    {'rope_theta': 1000000.0, 'rope_scaling': {'rope_type': 'linear', 'factor': 2.0}}
    """
    if not isinstance(rope, dict):
        return {}
    if "rope_theta" not in rope:  # of each kind of layers, as Gemma 3 has them
        names, sliding = rotary_names(rope.get("full_attention")), rope.get("sliding_attention")
        return names | {"rope_local_base_freq": sliding["rope_theta"]} if names and sliding else names
    kind = rope.get("rope_type", "default")
    if kind not in OLD_KINDS:
        return {}
    names = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}
    scaling = {name: value for name, value in rope.items() if name not in names}
    if kind == "longrope":  # Phi-3's class of 4.x takes these three and no other
        scaling = {"type": kind} | {name: scaling[name] for name in ("short_factor", "long_factor")}
    return names | ({"rope_scaling": scaling} if kind != "default" else {})


def write_special_ids(folder: Path, config: "PretrainedConfig", tokenizer: Tokenizer) -> None:
    """Into `config` and greedy generation settings: all that end a text, and a padding token that has an embedding."""
    from transformers import GenerationConfig

    ends: int | list[int] = tokenizer.eos_ids if tokenizer.other_ends else tokenizer.eos_id
    config.bos_token_id, config.eos_token_id, config.pad_token_id = tokenizer.bos_id, ends, tokenizer.named_pad_id
    GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        do_sample=False,
    ).save_pretrained(str(folder))
