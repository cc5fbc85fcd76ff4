"""Rows of the run that a page shows: those it was trained on, and a few to try it with, which it was not."""

import sys
from collections.abc import Sequence
from itertools import islice

from revinst.data.example_table import load_examples
from revinst.data.examples import Example
from revinst.data.split import read_split, select_examples
from revinst.errors import UserError
from revinst.inference.trained import Trained

NUM_EXAMPLES = 3
FEWEST_CHARACTERS, MOST_CHARACTERS = 80, 800  # of a response: enough to ask for, and soon read


def read_examples(trained: Trained) -> tuple[Sequence[Example], list[Example]]:
    """Training rows, and held-out ones to try.

    Of a bare adapter, or where the run's data can't be read any more, which a line then says: none, and rows of the
    package.
    """
    if trained.run:
        try:
            split, known = read_split(trained.run.split), trained.load_examples()
            return select_examples(known, split.train), choose_handy(select_examples(known, split.heldout))
        except UserError as reason:
            print(f"{reason} (the page does without the run's rows)", file=sys.stderr)
    return [], choose_handy(load_examples("quickstart")[0])


def choose_handy(examples: Sequence[Example]) -> list[Example]:
    """The first few of a handy length, or the first few."""
    handy = (each for each in examples if FEWEST_CHARACTERS <= len(each.response) <= MOST_CHARACTERS)
    return list(islice(handy, NUM_EXAMPLES)) or list(islice(examples, NUM_EXAMPLES))
