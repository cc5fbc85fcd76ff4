"""`evaluate --log`: where it may go, and what arrives."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from revinst.config.parser import dump_config, read_config
from revinst.errors import UserError
from revinst.evaluation.sending import check_sending, mean_scores, send_evaluation
from revinst.runs.folder import Run

SCORES = {"metrics": {"rougeL": {"mean": 0.25, "ci95": [0.2, 0.3]}, "bleu": {"mean": None}, "rouge1": None}}


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    run.update_manifest(steps=24)
    return run


def test_what_is_sent_of_metrics():
    assert mean_scores(SCORES["metrics"]) == {"rougeL": 0.25}


@pytest.mark.parametrize(
    ("logger", "says"),
    [("csv", "logger csv; it names none"), ("false", "logger False; it names none"), (None, "is no run"), ("null", "")],
)
def test_where_it_may_go(run, logger, says):
    if logger:
        run.config.write_text(dump_config(read_config(["--trainer.logger", logger])))
    if says:
        with pytest.raises(UserError, match=f"^--log: {run.path} .*{says}"):
            check_sending(str(run.path))
    else:
        check_sending(str(run.path))


def test_it_arrives_at_the_last_step(run):
    config = read_config(["--trainer.logger", "[csv, tensorboard]"])
    of_responses = {"n": 3, "base": {}, "tuned": SCORES}
    for folder, scores in ((run.evaluation, SCORES), (run.evaluation / "val", of_responses)):
        send_evaluation(run, config, folder, scores)
    events = EventAccumulator(str(run.tensorboard)).Reload()
    for tag in ("heldout/rougeL", "val/rougeL"):
        assert [(event.step, event.value) for event in events.Scalars(tag)] == [(24, 0.25)]
