"""The template: what is rendered, what is left out, what is refused."""

from copy import deepcopy

import pytest

from revinst.config.words import LANGUAGES
from revinst.data.examples import Example
from revinst.data.language import find_language
from revinst.data.prompt import Piece, drop_context, load_template, parse_template, render_prompt
from revinst.errors import UserError

EXAMPLE = Example("1", "Who sings?", "The bird is on the wire.", "A bird sings.", "")
BLOG = """\
### Instruction:
Use the Input below to create an instruction, which could have been used to generate the input using an LLM.

### Input:
A bird sings.

### Response:
"""
FORWARD = "### Instruction:\nWho sings?\n\n### Input:\nThe bird is on the wire.\n\n### Response:\n"


def test_the_blog_template_letter_by_letter():
    prompt = render_prompt(load_template("blog"), EXAMPLE)
    assert (prompt.text, prompt.target) == (BLOG, "Who sings?")
    assert [piece.text for piece in prompt.pieces if piece.source] == ["A bird sings."]


@pytest.mark.parametrize("name", ["blog", "alpaca"])
def test_context_is_dropped_or_included(name):
    template = load_template(name)
    without, included = (render_prompt(template, EXAMPLE, with_context).text for with_context in (False, True))
    section = "### Context:\nThe bird is on the wire.\n\n"
    assert included.count(section) == 1 and included.replace(section, "") == without
    assert without.endswith("### Input:\nA bird sings.\n\n### Response:\n")


TRANSLATIONS = "ar de el es fr he hi it ja ko nl pl pt ru th tr uk zh".split()  # noqa: SIM905


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_blogs_prompt_in_other_languages(language):
    """As the English one in form, with nothing of it left; each asks for the instruction in its own language."""
    template, english = load_template(f"blog.{language}"), load_template("blog")
    prompt = render_prompt(template, EXAMPLE, with_context=True)
    assert prompt.target == "Who sings?" and template.hash != english.hash
    assert len(template.headers) == 4 and not {*template.headers} & {*english.headers} - {"### Input:", "### Context:"}
    lines, expected = template.text.splitlines(), english.text.splitlines()
    assert len(lines) == len(expected) and find_language(lines[1]) == language


def test_all_translations_are_tested():
    assert list(LANGUAGES) == TRANSLATIONS


def test_an_empty_context_leaves_no_heading():
    example = Example("1", "Who sings?", "", "A bird sings.", "")
    assert render_prompt(load_template("blog"), example, with_context=True).text == BLOG


def test_the_forward_template_answers():
    template = load_template("forward")
    prompt = render_prompt(template, EXAMPLE, with_context=True)
    assert (prompt.text, prompt.target) == (FORWARD, "A bird sings.")
    assert (template.target, template.needs) == ("response", ("instruction",))
    assert load_template("blog").needs == ("response",)


def test_slots_inside_somebodys_text_are_not_filled():
    text = "Write {instruction} or {context} or {response}, {0} and {{braces}}."
    prompt = render_prompt(load_template("blog"), Example("1", "{response}", "{instruction}", text, ""), True)
    assert Piece(text, "response") in prompt.pieces and Piece("{instruction}", "context") in prompt.pieces
    assert prompt.target == "{response}"
    assert len(prompt.pieces) == 5


def test_a_template_file(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbfText: {response}\r\n\r\nTask:\r\n{instruction}\r\n\r\n")  # as Windows writes it
    template = load_template(str(path))
    assert render_prompt(template, EXAMPLE).text == "Text: A bird sings.\n\nTask:\n"


def test_the_hash_is_of_the_text():
    hashes = {load_template(name).hash for name in ("blog", "alpaca", "forward")}
    assert len(hashes) == 3
    assert load_template("blog").hash == parse_template("other name", load_template("blog").text).hash


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no slot", "a prompt slot and, as its very end"),
        ("only {instruction}", "a prompt slot and, as its very end"),
        ("{response}\n{instruction} and more", "a prompt slot and, as its very end"),
        ("{response}\n{instruction} ", "a prompt slot and, as its very end"),
        ("{response}\n{response}\n{instruction}", "each once"),
        ("{response}\n{insturction}", "a prompt slot and, as its very end"),
        ("{response}\n\n{context}", "a prompt slot and, as its very end"),
        ("{response}\n\n{instruction}\n\n{context}", "a prompt slot and, as its very end"),
        ("{context}\n\n{instruction}", "a prompt slot and, as its very end"),
        ("About {context}: {response}\n\n{instruction}", "paragraph of its own"),
        ("{response}\n\nAbout {context}:\n{instruction}", "paragraph of its own"),
    ],
)
def test_bad_templates_are_refused(text, reason):
    with pytest.raises(UserError, match=f"data.template 'mine': .*{reason}"):
        parse_template("mine", text)


def test_a_template_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="'blgo': neither blog, alpaca, chat, forward nor a file, nor blog"):
        load_template("blgo")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 {response}\n{instruction}")
    with pytest.raises(UserError, match="a template must be a UTF-8 text file"):
        load_template(str(tmp_path / "latin.txt"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\n\nb {context}\n\nc", "a\n\nc"),
        ("{context}\n\nc", "c"),
        ("a\n\n{context}\n\n\nc", "a\n\n\nc"),
        ("a\nb\n\nc", "a\nb\n\nc"),
    ],
)
def test_drop_context(text, kept):
    assert drop_context(text) == kept


