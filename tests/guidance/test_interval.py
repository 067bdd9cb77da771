"""Intervals: the same in both units, at every level of every grid, per sample, and around anything."""

import math

import pytest
import torch
from guided import MIXTURES, Net, branches, guided
from oracles import SCHEDULES

from sfumato.guidance import APG, CFG, Adaptive, Branch, CFGPlusPlus, Field, Interval, Plain, Rescale
from sfumato.samplers import DDIM, Heun
from sfumato.schedules import Level, LinearBeta, RectifiedFlow, V, karras, linspace, log_snr_uniform, trailing
from sfumato.schedules.prediction import from_x0


def both(low, high):
    """The same interval of ratios in each unit."""
    noisier = None if high is None else -2 * math.log(high)
    return Interval(CFG(2.0), low, high), Interval(
        CFG(2.0), noisier, None if low is None else -2 * math.log(low), unit="log_snr"
    )


@pytest.mark.parametrize("path", SCHEDULES, ids=str)
def test_the_units_agree_at_every_level(path):
    """Infinite ones included, on every grid that there is."""
    levels = [*trailing(path, 3), *linspace(path, 3), *karras(path, 8), *log_snr_uniform(path, 8)]
    levels += [Level(1.0, 0.0, 1.0), Level(0.0, 1.0, 0.0)]
    for low, high in ((None, None), (0.3, None), (None, 2.0), (0.3, 2.0), (1e-3, 1e3), (1.0, 1.0)):
        a, b = both(low, high)
        for level in levels:
            expected = (low is None or level.ratio > low) and (high is None or level.ratio <= high)
            assert a.inside(level) == b.inside(level) == expected
        whole = Level(*(torch.tensor(column, dtype=torch.float64) for column in zip(*levels, strict=True)))
        for interval in (a, b):
            assert torch.as_tensor(interval.inside(whole)).tolist() == [interval.inside(level) for level in levels]


def test_ends_are_half_open_the_same_way():
    """(low, high] in sigma / alpha is [low, high) in log-SNR: the noisier end belongs to it, the cleaner does not."""
    levels = trailing(RectifiedFlow(), 12)[1:-1]
    noisy, clean = levels[2], levels[7]
    a = Interval(CFG(2.0), clean.ratio, noisy.ratio)
    b = Interval(CFG(2.0), noisy.log_snr, clean.log_snr, unit="log_snr")
    for interval in (a, b):
        assert [interval.inside(level) for level in levels] == [2 <= i < 7 for i in range(len(levels))]
    # an end that is given as none is none; one that is given excludes or includes like any other
    data, noise = Level(0.0, 1.0, 0.0), Level(1.0, 0.0, 1.0)
    assert Interval(low=None).inside(data)
    assert not Interval(low=0.0).inside(data)
    assert Interval(high=None, unit="log_snr").inside(data)
    assert not Interval(high=math.inf, unit="log_snr").inside(data)
    for unit in ("ratio", "log_snr"):
        assert Interval(unit=unit).inside(noise)
    assert not Interval(high=1e9).inside(noise)
    assert not Interval(low=-50.0, unit="log_snr").inside(noise)


@pytest.mark.parametrize("unit", ["ratio", "log_snr"])
def test_without_ends_it_is_the_rule_up_and_down(unit):
    x = torch.randn(3, 2, dtype=torch.float64)
    for levels in (trailing(RectifiedFlow(), 5), trailing(RectifiedFlow(), 5)[::-1]):
        for sampler in (DDIM(), Heun()):
            a, field = guided(sampler, Interval(CFG(3.0), unit=unit), levels, x, Net(V(), MIXTURES), m=0.3)
            b, whole = guided(sampler, CFG(3.0), levels, x, Net(V(), MIXTURES), m=0.3)
            assert torch.equal(a, b)
            assert torch.equal(field.spent, whole.spent)


@pytest.mark.parametrize(
    "rule",
    [CFG(3.0), CFG([3.0, 1.0, 2.0, 5.0]), Rescale(CFG(3.0)), APG(3.0, 0.0, 1.5, -0.5), CFGPlusPlus(0.6)],
    ids=str,
)
@pytest.mark.parametrize("row", [None, V()], ids=str)
def test_levels_per_sample(rule, row):
    """Each sample as on its own grid: guided, counted and remembered where its own level is inside."""
    paths = [trailing(LinearBeta(), n)[:6] for n in (6, 7, 9, 14)]
    mixed = [
        Level(*(torch.tensor(column, dtype=torch.float64) for column in zip(*row_, strict=True)))
        for row_ in zip(*paths, strict=True)
    ]
    interval = Interval(rule, 0.3, 4.0)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, field = guided(DDIM(), interval, mixed, x, Net(row, MIXTURES), m=0.3)
    counts = [sum(0.3 < level.ratio <= 4.0 for level in path[:-1]) for path in paths]
    assert len(set(counts)) > 2
    scales = getattr(rule, "scale", None)
    for i, path in enumerate(paths):
        own = Interval(CFG(scales[i]), 0.3, 4.0) if isinstance(scales, list) else interval
        alone, spent = guided(DDIM(), own, path, x[i : i + 1], Net(row, MIXTURES), m=0.3)
        assert torch.allclose(whole[i : i + 1], alone, rtol=0, atol=1e-9)
        assert field.spent[i].tolist() == spent.spent[0].tolist()


