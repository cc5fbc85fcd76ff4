"""Malformed data, configs, runs, adapters and predictions: a line that says what and where, never a traceback, a hang
or a file that was changed.
"""

import csv
import gzip
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from revinst import cli
from revinst.config.parser import read_config
from revinst.config.settings import LoraSettings
from revinst.config.stored import read_run_config
from revinst.config.trainer_flags import check_trainer_flags
from revinst.data.cache import cache_documents
from revinst.data.datamodule import build_data
from revinst.data.encoding import Documents
from revinst.data.example_table import Discarded, load_examples
from revinst.data.texts import read_texts
from revinst.data.tokenizer import load_tokenizer
from revinst.errors import UserError
from revinst.evaluation.comparison import build_comparison_tables, compare_systems, read_system
from revinst.evaluation.examples import choose_examples
from revinst.inference.predictions import LikelihoodFile, PredictionFile
from revinst.inference.trained import open_trained
from revinst.model.adapter import load_adapter
from revinst.model.base import load_base
from revinst.model.build import build_empty
from revinst.runs.checkpoints import newest_checkpoint, prune, read_checkpoint
from revinst.runs.folder import Run
from revinst.runs.metrics import read_rows
from revinst.training.module import InstructionModule
from revinst.training.resume import find_checkpoint, is_finished
from revinst.training.stop import StopSignals
from revinst.training.trainer import build_trainer

pytestmark = pytest.mark.wide
JUNK = [b"", b"\x00", b"{}", b"[]", b"null", b"- - :", b'{"a": 1e999}', b"\xff\xfe", b"!!python/object:os.system {}"]
JUNK += [b"[" * 5000, b'"', b"1e400", b"NaN", b"-1", b'{"id": ["x"]}', b"9" * 5000, b"\r\n", b"\xed\xa0\x80"]
HANGS_AFTER_S = 60
# One seed a test, so that a failure repeats.
HYPOTHESIS = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)

odd_numbers = st.sampled_from([None, True, False, 0, -1, 1, 2, 10**9, 10**30, -0.5, 1.5, float("nan"), float("inf")])
odd_words = st.sampled_from(["auto", "none", "x", "", "..", "/dev/null", "1", "[1]", "${x}", "é" * 300])


def spoil(content: bytes, rng: random.Random) -> bytes:
    """One of: cut off, a byte changed, a stretch taken out or doubled, a value replaced, junk."""
    at = rng.randrange(len(content) + 1)
    end = min(len(content), at + rng.randrange(1, 40))
    kind = rng.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + content[end:]
    if kind == 3:
        return content[:end] + content[at:]
    if kind == 4:
        return content[:at] + rng.choice(JUNK) + content[end:]
    return rng.choice(JUNK)


def spoil_json(content: bytes, rng: random.Random) -> bytes:
    """A value somewhere in it replaced, or a key taken out: still JSON, so that what reads it gets to see it."""
    root = [json.loads(content)]
    places = [(root, 0)]
    for holder, key in places:
        inner = holder[key]
        items = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        places += [(inner, name) for name, _ in items]
    holder, key = rng.choice(places)
    if isinstance(holder, dict) and rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = rng.choice([None, True, -1, 0, 1.5, 10**30, float("nan"), "", "x", "../../x", [], {}, [["x"]]])
    return json.dumps(root[0]).encode()


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"hangs for {HANGS_AFTER_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS_AFTER_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def is_refused(use: Callable[[], object], *names: str) -> bool:
    """Whether `use` was refused with one line that has one of `names`; any other error fails the test."""
    try:
        with no_hang():
            use()
    except (UserError, OSError) as error:
        assert str(error).strip() and "\n" not in str(error)
        assert any(name in str(error) for name in names), f"{error}: says none of {names}"
        return True
    return False


