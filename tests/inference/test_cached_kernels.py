"""Triton kernels on a cache against their plain reference, on a GPU: pytest tests/inference -o addopts="" -m gpu."""

import pytest
import torch

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [1, 40, 64, 150])
@pytest.mark.parametrize("heads, key_heads, size", [(32, 32, 128), (9, 3, 64), (12, 2, 48), (8, 4, 256)])
def test_kernels_write_and_attend_as_their_reference(dtype, heads, key_heads, size, window):
    from revinst.inference.engine.cached import kernels, plain

    torch.manual_seed(0)
    slots, positions, tokens = 9, 150, 50

    def draw(*shape):
        return torch.randn(*shape, dtype=dtype, device="cuda")

    def parts(joined):
        return [x.unflatten(1, (-1, size)) for x in joined.split([heads * size] + [key_heads * size] * 2, 1)]

    angles = draw(positions, size // 2).repeat(1, 2), draw(positions, size // 2).repeat(1, 2)
    owners = torch.arange(tokens, device="cuda") % slots
    places = torch.randperm(positions, device="cuda")[:tokens]
    lengths = torch.tensor([0, 149, 63, 64, 65, 7, 128], device="cuda")
    cache, joined = draw(2, slots, key_heads, positions, size), draw(tokens, (heads + 2 * key_heads) * size)
    results = []
    for ops in (kernels, plain):
        own_cache, own = cache.clone(), joined.clone()
        ops.rotate_and_write(parts(own), angles, own_cache, owners, places)
        attended = [
            ops.attend(parts(own)[0][:7], own_cache, lengths, positions, 0.1, (window, cap)) for cap in (None, 0.7)
        ]
        results.append((own, own_cache, *attended))
    assert (results[0][1] != cache).sum().item() == pytest.approx(2 * tokens * key_heads * size, rel=0.01)
    for got, expected in zip(*results, strict=True):
        error = (got.double() - expected.double()).norm() / expected.double().norm()
        assert error < (1e-6 if dtype == torch.float32 else 5e-3)