def test_levels_per_element_are_refused():
    """Also where there are as many elements as samples."""
    for n in (3, 4):
        x = torch.randn(n, 1, 2, 2, dtype=torch.float64)
        sigma = torch.linspace(0.2, 0.9, 4, dtype=torch.float64).view(1, 1, 2, 2)
        for level in (Level(0.5, 1.0, sigma), Level(0.5, 1.0, sigma.expand(n, 1, 2, 2))):
            with pytest.raises(ValueError, match="these are per element"):
                Field(branches(Net(V()), n), Interval(CFG(2.0), 0.3, 0.7), n)(x, level)


def test_memory_outside_is_kept_as_it_was():
    """APG's momentum of the last guided step meets the next guided one, however many lie between."""
    said = {"i": 0}
    deltas = [1.0, 10.0, 100.0]

    def point(name):
        def answer(x, level, c):
            x0 = torch.full_like(x, 5.0 + (deltas[said["i"]] if name == "cond" else 0.0))
            return from_x0(x, level, x0)

        return answer

    rule = Interval(APG(2.0, 1.0, math.inf, -0.5), 0.5, 2.0)
    field = Field({k: Branch(point(k)) for k in ("cond", "ref")}, rule, 1)
    found = []
    for i, sigma in enumerate((1.0, 4.0, 1.5)):
        said["i"], level = i, Level(0.5, 1.0, sigma)
        field.begin(level)
        found.append(float(field(torch.zeros(1, 1, dtype=torch.float64), level).x0))
    # m = 1; then not guided; then m = 100 - 0.5 * 1
    assert found == pytest.approx([5 + 1 + 1, 5 + 10, 5 + 100 + 99.5])


def test_memory_outside_is_kept_per_sample():
    """The first sample leaves the interval for a step, the second never; each goes on as it would alone."""
    rule, x = (
        Interval(APG(2.0, 1.0, math.inf, -0.5), 0.5, 2.0),
        torch.tensor([[0.3, -0.4], [1.1, 0.2]], dtype=torch.float64),
    )
    sigmas = ((1.0, 1.0), (4.0, 0.9), (1.5, 0.8))
    both = Field(branches(Net(V(), MIXTURES), 2, 0.3), rule, 2)
    alone = [Field(branches(Net(V(), MIXTURES), 1, 0.3), rule, 1) for _ in range(2)]
    for pair in sigmas:
        level = Level(torch.zeros(2), torch.ones(2, dtype=torch.float64), torch.tensor(pair, dtype=torch.float64))
        both.begin(level)
        found = both(x, level).x0
        for i, sigma in enumerate(pair):
            own = Level(0.0, 1.0, sigma)
            alone[i].begin(own)
            assert torch.allclose(found[i : i + 1], alone[i](x[i : i + 1], own).x0, rtol=0, atol=1e-12)


def test_nested_intervals_are_their_intersection():
    x, levels = torch.randn(3, 2, dtype=torch.float64), trailing(LinearBeta(), 12)
    wanted, field = guided(DDIM(), Interval(CFG(3.0), 0.5, 2.0), levels, x, Net(V(), MIXTURES), m=0.3)
    for rule in (Interval(Interval(CFG(3.0), 0.1, 2.0), 0.5, 9.0), Interval(Interval(CFG(3.0), 0.5, 9.0), 0.1, 2.0)):
        last, own = guided(DDIM(), rule, levels, x, Net(V(), MIXTURES), m=0.3)
        assert torch.equal(last, wanted)
        assert torch.equal(own.spent, field.spent)
    last, own = guided(DDIM(), Interval(Adaptive(CFG(3.0)), 5.0, 5.0), levels, x, Net(V(), MIXTURES), m=0.3)
    assert torch.equal(last, guided(DDIM(), Plain(), levels, x, Net(V(), MIXTURES), m=0.3)[0])


def test_refusals():
    for make in (
        lambda: Interval(low=-1.0),
        lambda: Interval(low=2.0, high=1.0),
        lambda: Interval(low=math.nan),
        lambda: Interval(unit="snr"),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()
    Interval(low=-3.0, high=2.0, unit="log_snr")
