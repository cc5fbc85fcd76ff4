"""The only spelling of the template: training, generation and scoring all render prompts here.

A template is a small text file with the slots `{instruction}`, `{context}` and `{response}`. Its last slot is the
target, what the model learns to write; the text before is the prompt:

    ### Input:                  fixed text
    {response}                  a slot: somebody's text, in which nothing is ever parsed
                                fixed text
    ### Response:
    {instruction}               the target

A paragraph (between blank lines) with a `{context}` slot is left out for rows whose context is empty or not wanted.
"""

import datetime
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from revinst.config.words import LANGUAGES
from revinst.data.examples import Example
from revinst.errors import UserError

SLOT = re.compile(r"\{(instruction|context|response)\}")

CHAT_REQUEST = "Write the instruction that the following text answers. Reply with the instruction only.\n\n"
CHAT_ANSWER = "An answer."
HARD_TEXT = (
    'Of "all" <kinds>, it\'s & \\n {so}:\n\n  it went\ton'  # what a chat template that escapes, trims or cuts changes
)
OPENED_THOUGHT = re.compile(r"(<(\w+:)?think(ing)?(:\w+)?>|\[THINK\])\s*\Z")


# Some chat templates tell the day. It is always the same here, the one that Llama 3.1's has where nobody says: with
# today's a run could not be gone on with tomorrow.
DAY = datetime.datetime(2024, 7, 26)
DAY_PARTS = "".join(f"|replace('%{c}', '{DAY.strftime('%' + c)}')" for c in ("-d", "d", *"aAbBmyYjHIMSpF"))
SAME_DAY = f"{{%- macro strftime_now(format) -%}}{{{{ format{DAY_PARTS} }}}}{{%- endmacro -%}}"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a prompt: the template's own `fixed` text, or somebody's text from the slot `source`."""

    text: str
    source: str = ""  # "" for fixed text, else the Example field it came from


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads (`pieces`, in order) and what it learns to write (`target`)."""

    pieces: list[Piece]
    target: str

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template; `target` is the field that the model learns to write."""

    name: str
    text: str
    target: str
    has_bos: bool = False  # a chat template spells its own beginning

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def headers(self) -> list[str]:
        """Lines that begin a section, `### Input:` and so on; a model that writes one has left its target.

        They are the first lines of paragraphs that go on below. A chat template's sections begin with special tokens.
        """
        paragraphs = [paragraph.split("\n") for paragraph in self.text.split("\n\n")]
        lines = [lines[0].strip() for lines in paragraphs if len(lines) > 1 and not SLOT.search(lines[0])]
        return [] if self.name == "chat" else list(dict.fromkeys(filter(None, lines)))

    def new_tokens(self, seq_len: int) -> int:
        """That what it writes may have where nothing was asked for: an instruction is short, a letter is not."""
        return 100 if self.target == "instruction" else min(400, seq_len // 2)

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields that an example may not leave empty for this template's prompt; the target is not among them."""
        return tuple(field for field in SLOT.findall(self.text) if field not in ("context", self.target))


def load_template(name: str, chat_template_of: Any = None) -> Template:
    """Loads a template shipped with revinst, the base's own `chat`, or a text file.

    Shipped are `blog`, `alpaca`, `forward`, and the blog's prompt in other languages, `blog.zh` and so on.

    chat_template_of: the base's tokenizer as transformers loads it; read for `chat` only.
    """
    if name == "chat":
        return build_chat_template(chat_template_of)
    path = find_template(name)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: a template must be a UTF-8 text file") from None
    return parse_template(name, text.rstrip("\n"))


def find_template(name: str) -> Path:
    """The file of one that is not `chat`. Raises UserError where there is none."""
    shipped, path = Path(str(files("revinst.data").joinpath("templates", f"{name}.txt"))), Path(name).expanduser()
    if not shipped.is_file() and not path.is_file():
        languages = ", ".join(LANGUAGES)
        raise UserError(
            f"data.template {name!r}: neither blog, alpaca, chat, forward nor a file, nor blog.LANGUAGE ({languages})"
        )
    return shipped if shipped.is_file() else path


def parse_template(name: str, text: str) -> Template:
    slots = SLOT.findall(text)
    without_context = [slot for slot in slots if slot != "context"]
    target = without_context[-1] if without_context else ""
    if len(set(slots)) < len(slots) or len(without_context) < 2 or not text.endswith(f"{{{target}}}"):
        raise UserError(
            f"data.template {name!r}: it needs a prompt slot and, as its very end, the target's slot "
            "({instruction} and {response}, either way round), each once; {context} is optional"
        )
    if SLOT.findall(drop_context(text)) != without_context:
        raise UserError(
            f"data.template {name!r}: {{context}} needs a paragraph of its own before the target, between blank lines, "
            "because that paragraph is left out for rows without context"
        )
    return Template(name, text, target)


