"""The real loggers, offline: a run that is killed and resumed is one run there, its curve is whole, its samples are
there, its evaluation is sent after it, and nothing lies elsewhere. Each test needs its logger's package, which
`make test-wide` installs.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZipFile

import pytest

from revinst.config.loggers import NOT_BROUGHT, is_installed
from revinst.runs.metrics import read_rows
from tests.survive.faults import arguments, state_of, write_rows
from tests.survive.two_ranks import RANKS
from tests.survive.wandb_file import read_history

pytestmark = [pytest.mark.wide, pytest.mark.timeout(1200)]  # a dozen processes, some in one fixture
STEPS, KILLED_AT, CHECKPOINT = 8, 5, 3
# As a command line, but for what happens when step KILLED_AT is done: W&B gets the time that a real step would give it.
FAULTY = """
import os, signal, sys, time
from pathlib import Path
import psutil
from tests.survive.faults import work
def kill():
    time.sleep(3)
    os.kill(os.getpid(), signal.SIGKILL)
def end_wandb():
    for process in psutil.Process().children(recursive=True):
        if "wandb" in process.name():
            process.kill()
            process.wait()
fault, at, log, *args = sys.argv[1:]
work(args, Path(log), globals()[fault], at, Path(log).with_suffix(".events"), 1, unprivileged=False)
"""
OPTIONS = {
    "checkpoint.every_steps": CHECKPOINT,
    "trainer.max_steps": STEPS,
    "trainer.val_check_interval": "null",
    "samples.every_steps": 2,
    "samples.count": 2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A working folder, and an environment whose home is empty."""
    place, home = tmp_path_factory.mktemp("loggers"), tmp_path_factory.mktemp("home")
    for name in ("work", "runs"):
        (place / name).mkdir()
    write_rows(place / "runs" / "rows.jsonl")
    left_out = ("WANDB", "MLFLOW", "COMET", "XDG")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environment |= {
        "HOME": str(home),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "WANDB_MODE": "offline",
        "COMET_START_ONLINE": "0",
    }
    return place, environment


def revinst(place, *args: object, fault: str = "", **more: str) -> tuple[int, str]:
    """(exit code, what was said) of a command in the working folder. fault: a function of FAULTY."""
    folder, environment = place
    log = folder / f"{time.monotonic_ns()}.log"
    command = ["-c", FAULTY, fault, f"finish_step:{KILLED_AT}", str(log)] if fault else ["-m", "revinst"]
    with log.open("ab") as file:
        done = subprocess.run(
            [sys.executable, *command, *map(str, args)],
            cwd=folder / "work",
            env=environment | more,
            stdout=file,
            stderr=file,
            check=False,
        )
    return done.returncode, log.read_text()


@pytest.fixture(scope="module")
def killed(place, tiny_llama) -> Path:
    """Killed two steps after a checkpoint, resumed, evaluated with `--log`; with every logger that is installed."""
    names = ["tensorboard", *(name for name, module in NOT_BROUGHT.items() if is_installed(module))]
    args = arguments(place[0] / "runs", "killed", tiny_llama, **OPTIONS | {"trainer.logger": f"[{', '.join(names)}]"})
    code, said = revinst(place, *args, fault="kill")
    assert code == -9, said[-3000:]
    run = place[0] / "runs" / "killed"
    assert [path.name for path in (run / "checkpoints").glob("*.ckpt")] == [f"step-{CHECKPOINT:06d}.ckpt"]
    code, said = revinst(place, *args)
    assert code == 0 and "goes on without" not in said, said[-3000:]
    code, said = revinst(place, "evaluate", run, "--max_new_tokens", 4, "--limit", 3, "--name", "few", "--log")
    assert code == 0 and "goes on without" not in said, said[-3000:]
    return run


@pytest.fixture(scope="module")
def plain(place, tiny_llama) -> Path:
    """The same run without any logger and any kill."""
    code, said = revinst(place, *arguments(place[0] / "runs", "plain", tiny_llama, **OPTIONS))
    assert code == 0, said[-3000:]
    return place[0] / "runs" / "plain"


def losses(run: Path) -> list[float]:
    return [float(row["train/loss"]) for row in read_rows(run / "metrics.csv")]


def assert_whole(curve: list[tuple[int, float]], run: Path) -> None:
    """Every step is there, and those that were taken twice came out alike."""
    assert sorted({step for step, _ in curve}) == list(range(STEPS))
    assert all(value == pytest.approx(losses(run)[step], rel=1e-6) for step, value in curve)


def test_training_is_the_same(killed, plain):
    assert (killed / "adapter" / "adapter_model.safetensors").read_bytes() == (
        plain / "adapter" / "adapter_model.safetensors"
    ).read_bytes()
    assert losses(killed) == losses(plain) and len(losses(plain)) == STEPS


def test_nothing_lies_elsewhere(killed, place):
    home = Path(place[1]["HOME"])
    assert not list((place[0] / "work").iterdir())
    assert [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()] == []
    assert {"tensorboard", "metrics.csv", "evaluation"} <= {path.name for path in killed.iterdir()}


def test_tensorboard(killed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(killed / "tensorboard")).Reload()
    curve = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert_whole(curve, killed)
    assert len(curve) == STEPS
    assert [event.step for event in events.Scalars("few/rougeL")] == [STEPS]
    texts = [tag for tag in events.Tags()["tensors"] if tag.startswith("samples/")]
    assert len(texts) == 2 and {event.step for event in events.Tensors(texts[0])} == {2, 4, 6, 8}


