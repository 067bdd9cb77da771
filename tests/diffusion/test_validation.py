"""Validation on fixed questions: closed forms, independence of batches and processes, and what does not depend on the row."""

import math

import pytest
import torch
from oracles import ROWS, Spy
from torch import nn

from sfumato.diffusion import Batch, Denoiser, Digits, Hybrid, LogSNRClock, Regression, UNet
from sfumato.diffusion.buckets import EDGES, Buckets
from sfumato.diffusion.edm_loss import data_std, edm_loss
from sfumato.diffusion.validation import CENTRES, Validation
from sfumato.schedules import (
    EDM,
    X0,
    BetaTable,
    Constant,
    EDMWeighting,
    Flow,
    Level,
    LinearBeta,
    LogNormal,
    MinSNR,
    RectifiedFlow,
    Stream,
    Truncated,
    Uniform,
    UniformEntries,
    V,
    VarianceExploding,
    gaussian,
)  # fmt: skip
from sfumato.schedules.rows import target

STD = 0.6


class White:
    """Independent normals of a known standard deviation, as data."""

    shape, num_classes, fingerprint = (1, 8, 8), 0, "white"

    def __init__(self, count=1200):
        self.count = count

    def __len__(self):
        return self.count

    def batch(self, index):
        seeds = torch.full_like(index, 5)
        return Batch(0.1 + STD * gaussian(seeds, index, 0, 0, self.shape, stream=Stream.AUGMENT), None)


class Knows(nn.Module):
    """The best denoiser of White data, in the output of a row; `wrong` is added to its x0."""

    def __init__(self, schedule, row, wrong=0.0):
        super().__init__()
        self.schedule, self.row, self.wrong = schedule, row, wrong

    def forward(self, x, time):
        level = self.schedule.at_log_snr(4.0 * time.double()).like(x.double())
        if isinstance(self.row, EDM):  # undo the scaling of the input
            x = x * (self.row.data_std**2 * level.alpha**2 + level.sigma**2).sqrt()
        x = x.double()
        gain = level.alpha * STD**2 / (level.alpha**2 * STD**2 + level.sigma**2)
        x0 = 0.1 + gain * (x - 0.1 * level.alpha) + self.wrong
        return target(self.row, level, x0, (x - level.alpha * x0) / level.sigma).float()


def denoiser(schedule, row, wrong=0.0):
    return Denoiser(Knows(schedule, row, wrong), schedule, row, LogSNRClock())


