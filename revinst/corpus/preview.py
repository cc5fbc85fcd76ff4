"""The page of `revinst corpus --texts_only`: of a sample what was kept and what was left out, side by side.

It lies beside the folder and only its owner may read it, since what was left out is mostly somebody else's.
"""

from collections import Counter
from importlib.resources import files
from pathlib import Path

from revinst.corpus.ingest import Ingest
from revinst.corpus.redaction import Redaction
from revinst.corpus.sample import Sample
from revinst.runs.files import write_private


def write_page(path: Path, title: str, ingest: Ingest, sample: Sample, redaction: Redaction | None) -> None:
    """One self-contained HTML file; everything that comes from data is escaped."""
    from jinja2 import Environment, StrictUndefined

    def show(text: str) -> str:
        return redaction.redact(text) if redaction else text

    contexts = ingest.contexts_of({message.where for message, _ in sample.texts()})
    texts = [
        {
            "where": show(message.where),
            "kind": message.kind,
            "date": message.date[:10],
            "reason": message.left_out,
            "context": show(contexts.get(message.where, "")),
            "parts": [(is_kept, show(lines)) for is_kept, lines in parts],
        }
        for message, parts in sample.texts()
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = files("revinst.corpus").joinpath("page_files", "texts.html.j2").read_text(encoding="utf-8")
    html = environment.from_string(template).render(
        title=title,
        num_read=ingest.num_read,
        num_left_out=len(ingest.not_kept),
        reasons=Counter(show(each.reason) for each in ingest.not_kept).most_common(),
        texts=texts,
        redacted=redaction is not None,
        style=files("revinst.evaluation").joinpath("report_files", "report.css").read_text(encoding="utf-8"),
    )
    write_private(path, html.encode(errors="replace").decode())  # what was left out may be no Unicode
