"""A tiny run that writes instructions (nonsense, but quickly), and a made mailbox."""

import pytest

from scripts.made_mail import write_mbox
from tests.commands.test_run import fit


@pytest.fixture(scope="session")
def backward_run(tiny_llama, tmp_path_factory):
    runs = tmp_path_factory.mktemp("backward")
    options = {"trainer.max_steps": 2, "model.lr": 0.003}  # at 0.01 later rounds write nothing, in bf16 most of all
    assert fit(runs, "backward", tiny_llama, **options) == 0
    return runs / "backward"


@pytest.fixture
def mbox(tmp_path):
    path = tmp_path / "mail.mbox"
    write_mbox(path)
    return path
