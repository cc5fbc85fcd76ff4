"""What a stage after `fit` works on: a run folder, or any PEFT adapter folder."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from revinst.config.settings import Config
from revinst.config.stored import read_run_config
from revinst.config.words import QUANTIZATIONS
from revinst.data.datamodule import build_data
from revinst.data.encoding import encode_to_generate
from revinst.data.example_table import Examples, list_sources, load_examples
from revinst.data.examples import Example, check_columns, find_columns, strip_marks
from revinst.data.formats import BadRecord
from revinst.data.prompt import Prompt, Template, load_template, render_prompt
from revinst.data.redacted import find_unredacted
from revinst.data.sources import read_records
from revinst.data.tokenizer import Tokenizer, load_tokenizer, looks_local
from revinst.errors import UserError
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.folder import AdapterOptions, find_run
from revinst.inference.key import ModelKey
from revinst.inference.load import load_for_inference
from revinst.launch.ranks import Ranks
from revinst.model.adapter import check_not_merged, read_adapter_config
from revinst.model.fingerprint import identify_base
from revinst.model.hardware import DTYPES, choose_quantization, pick_device
from revinst.model.network import Network
from revinst.runs.checkpoints import export_checkpoint
from revinst.runs.files import MARKER, hash_adapter, read_json
from revinst.runs.folder import Run

# Of adapter_config.json: how strongly the weights count, which they don't say themselves.
SCALING = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")


class EncodedPrompts(NamedTuple):
    """What a model reads for each example, as text and as ids. num_cut: how many were cut to fit."""

    prompts: list[Prompt]
    ids: list[list[int]]
    num_cut: int


@dataclass
class Trained:
    """An adapter and how to use it. `run` and `config` are None for a bare adapter folder.

    quantization: of the base that it was trained on. template_name: as `load_template` takes it.
    """

    adapter: Path
    base: str
    quantization: str
    template_name: str
    with_context: bool
    seq_len: int
    cut: str = "end"
    strip_citations: bool = False
    run: Run | None = None
    config: Config | None = None

    @property
    def path(self) -> Path:
        return self.run.path if self.run else self.adapter

    @cached_property
    def tokenizer(self) -> Tokenizer:
        tokenizer = load_tokenizer(self.base)
        tokenizer.check_belongs(self.base)
        return tokenizer

    @cached_property
    def template(self) -> Template:
        """Raises UserError where the run was trained with another: a file, or a base's chat template, has changed."""
        template = load_template(self.template_name, self.tokenizer.hf)
        hashes = self.run.read_manifest().get("hashes") if self.run else None
        trained_with = hashes.get("template") if isinstance(hashes, dict) else None
        if trained_with not in (None, template.hash):
            raise UserError(
                f"{self.path}: trained with another prompt than data.template {self.template_name} makes today; "
                "restore its file, or the base's chat template, or train anew"
            )
        return template

    @property
    def writes_texts(self) -> bool:
        """From an instruction, as a personal model does; all others go the other way."""
        return self.template.target == "response"

    @property
    def new_tokens(self) -> int:
        return self.template.new_tokens(self.seq_len)

    def check_writes_instructions(self) -> None:
        if self.template.target != "instruction":
            raise UserError(
                f"{self.path}: trained to write the {self.template.target} (data.template), not instructions"
            )

    def encode_to_generate(self, examples: Sequence[Example], max_new_tokens: int) -> EncodedPrompts:
        """Examples as in training, with room for the new tokens."""
        prompts = [render_prompt(self.template, example, self.with_context) for example in examples]
        ids, num_cut = encode_to_generate(
            prompts, self.template, self.tokenizer, self.seq_len, max_new_tokens, cut=self.cut
        )
        return EncodedPrompts(prompts, ids, num_cut)

    @property
    def loads_as(self) -> str:
        """How the base is quantised on this machine: not as in training where there is no bitsandbytes."""
        return choose_quantization(self.quantization, pick_device())[0]

    def load(self, settings: GenerationSettings) -> Network:
        """Base and adapter on this process's device, in the settings' precision and memory."""
        dtype, memory_gib = DTYPES[settings.precision], settings.memory_gib
        return load_for_inference(
            self.base, self.adapter, pick_device(), self.quantization, dtype, memory_gib=memory_gib
        )

    @cached_property
    def key(self) -> ModelKey:
        config = read_adapter_config(self.adapter)
        return ModelKey(
            base=self.base,
            base_files=identify_base(self.base),
            tokenizer=self.tokenizer.fingerprint,
            quantization=self.loads_as,
            adapter=hash_adapter(self.adapter)[:16],
            lora={name: config[name] for name in SCALING if config.get(name)},
            template=self.template.hash,
            chat=self.template.name == "chat",
            seq_len=self.seq_len,
            cut=self.cut,
            context=self.with_context,
            strip_citations=self.strip_citations,
        )

    @property
    def columns(self) -> dict[str, str]:
        """Field -> column of the rows that it was trained on."""
        return check_columns((self.config.data.columns if self.config else None) or {})

    @property
    def facts(self) -> dict[str, object]:
        """What the run's manifest says of the data that it was trained on; {} where it says nothing."""
        run = self.run or Run(self.adapter.parent)  # a run's adapter folder
        data = run.read_manifest().get("data") if run.manifest.is_file() else None
        return data if isinstance(data, dict) else {}

    @property
    def saw_contexts(self) -> bool:
        """Whether rows that it was trained on had a context; an older run, which does not say, may have."""
        return self.with_context and self.facts.get("with_context") != 0

    @property
    def unredacted(self) -> list[str]:
        """What it was trained on of somebody's own texts without --redact; such a base counts too."""
        found = self.facts.get("unredacted")
        if found is None and self.config:  # of an older run
            found = find_unredacted(name for name, _ in list_sources(self.config.data.source))
        return [*(found if isinstance(found, list) else []), *unredacted_of_merged(Path(self.base))]

    def load_examples(self) -> Examples:
        """All rows that the run's split names, read as `fit` did."""
        assert self.config is not None, "of a bare adapter nobody knows them"
        return build_data(self.config).load_examples()

    def load_rows(self, source: str) -> Examples:
        """Rows of another source, read and prepared as those that it was trained on. Raises UserError naming a row."""
        record: object = next((record for _, record in read_records(source)), {})
        examples, left_out = load_examples(
            source,
            find_columns(record, self.columns),
            context=self.config.data.context if self.config else "drop",
            strip_citations=self.strip_citations,
        )
        if left_out:
            print(f"{source}: {len(left_out)} rows have a context and are left out (data.context)", file=sys.stderr)
        return examples

    def prepare(self, example: Example) -> Example:
        """A row that was read for another run, as it is read for this one. Raises UserError where nothing is left."""
        try:
            return strip_marks(example) if self.strip_citations else example
        except BadRecord as reason:
            raise UserError(f"row {example.id}: {reason} (data.strip_citations)") from None


