"""Grids: golden values; distinct, descending, starting where they say."""

import itertools
import math

import pytest
from oracles import SCHEDULES

from sfumato.schedules import (
    BetaTable,
    Cauchy,
    Cosine,
    Explicit,
    Exponential,
    Karras,
    Leading,
    LinearBeta,
    Linspace,
    LogSNRUniform,
    RectifiedFlow,
    Shifted,
    Table,
    Truncated,
    VarianceExploding,
    ZeroTerminalSNR,
    exponential,
    karras,
    leading,
    linspace,
    log_snr_uniform,
    trailing,
)

GRIDS = [trailing, leading, linspace, Linspace(clean=False), karras, exponential, log_snr_uniform]
SD = BetaTable("scaled_linear")

EDM18 = """80 57.586 40.7856 28.3746 19.3525 12.9101 8.40094 5.31519 3.25682 1.92334 1.08817 .585348
.296442 .139516 .0599473 .0229345 .00752802 .002 0"""
EDM10 = "80 42.4152 21.1087 9.7232 4.06612 1.50174 .469979 .116639 .0204353 .002 0"


@pytest.mark.parametrize(("steps", "golden"), [(18, EDM18), (10, EDM10)])
def test_karras_golden(steps, golden):
    ratios = [level.ratio for level in karras(RectifiedFlow(), steps)]
    assert ratios == pytest.approx([float(v) for v in golden.split()], rel=5e-6)


@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta(), RectifiedFlow(), Truncated(Cosine(), -20.0)], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50, 999, 1000])
def test_trailing(schedule, steps):
    levels = trailing(schedule, steps)
    assert len(levels) == steps + 1
    assert levels[0] == schedule(1.0)
    assert levels[-1] == schedule(0.0)
    assert all(a.log_snr < b.log_snr for a, b in itertools.pairwise(levels))


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
def test_karras_has_distinct_levels_that_end_at_data(steps):
    levels = Karras(0.02, 20.0)(Cosine(), steps)
    assert len(levels) == steps + 1
    assert levels[0].ratio == pytest.approx(20.0)
    assert levels[-1].sigma == 0.0
    assert all(a.log_snr < b.log_snr for a, b in itertools.pairwise(levels))


@pytest.mark.parametrize("steps", [0, -3, 2.7, float("nan"), 10**6, True, "5"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_steps_out_of_range(grid, steps):
    with pytest.raises(ValueError, match=r"steps is .*allowed: a whole number from 1 to 100000"):
        grid(RectifiedFlow(), steps)


def test_karras_refuses_what_the_schedule_does_not_reach():
    with pytest.raises(ValueError, match=r"LinearBeta runs from 0 to 152"):
        Karras(0.002, 500.0)(LinearBeta(), 5)
    with pytest.raises(ValueError, match=r"0 < low < high"):
        Karras(5.0, 1.0)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_every_grid_on_every_schedule(grid, schedule):
    """Distinct, falling in noise, inside the path, starting where it says it starts, ending at data."""
    for steps in (1, 2, 3, 10, 37):
        if steps > (getattr(schedule, "steps", None) or steps):
            with pytest.raises(ValueError, match="the table has"):
                trailing(schedule, steps)
            continue
        if grid == Linspace(clean=False) and steps == getattr(schedule, "steps", None):
            with pytest.raises(ValueError, match="leaves no entry out"):
                grid(schedule, steps)
            continue
        levels = grid(schedule, steps)
        assert len(levels) == steps + 1
        assert all(a.log_snr < b.log_snr for a, b in itertools.pairwise(levels))
        assert levels[-1].sigma == 0.0
        assert levels[-1].alpha > 0
        assert all(-1e-12 <= level.t <= 1 + 1e-12 for level in levels)
        top = schedule(1.0)
        if grid in (trailing, linspace, Linspace(clean=False)):
            assert levels[0] == top
        elif grid == leading:
            assert levels[0].log_snr > top.log_snr or steps == getattr(schedule, "steps", None)
        else:
            assert levels[0].ratio == pytest.approx(min(80.0, top.ratio), rel=1e-9)


@pytest.mark.parametrize("steps", range(1, 1001, 13))
def test_grids_on_a_table_stand_on_entries(steps):
    for grid in (trailing, leading, linspace, Linspace(clean=False)):
        indices = [level.t * 1000 - 1 for level in grid(SD, steps)[:-1]]
        assert indices == pytest.approx([round(i) for i in indices], abs=1e-9)
        assert len({round(i) for i in indices}) == steps
    assert trailing(SD, steps)[0].t == 1.0


def numbers(grid, steps):
    return [round(level.t * 1000 - 1) for level in grid(SD, steps)[:-1]]


def test_spacings_golden():
    assert numbers(leading, 10) == list(range(900, -1, -100))
    assert numbers(Leading(offset=1), 10) == list(range(901, 0, -100))
    assert numbers(linspace, 10) == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]
    assert numbers(trailing, 10) == list(range(999, 98, -100))
    assert numbers(Linspace(clean=False), 10) == [999, 899, 799, 699, 599, 500, 400, 300, 200, 100]
    assert leading(SD, 10)[0].ratio == pytest.approx(8.35, abs=0.01)  # the flaw: not 14.61


@pytest.mark.parametrize("steps", [1, 3, 7, 16, 20, 50, 80, 333, 1000])
def test_spacings_are_those_of_diffusers(steps):
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    for name, grid in (("leading", leading), ("trailing", trailing), ("linspace", linspace)):
        peer = DDIMScheduler(**config, timestep_spacing=name)
        peer.set_timesteps(steps)
        if not (name == "linspace" and steps == 1):  # diffusers' linspace of one step is the clean end
            assert numbers(grid, steps) == peer.timesteps.tolist()
    if steps < 1000:
        peer = DPMSolverMultistepScheduler(**config, timestep_spacing="linspace")
        peer.set_timesteps(steps)
        assert numbers(Linspace(clean=False), steps) == peer.timesteps.tolist()


def test_karras_on_a_table_uses_all_of_it():
    from diffusers import DPMSolverMultistepScheduler

    peer = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True
    )
    peer.set_timesteps(12)
    ours = [level.ratio for level in karras(SD, 12)]
    assert ours == pytest.approx(peer.sigmas.tolist(), rel=2e-5)
    assert (ours[0], ours[-2]) == pytest.approx((14.6146412, 0.0291672), rel=2e-6)


