"""Property 6 and the cutting of generated ids, on the real model."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from revinst.config.settings import LoraSettings
from revinst.data.encoding import encode_examples, encode_to_generate
from revinst.data.example_table import load_examples
from revinst.data.prompt import load_template, render_prompt
from revinst.errors import UserError
from revinst.inference.engine.cache import Cache
from revinst.inference.engine.decoder import Decoder
from revinst.inference.engine.engine import Engine, GenerationSettings, generate_batches
from revinst.inference.engine.sampling import Picking, pick_tokens, sequence_keys
from revinst.inference.engine.slots import decode_sequences
from revinst.inference.engine.stopping import Stopping
from revinst.inference.engine.support import why_not_decoder
from revinst.inference.likelihood import document_losses
from revinst.model.attention_interface import register_attention
from revinst.model.base import dequantize_base, is_quantized, load_base
from revinst.model.lora import attach_lora
from revinst.model.network import Network
from tests.model.base_cases import KINDS, draw_documents, packed_network, plain_model
from tests.model.base_cases import tiny_config as case_config
from tests.tiny import tiny_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network(base):
    return Network(load_base(base, CPU, "none", dtype=torch.float32))


@pytest.fixture(scope="module")
def prompts(smollm):
    examples = sorted(load_examples("quickstart")[0], key=lambda example: len(example.response))[:60:12]
    template = load_template("blog")
    return encode_to_generate([render_prompt(template, e) for e in examples], template, smollm, 1024, 16)[0]


def generate(network, smollm, prompts, **options) -> dict[int, list[int]]:
    settings = GenerationSettings(max_new_tokens=10, **options)
    return {number: out.token_ids for number, out in generate_batches(network, smollm, prompts, settings)}


@pytest.fixture(scope="module")
def expected(network, smollm, prompts) -> dict[int, list[int]]:
    """What transformers writes to each prompt alone."""
    return generate(network, smollm, prompts, batch_size=1, engine="hf")


@pytest.mark.parametrize("engine", ["slots", "hf"])
def test_greedy_does_not_depend_on_batch_padding_or_order(network, smollm, prompts, expected, engine):
    assert len(prompts) == 5 and len({len(ids) for ids in prompts}) == 5
    assert len({tuple(ids) for ids in expected.values()}) >= 4
    for size in (2, 5):
        assert generate(network, smollm, prompts, batch_size=size, engine=engine) == expected
    backwards = generate(network, smollm, prompts[::-1], batch_size=3, engine=engine)
    assert {len(prompts) - 1 - number: ids for number, ids in backwards.items()} == expected
    four = generate(network, smollm, prompts[1:2] * 4, batch_size=2, engine=engine)  # all but one token is a prefix
    assert four == dict.fromkeys(range(4), expected[1])


def test_sampling_repeats_with_its_seed(network, smollm, prompts):
    options = {"temperature": 0.9, "top_p": 0.9, "batch_size": 4}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = generate(network, smollm, prompts[:4], seed=1, **options)
    assert torch.equal(torch.get_rng_state(), state), "sampling must leave training's generator alone"
    assert generate(network, smollm, prompts[:4], seed=1, **options) == first
    assert generate(network, smollm, prompts[:4], seed=2, **options) != first


@pytest.mark.parametrize("engine", ["slots", "hf"])
def test_stops_at_eos(network, smollm, prompts, engine):
    """The second token that the model writes anyway is declared EOS: one token is left, and it is not EOS."""
    whole = generate(network, smollm, prompts[:1])[0]
    assert whole[1] != whole[0]
    settings = GenerationSettings(max_new_tokens=16, engine=engine)
    for stopping in (replace(smollm, eos_id=whole[1]), replace(smollm, other_ends=(whole[1],))):
        [(_, out)] = generate_batches(network, stopping, prompts[:1], settings)
        assert (out.token_ids, out.stopped) == (whole[:1], "eos")
    [(_, out)] = generate_batches(network, smollm, prompts[:1], settings, limits=[3])
    assert (out.token_ids, out.stopped) == (whole[:3], "length")


@pytest.mark.parametrize("engine", ["slots", "hf"])
def test_log_p_is_the_models(network, smollm, prompts, engine):
    """Of all that was written, EOS too, by one pass over prompt and text; sampled or not."""
    for temperature in (0.0, 1.5):
        settings = GenerationSettings(max_new_tokens=6, temperature=temperature, top_p=0.9, engine=engine)
        made = dict(generate_batches(network, smollm, prompts, settings))
        for number, out in made.items():
            new_ids = out.token_ids + [smollm.eos_id] * (out.stopped == "eos")
            with torch.no_grad():
                logits = network.model(torch.tensor([prompts[number] + new_ids])).logits[
                    0, len(prompts[number]) - 1 : -1
                ]
            expected = logits.log_softmax(-1).gather(-1, torch.tensor(new_ids)[:, None]).sum()
            assert out.log_p == pytest.approx(float(expected), abs=2e-3) and out.log_p < -0.1


def with_adapter(base, quantization: str) -> Network:
    """In fp32, as if it had been trained."""
    network = Network(attach_lora(load_base(str(base), CPU, quantization, dtype=torch.float32), LoraSettings(), ""))
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return network


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_an_adapter_merged_or_apart_writes_the_same(tiny_llama, quantization, dense):
    """As transformers' generate with PEFT does, fp32; and with the adapter off, as the base alone."""
    from revinst.data.tokenizer import load_tokenizer

    network = with_adapter(tiny_llama, quantization)
    tokenizer = load_tokenizer(str(tiny_llama))
    numbers = [[5 + n, *range(100, 110 + 3 * n)] for n in range(9)]
    results = []
    for use_adapter in (True, False):
        with contextlib.nullcontext() if use_adapter else network.without_adapter(), torch.no_grad():
            plain = generate_batches(network, tokenizer, numbers, GenerationSettings(max_new_tokens=12, engine="hf"))
            expected = {number: out.token_ids for number, out in plain}
            decoder = Decoder(network, "sdpa", dense)
            ended = decode_sequences(
                decoder, numbers, [12] * 9, Picking(Stopping(tokenizer)), budget=10_000, max_slots=4
            )
            assert {sequence.number: sequence.new_ids for sequence in ended} == expected
            results.append(expected)
    assert results[0] != results[1] and len({tuple(ids) for ids in results[0].values()}) > 4
    network.model.merge_adapter()
    assert not why_not_decoder(network)
    with network.without_adapter():
        assert "merged and switched off" in why_not_decoder(network)


