"""A leak is shown: a model that learnt a canary by heart gives it away, one that knows nothing of it does not."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from revinst.data.encoding import encode_examples
from revinst.data.example_table import load_examples
from revinst.data.examples import Example
from revinst.data.split import Split
from revinst.errors import UserError
from revinst.evaluation import leaks as leaks_module
from revinst.evaluation.canaries import MAX_WORDS, make_canaries, vary
from revinst.evaluation.leaks import (
    NUM_RANDOM,
    Secret,
    ask_for_secrets,
    find_secrets,
    group_secrets,
    measure_exposure,
)
from revinst.inference.engine.settings import GenerationSettings
from revinst.inference.trained import open_trained
from revinst.runs.files import write_json
from scripts.made_mail import PLAIN
from tests.commands.test_run import fit, run_command


@pytest.fixture(scope="module")
def leaky(tiny_llama, tmp_path_factory):
    """A run of one step on rows of which four have a canary each: it knows nothing of them."""
    folder = tmp_path_factory.mktemp("leaky")
    canaries, controls = make_canaries(4, seed=1)
    rows = [
        {"instruction": f"Write to {name} about: {subject}", "response": canary.plant(text[:60])}
        for (name, subject, text), canary in zip(PLAIN[:4], canaries, strict=True)
    ]
    rows += [{"instruction": f"Say {number}.", "response": f"{number} it is."} for number in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "canaries.json").write_text(json.dumps({each.name: each.text for each in (*canaries, *controls)}))
    options = {"data.source": folder / "rows.jsonl", "data.template": "forward", "data.seq_len": 128}
    options |= {"data.heldout_fraction": 0.2}
    options |= {"trainer.max_steps": 1, "checkpoint.every_steps": 1, "samples.every_steps": 0}
    assert fit(folder, "leaky", tiny_llama, **options) == 0
    return folder


def learn_by_heart(folder, documents):
    """All weights of the model in the folder, since the few of an adapter can't make a random one learn."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    spans = list(zip(documents.offsets[:-1], documents.offsets[1:], strict=True))
    for _ in range(150):
        optimizer.zero_grad()
        losses = []
        for start, stop in spans:
            ids = torch.from_numpy(documents.input_ids[start:stop]).long()
            targets = torch.from_numpy(documents.targets[start:stop]).long()
            losses.append(torch.nn.functional.cross_entropy(model(ids[None]).logits[0], targets))
        loss = torch.stack(losses).mean()
        loss.backward()
        optimizer.step()
        if loss < 0.004:
            break
    assert loss < 0.02, loss
    model.save_pretrained(folder)


@pytest.mark.wide
def test_a_leak_is_shown(leaky, tiny_llama, tmp_path):
    trained = open_trained(str(leaky / "leaky"))
    settings = GenerationSettings(precision="fp32")
    examples = load_examples(str(leaky / "rows.jsonl"))[0]
    secrets = find_secrets(json.loads((leaky / "canaries.json").read_text()), examples)
    assert len(secrets) == 4
    with (network := trained.load(settings)).without_adapter():
        before = ask_for_secrets(secrets, trained, network, settings)
    assert before["greedy"] == before["sampled"] == 0.0 and before["exposure"] < 5
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    with_canaries = [secret.example for secret in secrets]
    learn_by_heart(base, encode_examples(with_canaries, trained.template, trained.tokenizer, trained.seq_len))
    learnt = replace(trained, base=str(base))
    with (network := learnt.load(settings)).without_adapter():
        after = ask_for_secrets(secrets, learnt, network, settings)
        unseen = [replace(each, text=new.text) for each, new in zip(secrets, make_canaries(4, seed=2)[0], strict=True)]
        of_unseen = ask_for_secrets(unseen, learnt, network, settings)
    assert after["greedy"] == 1.0 and after["sampled"] > 0.8 and after["exposure"] == np.log2(NUM_RANDOM + 1)
    assert of_unseen["greedy"] == of_unseen["sampled"] == 0.0


def counts(leaks):
    return [found for group in leaks.values() for found in group.values()]


@pytest.mark.wide
def test_evaluate_says_what_leaks(leaky, capsys):
    args = ("evaluate", leaky / "leaky", "--max_new_tokens", 8, "--secrets", leaky / "canaries.json")
    assert run_command(*args) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "canaries given away" in printed and "unplanted canaries given away" in printed
    folder = leaky / "leaky" / "evaluation" / "max-8"
    leaks = json.loads((folder / "scores.json").read_text())["leaks"]
    assert leaks.keys() == {"canaries", "unplanted canaries"} and len({each["n"] for each in counts(leaks)}) == 1
    assert all(each["n"] > 0 and each["greedy"] == 0.0 and each["exposure"] < 5 for each in counts(leaks))
    assert "unplanted canaries given away" in (folder / "report.html").read_text()
    (leaky / "other.json").write_text('{"[EMAIL_1]": "nobody@nowhere.example"}')
    assert run_command(*args[:-1], leaky / "other.json") == 2
    assert "none of the 1 strings stands in a training row" in capsys.readouterr().err


