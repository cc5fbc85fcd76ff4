"""Kind: one kind of file or folder that texts come in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from revinst.corpus.texts import Ingested


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of input is told from all others, and what reads it.

    name, known_by, taken, get: for people, a row of docs/exports.md: what tells it, what is kept of it, and where it
    comes from. fits: looks at what a path holds, whatever it is called. read: yields all that is met at a path;
    its second argument is the path's name in records.
    """

    name: str
    known_by: str
    taken: str
    get: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, str], Iterator[Ingested]]
