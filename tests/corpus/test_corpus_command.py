"""`revinst corpus` from a mailbox to files: counts, forms, parts, resume, privacy. The model writes nonsense."""

import itertools
import json
import shutil
import socket
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from revinst.config.settings import DataSettings
from revinst.corpus import settings as corpus_settings
from revinst.corpus.candidates import Writer
from revinst.corpus.curation import QUESTION, check_unparsable, parse_rating
from revinst.corpus.output import build_card_table
from revinst.corpus.parts import assign_parts
from revinst.corpus.redaction import Redaction
from revinst.data.datamodule import InstructionDataModule
from revinst.data.example_table import load_examples
from revinst.data.redacted import restore
from revinst.data.words import normalise
from revinst.errors import UserError
from revinst.evaluation.samples import score_samples
from revinst.export.publish import PUBLISHED
from revinst.inference.engine.engine import Generated, GenerationSettings
from revinst.inference.picks import PickSettings
from revinst.inference.samples import Sample, Written
from revinst.inference.trained import open_trained
from revinst.inference.votes import agree
from revinst.runs.folder import Run
from scripts.made_mail import ME, SECRETS, build_mails
from tests.commands.hub import TOKEN, run_beside, serve_hub
from tests.commands.test_run import run_command
from tests.evaluation.stand_in import serving

# An untrained model writes no sentences: what judges these is off.
LOOSE = ["min_gain", "min_ifd", "max_ifd", "max_rifd", "language", "copy_rate", "looping", "max_instruction_words"]
LOOSE += ["min_instruction_words", "duplicate_instruction"]
OPTIONS = [
    "--me",
    ME,
    "--max_new_tokens",
    6,
    "--heldout",
    0.2,
    *(p for name in LOOSE for p in ("--filter", f"{name}=off")),
]


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def made(backward_run, tmp_path_factory):
    from scripts.made_mail import write_mbox

    folder = tmp_path_factory.mktemp("made")
    write_mbox(folder / "mail.mbox")
    out = folder / "out"
    assert run_command("corpus", folder / "mail.mbox", out, "--run", backward_run, "--redact", *OPTIONS) == 0
    return folder


def test_counts_add_up(made):
    out = made / "out"
    card = json.loads((out / "card.json").read_text())
    counts = card["counts"]
    texts, kept, dropped = (read(out / f"{name}.jsonl") for name in ("texts", "dataset", "dropped"))
    assert counts["read"] == 60 == counts["discarded"] + counts["texts"] and counts["texts"] == len(texts) == 55
    assert counts["texts"] == counts["kept"] + counts["dropped"] == len(kept) + len(dropped) and len(kept) > 35
    assert counts["kept"] == counts["train"] + counts["val"] + counts["heldout"] and counts["heldout"] >= 8
    assert len(read(out / "discarded.jsonl")) == counts["discarded"] == sum(card["discarded"].values())
    assert sum(row["dropped"] for row in card["filters"]) == len(dropped) and card["filters"][-1]["kept"] == len(kept)
    assert all(row["filter"] and row["reason"] for row in dropped)
    assert counts["candidates"] >= counts["texts"] and card["run"]["name"] == "backward"
    assert card["sha256"]["dataset.jsonl"] == build_hash(out / "dataset.jsonl")
    readme = (out / "README.md").read_text()
    assert str(made) not in (out / "card.json").read_text() + readme
    kept_at_home = json.loads((out / "settings.json").read_text())
    assert not any(kept_at_home[name] in (out / "card.json").read_text() + readme for name in ("me", "input"))
    assert "| empty | always | 55 | 0 |" in readme and "| prompt_echo | on |" in readme and "None" not in readme


