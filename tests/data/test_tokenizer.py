"""Ids of texts: nothing is parsed or added by itself, and ids joined by pieces decode back to the text.

Tests that take `tokenizer` run for SmolLM2's byte-level BPE and for one built as Llama 2's is.
"""

import json
import shutil
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from revinst.data.encoding import IGNORE_INDEX, encode_examples
from revinst.data.example_table import load_examples
from revinst.data.examples import Example
from revinst.data.fast_tokenizer import HARD_TEXTS, build_fast_tokenizer, encode_plain
from revinst.data.prompt import load_template, render_prompt
from revinst.data.tokenizer import load_tokenizer, looks_local
from revinst.errors import UserError

EXAMPLE = Example("1", "Say hi.", "", "Hello there!", "")

# Not fuzzed: control characters and planes 4 to 11, whose bytes SmolLM2's vocabulary lacks, and U+2581, which is
# SentencePiece's own spelling of a space. Both lose them in training and generation alike.
CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cn", "Cs"], exclude_characters="\u2581")
FRAGMENTS = ["\n", "\n\n", " ", "  ", "\t", "\n\n- ", "</s>", "<s>", "<|im_end|>", "<|im_start|>", "👩‍👩‍👧", "don't"]
TEXTS = (
    st.lists(st.sampled_from(FRAGMENTS) | st.text(CHARACTERS, max_size=8), min_size=1, max_size=8)
    .map("".join)
    .filter(lambda text: text.strip())
)


def test_golden_ids(smollm):
    documents = encode_examples([EXAMPLE], load_template("blog"), smollm, seq_len=2048)
    head = [1, 3757, 20880, 42, 198]  # <|im_start|>, "### Instruction:\n"
    request = [9801, 260, 18100, 2441, 288, 1464, 354, 5785, 28, 527, 856, 457, 719, 804, 288, 5051, 260, 3007]
    request += [1015, 354, 450, 34519, 30]
    source = [198, 198, 3757, 18100, 42, 198, 19556, 665, 17]  # "### Input:\n", "Hello there!"
    tail = [198, 198, 3757, 14212, 42, 198]  # "### Response:\n"
    target = [36218, 15876, 30]  # "Say hi."
    prompt = [*head, *request, *source, *tail]
    assert documents.input_ids.tolist() == [*prompt, *target]
    assert documents.targets.tolist() == [IGNORE_INDEX] * (len(prompt) - 1) + [*target, 2]  # <|im_end|>


@pytest.mark.parametrize("name", ["smollm", "llama"])
def test_special_ids(request, name):
    tokenizer = request.getfixturevalue(name)
    expected = {"smollm": (1, 2, 0, 49152), "llama": (1, 2, 0, 1000)}[name]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size) == expected


def test_prompt_and_target_decode_back_to_the_text(tokenizer):
    template, seen = load_template("blog"), []

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(TEXTS, TEXTS)
    def check(instruction, response):
        example = Example("1", instruction.strip(), "", response.strip(), "")
        documents = encode_examples([example], template, tokenizer, seq_len=10_000)
        target_ids = documents.targets[documents.targets != IGNORE_INDEX].tolist()
        assert tokenizer.decode(target_ids) == example.instruction
        ids = [*documents.input_ids.tolist(), tokenizer.eos_id]
        assert tokenizer.decode(ids) == render_prompt(template, example).text + example.instruction
        seen.append(instruction)

    check()
    assert len(seen) >= 150 and sum("<" in text for text in seen) > 20


def test_every_word_has_the_ids_it_has_at_the_start_of_a_line(tokenizer):
    words = sorted({word for row in load_examples("quickstart")[0] for word in row.response.split()})
    start, *in_line = tokenizer.hf(["#\n", *(f"#\n{word}" for word in words)], add_special_tokens=False).input_ids
    assert [start + ids for ids in tokenizer.encode_continuations(words)] == in_line
    assert len(words) > 1000 and sum(len(ids) > 1 for ids in tokenizer.encode_continuations(words)) > 100


def test_a_continuation_has_the_ids_it_has_inside_a_line(llama):
    """SentencePiece marks the start of whatever it is given as a word's start; in a line, "hello" has none."""
    alone = llama.hf("hello there", add_special_tokens=False).input_ids
    [continued] = llama.encode_continuations(["hello there"])
    in_line = llama.hf("Input:\nhello there", add_special_tokens=False).input_ids
    assert in_line[-len(continued) :] == continued != alone
    tokens = [llama.hf.convert_ids_to_tokens(ids) for ids in llama.encode_continuations(["a", " a", "\na", ""])]
    assert tokens == [["a"], ["▁a"], ["<0x0A>", "a"], []]


def test_special_tokens_in_text_stay_text(tokenizer):
    text = "see <s> tag </s> here<|im_start|>user\nb<|im_end|> <unk> <|endoftext|>"
    [ids] = tokenizer.encode_continuations([text])
    special = set(tokenizer.hf.all_special_ids)
    assert not set(ids) & special and tokenizer.decode(ids) == text
    assert len(set(tokenizer.hf(text, add_special_tokens=False).input_ids) & special) == 3  # the usual call parses them


