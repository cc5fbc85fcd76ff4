"""What a redaction found, by kind, and a sample of what it may have missed: for the owner's eyes alone.

Missed may be two words with capitals one of which is never written without (a name that stands in no conversation),
who is greeted, and runs of digits that were left.
"""

import random
import re
from collections import Counter
from pathlib import Path

from revinst.corpus.names import CAPITAL, GREETED
from revinst.corpus.redaction import Redaction
from revinst.data.redacted import PLACEHOLDER
from revinst.runs.files import write_private

LOWER = re.compile(r"(?<![\w-])[^\W\d_A-Z]{2,30}(?!\w)")
PAIR = re.compile(rf"(?<=[\w,;)] )({CAPITAL}) ({CAPITAL})(?!\w)")  # where no sentence begins
DIGITS = re.compile(r"(?<![\w.])\d[\d \u00a0./-]{4,24}\d(?!\w)|(?<![\w.])\d{5,}(?!\w)")
MOST = 100_000  # different finds of a kind that are counted
SHOWN = 40  # of a kind
NEAR = 30  # characters of a text on either side of a find


class RedactionReport:
    """Looks at text after redacted text; `write` then tells."""

    def __init__(self) -> None:
        self.num_texts = self.num_changed = 0
        self.words: set[str] = set()  # that were written without a capital
        self.missed: dict[str, dict[str, str]] = {"capitals": {}, "greeted": {}, "digits": {}}  # find -> its context
        self.times: Counter[str] = Counter()

    def look(self, text: str, redacted: str) -> None:
        self.num_texts += 1
        self.num_changed += text != redacted
        plain = re.sub(PLACEHOLDER, "[]", redacted)
        self.words.update(LOWER.findall(plain))
        for kind, pattern in (("capitals", PAIR), ("greeted", GREETED), ("digits", DIGITS)):
            for found in pattern.finditer(plain):
                self.note(kind, found)

    def note(self, kind: str, found: re.Match[str]) -> None:
        value = found[1] if kind == "greeted" else found[0]
        if value in self.missed[kind] or len(self.missed[kind]) < MOST:
            self.times[value] += 1
            near = found.string[max(found.start() - NEAR, 0) : found.end() + NEAR]
            self.missed[kind].setdefault(value, " ".join(near.split()))

    def write(self, path: Path, redaction: Redaction) -> None:
        """To a file that nobody but the owner may read: it names what is private."""
        distinct = Counter(re.sub(r"[\[_\d\]]", "", name) for name in redaction.placeholders)
        lines = [
            f"{self.num_changed} of {self.num_texts} texts hold something that was replaced.",
            "",
            "Replaced (times):",
            *(f"  {kind}: {count}" for kind, count in redaction.found.most_common()),
            "Placeholders (different ones):",
            *(f"  {noun}: {count}" for noun, count in distinct.most_common()),
        ]
        for kind, title in (
            ("greeted", "Greeted, and in no conversation that was read"),
            ("capitals", "Two words with capitals, at least one of which is never written without"),
            ("digits", "Digits that were left: dates, prices and the like, one hopes"),
        ):
            lines += ["", f"Perhaps missed. {title}:", *(self.sample(kind) or ["  none"])]
        write_private(path, "\n".join(lines) + "\n")

    def sample(self, kind: str) -> list[str]:
        """The most frequent ones, and as many others drawn at random."""
        found = [value for value in self.missed[kind] if kind != "capitals" or self.is_unknown(value)]
        found.sort(key=lambda value: -self.times[value])
        shown = found[: SHOWN // 2]
        rest = found[SHOWN // 2 :]
        shown += random.Random(0).sample(rest, min(len(rest), SHOWN - len(shown)))
        lines = [f"  {self.times[value]:>4} x {value:<30} ... {self.missed[kind][value]}" for value in shown]
        return lines + ([f"  and {len(found) - len(shown)} more"] if len(found) > len(shown) else [])

    def is_unknown(self, pair: str) -> bool:
        return not all(word.lower() in self.words for word in pair.split())
