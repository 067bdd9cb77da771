"""Weightings: golden values, one loss whatever the row, and limits instead of nan."""

import itertools
import math

import pytest
import torch
from oracles import ROWS

from sfumato.schedules import (
    EDM,
    ELBO,
    P2,
    X0,
    Constant,
    Cosine,
    Debiased,
    EDMWeighting,
    Eps,
    Flow,
    Level,
    LinearBeta,
    LogSNRImportance,
    MinSNR,
    RectifiedFlow,
    Score,
    SigmoidWeighting,
    SoftMinSNR,
    Uniform,
    V,
    output_weight,
    target,
)

WEIGHTINGS = [
    MinSNR(5.0), MinSNR(0.7), EDMWeighting(0.5), Constant(), Constant(X0()), Constant(V()), Constant(Flow()), Constant(EDM(0.5)),
    SoftMinSNR(), SoftMinSNR(0.3), Debiased(), P2(), P2(2.0, 0.5), SigmoidWeighting(-3.0), SigmoidWeighting(2.0),
    ELBO(Cosine()), ELBO(RectifiedFlow()),
]  # fmt: skip
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


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)
@pytest.mark.parametrize("path", ["vp", "flow"])
def test_the_same_belief_in_any_row_gives_the_same_loss(weighting, path):
    t = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    level = Level(t, 1 - t, t) if path == "flow" else Level(t, torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2))
    x0, eps = torch.randn(25, 6, dtype=torch.float64), torch.randn(25, 6, dtype=torch.float64)
    at = level.like(x0)
    believed = x0 + 0.3 * torch.randn(25, 6, dtype=torch.float64)
    believed_eps = eps - at.alpha / at.sigma * (believed - x0)  # at the same x
    losses = []
    for row in (*ROWS, Score()):
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


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)
@pytest.mark.parametrize("row", [*ROWS, Score()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_no_nan_at_either_end(weighting, row, dtype):
    ends = Level(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0], dtype=dtype), torch.tensor([1.0, 0.0], dtype=dtype))
    weights = output_weight(weighting, row, ends)
    assert torch.isfinite(weights).all()
    assert (weights >= 0).all()


def on(row, weighting):
    return output_weight(weighting, row, _vp(SNR)).tolist()


@pytest.mark.parametrize(
    ("weighting", "on_eps", "on_v"),
    [
        (SoftMinSNR(5.0), [0.998004, 0.980392, 0.833333, 0.5, 0.333333, 0.047619],
         [0.00988123, 0.0891266, 0.416667, 0.416667, 0.30303, 0.0471476]),
        (SoftMinSNR(), [0.997506, 0.97561, 0.8, 0.444444, 0.285714, 0.0384615], None),
        (Debiased(), [10, 3.16228, 1, 0.447214, 0.316228, 0.1], [0.0990099, 0.28748, 0.5, 0.372678, 0.28748, 0.0990099]),
        (P2(), [0.990099, 0.909091, 0.5, 0.166667, 0.0909091, 0.00990099], None),
        (SigmoidWeighting(0.0), [0.990099, 0.909091, 0.5, 0.166667, 0.0909091, 0.00990099], None),
        (P2(1.0, 0.5), [0.995037, 0.953463, 0.707107, 0.408248, 0.301511, 0.0995037], None),
        (SigmoidWeighting(-3.0), [0.83274, 0.332386, 0.0474259, 0.00985924, 0.00495404, 0.000497623], None),
        (SigmoidWeighting(2.0), [0.998648, 0.986647, 0.880797, 0.596418, 0.424926, 0.0688064], None),
    ],
    ids=str,
)  # fmt: skip
def test_golden(weighting, on_eps, on_v):
    assert on(Eps(), weighting) == pytest.approx(on_eps, rel=4e-6)
    if on_v is not None:
        assert on(V(), weighting) == pytest.approx(on_v, rel=4e-6)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_constant_weight_is_one_on_its_own_row(row):
    assert on(row, Constant(row)) == pytest.approx([1.0] * 6, rel=1e-12)


