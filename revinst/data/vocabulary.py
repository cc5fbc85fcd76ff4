"""A tokenizer's ids against the rows of the base's embedding, and which of them end a text.

The two need not be of one length. Llama 2's tokenizers are known to have a `<pad>` behind the last row
(https://github.com/huggingface/transformers/issues/24899); other bases have rows that no token needs.
"""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NEEDED = ("bos_token", "eos_token", "unk_token")  # others are ours to choose


def count_rows(base: str) -> int | None:
    """Rows of the embedding, as the base's config.json says; None where it says nothing."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    except Exception:  # a tokenizer's folder without one; a bad one is an error when the model is built from it
        return None
    rows = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    return rows if isinstance(rows, int) else None


def find_foreign(hf: "PreTrainedTokenizerFast", rows: int) -> str:
    """Why it can't be this base's: a token that it can't do without has no row, its own, BOS, EOS or unknown."""
    added = hf.added_tokens_decoder
    own = [number for number in hf.get_vocab().values() if number not in added]
    needed = [getattr(hf, f"{name}_id") for name in NEEDED]
    highest = max(number for number in (0, *own, *needed) if number is not None)
    if highest < rows:
        return ""
    token = hf.convert_ids_to_tokens(highest)
    return f"{token!r} of its tokenizer has id {highest} and its embedding {rows} rows; they don't belong together"


def drop_rowless(hf: "PreTrainedTokenizerFast", rows: int) -> list[str]:
    """Takes added tokens without a row out of the tokenizer, so that their text is text like any other; their names."""
    dropped = [token.content for number, token in sorted(hf.added_tokens_decoder.items()) if number >= rows]
    if dropped:
        definition = json.loads(hf.backend_tokenizer.to_str())
        definition["added_tokens"] = [token for token in definition["added_tokens"] if token["id"] < rows]
        hf._tokenizer = type(hf.backend_tokenizer).from_str(json.dumps(definition))
        for name, token in hf.special_tokens_map.items():
            if token in dropped:
                setattr(hf, name, None)
    return dropped


def read_ends(base: str, hf: "PreTrainedTokenizerFast") -> list[int]:
    """Ids that end a text by the base's own generation settings, such as Gemma's `<end_of_turn>`; EOS need not be one.

    An ordinary word is none of them: config classes have an `eos_token_id` where config.json says none.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(base).eos_token_id
    except Exception:  # none, or one that was edited: as in `count_rows`
        try:
            ends = AutoConfig.from_pretrained(base, trust_remote_code=False).eos_token_id
        except Exception:
            ends = None
    special = {number for number, token in hf.added_tokens_decoder.items() if token.special}
    named = ends if isinstance(ends, list) else [ends]  # of a config that was edited: anything
    return [number for number in named if isinstance(number, int) and number in special]
