"""Under which licences a model's base and data are, where that is known."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from revinst.data.tokenizer import looks_local


class Licence(NamedTuple):
    """hub_id: as the Hub's metadata has it."""

    hub_id: str
    name: str


# By a pattern of the name. Anything else: what the base's own card says, or unknown.
BASE_LICENCES = {
    r"llama-2": Licence("llama2", "Llama 2 Community License"),
    r"llama-3\.1": Licence("llama3.1", "Llama 3.1 Community License"),
    r"smollm2|qwen3-8b|mistral-7b": Licence("apache-2.0", "Apache-2.0"),
    r"gemma-?3": Licence("gemma", "Gemma Terms of Use"),
}
DATA_LICENCES = {
    r"dolly": Licence("cc-by-sa-3.0", "CC BY-SA 3.0 (databricks-dolly-15k)"),
    r"^quickstart$": Licence("apache-2.0", "Apache-2.0 (the quickstart rows)"),
}
UNKNOWN_LICENCE = Licence("other", "not known to revinst: look it up before you share this")


def find_base_licence(base: str) -> Licence | None:
    """A known one, or `license:` of the base's own card, where the base is a folder."""
    if known := find_licence(BASE_LICENCES, base):
        return known
    card = Path(base).expanduser() / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    found = re.search(r"^license:\s*([\w.-]+)\s*$", text, re.MULTILINE)
    return Licence(found[1], found[1]) if found else None


def describe_licences(base: str, sources: Sequence[str]) -> str:
    """A line for the base and each source of data."""
    found = [find_licence(DATA_LICENCES, source) for source in sources]
    lines = [f"- base: {public_name(base)}, {(find_base_licence(base) or UNKNOWN_LICENCE).name}"]
    lines += [
        f"- data: {public_name(source)}, {(own or UNKNOWN_LICENCE).name}"
        for source, own in zip(sources, found, strict=True)
    ]
    lines += [] if sources else [f"- data: {UNKNOWN_LICENCE.name}"]
    if next(filter(None, found), UNKNOWN_LICENCE).hub_id == "cc-by-sa-3.0":
        lines += ["", "Dolly's share-alike terms and attribution apply to copies and adaptations of its rows."]
    return "\n".join(lines)


def find_licence(known: dict[str, Licence], name: str) -> Licence | None:
    name = public_name(name).lower()
    return next((licence for pattern, licence in known.items() if re.search(pattern, name)), None)


def public_name(source: str) -> str:
    """A hub id as it is; of a path its last part, since a card must not tell about somebody's disk."""
    return Path(source).name if looks_local(source) or Path(source).exists() else source