def test_a_batch_gives_the_ids_of_each_text_alone(tokenizer):
    texts = ["hello", " hello", "", "\n\n- x", "<|im_end|>", "a long text " * 50]
    batch = tokenizer.encode_continuations(texts)
    assert batch == [tokenizer.encode_continuations([text])[0] for text in texts]
    assert tokenizer.encode_continuations([]) == [] and len(set(map(tuple, batch))) == 6


# ---- the fast route --------------------------------------------------------------------------------------------------


def test_the_fast_route_gives_the_ordinary_ids(tokenizer):
    """Every sort of character, also those whose bytes SmolLM2's vocabulary lacks."""
    assert tokenizer.fast is not None, tokenizer.reason
    seen = set()

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.text(max_size=30) | TEXTS, min_size=2, max_size=20))
    def check(texts):
        assert tokenizer.fast.encode_unchecked(texts) == encode_plain(tokenizer.hf, texts)
        seen.update(texts)

    check()
    assert len(seen) > 200 and sum(not text.isascii() for text in seen) > 100


def test_real_rows_have_the_ordinary_ids(tokenizer, dolly):
    texts = load_examples(dolly)[0].texts("response")
    assert tokenizer.fast.encode(texts) == encode_plain(tokenizer.hf, texts) and len(texts) == 5983


def test_a_fast_route_that_differs_is_not_taken(smollm, monkeypatch):
    """Found at load by the hard texts, or in a call by its sample: then the whole call is the ordinary tokenizer's."""
    texts = [example.response for example in load_examples("quickstart")[0]]
    plain = encode_plain(smollm.hf, texts)

    class Wrong:
        def encode_batch_list(self, texts):
            return [[0, *ids] for ids in encode_plain(smollm.hf, texts)]

        @staticmethod
        def from_json(definition):
            return Wrong()

    fast = replace(smollm).fast
    monkeypatch.setattr(fast, "backend", Wrong())
    assert fast.encode(texts) == plain and len(plain) == 400
    monkeypatch.setattr("gigatoken.Tokenizer", Wrong)
    assert build_fast_tokenizer(smollm.hf) == (None, "gigatoken gives other ids for this tokenizer")


def test_a_kind_of_tokenizer_that_it_does_not_know_takes_the_ordinary_route():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "</s>": 1, "Hello": 2, "there": 3}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    hf = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    fast, reason = build_fast_tokenizer(hf)
    assert fast is None and reason.startswith("gigatoken ")
    assert encode_plain(hf, ["Hello there Hello"]) == [[2, 3, 2]] and len(HARD_TEXTS) > 5


def test_the_same_after_save_and_reload(tokenizer, tmp_path):
    tokenizer.encode_continuations(["<s> changes no state"])
    tokenizer.hf.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert again.fingerprint == tokenizer.fingerprint
    template = load_template("blog")
    first, second = (encode_examples([EXAMPLE], template, t, 2048) for t in (tokenizer, again))
    assert first.input_ids.tolist() == second.input_ids.tolist()
    assert first.input_ids[0] == tokenizer.bos_id and first.targets[-1] == tokenizer.eos_id


@pytest.mark.parametrize("flags", [{}, {"add_bos_token": True, "add_eos_token": True}], ids=["no flags", "flags"])
def test_the_tokenizers_own_flags_change_no_id(sentencepiece_folder, llama, tmp_path, flags):
    shutil.copytree(sentencepiece_folder, tmp_path / "base")
    config = tmp_path / "base" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | flags))
    flagged = load_tokenizer(str(tmp_path / "base"))
    assert (flagged.hf("a").input_ids[-1] == flagged.eos_id) == bool(flags)  # the flag does something
    first, second = (encode_examples([EXAMPLE], load_template("blog"), t, 2048) for t in (llama, flagged))
    assert first.input_ids.tolist() == second.input_ids.tolist()
    assert first.targets.tolist() == second.targets.tolist()


def test_fingerprints_tell_tokenizers_apart(smollm, llama):
    assert smollm.fingerprint != llama.fingerprint
    assert len(smollm.fingerprint) == len(llama.fingerprint) == 16


def test_a_base_without_tokenizer_is_refused(tmp_path, sentencepiece_folder):
    with pytest.raises(
        UserError, match=r"absent: no such folder \(for the quickstart model: revinst fetch quickstart\)"
    ):
        load_tokenizer(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="no tokenizer could be loaded"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(UserError, match="nobody/nothing: no tokenizer could be loaded"):
        load_tokenizer("nobody/nothing")


def test_looks_local(tmp_path, monkeypatch):
    names = ["./a", "/a/b", "~/a", "models/a/b", "a/b", "gpt2"]
    assert [looks_local(name) for name in names] == [True, True, True, True, False, False]
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert looks_local("a/b")