def test_exponential_is_uniform_in_log_snr():
    levels = exponential(VarianceExploding(), 9)[:-1]
    steps = [b.log_snr - a.log_snr for a, b in itertools.pairwise(levels)]
    assert steps == pytest.approx([2 * math.log(80 / 0.002) / 8] * 8, rel=1e-10)
    same = LogSNRUniform(-2 * math.log(80), -2 * math.log(0.002))(RectifiedFlow(), 9)[:-1]
    assert [v.log_snr for v in same] == pytest.approx([v.log_snr for v in levels], abs=1e-9)


@pytest.mark.parametrize("rho", [0.1, 0.2, 1.0, 7.0, 1000.0])
def test_karras_reaches_both_ends(rho):
    levels = Karras(0.01, 50.0, rho)(RectifiedFlow(), 20)
    assert (levels[0].ratio, levels[-2].ratio) == pytest.approx((50.0, 0.01), rel=1e-9)


def test_explicit_levels():
    """Align Your Steps for Stable Diffusion 1.5, as indices and as sigmas."""
    indices = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
    sigmas = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152]
    levels = Explicit(indices, "index")(SD, 10)
    assert [v.ratio for v in levels[:-1]] == pytest.approx(sigmas, rel=4e-3)
    assert levels[-1].sigma == 0
    by_ratio = Explicit([14.0, 1.0, 0.1], "ratio")(SD, 3)
    assert [v.ratio for v in by_ratio] == pytest.approx([14.0, 1.0, 0.1, 0.0])
    assert [v.log_snr for v in Explicit([-4.0, 2.0], "log_snr")(Cosine(), 2)[:2]] == pytest.approx([-4.0, 2.0])
    assert [v.t for v in Explicit([1.0, 0.3])(Cosine(), 2)] == [1.0, 0.3, 0.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Explicit([1.0, 0.5])(Cosine(), 3), "Explicit has 2 values; give steps=2"),
        (lambda: Explicit([0.5, 1.0])(Cosine(), 2), "from noise to data, each once"),
        (lambda: Explicit([0.5, 0.5])(Cosine(), 2), "from noise to data, each once"),
        (lambda: Explicit([]), "at least one number"),
        (lambda: Explicit([1.5]), r"t in \(0, 1\]"),
        (lambda: Explicit([1000], "index")(SD, 1), "0 to 999"),
        (lambda: Explicit([1.0], "sigma"), "allowed: 't', 'log_snr', 'ratio', 'index'"),
        (lambda: Leading(-1), "a whole number >= 0"),
        (lambda: Leading(200)(SD, 10), "starts at entry 1100"),
        (lambda: leading(Cosine(), 1500), "counts a path without entries in 1000"),
        (lambda: trailing(SD, 1001), "the table has 1000 entries"),
        (lambda: trailing(Shifted(ZeroTerminalSNR(SD), 2.0), 1001), "the table has 1000 entries"),
        (lambda: linspace(Table([1.0, -1.0]), 3), "the table has 2 entries"),
        (lambda: Exponential(2.0, 1.0), "0 < low < high"),
        (lambda: Exponential(0.01)(SD, 4), "runs from 0.0291672 to 14.6146"),
        (lambda: LogSNRUniform(3.0, -3.0), "low < high"),
        (lambda: LogSNRUniform(-9.0, 3.0)(SD, 4), "runs from"),
        (lambda: Karras(rho=0.0), "0.1 to 1000"),
        (lambda: Karras(rho=0.09), "0.1 to 1000"),
        (lambda: Karras(low=100.0)(RectifiedFlow(), 3), r"to 80 \(high=None\)"),
        (lambda: Karras(high=14.62)(SD, 3), "runs from 0.0291672 to 14.6146"),
        (lambda: LogSNRUniform(-30.0, 6.0)(SD, 3), r"LogSNRUniform: log-SNR would run from -30 \(low=-30.0\) to 6"),
        (lambda: LogSNRUniform(-6.0, 1600.0)(RectifiedFlow(), 3), "do not fall in noise"),
        (lambda: Explicit([-20.0], "log_snr")(LinearBeta(), 1), "not trained on"),
        (lambda: Explicit([1e5], "ratio")(VarianceExploding(), 1), "not trained on"),
        (lambda: trailing(Cauchy(0.0, 10.0), 1000), "do not fall in noise"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
