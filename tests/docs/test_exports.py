"""docs/exports.md is what the readers say of themselves."""

from revinst.corpus.kinds import ALL_KINDS
from scripts.write_exports import PAGE, render


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == render(), "run python scripts/write_exports.py"


def test_every_kind_says_what_it_is():
    assert len({kind.name for kind in ALL_KINDS}) == len(ALL_KINDS)
    for kind in ALL_KINDS:
        cells = (kind.name, kind.known_by, kind.taken, kind.get)
        assert all(cell and not set("|\n") & set(cell) for cell in cells), kind.name
