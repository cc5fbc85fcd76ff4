"""What a prediction depends on: it names evaluation folders, and files and caches are gone on with under it alone."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

# What earlier versions did not keep beside what they wrote. There it is unknown, which is no difference.
ADDED_LATER = {"base_files", "tokenizer", "quantization", "lora", "chat", "seq_len", "cut", "context", "samples"} | {
    "strip_citations"
}
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ModelKey:
    """All that decides what a run writes for a text, beside how it is decoded.

    base: hub id or folder. base_files, tokenizer, adapter, template: 16 hex digits over their content. quantization: of
    the base as this machine loads it. lora: how strongly the adapter's weights count, which they don't say themselves.
    adapter and lora are None for the base alone. chat: in a file of the same words, special tokens are text.
    """

    base: str
    base_files: str
    tokenizer: str
    quantization: str
    adapter: str | None
    lora: dict[str, Any] | None
    template: str
    chat: bool
    seq_len: int
    cut: str
    context: bool
    strip_citations: bool

    def without_adapter(self) -> "ModelKey":
        return replace(self, adapter=None, lora=None)

    def hash_texts(self, texts: Sequence[str], template: str, precision: str) -> str:
        """16 hex digits over all that the log p of these texts depends on, under another template's hash."""
        return hash_json([asdict(self) | {"template": template, "precision": precision}, list(texts)])


@dataclass(frozen=True, slots=True)
class PredictionKey:
    """All that a file of predictions depends on.

    generation: of `GenerationSettings.describe`. rows: a hash of all rows, None where they come and go. picks: of
    `PickSettings.describe`, nothing for one text a row.
    """

    model: ModelKey
    generation: dict[str, Any]
    rows: str | None = None
    picks: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Flat, as it is kept beside predictions and in scores.json."""
        described = asdict(self.model) | {"generation": self.generation}
        of_rows = {} if self.rows is None else {"rows": self.rows, "samples": 1}
        return described | of_rows | dict(self.picks)


def hash_json(value: object, digits: int = 16, *, sort_keys: bool = False) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=sort_keys).encode()).hexdigest()[:digits]


def changed_settings(known: object, settings: Mapping[str, Any]) -> list[str]:
    """Names of settings that differ from the known ones, also of those that a newer version knew; both as JSON.

    >>> changed_settings({"adapter": "1f", "rows": "2e"}, {"adapter": "1f", "rows": "3d", "seq_len": 512})
    ['rows']
    """
    if not isinstance(known, dict):
        return list(settings)
    defaults = {name: UNKNOWN for name in ADDED_LATER}
    pairs = {name: ((defaults | known).get(name), settings.get(name)) for name in {**settings, **known}}
    return [name for name, (old, new) in pairs.items() if old != new and UNKNOWN not in (old, new)]
