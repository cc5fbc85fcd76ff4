"""A mistake that all ranks run into is said by the first one; one that a rank has for itself is not lost."""

import os
from itertools import count

import pytest

from revinst import cli

SAID = "revinst fit: give a config: revinst fit --config configs/quickstart.yaml\n"


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"])
@pytest.mark.parametrize(
    ("rank", "parent_ends", "said", "waited"),
    [("0", False, SAID, []), ("3", False, SAID, [3]), ("3", True, "", [3])],
)
def test_who_says_it(capsys, monkeypatch, name, rank, parent_ends, said, waited):  # noqa: PLR0917
    parents, waits = count(100), []
    for variable in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, rank)
    monkeypatch.setattr(os, "getppid", lambda: next(parents) if parent_ends else 100)
    monkeypatch.setattr(cli.time, "sleep", waits.append)
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit"])
    assert ended.value.code == 2 and capsys.readouterr().err == said and waits == waited
