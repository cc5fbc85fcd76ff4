"""How `revinst corpus` strips quotes and signatures, held against public test suites, which are read where they lie.

    python scripts/quote_suites.py FOLDER [--show]

FOLDER has a checkout of each, under its name: discourse/email_reply_trimmer, github/email_reply_parser,
zapier/email-reply-parser, crisp-oss/email-reply-parser (as `crisp-email-reply-parser`), willdurand/EmailReplyParser,
alfonsrv/mail-parser-reply, closeio/quotequail, mailgun/talon, crisp-oss/email-forward-parser. Nothing of them
is copied. Cases whose expected text can't be read from the suite's source are not counted. Compared without white
space.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from itertools import pairwise
from pathlib import Path

from revinst.corpus.mail_text import html_to_text, text_of
from revinst.corpus.quotes import strip_quotes
from revinst.options import Parser


@dataclass
class Case:
    """own: what must be left; others: what must not stand in it, where the suite does not say what is left."""

    name: str
    text: str
    own: str = ""
    others: tuple[str, ...] = ()


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="print what came out of each case that fails")
    options = parser.parse_args()
    totals = {"pass": 0, "kept too much": 0, "lost own text": 0}
    for name, read in SUITES.items():
        counts, failures = dict.fromkeys(totals, 0), []
        for case in read(options.folder / name):
            verdict, found = judge(case)
            counts[verdict] += 1
            totals[verdict] += 1
            failures += [(verdict, case, found)] if verdict != "pass" else []
        print(f"{name}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
        for verdict, case, found in failures:
            print(f"    {verdict}: {case.name}")
            if options.show:
                print(f"      found:  {found[:1500]!r}\n      wanted: {case.own[:1500]!r}")
    print("all: " + ", ".join(f"{count} {verdict}" for verdict, count in totals.items()))


def judge(case: Case) -> tuple[str, str]:
    found = strip_quotes(case.text)
    left, wanted = squeeze(found), squeeze(case.own)
    if case.others:
        has_others = any(squeeze(part) in left for part in case.others)
        verdict = "kept too much" if has_others else "pass" if wanted in left else "lost own text"
    else:
        verdict = "pass" if left == wanted else "kept too much" if len(left) > len(wanted) else "lost own text"
    return verdict, found


def squeeze(text: str) -> str:
    return "".join(text.split())


def read_text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def read_trimmer(folder: Path) -> Iterator[Case]:
    for path in sorted((folder / "test/emails").glob("*.txt")):
        yield Case(path.stem, read_text(path), read_text(folder / "test/trimmed" / path.name))


# A function of a test, in four languages; a string in it that an assertion compares with the reply or its first part.
FUNCTION = re.compile(r"^\s*(?:def |(?:public |export )?function )test\w*", re.MULTILINE)
NAMED = r"(?:self::|static::)?(COMMON_FIRST_FRAGMENT)"
STRING = rf"""(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|<<<EMAIL\n(.*?)\n\s*EMAIL|{NAMED})"""
REPLY = r"[^;]{0,200}?(?:parse_reply|parseReply|parsed_reply|visible_text|getVisibleText|latest_reply|fragments\[0\])"
COMPARED = re.compile(rf"(?:assert_?[eE]quals?|test\.equal)\s*\(?\s*{STRING}\s*,{REPLY}", re.DOTALL)
COMMON = re.compile(r"COMMON_FIRST_FRAGMENT\s*=\s*(['\"])(.*?)\1\s*;", re.DOTALL)


def read_fragments(folder: Path) -> Iterator[Case]:
    """Suites whose tests name a file and compare what is visible of it, or its first part where that is all."""
    sources = [path for kind in ("rb", "py", "js", "php") for path in sorted(folder.glob(f"test*/**/*.{kind}"))]
    files = {path.stem: path for path in folder.glob("test*/**/*.txt")}
    for source in sources:
        text = read_text(source)
        common = COMMON.search(text)
        starts = [match.start() for match in FUNCTION.finditer(text)] + [len(text)]
        for start, end in pairwise(starts):
            block = text[start:end]
            named = next((name for name in re.findall(r"\w+", block) if name in files), None)
            compared = COMPARED.search(block)
            if named and compared:
                own = next(filter(None, compared.groups()), "")
                own = common[2] if own == "COMMON_FIRST_FRAGMENT" and common else own
                yield Case(f"{source.name} {named}", read_text(files[named]), unescape(own))


def unescape(text: str) -> str:
    return text.replace("\\\n", "").replace("\\n", "\n").replace("\\'", "'").replace('\\"', '"')


def read_quotequail(folder: Path) -> Iterator[Case]:
    """Of each text its parts, with whether they are the reply: without the line that introduces the quote."""
    for name in ("test_quote.py", "test_quote_html.py"):
        for values in parametrized(folder / "tests" / name):
            parts = values[-1]
            if isinstance(values[0], str) and isinstance(parts, list):
                own = "\n".join(part for is_own, part in parts if is_own)
                is_html = name.endswith("html.py")
                text, own = (html_to_text(values[0]), html_to_text(own)) if is_html else (values[0], own)
                yield Case(f"{name} {values[0][:40]!r}", text, own)


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
    for kind in ("text", "html"):
        yield from read_literals(folder / f"tests/{kind}_quotations_test.py", kind == "html")


def read_literals(path: Path, is_html: bool) -> Iterator[Case]:
    """Tests with a message and a reply as strings."""
    for function in ast.walk(ast.parse(read_text(path))):
        if isinstance(function, ast.FunctionDef):
            names = {
                target.id: node.value.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            compared = [
                node.args[0].value
                for node in ast.walk(function)
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "eq_"
                if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
            ]
            text, own = names.get("msg_body"), names.get("reply", compared[0] if compared else None)
            if isinstance(text, str) and isinstance(own, str):
                yield Case(
                    function.name, html_to_text(text) if is_html else text, html_to_text(own) if is_html else own
                )


def read_forwards(folder: Path) -> Iterator[Case]:
    """Nothing of the forwarded text and its sender may stay; what was written above it must."""
    source = read_text(folder / "test/index.js")
    told = {name: unescape(text) for name, text in re.findall(r'const (\w+)\s*=\s*"((?:[^"\\]|\\.)*)";', source)}
    sentences = tuple(part for part in re.split(r"(?<=\.)\s+", told["BODY"]) if len(part) > 20)
    for path in sorted((folder / "test/fixtures").glob("*_body*.txt")):
        text = read_text(path)
        own = told["MESSAGE"] if squeeze(told["MESSAGE"]) in squeeze(text) else ""
        yield Case(path.stem, text, own, (*sentences, told["FROM_ADDRESS"], told["FROM_NAME"]))


SUITES = {
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


if __name__ == "__main__":
    main()
