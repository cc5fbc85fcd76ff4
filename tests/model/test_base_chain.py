"""Every base of docs/bases.md, tiny: trained, scored and merged as plain transformers runs it, or refused."""

from pathlib import Path

import pytest

from tests.model.base_chain import BASES, run_chain

REFUSED = {
    "Gemma 3 4B": "it reads more than text",
    "Mixtral": "of its weights are experts",
    "Qwen3-MoE": "of its weights are experts",
}

NO_GGUF = {"Mistral 0.1": "has no windows", "Phi-3 mini": "has no windows"}


@pytest.mark.wide
@pytest.mark.parametrize("name", BASES)
def test_what_is_trained_and_merged_is_what_plain_transformers_runs(name, base, tmp_path):
    figures = run_chain(BASES[name], tmp_path, Path(base))
    if name in REFUSED:
        assert REFUSED[name] in figures.refused and "\n" not in figures.refused
        return
    assert not figures.refused
    assert figures.loss < 1e-6 and figures.isolation < 1e-6 and figures.texts == (4, 4)
    # bf16 of the merged files: of the change itself less than a twentieth; but a mixture's routers may take another
    # expert where two are as good, and its weights are compared in tests/export/test_merge.py
    bound = figures.kl_adapter / 2 if "16 bits" in name else min(2e-4, figures.kl_adapter / 20)
    assert max(kl for kl in (figures.kl_nf4, figures.kl_16bit) if kl is not None) < bound
    if not figures.no_gguf.startswith("untested"):
        assert NO_GGUF[name] in figures.no_gguf if name in NO_GGUF else figures.kl_gguf < 1e-6
