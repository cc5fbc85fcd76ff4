"""What a step does with numbers that are not finite, with modes and flags, and what validation measures."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from revinst.config.settings import ModelSettings
from revinst.data.batch import collate_rows
from revinst.errors import UserError
from revinst.model.adapter import adapter_state
from revinst.model.base import load_base
from revinst.model.network import Network
from revinst.model.network import nll as nll_of
from revinst.runs.metrics import MetricsFile, read_rows
from revinst.training.metrics import add_up
from revinst.training.module import InstructionModule
from revinst.training.optim import build_optimizer, lr_at
from tests.tiny import build_data, build_module, build_trainer


def snapshot(module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in adapter_state(module.network.model).items()}


def spoil(module, monkeypatch, steps: set[int]) -> None:
    """Makes the loss NaN in the given steps."""
    exact = module.micro_batch_loss
    monkeypatch.setattr(
        module, "micro_batch_loss", lambda batch: exact(batch) * (float("nan") if module.step in steps else 1.0)
    )


def test_bad_step_is_not_applied_but_counts(tiny_llama, tmp_path, monkeypatch, capsys):
    module = build_module(tiny_llama)
    spoil(module, monkeypatch, {1})
    before = {}
    step = module.training_step

    def training_step(batch, batch_idx):
        before[module.step] = snapshot(module)
        step(batch, batch_idx)

    module.training_step = training_step
    data = build_data(tiny_llama)
    build_trainer(tmp_path, max_steps=3).fit(module, datamodule=data)
    before[module.step] = snapshot(module)
    assert module.step >= 3 and module.bad_steps_in_a_row == 0
    assert all(torch.equal(before[1][name], before[2][name]) for name in before[1])
    assert not all(torch.equal(before[2][name], before[3][name]) for name in before[1])
    assert all(torch.isfinite(tensor).all() for tensor in before[3].values())
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("step 1:"))
    first_row = data.train_rows[data.sampler.rows_at(data.settings.rows_per_step)[0]]
    assert data.train_documents.ids[first_row[0]] in line


def test_bad_steps_in_a_row_stop_the_run(tiny_llama, tmp_path, monkeypatch):
    module = build_module(tiny_llama, max_bad_steps=2)
    spoil(module, monkeypatch, {0, 2, 3})
    with pytest.raises(ValueError, match=r"2 steps in a row were not finite \(the last was step 3"):
        build_trainer(tmp_path, max_steps=9).fit(module, datamodule=build_data(tiny_llama))


def test_gradients_are_clipped_to_the_norm(tiny_llama, tmp_path):
    module = build_module(tiny_llama, max_grad_norm=1e-3)
    norms = []
    configure = module.configure_optimizers

    def configure_optimizers():
        optimizer = configure()
        optimizer.register_step_pre_hook(
            lambda *_: norms.append(
                torch.stack([p.grad.norm() for p in module.network.trainable_parameters()]).norm().item()
            )
        )
        return optimizer

    module.configure_optimizers = configure_optimizers
    trainer = build_trainer(tmp_path)
    trainer.fit(module, datamodule=build_data(tiny_llama))
    assert norms == [pytest.approx(1e-3, rel=1e-3)]
    assert trainer.callback_metrics["train/grad_norm"] > 1e-2, "logged is the norm before clipping"


@pytest.mark.parametrize("flag", [{"precision": "bf16-true"}, {"precision": "16-true"}])
def test_precision_that_rounds_updates_away_is_refused(tiny_llama, tmp_path, flag):
    with pytest.raises(ValueError, match="bf16-mixed"):
        build_trainer(tmp_path, **flag).fit(build_module(tiny_llama), datamodule=build_data(tiny_llama))


def test_validation_loss_is_per_target_whatever_the_batches(tiny_llama, tmp_path):
    """A mean of batch means depends on the batch size."""
    losses = []
    for options in ({"micro_batch_size": 1}, {"micro_batch_size": 5}, {"micro_batch_size": 2, "packing": "none"}):
        torch.manual_seed(3)
        module = build_module(tiny_llama)
        data = build_data(tiny_llama, val_fraction=0.1, **options)
        trainer = build_trainer(tmp_path, limit_val_batches=1.0)
        losses.append(trainer.validate(module, datamodule=data, verbose=False)[0]["val/loss"])
        assert data.val_documents.num_targets > 300
    assert losses == [pytest.approx(losses[0], rel=1e-6)] * 3 and losses[0] > 9


def hand_on(module, *names: str):
    """A loss with its double and what it is divided by, or other numbers of these names; it stays what it was."""
    exact = module.micro_batch_loss

    def micro_batch_loss(batch):
        loss = exact(batch)
        return {"loss": loss, "double": 2 * loss, "targets_seen": torch.tensor(batch.num_targets)} | dict.fromkeys(
            names, loss
        )

    module.micro_batch_loss = micro_batch_loss
    return module


@pytest.mark.parametrize("size", [6, 2])
def test_what_the_loss_hands_to_the_log(tiny_llama, tmp_path, size):
    """Divided by the same targets, whatever the micro-batches; in every logger; the step is that of the loss alone."""
    ends, metrics = [], MetricsFile(tmp_path / "metrics.csv")
    loggers = [metrics, CSVLogger(tmp_path, "csv", "")]
    for change, logger in ((lambda module: module, False), (hand_on, loggers)):
        torch.manual_seed(3)
        module = change(build_module(tiny_llama))
        options = {"max_steps": 2, "limit_val_batches": 2, "val_check_interval": 1, "log_every_n_steps": 1}
        trainer = build_trainer(tmp_path, logger=logger, **options)
        trainer.fit(module, datamodule=build_data(tiny_llama, micro_batch_size=size, val_fraction=0.1))
        ends.append(snapshot(module))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    metrics.save()
    for path in (metrics.path, tmp_path / "csv" / "metrics.csv"):
        lines = [{name: float(text) for name, text in row.items() if text} for row in read_rows(path)]
        for part in ("train", "val"):
            of_part = [line for line in lines if f"{part}/loss" in line]
            assert len(of_part) == 2 and [line[f"{part}/targets_seen"] for line in of_part] == [1, 1]
            doubles = [2 * line[f"{part}/loss"] for line in of_part]
            assert [line[f"{part}/double"] for line in of_part] == pytest.approx(doubles, rel=1e-6)


def test_names_that_the_log_can_not_take(tiny_llama, tmp_path):
    module = hand_on(build_module(tiny_llama), "lr")
    with pytest.raises(ValueError, match="train/lr is logged by the loop itself"):
        build_trainer(tmp_path).fit(module, datamodule=build_data(tiny_llama))
    sums = {}
    for losses in ({"loss": torch.ones(()), "kl": torch.ones(())}, {"loss": torch.ones(()), "kl": torch.ones(())}):
        add_up(sums, losses)
    assert sums == {"loss": 2, "kl": 2}
    with pytest.raises(ValueError, match=r"hands on \['loss'\], the one before it \['kl', 'loss'\]"):
        add_up(sums, {"loss": torch.ones(())})


def test_validation_leaves_training_as_it_was(tiny_llama, tmp_path):
    """The same adapter with and without validation passes between the steps, dropout on."""
    ends = []
    for limit in (0, 1.0):
        torch.manual_seed(3)
        module = build_module(tiny_llama, quantization="nf4")
        trainer = build_trainer(tmp_path, max_steps=3, limit_val_batches=limit, val_check_interval=1)
        trainer.fit(module, datamodule=build_data(tiny_llama, rows_per_step=2))
        ends.append(snapshot(module))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_chunks_do_not_change_the_loss(monkeypatch, tiny_llama):
    """Of each target and its gradient, whatever comes after or besides; and nothing where there is no target."""

    def weigh(logits, targets, weight):
        return weight * nll_of(logits, targets)

    data = build_data(tiny_llama)
    data.setup()
    batch = collate_rows(data.train_documents, data.train_rows[:1])
    network = Network(load_base(str(tiny_llama), torch.device("cpu"), "none", dtype=torch.float32))
    embeddings = network.base.get_input_embeddings()
    weights = torch.linspace(0.5, 2.0, batch.num_targets)
    embeddings.weight.requires_grad_(True)
    logits = network.head(network.hidden(batch)[0])[batch.target_index]
    expected = torch.nn.functional.cross_entropy(logits, batch.targets[0, batch.target_index], reduction="none")
    gradient = torch.autograd.grad((expected * weights).sum(), embeddings.weight)[0]
    assert batch.num_targets > 20 and gradient.norm() > 0
    for size in (1, 7, 1000):
        monkeypatch.setattr("revinst.model.network.CHUNK_TARGETS", size)
        nll = network.token_nll(batch)
        assert torch.allclose(nll, expected, atol=1e-5)
        got = torch.autograd.grad((nll * weights).sum(), embeddings.weight)[0]
        assert torch.allclose(got, gradient, rtol=1e-4, atol=1e-4)
        weighted = network.token_loss(batch, weigh, weights)
        assert torch.allclose(weighted, expected * weights, atol=1e-5)
        assert torch.allclose(torch.autograd.grad(weighted.sum(), embeddings.weight)[0], got, rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            assert torch.allclose(network.token_nll(batch), expected, atol=1e-5)
            weighted = network.token_loss(batch, weigh, weights)
            assert torch.allclose(weighted, expected * weights, atol=1e-5)
    filler = collate_rows(data.train_documents, data.train_rows[:1], supervised=False)
    nothing = network.token_nll(filler)
    assert nothing.shape == (0,) and not torch.autograd.grad(nothing.sum(), embeddings.weight)[0].any()


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_learning_rate(schedule):
    lrs = [lr_at(s, lr=2.0, schedule=schedule, warmup_steps=10, total_steps=1000) for s in range(1000)]
    assert lrs[0] == pytest.approx(0.2) and lrs[9] == lrs[10] == 2.0 and min(lrs) > 0
    assert lrs == sorted(lrs[:10]) + sorted(lrs[10:], reverse=True)
    assert lrs[-1] == 2.0 if schedule == "constant" else lrs[-1] < 0.02
    middle = lrs[505]
    assert middle == (2.0 if schedule == "constant" else pytest.approx(1.0, abs=0.01))


def test_paged_optimizer_without_a_gpu_is_said_aloud():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer, reason = build_optimizer([parameter], "paged_adamw_32bit", 1e-3, (0.9, 0.999), 0.0, torch.device("cpu"))
    assert type(optimizer) is torch.optim.AdamW and "this is cpu" in reason
    with pytest.raises(UserError, match="paged_adamw_8bit"):
        InstructionModule(ModelSettings(optimizer="sgd"))


def test_ranks_meet_on_their_own_device(monkeypatch):
    """At the end of a fit the module is on the CPU again, where NCCL has no backend. The value stays what it was."""
    seen = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor, op: seen.append((tensor, op)))
    module = InstructionModule(ModelSettings())
    module._trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("meta")))
    value = torch.ones((), dtype=torch.float64)
    assert module.device.type == "cpu" and module.max_over_ranks(value) is not value
    module.max_over_ranks([1, 2])
    (one, _), (both, operation) = seen
    assert one.is_meta and both.is_meta and both.shape == (2,) and one.dtype == torch.float64
    assert operation == torch.distributed.ReduceOp.MAX
