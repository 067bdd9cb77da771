"""Learning rates against their formulas; the cosine is the trainer's own, to the bit."""

import math

import pytest

from sfumato.diffusion.learning_rates import Constant, InverseSqrt, Linear, Stable, WarmupCosine
from sfumato.schedules.parts import build, describe

ALL = [WarmupCosine(7), Constant(7), Linear(7), InverseSqrt(7, 40), Stable(7, 0.25)]


def as_recipes_have_it(lr, warmup, end, steps, step):
    """What runs of `warmup` and `lr_end` were trained by before there were rates."""
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / max(steps - 1 - warmup, 1)
    return lr * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


@pytest.mark.parametrize("lr", [2e-4, 5e-3, 0.1])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 100), (50, 800), (500, 300), (99, 100), (1, 2)])
@pytest.mark.parametrize("end", [0.0, 0.01, 1.0])
def test_warmup_cosine_is_the_recipes_to_the_bit(lr, warmup, steps, end):
    rate = WarmupCosine(warmup, end)
    for step in range(steps):
        assert rate(lr, step, steps) == as_recipes_have_it(lr, warmup, end, steps, step)


@pytest.mark.parametrize("rate", ALL, ids=str)
def test_a_rate_rises_to_lr_and_stays_within_it(rate):
    values = [rate(0.3, step, 100) for step in range(100)]
    assert values[:7] == [0.3 * (i + 1) / 7 for i in range(7)]
    assert max(values) == 0.3
    assert min(values) > 0
    assert values[6:] == sorted(values[6:], reverse=True)


def test_linear_is_a_line_that_ends_at_end():
    rate = Linear(10, 0.2)
    for step in range(10, 101):
        assert rate(2.0, step, 101) == pytest.approx(2.0 * (1 + (0.2 - 1) * (step - 10) / 90), rel=1e-14)
    assert rate(2.0, 100, 101) == pytest.approx(0.4, rel=1e-15)


def test_inverse_sqrt_is_edm2s():
    """lr / sqrt(max(t / t_ref, 1)), whatever the length; a quarter of the rate at 16 times the reference."""
    rate = InverseSqrt(0, 50)
    for step in (0, 49, 50, 51, 123, 800):
        assert rate(0.01, step, 10) == rate(0.01, step, 10_000) == 0.01 / math.sqrt(max(step / 50, 1))
    assert rate(1.0, 800, 1) == 0.25
    both = InverseSqrt(200, 50)  # the warm-up goes on while the fall has begun
    assert both(1.0, 99, 1) == pytest.approx(0.5 / math.sqrt(99 / 50), rel=1e-15)


def test_stable_falls_over_its_share_only():
    rate = Stable(10, 0.2, 0.1)
    values = [rate(1.0, step, 100) for step in range(100)]
    assert values[9:80] == [1.0] * 71
    assert values[80:] == pytest.approx([1 - 0.9 * (i + 1) / 20 for i in range(20)], rel=1e-14)
    assert [Stable(10, 0.2)(1.0, step, 1000) for step in range(80)] == values[:80]  # a longer run has the same past


def test_limits_are_each_other():
    for step in range(60):
        assert Linear(5, 1.0)(0.3, step, 60) == Constant(5)(0.3, step, 60) == Stable(5, 0.0)(0.3, step, 60)
        assert Stable(5, 1.0, 0.2)(0.3, step, 60) == Linear(5, 0.2)(0.3, step, 60)


@pytest.mark.parametrize("rate", ALL, ids=str)
def test_a_rate_is_its_description(rate):
    assert build(describe(rate)) == rate


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WarmupCosine(-1), "WarmupCosine.warmup is -1; allowed: a whole number >= 0"),
        (lambda: Constant(2.5), "Constant.warmup is 2.5"),
        (lambda: Linear(end=1.5), "Linear.end is 1.5; allowed: 0 to 1"),
        (lambda: InverseSqrt(reference=0), "InverseSqrt.reference is 0; allowed: a whole number >= 1"),
        (lambda: Stable(decay_share=float("nan")), "Stable.decay_share is nan"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
