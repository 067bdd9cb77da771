"""The variational bound: its terms against closed forms, and the whole against the true likelihood of Gaussian data."""

import math

import pytest
import torch
from torch import nn

from sfumato.diffusion import Batch, Denoiser, Model, TimeClock
from sfumato.diffusion.bound import end_term, posterior, step_term
from sfumato.diffusion.measuring.likelihood import bound_grid, likelihood
from sfumato.schedules import (
    X0,
    BetaTable,
    Cosine,
    Flow,
    InputScaled,
    LinearBeta,
    RectifiedFlow,
    Trailing,
    Truncated,
    V,
    VarianceExploding,
    ZeroTerminalSNR,
    target,
)

STD, MEAN = 0.6, 0.2


def at(schedule, t):
    return schedule(torch.tensor([t], dtype=torch.float64))


def test_posterior_is_that_of_ddpm():
    """Entry 500 of DDPM's table: mean coefficients and variance of the paper's eq. 7."""
    table = BetaTable("linear")
    now, nxt = at(table, 0.501), at(table, 0.5)
    abar, before = float(now.alpha) ** 2, float(nxt.alpha) ** 2
    beta = 1 - abar / before
    q = posterior(now, nxt)
    assert float(q.of_x0) == pytest.approx(math.sqrt(before) * beta / (1 - abar), rel=1e-10)
    assert float(q.of_x) == pytest.approx(math.sqrt(1 - beta) * (1 - before) / (1 - abar), rel=1e-12)
    assert float(q.small) == pytest.approx(math.log(beta * (1 - before) / (1 - abar)), rel=1e-10)
    assert float(q.large) == pytest.approx(math.log(beta), rel=1e-10)


def test_learned_variance_golden():
    """beta .02, beta~ 1e-4, f = .25: 3.7606031e-04."""
    f = 0.25
    spread = f * math.log(0.02) + (1 - f) * math.log(1e-4)
    assert math.exp(spread) == pytest.approx(3.7606031e-04, rel=1e-7)
    # the same through a step: a term is smallest when the variance is that of the error
    now, nxt = at(Cosine(), 0.5), at(Cosine(), 0.4)
    q, x0 = posterior(now, nxt), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    error = 0.7
    best = math.log(math.exp(float(q.small)) + (float(q.of_x0) * error) ** 2)
    o = 2 * (best - float(q.small)) / (float(q.large) - float(q.small)) - 1
    terms = [
        float(step_term(x0, x0 + error, torch.full_like(x0, v), now, now, nxt, None)) for v in (o - 0.1, o, o + 0.1)
    ]
    assert terms[1] < min(terms[0], terms[2])
    kl = 0.5 * (best - float(q.small))  # at the best variance the two other parts cancel
    assert terms[1] == pytest.approx(kl / math.log(2), rel=1e-10)


def test_fixed_variance_term_is_half_the_gain_in_snr():
    """KL = (SNR' - SNR) / 2 * error^2, the discrete bound of variational diffusion models."""
    for schedule in (Cosine(), RectifiedFlow(), VarianceExploding(), ZeroTerminalSNR(LinearBeta())):
        for t, s in ((1.0, 0.9), (0.5, 0.45), (0.1, 0.05)):
            now, nxt = at(schedule, t), at(schedule, s)
            x0 = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
            bits = float(step_term(x0, x0 + 0.3, None, now, now, nxt, None))
            snr = [math.exp(schedule(v).log_snr) for v in (t, s)]
            assert bits == pytest.approx(0.5 * (snr[1] - snr[0]) * 0.09 / math.log(2), rel=1e-9)


