"""Cases of public test suites for stripping quotes and signatures, read out of their fixtures and their tests' sources.

Nothing is run or copied. What the source of a test doesn't say in a literal is not read.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from itertools import pairwise
from pathlib import Path

from revinst.corpus.mail_text import html_to_text, text_of

Piece = str | re.Pattern[str]


@dataclass
class Case:
    """own: all that must be left, if the suite says it. stays, goes: what must stand in it, and what must not."""

    name: str
    text: str
    own: str | None = None
    stays: tuple[Piece, ...] = ()
    goes: tuple[Piece, ...] = ()


def read_text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def unescape(text: str) -> str:
    return text.replace("\\\n", "").replace("\\n", "\n").replace("\\'", "'").replace('\\"', '"')


def read_trimmer(folder: Path) -> Iterator[Case]:
    for path in sorted((folder / "test/emails").glob("*.txt")):
        yield Case(path.stem, read_text(path), read_text(folder / "test/trimmed" / path.name))


# A function of a test and an assertion in it, in four languages.
FUNCTION = re.compile(r"^\s*(?:def |(?:public |export )?function )te[sx]t\w*", re.MULTILINE)
SECOND_FILE = re.compile(r"(?<=;)\s+// Find flaw")  # one test that has two
ASSERTION = re.compile(r"^\s*(?:self\.|\$this->)?(?:assert\w*|test\.(?:equal|deepEqual))\b", re.MULTILINE)
REGEX_CONSTANT = re.compile(r"const (\w+) = (/.*?/m?);")
LITERAL = re.compile(
    r"""'/(?P<php>.*?)/[ms]*'|(?<![\w/*])/(?P<regex>(?:[^/\n\\ ]|\\.)(?:[^/\n\\]|\\.)*)/[ms]*"""
    r"""|"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|<<<EMAIL\n(?P<here>.*?)\n\s*EMAIL"""
    r"""|(?:self::|static::)?(?P<name>COMMON_FIRST_FRAGMENT)""",
    re.DOTALL,
)
COMMON = re.compile(r"COMMON_FIRST_FRAGMENT\s*=\s*(['\"])(.*?)\1\s*;", re.DOTALL)
PART = re.compile(r"(?:fragments|replies)\[(?P<number>\d)\](?:\.(?P<part>\w+))?")
WHOLE = re.compile(r"\.reply\b|parse_?[rR]eply|parsed_reply|visible_text|getVisibleText|latest_reply")
COMPARES = re.compile(r"==|assert_?[eE]quals?|test\.equal")
NEGATED = re.compile(r"\bnot in\b|Not(?:In|Contains)|NotContains")
SINGLE = re.compile(
    r"(?:\(|\s)1, (?:len\(message\.fragments\)|reply\.fragments\.size|fragments\.length|\$email->getFrag)"
)
OF_OTHERS = re.compile(
    r"\A\^(?:On\b|>|_|-)|\A\^On \[\^"
)  # how a pattern begins that is held against a quote or a signature
MIN_PIECE = 4


def read_fragments(folder: Path) -> Iterator[Case]:
    """Suites whose tests name a file, and what is in the reply or in a fragment of it."""
    sources = [path for kind in ("rb", "py", "js", "php") for path in sorted(folder.glob(f"test*/**/*.{kind}"))]
    files = {path.stem: path for path in folder.glob("test*/**/*.txt")}
    for source in sources:
        text = read_text(source)
        for name, regex in REGEX_CONSTANT.findall(text):
            text = text.replace(f"{name}.test", f"{regex}.test")
        common = COMMON.search(text)
        starts = sorted(match.start() for pattern in (FUNCTION, SECOND_FILE) for match in pattern.finditer(text))
        for start, end in pairwise([*starts, len(text)]):
            block = text[start:end]
            named = next((name for name in re.findall(r"[\w-]+", block) if name in files), None)
            if named and "str_replace" not in block:
                function = next(iter(re.findall(r"te[sx]t\w+", block[:80])), "")
                case = Case(f"{named} {function}".strip(), read_text(files[named]))
                read_assertions(case, block, unescape(common[2]) if common else "")
                if case.own is not None or case.stays or case.goes:
                    yield case
        yield from read_providers(text, files)


def read_providers(text: str, files: dict[str, Path]) -> Iterator[Case]:
    """Lists of lines that are put into a mail below what is own in it."""
    for name in ("DATE", "FROM"):
        listed = re.search(rf"function get{name.title()}\w+\(\)\s*{{(.*?)\n    }}", text, re.DOTALL)
        for line in re.findall(r"array\((?:'(.*?)'|\"(.*?)\")\)", listed[1]) if listed else []:
            mail = read_text(files[f"email_with_{name.lower()}_headers"])
            yield Case(f"{name} {''.join(line)}", mail.replace(f"[{name}]", "".join(line)), mail.split("[")[0])


def read_assertions(case: Case, block: str, common: str) -> None:
    first: str | None = None
    if SINGLE.search(block):
        case.own = case.text
    starts = [match.start() for match in ASSERTION.finditer(block)] + [len(block)]
    for start, end in pairwise(starts):
        statement = block[start:end]
        part, literal = PART.search(statement), LITERAL.search(statement)
        if not literal or not (part or WHOLE.search(statement)):
            continue
        is_first = not part or (part["number"] == "0" and part["part"] not in ("signatures", "headers"))
        piece = read_piece(literal, statement, common)
        if is_first and isinstance(piece, str) and is_exact(statement):
            first = piece if piece.strip() else first
        elif part and part["part"] == "content" and "replies" in statement:
            continue  # all of one message, its quote included
        elif stays(piece, statement, is_first):
            case.stays += (piece,)
        elif isinstance(piece, re.Pattern) or len(piece) >= MIN_PIECE:
            case.goes += (piece,)
    if first is not None and case.stays:
        case.stays += (first,)
    elif first is not None:
        case.own = first if case.own is None else case.own


def read_piece(literal: re.Match[str], statement: str, common: str) -> Piece:
    found = next(filter(None, (literal[key] for key in literal.re.groupindex)), "")
    if literal["php"] or literal["regex"] or "re.match" in statement:
        return re.compile(found, re.MULTILINE)
    return common if literal["name"] else found if literal["here"] else unescape(found)


def is_exact(statement: str) -> bool:
    return bool(COMPARES.search(statement)) and "true," not in statement and " in " not in statement


def stays(piece: Piece, statement: str, is_first: bool) -> bool:
    pattern = piece.pattern if isinstance(piece, re.Pattern) else ""
    if is_first:
        return not NEGATED.search(statement) and "[^" not in pattern
    return pattern.startswith("^") and not OF_OTHERS.match(pattern)


def read_quotequail(folder: Path) -> Iterator[Case]:
    """Of each text its parts, with whether they are the reply: without the line that introduces the quote."""
    for path in sorted((folder / "tests").glob("test_*quote*.py")) + sorted((folder / "tests").glob("test_unwrap*.py")):
        is_html = path.stem.endswith("html")
        for values in parametrized(path):
            text, told = values[0], values[-1]
            if not isinstance(text, str):
                continue
            name = f"{path.stem} {text[:60]!r}"
            if text.endswith(".html"):
                text = read_text(folder / "tests/files" / text)
            if isinstance(told, list):
                own = "\n".join(part for is_own, part in told if is_own)
            elif isinstance(told, dict):
                parts = [told.get(f"{'html' if is_html else 'text'}_{side}", "") for side in ("top", "bottom")]
                own = "\n".join(parts)
            else:
                continue
            yield Case(name, html_to_text(text), html_to_text(own)) if is_html else Case(name, text, own)
    for path in sorted((folder / "tests/files").glob("*_unwrapped_top.html")):
        text = read_text(path.with_name(path.name.replace("_unwrapped_top", "")))
        yield Case(path.stem, html_to_text(text), html_to_text(read_text(path)))


def parametrized(path: Path) -> Iterator[tuple]:
    """The values of pytest's parameters that are literals."""
    for node in ast.walk(ast.parse(read_text(path))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "parametrize" and len(node.args) > 1:
            for values in getattr(node.args[1], "elts", []):
                try:
                    yield tuple(ast.literal_eval(values))
                except ValueError:
                    continue


def read_talon(folder: Path) -> Iterator[Case]:
    fixtures = folder / "tests/fixtures"
    for path in sorted((fixtures / "standard_replies").glob("*.eml")):
        expected = path.with_name(path.stem + "_reply_text")
        text = text_of(message_from_bytes(path.read_bytes())) or ""
        yield Case(path.name, text, read_text(expected) if expected.is_file() else "Hello")
    for path in sorted((fixtures / "html_replies").glob("*.html")):
        yield Case(path.name, html_to_text(read_text(path)), "Hi. I am fine.\n\nThanks,\nAlex")
    for path in sorted((fixtures / "signature/emails/stripped").glob("*_body")):
        signature = path.with_name(path.name.replace("_body", "_signature"))
        body = read_text(path)
        yield Case(path.name, body, body.replace(read_text(signature).strip(), "") if signature.is_file() else body)
    known = {
        "OLK_SRC_BODY_SECTION": read_text(fixtures / "OLK_SRC_BODY_SECTION.html"),
        "REPLY_SEPARATED_BY_HR": read_text(fixtures / "reply-separated-by-hr.html"),
    }
    yield from read_literals(folder / "tests/text_quotations_test.py", {}, lambda text: text)
    yield from read_literals(folder / "tests/html_quotations_test.py", known, html_to_text)


def read_literals(path: Path, known: dict[str, str], convert: Callable[[str], str]) -> Iterator[Case]:
    """Tests that compare a string with what is extracted from another, both in the test itself."""
    tree = ast.parse(read_text(path))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.decorator_list]
    for function in functions:
        calls = [{}] if not function.args.args else list(find_calls(tree, function))
        for arguments in calls:
            names: dict[str, str] = known | arguments
            for statement in function.body:
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    names[statement.targets[0].id] = resolve(statement.value, names)
                call = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "eq_" and len(call.args) >= 2:
                    own, text = (resolve(arg, names) for arg in call.args[:2])
                    own, text = (text, own) if own.startswith(EXTRACTED) else (own, text)
                    if text.startswith(EXTRACTED) and own != UNKNOWN and text != EXTRACTED + UNKNOWN:
                        name = f"{function.name} {' '.join(arguments.values())}".strip()
                        yield Case(name, convert(text.removeprefix(EXTRACTED)), convert(own))


UNKNOWN, EXTRACTED = "\0unknown", "\0extracted from "


def find_calls(tree: ast.Module, function: ast.FunctionDef) -> Iterator[dict[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function.name:
            names = [argument.arg for argument in function.args.args]
            yield dict(zip(names, (resolve(argument, {}) for argument in node.args), strict=True))


def resolve(node: ast.expr, names: dict[str, str]) -> str:
    """A string that an expression stands for, as far as a test needs it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return names.get(node.id, UNKNOWN)
    if isinstance(node, ast.Call):
        called = getattr(node.func, "attr", "")
        if called.startswith("extract_from"):
            return EXTRACTED + resolve(node.args[0], names)
        if called == "format" and isinstance(node.func, ast.Attribute):
            return resolve(node.func.value, names).format(*(resolve(each, names) for each in node.args))
        if called in ("sub", "text_type"):
            return resolve(node.args[-1], names)
    return UNKNOWN


def read_forwards(folder: Path) -> Iterator[Case]:
    """Nothing of the forwarded text and its sender may stay; what was written above it must."""
    source = read_text(folder / "test/index.js")
    told = {name: unescape(text) for name, text in re.findall(r'const (\w+)\s*=\s*"((?:[^"\\]|\\.)*)";', source)}
    sentences = tuple(part for part in re.split(r"(?<=\.)\s+", told["BODY"]) if len(part) > 20)
    for path in sorted((folder / "test/fixtures").glob("*_body*.txt")):
        text = read_text(path)
        own = told["MESSAGE"] if "".join(told["MESSAGE"].split()) in "".join(text.split()) else ""
        yield Case(path.stem, text, None, (own,), (*sentences, told["FROM_ADDRESS"], told["FROM_NAME"]))


SUITES: dict[str, Callable[[Path], Iterator[Case]]] = {
    "email_reply_trimmer": read_trimmer,
    "email_reply_parser": read_fragments,
    "email-reply-parser": read_fragments,
    "crisp-email-reply-parser": read_fragments,
    "EmailReplyParser": read_fragments,
    "mail-parser-reply": read_fragments,
    "quotequail": read_quotequail,
    "talon": read_talon,
    "email-forward-parser": read_forwards,
}