def test_every_row_once_whatever_the_memory(tiny_llama, monkeypatch):
    """Rows of very different lengths and limits, few slots, several caches, and memory that runs out twice."""
    from revinst.data.tokenizer import load_tokenizer

    network = Network(load_base(str(tiny_llama), CPU, "none", dtype=torch.float32))
    tokenizer = load_tokenizer(str(tiny_llama))
    prompts = [list(range(5, 6 + length)) for length in (200, 3, 90, 12, 40, 199, 1, 7, 60, 25, 25, 150)]
    limits = [1 + 5 * (number % 4) for number in range(len(prompts))]
    decoder, picking = Decoder(network, "sdpa", True), Picking(Stopping(tokenizer), temperature=0.8, seed=3)

    def decode(budget: int, slots: int) -> dict[int, list[int]]:
        ended = list(decode_sequences(decoder, prompts, limits, picking, budget=budget, max_slots=slots))
        assert sorted(sequence.number for sequence in ended) == list(range(len(prompts)))
        assert all(s.stopped == "eos" or len(s.new_ids) == limits[s.number] for s in ended)
        return {sequence.number: sequence.new_ids for sequence in ended}

    with torch.no_grad():
        expected = decode(100_000, 12)
        for budget, slots in ((217, 12), (500, 3), (100_000, 1), (700, 5)):
            assert decode(budget, slots) == expected
        calls, prefill = [], Decoder.prefill

        def fail_twice(self, *args, **kwargs):
            calls.append(0)
            if len(calls) in (4, 7):
                raise torch.OutOfMemoryError("no room")
            return prefill(self, *args, **kwargs)

        monkeypatch.setattr(Decoder, "prefill", fail_twice)
        assert decode(2_000, 3) == expected and len(calls) > 7
        monkeypatch.undo()
        for place, at in ((Decoder, "new_cache"), (Decoder, "step"), (Cache, "copy")):
            failed, work = [], getattr(place, at)

            def fail_first(self, *args, work=work, failed=failed):
                failed.append(0)
                if len(failed) in (1, 3):
                    raise torch.OutOfMemoryError("no room")
                return work(self, *args)

            monkeypatch.setattr(place, at, fail_first)
            assert decode(4_000, 6) == expected and len(failed) > 3
            monkeypatch.undo()
        with pytest.raises(UserError, match="prompt of 200 tokens"):
            decode(150, 4)


