"""Weightings: golden values, one loss whatever the row, and limits instead of nan."""

import pytest
import torch
from oracles import ROWS

from sfumato.schedules import EDM, X0, EDMWeighting, Eps, Flow, Level, MinSNR, V, output_weight, target

SNR = torch.tensor([0.01, 0.1, 1, 5, 10, 100], dtype=torch.float64)


def _vp(snr):
    return Level.from_log_snr(torch.zeros_like(snr), snr.log())


GOLDEN = {
    Eps(): [1, 1, 1, 1, 0.5, 0.05],
    V(): [0.00990099, 0.0909091, 0.5, 0.833333, 0.454545, 0.049505],
    Flow(): [0.00826446, 0.0577215, 0.25, 0.477458, 0.288608, 0.0413223],
    X0(): [0.01, 0.1, 1, 5, 5, 5],
}


@pytest.mark.parametrize("row", GOLDEN, ids=str)
def test_min_snr_golden(row):
    assert torch.allclose(
        output_weight(MinSNR(5.0), row, _vp(SNR)), torch.tensor(GOLDEN[row], dtype=torch.float64), rtol=3e-6
    )


def test_edm_golden():
    weights = output_weight(EDMWeighting(0.5), X0(), _vp(SNR))
    assert torch.allclose(weights, torch.tensor([4.01, 4.1, 5, 9, 14, 104], dtype=torch.float64))


def test_edm_is_weight_one_on_its_own_output():
    for sd in (0.5, 0.75, 1.0):
        assert torch.allclose(output_weight(EDMWeighting(sd), EDM(sd), _vp(SNR)), torch.ones_like(SNR), rtol=1e-12)
    assert torch.allclose(output_weight(EDMWeighting(1.0), V(), _vp(SNR)), torch.ones_like(SNR), rtol=1e-12)


@pytest.mark.parametrize("weighting", [MinSNR(5.0), MinSNR(0.7), EDMWeighting(0.5)], ids=str)
@pytest.mark.parametrize("path", ["vp", "flow"])
def test_the_same_belief_in_any_row_gives_the_same_loss(weighting, path):
    t = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    level = Level(t, 1 - t, t) if path == "flow" else Level(t, torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2))
    x0, eps = torch.randn(25, 6, dtype=torch.float64), torch.randn(25, 6, dtype=torch.float64)
    at = level.like(x0)
    believed = x0 + 0.3 * torch.randn(25, 6, dtype=torch.float64)
    believed_eps = eps - at.alpha / at.sigma * (believed - x0)  # at the same x
    losses = []
    for row in ROWS:
        error = target(row, at, believed, believed_eps) - target(row, at, x0, eps)
        losses.append(output_weight(weighting, row, level) * error.square().mean(1))
    for loss in losses[1:]:
        assert torch.allclose(loss, losses[0], rtol=1e-9)
    # and it is W times the error of x0
    wanted = weighting(level.log_snr) * (believed - x0).square().mean(1)
    assert torch.allclose(losses[0], wanted, rtol=1e-9)


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_limits_at_both_ends(row, dtype):
    """At exactly zero SNR and exactly no noise: the limit, never nan."""
    ends = Level(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0], dtype=dtype), torch.tensor([1.0, 0.0], dtype=dtype))
    weights = output_weight(MinSNR(5.0), row, ends)
    limits = {Eps: (1.0, 0.0), X0: (0.0, 5.0), V: (0.0, 0.0), Flow: (0.0, 0.0), EDM: (0.0, 0.0)}[type(row)]
    assert weights.tolist() == pytest.approx(limits, abs=1e-7)
    assert torch.isfinite(output_weight(EDMWeighting(0.5), row, ends)).all()


@pytest.mark.parametrize("make", [lambda: MinSNR(0.0), lambda: MinSNR(float("nan")), lambda: EDMWeighting(-1.0)])
def test_refusals(make):
    with pytest.raises(ValueError, match="allowed: > 0"):
        make()
