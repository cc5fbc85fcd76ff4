"""Named loggers: in the run folder, going on where they were, and ending no run."""

import json

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from revinst.runs import loggers
from revinst.runs.folder import Run
from revinst.runs.loggers import attempt, guard, open_loggers
from revinst.runs.metrics import MetricsFile
from revinst.training.loggers import StartLoggers
from tests.raising_logger import Raising
from tests.tiny import build_data, build_module, build_trainer


def use_all(logger):
    logger.log_metrics({"a": 1.0}, step=1)
    logger.log_hyperparams({"lr": 1})
    logger.log_graph(None)
    logger.save()
    _ = logger.experiment
    logger.finalize("success")


def test_what_a_logger_raises_is_said_once(capsys, monkeypatch):
    logger = guard(Raising())
    assert isinstance(logger, Raising) and type(logger).__name__ == "Raising"
    use_all(logger)
    said = capsys.readouterr().err
    reason = "ConnectionError: the server is gone"
    assert said == f"trainer.logger Raising: {reason}; goes on without it, metrics.csv has every number\n"
    assert logger.calls == 1, "the others are left out: what waits for a server would hold up training"
    monkeypatch.setattr(loggers, "REST_S", 0)
    vars(logger)["rests_until"] = 0
    use_all(logger)
    assert logger.calls > 5 and capsys.readouterr().err == ""
    logger.left = 1
    logger.log_metrics({"a": 1.0})
    assert logger.left == 0, "it is tried again"


def test_a_stop_is_no_failure():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(Raising(), stop)


@pytest.mark.parametrize("works", [0, 1, 3])
def test_training_goes_on(tiny_llama, tmp_path, capsys, works):
    """Two steps, whenever it begins to raise."""
    metrics = MetricsFile(tmp_path / "metrics.csv")
    trainer = build_trainer(tmp_path, max_steps=2, logger=[guard(Raising(works)), metrics], log_every_n_steps=1)
    trainer.fit(build_module(tiny_llama), datamodule=build_data(tiny_llama))
    assert [row["step"] for row in metrics.rows] == [0, 1]
    assert capsys.readouterr().err.count("the server is gone") == 1


def read_scalars(run):
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars("train/loss")]


def test_tensorboard_goes_on_where_the_checkpoint_was(tmp_path, monkeypatch):
    """What was logged after it is hidden; a run that starts anew hides all. The config is logged once."""
    # files of one second are read in the order of this process's count of them, as text: 10 before 9
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    run, config = Run(tmp_path / "run"), {"model": {"lr": 0.5}}
    for start, value in ((0, 1.0), (3, 2.0), (0, 3.0)):
        (logger,) = open_loggers(["tensorboard"], run, config, start)
        assert isinstance(logger, TensorBoardLogger)
        for step in range(start, start + 5):
            logger.log_metrics({"train/loss": value}, step)
        logger.finalize("success")
        if start == 3:
            assert read_scalars(run) == [(0, 1), (1, 1), (2, 1), *((step, 2) for step in range(3, 8))]
    assert read_scalars(run) == [(step, 3) for step in range(5)]
    assert [path.name for path in run.path.iterdir()] == ["tensorboard"]
    assert (run.path / "tensorboard" / "hparams.yaml").read_text() == "model:\n  lr: 0.5\n"


def test_ids_are_kept_in_the_manifest(tmp_path, monkeypatch):
    """A run that goes on takes them, one that starts anew does not; a logger that is new learns the config."""
    run, made, told = Run(tmp_path), [], []

    class Numbered(Raising):
        def __init__(self, known):
            super().__init__(works=100)
            made.append(known)
            self.version = known or f"id-{len(made)}"

        def log_hyperparams(self, *args, **kwargs):
            told.append(self.version)

    monkeypatch.setitem(loggers.MAKERS, "wandb", lambda run, known, step: Numbered(known))
    for step in (0, 4, None, 0):
        open_loggers(["wandb", "csv"], run, {}, step)
    assert made == [None, "id-1", "id-1", None] and told == ["id-1", "id-4"]
    assert run.read_manifest() == {"loggers": {"wandb": "id-4"}}


def test_one_that_can_not_be_made_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(loggers.MAKERS, "mlflow", lambda run, known, step: Raising())
    made = open_loggers(["mlflow", "tensorboard"], Run(tmp_path), {}, 0)
    assert [type(logger).__name__ for logger in made] == ["TensorBoardLogger"]
    assert capsys.readouterr().err.startswith("trainer.logger mlflow: ConnectionError: the server is gone; goes on")


def test_other_ranks_log_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    StartLoggers(["tensorboard"], Run(tmp_path), "{}").on_fit_start(None, None)
    assert not list(tmp_path.iterdir())


def test_empty_archives_are_dropped(tmp_path):
    from zipfile import ZipFile

    for name, rows in {"killed": [], "whole": [json.dumps({})]}.items():
        (tmp_path / name).mkdir()
        with ZipFile(tmp_path / name / "key.zip", "w") as archive:
            for row in rows:
                archive.writestr("messages.json", row)
    loggers.drop_empty_archives(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
