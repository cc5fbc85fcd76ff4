"""gigatoken in place of the Hugging Face tokenizer where both give the same ids: ten times the speed.

Three things keep the ids exact. A vocabulary that lacks some byte gets a stand-in id for it, and a text in which one
turns up is encoded by the Hugging Face tokenizer (which drops the byte and merges its neighbours). At load both encode
a set of hard strings. And in every call both encode a sample: one difference, and the whole call falls back.
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gigatoken import Tokenizer

SAMPLE_EVERY = 251
HARD_TEXTS = [
    "\nDon't we'll I'M they'd  two   three\ttab \r\n\n line",
    "x y z",
    "\n<s> </s> <|im_start|>user<|im_end|> <unk> <|endoftext|>",
    "\n中文字符、日本語テキスト 한국어 ไทย العربية עברית हिन्दी Ελληνικά кириллица",
    "\n🙂👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 ﬁ Å \u00a0nbsp\u2003em\u200bzero \ufeffbom \x01\x04\x1f\x7f",
    "\n1234567890 3.14159 1,000,000 $9.99 50% a_b-c/d\\e {f} [12] #tag @me https://x.org/?a=b&c=d",
    "\n▁under ▁▁ __init__(self, *args):\n    return [i**2 for i in range(10)]\n",
    "\nAAAAaaaa bbbbBBBB ÀÉÎõü ß ẞ Ĳ ŉ ǅ " + "ab" * 50,
    "\n ",
    "x",
]


class FastTokenizer:
    """Encodes texts as `hf` does without special tokens, added or parsed."""

    def __init__(self, hf: Any, backend: "Tokenizer", first_stand_in: int):
        self.hf, self.backend, self.first_stand_in = hf, backend, first_stand_in

    def encode(self, texts: list[str]) -> list[list[int]]:
        encoded = self.encode_unchecked(texts)
        if encoded[::SAMPLE_EVERY] != encode_plain(self.hf, texts[::SAMPLE_EVERY]):
            return encode_plain(self.hf, texts)
        return encoded

    def encode_unchecked(self, texts: list[str]) -> list[list[int]]:
        encoded = self.backend.encode_batch_list(texts)
        for number, ids in enumerate(encoded):
            if ids and max(ids) >= self.first_stand_in:
                encoded[number] = encode_plain(self.hf, [texts[number]])[0]
        return encoded


def encode_plain(hf: Any, texts: list[str]) -> list[list[int]]:
    return hf(texts, add_special_tokens=False, split_special_tokens=True).input_ids if texts else []


def build_fast_tokenizer(hf: Any) -> tuple[FastTokenizer | None, str]:
    """(tokenizer, "") or (None, why the ordinary one is used)."""
    try:
        from gigatoken import Tokenizer
    except ImportError:
        return None, "gigatoken is not installed"
    definition = json.loads(hf.backend_tokenizer.to_str())
    # Special tokens inside somebody's text are text.
    definition["added_tokens"] = [token for token in definition["added_tokens"] if not token["special"]]
    first_stand_in = len(hf)
    try:
        if (definition.get("pre_tokenizer") or {}).get("type") == "ByteLevel":
            vocabulary = definition["model"]["vocab"]
            missing = [letter for letter in byte_letters() if letter not in vocabulary]
            vocabulary |= {letter: first_stand_in + number for number, letter in enumerate(missing)}
        fast = FastTokenizer(hf, Tokenizer.from_json(json.dumps(definition)), first_stand_in)
        if fast.encode_unchecked(HARD_TEXTS) == encode_plain(hf, HARD_TEXTS):
            return fast, ""
        return None, "gigatoken gives other ids for this tokenizer"
    except Exception as error:  # it refuses what it does not know in many ways
        return None, f"gigatoken can't load this tokenizer ({str(error).splitlines()[0][:80] if str(error) else error})"


def byte_letters() -> list[str]:
    """How a byte-level vocabulary spells each byte (GPT-2): printable ones as themselves, the rest from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
