"""Gradients are clipped as PyTorch clips them, to the bit, also where nothing is to be done."""

import math

import pytest
import torch
from torch import nn

from sfumato.diffusion.clipping import clip


def parameters(scale):
    made = [nn.Parameter(torch.zeros(n)) for n in (5, 1, 7)]
    generator = torch.Generator().manual_seed(0)
    for parameter in made[:2]:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return made


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.2, 1.0, 30.0, math.inf, math.nan])
@pytest.mark.parametrize("limit", [None, 1e-3, 0.5, 1.0])
def test_it_is_that_of_pytorch(scale, limit):
    ours, theirs = parameters(scale), parameters(scale)
    norm = clip(ours, limit)
    if limit is None:  # infinity would make infinite gradients none at all
        expected = nn.utils.get_total_norm([p.grad for p in theirs[:2]])
    else:
        expected = nn.utils.clip_grad_norm_(theirs, limit)
    assert torch.equal(norm, expected) or (norm.isnan() and expected.isnan())
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0, equal_nan=True)
    assert ours[2].grad is None


def test_at_the_limit_itself():
    """Where rounding decides whether there is something to clip."""
    for k in range(200):
        ours, theirs = ([nn.Parameter(torch.zeros(1))] for _ in range(2))
        for (parameter,) in (ours, theirs):
            parameter.grad = torch.tensor([1.0 - 2e-6 + k * 1e-8])
        clip(ours, 1.0)
        nn.utils.clip_grad_norm_(theirs, 1.0)
        assert torch.equal(ours[0].grad, theirs[0].grad)
