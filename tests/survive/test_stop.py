"""Told to stop, a run finishes its step, saves, says how to go on, and exits 143 or 130."""

import json

import pytest
import torch
from safetensors.torch import load_file

from revinst.errors import UserError
from tests.survive.faults import arguments, assert_equal, count_lost, run_process, state_of


def names_of(run) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("*.ckpt"))


def test_sigterm(folder, tiny_llama, stopped, whole, copy_of, fault):
    assert names_of(stopped) == ["step-000006.ckpt", "step-000007.ckpt"]
    log = (folder / "stopped.log").read_text()
    assert "stopped by SIGTERM at step 7; the same command goes on from" in log and "step-000007.ckpt" in log
    assert not json.loads((stopped / "manifest.json").read_text())["completed"]
    run = copy_of("stopped", "goes-on")
    assert run_process(arguments(folder, "goes-on", tiny_llama), folder / "goes-on.log")[0] == 0
    state = state_of(run)
    with fault("SIGTERM") as counts:
        counts["injected"] += 1
        counts["bytes_lost"] += count_lost(state, whole[0])
        assert_equal(state, whole[0])


def test_later_stages_refuse_it_or_take_the_newest_checkpoint(folder, stopped, copy_of):
    run, log = copy_of("stopped", "later"), folder / "later.log"
    assert run_process(["merge", str(run), str(folder / "merged")], log)[0] == 2
    assert "has not finished" in log.read_text() and not (folder / "merged").exists()
    assert run_process(["merge", str(run), str(folder / "merged"), "--unfinished"], log)[0] == 0, log.read_text()[
        -2000:
    ]
    state = torch.load(run / "checkpoints" / "step-000007.ckpt", weights_only=True)["state_dict"]
    exported = load_file(run / "adapter-step-000007" / "adapter_model.safetensors")
    assert len(exported) == 28 and all(torch.equal(exported[name], state[name]) for name in state)
    assert (folder / "merged" / "config.json").is_file() and not (run / "adapter").exists()
    # The same adapter on the model that it is already in:
    config = run / "adapter-step-000007" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(folder / "merged")}))
    assert run_process(["merge", str(config.parent), str(folder / "twice")], log)[0] == 2
    assert "already merged" in log.read_text() and not (folder / "twice").exists()


def test_push_without_network_keeps_the_folder(monkeypatch, tmp_path):
    from huggingface_hub import HfApi

    from revinst.export.publish import push

    class ConnectError(Exception):
        """As httpx's, which is no OSError."""

    def fail(*args, **kwargs):
        raise ConnectError("no route\nmore")

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(HfApi, "create_repo", fail)
    with pytest.raises(UserError, match=r"me/model: no route; the merged model is in") as caught:
        push(tmp_path, "me/model")
    assert "\n" not in str(caught.value)


@pytest.mark.wide
@pytest.mark.parametrize(
    ("sent", "code", "says"),
    [
        ("SIGINT finish_step:6", 130, "stopped by SIGINT at step 7"),
        ("SIGUSR1 validation_step:0", 143, "stopped by SIGUSR1 at step 3"),
        ("SIGINT SIGINT micro_batch_loss:9", 130, "stopped by SIGINT at step 3"),
        ("SIGTERM fsync:0", 143, "there is no checkpoint yet; the same command starts again"),
    ],
)
def test_other_signals(folder, tiny_llama, whole, fault, sent, code, says):  # noqa: PLR0917
    """In a step, in a validation, twice in a step (which is not finished then), and before the first step."""
    signals, at = sent.rsplit(" ", 1)
    name = sent.replace(" ", "-").replace(":", "-")
    log = folder / f"{name}.log"
    with fault(signals.replace("SIGINT SIGINT", "SIGINT twice")) as counts:
        counts["injected"] += 1
        assert run_process(arguments(folder, name, tiny_llama), log, signals, at)[0] == code, log.read_text()[-2000:]
        assert says in log.read_text() and "Traceback" not in log.read_text()
        assert run_process(arguments(folder, name, tiny_llama), log)[0] == 0, log.read_text()[-2000:]
        state = state_of(folder / name)
        counts["bytes_lost"] += count_lost(state, whole[0])
        assert_equal(state, whole[0])


def test_checkpoints_by_time(folder, tiny_llama):
    """Every step is later than 0.006 s, so each saves one."""
    options = {"checkpoint.every_steps": "null", "checkpoint.every_minutes": 1e-4, "checkpoint.keep_last": 99}
    options |= {"trainer.max_steps": 5}
    assert run_process(arguments(folder, "timed", tiny_llama, **options), folder / "timed.log")[0] == 0
    assert names_of(folder / "timed") == [f"step-00000{step}.ckpt" for step in range(1, 6)]