def asked(schedule, row, density=None, weighting=None, wrong=0.0, **rest):
    settings = {"count": 240, "seed": 3, "objective": Regression(), "classes": 0, "data_std": STD, **rest}
    validation = Validation(White(), schedule, density or LogNormal(-0.5, 1.0), weighting or MinSNR(), **settings)
    return validation.result(validation.partial(denoiser(schedule, row, wrong)))


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("schedule", [RectifiedFlow(), LinearBeta(), VarianceExploding(0.01, 50.0, math.inf)], ids=str)
def test_the_edm_loss_is_that_of_x0_whatever_the_row_and_path(row, schedule):
    """The same error of x0 in the output of any row, against (sigma^2 + s^2) / (sigma s)^2 |D - x0|^2 in EDM's own terms."""
    level = schedule.at_log_snr(torch.linspace(-8, 8, 9, dtype=torch.float64))
    x0, eps = torch.randn(2, 9, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at = level.like(x0)
    x, guess = at.alpha * x0 + at.sigma * eps, 0.9 * x0 + 0.05
    out = target(row, at, guess, (x - at.alpha * guess) / at.sigma)
    error = (out - target(row, at, x0, eps)).square().mean(1)
    sigma = level.sigma / level.alpha
    expected = (sigma**2 + STD**2) / (sigma * STD) ** 2 * (guess - x0).square().mean(1)
    torch.testing.assert_close(edm_loss(error, row, level, STD), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("row", [V(), Flow(), EDM(0.5)], ids=str)
def test_the_best_denoiser_of_white_data_has_one_at_every_level(row):
    """E |D - x0|^2 = sigma^2 s^2 / (sigma^2 + s^2) on the exploding path, so EDM's loss is 1; within the noise of few samples."""
    found = asked(RectifiedFlow(), row)
    assert found.edm_loss == pytest.approx(1.0, abs=4 * math.sqrt(2 / (240 * 64)))
    for k in range(2, 10):  # beyond, float32 has too few digits for the rows that do not look there
        assert found.edm_error[k] == pytest.approx(1.0, abs=4 * math.sqrt(2 / (20 * 64)))


def test_rows_that_say_the_same_are_judged_the_same():
    """Equal predictions of x0, equal questions: one EDM loss for all rows and weightings, while errors and losses differ."""
    pairs = ((V(), MinSNR()), (Flow(), Constant(V())), (EDM(0.5), MinSNR()))
    found = [asked(RectifiedFlow(), row, weighting=weighting, wrong=0.2) for row, weighting in pairs]
    for other in found[1:]:
        assert other.edm_loss == pytest.approx(found[0].edm_loss, rel=1e-4)
        assert other.edm_error[4:8] == pytest.approx(found[0].edm_error[4:8], rel=1e-3)
    assert found[1].loss != pytest.approx(found[0].loss, rel=0.05)
    assert found[1].error[4] != pytest.approx(found[0].error[4], rel=0.05)
    assert found[2].loss == pytest.approx(found[0].loss, rel=1e-4)  # a weighting is of x0's error, too
    assert found[0].edm_loss > asked(RectifiedFlow(), V()).edm_loss + 0.05


def test_processes_change_nothing_and_batches_rounding():
    net = Denoiser(_unet(), RectifiedFlow(), EDM(0.75), LogSNRClock())
    made = [
        Validation(Digits(), RectifiedFlow(), LogNormal(), EDMWeighting(0.75), Regression(), 10, 0.75, 1, 100, batch)
        for batch in (16, 64)
    ]
    one = made[0].partial(net)
    for processes in (2, 3):
        parts = [made[0].partial(net, rank=r, processes=processes) for r in range(processes)]
        assert torch.equal(sum(parts[1:], parts[0]), one)
        assert all(bool((p == 0).all(1).any()) for p in parts)
    assert made[0].result(one) == made[0].result(made[0].partial(net))
    a, b = made[0].result(one), made[1].result(made[1].partial(net))
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    assert a.error == pytest.approx(b.error, rel=1e-4)


def _unet(**changes):
    torch.manual_seed(0)
    net = UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1,), blocks=1, attention=(), **changes)
    nn.init.normal_(net.head.weight, std=0.1)
    return net


def test_dropout_is_off_and_nothing_is_left_behind():
    """Same numbers in training mode, with dropout, after other random draws; the mode of every part and the generator as before."""
    net = Denoiser(_unet(dropout=0.5), RectifiedFlow(), EDM(0.75), LogSNRClock())
    made = Validation(Digits(), RectifiedFlow(), LogNormal(), EDMWeighting(0.75), Regression(), 10, 0.75, 1, 60)
    net.train()
    net.backbone.middle.eval()
    before = torch.get_rng_state()
    first = made.partial(net)
    assert torch.equal(torch.get_rng_state(), before)
    assert net.training
    assert not net.backbone.middle.training
    assert net.backbone.down.training
    torch.rand(9)
    assert torch.equal(made.partial(net), first)
    assert not first.requires_grad


def test_levels_are_strata_of_the_density_and_centres_of_the_buckets():
    seen = Buckets(torch.device("cpu"))

    class Notes(Knows):
        def forward(self, x, time):
            seen.add(Level.from_log_snr(0.0, 4.0 * time.double()), torch.ones(len(x)))
            return super().forward(x, time)

    made = Validation(White(), RectifiedFlow(), Uniform(), MinSNR(), Regression(), 0, STD, count=120, batch=120)
    made.partial(Denoiser(Notes(RectifiedFlow(), V()), RectifiedFlow(), V(), LogSNRClock()))
    t = RectifiedFlow().at_log_snr(torch.tensor([math.inf, *reversed(EDGES), -math.inf], dtype=torch.float64)).t
    share = (t[1:] - t[:-1]).flip(0) * 120
    # every bucket has its share of 120 stratified levels, to one, and ten at its centre
    assert seen.counts.sum() == 240
    assert float((seen.counts - 10 - share).abs().max()) <= 1.01
    assert len(CENTRES) == len(EDGES) + 1
    place = torch.bucketize(torch.tensor(CENTRES, dtype=torch.float64), torch.tensor(EDGES, dtype=torch.float64))
    assert place.tolist() == list(range(len(CENTRES)))