class Fuzz:
    """Spoilt versions of a file. counts: of the `fault` fixture."""

    def __init__(self, counts: dict[str, int]):
        self.counts = counts

    def spoilt(self, path: Path, count: int, seed: int, spoil: Callable = spoil) -> Iterator[None]:
        """Spoils the file, yields, and checks that the body changed neither it nor one beside it."""
        content, rng = path.read_bytes(), random.Random(seed)
        beside = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file() and file != path}
        for _ in range(count):
            beside[path] = spoil(content, rng)
            path.write_bytes(beside[path])
            self.counts["injected"] += 1
            try:
                yield
            except BaseException:
                print("spoilt to:", beside[path][:2000])
                raise
            for file, bytes_before in beside.items():
                if file.read_bytes() != bytes_before:
                    self.counts["bytes_lost"] += len(bytes_before)
                    raise AssertionError(f"{file} was changed")
        path.write_bytes(content)

    def refused(self, path: Path, use: Callable[[], object], count: int, seed: int, *names: str, **how: Any) -> int:
        """How many of `count` spoilt versions were refused."""
        return sum(is_refused(use, path.name, *names) for _ in self.spoilt(path, count, seed, **how))


# ---- data ------------------------------------------------------------------------------------------------------------

TEXT = 'A number: "é",\n…'
ROWS = [
    {"id": str(n), "instruction": f"What is {n}?", "context": "", "response": f"{n}. {TEXT}", "category": "qa"}
    for n in range(6)
]


