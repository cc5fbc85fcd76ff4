"""The step is the recipe's, the micro-batch is the machine's: what happens where memory runs out."""

import pytest
import torch

from revinst.errors import UserError
from revinst.model.micro_batch import CPU_TOKENS
from tests.tiny import build_data, build_module, build_trainer

NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried ...")


def run_out_above(module, rows: int, monkeypatch, error: Exception = NO_MEMORY) -> list[int]:
    """Forwards of more rows of 256 tokens fail. -> tokens of each that did not."""
    tokens = []
    exact = module.micro_batch_loss

    def micro_batch_loss(batch):
        if batch.num_tokens > rows * 256:
            raise error
        tokens.append(batch.num_tokens)
        return exact(batch)

    monkeypatch.setattr(module, "micro_batch_loss", micro_batch_loss)
    return tokens


def adapter_after(module, trainer, data) -> torch.Tensor:
    torch.manual_seed(3)
    trainer.fit(module, datamodule=data)
    return torch.cat([p.detach().flatten() for p in module.network.trainable_parameters()])


@pytest.mark.parametrize("error", [NO_MEMORY, RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_it_is_halved_and_the_step_is_taken_again(tiny_llama, tmp_path, monkeypatch, capsys, error):
    expected = adapter_after(build_module(tiny_llama), build_trainer(tmp_path, max_steps=2), build_data(tiny_llama))
    module, data = build_module(tiny_llama), build_data(tiny_llama)
    tokens = run_out_above(module, 2, monkeypatch, error)
    got = adapter_after(module, build_trainer(tmp_path, max_steps=2), data)
    assert module.micro_batch_size == 2 and len(tokens) == 6 and data.sampler.next_row == 12
    said = [line for line in capsys.readouterr().out.splitlines() if "memory ran out" in line]
    assert said == [
        "step 0: memory ran out with 6 rows a forward; goes on with 3, the same step",
        "step 0: memory ran out with 3 rows a forward; goes on with 2, the same step",
    ]
    assert (got - expected).norm() / expected.norm() < 1e-4


def test_one_row_that_does_not_fit_is_the_users_to_mend(tiny_llama, tmp_path, monkeypatch):
    module = build_module(tiny_llama)
    run_out_above(module, 0, monkeypatch)
    with pytest.raises(UserError, match=r"step 0: memory ran out with one row a forward .*activation_memory_gib: 0"):
        build_trainer(tmp_path).fit(module, datamodule=build_data(tiny_llama))


def test_other_errors_are_not_caught(tiny_llama, tmp_path, monkeypatch):
    module = build_module(tiny_llama)
    run_out_above(module, 0, monkeypatch, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        build_trainer(tmp_path).fit(module, datamodule=build_data(tiny_llama))


def test_auto_on_a_cpu(tiny_llama, tmp_path):
    """No more tokens a micro-batch than help, evenly filled."""
    module, data = build_module(tiny_llama), build_data(tiny_llama, rows_per_step=12, micro_batch_size="auto")
    build_trainer(tmp_path).fit(module, datamodule=data)
    assert module.micro_batch_size == 6 and CPU_TOKENS // 256 == 8
    assert module.reasons["micro_batch"].startswith("6 of a step's 12 rows a forward (on a CPU more would be no faster")


@pytest.mark.parametrize(("asked", "expected"), [("auto", 3), (4, 4)])
def test_a_resumed_run_keeps_the_number(tiny_llama, tmp_path, asked, expected):
    """As long as what it was decided by is the same; another number in the config is another decision."""
    module = build_module(tiny_llama)
    trainer = build_trainer(tmp_path)
    trainer.fit(module, datamodule=build_data(tiny_llama, micro_batch_size="auto"))
    module.micro_batch_size = 3  # as if memory had run out
    trainer.save_checkpoint(tmp_path / "1.ckpt")
    again = build_module(tiny_llama)
    data = build_data(tiny_llama, micro_batch_size=asked)
    build_trainer(tmp_path, max_steps=2).fit(again, datamodule=data, ckpt_path=tmp_path / "1.ckpt")
    assert again.micro_batch_size == expected


def test_more_ranks_than_rows_are_refused(tiny_llama, tmp_path):
    data = build_data(tiny_llama, rows_per_step=2)
    data.check_ranks(2)
    with pytest.raises(UserError, match=r"data\.rows_per_step 2: 3 ranks would share them.*raise it to 3"):
        data.check_ranks(3)
