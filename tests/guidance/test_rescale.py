"""Rescale: golden values, every space, and diffusers."""

import math

import pytest
import torch
from diffusers.guiders.guider_utils import rescale_noise_cfg
from guided import MIXTURES, Net, ask, branches, in_row, says

from sfumato.guidance import (
    CFG,
    Branch,
    Mix,
    Rescale,
)
from sfumato.schedules import (
    EDM,
    X0,
    Eps,
    Flow,
    Prediction,
    V,
)


def test_rescale_golden():
    there, x = says(X0(), cond=[[1.0, 2, 3, 4]], ref=[[0.0, 1, 1, 2]])
    assert ask(CFG(7.5), there, x).x0.tolist() == [[7.5, 8.5, 16, 17]]
    found = ask(Rescale(CFG(7.5), 0.7), there, x)
    assert torch.allclose(found.x0, torch.tensor([[3.6216, 4.1045, 7.7262, 8.2091]], dtype=torch.float64), atol=5e-5)
    assert torch.allclose(found.eps, (x - 0.6 * found.x0) / 0.8, atol=1e-12)
    assert float(ask(Rescale(CFG(7.5), 1.0), there, x).x0.std()) == pytest.approx(1.2909944487, abs=1e-9)
    assert torch.equal(ask(Rescale(CFG(7.5), 0.0), there, x).x0, ask(CFG(7.5), there, x).x0)


@pytest.mark.parametrize("space", [X0(), Eps(), V(), Flow(), EDM(0.5)], ids=str)
@pytest.mark.parametrize("row", [None, V(), Eps()], ids=str)
def test_rescale_in_any_space(space, row):
    """X (1 - phi + phi std(X_c) / std(X_w)) there, per sample, whatever the network answers in."""
    x = torch.randn(3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    there = branches(Net(row, MIXTURES), 3, [0.3, -0.4, 1.0])
    cond, ref = (in_row(ask(Mix({k: 1.0}) if k == "cond" else CFG(0.0), there, x), space) for k in ("cond", "ref"))
    w = ref + 4.0 * (cond - ref)
    factor = torch.stack([1 - 0.7 + 0.7 * c.std() / v.std() for c, v in zip(cond, w, strict=True)])[:, None, None]
    found = ask(Rescale(CFG(4.0), 0.7, space), there, x)
    assert torch.allclose(in_row(found, space), w * factor, rtol=1e-10, atol=1e-10)
    assert torch.allclose(0.6 * found.x0 + 0.8 * found.eps, x, atol=1e-10)
    whole = ask(Rescale(CFG(4.0), 1.0, space), there, x)
    assert torch.allclose(in_row(whole, space).flatten(1).std(1), cond.flatten(1).std(1), rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rescale_is_diffusers_in_the_networks_own_row(dtype):
    """To the last bit or two: they round X phi std / std + X (1 - phi), we X (1 - phi + phi std / std)."""
    g = torch.Generator().manual_seed(0)
    cond, ref, x = (torch.randn(4, 3, 8, 8, generator=g, dtype=dtype) for _ in range(3))
    for row in (Eps(), V()):
        said = {
            k: Branch(lambda x, level, c, out=v, row=row: Prediction(x, level, out, row))
            for k, v in (("cond", cond), ("ref", ref))
        }
        found = ask(Rescale(CFG(7.5), 0.7, row), said, x)
        theirs = rescale_noise_cfg(ref + 7.5 * (cond - ref), cond, 0.7)
        assert torch.allclose(found.out, theirs, rtol=4 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)


def test_rescale_without_spread():
    """A guided prediction without any stays; a sample of one number is refused; a rule that did not guide is left alone."""
    there, x = says(X0(), cond=[[2.0, 2.0], [1.0, 3.0]], ref=[[1.0, 1.0], [0.0, 1.0]])
    found = ask(Rescale(CFG(3.0), 1.0), there, x).x0
    assert found[0].tolist() == [4.0, 4.0]
    assert float(found[1].std()) == pytest.approx(math.sqrt(2))
    there, x = says(X0(), cond=[[2.0]], ref=[[1.0]])
    with pytest.raises(ValueError, match="a sample of one number"):
        ask(Rescale(CFG(3.0)), there, x)
    assert float(ask(Rescale(CFG(1.0)), there, x).x0) == 2.0
    for phi in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="allowed"):
            Rescale(phi=phi)
