"""What ends a sequence before its limit: an EOS, or a line that begins the template's next section.

A model that was not trained to write EOS goes on with a section of its own, `### Input:` after the instruction. A
header is looked for in the text, since how it splits into tokens depends on what stands before it; but only after a
token in which a header may end, so that nearly all tokens are judged on the device by a table.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from revinst.data.tokenizer import Tokenizer


class Stopping:
    """Args:
    headers: lines of which the first in the text ends it; it and what follows are cut off.
    """

    def __init__(self, tokenizer: Tokenizer, headers: Sequence[str] = ()):
        self.tokenizer = tokenizer
        self.pattern = re.compile(rf"(?:\A|\n)\s*(?:{'|'.join(map(re.escape, headers))})") if headers else None
        self.enders = find_enders(tokenizer, {header[-1] for header in headers})

    def may_end(self, ids: Tensor) -> Tensor:
        """Of the newest token of each sequence, [n] bool: an EOS, or one in which a header may end."""
        self.enders = self.enders.to(ids.device)
        return self.enders[ids.clamp(max=len(self.enders) - 1)]  # a model may have more ids than its tokenizer

    def judge(self, ids: Sequence[int]) -> tuple[int, str] | None:
        """(how many of a sequence's ids count, why it ended) by its last token; None: it goes on."""
        if ids[-1] in self.tokenizer.eos_ids:
            return len(ids) - 1, "eos"
        found = self.pattern.search(self.tokenizer.decode(ids)) if self.pattern else None
        if found is None:
            return None
        kept = len(ids)
        while kept and len(self.tokenizer.decode(ids[:kept])) > found.start():
            kept -= 1
        return kept, "header"


def find_enders(tokenizer: Tokenizer, letters: set[str]) -> Tensor:
    """[V] bool: EOS, and tokens that may end in one of these letters' text; all, for letters of several bytes."""
    pieces = tokenizer.hf.convert_ids_to_tokens(range(max(tokenizer.hf.get_vocab().values()) + 1))
    if not all(letter.isascii() for letter in letters):
        return torch.ones(len(pieces), dtype=torch.bool)
    bytes_of = {f"<0x{ord(letter):02X}>" for letter in letters}  # SentencePiece's tokens of single bytes
    enders = torch.tensor([piece in bytes_of or bool(letters & set(piece or "")) for piece in pieces])
    enders[tokenizer.eos_ids] = True
    return enders
