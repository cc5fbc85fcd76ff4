"""Samples while training: the example's own fields, as they are written, through whatever loggers there are."""

import json
import sys
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger

from revinst.config.settings import SampleSettings
from revinst.runs.metrics import MetricsFile
from revinst.training.samples import Samples, log_samples
from tests.tiny import build_data, build_module, build_trainer

ROWS = [{"id": "a", "reference": "Why?", "prediction": "How?"}, {"id": "b", "reference": "Who?", "prediction": ""}]


class Tables(WandbLogger):
    """W&B's without its server, and without the package: what it would send."""

    def __init__(self):
        Logger.__init__(self)
        self.sent = []

    def log_metrics(self, metrics, step=None):
        self.sent.append((metrics, step))


class Other(Logger):
    """Has a run, as W&B's and MLflow's have, that takes no text."""

    name = version = "other"
    experiment = SimpleNamespace()

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, *args, **kwargs):
        pass


def test_each_logger_gets_what_it_takes(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Table=lambda columns, data, dataframe: (columns, data)))
    board, tables, texts = TensorBoardLogger(str(tmp_path)), Tables(), []
    board._experiment = SimpleNamespace(add_text=lambda *args: texts.append(args))
    numbers = [MetricsFile(tmp_path / "metrics.csv"), CSVLogger(str(tmp_path)), Other()]
    log_samples([*numbers, tables, board], ROWS, 7)
    columns = ["id", "reference", "prediction"]
    assert tables.sent == [({"samples": (columns, [["a", "Why?", "How?"], ["b", "Who?", ""]])}, 7)]
    assert [(name, step) for name, _, step in texts] == [("samples/a", 7), ("samples/b", 7)]
    assert texts[0][1] == "reference: Why?\n\nprediction: How?"
    log_samples([tables], [], 8)
    assert len(tables.sent) == 1


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{response}\n\n{instruction}", "response"),
        ("### Context:\n{context}\n\n### Input:\n{response}\n\n### Response:\n{instruction}", "response"),
        ("{instruction}\n\n{response}", "instruction"),
    ],
)
def test_the_text_of_a_sample_is_found_by_name(tiny_llama, tmp_path, capsys, template, shown):
    """Brackets that look like markup, and an escape, are shown and not obeyed."""
    rows = [
        {"instruction": f"ask{n} [/INST]", "context": f"given{n} \x1b[2J", "response": f"text{n} [/b] \x1b[2J"}
        for n in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "template.txt").write_text(template)
    data = build_data(
        tiny_llama,
        source=str(tmp_path / "rows.jsonl"),
        template=str(tmp_path / "template.txt"),
        context="include",
        val_fraction=0.1,
        seq_len=128,
    )
    loggers, samples = [Other(), CSVLogger(str(tmp_path))], Samples(SampleSettings(1, 2), max_new_tokens=2)
    build_trainer(tmp_path, callbacks=[samples], logger=loggers).fit(build_module(tiny_llama), datamodule=data)
    out = capsys.readouterr().out
    first = data.examples_of("val")[0]
    table = out[out.index("step 1") :]
    other = {"response": "instruction", "instruction": "response"}[shown]
    cells = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    assert cells[0].startswith(getattr(first, shown).split()[0]) and getattr(first, other).split()[0] not in cells[0]
    assert f"┃ {shown}" in table and "given" not in table and "\x1b" not in table and "[/" in "".join(cells)
    assert len(cells) >= 2
