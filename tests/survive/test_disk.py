"""A disk that is full, a folder that can't be written: a clear line, the last good checkpoint stays, room mends it."""

import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.survive.faults import arguments, assert_equal, count_lost, run_process, state_of

pytestmark = pytest.mark.wide
ROOT = Path(__file__).resolve().parents[2]
NEW_NAMESPACE = ["unshare", "--map-root-user", "--mount"]  # where everybody may mount a disk of their own


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_read_only_folder_in_mid_run(folder, tiny_llama, whole, fault):
    """The checkpoints' folder turns read-only after step 7; the checkpoint of step 8 is the first that fails."""
    run, log = folder / "locked", folder / "locked.log"
    checkpoints, args = run / "checkpoints", arguments(folder, "locked", tiny_llama)
    with fault("read-only folder") as counts:
        code, _ = run_process(args, log, partial(checkpoints.chmod, 0o555), "finish_step:6")
        counts["injected"] += 1
        line = log.read_text().strip().splitlines()[-1]
        assert code == 2 and "Traceback" not in log.read_text(), log.read_text()[-2000:]
        assert str(checkpoints) in line and "Permission denied" in line
        assert sorted(path.name for path in checkpoints.glob("*.ckpt")) == ["step-000004.ckpt", "step-000006.ckpt"]
        checkpoints.chmod(0o755)
        assert run_process(args, log)[0] == 0, log.read_text()[-2000:]
        state = state_of(run)
        counts["bytes_lost"] += count_lost(state, whole[0])
        assert_equal(state, whole[0])


def test_read_only_folder_from_the_start(folder, tiny_llama, fault):
    runs, log = folder / "locked-runs", folder / "locked-runs.log"
    runs.mkdir(mode=0o555)
    args = arguments(folder, "new", tiny_llama, runs_dir=runs)
    with fault("read-only folder") as counts:
        counts["injected"] += 1
        assert run_process(args, log)[0] == 2
        line = log.read_text().strip().splitlines()[-1]
        assert str(runs) in line and "Permission denied" in line and "Traceback" not in log.read_text()
        assert not any(runs.iterdir())


def test_full_disk(folder, tiny_llama, whole, fault, tmp_path):
    """Real disks of six sizes, so that another write is the one that finds no room; then the disk grows."""
    if subprocess.run([*NEW_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk of their own")
    rng, run = random.Random(0), folder / "whole"
    checkpoint = max(path.stat().st_size for path in (run / "checkpoints").glob("*.ckpt"))
    everything = sum(map(len, contents(run).values()))
    sizes = [round(part * checkpoint) for part in (rng.uniform(0, 1), rng.uniform(1, 2), rng.uniform(2, 3), 3.05)]
    sizes += [round(rng.uniform(0.5, 1) * everything), everything - 4096]
    command = [*NEW_NAMESPACE, sys.executable, "-m", "tests.survive.small_disk", str(folder), str(tiny_llama)]
    with fault("full disk") as counts:
        done = subprocess.run(
            [*command, str(tmp_path), *map(str, sizes)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        states = [torch.load(path, weights_only=True) for path in sorted(tmp_path.glob("state-*.pt"))]
        counts["injected"] += len(states)
        assert len(states) >= 5, done.stdout
        for state in states:
            counts["bytes_lost"] += count_lost(state, whole[0])
        for state in states:
            assert_equal(state, whole[0])
