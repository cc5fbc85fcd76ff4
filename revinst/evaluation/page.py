"""Pages of the reports: a template of report_files, rendered into one self-contained file.

Every template extends page.html.j2 (head, facts, list of terms). A page with a list of rows includes rows.html.j2, and
says in a `RowList` what rows.js shows. Everything that comes from data is escaped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from revinst.evaluation.judged import say_people, say_use
from revinst.evaluation.report import count, format_gain, format_half_width, format_interval, format_number
from revinst.evaluation.statistics import FEW_GROUPS
from revinst.evaluation.terms import LABELS, TERMS

# Inside <script> only these could end it or be read as markup; JSON may spell any character this way.
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
FILTERS = {
    "number": format_number,
    "half_width": format_half_width,
    "interval": format_interval,
    "count": count,
    "gain": format_gain,
    "use": say_use,
    "people": say_people,
}


@dataclass(frozen=True, slots=True)
class Column:
    """A text of each row. share: of the width. against: the field that lacks the words which are marked; mark: as what
    they are, `ins` or `del`.
    """

    label: str
    field: str
    share: float = 1.3
    against: str = ""
    mark: str = "ins"


@dataclass(frozen=True, slots=True)
class Order:
    """By a field of the rows; those without it come last."""

    label: str
    field: str
    highest_first: bool


@dataclass(frozen=True, slots=True)
class Histogram:
    """Of one field of the rows, in bins of the same width from low to high."""

    field: str
    label: str
    low: float = 0.0
    high: float = 1.0
    bins: int = 10


@dataclass(frozen=True, slots=True)
class RowList:
    """What rows.js shows. name: of the CSV file. scores: field -> label, beside each row; the first is the one that
    counts. orders: by the name of each. histogram: None for none.
    tones: below the first that score is red, from the second on green; None: neither.
    """

    name: str
    rows: Sequence[Mapping[str, object]]
    columns: Sequence[Column]
    scores: Mapping[str, str]
    orders: Mapping[str, Order]
    histogram: Histogram | None
    tones: tuple[float, float] | None = None

    @property
    def categories(self) -> list[str]:
        return sorted({str(row["category"]) for row in self.rows if "category" in row})

    @property
    def lead(self) -> str:
        return next(iter(self.scores))

    def to_json(self) -> str:
        return embed_json(asdict(self))


def render_page(template: str, **values: object) -> str:
    """The page of a template of report_files, with what it names."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("revinst.evaluation", "report_files"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    environment.globals |= {"terms": TERMS, "labels": LABELS, "few_groups": FEW_GROUPS}
    return environment.get_template(template).render(**values)


def embed_json(value: object) -> str:
    """JSON that may stand inside `<script>`: `"</script>"` -> `"\\u003c/script\\u003e"`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    for character, escape in UNSAFE.items():
        text = text.replace(character, escape)
    return text
