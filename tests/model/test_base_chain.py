"""Every base of docs/bases.md, tiny: trained, scored and merged as plain transformers runs it, or refused."""

from pathlib import Path

import pytest

from tests.model.base_chain import BASES, run_chain

REFUSED = {
    "Gemma 3 4B": "it reads more than text",
    "Mixtral": "of its weights are experts",
    "Qwen3-MoE": "of its weights are experts",
}


@pytest.mark.wide
@pytest.mark.parametrize("name", BASES)
def test_what_is_trained_and_merged_is_what_plain_transformers_runs(name, base, tmp_path):
    figures = run_chain(BASES[name], tmp_path, Path(base))
    if name in REFUSED:
        assert REFUSED[name] in figures.refused and "\n" not in figures.refused
        return
    assert not figures.refused
    assert figures.loss < 1e-6 and figures.isolation < 1e-6 and figures.texts == (4, 4)
    # bf16 of the merged files: of the change itself less than a twentieth
    assert max(figures.kl_nf4, figures.kl_16bit) < min(2e-4, figures.kl_adapter / 20)
