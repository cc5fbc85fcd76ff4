"""What a GGUF file must know of the template that its prompts have."""

import pytest
from transformers import AutoTokenizer

from revinst.data.prompt import load_template
from revinst.export.gguf_tokenizer import begins_with_mark
from revinst.export.standalone import begins_with_text


@pytest.mark.parametrize(
    ("start", "is_text"), [("{{ bos_token }}[INST] ", False), ("</s>", False), ("User: ", True), ("[INST] ", True)]
)
def test_a_chat_template_may_begin_with_a_special_token(llama, sentencepiece_folder, start, is_text):
    hf = AutoTokenizer.from_pretrained(sentencepiece_folder)
    hf.chat_template = start + "{% for message in messages %}{{ message.content }}{% endfor %}"
    assert begins_with_text(load_template("chat", hf), llama) == is_text
    assert begins_with_text(load_template("blog"), llama)


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer", "marks"),
    [
        ({"type": "Metaspace", "prepend_scheme": "first"}, None, {True: True, False: False}),
        ({"type": "Metaspace", "prepend_scheme": "always"}, None, {True: True, False: True}),
        ({"type": "Metaspace", "prepend_scheme": "never"}, None, {True: False, False: False}),
        (None, {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]}, {True: True, False: True}),
        ({"type": "Split"}, {"type": "Replace", "content": "▁"}, {True: False, False: False}),
    ],
)
def test_word_mark_before_a_prompt(pre_tokenizer, normalizer, marks):
    definition = {"pre_tokenizer": pre_tokenizer, "normalizer": normalizer}
    assert {begins: begins_with_mark(definition, begins) for begins in marks} == marks
