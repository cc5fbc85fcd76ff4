"""How `revinst corpus` strips quotes and signatures, held against public test suites, which are read where they lie.

    python scripts/quote_suites.py FOLDER [--show]

FOLDER has a checkout of each, under its name: discourse/email_reply_trimmer, github/email_reply_parser,
zapier/email-reply-parser, crisp-oss/email-reply-parser (as `crisp-email-reply-parser`), willdurand/EmailReplyParser,
alfonsrv/mail-parser-reply, closeio/quotequail, mailgun/talon, crisp-oss/email-forward-parser. Nothing of them
is copied. Cases whose expected text can't be read from the suite's source are not counted. Compared without white
space.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

from suite_cases import SUITES, Case, Piece

from revinst.corpus.quotes import strip_quotes
from revinst.options import Parser

PASS, TOO_MUCH, LOST = "pass", "kept too much", "lost own text"
# Why a case fails, read by eye; whatever fails and is not here is counted as not read yet.
OTHERS, LOST_TEXT, BOILERPLATE, TASTE = "others' text or name", "own text lost", "own boilerplate", "taste"
KINDS = {
    (OTHERS, "the end of a quoted line, wrapped behind a full stop: as likely an answer"): (
        "email_7 test_email_with_italian",
        "email_7 testEmailItalian",
    ),
    (BOILERPLATE, "a name or card of the writer without a mark, or behind an odd one"): (
        "email_bullets testRetainsBullets",
        "embedded_email_7",
        "jeff_body",
        "johndoeexamplecom_body",
        "long_body",
        "test_reply_separated_by_hr",
    ),
    (BOILERPLATE, "a list of 25 advertisements of devices"): ("signatures",),
    (TASTE, "greeting and own name are the writer's: crisp's email_1 keeps what the others cut"): (
        "email_1_1 test_reads_simple_body",
        "email_1_3 test_reads_top_post",
        "email_with_regards text_email_regards",
        "email_1 testReadsSimpleBody",
        "email_3 testReadsTopPost",
        "email_1_3 test_simple_quoted_body",
        "email_1_1 test_hyphen_signature",
        "email_1_1 test_keep_hyphen_lists",
        "begins_with_signature test_header_begins_w_signature",
        "email_swedish_2 test_swedish_simple_body",
        "email_danish_1 test_danish_simple_body",
        "email_danish_2 test_danish_outlook_header",
        "email_danish_5 test_danish_signatures_short",
        "short_url_body",
    ),
    (TASTE, "the suite keeps what is quoted or forwarded"): (
        "embedded_email_16",
        "forwarded_message",
        "quote_and_text",
        "quote_only",
        "test_dont_parse_quotations_for_forwarded_messages",
        "test_regular_blockquote",
        "test_gmail_quote_blockquote",
        "test_gmail_forwarded_msg",
        "test_readable_html_empty",
    ),
    (TASTE, "an introduction or a block at the top, and unmarked text: the suite takes it for the writer's"): (
        "embedded_email_17",
        "embedded_email_18",
        "email_pl_1_1 test_pl_simple_body",
    ),
    (TASTE, "the suite keeps the rule above the quote"): (
        "email_2_1 test_gmail_header",
        "email_nl_1_2 test_dutch_gmail_header",
        "test_from_block_and_quotations_in_separate_divs",
    ),
    (TASTE, "the suite keeps the signature or the advertisement of the device"): (
        "iphone.eml",
        "sparrow.eml",
        "test_unwrap 'hello world\\n\\nHey: This is very important\\n\\n> Lorem ipsum\\n> do'",
    ),
}
KIND_OF = {case: kind for kind, cases in KINDS.items() for case in cases}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="print what came out of each case that fails")
    options = parser.parse_args()
    totals = dict.fromkeys((PASS, TOO_MUCH, LOST), 0)
    kinds: Counter[tuple[str, str]] = Counter()
    for name, read in SUITES.items():
        counts, failures = dict.fromkeys(totals, 0), []
        for case in read(options.folder / name):
            verdict, found = judge(case)
            counts[verdict] += 1
            totals[verdict] += 1
            failures += [(verdict, case, found)] if verdict != PASS else []
        print(f"{name}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
        for verdict, case, found in failures:
            kind = KIND_OF.get(case.name, (OTHERS if verdict == TOO_MUCH else LOST_TEXT, "not read yet"))
            kinds[kind] += 1
            print(f"    {verdict}: {case.name} ({kind[0]})")
            if options.show:
                print(f"      found:  {found[:1500]!r}\n      wanted: {(case.own or '')[:1500]!r}")
                print(f"      stays:  {[p for p in case.stays if not holds(found, p)]}")
                print(f"      goes:  {[p for p in case.goes if holds(found, p)]}")
    print("all: " + ", ".join(f"{count} {verdict}" for verdict, count in totals.items()))
    for (label, reason), count in sorted(kinds.items()):
        print(f"{count:5} {label}: {reason}")


def judge(case: Case) -> tuple[str, str]:
    found = strip_quotes(case.text)
    if not all(holds(found, piece) for piece in case.stays):
        return LOST, found
    if any(holds(found, piece) for piece in case.goes):
        return TOO_MUCH, found
    left, wanted = squeeze(found), squeeze(found if case.own is None else case.own)
    return (PASS if left == wanted else TOO_MUCH if len(left) > len(wanted) else LOST), found


def holds(text: str, piece: Piece) -> bool:
    return bool(piece.search(text)) if isinstance(piece, re.Pattern) else squeeze(piece) in squeeze(text)


def squeeze(text: str) -> str:
    return "".join(text.split())


if __name__ == "__main__":
    main()