def open_trained(
    path: str,
    unfinished: bool = False,
    options: AdapterOptions | None = None,
    *,
    step: int | None = None,
    exports: Path | None = None,
) -> Trained:
    """Opens RUN. Raises UserError when it is neither a finished run nor an adapter folder.

    step: the run as it was after that step; None: as it is. exports: where a checkpoint's adapter is written to; None:
    into the run.
    """
    folder, options = Path(path), options or AdapterOptions()
    run = find_run(folder, unfinished, options, step)
    if run is None:
        return open_adapter(folder, options)
    config = read_run_config(run.config, run.read_manifest().get("world_size"))
    data, model = config.data, config.model
    adapter = run.adapter if run.is_completed and step is None else export_checkpoint(run, step, exports)
    check_not_merged(model.base, adapter)
    return Trained(
        adapter,
        model.base,
        trained_quantization(run, model.quantization),
        data.template,
        data.context == "include",
        data.seq_len,
        data.cut,
        data.strip_citations,
        run,
        config,
    )


def unredacted_of_merged(folder: Path) -> list[str]:
    """`Trained.unredacted` of the adapter in a merged model; nothing of any other base."""
    marker = folder / MARKER
    return (read_json(marker).get("unredacted") or []) if marker.is_file() else []


def trained_quantization(run: Run, asked: str) -> str:
    """Of the base in training: without bitsandbytes, nf4 was asked for and none it was. Older manifests don't say."""
    hardware = run.read_manifest().get("hardware")
    found = hardware.get("quantization") if isinstance(hardware, dict) else None
    return found if found in QUANTIZATIONS else asked


def open_on_all(
    ranks: Ranks, path: str, unfinished: bool = False, options: AdapterOptions | None = None, step: int | None = None
) -> Trained:
    """Opens RUN on every rank, on the first one before the others: an unfinished run's adapter is written then."""
    if ranks.world_size > 1:
        ranks.on_first(lambda: bool(open_trained(path, unfinished, options, step=step)))
    return open_trained(path, unfinished, options, step=step)


def open_adapter(folder: Path, options: AdapterOptions) -> Trained:
    """A bare PEFT folder, whoever trained it; what it does not say, the options do, or the defaults."""
    named = read_adapter_config(folder).get("base_model_name_or_path")
    base = options.base or named
    if not base or not isinstance(base, str):
        raise UserError(
            f"{folder}/adapter_config.json: it names no base model (base_model_name_or_path); name it with --base"
        )
    if looks_local(base) and not Path(base).expanduser().is_dir():
        raise UserError(f"{folder}: its base {base} is no folder here; name the base with --base")
    quantization, template = options.quantization or "nf4", options.template or "blog"
    seq_len = options.seq_len or 2048
    print(
        f"{folder} is an adapter folder: base {base}, quantization {quantization}, template {template}, "
        f"{seq_len} tokens (--base, --quantization, --template, --seq_len)",
        file=sys.stderr,
    )
    check_not_merged(base, folder)
    return Trained(folder, base, quantization, template, with_context=False, seq_len=seq_len)
