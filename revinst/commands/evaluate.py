"""`revinst evaluate`: predictions for the held-out rows, their scores beside the baselines, and a report."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from revinst.commands.trained import (
    Trained,
    add_generation_options,
    build_parser,
    build_progress,
    open_trained,
    quiet_libraries,
    track,
)
from revinst.data.encoding import encode_examples, encode_to_generate
from revinst.data.examples import Example, load_examples
from revinst.data.prompt import Template, load_template, render_prompt
from revinst.data.split import select_examples
from revinst.data.tokenizer import Tokenizer, load_tokenizer
from revinst.errors import UserError
from revinst.evaluation.baselines import build_baselines
from revinst.evaluation.report import build_table, write_report
from revinst.evaluation.scores import score_rows, summarise_scores
from revinst.generation.engine import GenerationSettings, generate_batches
from revinst.generation.likelihood import score_documents
from revinst.generation.predictions import Prediction, PredictionFile
from revinst.run import read_json, write_json


def main(args: list[str]) -> int:
    parser = build_parser("evaluate", "Score a run on its held-out rows, beside baselines.")
    parser.add_argument("--input", help="other rows than the run's held-out ones (instruction and response)")
    parser.add_argument("--output", type=Path, help="the folder to write to; default: RUN/evaluation[/NAME]")
    parser.add_argument("--limit", type=int, help="only the first N rows")
    parser.add_argument("--adapter", choices=["run", "none"], default="run", help="none: score the untouched base")
    parser.add_argument("--name", help="the subfolder of RUN/evaluation")
    parser.add_argument("--json", action="store_true", help="print scores.json instead of the table")
    add_generation_options(parser)
    options = parser.parse_args(args)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: must be at least 1")
    settings = GenerationSettings(
        options.max_new_tokens, options.temperature, options.top_p, options.seed, options.batch_size
    )
    quiet_libraries()
    trained = open_trained(options.run, options.unfinished)
    examples, train_instructions = choose_rows(trained, options.input, options.limit)
    folder = choose_folder(trained, options)
    evaluation = Evaluation(trained, examples, settings)

    base = evaluation.predict(folder if options.adapter == "none" else folder / "base", use_adapter=False)
    rows = base if options.adapter == "none" else evaluation.predict(folder, use_adapter=True)
    scores = evaluation.score(rows, base, train_instructions, folder)
    if options.json:
        print(json.dumps(scores, indent=2))
    else:
        Console().print(build_table(scores, tuned="base" if options.adapter == "none" else "tuned"))
        print(folder)
    return 0


def choose_rows(trained: Trained, source: str | None, limit: int | None) -> tuple[Sequence[Example], list[str]]:
    """(rows to score, the training instructions that the random baseline draws from)."""
    if trained.cli is None or trained.run is None:
        if source is None:
            raise UserError("an adapter folder has no held-out rows of its own: give --input and --output")
        examples, _ = load_examples(source)
        return examples[:limit], [example.instruction for example in examples]
    from revinst.data.datamodule import InstructionDataModule

    data = InstructionDataModule(**trained.cli.data_arguments())
    known = data.load_examples()
    split = read_json(trained.run.split)
    train = [example.instruction for example in select_examples(known, split["train"])]
    examples = load_examples(source)[0] if source else select_examples(known, split["heldout"])
    if not examples:
        raise UserError(f"{trained.run.path}: it holds no rows out (data.heldout_fraction is 0); give --input")
    return examples[:limit], train


def choose_folder(trained: Trained, options: Any) -> Path:
    """evaluation/ for the default settings on the held-out rows, else a subfolder named after what differs."""
    if options.output is not None:
        return options.output
    if trained.output is None:
        raise UserError("an adapter folder is no run: give --output")
    parts = [options.name] if options.name else []
    if not parts:
        parts += ["base"] if options.adapter == "none" else []
        parts += [Path(options.input).stem] if options.input else []
        parts += [f"limit-{options.limit}"] if options.limit else []
        parts += [f"t{options.temperature:g}-p{options.top_p:g}-s{options.seed}"] if options.temperature else []
        parts += [f"max-{options.max_new_tokens}"] if options.max_new_tokens != 100 else []
    return trained.output / "-".join(parts) if parts else trained.output


class Evaluation:
    """The rows, the model (loaded when first needed) and the settings of one evaluation."""

    def __init__(self, trained: Trained, examples: Sequence[Example], settings: GenerationSettings):
        self.trained, self.examples, self.settings = trained, examples, settings
        self.tokenizer: Tokenizer = load_tokenizer(trained.base)
        self.template: Template = load_template(trained.template, self.tokenizer.hf)
        self.model: Any = None

    def predict(self, folder: Path, use_adapter: bool) -> list[Prediction]:
        """Predictions of all rows, in their order; those already in the folder are not made again."""
        file = PredictionFile(folder / "predictions.jsonl", self.describe(use_adapter))
        done = file.open()
        missing = [example for example in self.examples if example.id not in done]
        name = "tuned" if use_adapter else "base"
        if missing:
            prompts = [render_prompt(self.template, example, self.trained.with_context) for example in missing]
            prompt_ids, _ = encode_to_generate(
                prompts, self.template, self.tokenizer, self.trained.seq_len, self.settings.max_new_tokens
            )
            with self.loaded(use_adapter) as model, build_progress() as progress:
                task = progress.add_task(f"instructions ({name})", total=len(missing))
                for number, generated in generate_batches(model, self.tokenizer, prompt_ids, self.settings):
                    example, prompt = missing[number], prompts[number]
                    prediction = Prediction(
                        id=example.id,
                        category=example.category,
                        response=prompt_source(prompt),
                        reference=prompt.target,
                        prediction=self.tokenizer.decode(generated.token_ids).strip(),
                        num_tokens=len(generated.token_ids),
                        stopped=generated.stopped,
                    )
                    file.append(prediction)
                    done[example.id] = prediction
                    progress.advance(task)
        return [done[example.id] for example in self.examples]

    def score(
        self, rows: list[Prediction], base: list[Prediction], train_instructions: list[str], folder: Path
    ) -> dict[str, Any]:
        """Writes scores.json, report.html and the predictions with their scores."""
        references = [row.reference for row in rows]
        own = score_rows([row.prediction for row in rows], references)
        floors = build_baselines([row.response for row in rows], train_instructions)
        floors = {"base": [row.prediction for row in base]} | floors
        baselines = {name: score_rows(texts, references) for name, texts in floors.items()}
        use_adapter = rows is not base
        scores = summarise_scores(own, [row.category for row in rows], baselines, self.describe(use_adapter))
        scores["heldout_loss"] = self.heldout_loss(use_adapter)
        scored = [
            asdict(row) | {name: float(values[number]) for name, values in own.items()}
            for number, row in enumerate(rows)
        ]
        PredictionFile(folder / "predictions.jsonl", self.describe(use_adapter)).replace(scored)
        write_json(folder / "scores.json", scores)
        title = self.trained.run.path.name if self.trained.run else self.trained.adapter.name
        write_report(folder / "report.html", title, scores, scored)
        return scores

    def heldout_loss(self, use_adapter: bool) -> float:
        """-log p per target token of the true instructions."""
        documents = encode_examples(
            self.examples,
            self.template,
            self.tokenizer,
            self.trained.seq_len,
            with_context=self.trained.with_context,
        )
        with self.loaded(use_adapter) as model, build_progress() as progress:
            losses = score_documents(
                model, documents, progress=lambda batches: track(progress, "held-out loss", batches)
            )
        return float(np.sum(losses) / documents.num_targets)

    def loaded(self, use_adapter: bool) -> Any:
        """The model as a context: with the adapter, or with it switched off."""
        from contextlib import nullcontext

        from revinst.model.hardware import pick_device
        from revinst.model.inference import load_for_inference

        if self.model is None:
            self.model = load_for_inference(
                self.trained.base, self.trained.adapter, pick_device(), self.trained.quantization
            )
        if use_adapter:
            return nullcontext(self.model)
        return AdapterOff(self.model)

    def describe(self, use_adapter: bool) -> dict[str, Any]:
        """What the predictions depend on; a prediction file made with anything else is not continued."""
        adapter = hashlib.sha256((self.trained.adapter / "adapter_model.safetensors").read_bytes()).hexdigest()[:16]
        settings = asdict(self.settings)
        if not settings["temperature"]:
            del settings["seed"], settings["top_p"], settings["batch_size"]
        return {
            "base": self.trained.base,
            "quantization": self.trained.quantization,
            "adapter": adapter if use_adapter else None,
            "template": self.template.hash,
            "generation": settings,
            "rows": hashlib.sha256("\n".join(example.id for example in self.examples).encode()).hexdigest()[:16],
        }


class AdapterOff:
    """The model with its adapter switched off inside the block."""

    def __init__(self, model: Any):
        self.model, self.context = model, model.disable_adapter()

    def __enter__(self) -> Any:
        self.context.__enter__()
        return self.model

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)


def prompt_source(prompt: Any) -> str:
    """The text that the prompt is about."""
    return next((piece.text for piece in prompt.pieces if piece.source == "response"), prompt.text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
