"""A tokenizer in GGUF's words: tokens, their kinds, and how text is split before they are merged."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from revinst.data.tokenizer import Tokenizer
from revinst.errors import UserError

if TYPE_CHECKING:
    from gguf import GGUFWriter, TokenType

# llama.cpp's names of what a byte-level tokenizer does with text before merging. Any other regular expression would be
# split otherwise there, without a word.
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
DIGITS = {"type": "Digits", "individual_digits": True}


@dataclass(frozen=True, slots=True)
class Splitting:
    """steps: of tokenizer.json. whole_words: a word that is a token needs no merges. nfc: characters are composed
    before, which llama.cpp does not do.
    """

    steps: list[dict[str, object]]
    whole_words: bool = False
    nfc: bool = False


def by_pattern(pattern: str) -> list[dict[str, object]]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, BYTES | {"use_regex": False}]


PRE_TOKENIZERS = {
    "gpt-2": Splitting([BYTES]),
    "mpt": Splitting([BYTES], nfc=True),  # GPT-NeoX
    "smollm": Splitting([DIGITS, BYTES]),  # and Granite
    "command-r": Splitting([DIGITS, BYTES], nfc=True),
    "llama-bpe": Splitting(by_pattern(LLAMA_3), whole_words=True),  # and SmolLM3
    "dbrx": Splitting(by_pattern(LLAMA_3)),  # GPT-4's, of OLMo 2 and Phi-4
    "stablelm2": Splitting(by_pattern(LLAMA_3.replace("{1,3}", ""))),
    "qwen2": Splitting(by_pattern(LLAMA_3.replace("{1,3}", "")), nfc=True),
}
SENTENCEPIECE = "default"


def split_steps(tokenizer: Tokenizer) -> str:
    """llama.cpp's name of how it splits text before merging: of PRE_TOKENIZERS, or SENTENCEPIECE.

    Raises UserError for a tokenizer that GGUF has no words for.
    """
    definition = json.loads(tokenizer.hf.backend_tokenizer.to_str())
    model, normalizer = definition["model"], definition["normalizer"]
    if model["type"] != "BPE":
        raise UserError(f"GGUF: a {model['type']} tokenizer can't be exported here")
    if model.get("byte_fallback"):
        return SENTENCEPIECE
    pre_tokenizer = definition["pre_tokenizer"] or {}
    steps = [as_isolated(step) for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer])]
    found = Splitting(steps, bool(model.get("ignore_merges")), composes(tokenizer))
    names = [name for name, known in PRE_TOKENIZERS.items() if known == found]
    if not names or (normalizer and not found.nfc):
        raise UserError(
            "GGUF: a tokenizer that splits text by its own rules can't be exported here; use llama.cpp's own converter "
            "on the merged folder"
        )
    return names[0]


def as_isolated(step: dict[str, object]) -> dict[str, object]:
    """Without what does not change the pieces: an expression that matches all text keeps its matches either way."""
    step = {key: value for key, value in step.items() if key != "trim_offsets"}
    if (step.get("behavior"), step.get("invert")) == ("Removed", True):
        step |= {"behavior": "Isolated", "invert": False}
    return step


def composes(tokenizer: Tokenizer) -> bool:
    """Whether it composes characters (Unicode's NFC) before it splits, and nothing else."""
    normalizer = json.loads(tokenizer.hf.backend_tokenizer.to_str())["normalizer"] or {}
    parts = normalizer.get("normalizers", [normalizer])
    return bool(parts) and all(part.get("type") == "NFC" for part in parts)


def strips_as_phi_3(tokenizer: Tokenizer) -> bool:
    """Whether special tokens take the white space behind them. llama.cpp knows that of models with Phi-3's name, and
    loads these with all of its tokens alone.
    """
    strips = any(token.rstrip for token in tokenizer.hf.added_tokens_decoder.values())
    return strips and {"</s>", "<unk>", "<s>", "<|endoftext|>"} <= tokenizer.hf.get_vocab().keys()


def add_tokenizer(writer: "GGUFWriter", tokenizer: Tokenizer, rows: int, begins_with_text: bool) -> None:
    """rows: of the embedding. Each has a token: those that the tokenizer has none for are called `[PAD5]`."""
    from gguf import TokenType

    definition = json.loads(tokenizer.hf.backend_tokenizer.to_str())
    added = {token["id"]: token for token in definition["added_tokens"]}
    pieces = {number: piece for piece, number in definition["model"]["vocab"].items()}
    pieces |= {number: token["content"] for number, token in added.items()}
    tokens = [pieces.get(number, f"[PAD{number}]") for number in range(rows)]
    kinds = [
        kind_of(number, token, added, TokenType) if number in pieces else TokenType.UNUSED
        for number, token in enumerate(tokens)
    ]
    splitting = split_steps(tokenizer)
    if splitting == SENTENCEPIECE:
        add_sentencepiece(writer, tokenizer, kinds, TokenType)
        writer.add_add_space_prefix(begins_with_mark(definition, begins_with_text))
    else:
        writer.add_tokenizer_model("gpt2")
        merges = definition["model"]["merges"]
        writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if tokenizer.bos_id is not None:
        writer.add_bos_token_id(tokenizer.bos_id)
    # llama.cpp has three names for what ends a text, and stops at any of them.
    names = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    for add, number in zip(names, tokenizer.eos_ids, strict=False):
        add(number)
    writer.add_pad_token_id(tokenizer.named_pad_id)


def begins_with_mark(definition: dict[str, Any], begins_with_text: bool) -> bool:
    """Whether llama.cpp shall put SentencePiece's word mark before a prompt, and then behind each special token too."""
    scheme = (definition["pre_tokenizer"] or {}).get("prepend_scheme")
    if scheme == "first":  # before the first text only, and none where the prompt begins with a special token
        return begins_with_text
    return scheme == "always" or '"Prepend"' in json.dumps(definition["normalizer"])


def kind_of(number: int, token: str, added: dict[int, Any], kinds: "type[TokenType]") -> int:
    if number in added:
        return kinds.CONTROL if added[number]["special"] else kinds.USER_DEFINED
    is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
    return kinds.BYTE if is_byte else kinds.NORMAL


def add_sentencepiece(writer: "GGUFWriter", tokenizer: Tokenizer, kinds: list[int], types: "type[TokenType]") -> None:
    """SentencePiece's BPE numbers its pieces in the order of its merges, which is their score."""
    unknown = tokenizer.hf.unk_token_id
    if unknown is not None:
        kinds[unknown] = types.UNKNOWN
        writer.add_unk_token_id(unknown)
    first = next(number for number, kind in enumerate(kinds) if kind == types.NORMAL)
    writer.add_tokenizer_model("llama")
    scores = [float(first - number) if kind == types.NORMAL else 0.0 for number, kind in enumerate(kinds)]
    writer.add_token_scores(scores)
