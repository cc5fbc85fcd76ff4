"""One corpus folder and how it is made."""

import json
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from revinst.corpus.build import build_dataset, build_shards, build_texts
from revinst.corpus.candidates import Writer
from revinst.corpus.settings import Reading, Selection, Writing, choose_shard_rows, keep_settings
from revinst.data.prompt import prompt_lines
from revinst.export.licences import public_name
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.key import PredictionKey
from revinst.inference.trained import Trained
from revinst.launch.ranks import Ranks
from revinst.model.hardware import pick_device


class Corpus:
    """One output folder and how it is made; `build` does so with the run of one round, on all ranks together.

    Raises UserError for a folder that was made in another way, and for a run that writes no instructions.
    """

    def __init__(
        self,
        folder: Path,
        trained: Trained,
        generation: GenerationSettings,
        reading: Reading,
        writing: Writing,
        selection: Selection,
        *,
        ranks: Ranks | None = None,
    ):
        self.ranks = ranks or Ranks()
        self.folder, self.trained, self.generation = folder, trained, generation
        self.reading, self.selection = reading, selection
        shard_rows = writing.shard_rows or choose_shard_rows(folder, pick_device().type, self.ranks.world_size)
        self.writing = replace(writing, shard_rows=shard_rows)
        trained.check_writes_instructions()
        self.settings = self.describe()
        self.ranks.on_first(lambda: keep_settings(folder, self.settings))

    def describe(self) -> dict[str, Any]:
        made_by = PredictionKey(self.trained.key, self.generation.describe()).to_json()
        made_by.pop("base")  # a path of this machine, and the card has all of this
        return json.loads(json.dumps(self.reading.describe() | self.writing.describe() | made_by))

    def build(self, trained: Trained, work: Path, number: int) -> dict[str, Any]:
        """Writes all files with this run's instructions; shards lie in `work`. Returns the card."""
        self.ranks.on_first(lambda: bool(build_texts(self.folder, self.reading)))
        texts = build_texts(self.folder, self.reading)  # the same, on every rank

        @cache
        def load_writer() -> Writer:  # only if a shard is missing
            picks, per_text = self.writing.picks, self.writing.per_text
            return Writer(trained, trained.load(self.generation), self.generation, picks, per_text)

        started = time.monotonic()
        count = build_shards(work, texts, load_writer, self.writing, self.ranks)
        written = time.monotonic()
        base = public_name(trained.base)
        run = {"name": trained.path.name, "adapter": trained.key.adapter, "base": base, "round": number}
        lines = prompt_lines(trained.template)
        card = self.ranks.on_first(lambda: build_dataset(self.folder, work, self.selection, self.settings, run, lines))
        write_s, files_s = written - started, time.monotonic() - written
        print(f"{count} texts got instructions in {write_s:.1f} s, {len(texts)} were filtered in {files_s:.1f} s")
        return card
