"""The whole stage: property 3 of the design, resuming, ranks, and what a config may say."""

import csv
import functools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from revinst.config.settings import DataSettings, SampleSettings
from revinst.data.batch import MicroBatch
from revinst.data.datamodule import InstructionDataModule
from revinst.data.encoding import IGNORE_INDEX, encode_to_generate
from revinst.data.split import select_examples
from revinst.errors import UserError
from revinst.training.samples import Samples


@pytest.fixture(scope="module")
def build_data(base):
    """A module over the quickstart rows in short rows, so that an epoch has many steps."""
    from revinst.data import datamodule

    def build(seed: int = 42, **settings) -> InstructionDataModule:
        defaults = {"source": "quickstart", "seq_len": 384, "rows_per_step": 2, "micro_batch_size": 2}
        data = InstructionDataModule(DataSettings(**defaults | settings), base, seed)
        data.setup()
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datamodule, "load_tokenizer", functools.cache(datamodule.load_tokenizer))  # for speed only
        yield build


@pytest.fixture
def rows_csv(tmp_path) -> str:
    """60 short rows, every third with a context."""
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instruction", "context", "response"])
        for n in range(60):
            context = f"Some text {n}" if n % 3 == 0 else ""
            writer.writerow([f"Question number {n}", context, f"An answer to question {n}"])
    return str(path)


def run_epoch(data: InstructionDataModule, world_size: int) -> list[list[list[MicroBatch]]]:
    """[rank][step] -> micro-batches, as each rank's DataLoader gives them."""
    epoch = []
    for rank in range(world_size):
        data.sampler.rank, data.sampler.world_size, data.sampler.next_row = rank, world_size, 0
        epoch.append([step.micro_batches(2) for step in data.train_dataloader()])
    return epoch


def split_documents(batch: MicroBatch) -> list[tuple[list[int], list[int]]]:
    """(input_ids, targets) of each document of a micro-batch."""
    parts = (batch.input_ids[0].split(batch.seq_lens), batch.targets[0].split(batch.seq_lens))
    return [(ids.tolist(), targets.tolist()) for ids, targets in zip(*parts, strict=True)]


# ---- property 3 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["best_fit", "none"])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_target_exactly_once_an_epoch_and_none_crosses_a_document(build_data, world_size, packing):
    data = build_data(packing=packing, rows_per_step=14 * world_size)
    instructions = {example.id: example.instruction for example in data.examples_of("train")}
    ranks = run_epoch(data, world_size)
    seen, num_targets, num_fillers = Counter(), 0, 0
    for micro_batches in (step for rank in ranks for step in rank):
        for batch in micro_batches:
            num_targets += batch.num_targets
            num_fillers += batch.num_targets == 0
            if not batch.num_targets:
                assert batch.ids == [] and batch.num_tokens == 0
                continue
            for example_id, (ids, targets) in zip(batch.ids, split_documents(batch), strict=True):
                supervised = [target for target in targets if target != IGNORE_INDEX]
                seen[example_id] += 1
                assert supervised[:-1] == ids[len(ids) - len(supervised) + 1 :]  # its own next inputs ...
                assert supervised[-1] == data.tokenizer.eos_id  # ... and EOS
                assert data.tokenizer.decode(supervised[:-1]) == instructions[example_id]
    assert seen == Counter(data.split.train) and len(seen) > 300
    assert num_targets == data.train_documents.num_targets > 3000
    # every rank makes the same number of micro-batches, and the last step is a short one
    counts = [[len(step) for step in rank] for rank in ranks]  # of micro-batches
    assert all(count == counts[0] for count in counts) and len(counts[0]) == data.steps_per_epoch >= 3
    assert counts[0][0] == 7 and len(data.train_rows) % data.settings.rows_per_step
    assert num_fillers < world_size


def test_a_rank_without_rows_gets_an_unsupervised_filler(build_data):
    data = build_data(packing="none", rows_per_step=6)
    data.train_rows = data.train_rows[:19]  # over 3 ranks: 6, 6, 6 and 1
    data.sampler.num_rows = 19
    ranks = run_epoch(data, world_size=3)
    assert [[step.num_targets > 0 for step in rank[-1]] for rank in ranks] == [[True], [False], [False]]
    assert [len(rank) for rank in ranks] == [4, 4, 4]
    batches = [batch for rank in ranks for step in rank for batch in step]
    assert sorted(example_id for batch in batches for example_id in batch.ids) == sorted(data.train_documents.ids[:19])


# ---- the order of steps ----------------------------------------------------------------------------------------------


def test_the_position_is_the_rows_taken_while_iterating(build_data):
    data = build_data(rows_per_step=6)
    positions = [data.state_dict()["next_row"] for _ in data.train_dataloader()]
    assert positions == [min(6 * n, len(data.train_rows)) for n in range(1, data.steps_per_epoch + 1)]
    assert len(positions) > 5