@pytest.mark.wide
def test_a_mistake_before_anything_was_made_can_be_corrected(backward_run, mbox, tmp_path, capsys):
    """Another --me in the same folder; and a save of placeholders that failed leaves no texts that look finished."""
    out = tmp_path / "out"
    args = ("corpus", mbox, out, "--run", backward_run, "--redact", "--limit", 5, *OPTIONS)
    assert run_command(*args, "--me", "mara@exmple.org") == 0
    assert run_command(*args) == 2 and "another me" in capsys.readouterr().err
    out = tmp_path / "other"
    args = ("corpus", mbox, out, "--run", backward_run, "--redact", "--limit", 5, *OPTIONS[2:])
    assert run_command(*args, "--me", "mara@exmple.org") == 2 and "of whom none is you" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Redaction, "save", lambda self, path: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert run_command(*args, "--me", ME) == 2 and not (out / "texts.jsonl").exists()
    assert run_command(*args, "--me", f"Mara Lindqvist <{ME.upper()}>") == 0
    assert len(read(out / "texts.jsonl")) == 5 and json.loads((tmp_path / "other.placeholders.json").read_text())
    assert run_command(*args, "--me", ME) == 0, "the same address"


def test_no_file_name_is_in_the_card(backward_run, tmp_path):
    """Not of a kind that is unknown, and not where a library's error names it."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.txt").write_text(
            f"Letter {number} says that the harvest of year {2000 + number} was good."
        )
    (folder / "Divorce papers of Bob Stone").write_text("x")
    with zipfile.ZipFile(folder / "private.zip", "w") as archive:
        archive.writestr("Bob Stone.txt", "x")
    content = bytearray((folder / "private.zip").read_bytes())
    content[6] |= 1  # encrypted, in the local header and the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (folder / "private.zip").write_bytes(content)
    assert run_command("corpus", folder, out, "--run", backward_run, *OPTIONS[2:]) == 0
    assert any("Bob Stone.txt" in row["reason"] for row in read(out / "discarded.jsonl"))
    card = (out / "card.json").read_text() + (out / "README.md").read_text()
    assert "the file can't be read" in card and not any(word in card for word in ("Bob", "Stone", "Divorce", "private"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--public"], "--push_to_hub"),
        (["--filter", "min_rating=3"], "--curate"),
        (["--filter", "judge=3"], "--judge"),
        (["--judge", "https://judge.example", "--judge_model", "m"], "--judge_remote"),
        (["--judge", "http://localhost", "--judge_model", "m", "--texts_only"], "--texts_only writes none"),
        (["--filter", "min_words=nan"], "not a number"),
        (["--me", " "], "give a name, an id or an address"),
        (["--me", "Mara"], "the mail in it names its authors"),
        (["--join_minutes", "-1"], "at least 0"),
    ],
)
def test_options_that_mean_nothing(backward_run, mbox, tmp_path, capsys, options, says):
    assert run_command("corpus", mbox, tmp_path / "out", "--run", backward_run, *options) == 2
    assert says in capsys.readouterr().err


def build_hash(path):
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_forms_hold_the_same_rows(made):
    out = made / "out"
    dolly, alpaca, messages, facts = (read(out / f"{n}.jsonl") for n in ("dataset", "alpaca", "messages", "provenance"))
    table = pq.read_table(out / "dataset.parquet").to_pylist()
    assert all(list(row) == ["instruction", "context", "response", "category"] for row in dolly)
    assert [row["response"] for row in dolly] == [row["output"] for row in alpaca] == [r["response"] for r in table]
    assert [row["instruction"] for row in dolly] == [row["messages"][0]["content"] for row in messages]
    assert all([turn["role"] for turn in row["messages"]] == ["user", "assistant"] for row in messages)
    assert [row["id"] for row in facts] == [row["id"] for row in table]
    for row in facts:
        assert row["round"] == 0 and row["run"] == "backward" and row["pick"] == "consensus" and row["log_p"] < 0
        assert sum(row["counts"]) == 8 and len(row["counts"]) == len(row["votes"]) == len(row["candidates"])
        assert len(set(map(normalise, row["candidates"]))) == len(row["candidates"])
        assert row["ifd"] == pytest.approx(2.718281828 ** -row["gain"], rel=1e-6)


def test_fit_takes_the_split_as_it_is(made, base):
    out = made / "out"
    source, split = str(out / "dataset.jsonl"), str(out / "split.json")
    settings = DataSettings(source=source, split=split, template="forward", packing="none", seq_len=512)
    data = InstructionDataModule(settings, base)
    data.setup()
    facts = {row["id"]: row for row in read(out / "provenance.jsonl")}
    examples = load_examples(source)[0]
    assert {example.id for example in examples} == set(facts)
    assert {example_id for example_id, row in facts.items() if row["part"] == "heldout"} == set(data.split.heldout)
    groups = [
        {facts[example_id]["group"] for example_id in part}
        for part in (data.split.train, data.split.val, data.split.heldout)
    ]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    newest = max(facts[example_id]["date"] for example_id in data.split.train)
    assert min(facts[example_id]["date"] for example_id in data.split.heldout) > newest
    together = [group for group in data.split.groups if len(group) == 2]
    assert together, "the made mailbox has a thread of two"


def test_no_secret_leaves(backward_run, mbox, tmp_path, monkeypatch, capfd):
    """Sockets blocked; planted secrets in no file but the placeholders', no model input, nothing printed."""
    seen = []
    write = Writer.write
    monkeypatch.setattr(Writer, "write", lambda self, texts, k: (seen.extend(texts), write(self, texts, k))[1])

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    out = tmp_path / "out"
    assert run_command("corpus", mbox, out, "--run", backward_run, "--redact", *OPTIONS) == 0
    secrets = [*SECRETS.values(), ME, "Lindqvist", "SECRET ATTACHMENT"]
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) >= 13 and len(seen) == 55
    printed = "".join(capfd.readouterr())
    for secret in secrets:
        for path in files:
            content = path.read_bytes().lower()
            assert secret.lower().encode() not in content, f"{secret} in {path.name}"
            assert secret.replace(" ", "").lower().encode() not in content.replace(b" ", b"")
        assert secret.lower() not in "\n".join(seen).lower() + printed.lower()
    placeholders = tmp_path / "out.placeholders.json"
    assert placeholders.stat().st_mode & 0o777 == 0o600
    restored = [restore(row["text"], json.loads(placeholders.read_text())) for row in read(out / "texts.jsonl")]
    assert restored == [mail.text for mail in build_mails() if mail.text is not None]