def test_what_the_slots_do_not_know_goes_to_transformers(tiny_llama, capsys):
    from revinst.data.tokenizer import load_tokenizer

    network = Network(load_base(str(tiny_llama), CPU, "none", dtype=torch.float32))
    tokenizer = load_tokenizer(str(tiny_llama))
    expected = dict(generate_batches(network, tokenizer, [[5, 6, 7]], GenerationSettings(max_new_tokens=5)))
    network.base.model.rotary_emb.rope_type = "dynamic"
    got = dict(generate_batches(network, tokenizer, [[5, 6, 7]], GenerationSettings(max_new_tokens=5)))
    assert got[0].token_ids == expected[0].token_ids and "rotary angles are dynamic" in capsys.readouterr().err
    with pytest.raises(UserError, match="dynamic"):
        list(generate_batches(network, tokenizer, [[5]], GenerationSettings(engine="slots")))


@pytest.mark.parametrize("window", [1, 5, 16, 64])
@pytest.mark.parametrize("device", [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)], ids=str)
def test_a_window_is_that_of_transformers(smollm, window, device):
    """Of a Mistral: prompts that share a prefix, alone and beside others, and texts that outgrow the window."""
    values = tiny_config(vocab_size=512, initializer_range=0.2).to_dict() | {"sliding_window": window}
    config = MistralConfig.from_dict(values | {"model_type": "mistral", "architectures": None})
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    options = {"attn_implementation": register_attention("sdpa"), "dtype": torch.float32}
    model = AutoModelForCausalLM.from_config(MistralConfig.from_dict(config.to_dict()), **options)
    model.load_state_dict(plain.state_dict())
    network = Network(model.requires_grad_(False)).to(device).eval()
    assert not why_not_decoder(network)
    first = torch.randint(10, 512, (12,)).tolist()  # of all of them: a prefix
    prompts = [first + torch.randint(10, 512, (n,)).tolist() for n in (3, 9, 20, 31, 40)]
    settings = GenerationSettings(max_new_tokens=20, engine="slots", precision="fp32")
    for some in (prompts, prompts[-1:]):
        for number, made in generate_batches(network, smollm, some, settings):
            ids = torch.tensor([some[number]])
            # without a cache: transformers (5.23) keeps a cache of all for a window of 1
            expected = plain.generate(
                ids, do_sample=False, use_cache=False, max_new_tokens=20, eos_token_id=smollm.eos_id
            )
            new = expected[0, ids.shape[1] :].tolist()
            assert made.token_ids == (new[:-1] if new[-1] == smollm.eos_id else new)