@pytest.mark.parametrize("stop_after", [1, 4, -1])
def test_a_loaded_state_continues_mid_epoch(build_data, stop_after):
    data, again = build_data(rows_per_step=6), build_data(rows_per_step=6)
    sequence = [step.ids for _ in range(2) for step in data.train_dataloader()]
    stop_after %= len(sequence) // 2 + 1  # -1: at the end of the epoch
    data.sampler.next_row = 0
    steps = iter(data.train_dataloader())
    for _ in range(stop_after):
        next(steps)
    again.load_state_dict(json.loads(json.dumps(data.state_dict())))
    rest = [step.ids for _ in range(2) for step in again.train_dataloader()]
    assert rest[: len(sequence) - stop_after] == sequence[stop_after:] and len(sequence) > 12


def test_batches_draw_nothing_from_the_global_random_state(build_data):
    """They would shift the dropout of a resumed run."""
    data = build_data()
    state = torch.get_rng_state()
    count = sum(1 for _ in data.train_dataloader()) + sum(1 for _ in data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), state) and count > 10


# ---- a plain Trainer -------------------------------------------------------------------------------------------------


class Recorder(L.LightningModule):
    """Trains nothing; records the ids of its steps."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.train_ids, self.val_ids = [], []

    def training_step(self, batch, batch_idx):
        self.train_ids.append(batch.ids)

    def validation_step(self, batch, batch_idx):
        self.val_ids += batch.ids

    def configure_optimizers(self):
        return None


@pytest.mark.filterwarnings("ignore:.*configure_optimizers.*", "ignore:.*LeafSpec.*")
def test_a_plain_trainer_sees_every_document_once_an_epoch(build_data, tmp_path):
    data, module = build_data(rows_per_step=6), Recorder()
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, data)
    steps = data.steps_per_epoch
    assert len(module.train_ids) == 2 * steps > 10
    for epoch in (module.train_ids[:steps], module.train_ids[steps:]):
        assert sorted(example_id for ids in epoch for example_id in ids) == sorted(data.split.train)
    assert module.train_ids[0] != module.train_ids[steps]
    assert sorted(module.val_ids) == sorted(2 * data.split.val) and data.split.val


# ---- validation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_validation_sees_each_document_once_over_all_ranks(build_data, world_size):
    data = build_data(val_fraction=0.2, packing="none", rows_per_step=8)
    ranks = []
    for rank in range(world_size):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
        ranks.append([batch for step in data.val_dataloader() for batch in step.micro_batches(4)])
    assert len({len(batches) for batches in ranks}) == 1 and len(ranks[0]) > 2
    ids = [example_id for batches in ranks for batch in batches if batch.num_targets for example_id in batch.ids]
    assert sorted(ids) == sorted(data.split.val) and len(ids) > 50
    num_targets = sum(batch.num_targets for batches in ranks for batch in batches)
    assert num_targets == data.val_documents.num_targets


@pytest.mark.parametrize("supervise", ["target", "all"])
def test_val_loss_is_of_the_same_targets_whatever_training_does(build_data, supervise):
    plain, other = build_data(), build_data(packing="joined", supervise=supervise)
    assert other.split == plain.split
    assert other.val_documents.targets.tolist() == plain.val_documents.targets.tolist()
    assert sorted(n for row in other.val_rows for n in row) == list(range(len(plain.split.val)))
    assert set(other.train_documents.lengths.tolist()) == {384} and len(plain.split.val) > 10
    assert (other.train_documents.num_targets > plain.train_documents.num_targets) == (supervise == "all")


def test_no_validation_rows_is_no_validation(build_data):
    data = build_data(val_fraction=0.0)
    assert data.val_dataloader() == [] and data.split.val == [] and len(data.split.train) > 300


# ---- settings --------------------------------------------------------------------------------------------------------


def test_two_modules_are_equal(build_data):
    """Every rank builds its own."""
    first, second = build_data(), build_data()
    assert first.split == second.split and first.train_rows == second.train_rows
    assert first.train_documents.input_ids.tolist() == second.train_documents.input_ids.tolist()
    rows = first.train_rows
    first.setup("fit")  # a second call, as `fit` then `validate` make
    assert first.train_rows is rows and len(rows) > 50


def test_parts_are_disjoint_and_hold_all_examples(build_data):
    data = build_data()
    parts = {part: [example.id for example in data.examples_of(part)] for part in ("train", "val", "heldout")}
    assert sorted(example_id for ids in parts.values() for example_id in ids) == sorted(e.id for e in data.examples)
    assert min(map(len, parts.values())) > 10
    assert not set(data.train_documents.ids) & {*parts["val"], *parts["heldout"]}
    assert [e.id for e in select_examples(data.examples, data.split.val)] == data.val_documents.ids == parts["val"]


def test_context_settings(build_data, rows_csv):
    drop, include, exclude = (
        build_data(source=rows_csv, context=context) for context in ("drop", "include", "exclude_rows")
    )
    texts = [data.tokenizer.decode(data.train_documents.input_ids) for data in (drop, include, exclude)]
    assert [text.count("### Context:\nSome text") > 10 for text in texts] == [False, True, False]
    assert drop.split == include.split and (len(drop.examples), len(exclude.examples)) == (60, 40)
    assert [row.reason for row in exclude.discarded] == ["has a context"] * 20


def test_bad_rows_are_counted(build_data, rows_csv, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"instruction": "a"}\n{"instruction": "a", "response": "b"}\n')
    source = [rows_csv, str(tmp_path / "bad.jsonl")]
    with pytest.raises(UserError, match=r"bad.jsonl:1: no column 'response'"):
        build_data(source=source)
    data = build_data(source=source, on_bad_row="skip")
    assert (len(data.examples), [row.where for row in data.discarded]) == (61, [f"{tmp_path}/bad.jsonl:1"])


@pytest.mark.parametrize("packing", ["best_fit", "joined", "none"])
def test_rows_too_short_for_any_document_are_refused(build_data, packing):
    with pytest.raises(UserError, match="no row of 8 tokens can be filled"):
        build_data(seq_len=8, packing=packing)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"context": "maybe"}, "data.context 'maybe': choose from drop, include, exclude_rows"),
        ({"supervise": "none"}, "data.supervise 'none': choose from target, all"),
        ({"packing": "tight"}, "data.packing 'tight': choose from best_fit, joined, none"),
        ({"on_bad_row": "ignore"}, "data.on_bad_row 'ignore': choose from stop, skip"),
        ({"seq_len": 0}, "data.seq_len 0: must be at least 1"),
        ({"micro_batch_size": 0}, "data.micro_batch_size 0: must be at least 1"),
        ({"micro_batch_size": "all"}, "data.micro_batch_size 'all': a number of rows, or auto"),
        ({"rows_per_step": -1}, "data.rows_per_step -1: must be at least 1"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(setting, reason):
    with pytest.raises(UserError, match=reason):
        InstructionDataModule(DataSettings(source="nowhere", **setting), base="nothing")


# ---- weights, cutting, splits of other runs, the cache ---------------------------------------------------------------


@pytest.mark.parametrize(("weight", "copies"), [(2, 2), (2.5, 2.5), (0.25, 0.25)])
@pytest.mark.parametrize("packing", ["best_fit", "none"])
def test_weights_repeat_training_rows_and_no_others(build_data, rows_csv, weight, copies, packing):
    data = build_data(source=["quickstart", {"source": rows_csv, "weight": weight}], packing=packing)
    one = build_data(source=["quickstart", rows_csv], packing=packing)
    assert one.split == data.split
    own = {example.id for example in data.examples if example.instruction.startswith("Question number")}
    counts = Counter(data.train_documents.ids[number] for row in data.train_rows for number in row)
    own_train = own & {*data.split.train}
    assert sum(counts[example_id] for example_id in own_train) == pytest.approx(copies * len(own_train), abs=8)
    assert all(counts[name] == 1 for name in data.split.train if name not in own) and len(own_train) > 30
    assert Counter(data.val_documents.ids) == Counter(data.split.val)


@pytest.mark.parametrize("source", [[], [{"weight": 2}], [{"source": "quickstart", "weight": 0}], [{"path": "x"}]])
def test_sources_that_are_none_are_refused(build_data, source):
    with pytest.raises(UserError, match=r"data\.source"):
        build_data(source=source)


def test_a_split_of_another_run_is_used_as_it_is(build_data, tmp_path, rows_csv):
    first = build_data(seed=1)
    path = tmp_path / "split.json"
    path.write_text(json.dumps(first.split.to_json()))
    second = build_data(seed=2, split=str(path), heldout_fraction=0.5)
    assert second.split == first.split != build_data(seed=2).split
    with pytest.raises(UserError, match="a split is only valid for the data that it was made from"):
        build_data(source=rows_csv, split=str(path))
    path.write_text(json.dumps(first.split.to_json() | {"train": first.split.train[1:]}))
    with pytest.raises(UserError, match="it was edited or cut off"):
        build_data(split=str(path))


def test_the_cache_gives_what_encoding_gives(build_data, tmp_path, monkeypatch):
    from revinst.data.encoding import encode_examples

    monkeypatch.setenv("REVINST_CACHE", str(tmp_path))
    built, mapped = build_data(), build_data()
    direct = encode_examples(built.examples_of("train"), built.template, built.tokenizer, 384)
    for data in (built, mapped):
        assert data.train_documents.input_ids.tolist() == direct.input_ids.tolist()
        assert data.train_documents.targets.tolist() == direct.targets.tolist()
        assert data.train_documents.ids == direct.ids and len(direct) > 300
    folders = sorted(path.name for path in (tmp_path / "documents").iterdir())
    assert len(folders) == 2 and not any(name.startswith(".") for name in folders)  # train and val, nothing left over
    build_data(cut="middle")
    assert len(list((tmp_path / "documents").iterdir())) == 4


def test_a_chat_template_and_a_file_of_its_words_are_two_encodings(build_data, tmp_path, rows_csv):
    """In a file, `<|im_start|>` is text; from the cache each gets its own."""
    chat = build_data(source=rows_csv, template="chat")
    path = tmp_path / "chat.txt"
    path.write_text(chat.template.text)
    written = build_data(source=rows_csv, template=str(path))
    assert written.template.hash == chat.template.hash
    assert len(written.train_documents.input_ids) > len(chat.train_documents.input_ids) + len(chat.split.train)


def test_samples_read_a_text_as_training_does(build_data):
    """Its head and tail where data.cut is middle."""
    data = build_data(cut="middle", seq_len=160, heldout_fraction=0.1, val_fraction=0.3)
    _, _, prompts, ids = Samples(SampleSettings(1, count=40)).encode(data)
    as_cut = {
        cut: encode_to_generate(prompts, data.template, data.tokenizer, 160, 64, cut=cut)[0]
        for cut in ("middle", "end")
    }
    assert ids == as_cut["middle"] != as_cut["end"]


def test_a_cache_that_can_not_be_written_is_done_without(build_data, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REVINST_CACHE", str(tmp_path / "file"))
    data = build_data()
    assert len(data.train_documents) > 300 and "encoded in memory" in capsys.readouterr().err


def test_what_was_not_opened_for_a_month_is_deleted(build_data, tmp_path, monkeypatch):
    monkeypatch.setenv("REVINST_CACHE", str(tmp_path))
    day = 24 * 3600

    def folders():
        return {path.name for path in (tmp_path / "documents").iterdir()}

    def age(days, names):
        for name in names:
            os.utime(tmp_path / "documents" / name, (time.time() - days * day,) * 2)

    build_data()
    first = folders()
    build_data(cut="middle")
    second = folders() - first
    assert len(first) == len(second) == 2
    age(40, first)
    age(29, second)
    build_data()  # opens them again
    build_data(seq_len=300)
    assert first | second < folders()
    age(31, first)
    build_data(seq_len=320)
    assert second < folders() and not first & folders()


def test_builders_at_the_same_time_get_the_same_arrays(build_data, tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setenv("REVINST_CACHE", str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(lambda _: build_data().train_documents.input_ids.tolist(), range(4)))
    assert all(array == arrays[0] for array in arrays) and len(arrays[0]) > 10_000
    assert len(list((tmp_path / "documents").iterdir())) == 2


BUILD_ONE = """
import sys, time
import numpy as np
from pathlib import Path
from revinst.data.cache import cache_documents
from revinst.data.encoding import Documents