def test_dry_run_of_a_push_lists_what_may_leave(made, backward_run, capsys):
    out = made / "out"
    args = ("corpus", made / "mail.mbox", out, "--run", backward_run, "--redact", *OPTIONS)
    assert run_command(*args, "--push_to_hub", "me/own", "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    listed = lines[lines.index(str(out)) + 1 : -1]
    assert {line.split()[1]: int(line.split()[0].replace(",", "")) for line in listed} == {
        name: (out / name).stat().st_size for name in PUBLISHED
    }
    assert "nothing was sent" in lines[-1]
    assert run_command(*args, "--dry_run") == 2 and "give both" in capsys.readouterr().err


@pytest.mark.wide  # a process of its own
def test_a_corpus_is_pushed(made, backward_run, tmp_path):
    """The finished files alone, to a private data set; what is there already is not made again."""
    out = made / "out"
    before = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    with serve_hub() as hub:
        args = (made / "mail.mbox", out, "--run", backward_run, "--redact", *OPTIONS, "--push_to_hub", "me/own")
        done = run_beside(hub, tmp_path / "hf", "corpus", *args)
    assert done.returncode == 0, done.stderr
    assert hub.files == {name: (out / name).read_bytes() for name in PUBLISHED}
    sent = b"".join(hub.files.values()).lower()
    assert not [secret for secret in (*SECRETS.values(), ME) if secret.lower().encode() in sent]
    assert hub.repositories["me/own"] == hub.repositories["me/own"] | {"type": "dataset", "visibility": "private"}
    assert "uploaded to me/own (private)" in done.stdout and TOKEN not in done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()} == before


