"""scripts/slurm/train.sbatch with srun and scontrol replaced: what is started, and when the job is requeued."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "slurm" / "train.sbatch"


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (143, True), (2, False), (1, False)])
def test_requeued_only_after_a_stop(tmp_path, code, requeued):
    for name, end in (("srun", code), ("scontrol", 0)):
        file = tmp_path / name
        file.write_text(f'#!/bin/bash\nprintf "%s\\n" {name} "$@" >> {tmp_path}/calls\nexit {end}\n')
        file.chmod(0o755)
    job = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "77", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(SCRIPT), "configs/a b.yaml", "--model.lr", "1e-4"]
    assert subprocess.run(command, env=os.environ | job, check=False).returncode == code
    calls = (tmp_path / "calls").read_text().splitlines()
    fit = calls[: calls.index("scontrol")] if requeued else calls
    assert fit[:5] == ["srun", "--kill-on-bad-exit=1", "revinst", "fit", "--config"] and fit[5] == "configs/a b.yaml"
    assert fit[fit.index("--trainer.num_nodes") + 1] == "2" and fit[-2:] == ["--model.lr", "1e-4"]
    assert calls[len(fit) :] == (["scontrol", "requeue", "77"] if requeued else [])


def test_directives_fit_the_script():
    """A signal before the limit, a task a GPU, a log that a requeued job goes on with."""
    lines = dict(
        line[8:].split("=", 1) for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH") and "=" in line
    )
    lines = {name.strip().removeprefix("--"): value for name, value in lines.items()}
    assert lines["ntasks-per-node"] == lines["gpus-per-node"] == "8" and lines["open-mode"] == "append"
    assert lines["signal"] == "SIGUSR1@180" and "#SBATCH --requeue" in SCRIPT.read_text()
