"""A tokenizer's files, as transformers from 4.56 on and servers without transformers read them alike."""

from pathlib import Path

from revinst.data.tokenizer import Tokenizer
from revinst.runs.files import read_json, write_json

# Under this name each version takes tokenizer.json at its word. Others are unknown to 4.x (TokenizersBackend), or build
# parts anew from flags (LlamaTokenizer).
PLAIN_CLASS = "PreTrainedTokenizerFast"


def write_tokenizer(tokenizer: Tokenizer, folder: Path, *, add_bos: bool = True) -> None:
    """Into an existing folder. A prompt gets the BOS that it had in training, unless its template spells that (not
    `add_bos`), and nothing at its end, whatever the base's own tokenizer adds.
    """
    from tokenizers.processors import TemplateProcessing

    hf = tokenizer.hf
    hf.save_pretrained(str(folder))
    settings = folder / "tokenizer_config.json"
    named = {name: str(token) for name, token in hf.special_tokens_map.items()}
    named["pad_token"] = hf.convert_ids_to_tokens(tokenizer.named_pad_id)
    others = {
        "add_bos_token": add_bos and tokenizer.bos_id is not None,  # for what takes another class for some models
        "add_eos_token": False,
        "additional_special_tokens": [token for token in hf.all_special_tokens if token not in named.values()],
        "clean_up_tokenization_spaces": False,
        "model_max_length": read_json(settings)["model_max_length"],
        "tokenizer_class": PLAIN_CLASS,
    }
    write_json(settings, named | others)
    backend = type(hf.backend_tokenizer).from_str(hf.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    if others["add_bos_token"]:
        bos = hf.convert_ids_to_tokens(tokenizer.bos_id)
        backend.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B:1", special_tokens=[(bos, tokenizer.bos_id)]
        )
    else:
        backend.post_processor = TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    backend.save(str(folder / "tokenizer.json"))