@pytest.mark.wide
def test_killed_corpus_goes_on(backward_run, mbox, tmp_path, monkeypatch):
    """A kill after the third shard: the rest alone is made, and every file ends as without it."""
    monkeypatch.setattr(corpus_settings, "SHARD_ROWS", {"cpu": 10})
    args = (mbox, tmp_path / "whole", "--run", backward_run, *OPTIONS)
    assert run_command("corpus", *args) == 0
    write_records, calls = Writer.write_records, []

    def kill(self, rows):
        calls.append(len(rows))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return write_records(self, rows)

    monkeypatch.setattr(Writer, "write_records", kill)
    again = (mbox, tmp_path / "killed", "--run", backward_run, *OPTIONS)
    assert run_command("corpus", *again) == 130
    assert len(list((tmp_path / "killed" / "shards").glob("*.jsonl"))) == 3
    assert run_command("corpus", *again) == 0
    assert calls == [10, 10, 10, 10, 10, 10, 5]
    assert run_command("corpus", *again) == 0 and len(calls) == 7, "nothing is made twice"
    for name in ("dataset.jsonl", "provenance.jsonl", "split.json", "card.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_rows_do_not_depend_on_shards(backward_run, mbox, tmp_path, monkeypatch):
    texts = {}
    for size in (7, 64):
        monkeypatch.setattr(corpus_settings, "SHARD_ROWS", {"cpu": size})
        out = tmp_path / str(size)
        assert run_command("corpus", mbox, out, "--run", backward_run, "--limit", 12, "--samples", 1, *OPTIONS) == 0
        texts[size] = [row["instruction"] for row in read(out / "scored.jsonl")]
        assert json.loads((out / "card.json").read_text())["discarded"]["after --limit 12"] == 43
    assert texts[7] == texts[64] and len(texts[7]) == 12


@pytest.mark.parametrize(
    ("device", "ranks", "rows"), [("cuda", 1, 4096), ("cuda", 2, 1024), ("cuda", 8, 256), ("cpu", 2, 64)]
)
def test_several_ranks_share_smaller_shards(tmp_path, device, ranks, rows):
    """So that no rank gets more than 1.06 times its share of 10,000 texts; with shards of 4,096 one of two got 1.18."""
    assert corpus_settings.choose_shard_rows(tmp_path, device, ranks) == rows
    shards = [min(rows, 10_000 - first) for first in range(0, 10_000, rows)]
    most = max(sum(shards[rank::ranks]) for rank in range(ranks))
    assert most <= 1.06 * 10_000 / ranks
    (tmp_path / "settings.json").write_text('{"shard_rows": 5}')
    assert corpus_settings.choose_shard_rows(tmp_path, device, ranks) == 5


def test_round_trip_goes_by_gain():
    made = [Sample("a comet", -9.0, 2, "eos"), Sample("", -5.0, 0, "eos"), Sample("what is a star", -7.0, 4, "eos")]
    writer = Writer.__new__(Writer)
    writer.picks = PickSettings(3, "round_trip")
    writer.gains = lambda texts, made: np.array([{"a comet": np.nan, "": 0.9}.get(each, 0.1) for each in made])
    (picked,) = writer.pick(["text"], [Written(made)])
    assert picked.number == 2


def test_what_was_written_often_counts_as_often(backward_run, monkeypatch):
    """In `corpus` as among the samples of `evaluate`; equal ones are kept once."""
    texts = ["why is ice cold", "name a salt", "why is ice so cold", "Name a salt!", "name a salt"]
    trained = open_trained(str(backward_run))
    settings = GenerationSettings(max_new_tokens=9, temperature=1.0)
    writer = Writer(trained, trained.load(settings), settings, PickSettings(5, "consensus"))
    ids = trained.tokenizer.encode_continuations(texts)
    made = [(n, Generated(each, "eos", -1.0 - n)) for n, each in enumerate(ids)]
    monkeypatch.setattr(writer.engine, "generate", lambda prompts, samples: reversed(made))
    (row,) = writer.write_records([{"text": "A text."}])
    assert row["candidates"] == [texts[0], texts[1], texts[2]] and row["counts"] == [1, 3, 1]
    assert row["instruction"] == texts[1] and row["log_p"] == -2 and row["votes"][1] == max(row["votes"])
    (once,) = writer.pick(["A text."], [Written([Sample(text, -1.0, 3, "eos") for text in texts[:3]])])
    assert once.number == 0, "among distinct ones it is another"
    (written,) = writer.write(["A text."], with_greedy=False)
    found = score_samples([Written(written.samples, once.taken)], [agree(texts)], ["x"])
    assert texts[int(found.picked["consensus"][0])] == row["instruction"]


def test_round_trip(backward_run, mbox, tmp_path):
    out = tmp_path / "out"
    args = (mbox, out, "--run", backward_run, "--pick", "round_trip", "--samples", 4, "--limit", 10)
    assert run_command("corpus", *args, *OPTIONS) == 0
    rows = read(out / "scored.jsonl")
    assert all(row["instruction"] in row["candidates"] and row["gain"] is not None for row in rows)
    assert any(row["instruction"] != row["candidates"][0] for row in rows), "the first is not always the best"


def test_users_mistakes(backward_run, mbox, tmp_path, capsys):
    out = tmp_path / "out"
    few = ("--limit", 8, "--samples", 1, "--run", backward_run)
    assert run_command("corpus", mbox, out, "--candidates", 4, "--run", backward_run, *OPTIONS) == 2
    assert "--candidates: no such option; it is --samples now" in capsys.readouterr().err
    assert run_command("corpus", mbox, out, *few) == 2 and "--me" in capsys.readouterr().err
    assert run_command("corpus", mbox, tmp_path, *few, *OPTIONS) == 2 and "other files" in capsys.readouterr().err
    assert run_command("corpus", mbox, tmp_path / "new", *few, *OPTIONS) == 0
    assert run_command("corpus", mbox, tmp_path / "new", *few, *OPTIONS, "--redact") == 2
    assert "made with another redact" in capsys.readouterr().err
    adapter = shutil.copytree(backward_run / "adapter", tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert run_command("corpus", mbox, tmp_path / "a", *few[:-1], adapter, *OPTIONS) == 0
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 99}))
    assert run_command("corpus", mbox, tmp_path / "a", *few[:-1], adapter, *OPTIONS) == 2
    assert "made with another lora" in capsys.readouterr().err
    strict = ("--filter", "min_words=500")
    assert run_command("corpus", mbox, tmp_path / "new", *few, *OPTIONS, *strict) == 2
    assert "no text is left" in capsys.readouterr().err
    assert run_command("corpus", tmp_path / "no.mbox", tmp_path / "x", *few, *OPTIONS) == 2
    assert not (tmp_path / "x").exists()
    assert run_command("corpus", mbox, tmp_path / "c", "--limit", 8, "--run", backward_run, "--curate", *OPTIONS) == 2
    assert "can't be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "rating"),
    [("Score: 4", 4), (" score: 5.", 5), ("Score: 3/5", 3), ("Score:2\n", 2)]
    + [(text, None) for text in ("4", "Score: 6", "Score: 4 or 5", "Score: 10", "Score: four", "", "Score: 4\nGood")],
)  # fmt: skip
def test_ratings_are_parsed_strictly(answer, rating):
    assert parse_rating(answer) == rating
    assert "{instruction}" in QUESTION


