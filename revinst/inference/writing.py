"""Several texts for each prompt, by one engine."""

from collections.abc import Callable, Generator, Sequence

from revinst.inference.engine.engine import Engine
from revinst.inference.samples import Sample, Written


def write_samples(
    engine: Engine,
    prompts: Sequence[list[int]],
    count: int,
    with_greedy: bool,
    on_sample: Callable[[int, int], None] = lambda count, tokens: None,
) -> Generator[tuple[int, Written], None, None]:
    """Yields (number of the prompt, its texts) as the last of these ends; they share the prefill of their prompt.

    on_sample: is told (1, its tokens) of each text as soon as it ends.
    """
    numbers: list[int | None] = [None] * with_greedy + list(range(count))
    unfinished: dict[int, dict[int, Sample]] = {}
    for place, generated in engine.generate([ids for ids in prompts for _ in numbers], samples=numbers * len(prompts)):
        row, number = divmod(place, len(numbers))
        text = engine.tokenizer.decode(generated.token_ids).strip()
        made = unfinished.setdefault(row, {})
        made[number] = Sample(text, generated.log_p, len(generated.token_ids), generated.stopped)
        on_sample(1, len(generated.token_ids))
        if len(made) == len(numbers):
            samples = [sample for _, sample in sorted(unfinished.pop(row).items())]
            yield row, Written(samples[1:], samples[0]) if with_greedy else Written(samples)
