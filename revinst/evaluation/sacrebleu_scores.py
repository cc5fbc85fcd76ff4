"""BLEU and chrF by sacrebleu, each row's BLEU with sacrebleu's tokenizer for its script.

chrF compares letters, so it has no tokenizer and reads every script.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from revinst.data.language import find_script

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

DEFAULT = "13a"  # sacrebleu's own
JAPANESE = ("MeCab", "ipadic")  # packages that its `ja-mecab` needs
TOKENIZERS = {"han": "zh", "thai": "char", "lao": "char", "khmer": "char", "myanmar": "char"}


def choose_tokenizer(reference: str) -> str:
    """Where words are told apart by spaces, sacrebleu's default; ja-mecab where what it needs is installed."""
    if reference.isascii():
        return DEFAULT
    script = find_script(reference)
    if script == "kana":
        return "ja-mecab" if all(map(find_spec, JAPANESE)) else "char"
    return TOKENIZERS.get(script, DEFAULT)


@cache
def load_bleu(tokenizer: str) -> "BLEU":
    """Of one sentence: with effective order, so that a short one is not 0."""
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True, tokenize=tokenizer)


@cache
def load_chrf() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def score_sacrebleu(predictions: Sequence[str], references: Sequence[str]) -> Iterable[tuple[float, float]]:
    """(BLEU, chrF) of each prediction as a corpus of its own."""
    for prediction, reference in zip(predictions, references, strict=True):
        bleu, pair = load_bleu(choose_tokenizer(reference)), (prediction, [reference])
        yield bleu.sentence_score(*pair).score / 100, load_chrf().sentence_score(*pair).score / 100


def score_corpus(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF of all as one corpus, the way papers report them; they are no means over predictions."""
    from sacrebleu.metrics.bleu import BLEU

    tokenizers = [load_bleu(choose_tokenizer(reference)).tokenizer for reference in references]
    ours, theirs = (
        [tokenize(text.rstrip()) for tokenize, text in zip(tokenizers, texts, strict=True)]
        for texts in (predictions, references)
    )
    return {
        # force: it warns of texts that are tokenized already
        "bleu": BLEU(tokenize="none", force=True).corpus_score(ours, [theirs]).score / 100,
        "chrf": load_chrf().corpus_score(list(predictions), [list(references)]).score / 100,
    }


def describe_sacrebleu(references: Sequence[str]) -> dict[str, dict[str, object]]:
    """sacrebleu's signatures; of BLEU one for each tokenizer, the most frequent first, with its number of rows."""
    rows = Counter(map(choose_tokenizer, references)) or Counter({DEFAULT: 0})
    signatures = {}
    for name, _ in rows.most_common():
        load_bleu(name).sentence_score("a", ["a"])  # its signature holds the number of references, known after a score
        signatures[name] = str(load_bleu(name).get_signature())
    load_chrf().sentence_score("a", ["a"])
    return {
        "bleu": {"level": "sentence", "sacrebleu": "; ".join(signatures.values()), "rows": dict(rows)},
        "chrf": {"level": "sentence", "sacrebleu": str(load_chrf().get_signature())},
        "corpus": {"level": "corpus", "sacrebleu": "as above, BLEU without effective order"},
    }