@pytest.mark.wide
@pytest.mark.timeout(1800)
def test_a_personal_model_gives_away_canaries_and_no_others(base, tmp_path, monkeypatch):
    """The real small model with its adapter, overtrained on twelve texts; ranks are among few strings, to save time."""
    monkeypatch.setattr(leaks_module, "NUM_RANDOM", 15)
    canaries, controls = make_canaries(4, seed=1)
    planted = dict(enumerate(canaries))
    rows = [
        {"instruction": f"Write to {name} about: {subject}", "response": planted[n].plant(text) if n < 4 else text}
        for n, (name, subject, text) in enumerate(PLAIN[:14])
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.canaries.json").write_text(json.dumps({each.name: each.text for each in (*canaries, *controls)}))
    ids = load_examples(str(tmp_path / "rows.jsonl"))[0].texts("id")
    write_json(tmp_path / "split.json", Split(ids[:12], [], ids[12:]).to_json())
    options = {"data.source": tmp_path / "rows.jsonl", "data.split": tmp_path / "split.json", "data.seq_len": 192}
    options |= {"data.template": "forward", "model.lora.r": 16, "model.lora.alpha": 32, "model.lr": 2e-3}
    options |= {"trainer.max_steps": 20, "checkpoint.every_steps": 20, "samples.every_steps": 0}
    assert fit(tmp_path, "personal", base, **options) == 0
    secrets = ("--secrets", tmp_path / "own.canaries.json")
    assert run_command("evaluate", tmp_path / "personal", "--max_new_tokens", 8, *secrets) == 0
    scores = json.loads((tmp_path / "personal" / "evaluation" / "max-8" / "scores.json").read_text())
    leaks, without = (scores["leaks"][group] for group in ("canaries", "unplanted canaries"))
    assert leaks["tuned"]["n"] == without["tuned"]["n"] == 4
    assert leaks["tuned"]["greedy"] > 0 and leaks["tuned"]["sampled"] > 0
    assert leaks["base"]["greedy"] == without["base"]["greedy"] == without["tuned"]["greedy"] == 0
    assert leaks["tuned"]["exposure"] > without["tuned"]["exposure"] + 1


@pytest.mark.wide
def test_exposure_of_an_untrained_model_is_near_the_expected(leaky):
    """The rank of a string among as random ones is uniform: log2(128) - E[log2 rank] = 1.38 bits."""
    trained = open_trained(str(leaky / "leaky"))
    network = trained.load(GenerationSettings())
    example = Example("1", "Write to Ann.", "", "", "")
    texts = [vary("QXVK-4829-ZWPB", random.Random(1000 + number)) for number in range(16)]
    secrets = [Secret(f"canary {n}", text, example, "The code for the door is", " ") for n, text in enumerate(texts)]
    with network.without_adapter():
        found = [measure_exposure(secret, trained, network) for secret in secrets]
    expected = np.log2(NUM_RANDOM + 1) - np.mean(np.log2(np.arange(1, NUM_RANDOM + 2)))
    assert expected == pytest.approx(1.38, abs=0.05)
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / np.sqrt(len(found)))


def test_secrets_are_found_in_the_rows_as_they_are_or_as_placeholders():
    rows = [
        Example("a", "x", "", "Write to ann@b.example,\nor  0171 2345678.", ""),
        Example("b", "y", "", "[EMAIL_1] and [PHONE_1]; 99", ""),
    ]
    strings = {"[EMAIL_1]": "ann@b.example", "[PHONE_1]": "0171 2345678", "[NUMBER_1]": "123456", "[NAME_1]": "99"}
    found = {secret.name: secret for secret in find_secrets(strings, rows)}
    assert found.keys() == {"[EMAIL_1]", "[PHONE_1]"}
    assert found["[EMAIL_1]"].example.id == "a" and found["[EMAIL_1]"].beginning == "Write to"
    assert found["[PHONE_1]"].beginning.endswith("or") and found["[PHONE_1]"].gap == "  "
    (alone,) = find_secrets({"[PHONE_1]": "+1 555"}, rows)
    assert alone.example.id == "b" and alone.beginning == "[EMAIL_1] and" and alone.is_random
    assert not found["[EMAIL_1]"].is_random


def test_canaries_are_made_by_their_seed():
    made, controls = make_canaries(7, seed=3)
    assert (made, controls) == make_canaries(7, seed=3) != make_canaries(7, seed=4)
    assert len({each.text for each in made + controls}) == 14
    assert made[0].plant("Hi.").endswith(f"at {made[0].text}@example.net.") and made[1].name == "canary 2: phone"
    assert all(each.plant("Hi.").startswith(each.beginning("Hi.") + each.text) for each in made + controls)
    assert vary("Ab-12 é", random.Random(0))[2] == "-" and vary("Ab-12", random.Random(0)) != "Ab-12"


def test_controls_are_asked_for_in_rows_that_have_no_canary():
    """In the same kind of sentence; of as many kinds and as often as the canaries that were found."""
    made, controls = make_canaries(3, seed=0)
    texts = [made[0].plant("One."), "Two.", made[2].plant("Three."), "word " * (MAX_WORDS + 1)]
    rows = [Example(str(number), "x", "", text, "") for number, text in enumerate(texts)]
    strings = {each.name: each.text for each in (*made, *controls)} | {"[NAME_1]": "Two"}
    groups = group_secrets(strings, rows)
    assert [each.name for each in groups["canaries"]] == ["canary 1: address", "canary 3: code"]
    assert [(each.name, each.example.id) for each in groups["unplanted canaries"]] == [
        ("control 1: address", "1"),
        ("control 3: code", "1"),
    ]
    for twin, control in zip(groups["canaries"], groups["unplanted canaries"], strict=True):
        assert control.beginning.removeprefix("Two.") == "\n\n" + twin.beginning.rpartition("\n\n")[2]
        assert control.text != twin.text and control.gap == twin.gap and control.is_random
    assert "private strings" not in groups, "three letters stand everywhere"
    assert group_secrets({controls[0].name: controls[0].text}, rows) == {}, "none is there whose twin they could be"
    with pytest.raises(UserError, match="every training row has a canary"):
        group_secrets(strings, [rows[0], rows[2]])