def write_data(path: Path) -> Path:
    """ROWS as a file of the path's kind."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(write_data(path.with_suffix("")).read_bytes()))
        path.with_suffix("").unlink()
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize(
    ("suffix", "seed"), [(".jsonl", 11), (".json", 12), (".csv", 13), (".parquet", 14), (".jsonl.gz", 15)]
)
def test_data_files(tmp_path, fault, suffix, seed):
    path = write_data(tmp_path / f"rows{suffix}")
    with fault("malformed data file") as counts:
        fuzz = Fuzz(counts)
        stops = fuzz.refused(path, lambda: list(load_examples(str(path))[0]), 100, seed)
        skips = fuzz.refused(path, lambda: list(load_examples(str(path), on_bad_row="skip")[0]), 100, seed)
        assert stops > 20 and stops >= skips
        if suffix != ".parquet":
            assert fuzz.refused(path, lambda: list(read_texts(path, "response")), 50, seed) > 5
        if suffix == ".json":
            assert fuzz.refused(path, lambda: list(load_examples(str(path))[0]), 60, seed, spoil=spoil_json) > 5


def test_rows_of_any_shape(tmp_path, fault):
    path = tmp_path / "rows.jsonl"
    fields = st.sampled_from(["id", "instruction", "context", "response", "category", "x"])
    rows = st.lists(st.dictionaries(fields, values) | values, min_size=1, max_size=3)
    with fault("malformed data file") as counts:

        @settings(HYPOTHESIS, max_examples=200)
        @given(rows, st.sampled_from(["stop", "skip"]))
        def use(rows, on_bad_row):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            counts["injected"] += 1
            is_refused(lambda: list(load_examples(str(path), on_bad_row=on_bad_row)[0]), path.name)

        use()


def test_data_caches(tmp_path, fault, monkeypatch):
    """A damaged one is built again."""
    monkeypatch.setenv("REVINST_CACHE", str(tmp_path))
    ids = np.arange(1000, dtype=np.int32)
    built = Documents(ids, ids + 1, np.array([0, 400, 1000]), ["a", "b"], 1, [Discarded("x:1", "empty")])
    folder, rng = tmp_path / "documents" / "key", random.Random(24)
    cache_documents("key", lambda: iter([built]))
    files = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    with fault("malformed data cache") as counts:
        for number in range(100):
            path = list(files)[number % len(files)]
            path.write_bytes(spoil(files[path], rng))
            counts["injected"] += 1
            with no_hang():
                found = cache_documents("key", lambda: iter([built]))
            assert np.array_equal(found.input_ids, ids) and np.array_equal(found.targets, ids + 1)
            assert found.ids == ["a", "b"] and found.offsets.tolist() == [0, 400, 1000]
            for file, content in files.items():
                file.write_bytes(content)


# ---- configs ---------------------------------------------------------------------------------------------------------


def copy_config(folder: Path, new: Path) -> Path:
    """The config of a new run in `new`."""
    text = (folder / "whole" / "config.yaml").read_text()
    text = text.replace(f"runs_dir: {folder}", f"runs_dir: {new / 'runs'}").replace("run_name: whole", "run_name: new")
    (new / "config.yaml").write_text(text)
    return new / "config.yaml"


def parse_and_build(path: Path) -> None:
    """All that `fit` does before it reads data."""
    config = read_config(["--config", str(path)])
    check_trainer_flags(config)
    data, _ = build_data(config), InstructionModule(config.model)
    run = Run(Path(config.runs_dir) / config.run_name)
    is_finished(run, config)
    find_checkpoint(run, config, data)
    build_trainer(run, config, StopSignals())


def test_configs(folder, whole, tmp_path, fault):
    path = copy_config(folder, tmp_path)
    keys = [f"{group}." for group in ("data", "model", "trainer", "checkpoint", "samples")] + ["config", "--"]
    with fault("malformed config") as counts:
        fuzz = Fuzz(counts)
        refused = fuzz.refused(path, lambda: parse_and_build(path), 100, 1, *keys, *TOP_KEYS)
        assert refused > 40 and not (tmp_path / "runs").exists()


TOP_KEYS = ("run_name", "runs_dir", "resume", "seed_everything", "samples", "checkpoint", "data", "model", "trainer")


def test_config_values_of_any_type(folder, whole, tmp_path, fault):
    """Keys get values that are not their own."""
    path = copy_config(folder, tmp_path)
    config = yaml.safe_load(path.read_text())
    places = [(group, key) for group in config if isinstance(config[group], dict) for key in config[group]]
    places += [(None, key) for key in config]
    with fault("malformed config") as counts:
        seen = set()

        @settings(HYPOTHESIS, max_examples=200)
        @given(st.sampled_from(places), odd_numbers | odd_words | values)
        def use(place, value):
            group, key = place
            changed = json.loads(json.dumps(config))
            (changed[group] if group else changed)[key] = value
            path.write_text(yaml.safe_dump(changed))
            counts["injected"] += 1
            where = lambda: parse_and_build(path)  # noqa: E731
            if is_refused(where, key, "config.yaml"):
                seen.add(place)

        use()
        assert len(seen) > 40 and not (tmp_path / "runs").exists()


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_run_folders(folder, whole, copy_of, fault):
    run = copy_of("whole", "fuzzed")
    trained = open_trained(str(run))
    with fault("malformed run folder") as counts:
        fuzz = Fuzz(counts)
        assert fuzz.refused(run / "manifest.json", lambda: open_trained(str(run)), 40, 2, run.name) > 10
        assert fuzz.refused(run / "manifest.json", lambda: open_trained(str(run)), 20, 2, spoil=spoil_json) >= 0
        config = run / "config.yaml"
        assert fuzz.refused(config, lambda: read_run_config(config), 60, 3, *TOP_KEYS) > 15
        assert fuzz.refused(run / "metrics.csv", lambda: read_rows(run / "metrics.csv"), 80, 4) >= 0
        split = run / "split.json"
        assert fuzz.refused(split, lambda: choose_examples(trained, None, None), 20, 15, "split") > 5
        assert fuzz.refused(split, lambda: choose_examples(trained, None, None), 20, 16, "split", spoil=spoil_json) >= 0


def test_locks(tmp_path, fault):
    """Whatever is in the file, the lock is the kernel's."""
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text("")
    rng = random.Random(17)
    with fault("malformed run folder") as counts:
        for _ in range(30):
            for file in (run.lock_file, run.owner_file):
                file.write_bytes(spoil(b"process 1 on elsewhere since 2020-01-01\n", rng))
            counts["injected"] += 1
            with no_hang(), run.lock():
                assert run.owner_file.read_bytes().startswith(b"process ")
                with pytest.raises(UserError, match="in use by process"), Run(run.path).lock():
                    pass


