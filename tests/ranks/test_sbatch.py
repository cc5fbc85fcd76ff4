"""scripts/slurm/train.sbatch with srun and scontrol replaced: what is started, and when the job is requeued."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "slurm" / "train.sbatch"


@pytest.mark.parametrize(
    ("code", "told", "requeued"), [(0, False, False), (1, True, True), (0, True, False), (1, False, False)]
)
def test_requeued_only_after_a_stop(tmp_path, code, told, requeued):
    """The signal comes to the script, which hands it on and waits for the end."""
    wait = "kill -USR1 $PPID; while [ ! -e told ]; do sleep 0.02; done" if told else ""
    bodies = {
        "srun": f"trap 'echo told >> calls; touch told' USR1; {wait}\nsleep 0.2; exit {code}",
        "scontrol": "if [ $1 = show ]; then echo first; echo second; fi",
    }
    for name, body in bodies.items():
        file = tmp_path / name
        file.write_text(f'#!/bin/bash\nprintf "%s\\n" {name} "$@" >> {tmp_path}/calls\n{body}\n')
        file.chmod(0o755)
    job = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]"}
    command = ["bash", str(SCRIPT), "configs/a b.yaml", "--model.lr", "1e-4"]
    environment = os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(command, env=environment, check=False, cwd=tmp_path, timeout=30).returncode == code
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[:4] == ["scontrol", "show", "hostnames", "n[1-2]"] and calls.count("told") == told
    assert (calls[-3:] == ["scontrol", "requeue", "77"]) == requeued
    run = calls[calls.index("srun") : calls.index("1e-4") + 1]
    assert run[:3] == ["srun", "--kill-on-bad-exit=1", "torchrun"] and run[run.index("--nnodes") + 1] == "2"
    assert run[run.index("--rdzv-endpoint") + 1] == "first:20077" and "SIGUSR1" in " ".join(run)
    fit = run[run.index("revinst.cli") :]
    assert fit[:4] == ["revinst.cli", "fit", "--config", "configs/a b.yaml"]
    assert fit[fit.index("--trainer.num_nodes") + 1] == "2" and fit[-2:] == ["--model.lr", "1e-4"]


def test_directives_fit_the_script():
    """A signal before the limit, an agent a machine, a log that a requeued job goes on with."""
    lines = dict(
        line[8:].split("=", 1) for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH") and "=" in line
    )
    lines = {name.strip().removeprefix("--"): value for name, value in lines.items()}
    assert (lines["ntasks-per-node"], lines["gpus-per-node"], lines["open-mode"]) == ("1", "8", "append")
    assert lines["signal"] == "B:SIGUSR1@180" and "#SBATCH --requeue" in SCRIPT.read_text()
