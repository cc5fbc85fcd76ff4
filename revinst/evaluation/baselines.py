"""Baselines: what no trained model is needed for. A score means something only above them."""

# ruff: noqa: RUF001  # other scripts are meant
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from revinst.data.language import find_languages
from revinst.data.overlap import find_nearest_texts
from revinst.data.words import find_first_words
from revinst.evaluation.rouge import score_rouge_l
from revinst.evaluation.unicode_rouge import split_by_script

NUM_WORDS = 7
# The question in the languages whose speakers ask it about what a text begins with; {} stands for that.
WHAT_IS = {
    "en": "What is {}?", "de": "Was ist {}?", "fr": "Qu'est-ce que {} ?", "es": "¿Qué es {}?", "it": "Che cos'è {}?",
    "pt": "O que é {}?", "nl": "Wat is {}?", "pl": "Co to jest {}?", "ru": "Что такое {}?", "uk": "Що таке {}?",
    "tr": "{} nedir?", "el": "Τι είναι {};", "ar": "ما هو {}؟", "he": "מה זה {}?", "hi": "{} क्या है?", "th": "{}คืออะไร",
    "zh": "{}是什么？", "ja": "{}とは何ですか？", "ko": "{}(이)란 무엇인가요?",
}  # fmt: skip
BASELINES = ("base", "random_instruction", "best_constant", "lead_words", "what_is", "nearest_response")
MAX_CONSTANTS = 1000
MAX_CHOOSING = 200
MIN_CHOOSING = 20


def random_instruction(responses: Sequence[str], train_instructions: Sequence[str], seed: int = 0) -> list[str]:
    """Another example's instruction, drawn from the training part."""
    picks = np.random.default_rng(seed).integers(len(train_instructions), size=len(responses))
    return [train_instructions[pick] for pick in picks]


def best_constant(train_instructions: Sequence[str], val_instructions: Sequence[str] = (), seed: int = 0) -> str:
    """The one training instruction with the highest mean ROUGE-L on validation examples, over the words that
    `split_by_script` finds.

    Chosen on training examples (never on itself) below MIN_CHOOSING validation examples, and always on
    samples of at most MAX_CONSTANTS instructions and MAX_CHOOSING examples.
    """
    generator = np.random.default_rng(seed)
    judges = val_instructions if len(val_instructions) >= MIN_CHOOSING else train_instructions
    judges = [judges[pick] for pick in generator.permutation(len(judges))[:MAX_CHOOSING]]
    picks = generator.permutation(len(train_instructions))[:MAX_CONSTANTS]
    candidates = sorted({train_instructions[pick] for pick in picks})
    stems = list(map(split_by_script, judges))

    def mean_score(candidate: str) -> float:
        ours = split_by_script(candidate)
        return sum(
            score_rouge_l(ours, theirs) for judge, theirs in zip(judges, stems, strict=True) if judge != candidate
        )

    return max(candidates, key=mean_score)


def lead_words(responses: Sequence[str]) -> list[str]:
    """The response's first words, or as much of it as says what seven English ones say."""
    return [find_first_words(response, NUM_WORDS) for response in responses]


def what_is(responses: Sequence[str]) -> list[str]:
    """`What is` in the response's language and its first words, or these alone where WHAT_IS has no such language.

    Most instructions are questions about what the text names first.
    """
    pairs = zip(lead_words(responses), find_languages(responses), strict=True)
    return [WHAT_IS.get(language, "{}").replace("{}", lead) for lead, language in pairs]


def nearest_response(
    responses: Sequence[str], train_responses: Sequence[str], train_instructions: Sequence[str], otherwise: str
) -> list[str]:
    """The instruction of the most similar training response; `otherwise` where none is similar at all."""
    nearest, _ = find_nearest_texts(responses, train_responses)
    return [train_instructions[place] if place >= 0 else otherwise for place in nearest]


def build_baselines(
    responses: Sequence[str],
    train_responses: Sequence[str],
    train_instructions: Sequence[str],
    val_instructions: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Name -> a prediction for each response. The untouched base, the sixth baseline, needs a model."""
    constant = best_constant(train_instructions, val_instructions)
    return {
        "random_instruction": random_instruction(responses, train_instructions),
        "best_constant": [constant] * len(responses),
        "lead_words": lead_words(responses),
        "what_is": what_is(responses),
        "nearest_response": nearest_response(responses, train_responses, train_instructions, constant),
    }


def strongest_baseline(means: Mapping[str, Mapping[str, float | None]], metric: str) -> str:
    """Name of the baseline with the highest mean; baselines that have no such value come last."""

    def mean(name: str) -> float:
        value = means[name].get(metric)
        return float("-inf") if value is None else value

    return max(means, key=mean)


def check_baselines(names: Collection[str], with_base: bool) -> None:
    """A figure without its baselines says nothing, so no summary and no table is made without all of them.

    with_base: False where no model was at hand, as in `revinst score`.
    """
    missing = set(BASELINES) - set(names) - (set() if with_base else {"base"})
    assert not missing, f"no scores without the baselines {', '.join(sorted(missing))}"
