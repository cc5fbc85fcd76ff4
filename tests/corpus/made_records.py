"""A row that every filter keeps, and for each filter the changes that it drops."""

from revinst.corpus.dropped import filter_records
from revinst.corpus.filters import Thresholds

GOOD = {
    "text": "Fry the onions slowly, then add carrots, cumin and the red lentils. Vinegar goes in at the end.",
    "instruction": "Explain how you cook a good lentil soup at home.",
    "gain": 0.4,
    "ifd": 0.67,
    "rifd": 0.5,
    "rating": 5,
}
LINES = ["### Input:", "Use the Input below to create an instruction"]
CASES = [
    ("empty", {"instruction": "  "}),
    ("too_short", {"text": "Yes, fine."}),
    ("too_long", {"text": "many words " * 1000}),
    ("instruction_too_short", {"instruction": "Cook soup."}),
    ("instruction_too_long", {"instruction": "Explain " + " ".join(f"step{n}" for n in range(120))}),
    ("prompt_echo", {"instruction": "Explain the soup. ### Input: fry the onions"}),
    ("meta_instruction", {"instruction": "Write an instruction about cooking soup with lentils."}),
    ("meta_instruction", {"instruction": "As an AI I do not cook any soup myself."}),
    ("copy", {"instruction": "Fry the onions slowly, then add carrots"}),
    ("looping", {"instruction": "Cook the soup again and cook the soup again and cook the soup again and so on"}),
    ("dangling_reference", {"instruction": "Summarise this article about lentil soup."}),
    ("dangling_reference", {"instruction": "What does the cook do, according to the text?"}),
    ("dangling_reference", {"instruction": "Summarise the text about lentil soup."}),
    ("wrong_language", {"instruction": "Erkläre mir bitte, wie du zu Hause eine gute Linsensuppe kochst."}),
    ("low_gain", {"gain": -0.1}),
    ("low_gain", {"gain": None}),
    ("ifd_low", {"ifd": 0.01}),
    ("ifd_high", {"ifd": 1.2}),
    ("rifd_high", {"rifd": 1.1}),
    ("low_rating", {"rating": 3}),
    ("low_rating", {"rating": None}),
]


SHORT_ONES = {"min_words": 5, "min_ifd": 0.05}  # filters that are off by default


def run(*rows, **limits):
    named = [GOOD | {"id": str(number)} | row for number, row in enumerate(rows)]
    return filter_records(named, Thresholds(**SHORT_ONES | limits), LINES, rated=True)
