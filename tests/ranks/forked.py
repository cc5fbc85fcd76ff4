"""Ranks of `evaluate` and `generate` forked from a server that has imported everything: they start in no time."""

import multiprocessing
import os
import sys
from pathlib import Path

from tests.invariants.two_ranks import free_port

IMPORTS = ["revinst.commands.evaluate", "revinst.commands.generate", "revinst.model.lora", "transformers", "peft"]


def run_forked(args: list[object], log: Path, world_size: int = 2) -> list[int]:
    """The ranks' exit codes. log: of both streams of all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS)
    job = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        context.Process(target=work, args=([str(arg) for arg in args], str(log), job | {"RANK": str(rank)}))
        for rank in range(world_size)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
    codes = [rank.exitcode for rank in ranks]
    assert None not in codes, "hangs"
    return codes


def work(args: list[str], log: str, environment: dict[str, str]) -> None:
    import torch

    from revinst import cli

    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = ["revinst", *args]
    cli.main(args)
