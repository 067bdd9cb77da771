"""APG: golden values, laws in every space, momentum by hand, and diffusers."""

import itertools
import math

import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import AdaptiveProjectedGuidance, MomentumBuffer
from guided import LEVEL, MIXTURES, Net, ask, branches, guided, in_row, says

from sfumato.guidance import (
    APG,
    CFG,
    Branch,
    Field,
    Plain,
)
from sfumato.samplers import DDIM, Heun
from sfumato.schedules import (
    EDM,
    X0,
    Eps,
    Prediction,
    RectifiedFlow,
    V,
    trailing,
)


def test_apg_golden():
    there, x = says(X0(), cond=[[3.0, 4.0]], ref=[[1.0, 1.0]])
    cond = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    along, across = torch.tensor([[2.16, 2.88]]).double(), torch.tensor([[-0.16, 0.12]]).double()
    assert torch.allclose(ask(APG(2.0), there, x).x0, cond + across, atol=1e-12)
    assert torch.allclose(ask(APG(2.0, eta=1.0), there, x).x0, cond + across + along, atol=1e-12)
    assert torch.allclose(
        ask(APG(2.0, eta=1.0, norm=2.0), there, x).x0 - cond, torch.tensor([[1.1094, 1.6641]]).double(), atol=5e-5
    )
    assert torch.allclose(ask(APG(2.0, eta=1.0, norm=5.0), there, x).x0, cond + across + along, atol=1e-12)


@pytest.mark.parametrize("space", [X0(), Eps(), V(), EDM(0.5)], ids=str)
def test_apg_laws_in_any_space(space):
    """eta 1 without cut or momentum is CFG; eta 0 leaves nothing along cond; the length of what is added is at most (w - 1) norm."""
    x = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    there = branches(Net(V(), MIXTURES), 4, [0.3, -0.4, 1.0, 2.0])
    cond = in_row(ask(Plain(), there, x), space)
    assert torch.allclose(ask(APG(3.5, eta=1.0, space=space), there, x).x0, ask(CFG(3.5), there, x).x0, atol=1e-12)
    moved = in_row(ask(APG(3.5, space=space), there, x), space) - cond
    assert float((moved * cond).flatten(1).sum(1).abs().max()) < 1e-10
    assert float(moved.flatten(1).norm(dim=1).min()) > 0.05
    cut = in_row(ask(APG(3.5, eta=1.0, norm=0.1, space=space), there, x), space) - cond
    assert torch.allclose(cut.flatten(1).norm(dim=1), torch.full((4,), 0.25, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=str)
def test_apg_momentum_by_hand(sampler):
    """m = d + beta m over steps; the second stage of a step neither reads a later m nor writes one."""
    levels, beta, norm, w = trailing(RectifiedFlow(), 5)[1:], -0.6, 0.8, 3.0
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    net, m = Net(V(), MIXTURES), torch.zeros(3, 4, dtype=torch.float64)
    c, n = {"m": torch.full((3,), 0.3, dtype=torch.float64)}, {"m": torch.full((3,), math.nan)}

    def rule(y, level, before):
        cond, ref = net(y, level, c).x0, net(y, level, n).x0
        d = cond - ref + beta * before
        cut = d * (norm / d.norm(dim=1, keepdim=True)).clamp(max=1)
        along = (cut * cond).sum(1, keepdim=True) / (cond * cond).sum(1, keepdim=True) * cond
        x0 = cond + (w - 1) * (cut - along + 0.2 * along)
        return x0, (y - level.alpha * x0) / level.sigma, d

    y = x
    for now, nxt in itertools.pairwise(levels):
        x0, eps, after = rule(y, now, m)
        new = nxt.alpha * x0 + nxt.sigma * eps
        if isinstance(sampler, Heun) and nxt.sigma:
            _, second, _ = rule(new, nxt, m)
            new = nxt.alpha * (y / now.alpha + (nxt.ratio - now.ratio) * (eps + second) / 2)
        y, m = new, after
    for row in (None, V()):
        last, _ = guided(sampler, APG(w, 0.2, norm, beta), levels, x, Net(row, MIXTURES), m=0.3)
        assert torch.allclose(last, y, rtol=0, atol=1e-10)


def test_apg_is_diffusers_on_raw_outputs():
    """With their original formulation, whose scale is ours less 1, and their norm taken over the channels and pixels of a sample."""
    g = torch.Generator().manual_seed(0)
    outs = [tuple(torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(2)) for _ in range(3)]
    x = torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64)
    for momentum, norm, eta in ((0.0, 15.0, 0.0), (-0.5, 5.0, 0.3), (-0.75, 2.5, 0.0)):
        peer = AdaptiveProjectedGuidance(
            3.0, momentum, adaptive_projected_guidance_rescale=norm, eta=eta, use_original_formulation=True
        )
        peer.momentum_buffer = MomentumBuffer(momentum)
        step = {"i": 0}
        there = {
            "cond": Branch(lambda x, level, c, step=step: Prediction(x, level, outs[step["i"]][0], V())),
            "ref": Branch(lambda x, level, c, step=step: Prediction(x, level, outs[step["i"]][1], V())),
        }
        field = Field(there, APG(4.0, eta, norm, momentum, space=V()), 2)
        for i in range(3):
            step["i"] = i
            field.begin(LEVEL)
            peer.set_state(i, 3, torch.tensor(500))
            theirs = peer.forward(outs[i][0], outs[i][1]).pred
            assert torch.allclose(field(x, LEVEL).out, theirs, rtol=1e-10, atol=1e-10)


def test_apg_in_half_precision():
    """The sum of squares of a picture is beyond 65504; the answer is that of float32."""
    g = torch.Generator().manual_seed(0)
    cond, ref = 4 * torch.randn(1, 3, 64, 64, generator=g), 4 * torch.randn(1, 3, 64, 64, generator=g)

    def found(dtype):
        said = {
            k: Branch(lambda x, level, c, v=v: Prediction(x, level, v.to(dtype), X0()))
            for k, v in (("cond", cond), ("ref", ref))
        }
        return ask(APG(3.0, 0.0, 100.0), said, torch.zeros(1, 3, 64, 64, dtype=dtype)).x0.float()

    assert float((cond * cond).sum()) > 65504
    assert torch.allclose(found(torch.float16), found(torch.float32), atol=0.03)


def test_apg_refusals():
    for make in (
        lambda: APG(norm=0.0),
        lambda: APG(momentum=1.0),
        lambda: APG(momentum=-1.0),
        lambda: APG(eta=math.inf),
        lambda: APG(math.nan),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()
