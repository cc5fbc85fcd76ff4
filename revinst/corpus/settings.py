"""How a corpus is made: what its texts, its shards and its selection depend on, and what keeps two of these apart."""

import hashlib
from argparse import Namespace
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from revinst.corpus.authors import read_me
from revinst.corpus.filters import Thresholds, parse_thresholds
from revinst.corpus.parts import check_shares
from revinst.corpus.planting import check_canaries
from revinst.errors import UserError
from revinst.evaluation.judge_settings import JudgeSettings
from revinst.inference.key import changed_settings
from revinst.inference.picks import ONE, PickSettings
from revinst.runs.files import read_json, write_json
from revinst.runs.folder import LOCK_FILES

# What a kill costs at most. A shard begins with empty slots and new CUDA graphs and ends with few slots in work, so it
# has as many texts as a device writes for in a few minutes.
SHARD_ROWS, FEWEST_SHARD_ROWS = {"cuda": 4096, "cpu": 256}, 64
BEFORE = {"split_words": 0}  # what was done where the default is another now


@dataclass(frozen=True, slots=True)
class Reading:
    """How the input is read; `texts.jsonl` depends on nothing else."""

    source: Path
    me: tuple[str, ...] = ()
    column: str = "text"
    redact: bool = False
    limit: int | None = None
    join_minutes: float = 0
    contexts: bool = False
    split_words: int = 1500

    def __post_init__(self):
        if self.split_words < 0:
            raise UserError(f"--split_words {self.split_words}: must be at least 0 (0: no text is split)")
        if self.join_minutes < 0:
            raise UserError(f"--join_minutes {self.join_minutes:g}: must be at least 0")

    def check_output(self, folder: Path) -> None:
        source, output = self.source.resolve(), folder.resolve()
        if output == source or source in output.parents:
            raise UserError(f"{folder}: the output must not lie in the input; choose another folder")

    def describe(self) -> dict[str, Any]:
        """Without anything private: addresses and paths only as a hash."""
        return {
            "input": hash_input(self.source),
            "me": hashlib.sha256("\0".join(sorted(self.me)).encode()).hexdigest()[:16],
            "column": self.column,
            "redact": self.redact,
            "limit": self.limit,
            "join_minutes": self.join_minutes,
            "contexts": self.contexts,
            "split_words": self.split_words,
        }


