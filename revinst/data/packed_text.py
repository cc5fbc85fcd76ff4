"""A packed row as the model reads it, for people."""

from itertools import pairwise

import numpy as np
from rich.text import Text

from revinst.data.datamodule import InstructionDataModule
from revinst.data.encoding import IGNORE_INDEX
from revinst.progress import SIGNS

COLOURS = ("cyan", "magenta", "green", "yellow", "blue")


def render_row(data: InstructionDataModule, row: int) -> Text:
    """Each document has its colour; what is supervised is reversed."""
    text = Text()
    documents = data.train_documents
    for position, number in enumerate(data.train_rows[row]):
        span = slice(documents.offsets[number], documents.offsets[number + 1])
        inputs, targets = documents.input_ids[span], documents.targets[span]
        colour = COLOURS[position % len(COLOURS)]
        supervised = np.concatenate([[False], targets[:-1] != IGNORE_INDEX])  # input i is the target of i - 1
        for start, end in stretches(supervised):
            part = data.tokenizer.hf.decode(inputs[start:end].tolist()).translate(SIGNS)
            text.append(part, style=f"{colour} reverse" if supervised[start] else colour)
        if targets[-1] != IGNORE_INDEX:
            text.append(data.tokenizer.hf.decode([int(targets[-1])]), style=f"{colour} reverse")
        text.append("\n")
    return text


def stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of equal values: `[F, F, T, F]` -> `[(0, 2), (2, 3), (3, 4)]`."""
    changes = [0, *(np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist(), len(flags)]
    return list(pairwise(changes))