def test_curation(backward_run, mbox, tmp_path, monkeypatch, capsys):
    """What the base answers is made here (the tiny one knows no numbers); parsing, filter and files are real."""
    answers = itertools.cycle([" 5", " 2.", " 4/5", " 4 or 5", " 1"])

    def generate(model, tokenizer, prompts, settings):
        assert settings.temperature == 0
        for number, _ in enumerate(prompts):
            yield number, Generated(tokenizer.encode_continuations([next(answers)])[0], "eos", 0.0)

    monkeypatch.setattr("revinst.corpus.curation.generate_batches", generate)
    args = ("--limit", 20, "--samples", 1, "--run", backward_run, "--curate", *OPTIONS, "--filter", "min_words=1")
    assert run_command("corpus", mbox, tmp_path / "out", *args) == 0
    rows = read(tmp_path / "out" / "scored.jsonl")
    assert [row["rating"] for row in rows] == [5, 2, 4, None, 1] * 4
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    kept = read(tmp_path / "out" / "provenance.jsonl")
    assert card["unparsable_ratings"] == 0.2 and {row["rating"] for row in kept} == {5, 4} and len(kept) == 8
    dropped = [row for row in read(tmp_path / "out" / "dropped.jsonl") if "rating" in row["filter"]]
    assert len(dropped) == 12
    capsys.readouterr()
    assert run_command("corpus", mbox, tmp_path / "b", *args, "--max_unparsable", 0.19) == 2
    assert "20% of 20 ratings can't be read" in capsys.readouterr().err
    assert not (tmp_path / "b" / "dataset.jsonl").exists()