@pytest.mark.parametrize("bins", [17, 256])
@pytest.mark.parametrize("std", [0.001, 0.02, 0.5, 3.0])
def test_decoder_is_the_probability_of_a_bin(std, bins):
    """Against scipy in the interior, open at both ends, summing to one."""
    from scipy.stats import norm

    mean = 0.11
    values = torch.linspace(-1, 1, bins, dtype=torch.float64)
    x0 = values.view(-1, 1, 1, 1)
    # a level whose lent variance is std^2: small = share * beta
    schedule = VarianceExploding(0.0, 2 * std, 1.0)
    before, now, data = at(schedule, 1.0), at(schedule, 0.5), at(schedule, 0.0)
    lent = math.exp(0.5 * float(posterior(before, now).small))
    bits = step_term(x0, torch.full_like(x0, mean), None, before, now, data, bins)
    edges = [-math.inf, *((values[:-1] + values[1:]) / 2).tolist(), math.inf]
    probability = 2.0**-bits
    assert float(probability.sum()) == pytest.approx(1.0, abs=1e-9)
    for i in range(bins):
        low, high = (edges[i] - mean) / lent, (edges[i + 1] - mean) / lent
        exact = norm.sf(low) - norm.sf(high) if low > 0 else norm.cdf(high) - norm.cdf(low)
        if exact > 1e-250:
            assert float(probability[i]) == pytest.approx(exact, rel=1e-6)
        assert math.isfinite(float(bits[i]))


def test_the_prior_term():
    x0 = torch.full((3, 1, 2, 2), 0.5, dtype=torch.float64)
    top = LinearBeta()(1.0)
    kl = 0.5 * (math.log(1 / top.sigma**2) + top.sigma**2 + top.alpha**2 * 0.25 - 1) / math.log(2)
    assert end_term(x0, top).tolist() == pytest.approx([kl] * 3, rel=1e-6)
    assert end_term(x0, RectifiedFlow()(1.0)).tolist() == [0.0] * 3


def test_the_prior_term_of_a_path_that_is_not_variance_preserving():
    """KL to a normal of variance alpha^2 + sigma^2, by scipy's numbers: sigma 80, and data scaled by 2."""
    x0 = torch.full((2, 1, 1, 1), 0.5, dtype=torch.float64)
    for top in (VarianceExploding()(1.0), InputScaled(LinearBeta(), 2.0)(1.0)):
        power, noise = top.alpha**2 + top.sigma**2, top.sigma**2
        kl = 0.5 * (math.log(power / noise) + (noise + (top.alpha * 0.5) ** 2) / power - 1)
        assert end_term(x0, top).tolist() == pytest.approx([kl / math.log(2)] * 2, rel=1e-6)


def test_the_decoder_of_scaled_data_sees_data_at_their_own_scale():
    """x = b alpha x0 + sigma eps at noise b sigma is x at noise sigma: the same term."""
    plain, scaled = VarianceExploding(0.0, 8.0, 1.0), InputScaled(VarianceExploding(0.0, 16.0, 1.0), 2.0)
    x0 = torch.linspace(-1, 1, 17, dtype=torch.float64).view(-1, 1, 1, 1)
    for bins in (17, None):
        terms = [
            step_term(x0, 0.9 * x0, None, at(path, 0.03), at(path, 0.015), at(path, 0.0), bins)
            for path in (plain, scaled)
        ]
        assert torch.allclose(*terms, rtol=1e-9)


@pytest.mark.parametrize("far", [0.5, 10.0, 1000.0])
def test_the_gradient_of_a_term_is_that_of_float64(far):
    """Beliefs far from the data, in float32: no nan, in the last step and before it."""
    schedule = BetaTable("cosine", 4000)
    t = torch.tensor([1.0, 2.0, 40.0, 2000.0], dtype=torch.float64) / 4000
    now, nxt, before = schedule(t), schedule(t - 1 / 4000), schedule(t + 1 / 4000)
    x0 = torch.linspace(-1, 1, 4, dtype=torch.float64).view(-1, 1, 1, 1).expand(4, 1, 2, 2)
    slopes = []
    for dtype in (torch.float32, torch.float64):
        believed = (x0 + far).to(dtype).requires_grad_(True)
        o = torch.zeros_like(believed).requires_grad_(True)
        step_term(x0.to(dtype), believed, o, before, now, nxt, 256).sum().backward()
        slopes.append(torch.cat([believed.grad, o.grad]).double())
    assert torch.isfinite(slopes[0]).all()
    assert torch.allclose(slopes[0], slopes[1], rtol=1e-3)


