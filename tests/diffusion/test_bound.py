"""The variational bound: its terms against closed forms, and the whole against the true likelihood of Gaussian data."""

import math

import pytest
import torch
from torch import nn

from sfumato.diffusion import Batch, Denoiser, Model, TimeClock
from sfumato.diffusion.bound import end_term, posterior, step_term
from sfumato.diffusion.likelihood import likelihood
from sfumato.schedules import (
    X0,
    BetaTable,
    Cosine,
    Flow,
    LinearBeta,
    RectifiedFlow,
    Trailing,
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


@pytest.mark.parametrize("std", [0.001, 0.02, 0.5, 3.0])
def test_decoder_is_the_probability_of_a_bin(std):
    """Against scipy in the interior, open at both ends, summing to one."""
    from scipy.stats import norm

    bins, mean = 17, 0.11
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
    """The large one is right for smooth data; the small one keeps a gap of a bit, as the docstring says."""
    source, index, schedule = Gauss(600), torch.arange(600), Cosine()
    gaps: dict[str, list[float]] = {"large": [], "small": []}
    for fixed, found in gaps.items():
        for steps in (8, 30, 90):
            model = Model(Denoiser(Exact(schedule, V(), steps, False), schedule, V(), TimeClock(1.0)), (1, 4, 4))
            bound = likelihood(model, source, index, steps=steps, grid=Trailing(), bins=None, batch=600, fixed=fixed)
            found.append(float((bound.bits - truth(source.x)).mean()))
    assert all(abs(gap) < 0.06 for gap in gaps["large"])
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