def build_chat_template(tokenizer: Any) -> Template:
    """The base's chat template around our request, the text as the user's turn, the instruction as the answer."""
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise UserError("data.template chat: this base's tokenizer has no chat template; use blog or alpaca")
    content = CHAT_REQUEST + "Context: {context}\n\n{response}"
    text, hard = (render_chat(tokenizer, content.replace("{response}", slot)) for slot in ("{response}", HARD_TEXT))
    if content not in text or hard != text.replace("{response}", HARD_TEXT):
        raise bad_chat("does not render a question as it is written")
    bos = tokenizer.bos_token
    parsed = parse_template("chat", text + "{instruction}")
    return Template("chat", parsed.text, parsed.target, has_bos=bool(bos) and text.lstrip().startswith(bos))


def render_chat(tokenizer: Any, content: str) -> str:
    """One turn of the user in the base's chat template, and what begins an answer, without thinking where it knows how.

    What begins an answer is asked twice: for one to be written, and before one that is there. Where both agree but for
    whitespace the first counts. The second may go on, with a turn's name or a channel, and may lack a thought that the
    first opens, in which an answer would be lost. Raises UserError where the template needs more than that.
    """
    question = {"role": "user", "content": content}
    asked = render_turns(tokenizer, [question], add_generation_prompt=True)
    try:
        turns = render_turns(tokenizer, [question, {"role": "assistant", "content": CHAT_ANSWER}])
    except UserError:
        turns = ""
    before, found, _ = turns.rpartition(CHAT_ANSWER)
    goes_on = bool(found) and before.startswith(asked.rstrip()) and before.rstrip() != asked.rstrip()
    if not goes_on and not OPENED_THOUGHT.search(asked):
        return asked
    if not goes_on and not (found and content in before and asked.startswith(before)):
        raise bad_chat("begins an answer with a thought, and shows none without")
    return before


def render_turns(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
    options = {"tokenize": False, "add_generation_prompt": add_generation_prompt, "enable_thinking": False}
    try:
        template = tokenizer.get_chat_template()
        template = SAME_DAY + template if "strftime_now" in template else template
        return tokenizer.apply_chat_template(messages, chat_template=template, **options)
    except Exception as error:  # a chat template is somebody's program
        raise bad_chat(f"does not render a lone question ({' '.join(str(error).split())[:200]})") from error


def bad_chat(what: str) -> UserError:
    return UserError(
        f"data.template chat: this base's chat template {what}; to train it nevertheless, write the prompt into a text "
        "file and set data.template to that"
    )


def render_prompt(template: Template, example: Example, with_context: bool = False) -> Prompt:
    """Fills the template. Slots are filled once, in place: `{response}` inside somebody's text stays as it is."""
    layout = split_template(template.text, with_context and bool(example.context))
    pieces = [Piece(getattr(example, piece.source), piece.source) if piece.source else piece for piece in layout]
    return Prompt(pieces, target=getattr(example, template.target))


@cache
def split_template(text: str, has_context: bool) -> tuple[Piece, ...]:
    """The prompt's pieces, a slot's as an empty text with its field."""
    parts = SLOT.split(text if has_context else drop_context(text))[:-2]  # the last two are the target's slot and ""
    return tuple(Piece("", part) if number % 2 else Piece(part) for number, part in enumerate(parts) if part)


def drop_context(text: str) -> str:
    """The template without its `{context}` paragraph: `"a\\n\\nb {context}\\n\\nc"` -> `"a\\n\\nc"`."""
    paragraphs = re.split(r"(?<=\n)\n", text)
    kept = [paragraph for paragraph in paragraphs if "{context}" not in paragraph]
    return "\n".join(kept)


def prompt_source(prompt: Prompt) -> str:
    """The text that the prompt is about: what stands in its slot, and that is not the context."""
    return next(piece.text for piece in prompt.pieces if piece.source and piece.source != "context")


def prompt_lines(template: Template) -> list[str]:
    """The template's own lines that hold no slot: what no prediction should repeat."""
    return [line.strip() for line in template.text.splitlines() if len(line.strip()) > 3 and "{" not in line]


def prompt_text(template: Template) -> str:
    """The template up to its target, without the paragraph of the optional context."""
    return drop_context(template.text).removesuffix(f"{{{template.target}}}")
