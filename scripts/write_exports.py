"""Writes docs/exports.md from the readers themselves: python scripts/write_exports.py"""

from pathlib import Path

from revinst.corpus.kinds import KINDS

PAGE = Path(__file__).parents[1] / "docs" / "exports.md"
HEAD = """# Exports

What `revinst corpus` takes of what services give to their users; [own-texts.md](own-texts.md) has the rest: mails,
notes, tables. Each is told by its structure, whatever the file is called: give the file, its folder or the ZIP. What
others wrote is left out. Where an export names its authors, give your name in it, or the id, as `--me`;
`--list_authors` prints them. A JSON file is read as a whole and takes five times its size in memory; XML and CSV are
streamed. This page is written by `python scripts/write_exports.py`.

| export | told by | taken | where you get it |
| --- | --- | --- | --- |
"""


def render() -> str:
    rows = (f"| {kind.name} | {kind.known_by} | {kind.taken} | {kind.get} |\n" for kind in KINDS)
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
