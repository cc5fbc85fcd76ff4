"""What ends a sequence: EOS, a header of the template in whatever tokens, or its limit."""

from dataclasses import replace

import pytest
import torch

from revinst.data.prompt import load_template, parse_template
from revinst.inference.engine.engine import GenerationSettings, generate_batches
from revinst.inference.engine.stopping import Stopping
from revinst.model.base import load_base
from revinst.model.network import Network


def test_headers_are_the_lines_that_begin_a_section():
    expected = ["### Instruction:", "### Input:", "### Context:", "### Response:"]
    assert load_template("blog").headers == expected
    assert sorted(load_template("alpaca").headers) == sorted(expected)
    assert parse_template("own", "Text: {response}\n\nInstruction: {instruction}").headers == []


@pytest.mark.parametrize("gap", ["\n", "\n\n", "\n \n  ", ""])
def test_a_header_cuts_the_text_before_it(tokenizer, gap):
    """Token by token as a model writes: nothing ends before the header's last token, and what is left is the text."""
    stopping = Stopping(tokenizer, load_template("blog").headers)
    text = "Name: the ### Input: of a list" if gap else ""
    ids = tokenizer.encode_continuations([f"{text}{gap}### Input:\nmore"])[0]
    verdicts = []
    for end in range(1, len(ids) + 1):
        may_end = bool(stopping.may_end(torch.tensor(ids[end - 1 : end])))
        verdict = stopping.judge(ids[:end])
        assert may_end or verdict is None or verdicts, "a table that misses a token would miss the header"
        verdicts += [verdict] if verdict else []
    kept, reason = verdicts[0]
    assert reason == "header" and kept < len(ids) and tokenizer.decode(ids[:kept]).strip() == text
    assert stopping.judge([*ids[:1], tokenizer.eos_id]) == (1, "eos")
    assert Stopping(tokenizer).judge(ids) is None, "without headers only EOS ends a text"


def test_each_end_of_the_base_ends_a_text(llama):
    stopping = Stopping(replace(llama, other_ends=(1,)))
    assert stopping.may_end(torch.tensor([0, 1, 2, 3, 999])).tolist() == [False, True, True, False, False]
    assert stopping.judge([500, 1]) == stopping.judge([500, 2]) == (1, "eos")
    assert stopping.judge([500, 3]) is None


@pytest.mark.parametrize("engine", ["slots", "hf"])
def test_a_model_that_goes_on_is_stopped_at_its_next_section(base, smollm, engine):
    """The real model copies a pattern: its answer, then the next section, in which two of the three sequences end."""
    network = Network(load_base(base, torch.device("cpu"), "none", dtype=torch.float32))
    section = "### Input:\nred green\n\n### Response:\n{}\n\n"
    prompts = [
        smollm.encode_fixed(section.format(word) * 4 + section.split("{}", maxsplit=1)[0])
        for word in ("blue", "two cats")
    ]
    prompts.append(smollm.encode_fixed("The capital of France is"))
    settings = GenerationSettings(max_new_tokens=12, engine=engine)
    headers = ["### Input:"]
    made = dict(generate_batches(network, smollm, prompts, settings, headers=headers))
    assert [made[n].stopped for n in range(3)] == ["header", "header", "length"]
    assert [smollm.decode(made[n].token_ids).strip() for n in range(2)] == ["blue", "two cats"]
    longer = dict(generate_batches(network, smollm, prompts, settings))
    for number in range(3):
        assert longer[number].token_ids[: len(made[number].token_ids)] == made[number].token_ids
        assert longer[number].stopped == "length" and made[number].log_p > longer[number].log_p - 1e-3
