"""Options of `revinst corpus` that say what is read, and how."""

from argparse import ArgumentParser
from pathlib import Path


def add_reading_options(parser: ArgumentParser) -> None:
    """Read back by `read_options` of `corpus/settings.py`."""
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="a mailbox, chat, table, note, archive, or a folder of these")
    add("--me", action="append", default=[], metavar="NAME", help="an address, name or id of yours; repeat it")
    add("--list_authors", action="store_true", help="only print who wrote what is in INPUT")
    add("--column", default="text", help="the field or column that holds the text in tables")
    add("--join_minutes", type=float, default=0, metavar="N", help="one text of your chat messages within N minutes")
    add("--context", action="store_true", help="keep with each text what it answers, which others wrote")
    add("--split_words", type=int, default=1500, metavar="N", help="longer texts become several; 0: none does")
    add("--redact", action="store_true", help="placeholders for addresses, phones, links, numbers, names")
    add("output", metavar="OUT_DIR", type=Path, nargs="?", help="an unfinished one is completed")
    add("--texts_only", action="store_true", help="only read: texts.jsonl and a page to look at; needs no run")