@pytest.mark.parametrize("model_type", ["phi3", "qwen3"])
def test_angles_by_length_are_each_texts_own(smollm, model_type):
    """Texts that grow beyond the trained length of 64, that are beyond it, and that do not reach it: as if alone."""
    config = case_config(model_type, **KINDS[model_type])
    plain = plain_model(config)
    network, texts = packed_network(plain, config), draw_documents([58, 30, 90])
    made = dict(generate_batches(network, smollm, [text.tolist() for text in texts], GenerationSettings(20)))
    for number, text in enumerate(texts):
        new = plain.generate(text[None], do_sample=False, max_new_tokens=20, eos_token_id=smollm.eos_id)[0, len(text) :]
        assert made[number].token_ids == [token for token in new.tolist() if token != smollm.eos_id]


def test_every_mode_is_restored(network, smollm, prompts):
    layers = network.base.model.layers
    network.train()
    layers[0].eval()
    generate(network, smollm, prompts[:1])
    modes = [network.training, layers[0].training, layers[1].training]
    network.eval()
    assert modes == [True, False, True]


def test_likelihood_is_that_of_each_document_alone(network, smollm):
    examples = load_examples("quickstart")[0][:6]
    documents = encode_examples(examples, load_template("blog"), smollm, 1024)
    losses = dict(document_losses(network, documents, tokens_per_batch=600))
    assert list(losses) == list(range(len(documents)))
    for number in range(len(documents)):
        span = slice(documents.offsets[number], documents.offsets[number + 1])
        ids, targets = (torch.from_numpy(a[span].astype("int64")) for a in (documents.input_ids, documents.targets))
        with torch.no_grad():
            logits = network.model(ids[None]).logits[0]
        expected = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        assert losses[number] == pytest.approx(float(expected), rel=1e-4) and losses[number] > 1


def test_dequantised_base_is_the_4_bit_one(base):
    """Same values, so the same predictions, without unpacking in every pass."""
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
    from revinst.inference.load import load_for_inference

    network = load_for_inference(str(tiny_llama), None, torch.device("cpu"), "none", torch.float32)
    tokenizer = load_tokenizer(str(tiny_llama))
    prompts = [[5 + n, *range(100, 110 + n)] for n in range(9)]

    def sample(numbers, **options):
        settings = GenerationSettings(max_new_tokens=12, temperature=1.0, **options)
        made = generate_batches(network, tokenizer, [prompts[n] for n in numbers], settings)
        return {numbers[place]: generated.token_ids for place, generated in made}

    whole = sample(range(9), batch_size=9)
    assert sample(range(9), batch_size=2) == whole and sample([7, 3, 0], batch_size=4) == {
        n: whole[n] for n in (7, 3, 0)
    }
    assert len({tuple(ids) for ids in whole.values()}) == 9
    assert sum(sample(range(9), batch_size=9, seed=1)[n] != whole[n] for n in range(9)) == 9


def test_k_samples_of_a_prompt_share_its_prefill(tiny_llama, monkeypatch):
    """The same as k calls of one sample each, in fewer prefilled prompts; in any order, slots, and by transformers."""
    from revinst.data.tokenizer import load_tokenizer
    from revinst.inference.load import load_for_inference

    network = load_for_inference(str(tiny_llama), None, CPU, "none", torch.float32)
    tokenizer = load_tokenizer(str(tiny_llama))
    prompts = [[5 + n, *range(100, 104 + n)] for n in range(5)]
    prefilled, prefill = [], Decoder.prefill

    def count(self, prompts, *args):
        prefilled.extend(map(tuple, prompts))
        return prefill(self, prompts, *args)

    monkeypatch.setattr(Decoder, "prefill", count)

    def sample(wanted, **options):
        settings = GenerationSettings(max_new_tokens=8, temperature=1.0, top_k=500, **options)
        ids, numbers = [prompts[n] for n, _ in wanted], [k for _, k in wanted]
        made = generate_batches(network, tokenizer, ids, settings, samples=numbers)
        return {wanted[place]: (out.token_ids, round(out.log_p, 3)) for place, out in made}

    alone = {key: out for k in range(3) for key, out in sample([(n, k) for n in range(5)]).items()}
    assert len(prefilled) == 15 and len({tuple(ids) for ids, _ in alone.values()}) == 15
    wanted = [(n, k) for k in (2, 0, 1) for n in range(5)]
    prefilled.clear()
    assert sample(wanted) == alone and len(prefilled) == 5
    assert sample(wanted[::-1], batch_size=4) == alone
    by_transformers = sample(wanted, batch_size=4, engine="hf")
    assert {key: ids for key, (ids, _) in by_transformers.items()} == {key: ids for key, (ids, _) in alone.items()}


