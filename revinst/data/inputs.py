"""What a config names on disk, looked for before anything heavy is imported."""

from pathlib import Path

from revinst.config.settings import DataSettings
from revinst.data.example_table import list_sources
from revinst.data.prompt import find_template
from revinst.data.sources import find_source
from revinst.data.split import check_fractions, read_split
from revinst.data.tokenizer import check_base


def check_inputs(settings: DataSettings, base: str) -> None:
    """Raises UserError for a base, source, template or split that is not there. base: hub id or folder."""
    check_base(base)
    for name, _ in list_sources(settings.source):
        find_source(name)
    if settings.template != "chat":
        find_template(settings.template)
    if settings.split is None:
        check_fractions(settings.heldout_fraction, settings.val_fraction)
    else:
        read_split(Path(settings.split))
