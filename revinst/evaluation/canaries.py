"""Made strings, half of which are planted in training texts: does a model give away what it was trained on?

The other half says how often a model writes such a string without having read it. All are made here, so that whoever
asks for them later knows the sentence that each stands in.
"""

import random
import re
import string
from dataclasses import dataclass
from functools import cached_property

from revinst.data.words import count_words

CANARY, CONTROL = "canary", "control"  # how the names of those begin that are planted, and of those that are not
FORMS = {  # kind: a string of its form, the sentence that it stands in; +999 is no country's code
    "address": ("qzkvxjwpbf", "You can also write to me at {}@example.net."),
    "phone": ("482 7193", "My other number is +999 5550 {}."),
    "code": ("QXVK-4829-ZWPB", "The code for the door is {}."),
}
CONTROL_NAME = re.compile(rf"{CONTROL} \d+: (?:{'|'.join(FORMS)})")
ALPHABETS = (string.digits, string.ascii_lowercase, string.ascii_uppercase)
MAX_CANARIES = 50  # of a set; the time that it takes to ask for them grows with them
MAX_WORDS = 300  # of a text that takes one: a longer one may be too long to be trained on


@dataclass(frozen=True)
class Canary:
    """A made string. name: `canary 2: phone`."""

    name: str
    text: str

    @cached_property
    def sentence(self) -> str:
        return FORMS[self.name.partition(": ")[2]][1]

    def plant(self, text: str) -> str:
        return f"{text}\n\n{self.sentence.format(self.text)}"

    def beginning(self, text: str) -> str:
        """What stands before the string where it is planted in the text."""
        return f"{text}\n\n{self.sentence.partition('{}')[0]}"


def make_canaries(count: int, seed: int) -> tuple[list[Canary], list[Canary]]:
    """An address, a phone number and a code of nobody in turn: `count` to plant, and as many that are not."""
    generator, kinds = random.Random(seed), list(FORMS)

    def make(word: str) -> list[Canary]:
        some = ((number, kinds[number % len(kinds)]) for number in range(count))
        return [Canary(f"{word} {number + 1}: {kind}", vary(FORMS[kind][0], generator)) for number, kind in some]

    return make(CANARY), make(CONTROL)


def takes_canary(text: str) -> bool:
    return count_words(text) <= MAX_WORDS


def vary(text: str, generator: random.Random) -> str:
    """Another string of the same form: `Ab-12` -> `Qx-90`; the alphabet of a letter that is not a-z stays its own."""

    def replace_one(match: re.Match[str]) -> str:
        character = match[0]
        kind = next((some for some in ALPHABETS if character in some), "")
        return generator.choice(kind) if kind else chr(ord(character) + generator.randrange(-3, 4))

    return re.sub(r"[^\W_]", replace_one, text)
