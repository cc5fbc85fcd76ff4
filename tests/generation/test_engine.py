"""Property 6 and the cutting of generated ids, on the real model."""

from dataclasses import replace

import pytest
import torch

from revinst.data.encoding import encode_examples, encode_to_generate
from revinst.data.examples import load_examples
from revinst.data.prompt import load_template, render_prompt
from revinst.generation.engine import Generated, GenerationSettings, Sampler, generate_batches
from revinst.generation.likelihood import score_documents
from revinst.model.base import dequantize_base, is_quantized, load_base

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(base):
    return load_base(base, CPU, "none", dtype=torch.float32)


@pytest.fixture(scope="module")
def prompts(smollm):
    examples = sorted(load_examples("quickstart")[0], key=lambda example: len(example.response))[:250:60]
    template = load_template("blog")
    return encode_to_generate([render_prompt(template, e) for e in examples], template, smollm, 1024, 16)[0]


def generate(model, smollm, prompts, **options) -> dict[int, list[int]]:
    settings = GenerationSettings(max_new_tokens=10, **options)
    return {number: out.token_ids for number, out in generate_batches(model, smollm, prompts, settings)}


def test_greedy_does_not_depend_on_batch_padding_or_order(model, smollm, prompts):
    expected = generate(model, smollm, prompts, batch_size=1)
    assert len(prompts) == 5 and len({len(ids) for ids in prompts}) == 5
    assert len({tuple(ids) for ids in expected.values()}) >= 4
    for size in (2, 5):
        assert generate(model, smollm, prompts, batch_size=size) == expected
    backwards = generate(model, smollm, prompts[::-1], batch_size=3)
    assert {len(prompts) - 1 - number: ids for number, ids in backwards.items()} == expected


def test_sampling_repeats_with_its_seed(model, smollm, prompts):
    options = {"temperature": 0.9, "top_p": 0.9, "batch_size": 4}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = generate(model, smollm, prompts[:4], seed=1, **options)
    assert torch.equal(torch.get_rng_state(), state), "sampling must leave training's generator alone"
    assert generate(model, smollm, prompts[:4], seed=1, **options) == first
    assert generate(model, smollm, prompts[:4], seed=2, **options) != first


def test_stops_at_eos(model, smollm, prompts):
    """The second token that the model writes anyway is declared EOS: one token is left, and it is not EOS."""
    whole = generate(model, smollm, prompts[:1])[0]
    assert whole[1] != whole[0]
    stopping = replace(smollm, eos_id=whole[1])
    [(_, out)] = generate_batches(model, stopping, prompts[:1], GenerationSettings(max_new_tokens=16))
    assert out == Generated(whole[:1], "eos")
    [(_, out)] = generate_batches(model, smollm, prompts[:1], GenerationSettings(max_new_tokens=3))
    assert out == Generated(whole[:3], "length")


def test_every_mode_is_restored(model, smollm, prompts):
    model.train()
    model.model.layers[0].eval()
    generate(model, smollm, prompts[:1])
    modes = [model.training, model.model.layers[0].training, model.model.layers[1].training]
    model.eval()
    assert modes == [True, False, True]


def test_likelihood_is_that_of_each_document_alone(model, smollm):
    examples = load_examples("quickstart")[0][:6]
    documents = encode_examples(examples, load_template("blog"), smollm, 1024)
    losses = score_documents(model, documents, tokens_per_batch=600)
    for number in range(len(documents)):
        span = slice(documents.offsets[number], documents.offsets[number + 1])
        ids, targets = (torch.from_numpy(a[span].astype("int64")) for a in (documents.input_ids, documents.targets))
        with torch.no_grad():
            logits = model(ids[None]).logits[0]
        expected = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        assert losses[number] == pytest.approx(float(expected), rel=1e-4) and losses[number] > 1


def test_dequantised_base_is_the_4_bit_one(base):
    """Same values, so the same predictions, without unpacking at every forward."""
    quantized = load_base(base, CPU)
    ids = torch.arange(100, 160)[None]
    with torch.no_grad():
        expected = quantized(ids).logits
        dequantised = dequantize_base(quantized)
        assert not is_quantized(dequantised)
        got = dequantised(ids).logits
    assert (got - expected).abs().max() <= 2e-2 * expected.abs().max()
    assert (got.argmax(-1) == expected.argmax(-1)).float().mean() > 0.95


def test_a_sample_depends_on_seed_and_prompt_alone(tiny_llama):
    """Not on the batch, the order, or which rows a killed job had already done."""
    from revinst.data.tokenizer import load_tokenizer
    from revinst.model.inference import load_for_inference

    model = load_for_inference(str(tiny_llama), None, torch.device("cpu"), "none", torch.float32)
    tokenizer = load_tokenizer(str(tiny_llama))
    prompts = [[5 + n, *range(100, 110 + n)] for n in range(9)]

    def sample(numbers, **options):
        settings = GenerationSettings(max_new_tokens=12, temperature=1.0, **options)
        made = generate_batches(model, tokenizer, [prompts[n] for n in numbers], settings)
        return {numbers[place]: generated.token_ids for place, generated in made}

    whole = sample(range(9), batch_size=9)
    assert sample(range(9), batch_size=2) == whole and sample([7, 3, 0], batch_size=4) == {
        n: whole[n] for n in (7, 3, 0)
    }
    assert len({tuple(ids) for ids in whole.values()}) == 9
    assert sum(sample(range(9), batch_size=9, seed=1)[n] != whole[n] for n in range(9)) == 9


def test_samples_follow_the_distribution():
    """10,000 draws of one logit row at temperature 2, and a nucleus of its three likeliest tokens."""
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0])
    for settings, expected in (
        (GenerationSettings(temperature=2.0), (logits / 2).softmax(-1)),
        (GenerationSettings(temperature=1.0, top_p=0.9), torch.tensor([*logits[:3].softmax(-1), 0.0, 0.0])),
    ):
        sampler = Sampler(settings, [[n] for n in range(10_000)], torch.device("cpu"))
        picked = sampler(torch.zeros(10_000, 1), logits.repeat(10_000, 1)).argmax(-1)
        shares = torch.bincount(picked, minlength=5) / 10_000
        assert (shares - expected).abs().max() < 0.02
