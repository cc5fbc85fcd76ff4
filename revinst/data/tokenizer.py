"""The base's tokenizer, its special ids, and an encoding that joins by ids."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revinst.config.shipped import QUICKSTART_BASE
from revinst.data.fast_tokenizer import FastTokenizer, build_fast_tokenizer
from revinst.data.vocabulary import count_rows, drop_rowless, find_foreign, read_ends
from revinst.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(slots=True)
class Tokenizer:
    """A tokenizer that never parses or adds special tokens by itself.

    `bos_id` is None for a base that has none. `pad_id` only fills the left of generation batches, always with an
    attention mask; targets come from spans, never from `ids == pad_id`, so it may equal `eos_id`. `eos_id` is
    what training teaches; `other_ends` are the base's own. fingerprint: 16 hex digits over what
    decides ids, the whole definition and the special ids. rowless: added tokens that were left out, for want of a row
    of the embedding.
    """

    hf: Any  # transformers' own; what it says of itself are unions of all that any tokenizer could return
    bos_id: int | None
    eos_id: int
    pad_id: int
    other_ends: tuple[int, ...]
    fingerprint: str
    rowless: list[str] = field(default_factory=list)
    foreign: str = ""  # why it can't be this base's; empty where it can
    fast: FastTokenizer | None = None
    reason: str = ""  # why there is no fast one
    _sentinel_ids: dict[str, list[int]] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        return len(self.hf)

    @property
    def eos_ids(self) -> list[int]:
        """Each of them ends a prediction."""
        return [self.eos_id, *self.other_ends]

    @property
    def named_pad_id(self) -> int:
        """What files name as padding: the tokenizer's own or ours, never a new token, which would have no embedding."""
        return self.hf.pad_token_id if self.hf.pad_token_id is not None else self.pad_id

    def check_belongs(self, base: str) -> None:
        """Before weights are loaded. Raises UserError for a tokenizer whose ids the embedding has no rows for."""
        if self.foreign:
            raise UserError(f"model.base {base}: {self.foreign}")

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
    from transformers.utils import logging

    check_base(base)
    path = str(Path(base).expanduser()) if looks_local(base) else base
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        hf = load_hf(path, base)
        rows, ends = count_rows(path), read_ends(path, hf)
    finally:
        logging.set_verbosity(verbosity)
    other_ends = tuple(number for number in ends if number != hf.eos_token_id)
    special = [hf.bos_token_id, hf.eos_token_id, *other_ends]
    content = json.dumps([hf.backend_tokenizer.to_str(), *special])
    fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
    foreign = find_foreign(hf, rows) if rows else ""
    rowless = drop_rowless(hf, rows) if rows and not foreign else []
    pad_id = hf.unk_token_id if hf.unk_token_id is not None else hf.eos_token_id
    fast, reason = build_fast_tokenizer(hf)
    return Tokenizer(
        hf, hf.bos_token_id, hf.eos_token_id, pad_id, other_ends, fingerprint, rowless, foreign, fast, reason
    )


def load_hf(path: str, base: str) -> "PreTrainedTokenizerFast":
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        hf = AutoTokenizer.from_pretrained(path, use_fast=True)
    except Exception as error:  # the hub client and the tokenizer loaders raise many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        where = "" if looks_local(base) else "; it is no folder here, so it was taken for a hub id"
        raise UserError(f"model.base {base}: no tokenizer could be loaded ({reason}){where}") from error
    if not isinstance(hf, PreTrainedTokenizerFast):
        raise UserError(f"model.base {base}: its tokenizer ({type(hf).__name__}) is none of the tokenizers package")
    if hf.eos_token_id is None:
        raise UserError(f"model.base {base}: its tokenizer has no end-of-sequence token, so nothing could ever stop")
    return hf


def check_base(base: str) -> None:
    """Raises UserError for a folder that is not there."""
    if looks_local(base) and not Path(base).expanduser().is_dir():
        raise UserError(f"model.base {base}: no such folder (for the quickstart model: revinst fetch quickstart)")


def looks_local(base: str) -> bool:
    """A folder rather than a hub id: it exists, or it is spelt like a path."""
    is_path = base.startswith((".", "/", "~")) or base.count("/") > 1 or base == QUICKSTART_BASE
    return is_path or Path(base).expanduser().is_dir()