def test_wandb(killed):
    pytest.importorskip("wandb")
    folders = sorted(killed.glob("wandb/offline-run-*"))
    (run_id,) = {folder.name.rpartition("-")[2] for folder in folders}
    assert len(folders) == 3 and json.loads((killed / "manifest.json").read_text())["loggers"]["wandb"] == run_id
    rows = [row for folder in folders for row in read_history(folder / f"run-{run_id}.wandb")]
    assert_whole([(row["trainer/global_step"], row["train/loss"]) for row in rows if "train/loss" in row], killed)
    tables = [row["samples.path"] for row in rows if "samples.path" in row]
    sampled = {row["trainer/global_step"] for row in rows if "samples.path" in row}
    assert {4, 6, 8} <= sampled <= {2, 4, 6, 8}, "those that it had not written when it was killed are lost"
    table = json.loads(next(killed.glob(f"wandb/*/files/{tables[-1]}")).read_text())
    assert table["columns"] == ["id", "response", "reference", "prediction"] and len(table["data"]) == 2
    assert [row["few/rougeL"] for row in rows if "few/rougeL" in row] == [rouge_of(killed)]
    (page,) = killed.glob("wandb/offline-run-*/files/media/html/few/report*.html")
    assert page.read_text().count("<html") == 1


def rouge_of(run: Path) -> float:
    return json.loads((run / "evaluation" / "few" / "scores.json").read_text())["metrics"]["rougeL"]["mean"]


def test_mlflow(killed, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient((killed / "mlflow").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'revinst'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "killed"
    curve = client.get_metric_history(run.info.run_id, "train/loss")
    assert_whole([(each.step, each.value) for each in curve], killed)
    assert run.data.params["model/lr"] == "0.01" and "/" not in run.data.params["model/base"]
    table = json.loads(next(killed.glob("mlflow/*/*/artifacts/samples.json")).read_text())
    assert table["columns"] == ["step", "id", "response", "reference", "prediction"]
    assert {row[0] for row in table["data"]} == {2, 4, 6, 8}
    assert run.data.metrics["few/rougeL"] == rouge_of(killed)
    assert len(list(killed.glob("mlflow/*/*/artifacts/few/report.html"))) == 1


def test_comet(killed):
    """The archive of the killed process is empty and was dropped; the next one has its numbers too."""
    pytest.importorskip("comet_ml")
    resumed, evaluated = sorted(killed.glob("comet/*/*.zip"))
    key = json.loads((killed / "manifest.json").read_text())["loggers"]["comet"]
    assert {path.name.partition("-")[0] for path in (resumed, evaluated)} == {key}
    messages = read_messages(resumed)
    metrics = [each["metric"] for each in messages.get("metric_msg", [])]
    curve = [(each["step"], each["metricValue"]) for each in metrics if each["metricName"] == "train/loss"]
    assert_whole(curve, killed)
    assert len(curve) == STEPS
    kinds = [each["upload_type"] for each in messages["file_upload"]]
    assert kinds.count("text-sample") == 2 * 3, "of steps 4, 6 and 8"
    assert "asset" in [each["upload_type"] for each in read_messages(evaluated)["file_upload"]], "the report"
    sent = [each["metric"] for each in read_messages(evaluated)["metric_msg"]]
    assert [each["metricValue"] for each in sent if each["metricName"] == "few/rougeL"] == [rouge_of(killed)]


def read_messages(archive: Path) -> dict[str, list[dict]]:
    """Comet's payloads, by their type."""
    messages: dict[str, list[dict]] = {}
    with ZipFile(archive) as file:
        for line in file.read("messages.json").decode().splitlines():
            message = json.loads(line)
            messages.setdefault(message["type"], []).append(message["payload"])
    return messages


def test_a_dead_wandb_process_ends_nothing(place, plain, tiny_llama):
    pytest.importorskip("wandb")
    options = OPTIONS | {"trainer.logger": "wandb"}
    code, said = revinst(place, *arguments(place[0] / "runs", "dead", tiny_llama, **options), fault="end_wandb")
    assert code == 0 and len(re.findall("^trainer.logger WandbLogger: ", said, re.MULTILINE)) == 1, said[-3000:]
    assert state_of(place[0] / "runs" / "dead")["adapter"] == state_of(plain)["adapter"]


def test_a_server_that_is_gone_ends_nothing(place, plain, tiny_llama):
    pytest.importorskip("mlflow")
    args = arguments(place[0] / "runs", "gone", tiny_llama, **OPTIONS | {"trainer.logger": "mlflow"})
    code, said = revinst(place, *args, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert code == 0 and len(re.findall("^trainer.logger mlflow: MlflowException", said, re.MULTILINE)) == 1, said[
        -3000:
    ]
    assert state_of(place[0] / "runs" / "gone")["adapter"] == state_of(plain)["adapter"]


def test_one_of_two_ranks_logs(place, tiny_llama):
    pytest.importorskip("mlflow")
    options = OPTIONS | RANKS | {"trainer.logger": "[mlflow, tensorboard]"}
    code, said = revinst(place, *arguments(place[0] / "runs", "ranks", tiny_llama, **options))
    run = place[0] / "runs" / "ranks"
    assert code == 0, said[-3000:]
    (curve,) = run.glob("mlflow/*/*/metrics/train/loss")
    assert len(curve.read_text().splitlines()) == STEPS and len(list(run.glob("tensorboard/events*"))) == 1