def test_an_engine_lays_the_weights_out_once(tiny_llama, monkeypatch):
    """Greedy texts and samples in one call, longer prompts in the next: as in calls of their own, with one decoder."""
    from revinst.data.tokenizer import load_tokenizer
    from revinst.inference.load import load_for_inference

    network = load_for_inference(str(tiny_llama), None, CPU, "none", torch.float32)
    tokenizer = load_tokenizer(str(tiny_llama))
    built, build = [], Decoder.__init__

    def count(self, *args):
        built.append(0)
        build(self, *args)

    monkeypatch.setattr(Decoder, "__init__", count)
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0)
    calls = [[[5 + n, *range(100, 104 + length * n)] for n in range(5)] for length in (1, 30)]

    def alone(prompts, sample):
        given = replace(settings, temperature=0.0) if sample is None else settings
        return dict(generate_batches(network, tokenizer, prompts, given, samples=[sample] * 5))

    expected = [{(n, sample): out for sample in (None, 1, 2) for n, out in alone(prompts, sample).items()}
                for prompts in calls]  # fmt: skip
    wanted = [(n, sample) for n in range(5) for sample in (None, 1, 2)]
    for kind in ("auto", "hf"):
        built.clear()
        engine = Engine(network, tokenizer, replace(settings, engine=kind))
        for prompts, texts in zip(calls, expected, strict=True):
            made = engine.generate([prompts[n] for n, _ in wanted], samples=[sample for _, sample in wanted])
            found = {wanted[place]: out for place, out in made}
            assert {key: out.token_ids for key, out in found.items()} == {k: out.token_ids for k, out in texts.items()}
            assert all(out.log_p == pytest.approx(texts[key].log_p, abs=1e-3) for key, out in found.items())
        assert len(built) == (kind == "auto")
    assert len({tuple(out.token_ids) for out in expected[0].values()}) == 15
    assert list(engine.generate([])) == []


def test_samples_follow_the_distribution():
    """10,000 draws of one logit row at temperature 2, and of a nucleus of its three likeliest tokens; at two steps."""
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0])
    keys = sequence_keys(0, [([n], 0) for n in range(10_000)])
    stopping: Any = None
    for picking, expected in (
        (Picking(stopping, 2.0), (logits / 2).softmax(-1)),
        (Picking(stopping, 1.0, top_p=0.9), torch.tensor([*logits[:3].softmax(-1), 0.0, 0.0])),
        (Picking(stopping, 1.0, top_k=2), torch.tensor([*logits[:2].softmax(-1), 0.0, 0.0, 0.0])),
        (Picking(stopping, 1.0, top_p=0.5, top_k=2), torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])),
    ):
        picks = []
        for step in (0, 1):
            steps = torch.full((10_000,), step)
            ids, log_p = pick_tokens(logits.repeat(10_000, 1), picking, keys, steps)
            shares = torch.bincount(ids, minlength=5) / 10_000
            assert (shares - expected).abs().max() < 0.02
            assert torch.allclose(log_p, logits.log_softmax(-1)[ids])
            picks.append(ids)
        same = (picks[0] == picks[1]).float().mean()
        assert same == pytest.approx(float((expected**2).sum()), abs=0.02)  # steps are independent


