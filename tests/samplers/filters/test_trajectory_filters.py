"""Statistics of the trajectory: parity with the authors' formula, closed forms, invariances."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import Mixture, log_grid

from sfumato.samplers import DDIM, DDPM, trajectory
from sfumato.samplers.filters import PathLength, TrajectoryVariance
from sfumato.samplers.filters.window import weights
from sfumato.schedules import RectifiedFlow, V, trailing

LEVELS = log_grid(20, 0.02, 30)


def watch(judge, levels, denoise, x, sampler=DDIM(), noise=None):  # noqa: B008
    """Its verdict, and the predictions of every step, (steps, B, ...)."""
    memory, seen = judge.init(x, levels), []
    with torch.no_grad():
        for step in trajectory(sampler, denoise, levels, x, noise):
            memory = judge.update(memory, step)
            seen.append(step.prediction.x0.clone())
    return judge.verdict(memory), torch.stack(seen)


def noise_of(x, seed=0):
    """Independent normals at every address."""
    return lambda step, draw: torch.randn(
        x.shape, generator=torch.Generator().manual_seed(seed + 1000 * step + draw), dtype=x.dtype
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_paper_is_the_authors_formula(dtype):
    """np.mean(np.var(pred_x0[:, -10:], axis=time), axis=coordinates), whatever the window is in log-SNR."""
    x = 20 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    verdict, seen = watch(TrajectoryVariance.paper(), LEVELS, Mixture(), x, DDPM(), noise_of(x))
    wanted = np.mean(np.var(seen.double().numpy()[-10:], axis=0), axis=1)
    assert len(seen) == 30
    np.testing.assert_allclose(verdict.score.numpy(), wanted, rtol=1e-5 if dtype == torch.float32 else 1e-12)
    assert bool(verdict.keep.all())
    cut = TrajectoryVariance.paper(float(np.quantile(wanted, 0.7)))
    assert int(watch(cut, LEVELS, Mixture(), x, DDPM(), noise_of(x))[0].keep.sum()) == 35


def test_paper_can_be_said_on_the_command_line():
    """--filters TrajectoryVariance --filters.last 10 --filters.weight steps"""
    x = 20 * torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    own = watch(TrajectoryVariance(last=10, weight="steps"), LEVELS, Mixture(), x)[0].score
    assert torch.equal(own, watch(TrajectoryVariance.paper(), LEVELS, Mixture(), x)[0].score)


def test_paper_on_numbers_by_hand():
    """x0 = 4 eight times, then 4.5 and 3.5: variance 0.05 (specification, section F)."""
    values = iter([0.0] * 20 + [4.0] * 8 + [4.5, 3.5])
    model = _constant(lambda: next(values))
    verdict, _ = watch(TrajectoryVariance.paper(), LEVELS, model, torch.zeros(1, 2, dtype=torch.float64))
    assert float(verdict.score) == pytest.approx(0.05, abs=1e-12)


def _constant(value):
    from sfumato.schedules import Prediction

    return lambda x, level: Prediction.pair(torch.full_like(x, value()), torch.zeros_like(x))


def test_constant_predictions_score_nothing():
    x = 20 * torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for judge in (TrajectoryVariance(low=-5.0), TrajectoryVariance.paper(), PathLength(low=-5.0)):
        assert float(watch(judge, LEVELS, _constant(lambda: 0.7), x)[0].score.abs().max()) < 1e-15


def test_a_shift_changes_nothing_and_the_scale_is_quadratic():
    """Predictions a x0 + b: the variance is a^2 times, the length a times."""
    values = [math.sin(3.0 * i) for i in range(30)]
    x = torch.zeros(1, 2, dtype=torch.float64)

    def score(judge, a, b):
        told = iter([a * v + b for v in values])
        return float(watch(judge, LEVELS, _constant(lambda: next(told)), x)[0].score)

    for judge, power in ((TrajectoryVariance(low=-3.0), 2), (TrajectoryVariance.paper(), 2), (PathLength(low=-3.0), 1)):
        assert score(judge, 3.0, 5.0) == pytest.approx(3.0**power * score(judge, 1.0, 0.0), rel=1e-10)
        assert score(judge, 1.0, 0.0) > 0.01


def test_weights_are_the_log_snr_that_a_step_stands_for():
    levels = log_grid(4, 0.25, 4)  # ratios 4, 2, 1, 1/2, 1/4: log-SNR apart by 4 log 2
    assert [float(v.log_snr) for v in levels[:-1]] == pytest.approx([-2 * math.log(r) for r in (4, 2, 1, 0.5)])
    apart = 2 * math.log(2)
    assert weights("", levels, -99.0, 99.0, None, "log_snr") == pytest.approx([apart / 2, apart, apart, apart / 2])
    assert weights("", levels, -1.5, 99.0, None, "log_snr") == pytest.approx([0.0, apart / 2, apart, apart / 2])
    assert weights("", levels, -1.5, 99.0, None) == [0.0, 1.0, 1.0, 1.0]
    at = [float(v.log_snr) for v in levels]
    assert weights("", levels, at[1], at[2], None) == [0.0, 1.0, 1.0, 0.0]  # the ends belong to the window
    assert weights("", levels, -math.inf, math.inf, 2) == [0.0, 0.0, 1.0, 1.0]
    # a first step at pure noise stands for no stretch that could be measured
    flow = trailing(RectifiedFlow(), 4)
    own = weights("", flow, -math.inf, math.inf, None, "log_snr")
    assert own[0] == 0.0
    assert all(0.0 < v < 9.0 for v in own[1:])


def test_weighting_survives_a_change_of_grid():
    """The same flow on a coarse grid, a fine one and one that is dense at one end: weighted by log-SNR the scores agree."""
    model = Mixture((0.5, 0.5), (-1.0, 1.0), (0.2, 0.2))
    x = 20 * torch.randn(8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    fine, finer = log_grid(20, 0.02, 400), log_grid(20, 0.02, 1600)
    dense = [*finer[:800:4], *finer[800:]]  # four times as many steps in the second half
    judge = TrajectoryVariance(low=-2.0, high=4.0)
    a, b = (watch(judge, levels, model, x)[0].score for levels in (fine, dense))
    assert torch.allclose(a, b, rtol=0.02)
    plain = TrajectoryVariance(low=-2.0, high=4.0, weight="steps")
    c, d = (watch(plain, levels, model, x)[0].score for levels in (fine, dense))
    assert float((c / d - 1).abs().max()) > 0.05
    length = PathLength(low=-2.0, high=4.0)
    e, f = (watch(length, levels, model, x)[0].score for levels in (fine, dense))
    assert torch.allclose(e, f, rtol=0.02)


def test_path_length_is_the_sum_of_what_the_prediction_moves():
    x = 20 * torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    verdict, seen = watch(PathLength(low=-1.0, high=5.0), LEVELS, Mixture(row=V()), x, DDIM(1.0), noise_of(x))
    inside = [p for p, v in zip(seen, LEVELS[:-1], strict=True) if -1.0 <= float(v.log_snr) <= 5.0]
    wanted = sum((b - a).square().mean(1).sqrt() for a, b in itertools.pairwise(inside))
    assert len(inside) > 5
    assert torch.allclose(verdict.score, wanted, rtol=1e-12)


def test_memory_does_not_grow_with_the_steps_and_the_score_only_grows():
    """An early exit would be lossless: the unnormalised spread never falls."""
    x = 20 * torch.randn(4, 2, generator=torch.Generator().manual_seed(4))
    judge, sizes, spreads = TrajectoryVariance(low=-9.0), set(), [torch.zeros(4)]
    levels = log_grid(20, 0.02, 60)
    memory = judge.init(x, levels)
    with torch.no_grad():
        for step in trajectory(DDPM(), Mixture(), levels, x, noise_of(x)):
            memory = judge.update(memory, step)
            sizes.add(sum(t.numel() for t in memory if isinstance(t, torch.Tensor)))
            spreads.append(memory.spread.sum(1))
    assert sizes == {2 * x.numel()}
    assert all(bool((b >= a).all()) for a, b in itertools.pairwise(spreads))


def test_variance_is_the_population_variance_of_the_predictions_in_the_window():
    levels, seen = trailing(RectifiedFlow(), 40), []

    def watched(x, level):
        p = Mixture(row=V())(x, level)
        if -1.0 <= level.log_snr <= 5.0:
            seen.append(p.x0)
        return p

    x = torch.randn(6, 2, dtype=torch.float64)
    verdict = watch(TrajectoryVariance(1e-3, -1.0, 5.0, "steps"), levels, watched, x)[0]
    wanted = torch.stack(seen).var(0, unbiased=False).mean(1)
    assert len(seen) > 5
    assert torch.allclose(verdict.score, wanted, rtol=1e-10)
    assert torch.equal(verdict.keep, wanted <= 1e-3)


def test_variance_on_a_gaussian_is_closed_form():
    """x0 - m = c s^2 / sqrt(s^2 + g^2) along the flow of one Gaussian (specification, section F)."""
    s, c = 0.05, 1.0
    ratios = [20 * 0.001 ** (i / 240) for i in range(241)]
    levels = log_grid(20, 0.02, 240)
    x = torch.full((1, 1), c * math.sqrt(s**2 + 400.0), dtype=torch.float64)
    # the exact path, so that the closed form is not clouded by the solver's error
    path = {g: c * math.sqrt(s**2 + g * g) for g in ratios}
    gaussian_model = Mixture((1.0,), (0.0,), (s,))
    predictions = [
        float(gaussian_model(torch.tensor([v], dtype=torch.float64), level).x0)
        for v, level in zip(path.values(), levels, strict=True)
    ]
    for g, x0 in zip(ratios, predictions, strict=True):
        assert x0 == pytest.approx(c * s**2 / math.sqrt(s**2 + g * g), rel=1e-9)
    verdict = watch(TrajectoryVariance(low=2.0, weight="steps"), levels, gaussian_model, x)[0]
    inside = [c * s**2 / math.sqrt(s**2 + g * g) for g in ratios[:-1] if -2 * math.log(g) >= 2.0]
    mean = sum(inside) / len(inside)
    assert float(verdict.score) == pytest.approx(sum((v - mean) ** 2 for v in inside) / len(inside), rel=0.02)


def test_a_first_step_at_pure_noise_is_none_of_the_two_that_are_needed():
    """It stands for no stretch of log-SNR; with one other step there would be nothing to weigh, and every sample were "no number"."""
    x = torch.zeros(1, 1)
    levels = trailing(RectifiedFlow(), 2)
    with pytest.raises(ValueError, match=r"sees 0 step\(s\) of these 2 that stand for a stretch of log-SNR"):
        TrajectoryVariance(low=-math.inf).init(x, levels)
    assert TrajectoryVariance.paper().init(x, levels).weights == [1.0, 1.0]
    three = TrajectoryVariance(low=-math.inf).init(x, trailing(RectifiedFlow(), 3)).weights
    assert three[0] == 0.0
    assert three[1] == three[2] > 0.0


def test_windows_are_refused_with_the_reason():
    x = torch.zeros(1, 1)
    with pytest.raises(
        ValueError, match=r"sees 0 step\(s\) in log-SNR \[100, inf\] and needs 2; these 30 steps end with log-SNR"
    ):
        TrajectoryVariance(low=100.0).init(x, LEVELS)
    with pytest.raises(ValueError, match="sees 1 step"):
        TrajectoryVariance.paper().init(x, LEVELS[:2])
    for kind in (TrajectoryVariance, PathLength):
        for bad, words in (
            ({"low": 3.0, "high": 2.0}, "low < high"), ({"low": math.nan}, "low < high"), ({"threshold": -1.0}, ">= 0"),
            ({"threshold": math.nan}, ">= 0"), ({"last": 1, "low": -math.inf}, ">= 2"), ({"last": 5, "low": 1.0}, "says its window twice"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=words):
                kind(**bad)
    with pytest.raises(ValueError, match="'log_snr', 'steps'"):
        TrajectoryVariance(weight="t")