def test_the_chat_template_is_the_bases_own(smollm):
    template = load_template("chat", smollm.hf)
    prompt = render_prompt(template, EXAMPLE)
    assert prompt.text.startswith("<|im_start|>system\n") and template.has_bos
    assert prompt.text.endswith("with the instruction only.\n\nA bird sings.<|im_end|>\n<|im_start|>assistant\n")
    included = render_prompt(template, EXAMPLE, with_context=True).text
    assert included.replace("Context: The bird is on the wire.\n\n", "") == prompt.text != included


@pytest.fixture
def chat_of(smollm):
    """The template that this chat template makes."""
    hf = deepcopy(smollm.hf)

    def load(text: str):
        hf.chat_template = text
        return load_template("chat", hf)

    return load


TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


@pytest.mark.parametrize(
    ("form", "day"),
    [
        *[("%d %b %Y", "26 Jul 2024"), ("%Y-%m-%d", "2024-07-26"), ("%A, %B %-d", "Friday, July 26")],
        *[("%I:%M %p", "12:00 AM"), ("%F", "2024-07-26")],
    ],
)
def test_a_chat_template_that_tells_the_day_always_tells_the_same(chat_of, form, day):
    """Where it may say the day, in a macro of its own too, and asks whether it can."""
    macro = "{% macro today() %}{{ strftime_now('FORM') }}{% endmacro %}".replace("FORM", form)
    said = "{% if strftime_now is defined %}<{{ today() }}>{% endif %}"
    assert chat_of(macro + said + TURNS).text.startswith(f"<{day}><user>Write the")


def test_a_chat_that_can_think_does_not(chat_of):
    think = "{% if enable_thinking is defined and not enable_thinking %}</think>{% else %}<think>{% endif %}"
    assert chat_of(TURNS + think).text.endswith("<assistant></think>{instruction}")


@pytest.mark.parametrize(
    "text", ["{{ raise_exception('tools!') }}", "{{ functions | tojson }}", "{% for t in tools %}{% endfor %}"]
)
def test_a_chat_template_that_needs_more_is_refused(chat_of, text):
    with pytest.raises(UserError, match="this base's chat template does not render a lone question"):
        chat_of(text + TURNS)


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ANSWERS = "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
HARMONY = "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
HARMONY += "<|message|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
INST = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
INST += "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
EMPTY = CHATML.replace("{{ m.content", "{{ '<think>\n\n</think>\n\n' if m.role == 'assistant' }}{{ m.content")


@pytest.mark.parametrize(
    ("text", "before"),
    [
        (CHATML, "<|im_end|>\n<|im_start|>assistant\n"),  # no word of `add_generation_prompt`
        (HARMONY, "<|end|><|start|>assistant<|channel|>final<|message|>"),
        (INST, " [/INST]"),
        (CHATML + ANSWERS, "<|im_end|>\n<|im_start|>assistant\n"),  # QwQ, DeepSeek-R1: always a thought
        (EMPTY + ANSWERS, "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (CHATML.replace("{% for", "{{ raise_exception('') if messages|length > 1 }}{% for"), "<|im_end|>\n"),
    ],
)
def test_an_answer_begins_as_in_the_chats_own_answers(chat_of, text, before):
    assert chat_of(text).text.endswith("only.\n\nContext: {context}\n\n{response}" + before + "{instruction}")


def test_a_thought_that_nothing_shows_closed_is_refused(chat_of):
    alone = "{{ raise_exception('') if messages|length > 1 }}"
    with pytest.raises(UserError, match="begins an answer with a thought"):
        chat_of(alone + CHATML + ANSWERS)


@pytest.mark.parametrize(
    "content",
    [
        *["m.content | e", "m.content | tojson", "m.content[:120]", "m.content | replace('\n\n', '\n')", "m.text"],
        *["m.content | replace('\t', ' ')", "m.content | indent", "m.content[0].text"],
    ],
)
def test_a_chat_template_that_changes_texts_is_refused(chat_of, content):
    with pytest.raises(UserError, match="does not render a question as it is written") as refused:
        chat_of("{% for m in messages %}<{{ m.role }}>{{ CONTENT }}{% endfor %}<assistant>".replace("CONTENT", content))
    assert "\n" not in str(refused.value)


def test_named_chat_templates_without_a_default_are_refused(chat_of):
    with pytest.raises(UserError, match=r"does not render a lone question \(This model has multiple chat templates"):
        chat_of({"rag": TURNS, "tool_use": TURNS})
    assert chat_of({"default": TURNS, "tool_use": ""}).text == chat_of(TURNS).text


def test_a_beginning_behind_whitespace_is_one(chat_of):
    assert chat_of("{{ ' ' ~ bos_token }}" + TURNS).has_bos and not chat_of(TURNS).has_bos


def test_a_base_without_chat_template_is_refused(llama):
    with pytest.raises(UserError, match="no chat template; use blog or alpaca"):
        load_template("chat", llama.hf)
