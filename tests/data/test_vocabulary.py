"""Tokenizer and embedding of different length, several ends, and tokenizer files that every reader takes alike."""

import json
from pathlib import Path

import pytest
from transformers import AddedToken, AutoTokenizer, GenerationConfig, LlamaConfig

from revinst.data.tokenizer import Tokenizer, load_tokenizer
from revinst.data.tokenizer_files import write_tokenizer
from revinst.errors import UserError


def write_base(folder: Path, tokenizer: Path, rows: int, tokens: dict[str, bool] | None = None, **options) -> Path:
    """A base's folder without weights, whose tokenizer got these tokens behind its own. tokens: whether special."""
    hf = AutoTokenizer.from_pretrained(tokenizer, **options)
    for content, special in (tokens or {}).items():
        hf.add_tokens(AddedToken(content, special=special, normalized=False), special_tokens=special)
    hf.save_pretrained(folder)
    LlamaConfig(vocab_size=rows, eos_token_id=2).save_pretrained(folder)
    return folder


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def llama_2(sentencepiece_folder, tmp_path) -> Path:
    """As Llama 2's: one id more than rows, and it is the padding token."""
    folder = write_base(tmp_path / "llama-2", sentencepiece_folder, 1000, {"<pad>": True, "<mine>": False})
    change(folder, "tokenizer_config.json", pad_token="<pad>")
    assert max(AutoTokenizer.from_pretrained(folder).get_vocab().values()) == 1001
    return folder


def test_added_tokens_without_a_row_are_text(llama_2, llama):
    """Also one that is not special, which transformers finds inside any text."""
    tokenizer = load_tokenizer(str(llama_2))
    assert tokenizer.rowless == ["<pad>", "<mine>"] and tokenizer.vocab_size == 1000
    for text in ("a <pad> b", "<mine>", "x<mine><pad>"):
        for parse_special in (False, True):
            ids = tokenizer.encode_fixed(text, parse_special)
            assert max(ids) < 1000 and tokenizer.decode(ids) == text
        assert tokenizer.encode_continuations([text, text]) == llama.encode_continuations([text, text])
    assert tokenizer.pad_id == tokenizer.named_pad_id == 0 and tokenizer.bos_id == 1
    assert load_tokenizer(str(llama_2)).fingerprint == tokenizer.fingerprint


def test_enough_rows_leave_the_tokenizer_as_it_is(sentencepiece_folder, tmp_path):
    tokens = {"<pad>": True, "<mine>": False}
    tokenizer = load_tokenizer(str(write_base(tmp_path / "base", sentencepiece_folder, 1024, tokens)))
    assert tokenizer.rowless == [] and tokenizer.encode_fixed("<mine>") == [1001]


@pytest.mark.parametrize(
    ("rows", "tokens", "named", "says"),
    [
        (990, {}, {}, "has id 999 and its embedding 990 rows"),
        (1000, {"<end>": True}, {"eos_token": "<end>"}, "'<end>' of its tokenizer has id 1000 and its embedding 1000"),
        (1000, {"<begin>": True}, {"bos_token": "<begin>"}, "'<begin>' of its tokenizer has id 1000"),
    ],
)
def test_a_tokenizer_that_is_not_the_bases_is_refused(sentencepiece_folder, tmp_path, rows, tokens, named, says):
    folder = write_base(tmp_path / "base", sentencepiece_folder, rows, tokens)
    change(folder, "tokenizer_config.json", **named)
    with pytest.raises(UserError, match=says):
        load_tokenizer(str(folder)).check_belongs("base")


def test_ends_are_those_of_the_base(sentencepiece_folder, llama, tmp_path):
    """Special tokens of generation_config.json, else of config.json: there the default of a class may be any word."""
    folder = write_base(tmp_path / "base", sentencepiece_folder, 1000)
    first = load_tokenizer(str(folder))
    assert first.eos_ids == [2]
    GenerationConfig(eos_token_id=[0, 2, 500, 999]).save_pretrained(folder)
    several = load_tokenizer(str(folder))
    assert several.eos_ids == [2, 0] and several.eos_id == 2, "ids 500 and 999 are words"
    assert several.fingerprint != first.fingerprint == llama.fingerprint
    (folder / "generation_config.json").unlink()
    change(folder, "config.json", eos_token_id=[1, 2])
    assert load_tokenizer(str(folder)).eos_ids == [2, 1]


def tokens_of(folder: Path, text: str = "Say hi.") -> list[str]:
    return AutoTokenizer.from_pretrained(folder)(text).tokens()


@pytest.mark.parametrize(
    "kind", ["appends_eos", "adds_nothing", "llama_2", pytest.param("smollm", marks=pytest.mark.wide)]
)
def test_files_begin_with_bos_and_end_with_the_prompt(kind, sentencepiece_folder, llama_2, base, tmp_path):
    flags = {"appends_eos": {"add_bos_token": True, "add_eos_token": True}, "adds_nothing": {}}
    folder = {"llama_2": llama_2, "smollm": Path(base)}.get(kind)
    folder = folder or write_base(tmp_path / "base", sentencepiece_folder, 1000, **flags[kind])
    assert (tokens_of(folder)[-1] == "</s>") == (kind == "appends_eos")
    tokenizer = load_tokenizer(str(folder))
    out = tmp_path / "out"
    write_tokenizer(tokenizer, out)
    own = tokenizer.hf.convert_ids_to_tokens(tokenizer.encode_fixed("Say hi."))
    assert tokens_of(out) == [tokenizer.hf.bos_token, *own]
    assert AutoTokenizer.from_pretrained(out)("a", "b").tokens().count(tokenizer.hf.bos_token) == 1
    check_readers_settings(out, tokenizer)
    write_tokenizer(tokenizer, out, add_bos=False)
    assert tokens_of(out) == own, "a template that spells its BOS"


def check_readers_settings(out: Path, tokenizer: Tokenizer) -> None:
    """What transformers 4.x stumbles over: an unknown class, and a list of extra tokens where it wants names."""
    written = json.loads((out / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast" and "extra_special_tokens" not in written
    again = load_tokenizer(str(out))
    assert again.named_pad_id == tokenizer.named_pad_id < again.vocab_size == tokenizer.vocab_size
    texts = ["naïve Ελληνικά 中文 🙂", "<pad> x", "\n\nDon't: 1,234.5"]
    assert again.encode_continuations(texts) == tokenizer.encode_continuations(texts)
    assert json.loads((out / "tokenizer.json").read_text())["padding"] is None


def test_padding_and_cutting_of_tokenizer_json_are_left_behind(sentencepiece_folder, tmp_path):
    """Some bases' own file pads and cuts each text, and a server that reads it alone would too."""
    folder = write_base(tmp_path / "base", sentencepiece_folder, 1000)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.hf.backend_tokenizer.enable_truncation(4)
    tokenizer.hf.backend_tokenizer.enable_padding(length=16)
    write_tokenizer(tokenizer, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert written["truncation"] is None and written["padding"] is None


def test_a_tokenizer_of_another_package_is_refused(tmp_path):
    folder = tmp_path / "ctrl"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({"<unk>": 0, "a</w>": 1}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CTRLTokenizer"}))
    with pytest.raises(UserError, match=r"its tokenizer \(CTRLTokenizer\) is none of the tokenizers package"):
        load_tokenizer(str(folder))
