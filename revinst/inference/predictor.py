"""What a trained run, or its base, writes for some rows, and how likely it finds texts about them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from revinst.data.examples import Example
from revinst.data.prompt import Template, load_template, prompt_source
from revinst.data.redacted import restore
from revinst.inference.engine.engine import Engine, GenerationSettings, generate_batches
from revinst.inference.key import ModelKey, PredictionKey, hash_json
from revinst.inference.likelihood import log_likelihoods
from revinst.inference.picks import ONE, PickSettings
from revinst.inference.predictions import FILE, LikelihoodFile, Prediction, PredictionFile, Row, SampleFile, read_rows
from revinst.inference.samples import Picked, Sample, Written, pick_all
from revinst.inference.trained import EncodedPrompts, Trained
from revinst.inference.writing import write_samples
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
        self.likelihoods = LikelihoodFile(folder / "log_p.jsonl", self.ranks.rank, self.ranks.world_size)

    def predict(self, folder: Path, use_adapter: bool, settings: GenerationSettings | None = None) -> list[Prediction]:
        """One prediction of each row, in their order; those already in the folder are not made again.

        settings: in place of the predictor's.
        """
        settings = settings or self.settings
        file = self.open_file(folder / FILE, self.key(use_adapter, settings))
        done = self.ranks.on_first(file.open)
        missing = [number for number, example in enumerate(self.examples) if example.id not in done]
        if missing:
            name = "tuned" if use_adapter else "base"
            self.write(file, missing, settings, use_adapter, f"{self.trained.template.target}s ({name})")
            done = self.ranks.on_first(file.open)
        return [done[example.id] for example in self.examples]

    def sample(self, path: Path, count: int, with_greedy: bool, use_adapter: bool = True) -> list[Written]:
        """So many samples of each row, in their order; a row that is in the file already is not written for again."""
        file = SampleFile(path, self.ranks.rank, self.ranks.world_size)
        made_by = [*self.key(use_adapter).to_json().items()]
        made_by = [(name, value) for name, value in made_by if name != "rows"] + [("with_greedy", with_greedy)]
        texts = [[prompt_source(prompt), self.context_of(n)] for n, prompt in enumerate(self.encoded.prompts)]
        keys = [hash_json([made_by, count, *text]) for text in texts]
        known = self.ranks.on_first(file.read)
        if missing := [number for number, key in enumerate(keys) if key not in known]:
            mine = self.ranks.share(missing)
            ids, headers = [self.encoded.ids[number] for number in mine], self.trained.template.headers
            title = f"{self.trained.template.target}s ({count} samples{' and greedy' * with_greedy})"
            with self.loaded(use_adapter) as network, Stage(title, len(mine) * (count + with_greedy)) as stage:
                engine = Engine(network, self.trained.tokenizer, self.settings, headers)
                for place, written in write_samples(engine, ids, count, with_greedy, stage.advance):
                    file.append(keys[mine[place]], written)
            self.ranks.wait()
            known = self.ranks.on_first(file.read)
        return [known[key] for key in keys]

    def pick(self, written: Sequence[Written], picks: PickSettings) -> list[Picked]:
        """What is taken of each row's texts."""
        return pick_all(written, picks, lambda: self.measure_help([each.texts for each in written]))

    def measure_help(self, texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """log p of each row's response given each of its texts, under the untouched base."""
        template, count = load_template("forward"), max(map(len, texts))
        columns = [
            self.log_p(False, column, template=template, title=f"round trip, {number} of {count}")
            for number, column in enumerate(zip(*texts, strict=True), start=1)
        ]
        return np.stack(columns, axis=1).tolist()

    def write_file(self, path: Path, picks: PickSettings = ONE, placeholders: Mapping[str, str] | None = None) -> None:
        """Predictions of all rows, in their order, then those of an earlier call with more rows.

        Such a call is gone on with; a row whose text or context has changed since is written anew. Of several samples
        one is picked; all are in a file beside it, and in its rows. placeholders: what these stand for is put back;
        then `redacted` is the prediction as it was written.
        """
        file = self.open_file(path, PredictionKey(self.trained.key, self.settings.describe(), picks=picks.describe()))
        if picks.samples == 1:
            rows = {example_id: found.to_row() for example_id, found in self.complete(file).items()}
        else:
            rows = self.pick_rows(file, picks)
        if not self.ranks.is_first:
            return
        ids = dict.fromkeys([*(example.id for example in self.examples), *rows])
        file.replace([restore_row(rows[example_id], placeholders) for example_id in ids])

    def complete(self, file: PredictionFile) -> dict[str, Prediction]:
        """A file's predictions, by id, with those of all rows."""
        done = self.ranks.on_first(file.open)
        made_of = {row.id: (row.instruction or row.response, row.context) for row in done.values()}
        texts = [(prompt_source(prompt), self.context_of(n)) for n, prompt in enumerate(self.encoded.prompts)]
        missing = [n for n, example in enumerate(self.examples) if made_of.get(example.id) != texts[n]]
        if missing:
            self.write(file, missing, self.settings, True, self.trained.template.target + "s")
            done = self.ranks.on_first(file.open)
        return done

    def pick_rows(self, file: PredictionFile, picks: PickSettings) -> dict[str, Row]:
        """By id: the prediction that is taken, and what it was taken from; those of an earlier call among them."""
        self.ranks.on_first(lambda: bool(file.open()))
        written = self.sample(file.path.with_suffix(".samples.jsonl"), picks.samples, picks.takes_greedy)
        self.likelihoods = LikelihoodFile(file.path.with_suffix(".log_p.jsonl"), self.ranks.rank, self.ranks.world_size)
        return self.ranks.on_first(lambda: read_rows(file.path)) | {
            self.examples[number].id: self.to_prediction(number, each.taken).to_row() | each.describe(texts, picks)
            for number, (each, texts) in enumerate(zip(self.pick(written, picks), written, strict=True))
        }

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
                text = tokenizer.decode(generated.token_ids).strip()
                sample = Sample(text, generated.log_p, len(generated.token_ids), generated.stopped)
                file.append(self.to_prediction(mine[place], sample))
                stage.advance(tokens=len(generated.token_ids))
        self.ranks.wait()

    def to_prediction(self, number: int, sample: Sample) -> Prediction:
        example, prompt = self.examples[number], self.encoded.prompts[number]
        source, reads_instruction = prompt_source(prompt), self.trained.template.target == "response"
        return Prediction(
            id=example.id,
            category=example.category,
            response="" if reads_instruction else source,
            reference=prompt.target,
            prediction=sample.text,
            num_tokens=sample.num_tokens,
            stopped=sample.stopped,
            log_p=sample.log_p,
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

    def key(
        self, use_adapter: bool, settings: GenerationSettings | None = None, picks: PickSettings = ONE
    ) -> PredictionKey:
        """What the predictions depend on; a prediction file made with anything else is not continued.

        picks: of an evaluation as a whole.
        """
        settings = settings or self.settings
        return PredictionKey(self.model_key(use_adapter), settings.describe(), self.rows_hash, picks.describe())


def restore_row(row: Row, placeholders: Mapping[str, str] | None) -> Row:
    """What the placeholders stand for is put back; None: the row as it is."""
    if placeholders is None:
        return row
    written = row["redacted"] if "redacted" in row else row["prediction"]
    row = row | {"prediction": restore(written, placeholders), "redacted": written}
    return row | ({"samples": [restore(text, placeholders) for text in row["samples"]]} if "samples" in row else {})


def hash_examples(examples: Sequence[Example]) -> str:
    """16 hex digits over ids and texts: rows of another file may have the same ids."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update("\0".join([example.id, example.instruction, example.context, example.response, ""]).encode())
    return digest.hexdigest()[:16]
