"""Writes docs/exports.md from the readers themselves: python scripts/write_exports.py"""

from collections.abc import Iterable
from pathlib import Path

from revinst.corpus.documents.kinds import CONVERT, DOCUMENTS
from revinst.corpus.kind import Kind
from revinst.corpus.kinds import KINDS

PAGE = Path(__file__).parents[1] / "docs" / "exports.md"
HEAD = """# Exports

What `revinst corpus` takes of what services give to their users; [own-texts.md](own-texts.md) has the rest: mails and
tables. Each is told by its structure, whatever the file is called: give the file, its folder or the ZIP. What others
wrote is left out. Where an export names its authors, give your name in it, or the id, as `--me`; `--list_authors`
prints them. What a message answers is kept with it where `--context` asks for it. This page is written by
`python scripts/write_exports.py`.

XML, CSV, JSON lines and long lists in JSON are read piece by piece, whatever their size: memory holds the largest
conversation, or of one Telegram chat a message. As a whole, in four times their size and up to 1 GiB, are read the JSON
of Meta, X and Slack, Discord's package and tables.

| export | told by | taken | where you get it |
| --- | --- | --- | --- |
"""

FILES = """
## Documents and notes

Told by their suffix. One that names an author is kept if that is one of your `--me`; one that names several is none's
own. What programs write in place of a name (`user`, `Microsoft Office User`) names nobody, and a document that names
nobody is yours: the card counts these in a line of their own, so leave out of the folder what others gave you. `.pdf`,
`.rtf` and `.msg` need `pip install 'revinst[own]'`; one that is met without it ends the command.

| file | told by | taken | where you get it |
| --- | --- | --- | --- |
"""
OTHERS = """
## Archives

ZIP and tar (`.tar`, `.tgz`, `.tar.gz`, `.tar.bz2`, `.tar.xz`) are unpacked into a folder that goes away, and those in
them, three deep. Refused is what unpacks to more than a hundred times its size (from 256 MiB on), to more than the disk
has free or to more than a million files, and what comes after a thousand archives in one. Links in an archive, and what
a tar would put outside its folder, are left out. A single document has at most 100 MiB, also unpacked; mailboxes and
the files of Evernote and WordPress are read piece by piece, whatever their size.

## Convert these first

| file | what it is, and what makes readable files of it |
| --- | --- |
"""


def render() -> str:
    converted = "".join(f"| `{suffix}` | {advice} |\n" for suffix, advice in CONVERT.items())
    return HEAD + render_rows(KINDS) + FILES + render_rows(DOCUMENTS) + OTHERS + converted


def render_rows(kinds: Iterable[Kind]) -> str:
    return "".join(f"| {kind.name} | {kind.known_by} | {kind.taken} | {kind.get} |\n" for kind in kinds)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
