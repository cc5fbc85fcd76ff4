"""The base's tokenizer, its special ids, and an encoding that joins by ids."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from revinst.data.fast_tokenizer import FastTokenizer, build_fast_tokenizer
from revinst.errors import UserError


@dataclass(slots=True)
class Tokenizer:
    """A tokenizer that never parses or adds special tokens by itself.

    `bos_id` is None for a base that has none. `pad_id` only fills the left of generation batches, always with an
    attention mask; targets come from spans, never from `ids == pad_id`, so it may equal `eos_id`.
    """

    hf: Any  # transformers' own; what it says of itself are unions of all that any tokenizer could return
    bos_id: int | None
    eos_id: int
    pad_id: int
    fast: FastTokenizer | None = None
    reason: str = ""  # why there is no fast one
    _sentinel_ids: dict[str, list[int]] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        return len(self.hf)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over what decides ids: the whole tokenizer definition and the special ids."""
        definition = self.hf.backend_tokenizer.to_str()
        content = json.dumps([definition, self.bos_id, self.eos_id])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def encode_fixed(self, text: str, parse_special: bool = False) -> list[int]:
        """Ids of a template's text at the start of a prompt; parse_special: for a chat template's special tokens."""
        return self._encode([text], parse_special)[0]

    def encode_continuations(self, texts: Sequence[str], parse_special: bool = False) -> list[list[int]]:
        """Ids of texts that follow other text.

        A SentencePiece tokenizer puts a word mark before whatever it is given, so a text encoded alone differs from
        the same text inside a line. Here it is encoded after a sentinel, whose ids are then cut: a newline before
        text, a letter before whitespace, since neither merges with what follows.
        """
        sentinels = ["x" if not text or text[0].isspace() else "\n" for text in texts]
        encoded = self._encode([a + b for a, b in zip(sentinels, texts, strict=True)], parse_special)
        ids = []
        for text, sentinel, with_sentinel in zip(texts, sentinels, encoded, strict=True):
            cut = self._ids_of_sentinel(sentinel)
            if with_sentinel[: len(cut)] == cut:
                ids.append(with_sentinel[len(cut) :])
            else:  # this tokenizer merged the sentinel with the text: encode the text by itself
                ids.extend(self._encode([text], parse_special))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.hf.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _encode(self, texts: list[str], parse_special: bool) -> list[list[int]]:
        if not texts:
            return []
        if self.fast is not None and not parse_special and len(texts) > 1:
            return self.fast.encode(texts)
        return self.hf(texts, add_special_tokens=False, split_special_tokens=not parse_special).input_ids

    def _ids_of_sentinel(self, sentinel: str) -> list[int]:
        if sentinel not in self._sentinel_ids:
            self._sentinel_ids[sentinel] = self._encode([sentinel], parse_special=False)[0]
        return self._sentinel_ids[sentinel]


def load_tokenizer(base: str) -> Tokenizer:
    """Loads the tokenizer of a hub id or local folder. Raises UserError when there is none."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    check_base(base)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        hf = AutoTokenizer.from_pretrained(str(Path(base).expanduser()) if looks_local(base) else base, use_fast=True)
    except Exception as error:  # the hub client and the tokenizer loaders raise many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        where = "" if looks_local(base) else "; it is no folder here, so it was taken for a hub id"
        raise UserError(f"model.base {base}: no tokenizer could be loaded ({reason}){where}") from error
    finally:
        logging.set_verbosity(verbosity)
    if hf.eos_token_id is None:
        raise UserError(f"model.base {base}: its tokenizer has no end-of-sequence token, so nothing could ever stop")
    pad_id = hf.unk_token_id if hf.unk_token_id is not None else hf.eos_token_id
    fast, reason = build_fast_tokenizer(hf)
    return Tokenizer(hf, hf.bos_token_id, hf.eos_token_id, pad_id, fast, reason)


def check_base(base: str) -> None:
    """Raises UserError for a folder that is not there."""
    if looks_local(base) and not Path(base).expanduser().is_dir():
        raise UserError(f"model.base {base}: no such folder (for the quickstart model: make setup)")


def looks_local(base: str) -> bool:
    """A folder rather than a hub id: it exists, or it is spelt like a path."""
    return Path(base).expanduser().is_dir() or base.startswith((".", "/", "~")) or base.count("/") > 1