@dataclass(frozen=True, slots=True)
class Writing:
    """How instructions are written and rated; shards depend on it. shard_rows: texts of a shard, 0: the device's.

    per_text: instructions for a text of `CHUNK_WORDS`; a shorter one gets its share of these, and at least one.
    """

    shard_rows: int = 0
    picks: PickSettings = ONE
    curate: bool = False
    max_unparsable: float = 0.2
    per_text: int = 1

    def describe(self) -> dict[str, Any]:
        own = {"shard_rows": self.shard_rows, "curate": self.curate, "per_text": self.per_text}
        return own | asdict(self.picks)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is kept of what was written; may change between calls, since it costs little."""

    limits: Thresholds
    heldout: float
    val: float
    order: str = ""
    seed: int = 0
    judge: JudgeSettings | None = None
    canaries: int = 0

    def __post_init__(self):
        check_shares(self.heldout, self.val)
        check_canaries(self.canaries)


def read_options(
    options: Namespace, picks: PickSettings, judge: JudgeSettings | None = None
) -> tuple[Reading, Writing, Selection]:
    """From the options of the command. Raises UserError for what makes no sense."""
    if options.output is None or not (options.run or options.texts_only):
        raise UserError("the following arguments are required: OUT_DIR, --run (or --texts_only)")
    if options.push_to_hub and (options.texts_only or not (options.redact or options.keep_private)):
        how = "texts alone stay here; give --run" if options.texts_only else "own texts go up with --redact"
        raise UserError(f"--push_to_hub: {how}{'' if options.texts_only else ', or for you alone with --keep_private'}")
    if options.canaries and (options.push_to_hub or options.texts_only):
        how = "they go into a finished set; give --run" if options.texts_only else "a set with them is not published"
        raise UserError(f"--canaries: {how}")
    if options.push_to_hub and options.context and not options.publish_context:
        others = "with --context goes up what others wrote to you"
        raise UserError(f"--push_to_hub: {others}; leave it out, or say --publish_context as well")
    if options.rounds < 0:
        raise UserError(f"--rounds {options.rounds}: must be at least 0")
    most = options.samples or picks.samples  # a GPU writes more where nothing was said
    if options.per_text < 1 or (options.per_text > most and (options.samples or most == 1)):
        raise UserError(f"--per_text {options.per_text}: must be 1 to --samples, of which there are {most}")
    if not options.curate and any(setting.startswith("min_rating=") for setting in options.filter):
        raise UserError("--filter min_rating: ratings come from --curate; give both")
    if not judge and any(setting.startswith("judge=") for setting in options.filter):
        raise UserError("--filter judge: ratings come from --judge; give both")
    if judge and options.texts_only:
        raise UserError("--judge: it rates instructions, and --texts_only writes none")
    me = read_me(options.me)
    reading = Reading(
        options.input,
        me,
        options.column,
        options.redact,
        options.limit,
        join_minutes=options.join_minutes,
        contexts=options.context,
        split_words=options.split_words,
    )
    reading.check_output(options.output)
    writing = Writing(0, picks, options.curate, options.max_unparsable, options.per_text)
    limits = parse_thresholds(options.filter)
    order, seed, canaries = options.split_by or "", options.seed, options.canaries
    selection = Selection(limits, options.heldout, options.val, order, seed, judge, canaries)
    return reading, writing, selection


def hash_input(source: Path) -> str:
    """16 hex digits over names, sizes and times of the input's files: enough to see that it changed."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    files = [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())
    facts = [
        (file.relative_to(source.parent).as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Keeps settings beside what they made. Raises UserError rather than mix two settings in one folder.

    settings: all, or those of Reading for a call that makes the texts alone, which are then all that is compared.
    """
    path = folder / "settings.json"
    check_ours(folder)
    if (folder / "texts.jsonl").is_file():  # before, nothing was made with them: a mistake in them can be corrected
        known = read_json(path)
        if isinstance(known, dict):  # a setting that it has not is of a newer version; before, its default was done
            made = (Reading, Writing) if "shard_rows" in known else (Reading,)
            defaults = {field.name: field.default for each in made for field in fields(each)} | BEFORE
            known = {name: defaults[name] for name in settings if name in defaults} | known
        if changed := changed_settings(*of_same_stages(known, settings)):
            raise UserError(f"{folder}: made with another {', '.join(changed)}; choose another folder or delete it")
        if isinstance(known, dict):
            settings = known | settings
    write_json(path, settings)


def of_same_stages(known: object, settings: dict[str, object]) -> tuple[object, dict[str, object]]:
    """Both, or what both say of the texts where one of them is of these alone."""
    if not isinstance(known, dict) or ("shard_rows" in known) == ("shard_rows" in settings):
        return known, settings
    names = known.keys() & settings.keys()
    return {name: known[name] for name in names}, {name: settings[name] for name in names}


def choose_shard_rows(folder: Path, device: str, ranks: int = 1) -> int:
    """The number that shards in the folder have, else the device's; several ranks have fewer, to share them evenly."""
    path = folder / "settings.json"
    known = read_json(path) if path.is_file() else None
    default = SHARD_ROWS[device] if ranks == 1 else max(FEWEST_SHARD_ROWS, SHARD_ROWS[device] // (2 * ranks))
    return int(known["shard_rows"]) if isinstance(known, dict) and "shard_rows" in known else default


def check_ours(folder: Path) -> None:
    """Raises UserError for a folder with files in it that no corpus made."""
    if (folder / "settings.json").is_file() or not folder.is_dir():
        return
    if any(path.name not in LOCK_FILES for path in folder.iterdir()):
        raise UserError(f"{folder}: there are other files in it; choose another folder")