def test_an_adapter_is_added_in_fp32_and_rounded_once(tiny_llama):
    """In bf16 as well; rounding the product before the sum would change a sixth of the weights."""
    network = Network(attach_lora(load_base(str(tiny_llama), CPU, "none", dtype=torch.bfloat16), LoraSettings(), ""))
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data = (0.05 * torch.randn(parameter.shape)).bfloat16()
    with torch.no_grad():
        decoder = Decoder(network, "sdpa", dense=True)
    module = network.base.model.layers[1].mlp.down_proj
    a, b = module.lora_A["default"].weight.float(), module.lora_B["default"].weight.float()
    base = module.base_layer.weight
    product = module.scaling["default"] * (b @ a)
    expected, twice = (base.float() + product).bfloat16(), base + product.bfloat16()
    differing = (decoder.layers[1].down.weight != expected).float().mean()
    assert differing < 1e-3 and (twice != expected).float().mean() > 0.05 and (expected != base).float().mean() > 0.5


@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_prompts_in_8_bits(tiny_llama, quantization):
    """Logits near those in 16 bits, the same whatever is beside a prompt; steps are in 16 bits."""
    network = with_adapter(tiny_llama, quantization)
    prompts = [[5 + n, *range(100, 110 + 3 * n)] for n in range(3)]
    logits, steps = {}, {}
    with torch.no_grad():
        for name in ("fp32", "fp8"):
            decoder = Decoder(network, "sdpa", dense=True, fp8_prefill=name == "fp8")
            cache, alone = decoder.new_cache(3, 20), decoder.new_cache(1, 20)
            logits[name] = decoder.prefill(prompts, cache, range(3))
            assert torch.allclose(decoder.prefill(prompts[2:], alone, [0]), logits[name][2:], atol=1e-5)
            cache.data.fill_(1.0)
            steps[name] = decoder.step(torch.arange(3), torch.tensor([10, 12, 14]), cache, 20)
        off = (logits["fp8"] - logits["fp32"]).norm() / logits["fp32"].norm()
        assert 1e-3 < off < 0.1
        assert torch.equal(steps["fp8"], steps["fp32"])
        with network.without_adapter():
            alone = Decoder(network, "sdpa", dense=True, fp8_prefill=True)
            base = alone.prefill(prompts, decoder.new_cache(3, 20), range(3))
        assert (base - logits["fp8"]).norm() > 3 * (logits["fp8"] - logits["fp32"]).norm(), "its adapter is in them"


def test_prompts_in_8_bits_are_refused_in_one_line(tiny_llama, monkeypatch):
    from revinst.data.tokenizer import load_tokenizer
    from revinst.inference.engine import engine

    network, tokenizer = Network(load_base(str(tiny_llama), CPU, "none")), load_tokenizer(str(tiny_llama))
    with pytest.raises(UserError, match=r"--fp8_prefill: products in 8 bits need .*; leave it out"):
        Engine(network, tokenizer, GenerationSettings(precision="bf16", fp8_prefill=True))
    monkeypatch.setattr(engine, "why_no_fp8_prefill", lambda _: "")  # by the reference
    for memory_gib in (1, 2**-13):
        settings = GenerationSettings(precision="bf16", fp8_prefill=True, memory_gib=memory_gib, max_new_tokens=4)
        write = Engine(network, tokenizer, settings).generate([[5, 6, 7]])
        if memory_gib == 1:
            assert [number for number, _ in write] == [0]
        else:
            with pytest.raises(UserError, match=r"--fp8_prefill: it needs 0\.0 GiB for weights .* free; leave it out"):
                next(write)
    for asked in ({"engine": "hf", "precision": "bf16"}, {"precision": "fp32"}):
        with pytest.raises(UserError, match="needs our slots and bf16"):
            GenerationSettings(fp8_prefill=True, **asked)
    described = GenerationSettings(precision="bf16", fp8_prefill=True).describe()
    assert described["fp8_prefill"] is True and "fp8_prefill" not in GenerationSettings().describe()