def test_the_grid_that_a_bound_is_stated_for():
    assert isinstance(bound_grid(BetaTable("linear"), 256), Trailing)
    assert bound_grid(Cosine(), 17).high == pytest.approx(2 * math.log(48))  # sigma / alpha a sixth of 2 / 16
    assert math.exp(-bound_grid(Cosine(), 256).high / 2) == pytest.approx(2 / 255 / 6)
    assert bound_grid(Truncated(Cosine(), log_snr_max=5.0), 256).high == pytest.approx(5.0)


def test_the_network_is_told_the_labels():
    told = []

    class Labelled(Exact):
        def forward(self, x, time, labels):
            told.append(labels.tolist())
            return super().forward(x, time)

    class Source(Gauss):
        num_classes = 3

        def batch(self, index):
            return Batch(self.x[index], index % 3)

    net = Labelled(Cosine(), V(), 4, False)
    model = Model(Denoiser(net, Cosine(), V(), TimeClock(1.0)).train(), (1, 4, 4), 3)
    likelihood(model, Source(5), torch.tensor([4, 2, 0]), steps=4, grid=Trailing(), bins=None)
    assert told == [[1, 2, 0]] * 4
    assert model.denoiser.training  # given back as it was


def test_a_bound_that_is_not_finite_is_an_error():
    source = Gauss(3)
    source.x[1] = math.nan
    model = Model(Denoiser(Exact(Cosine(), V(), 4, False), Cosine(), V(), TimeClock(1.0)), (1, 4, 4))
    with pytest.raises(FloatingPointError, match=r"sample\(s\) \[1\]"):
        likelihood(model, source, torch.arange(3), steps=4, bins=None)


class Gauss:
    """Gaussian data as a Source."""

    num_classes, shape, fingerprint = 0, (1, 4, 4), "gauss"

    def __init__(self, count):
        self.x = MEAN + STD * torch.randn(
            count, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )

    def __len__(self):
        return len(self.x)

    def batch(self, index):
        return Batch(self.x[index], None)


class Exact(nn.Module):
    """The exact network for that data in a row, with or without the exact variance of its steps."""

    def __init__(self, schedule, row, steps, learned):
        super().__init__()
        self.schedule, self.row, self.steps, self.learned = schedule, row, steps, learned
        self.dummy = nn.Parameter(torch.zeros(1))

    def forward(self, x, time):
        t = time.double()
        now = self.schedule(t)
        a = now.like(x)
        power = a.alpha**2 * STD**2 + a.sigma**2
        x0 = MEAN + a.alpha * STD**2 / power * (x - a.alpha * MEAN)
        eps = a.sigma / power * (x - a.alpha * MEAN)
        out = target(self.row, a, x0, eps)
        if not self.learned:
            return out
        nxt = self.schedule((t - 1 / self.steps).clamp(min=0) * (t > 1.5 / self.steps))
        before = self.schedule((t + 1 / self.steps).clamp(max=1.0))
        q, lent = posterior(now, nxt), posterior(before, now)
        left = STD**2 * now.sigma**2 / (now.alpha**2 * STD**2 + now.sigma**2)  # variance of x0 given x
        last = (nxt.sigma == 0) & (t <= 1.5 / self.steps)
        small = torch.where(last, lent.small, q.small)
        true = torch.where(last, left.log(), torch.log(q.small.exp() + q.of_x0**2 * left))
        o = 2 * (true - small) / (q.large - small) - 1
        return torch.cat([out, o.view(-1, 1, 1, 1).expand_as(x)], dim=1)


def truth(x):
    """-log2 p of the Gaussian, per number."""
    nats = 0.5 * ((x - MEAN) / STD) ** 2 + math.log(STD) + 0.5 * math.log(2 * math.pi)
    return nats.flatten(1).mean(1) / math.log(2)


