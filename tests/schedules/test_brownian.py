"""One Brownian motion per sample: the law of its increments, and that it does not know the grid."""

import math

import pytest
import torch

from sfumato.schedules import Brownian, Cosine, Level, RectifiedFlow, VarianceExploding, gaussian, trailing

SEEDS = torch.arange(4000)


def clock(levels):
    return [math.sqrt(v.sigma) / (math.sqrt(v.alpha) + math.sqrt(v.sigma)) for v in levels]


def motion(levels, shape=(2,), seeds=SEEDS, attempts=0, draw=0):
    """W at every level but the first, from the increments."""
    source, s = Brownian(seeds, attempts, levels, shape, torch.float64), clock(levels)
    steps = [source(i, draw) * math.sqrt(abs(s[i] - s[i + 1])) for i in range(len(levels) - 1)]
    return torch.stack(steps)


@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow(), VarianceExploding(0.002, 80.0, math.inf)], ids=str)
def test_increments_are_independent_standard_normals(schedule):
    levels = trailing(schedule, 7)
    source = Brownian(SEEDS, 0, levels, (2,), torch.float64)
    z = torch.stack([source(i, 0) for i in range(7)]).flatten(1)
    count = z.shape[1]
    assert float(z.mean(1).abs().max()) < 4.5 / math.sqrt(count)
    covariance = z @ z.T / count
    assert float((covariance - torch.eye(7)).abs().max()) < 5 / math.sqrt(count)
    assert float((z**4).mean()) == pytest.approx(3.0, abs=0.1)


def test_refining_the_grid_splits_the_increments():
    """A coarse step's noise is the sum of the fine steps' noise, on any grid, also where grids have no level in common but the ends."""
    path = Cosine()
    coarse, fine, other = trailing(path, 5), trailing(path, 40), trailing(path, 7)
    a, b, c = (motion(levels, seeds=SEEDS[:5]) for levels in (coarse, fine, other))
    for i in range(5):
        assert torch.allclose(a[i], b[8 * i : 8 * i + 8].sum(0), rtol=0, atol=1e-12)
    assert torch.allclose(a.sum(0), c.sum(0), rtol=0, atol=1e-12)


def test_order_of_reading_does_not_matter():
    levels = trailing(Cosine(), 9)
    forward = Brownian(SEEDS[:3], 0, levels, (2,), torch.float64)
    back = Brownian(SEEDS[:3], 0, levels, (2,), torch.float64)
    one = [forward(i, 0) for i in range(9)]
    two = [back(i, 0) for i in reversed(range(9))][::-1]
    assert all(torch.equal(u, v) for u, v in zip(one, two, strict=True))
    upward = motion(levels[::-1], seeds=SEEDS[:3])
    assert torch.allclose(upward.flip(0), -motion(levels, seeds=SEEDS[:3]), rtol=0, atol=1e-13)


def test_addresses():
    levels = trailing(Cosine(), 4)
    whole = Brownian(SEEDS[:6], torch.tensor([0, 0, 0, 0, 1, 0]), levels, (3,))
    alone = Brownian(SEEDS[2:3], 0, levels, (3,))
    assert torch.equal(whole(1, 0)[2], alone(1, 0)[0])
    assert not torch.equal(whole(1, 0)[4], Brownian(SEEDS[4:5], 0, levels, (3,))(1, 0)[0])
    assert not torch.equal(whole(1, 0), whole(1, 1))
    assert torch.equal(whole(-1, 0)[:3], gaussian(SEEDS[:3], 0, -1, 0, (3,)))
    assert whole(1, 0).dtype == torch.float32
    with pytest.raises(ValueError, match="allowed: -1 to 3"):
        whole(4, 0)
    with pytest.raises(ValueError, match="one noise level per step"):
        Brownian(SEEDS[:1], 0, [Level(0.0, torch.ones(1), torch.ones(1)), Level(0.0, 1.0, 0.0)], (3,))


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-7])
def test_the_law_is_exact_however_near_the_levels(gap):
    """Levels nearer than the coarsest bisection get more of them: unit variance, and independent of their neighbours."""
    path = Cosine()
    levels = [path(t) for t in (0.9, 0.5 + gap, 0.5, 0.5 - gap, 0.5 - 2 * gap, 0.2)]
    source = Brownian(SEEDS, 0, levels, (2,), torch.float64)
    z = torch.stack([source(i, 0) for i in range(5)]).flatten(1)
    covariance = z @ z.T / z.shape[1]
    assert float((covariance - torch.eye(5)).abs().max()) < 5 / math.sqrt(z.shape[1])


def test_neighbouring_parts_have_noise_of_their_own():
    """Three levels in each of many neighbouring parts of the coarsest bisection; and nothing is that of the steps."""
    places = [(2000 + i + 0.5) * 2.0**-14 for i in range(9)][::-1]
    levels = [Level(0.0, (1 - s) ** 2, s**2) for s in places]
    source = Brownian(SEEDS, 0, levels, (2,), torch.float64)
    z = torch.stack([source(i, 0) for i in range(8)]).flatten(1)
    covariance = z @ z.T / z.shape[1]
    assert float((covariance - torch.eye(8)).abs().max()) < 5 / math.sqrt(z.shape[1])
    whole = Brownian(SEEDS, 0, [Level(1.0, 0.0, 1.0), Level(0.0, 1.0, 0.0)], (2,), torch.float64)(0, 0)
    for step in range(4):
        assert abs(float((whole * gaussian(SEEDS, 0, step, 0, (2,), torch.float64)).mean())) < 5 / math.sqrt(
            whole.numel()
        )


def test_equal_levels_are_refused():
    level = Cosine()(0.5)
    with pytest.raises(ValueError, match="equal, or too close"):
        Brownian(SEEDS, 0, [Cosine()(0.9), level, level, Cosine()(0.1)], (2,))