def test_checkpoints(stopped, copy_of, fault):
    run = copy_of("stopped", "fuzzed-checkpoints")
    newest, folder = run / "checkpoints" / "step-000007.ckpt", run / "checkpoints"
    other = newest.with_name("step-000006.ckpt")

    def use() -> None:
        assert newest_checkpoint(folder) in (newest, other)
        prune(folder, 2, 1)
        read_checkpoint(newest)

    with fault("malformed run folder") as counts:
        fuzz = Fuzz(counts)
        assert fuzz.refused(newest, use, 60, 5) > 10
        assert fuzz.refused(newest.with_suffix(".json"), use, 60, 6) >= 0
        assert fuzz.refused(newest.with_suffix(".json"), use, 40, 18, spoil=spoil_json) >= 0
        assert newest_checkpoint(folder) == newest


# ---- adapters --------------------------------------------------------------------------------------------------------


def test_adapters(folder, whole, tiny_llama, copy_of, fault):
    adapter = copy_of("whole", "fuzzed-adapter") / "adapter"
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    config, weights = adapter / "adapter_config.json", adapter / "adapter_model.safetensors"

    def use() -> None:
        open_trained(str(adapter))
        load_adapter(base, adapter).unload()

    with fault("malformed adapter folder") as counts:
        fuzz = Fuzz(counts)
        assert fuzz.refused(config, use, 80, 7, str(adapter)) > 20
        assert fuzz.refused(config, use, 80, 19, str(adapter), spoil=spoil_json) > 20
        assert fuzz.refused(weights, use, 40, 8, str(adapter)) > 10
        assert json.loads(config.read_text())["r"] == 4


def test_bases(tiny_llama, tmp_path, fault):
    """A damaged config or weight file of the base; one with a tensor less would go on with random numbers."""
    base = Path(shutil.copytree(tiny_llama, tmp_path / "base"))

    def use() -> None:
        load_tokenizer(str(base))
        build_empty(str(base), LoraSettings())
        load_base(str(base), torch.device("cpu"), "none", "sdpa", torch.float32)

    with fault("malformed base folder") as counts:
        fuzz = Fuzz(counts)
        assert fuzz.refused(base / "config.json", use, 30, 25, str(base), spoil=spoil_json) > 5
        assert fuzz.refused(base / "generation_config.json", use, 10, 26, str(base), spoil=spoil_json) >= 0
        assert fuzz.refused(base / "tokenizer_config.json", use, 10, 27, str(base), spoil=spoil_json) > 1
        assert fuzz.refused(base / "model.safetensors", use, 10, 28, str(base)) > 3
        weights = load_file(base / "model.safetensors")
        weights.pop("model.layers.1.mlp.up_proj.weight")
        save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
        counts["injected"] += 1
        with pytest.raises(UserError, match=r"1 of its tensors are in no file, the first is model\.layers\.1\.mlp"):
            use()


# ---- predictions -----------------------------------------------------------------------------------------------------


