"""What a trained run, or its base, writes for some rows, and how likely it finds texts about them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from revinst.data.examples import Example
from revinst.data.prompt import Template, prompt_source
from revinst.data.redacted import restore
from revinst.inference.engine.engine import Generated, GenerationSettings, generate_batches
from revinst.inference.key import ModelKey, PredictionKey
from revinst.inference.likelihood import log_likelihoods
from revinst.inference.predictions import FILE, LikelihoodFile, Prediction, PredictionFile
from revinst.inference.trained import EncodedPrompts, Trained
from revinst.launch.ranks import Ranks
from revinst.model.network import Network
from revinst.progress import Stage, track


class Predictor:
    """Predictions and log-likelihoods of some rows, under the tuned model and under its base.

    Several ranks share the rows; each method then has to be called on all of them, and gives each the whole result.
    """

    def __init__(
        self,
        trained: Trained,
        examples: Sequence[Example],
        settings: GenerationSettings,
        ranks: Ranks | None = None,
    ):
        self.trained, self.examples, self.settings = trained, examples, settings
        self.ranks = ranks or Ranks()
        self.likelihoods: LikelihoodFile | None = None
        self.network: Network | None = None  # loaded when first needed

    def keep_likelihoods(self, folder: Path) -> None:
        """From now on in this folder, so that a pass that was killed goes on where it was."""
        self.likelihoods = LikelihoodFile(folder, self.ranks.rank, self.ranks.world_size)

    def predict(self, folder: Path, use_adapter: bool, *, sample: int = 0, num_samples: int = 1) -> list[Prediction]:
        """Predictions of all rows, in their order; those already in the folder are not made again.

        sample: which of several samples; each has a seed of its own. num_samples: see `key`.
        """
        settings = replace(self.settings, seed=self.settings.seed + sample)
        file = self.open_file(folder / FILE, self.key(use_adapter, settings, num_samples))
        done = self.ranks.on_first(file.open)
        missing = [number for number, example in enumerate(self.examples) if example.id not in done]
        if missing:
            name = ("tuned" if use_adapter else "base") + name_sample(sample)
            self.write(file, missing, settings, use_adapter, f"{self.trained.template.target}s ({name})")
            done = self.ranks.on_first(file.open)
        return [done[example.id] for example in self.examples]

    def write_file(self, path: Path, num_samples: int = 1, placeholders: Mapping[str, str] | None = None) -> None:
        """Predictions of all rows, in their order, then those of an earlier call with more rows.

        Such a call is gone on with; a row whose text or context has changed since is written anew. num_samples: the
        others lie in a folder beside the file, and in its rows. placeholders: what these stand for is put back; then
        `redacted` is the prediction as it was written.
        """
        others = [
            self.complete(path.with_suffix(".samples") / f"{sample}.jsonl", sample) for sample in range(1, num_samples)
        ]
        done = self.complete(path)
        if not self.ranks.is_first:
            return
        rows = []
        for example_id in dict.fromkeys([*(example.id for example in self.examples), *done]):
            row = done[example_id].to_row()
            written = [found[example_id].prediction for found in (done, *others) if example_id in found]
            if placeholders is not None:
                row |= {"prediction": restore(written[0], placeholders), "redacted": written[0]}
                written = [restore(text, placeholders) for text in written]
            rows.append(row | ({"samples": written} if num_samples > 1 else {}))
        self.open_file(path, PredictionKey(self.trained.key, self.settings.describe())).replace(rows)

    def complete(self, path: Path, sample: int = 0) -> dict[str, Prediction]:
        """A file's predictions, by id, with those of all rows."""
        settings = replace(self.settings, seed=self.settings.seed + sample)
        file = self.open_file(path, PredictionKey(self.trained.key, settings.describe()))
        done = self.ranks.on_first(file.open)
        made_of = {row.id: (row.instruction or row.response, row.context) for row in done.values()}
        texts = [(prompt_source(prompt), self.context_of(n)) for n, prompt in enumerate(self.encoded.prompts)]
        missing = [n for n, example in enumerate(self.examples) if made_of.get(example.id) != texts[n]]
        if missing:
            self.write(file, missing, settings, True, self.trained.template.target + "s" + name_sample(sample))
            done = self.ranks.on_first(file.open)
        return done

    def open_file(self, path: Path, key: PredictionKey) -> PredictionFile:
        return PredictionFile(path, key.to_json(), self.ranks.rank, self.ranks.world_size)

    @cached_property
    def encoded(self) -> EncodedPrompts:
        return self.trained.encode_to_generate(self.examples, self.settings.max_new_tokens)

    def write(
        self, file: PredictionFile, missing: list[int], settings: GenerationSettings, use_adapter: bool, title: str
    ) -> None:
        """Appends a prediction for each of this rank's share of the missing rows as it ends; all ranks end together."""
        mine = self.ranks.share(missing)
        ids, tokenizer = [self.encoded.ids[number] for number in mine], self.trained.tokenizer
        headers = self.trained.template.headers
        with self.loaded(use_adapter) as network, Stage(title, len(mine)) as stage:
            for place, generated in generate_batches(network, tokenizer, ids, settings, headers=headers):
                file.append(self.to_prediction(mine[place], generated))
                stage.advance(tokens=len(generated.token_ids))
        self.ranks.wait()

    def to_prediction(self, number: int, generated: Generated) -> Prediction:
        example, prompt = self.examples[number], self.encoded.prompts[number]
        source, reads_instruction = prompt_source(prompt), self.trained.template.target == "response"
        return Prediction(
            id=example.id,
            category=example.category,
            response="" if reads_instruction else source,
            reference=prompt.target,
            prediction=self.trained.tokenizer.decode(generated.token_ids).strip(),
            num_tokens=len(generated.token_ids),
            stopped=generated.stopped,
            log_p=generated.log_p,
            context=self.context_of(number),
            instruction=source if reads_instruction else "",
        )

    def context_of(self, number: int) -> str:
        """What the model reads beside the text."""
        return self.examples[number].context if self.trained.with_context else ""

    def log_p(
        self,
        use_adapter: bool,
        instructions: Sequence[str] | None = None,
        *,
        template: Template | None = None,
        title: str = "",
    ) -> np.ndarray:
        """log p of each row's target in nats, NaN where it does not fit.

        instructions: in place of the rows' own. template: says what the target is; None: the run's.
        """
        template = template or self.trained.template
        title = title or f"log p({template.target})"
        examples = list(self.examples)
        if instructions is not None:
            examples = [
                replace(example, instruction=text) for example, text in zip(examples, instructions, strict=True)
            ]
        model, precision = self.model_key(use_adapter), self.settings.precision
        keys = [
            model.hash_texts([e.instruction, self.context_of(n), e.response], template.hash, precision)
            for n, e in enumerate(examples)
        ]
        known = self.ranks.on_first(self.likelihoods.read) if self.likelihoods else {}
        missing = self.ranks.share([number for number, key in enumerate(keys) if key not in known])
        found: dict[str, float] = {}

        def keep(number: int, value: float) -> None:
            key = keys[missing[number]]
            found[key] = value
            if self.likelihoods:
                self.likelihoods.append(key, value)

        if missing:
            with self.loaded(use_adapter) as network:
                log_likelihoods(
                    network,
                    [examples[number] for number in missing],
                    template,
                    self.trained.tokenizer,
                    self.trained.seq_len,
                    with_context=self.trained.with_context,
                    cut=self.trained.cut,
                    progress=lambda batches: track(batches, title, "rows", size=len),
                    on_row=keep,
                )
        for part in self.ranks.gather_all(found):
            known |= part
        if self.likelihoods and self.ranks.is_first:
            self.likelihoods.read()
        return np.array([known[key] for key in keys])

    def count_targets(self) -> np.ndarray:
        """Tokens of each row's target with EOS, which its log p is a sum over; int64 `[rows]`."""
        references = [getattr(example, self.trained.template.target).strip() for example in self.examples]
        return np.array([len(ids) + 1 for ids in self.trained.tokenizer.encode_continuations(references)])

    @contextmanager
    def loaded(self, use_adapter: bool) -> Iterator[Network]:
        """With the adapter, or with it switched off."""
        if self.network is None:
            self.network = self.trained.load(self.settings)
        with nullcontext() if use_adapter else self.network.without_adapter():
            yield self.network

    @property
    def title(self) -> str:
        """What people call it: the run's name, or the adapter folder's."""
        return self.trained.path.name

    def model_key(self, use_adapter: bool) -> ModelKey:
        return self.trained.key if use_adapter else self.trained.key.without_adapter()

    @cached_property
    def rows_hash(self) -> str:
        return hash_examples(self.examples)

    def key(self, use_adapter: bool, settings: GenerationSettings | None = None, num_samples: int = 1) -> PredictionKey:
        """What the predictions depend on; a prediction file made with anything else is not continued.

        num_samples: of an evaluation as a whole.
        """
        settings = settings or self.settings
        return PredictionKey(self.model_key(use_adapter), settings.describe(), self.rows_hash, num_samples)


def name_sample(sample: int) -> str:
    return f", sample {sample + 1}" if sample else ""


def hash_examples(examples: Sequence[Example]) -> str:
    """16 hex digits over ids and texts: rows of another file may have the same ids."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update("\0".join([example.id, example.instruction, example.context, example.response, ""]).encode())
    return digest.hexdigest()[:16]