def blocks():
    Path(sys.argv[1], sys.argv[2]).touch()
    while len(list(Path(sys.argv[1]).glob("builder-*"))) < 2:  # both have found nothing and are building
        time.sleep(0.01)
    for block in range(3):
        ids = np.arange(1000, dtype=np.int32) + block
        yield Documents(ids, ids + 1, np.array([0, 400, 1000]), [f"{block}a", f"{block}b"], 1, [])

documents = cache_documents("k" * 32, blocks)
assert documents.ids == ["0a", "0b", "1a", "1b", "2a", "2b"] and documents.truncated == 3
assert isinstance(documents.input_ids, np.memmap) and len(documents.input_ids) == 3000
print(int(documents.input_ids.astype(np.int64).sum()), int(documents.targets.astype(np.int64).sum()))
"""


def test_two_processes_that_build_one_cache_at_once_both_get_it(tmp_path):
    environment = os.environ | {"REVINST_CACHE": str(tmp_path / "cache")}
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD_ONE, str(tmp_path), f"builder-{n}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    ends = [(*builder.communicate(timeout=60), builder.returncode) for builder in builders]
    assert [code for *_, code in ends] == [0, 0], ends
    assert {out.strip() for out, *_ in ends} == {"1501500 1504500"}
    assert [path.name for path in (tmp_path / "cache" / "documents").iterdir()] == ["k" * 32], (
        "nothing half-built stays"
    )
