"""Log-probabilities of given texts under a model."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from revinst.data.batch import collate_rows
from revinst.data.encoding import Documents, encode_examples
from revinst.data.examples import Example
from revinst.data.prompt import Template
from revinst.data.tokenizer import Tokenizer
from revinst.model.network import Network

TOKENS_PER_BATCH = {"cuda": 16384, "cpu": 2048}
MOST_TOKENS, WIDE = 65536, 4096  # on a GPU narrow models wait for the host with fewer; they take no more memory so


def log_likelihoods(
    network: Network,
    examples: Sequence[Example],
    template: Template,
    tokenizer: Tokenizer,
    seq_len: int,
    *,
    with_context: bool = False,
    cut: str = "end",
    progress: Callable[[Iterable], Iterable] = iter,
    on_row: Callable[[int, float], None] = lambda number, log_p: None,
) -> np.ndarray:
    """log p(target, EOS | prompt) of each example in nats, float64 `[examples]`.

    What the target is, the template says. NaN where the target leaves no room for its prompt in `seq_len` tokens.

    on_row: is given the number of each example and its log p as soon as it is known.
    """
    documents = encode_examples(examples, template, tokenizer, seq_len, with_context=with_context, cut=cut)
    numbers_of: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        numbers_of.setdefault(example.id, []).append(number)
    log_p = np.full(len(examples), np.nan)
    for document, loss in document_losses(network, documents, progress=progress):
        for number in numbers_of[documents.ids[document]]:
            log_p[number] = -loss
            on_row(number, -loss)
    for number in np.flatnonzero(np.isnan(log_p)).tolist():
        on_row(number, np.nan)
    return log_p


@torch.no_grad()
def document_losses(
    network: Network,
    documents: Documents,
    tokens_per_batch: int | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Iterator[tuple[int, float]]:
    """The number of each document and its sum of -log p(target); documents are isolated as in training.

    `documents.targets` says what counts. tokens_per_batch: None: the device's, by the model's width.
    """
    device = network.device
    tokens_per_batch = tokens_per_batch or choose_tokens_per_batch(device.type, network.base.config.hidden_size)
    with network.in_eval_mode():
        for numbers in progress(batches_by_tokens(documents.lengths, tokens_per_batch)):
            batch = collate_rows(documents, [numbers]).to(device)
            nll = network.token_nll(batch)
            document = torch.searchsorted(batch.cu_seqlens.long(), batch.target_index, right=True) - 1
            sums = torch.zeros(len(numbers), dtype=torch.float64, device=device).index_add_(0, document, nll.double())
            yield from zip(numbers, sums.tolist(), strict=True)


def choose_tokens_per_batch(device: str, hidden: int) -> int:
    """
    >>> [choose_tokens_per_batch("cuda", hidden) for hidden in (576, 2048, 4096, 8192)]
    [65536, 32768, 16384, 16384]
    """
    tokens = TOKENS_PER_BATCH.get(device, 2048)
    return tokens if device != "cuda" else max(tokens, min(MOST_TOKENS, tokens * WIDE // hidden))


def batches_by_tokens(lengths: np.ndarray, tokens_per_batch: int) -> list[list[int]]:
    """Consecutive document numbers whose lengths add up to at most `tokens_per_batch` (a longer one goes alone)."""
    batches: list[list[int]] = []
    left = 0
    for number, length in enumerate(lengths.tolist()):
        if not batches or length > left:
            batches.append([])
            left = tokens_per_batch
        batches[-1].append(number)
        left -= length
    return batches