def test_the_columns_of_the_table():
    """W on the error of x0, and what it is on eps and v, row by row of the specification."""
    snr = SNR
    expected = {
        Constant(Eps()): snr, Constant(X0()): 1 + 0 * snr, Constant(V()): 1 + snr, Constant(Flow()): (1 + snr.sqrt()) ** 2,
        MinSNR(5.0): snr.clamp(max=5), SoftMinSNR(4.0): 4 * snr / (snr + 4), Debiased(): snr.sqrt(),
        P2(1.0, 0.5): snr / (1 + snr) ** 0.5, EDMWeighting(0.5): snr + 4, SigmoidWeighting(2.0): math.e**2 * snr / (snr + math.e**2),
    }  # fmt: skip
    for weighting, w in expected.items():
        for row, factor in (
            (X0(), 1.0),
            (Eps(), 1 / snr),
            (V(), 1 / (1 + snr)),
            (Flow(), 1 / (1 + snr.sqrt()) ** 2),
            (EDM(0.5), 1 / (snr + 4)),
        ):
            assert torch.allclose(output_weight(weighting, row, _vp(snr)), w * factor, rtol=1e-12)


def test_identities():
    log_snr = torch.linspace(-30, 30, 121, dtype=torch.float64)
    same = [
        (SigmoidWeighting(1.3), SoftMinSNR(math.exp(1.3)), 1.0),
        (P2(0.7, 1.0), SoftMinSNR(0.7), 1 / 0.7),
        (P2(3.0, 0.0), Constant(Eps()), 1.0),
        (EDMWeighting(1.0), Constant(V()), 1.0),
        (EDMWeighting(0.5), Constant(EDM(0.5)), 1.0),
    ]
    for a, b, factor in same:
        assert torch.allclose(a(log_snr), factor * b(log_snr), rtol=1e-10)


def test_k_diffusions_weightings():
    """Its weights on the EDM output, as functions of g = sigma / alpha."""
    g = torch.logspace(-3, 3, 31, dtype=torch.float64)
    level = Level(torch.zeros_like(g), torch.ones_like(g), g)
    soft = (g * 0.5) ** 2 / (g**2 + 0.25) ** 2
    assert torch.allclose(output_weight(SoftMinSNR(4.0), EDM(0.5), level), soft, rtol=1e-10)
    assert torch.allclose(output_weight(Constant(Eps()), EDM(1.0), level), 1 / (g**2 + 1), rtol=1e-10)


@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta(), RectifiedFlow()], ids=str)
def test_elbo_is_unweighted_eps_for_uniform_log_snr(schedule):
    """Drawn with uniform t, its weight on eps times the density of log-SNR is 1 / 2 everywhere, so the expected loss is half the
    integral of the squared error of eps over log-SNR; -SNR'(t) / 2 on x0, by differences."""
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    level = schedule(t)
    h = 1e-6
    slope = (torch.exp(schedule(t + h).log_snr) - torch.exp(schedule(t - h).log_snr)) / (2 * h)
    assert torch.allclose(ELBO(schedule)(level.log_snr), -slope / 2, rtol=1e-6)
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    for density, like in ((Uniform(), schedule), (LogSNRImportance(Cosine(0.0)), Cosine(0.0))):
        at = density(u, schedule).level
        inside = (at.log_snr > -8) & (at.log_snr < 8)
        on_eps = output_weight(ELBO(like), Eps(), at)
        assert float((on_eps * inside).mean()) == pytest.approx(8.0, rel=6e-3)  # half of 16 units of log-SNR


def test_debiased_is_cut_on_eps_where_it_is_unbounded():
    deep = torch.tensor([-10.0, -13.0, -20.0], dtype=torch.float64)
    on_eps = output_weight(Debiased(), Eps(), Level.from_log_snr(0 * deep, deep))
    assert on_eps.tolist() == pytest.approx([math.exp(5.0), math.exp(6.5), 1000.0])


def test_names_of_the_rest():
    """The community's "debiased" for v is the plain x0 weight."""
    assert on(V(), Constant(X0())) == pytest.approx([1 / (1 + s) for s in SNR.tolist()], rel=1e-12)


def test_every_weight_falls_or_rises_smoothly():
    """No jump between neighbours: what is derived from limits has no seam."""
    log_snr = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    for weighting in WEIGHTINGS:
        logs = weighting(log_snr).log()
        assert float((logs[1:] - logs[:-1]).abs().max()) < 0.021, weighting
    assert all(a < b for a, b in itertools.pairwise(Constant(Eps())(log_snr).tolist()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: MinSNR(0.0), lambda: MinSNR(float("nan")), lambda: EDMWeighting(-1.0), lambda: SoftMinSNR(0.0), lambda: Debiased(0.0),
        lambda: P2(0.0),
    ],
)  # fmt: skip
def test_refusals(make):
    with pytest.raises(ValueError, match=r"allowed:.* > 0"):
        make()