def write_predictions(path: Path) -> Path:
    rows = [
        {"id": f"row-{n}", "category": "qa", "response": "It is.", "reference": f"Is it {n}?", "prediction": "What?"}
        | {"num_tokens": 3, "stopped": "eos", "log_p": -1.5, "rougeL": n / 7, "group": f"row-{n}"}
        for n in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spoil_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines()
    number = rng.randrange(len(lines))
    lines[number] = spoil_json(lines[number], rng)
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("how", [spoil, spoil_line])
def test_prediction_files(tmp_path, fault, how):
    """Compared, and gone on with by `evaluate` and `generate`, which cut off a line without an end."""
    path = write_predictions(tmp_path / "predictions.jsonl")
    other = write_predictions(tmp_path / "other.jsonl")
    known = {"adapter": "a", "generation": {"max_new_tokens": 3}}

    def compare() -> None:
        systems = [read_system(str(path)), read_system(str(other))]
        json.dumps(compare_systems(systems), allow_nan=False)
        build_comparison_tables(compare_systems(systems))

    def go_on() -> None:
        copy = tmp_path / "copy" / path.name
        shutil.copy(path, copy)
        (copy.parent / "predictions.settings.json").write_text(json.dumps(known))
        file = PredictionFile(copy, known)
        before = [line for line in copy.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        try:
            predictions = file.open()
        finally:
            assert copy.read_bytes() == b"".join(before), "only a torn line is gone"
        assert len(predictions) <= len(before)

    (tmp_path / "copy").mkdir()
    with fault("malformed prediction file") as counts:
        fuzz = Fuzz(counts)
        assert fuzz.refused(path, compare, 100, 20, other.name, spoil=how) > 20
        assert fuzz.refused(path, go_on, 100, 21, spoil=how) > 10


def test_files_beside_predictions(tmp_path, fault):
    path = write_predictions(tmp_path / "predictions.jsonl")
    beside = tmp_path / "predictions.settings.json"
    beside.write_text(json.dumps({"adapter": "a", "generation": {"max_new_tokens": 3}}))
    likelihoods = tmp_path / "log_p.jsonl"
    likelihoods.write_text('["a", -1.5]\n["b", null]\n["c", -2.5]\n')

    def read_likelihoods() -> None:
        (tmp_path / "copy").mkdir(exist_ok=True)
        copy = Path(shutil.copy(likelihoods, tmp_path / "copy"))
        assert all(isinstance(value, float) for value in LikelihoodFile(copy).read().values())

    with fault("malformed prediction file") as counts:
        fuzz = Fuzz(counts)
        settings = json.loads(beside.read_text())
        for how in (spoil, spoil_json):
            assert fuzz.refused(beside, PredictionFile(path, settings).open, 40, 22, path.name, spoil=how) > 10
        for how in (spoil, spoil_line):
            assert fuzz.refused(likelihoods, read_likelihoods, 60, 23, spoil=how) > 10


# ---- commands --------------------------------------------------------------------------------------------------------


def test_commands(folder, whole, copy_of, tmp_path, fault, capsys):
    """The same through the command line: exit 2, the last line on stderr says it, and nothing is written."""
    run = copy_of("whole", "fuzzed-commands")
    rows = write_data(tmp_path / "rows.jsonl")
    predictions = write_predictions(tmp_path / "predictions.jsonl")
    inspect = ["inspect", run / "config.yaml", "--data.source", rows]
    commands = [
        (rows, [*inspect, "--data.heldout_fraction", 0.2, "--data.val_fraction", 0.2]),
        (predictions, ["compare", predictions, shutil.copy(predictions, tmp_path / "other.jsonl")]),
        (run / "manifest.json", ["merge", run, tmp_path / "merged", "--drift_rows", 0]),
        (run / "adapter" / "adapter_config.json", ["merge", run / "adapter", tmp_path / "merged"]),
        (run / "config.yaml", ["plan", run / "config.yaml"]),
    ]
    with fault("malformed input of a command") as counts:
        for number, (path, command) in enumerate(commands):
            refused = 0
            for _ in Fuzz(counts).spoilt(path, 10, 30 + number):
                with no_hang(), pytest.raises(SystemExit) as ended:
                    cli.main([str(part) for part in command])
                shutil.rmtree(tmp_path / "merged", ignore_errors=True)
                error = capsys.readouterr().err
                assert ended.value.code in (0, 2) and "Traceback" not in error, error
                if ended.value.code == 2:
                    refused += 1
                    assert error.strip().splitlines()[-1].startswith(f"revinst {command[0]}: "), error
            assert refused >= 2, command