@pytest.mark.parametrize("row", [V(), X0(), Flow()], ids=str)
@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow(), ZeroTerminalSNR(LinearBeta())], ids=str)
@pytest.mark.parametrize("steps", [4, 40])
def test_the_bound_with_the_true_variance_is_the_likelihood(schedule, row, steps):
    """For Gaussian data each reverse step is Gaussian: with its true mean and variance the bound is tight at any number of steps."""
    source = Gauss(1500)
    model = Model(Denoiser(Exact(schedule, row, steps, True), schedule, row, TimeClock(1.0)), (1, 4, 4))
    index = torch.arange(1500)
    found = likelihood(model, source, index, steps=steps, grid=Trailing(), bins=None, batch=1500)
    gap = found.bits - truth(source.x)
    assert float(gap.mean()) == pytest.approx(0.0, abs=4 * float(gap.std()) / math.sqrt(1500) + 1e-6)
    assert float(gap.std()) / math.sqrt(1500) < 0.015
    assert found.mean == pytest.approx(0.5 * math.log2(2 * math.pi * math.e * STD**2), abs=0.05)


def test_the_bound_with_a_fixed_variance():
    """The large one is right for smooth data but for the last step; the small one keeps a gap of a bit, as the docstring says."""
    source, index, schedule = Gauss(600), torch.arange(600), Cosine()
    gaps: dict[str, list[float]] = {"large": [], "small": []}
    for fixed, found in gaps.items():
        for steps in (8, 30, 90):
            model = Model(Denoiser(Exact(schedule, V(), steps, False), schedule, V(), TimeClock(1.0)), (1, 4, 4))
            bound = likelihood(model, source, index, steps=steps, grid=Trailing(), bins=None, batch=600, fixed=fixed)
            found.append(float((bound.bits - truth(source.x)).mean()))
    assert all(-0.05 < gap < 0.12 for gap in gaps["large"])
    assert all(0.5 < gap < 1.6 for gap in gaps["small"])


def test_some_terms_estimate_all():
    source, schedule = Gauss(2000), Cosine()
    model = Model(Denoiser(Exact(schedule, V(), 50, False), schedule, V(), TimeClock(1.0)), (1, 4, 4))
    index = torch.arange(2000)
    every = likelihood(model, source, index, steps=50, grid=Trailing(), bins=None, batch=2000)
    some = likelihood(model, source, index, steps=50, terms=7, grid=Trailing(), bins=None, batch=2000)
    error = math.hypot(every.error, float(some.middle.std()) / math.sqrt(2000))
    assert float((every.middle - some.middle).mean()) == pytest.approx(0.0, abs=4 * error)
    assert torch.equal(every.decoder, some.decoder)


def test_batches_do_not_matter():
    source, schedule = Gauss(10), Cosine()
    model = Model(Denoiser(Exact(schedule, V(), 20, False), schedule, V(), TimeClock(1.0)), (1, 4, 4))
    whole = likelihood(model, source, torch.arange(10), steps=20, grid=Trailing(), bins=None)
    parts = likelihood(model, source, torch.arange(10), steps=20, grid=Trailing(), bins=None, batch=3)
    alone = likelihood(model, source, torch.tensor([7]), steps=20, grid=Trailing(), bins=None)
    assert torch.allclose(whole.bits, parts.bits, rtol=1e-12)
    assert float(alone.bits) == pytest.approx(float(whole.bits[7]), rel=1e-12)
    assert not torch.allclose(
        whole.bits, likelihood(model, source, torch.arange(10), steps=20, grid=Trailing(), bins=None, seed=1).bits
    )


@pytest.mark.parametrize("arguments", [{"steps": 1}, {"terms": 0}, {"terms": 1000}, {"batch": 0}, {"bins": 1}])
def test_refusals(arguments):
    model = Model(Denoiser(Exact(Cosine(), V(), 20, False), Cosine(), V(), TimeClock(1.0)), (1, 4, 4))
    with pytest.raises(ValueError, match="allowed"):
        likelihood(model, Gauss(2), torch.arange(2), **arguments)