def test_what_a_schedule_does_not_reach_is_none():
    found = asked(LinearBeta(), X0())
    high = float(LinearBeta()(0.0).log_snr)
    low = float(LinearBeta()(1.0).log_snr)
    assert [v is None for v in found.error] == [not low <= v <= high for v in CENTRES]
    assert None in found.error
    assert found.edm_error[5] is not None
    none = asked(Truncated(RectifiedFlow(), log_snr_min=3.5, log_snr_max=4.5), V())
    assert none.error == none.edm_error == [None] * len(CENTRES)
    assert none.edm_loss == pytest.approx(1.0, abs=0.1)


def test_a_table_is_asked_at_its_entries_and_a_density_that_learns_where_it_starts():
    schedule, seen = BetaTable("linear", 50), []

    class Notes(Knows):
        def forward(self, x, time):
            seen.append(schedule.at_log_snr(4.0 * time.double()).t * 50)
            return super().forward(x, time)

    made = Validation(White(), schedule, UniformEntries(), MinSNR(), Regression(), 0, STD, count=40)
    made.partial(Denoiser(Notes(schedule, V()), schedule, V(), LogSNRClock()))
    t = torch.cat(seen)
    assert float((t - t.round()).abs().max()) < 1e-4
    spied = [asked(RectifiedFlow(), V(), density=Spy(factor)) for factor in (3.0, 1.0)]
    assert spied[0].loss == pytest.approx(3 * spied[1].loss, rel=1e-12)
    assert spied[0].edm_loss == spied[1].edm_loss


def test_an_objective_of_steps_is_asked_at_its_steps():
    """Hybrid has no bound between its steps; its errors are those of the same network without a variance."""
    schedule, two, one = BetaTable("linear", 100), _unet(out_channels=2), _unet()
    one.load_state_dict({k: v[:1] if k.startswith("head.") else v for k, v in two.state_dict().items()})
    found = []
    for net, objective in ((two, Hybrid()), (one, Regression())):
        made = Validation(Digits(), schedule, UniformEntries(), Constant(V()), objective, 10, 0.75, 1, 40)
        found.append(made.result(made.partial(Denoiser(net, schedule, V(), LogSNRClock()))))
    reached = [k for k, v in enumerate(found[0].error) if v is not None]
    for k in reached:
        assert found[0].error[k] == pytest.approx(found[1].error[k], rel=1e-5)
    assert found[0].edm_loss == pytest.approx(found[1].edm_loss, rel=1e-5)
    assert found[0].loss > found[1].loss  # the bound's term


def test_the_standard_deviation_of_the_data():
    assert data_std(White()) == pytest.approx(STD, rel=0.01)
    digits = Digits()
    every = digits.batch(torch.arange(len(digits))).x
    assert data_std(digits, len(digits)) == pytest.approx(float(every.std(correction=0)), rel=1e-6)
    assert data_std(digits) == data_std(Digits())
    with pytest.raises(ValueError, match="0 of 1200 samples; allowed: at least one"):
        data_std(White(), 0)


def test_refusals():
    with pytest.raises(ValueError, match="validation of 0 samples in batches of 64, the data have 1200; allowed"):
        asked(RectifiedFlow(), V(), count=0)

    class Flat(White):
        def batch(self, index):
            return Batch(torch.ones(len(index), 1, 8, 8), None)

    with pytest.raises(ValueError, match="variance 0; allowed: finite and above 0"):
        data_std(Flat())
