"""The choice of attention where gradients must be the same bits each time."""

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from revinst.errors import UserError
from revinst.model.attention import BACKENDS, choose_attention
from revinst.model.hardware import choose_hardware
from tests.tiny import run_in_process

CPU, BF16 = torch.device("cpu"), torch.bfloat16


def flash_attn_varlen_func(q, k, v, *cu_seqlens, softmax_scale, causal, deterministic=False):
    """Stands in for flash-attn's: attention is what it was asked for."""
    return torch.full_like(q, float(deterministic))


def old_flash_attn_varlen_func(q, k, v, cu_seqlens, *others, softmax_scale, causal):
    """Computes what it says: `fit` compares a tiny copy of its base with plain transformers."""
    return BACKENDS["sdpa"].packed(q, k, v, softmax_scale, cu_seqlens, cu_seqlens.diff().tolist())


@pytest.fixture(params=[flash_attn_varlen_func, old_flash_attn_varlen_func], ids=["new", "old"])
def flash_attn(request, monkeypatch) -> str:
    """A GPU with flash-attn, newer or older than its deterministic backward; which of them."""
    module = ModuleType("flash_attn")
    module.__spec__ = ModuleSpec("flash_attn", None)
    module.flash_attn_varlen_func = request.param
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    for name in ("flash", "varlen"):
        monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], why_not=lambda device, dtype: ""))
    return request.node.callspec.id


@pytest.fixture
def restored(monkeypatch):
    """Undoes what a Trainer(deterministic=True) sets in the process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


def test_only_what_can_be_deterministic_is_chosen(flash_attn):
    """`auto` takes the next backend; a config that names the one that can't is refused."""
    assert choose_attention(CPU, "auto", BF16)[0] == choose_attention(CPU, "flash", BF16)[0] == "flash"
    if flash_attn == "new":
        assert choose_attention(CPU, "auto", BF16, deterministic=True)[0] == "flash"
        assert choose_attention(CPU, "flash", BF16, deterministic=True) == ("flash", "asked for")
        return
    backend, reason = choose_attention(CPU, "auto", BF16, deterministic=True)
    assert backend == "varlen" and "no deterministic backward" in reason
    with pytest.raises(UserError, match=r"model\.attention flash: .* trainer\.deterministic .* model\.attention: auto"):
        choose_hardware(CPU, "flash", deterministic=True)


@pytest.mark.parametrize("backend", ["varlen", "sdpa", "eager"])
def test_others_can_whatever_flash_attn_is_installed(flash_attn, backend):
    assert choose_attention(CPU, backend, BF16, deterministic=True) == (backend, "asked for")


@pytest.mark.parametrize("flash_attn", [flash_attn_varlen_func], ids=["new"], indirect=True)
def test_flash_attn_is_asked(flash_attn, restored):
    q, ends = torch.zeros(3, 1, 8), torch.tensor([0, 3])
    for asked in (False, True):
        torch.use_deterministic_algorithms(asked)
        assert BACKENDS["flash"].packed(q, q, q, 1.0, ends, [3]).eq(asked).all()


@pytest.mark.parametrize("flash_attn", [old_flash_attn_varlen_func], ids=["old"], indirect=True)
@pytest.mark.parametrize("deterministic", ["true", "warn"])
def test_fit_is_refused_in_one_line(flash_attn, restored, tiny_llama, tmp_path, capsys, deterministic):
    """`warn` promises nothing, and is not refused for this."""
    settings = {
        "model.base": tiny_llama,
        "model.attention": "flash",
        "data.source": "quickstart",
        "data.seq_len": 256,
        "runs_dir": tmp_path,
        "trainer.accelerator": "cpu",
        "trainer.deterministic": deterministic,
        "trainer.max_steps": 1,
        "trainer.enable_progress_bar": "false",
        "samples.every_steps": 0,
    }
    flags = [part for key, value in settings.items() for part in (f"--{key}", value)]
    code, err = run_in_process("fit", *flags), capsys.readouterr().err
    if deterministic == "warn":
        assert code == 0
        return
    line = err.strip().splitlines()[-1]
    assert code == 2 and "model.attention flash" in line and "trainer.deterministic" in line and "auto" in line
