"""The page of `revinst demo` in headless Chromium: what it shows, where it listens, whom it calls."""

import json
import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest

from revinst.config.settings import LoraSettings
from revinst.config.words import PICKS
from revinst.corpus.candidates import Writer
from revinst.data.audit import find_nearest
from revinst.data.examples import Example
from revinst.errors import UserError
from revinst.evaluation.report import count
from revinst.inference.engine.engine import Engine, Generated, GenerationSettings
from revinst.inference.picks import NUM_SAMPLES, TEMPERATURE, PickSettings
from revinst.inference.trained import Trained
from revinst.model.adapter import save_adapter
from revinst.model.lora import attach_lora
from revinst.pages.examples import choose_handy, read_examples
from revinst.pages.instructions import build_page, describe_candidate, write_candidates
from revinst.pages.serve import load_gradio, serve
from tests.browser import open_chromium

TRAIN = [
    Example("1", "What is a comet?", "", "A comet is a lump of ice and dust.", ""),
    Example("2", "Why is the sea salty?", "", "Rivers carry salt from rocks into the sea.", ""),
]
HELD_OUT = [Example("3", "Why do rivers flow?", "", "Water runs <b>downhill</b> until it reaches the sea.", "")]


@pytest.fixture(scope="module")
def writer(tiny_llama, tmp_path_factory) -> Writer:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = attach_lora(AutoModelForCausalLM.from_pretrained(tiny_llama), LoraSettings(r=2, dropout=0.0), "base")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    folder = tmp_path_factory.mktemp("demo") / "adapter"
    save_adapter(model, folder)
    trained = Trained(folder, str(tiny_llama), "none", "blog", with_context=False, seq_len=256)
    settings = GenerationSettings(max_new_tokens=6)
    writer = Writer(trained, trained.load(settings), settings)
    writer.network.float()  # in 16 bits a random model's next best token depends on what is decoded beside
    return writer


def test_candidates_and_nearest_row(writer):
    text = "A comet is a lump of ice."
    for pick in PICKS:
        found = writer.suggest(text, PickSettings(4, pick), 1.0)
        assert len(found) == len({each.sample.text for each in found}) == 5
        assert [each.number is None for each in found].index(True) == (0 if pick == "greedy" else 4)
        assert all(each.sample.log_p < 0 and 0 <= each.votes <= 1 for each in found if each.number is not None)
        votes = [each.votes or 0 for each in found]
        assert votes[1:] == sorted(votes[1:], reverse=True) and (pick != "consensus" or votes[0] == max(votes))
        assert found == writer.suggest(text, PickSettings(4, pick), 1.0)
    row, similarity = find_nearest("Rivers carry much salt from rocks into the sea.", TRAIN)
    assert row.id == "2" and 0.5 < similarity < 1


def test_the_one_that_is_picked_comes_first_whoever_wrote_it_first(writer, monkeypatch):
    """The greedy text, which was sampled as well."""
    ids = writer.tokenizer.encode_continuations(["What is ice?", "Why is it?", "Name a comet.", "what is ice"])
    given = enumerate(zip(ids, (-1.0, -9.0, -8.0, -1.0), strict=True))
    made = [(place, Generated(each, "eos", log_p)) for place, (each, log_p) in given]
    monkeypatch.setattr(Engine, "generate", lambda self, prompts, samples: iter(made))
    found = writer.suggest("Ice.", PickSettings(3, "likelihood"), 1.0)
    assert (found[0].sample.text, found[0].number, found[0].times) == ("What is ice?", None, 1)
    assert len(found) == 3 and describe_candidate(0, found[0])[1] == "greedy, picked"


def test_texts_are_escaped_and_run_as_their_letters_do(writer):
    found = writer.suggest("A comet is a lump of ice.", PickSettings(2, "greedy"), 1.0)
    shown = write_candidates([found[0]._replace(sample=found[0].sample._replace(text="<b>1</b> & שלום"))])
    assert '<p dir="auto">&lt;b&gt;1&lt;/b&gt; &amp; שלום</p>' in shown and "in 0 samples ·" in shown


def test_rows_to_try(tmp_path, tiny_llama, monkeypatch, capsys):
    def refuse(path):
        raise UserError("rows.jsonl is gone")

    bare = Trained(tmp_path, str(tiny_llama), "none", "blog", with_context=False, seq_len=256)
    gone = replace(bare, run=SimpleNamespace(split=tmp_path / "split.json"))
    monkeypatch.setattr("revinst.pages.examples.read_split", refuse)
    assert read_examples(gone) == read_examples(bare) and "rows.jsonl is gone" in capsys.readouterr().err
    train, tries = read_examples(bare)
    assert train == [] and len(tries) == 3 and all(80 <= len(each.response) <= 800 for each in tries)
    assert choose_handy(TRAIN) == TRAIN, "too short, but there is nothing else"


def test_without_gradio(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'revinst\[demo\]'"):
        load_gradio()


def test_page_in_a_browser(writer):
    """A text typed, a button pressed; nothing is asked of any other machine, nothing listens but on 127.0.0.1."""
    pytest.importorskip("gradio", reason="pip install gradio")
    gradio = load_gradio()
    page_app = build_page(gradio, writer, TRAIN, HELD_OUT, "runs/mine")
    url = serve(gradio, page_app, None, block=False)
    try:
        assert url.startswith("http://127.0.0.1:")
        port = int(url.rstrip("/").rsplit(":", 1)[1])
        with socket.socket() as other:
            other.settimeout(2)
            assert other.connect_ex(("127.0.0.2", port)) != 0
        with open_chromium() as browser:
            page = browser.new_page(viewport={"width": 1200, "height": 1000})
            asked, problems = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.route(lambda address: "127.0.0.1" not in address, lambda route: route.abort())
            page.goto(url)
            assert "runs/mine" in page.inner_text("h1 + p") and "agreement" in page.inner_text("#legend")
            page.click("#examples button >> nth=0")
            page.wait_for_function(
                f"document.querySelector('#text textarea').value === {json.dumps(HELD_OUT[0].response)}"
            )
            page.fill("#text textarea", "Rivers carry much salt from rocks into the sea.")
            page.click("#write")
            page.wait_for_function("document.querySelector('#nearest textarea').value.includes('similarity')")
            assert "Why is the sea salty?" in page.input_value("#nearest textarea")
            shown = page.inner_text("#candidates")
            usual = PickSettings(NUM_SAMPLES["cpu"], "consensus")
            expected = writer.suggest("Rivers carry much salt from rocks into the sea.", usual, TEMPERATURE)
            assert all(word in shown for each in expected for word in describe_candidate(1, each)[1:])
            assert (
                all(f"in {count('sample', each.times)} ·" in shown for each in expected)
                and page.locator("#candidates .picked").count() == 1
            )
            page.set_viewport_size({"width": 390, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            ends = [each.bounding_box() for each in page.locator("#candidates li").all()]
            assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in ends), "all of each is in view"
            assert "greedy" in shown and "picked" in shown and len(expected) == 9
            assert {address for address in asked if not address.startswith((url, "data:", "blob:"))} == set()
            assert problems == []
    finally:
        page_app.close()
