"""One evaluation: the rows, the model (loaded when first needed) and the settings."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from revinst.data.encoding import encode_to_generate
from revinst.data.examples import Example
from revinst.data.prompt import Template, load_template, prompt_source, render_prompt
from revinst.data.tokenizer import Tokenizer, load_tokenizer
from revinst.evaluation.folders import EvaluationKey
from revinst.inference.engine.engine import GenerationSettings, generate_batches
from revinst.inference.likelihood import log_likelihoods
from revinst.inference.predictions import FILE, LikelihoodFile, Prediction, PredictionFile
from revinst.inference.trained import Trained
from revinst.launch.ranks import Ranks
from revinst.model.network import Network
from revinst.progress import Stage, track

SHUFFLE_SEED = 0


class Evaluation:
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
        self.tokenizer: Tokenizer = load_tokenizer(trained.base)
        self.template: Template = load_template(trained.template, self.tokenizer.hf)
        self.forward: Template = load_template("forward")
        self.network: Network | None = None

    def keep_likelihoods(self, folder: Path) -> None:
        """From now on in this folder, so that a pass that was killed goes on where it was."""
        self.likelihoods = LikelihoodFile(folder, self.ranks.rank, self.ranks.world_size)

    def predict(
        self, folder: Path, use_adapter: bool, *, sample: int = 0, num_samples: int | None = None
    ) -> list[Prediction]:
        """Predictions of all rows, in their order; those already in the folder are not made again.

        sample: which of several samples; each has a seed of its own. num_samples: see `describe`.
        """
        settings = replace(self.settings, seed=self.settings.seed + sample)
        described, ranks = self.describe(use_adapter, settings, num_samples), self.ranks
        file = PredictionFile(folder / FILE, described, ranks.rank, ranks.world_size)
        done = self.ranks.on_first(file.open)
        missing = [example for example in self.examples if example.id not in done]
        if missing:
            self.write_missing(file, self.ranks.share(missing), use_adapter, settings, sample)
            self.ranks.wait()
            done = self.ranks.on_first(file.open)
        return [done[example.id] for example in self.examples]

    def write_missing(
        self, file: PredictionFile, missing: list[Example], use_adapter: bool, settings: GenerationSettings, sample: int
    ) -> None:
        """Appends a prediction for each of this rank's rows as it ends."""
        prompts = [render_prompt(self.template, example, self.trained.with_context) for example in missing]
        prompt_ids, _ = encode_to_generate(
            prompts,
            self.template,
            self.tokenizer,
            self.trained.seq_len,
            settings.max_new_tokens,
            cut=self.trained.cut,
        )
        name = f"{'tuned' if use_adapter else 'base'}{f', sample {sample + 1}' if sample else ''}"
        with self.loaded(use_adapter) as network, Stage(f"{self.template.target}s ({name})", len(missing)) as stage:
            headers = self.template.headers
            for number, generated in generate_batches(network, self.tokenizer, prompt_ids, settings, headers=headers):
                example, prompt = missing[number], prompts[number]
                prediction = Prediction(
                    id=example.id,
                    category=example.category,
                    response=prompt_source(prompt),
                    reference=prompt.target,
                    prediction=self.tokenizer.decode(generated.token_ids).strip(),
                    num_tokens=len(generated.token_ids),
                    stopped=generated.stopped,
                    log_p=generated.log_p,
                    context=example.context if self.trained.with_context else "",
                )
                file.append(prediction)
                stage.advance(tokens=len(generated.token_ids))

    def log_p(self, use_adapter: bool, instructions: Sequence[str] | None = None) -> np.ndarray:
        """log p(instruction | response) of each row in nats, NaN where it does not fit; default: the references."""
        return self.measure("log p(instruction)", self.template, use_adapter, instructions)

    def round_trip(self, predictions: Sequence[str], forward: "Evaluation | None" = None) -> dict[str, np.ndarray]:
        """How many nats an instruction adds to log p(response): under `forward`, of a run that writes responses.

        None: the untouched base and the forward template. The instructions are the prediction, the reference, and
        another row's reference; each against an empty one.
        """
        scorer, template, tuned = (forward, forward.template, True) if forward else (self, self.forward, False)
        references = [example.instruction for example in self.examples]
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(references))
        shuffled = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        instructions = {
            "gain_prediction": predictions,
            "gain_reference": references,
            "gain_shuffled": [references[shuffled[row]] for row in range(len(references))],
        }
        alone = scorer.measure("log p(response)", template, tuned, [""] * len(references))
        return {
            name: scorer.measure(f"log p(response), {name}", template, tuned, texts) - alone
            for name, texts in instructions.items()
        }

    def measure(
        self, title: str, template: Template, use_adapter: bool, instructions: Sequence[str] | None
    ) -> np.ndarray:
        examples = list(self.examples)
        if instructions is not None:
            examples = [
                replace(example, instruction=text) for example, text in zip(examples, instructions, strict=True)
            ]
        keys = [self.likelihood_key(template, use_adapter, example) for example in examples]
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
                    self.tokenizer,
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

    def likelihood_key(self, template: Template, use_adapter: bool, example: Example) -> str:
        """16 hex digits over everything that a row's log p depends on."""
        model = self.described[use_adapter] | {"template": template.hash, "precision": self.settings.precision}
        texts = [example.instruction, example.context if self.trained.with_context else "", example.response]
        return hashlib.sha256(json.dumps([model, texts]).encode()).hexdigest()[:16]

    def count_targets(self) -> np.ndarray:
        """Tokens of each row's target with EOS, which its log p is a sum over; int64 `[rows]`."""
        references = [getattr(example, self.template.target).strip() for example in self.examples]
        return np.array([len(ids) + 1 for ids in self.tokenizer.encode_continuations(references)])

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
        return (self.trained.run.path if self.trained.run else self.trained.adapter).name

    @cached_property
    def described(self) -> dict[bool, dict[str, Any]]:
        """The model with its adapter (True) and without."""
        tuned = self.trained.describe(self.tokenizer, self.template)
        return {True: tuned, False: tuned | {"adapter": None, "lora": None}}

    @cached_property
    def rows_hash(self) -> str:
        return hash_rows(self.examples)

    def describe(
        self, use_adapter: bool, settings: GenerationSettings | None = None, num_samples: int | None = None
    ) -> dict[str, Any]:
        """What the predictions depend on; a prediction file made with anything else is not continued.

        num_samples: of an evaluation as a whole; None: of one prediction a row.
        """
        return self.described[use_adapter] | {
            "generation": (settings or self.settings).describe(),
            "rows": self.rows_hash,
            "samples": num_samples or 1,
        }

    def place_base(self, folder: Path) -> Path:
        """The subfolder for what the untouched base writes for the same rows."""
        return self.ranks.on_first(lambda: EvaluationKey(self.describe(False), "base").place(folder))


def hash_rows(examples: Sequence[Example]) -> str:
    """16 hex digits over ids and texts: rows of another file may have the same ids."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update("\0".join([example.id, example.instruction, example.context, example.response, ""]).encode())
    return digest.hexdigest()[:16]
