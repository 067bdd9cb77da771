"""Grids: golden values; distinct, descending, starting where they say."""

import itertools

import pytest

from sfumato.schedules import Cosine, Karras, LinearBeta, RectifiedFlow, Truncated, karras, trailing

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
@pytest.mark.parametrize("grid", [trailing, karras], ids=str)
def test_steps_out_of_range(grid, steps):
    with pytest.raises(ValueError, match=r"steps is .*allowed: a whole number from 1 to 100000"):
        grid(RectifiedFlow(), steps)


def test_karras_refuses_what_the_schedule_does_not_reach():
    with pytest.raises(ValueError, match=r"LinearBeta runs from 0 to 152"):
        Karras(0.002, 500.0)(LinearBeta(), 5)
    with pytest.raises(ValueError, match=r"0 < low < high"):
        Karras(5.0, 1.0)
