"""What a prediction depends on, as it lies on disk: a change of its form would make every prediction and log p anew."""

import json
from dataclasses import replace

import pytest

from revinst.errors import UserError
from revinst.inference.key import ModelKey, PredictionKey, changed_settings, hash_json
from revinst.inference.picks import PickSettings
from revinst.inference.predictions import Prediction, PredictionFile
from revinst.inference.trained import Trained
from revinst.runs.folder import Run

MODEL = ModelKey("b", "1f", "2e", "nf4", "3d", {"r": 4, "lora_alpha": 8}, "4c", False, 256, "end", False, False)
GREEDY = {"max_new_tokens": 100, "temperature": 0.0}
PICKED = PickSettings(3, "consensus").describe()
WRITTEN = (
    '{"base": "b", "base_files": "1f", "tokenizer": "2e", "quantization": "nf4", "adapter": "3d", '
    '"lora": {"r": 4, "lora_alpha": 8}, "template": "4c", "chat": false, "seq_len": 256, "cut": "end", '
    '"context": false, "strip_citations": false, "generation": {"max_new_tokens": 100, "temperature": 0.0}'
)


def test_settings_as_they_are_written():
    assert json.dumps(PredictionKey(MODEL, GREEDY).to_json()) == WRITTEN + "}"
    evaluation = PredictionKey(MODEL, GREEDY, rows="5b", picks=PICKED).to_json()
    assert json.dumps(evaluation) == WRITTEN + ', "rows": "5b", "samples": 3, "pick": "consensus", "utility": "rougeL"}'
    one = PredictionKey(MODEL, GREEDY, rows="5b").to_json()
    assert json.dumps(one) == WRITTEN + ', "rows": "5b", "samples": 1}'
    of_base = PredictionKey(MODEL.without_adapter(), GREEDY, "5b", PICKED).to_json()
    assert changed_settings(evaluation, of_base) == ["adapter", "lora"] and of_base["adapter"] is None


def test_hashes_as_they_were_written():
    """Of a folder's name and of a row's log p, by the first versions that had them."""
    assert hash_json({"b": 1, "a": {"d": 2, "c": 3}}, 8, sort_keys=True) == hash_json(
        {"a": {"c": 3, "d": 2}, "b": 1}, 8
    )
    known = MODEL.hash_texts(["What?", "", "Ice."], "4c", "bf16")
    assert known == "e9aba95f94304062"
    others = [
        MODEL.hash_texts(["What?", "", "Ice!"], "4c", "bf16"),
        MODEL.hash_texts(["What?", "", "Ice."], "4c", "fp32"),
        MODEL.hash_texts(["What?", "", "Ice."], "5c", "bf16"),
        *(replace(MODEL, **{name: "x"}).hash_texts(["What?", "", "Ice."], "4c", "bf16") for name in MODEL.__slots__
          if name != "template"),
    ]  # fmt: skip
    assert len({known, *others}) == len(others) + 1


def test_what_a_rank_wrote_later_stands_for_the_row(tmp_path):
    """`generate` writes a changed text anew, under the id that it had."""
    row = Prediction("a", "", "Ice.", "", "What?", 2, "eos", -1.0)
    file = PredictionFile(tmp_path / "made.jsonl", {"base": "b"})
    file.open()
    file.append(row)
    file.append(replace(row, id="b"))
    of_rank = PredictionFile(tmp_path / "made.jsonl", {"base": "b"}, rank=1, world_size=2)
    of_rank.append(later := replace(row, response="Ash."))
    of_rank.append(replace(row, id="b"))
    assert list(file.open().values()) == [later, replace(row, id="b")] == list(file.open().values())
    assert len(file.path.read_text().splitlines()) == 3 and not file.parts


def test_another_prompt_than_the_trained_one_is_refused(base, tmp_path):
    """A template's file that was edited since; a manifest of an older run does not say which it was."""
    run, path = Run(tmp_path), tmp_path / "mine.txt"
    path.write_text("Text: {response}\n\nInstruction: {instruction}")

    def open_it() -> Trained:
        return Trained(tmp_path, base, "none", str(path), False, 256, run=run)

    run.update_manifest(hashes={"template": open_it().template.hash})
    assert open_it().template.target == "instruction"
    path.write_text("Text: {response}\n\nRequest: {instruction}")
    with pytest.raises(UserError, match=r"trained with another prompt than data.template .*mine.txt makes today"):
        _ = open_it().template
    run.update_manifest(hashes={})
    assert "Request" in open_it().template.text
