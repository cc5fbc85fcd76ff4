"""Objects of a long list in a JSON file, one at a time: memory holds the largest of them, and not the file.

The standard library decodes each; what is done here is to find where the list is, and to read on where one ends.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from revinst.corpus.chats.json_files import Fields
from revinst.errors import UserError

BLOCK = 1 << 20  # characters
MAX_VALUE = 1 << 28  # characters
NEAR = 20  # characters before the end, in which what is cut off there looks wrong: `[-Infini`, `"\\ud83d\\ude`
AHEAD = 3  # behind a value: where the text ends in `12.`, `12e` or `12e-`, 12 is not all of a number
NO_SPACE = re.compile(r"[^ \t\n\r]")
DECODER = json.JSONDecoder()


def read_items(path: Path, *keys: str | tuple[str, ...]) -> Iterator[Fields]:
    """The objects of the list under these keys, one in the other; a key may be several, of which each counts.

    `read_items(path)`: of a file that is a list. Raises UserError for what is no JSON, after what stands before that.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            stream = Stream(file.read)
            yield from walk(stream, keys)
            if stream.peek():
                raise ValueError("something follows its end")
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None


class Stream:
    """JSON whose values are taken one after the other. read: gives so many characters more, "" at the end."""

    def __init__(self, read: Callable[[int], str]):
        self.read, self.text, self.place = read, "", 0

    def fill(self) -> bool:
        """Reads on, as much again as is there; False at the end. Raises ValueError for a value that is too long."""
        if len(self.text) - self.place > MAX_VALUE:
            raise ValueError(f"a value in it has more than {MAX_VALUE:,} characters")
        more = self.read(max(BLOCK, len(self.text) - self.place))
        if more:
            self.text, self.place = self.text[self.place :] + more, 0
        return bool(more)

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while not (found := NO_SPACE.search(self.text, self.place)):
            self.place = len(self.text)
            if not self.fill():
                return ""
        self.place = found.start()
        return found[0]

    def take(self, character: str) -> bool:
        """Whether that comes next, which is then behind us."""
        is_next = self.peek() == character
        self.place += is_next
        return is_next

    def value(self) -> object:
        """Whatever comes next. Raises ValueError."""
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.place)
            except json.JSONDecodeError as error:
                is_torn = error.pos > len(self.text) - NEAR or error.msg.startswith("Unterminated string")
                if not is_torn or not self.fill():
                    raise
                continue
            if len(self.text) - end < AHEAD and self.fill():
                continue
            self.place = end
            return value

    def elements(self, end: str) -> Iterator[None]:
        """Once for each element of what has been opened, up to `end`; the element is then taken by the caller."""
        while not self.take(end):
            yield
            if not self.take(",") and self.peek() != end:
                raise ValueError(f"{end} or a comma is missing")


def walk(stream: Stream, keys: tuple[str | tuple[str, ...], ...]) -> Iterator[Fields]:
    """What `read_items` yields of the value that comes next; other values are passed over."""
    if not keys and stream.take("["):
        for _ in stream.elements("]"):
            if isinstance(value := stream.value(), dict):
                yield value
    elif keys and stream.take("{"):
        wanted, *others = keys
        for _ in stream.elements("}"):
            name = stream.value()
            if not stream.take(":"):
                raise ValueError("a colon is missing")
            if name in (wanted if isinstance(wanted, tuple) else (wanted,)):
                yield from walk(stream, tuple(others))
            else:
                stream.value()
    else:
        stream.value()
