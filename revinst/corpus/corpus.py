"""One corpus folder and how it is made."""

import argparse
import json
import time
from dataclasses import asdict
from email.utils import parseaddr
from functools import cache
from pathlib import Path
from typing import Any

from revinst.corpus.build import (
    Reading,
    Selection,
    Writing,
    build_dataset,
    build_shards,
    build_texts,
    check_settings,
    choose_shard_rows,
)
from revinst.corpus.candidates import Writer
from revinst.corpus.filters import parse_thresholds
from revinst.data.prompt import Template, load_template, prompt_lines
from revinst.data.tokenizer import Tokenizer, load_tokenizer
from revinst.errors import UserError
from revinst.inference.engine.engine import GenerationSettings
from revinst.inference.trained import Trained


class Corpus:
    """One output folder and how it is made; `build` does so with the run of one round."""

    def __init__(self, options: argparse.Namespace, settings: GenerationSettings, trained: Trained):
        self.folder: Path = options.output
        self.generation = settings
        me = {parseaddr(address)[1].lower() for address in options.me}
        self.reading = Reading(options.input, tuple(sorted(me)), options.column, options.redact, options.limit)
        from revinst.model.hardware import pick_device

        shard_rows = choose_shard_rows(self.folder, pick_device().type)
        self.writing = Writing(shard_rows, options.candidates, options.pick, options.curate, options.max_unparsable)
        self.limits = parse_thresholds(options.filter)
        self.trained, self.parts = trained, (options.heldout, options.val, options.split_by or "", options.seed)
        self.tokenizer: Tokenizer = load_tokenizer(trained.base)
        self.template: Template = load_template(trained.template, self.tokenizer.hf)
        if self.template.target != "instruction":
            raise UserError(f"--run {options.run}: trained to write the {self.template.target}, not instructions")
        self.settings = self.describe()
        check_settings(self.folder, self.settings)

    def describe(self) -> dict[str, Any]:
        writing = asdict(self.writing)
        writing.pop("max_unparsable")
        made_by = self.trained.describe(self.tokenizer, self.template)
        made_by.pop("base")  # a path of this machine, and the card has all of this
        settings = self.reading.describe() | writing | made_by | {"generation": self.generation.describe()}
        return json.loads(json.dumps(settings))

    def build(self, trained: Trained, work: Path, number: int) -> dict[str, Any]:
        """Writes all files with this run's instructions; shards lie in `work`. Returns the card."""
        texts = build_texts(self.folder, self.reading)

        @cache
        def load_writer() -> Writer:  # only if a shard is missing
            model = trained.load(self.generation)
            return Writer(
                model,
                self.tokenizer,
                self.template,
                trained.seq_len,
                trained.cut,
                self.generation,
                strip_citations=trained.strip_citations,
            )

        started = time.monotonic()
        count = build_shards(work, texts, load_writer, self.writing)
        written = time.monotonic()
        heldout, val, order, seed = self.parts
        lines = tuple(prompt_lines(self.template))
        selection = Selection(self.limits, lines, heldout=heldout, val=val, order=order, seed=seed)
        name = trained.run.path.name if trained.run else trained.adapter.name
        base = Path(trained.base).name if Path(trained.base).is_dir() else trained.base
        run = {"name": name, "adapter": trained.hash_adapter(), "base": base, "round": number}
        card = build_dataset(self.folder, work, selection, self.settings, run)
        write_s, files_s = written - started, time.monotonic() - written
        print(f"{count} texts got instructions in {write_s:.1f} s, {len(texts)} were filtered in {files_s:.1f} s")
        return card