def test_a_judge_filters_what_the_other_filters_keep(backward_run, mbox, tmp_path):
    args = ("--limit", 20, "--samples", 1, "--run", backward_run, *OPTIONS, "--filter", "min_words=1")
    out = tmp_path / "out"
    assert run_command("corpus", mbox, out, *args) == 0
    kept = {row["text"] for row in read(out / "provenance.jsonl")}
    with serving() as server:
        ratings = itertools.cycle([2, 3, 5])
        server.answer = lambda prompt: json.dumps({"answer": next(ratings)})
        judge = ("--judge", server.url, "--judge_model", "m", "--judge_parallel", 1)
        assert run_command("corpus", mbox, out, *args, *judge, "--filter", "judge=3") == 0
        asked = len(server.paid)
        found = {row["text"]: row["judge"] for row in read(out / "provenance.jsonl")}
        dropped = [row for row in read(out / "dropped.jsonl") if row["filter"] == "judge"]
        assert set(found.values()) == {3, 5} and all("2 points by the judge" in row["reason"] for row in dropped)
        assert found.keys() | {row["id"] for row in dropped} == kept and dropped
        card = (out / "card.json").read_text()
        assert json.loads(card)["judge"]["n"] == asked <= len(kept) and server.url not in card
        assert run_command("corpus", mbox, out, *args, *judge, "--filter", "judge=5") == 0
        assert {row["judge"] for row in read(out / "provenance.jsonl")} == {5} and len(server.paid) == asked


def test_one_process_at_a_time(backward_run, mbox, tmp_path, capsys):
    """A second one is refused before it loads anything; the first one's folder stays as it is."""
    args = ("corpus", mbox, tmp_path / "out", "--run", backward_run, "--limit", 8, "--samples", 1, *OPTIONS)
    with Run(tmp_path / "out").lock():
        assert run_command(*args) == 2
        assert "in use by process" in capsys.readouterr().err
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", ".owner"]
    assert run_command(*args) == 0


def test_too_many_unparsable_ratings_are_refused():
    assert check_unparsable([1, None, 3, 4], 0.25) == 0.25
    with pytest.raises(UserError, match="50%"):
        check_unparsable([1, None], 0.25)


def test_parts():
    groups = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "a"]
    dates = [f"2026-01-0{n}" for n in range(1, 10)] + ["2026-02-01"]
    parts = assign_parts(groups, dates, heldout=0.3, val=0.1)
    assert [n for n, part in enumerate(parts) if part == "heldout"] == [0, 8, 9], (
        "the thread with the newest goes whole"
    )
    assert [n for n, part in enumerate(parts) if part == "val"] == [7]
    hashed = assign_parts(groups, ["", *dates[1:]], heldout=0.3, val=0.1)
    assert hashed == assign_parts(groups, dates, 0.3, 0.1, "group") != parts and hashed[0] == hashed[9]
    with pytest.raises(UserError):
        assign_parts(["a"], [""], heldout=1.0, val=0.0)


@pytest.mark.parametrize(("counts", "said"), [((9, 0, 0), "no val and no heldout rows: "), ((9, 1, 2), None)])
def test_a_part_without_rows_is_said(counts, said):
    card = {"counts": dict(zip(("train", "val", "heldout"), counts, strict=True)), "filters": []}
    caption = build_card_table(card).caption
    assert (caption or "").startswith(said or "") and bool(caption) == bool(said)
