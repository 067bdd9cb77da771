"""The error in excess of what the model expects: closed forms, the identity with Tweedie's variance, and what it sees."""

import math

import pytest
import torch
from oracles import Mixture

from sfumato.samplers import DDIM, trajectory
from sfumato.samplers.filters import ExcessError
from sfumato.samplers.filters.filter import Filter, Scores
from sfumato.samplers.trajectory import Step
from sfumato.schedules import Cosine, Level, Prediction, RectifiedFlow, VarianceExploding, from_x0, trailing

PATHS = [Cosine(), RectifiedFlow(), VarianceExploding()]


def gaussian(mean, std):
    """The exact denoiser of N(mean, std^2)."""

    def denoise(x, level):
        alpha, sigma = float(level.alpha), float(level.sigma)
        x0 = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)
        return from_x0(x, level, x0)

    return denoise


def noise_of(x, seed=0):
    return lambda draw: torch.randn(x.shape, generator=torch.Generator().manual_seed(1000 * seed + draw), dtype=x.dtype)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("log_snr", [-2.0, 0.0, 3.0])
def test_of_a_gaussian_it_is_the_distance_beyond_the_expected_one(path, log_snr):
    """alpha^2 sigma^2 / (alpha^2 s^2 + sigma^2)^2 (|x - m|^2 / dim - s^2), by the mean over many noisings."""
    mean, std, dim = 0.7, 0.4, 4096
    level = path.at_log_snr(log_snr)
    alpha, sigma = float(level.alpha), float(level.sigma)
    z = torch.randn(5, dim, generator=torch.Generator().manual_seed(54321), dtype=torch.float64)
    x = mean + std * torch.tensor([0.0, 0.5, 1.0, 1.5, 3.0], dtype=torch.float64)[:, None] * z
    judge = ExcessError(levels=[log_snr], k=16, path=path)
    scale = alpha**2 * sigma**2 / (alpha**2 * std**2 + sigma**2) ** 2
    want = scale * ((x - mean).square().mean(1) - std**2)
    got = judge.score(x, gaussian(mean, std), noise_of(x))
    # a mean over 65,536 numbers, each of a spread of about one
    assert torch.allclose(got, want, atol=0.02 * (1 + scale * std**2 * 9))
    assert (got.diff() > 0).all()


@pytest.mark.parametrize("log_snr", [-2.0, 1.0, 4.0])
def test_over_the_data_of_an_exact_model_its_mean_is_nothing(log_snr):
    """Of a mixture too, whose posterior variance is another at every point; of points between its modes it is large."""
    mixture, path, n = Mixture(), Cosine(), 400_000
    random = torch.Generator().manual_seed(98765)
    which = (torch.rand(n, generator=random) > mixture.weights[0]).long()
    means, stds = (torch.tensor(v, dtype=torch.float64)[which] for v in (mixture.means, mixture.stds))
    x = (means + stds * torch.randn(n, generator=random, dtype=torch.float64))[None]
    judge = ExcessError(levels=[log_snr], k=1, path=path)
    assert abs(float(judge.score(x, mixture, noise_of(x)))) < 0.01
    if log_snr == 1.0:
        between = torch.full_like(x, -0.1)
        assert float(judge.score(between, mixture, noise_of(x))) > 0.05


@pytest.mark.parametrize("log_snr", [-1.0, 1.0])
def test_it_is_the_error_less_tweedies_variance(log_snr):
    """(alpha / sigma)^2 (|D - x|^2 - sigma^2 / alpha div D), averaged over the same noisings, for a denoiser that is not linear."""
    path, n = Cosine(), 400_000
    level = path.at_log_snr(log_snr)
    alpha, sigma = float(level.alpha), float(level.sigma)

    def net(x, level):
        return from_x0(x, level, torch.tanh(1.3 * x) + 0.2 * x)

    for value in (-1.0, 0.3, 2.0):
        x = torch.full((1, n), value, dtype=torch.float64)
        eps = noise_of(x)(0)
        z = alpha * x + sigma * eps
        error = (net(z, level).x0 - x).square().mean()
        divergence = (1.3 * (1 - torch.tanh(1.3 * z).square()) + 0.2).mean()
        want = (alpha / sigma) ** 2 * (error - sigma**2 / alpha * divergence)
        got = ExcessError(levels=[log_snr], k=1, path=path).score(x, net, noise_of(x))
        assert float(got) == pytest.approx(float(want), abs=0.01 * (1 + abs(float(want))))


def test_crowded_pictures_do_not_score_for_being_crowded():
    """Elements of two kinds, certain ones and uncertain ones: the round-trip error tells them apart, the excess does not."""
    path, n = Cosine(), 3000
    odds = torch.zeros(n, 64, dtype=torch.float64)
    odds[: n // 2] = 1.0  # pictures whose elements are +-1, the others' are 0
    sign = torch.randint(0, 2, (n, 64), generator=torch.Generator().manual_seed(5)).double() * 2 - 1
    x = odds * sign

    def denoise(z, level):
        alpha, sigma = float(level.alpha), float(level.sigma)
        return from_x0(z, level, odds * torch.tanh(alpha * z / sigma**2))

    error, excess = [], []
    for draw in range(4):
        level = path.at_log_snr(0.0)
        eps = noise_of(x)(draw)
        error.append((denoise(level.alpha * x + level.sigma * eps, level).x0 - x).square().mean(1))
    excess = ExcessError(levels=[0.0], k=4, path=path).score(x, denoise, noise_of(x))
    error = torch.stack(error).mean(0)
    assert float(error[: n // 2].mean() - error[n // 2 :].mean()) > 0.2
    assert abs(float(excess[: n // 2].mean() - excess[n // 2 :].mean())) < 0.01


def test_at_several_levels_it_is_the_mean_of_each():
    path, x = Cosine(), torch.randn(6, 40, generator=torch.Generator().manual_seed(77777), dtype=torch.float64)
    net, k = gaussian(0.1, 0.9), 3
    whole = ExcessError(levels=(-1.0, 0.5), k=k, path=path).score(x, net, noise_of(x))
    parts = [
        ExcessError(levels=(level,), k=k, path=path).score(x, net, lambda draw, at=i: noise_of(x)(at * k + draw))
        for i, level in enumerate((-1.0, 0.5))
    ]
    assert torch.allclose(whole, (parts[0] + parts[1]) / 2)


def test_it_watches_the_end_of_a_walk_and_keeps_by_its_bounds():
    path = Cosine()
    levels = trailing(path, 5)
    x, net = torch.randn(7, 50, generator=torch.Generator().manual_seed(88888), dtype=torch.float64), gaussian(0.0, 0.5)
    judge = ExcessError(path=path)
    assert isinstance(judge, Filter)
    assert isinstance(judge, Scores)

    def verdict(judge):
        memory = judge.init(x, levels)
        with torch.no_grad():
            for step in trajectory(DDIM(), net, levels, x, lambda step, draw: noise_of(x, step + 2)(draw)):
                memory = judge.update(memory, step)
                end = step.x.clone()
        return judge.verdict(memory), end

    found, end = verdict(judge)
    assert torch.equal(found.score, judge.score(end / levels[-1].alpha, net, noise_of(x, 6)))
    assert found.keep.all()
    middle = float(found.score.median())
    assert torch.equal(verdict(ExcessError(path=path, threshold=middle))[0].keep, found.score <= middle)
    assert torch.equal(verdict(ExcessError(path=path, least=middle))[0].keep, found.score >= middle)


def test_pictures_are_judged_as_they_would_be_stored():
    """Rounded to the values of the data: of 2 the sign, of 256 a 127.5th; and it is the same to judge a rounded one."""
    net, x = (
        gaussian(0.0, 1.0),
        torch.rand(5, 60, generator=torch.Generator().manual_seed(11), dtype=torch.float64) * 2.6 - 1.3,
    )
    plain = ExcessError(path=Cosine())
    black_white, eight = ExcessError(bins=2, path=Cosine()), ExcessError(bins=256, path=Cosine())
    assert torch.allclose(black_white.score(x, net, noise_of(x)), plain.score(x.sign(), net, noise_of(x)))
    stored = (x.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    assert torch.allclose(eight.score(x, net, noise_of(x)), plain.score(stored, net, noise_of(x)))
    assert torch.allclose(eight.score(stored, net, noise_of(x)), plain.score(stored, net, noise_of(x)))
    assert not torch.allclose(eight.score(x, net, noise_of(x)), plain.score(x, net, noise_of(x)))


def test_guided_models_are_asked_unguided():
    x = torch.zeros(2, 3, dtype=torch.float64)

    class Guided:
        plain = staticmethod(gaussian(0.0, 1.0))

        def __call__(self, x, level) -> Prediction:
            raise AssertionError("guided")

    judge = ExcessError(path=Cosine())
    assert torch.equal(judge.score(x, Guided(), noise_of(x)), judge.score(x, Guided.plain, noise_of(x)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"levels": ()}, "1 to 16 finite log-SNRs"),
        ({"levels": (math.inf,)}, "1 to 16 finite log-SNRs"),
        ({"k": 0}, "k is 0; allowed: a whole number"),
        ({"bins": 1}, "bins is 1; allowed: a whole number >= 2"),
        ({"threshold": 1.0, "least": 2.0}, "allowed: least <= threshold"),
    ],
)
def test_mistakes_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        ExcessError(**wrong)


def test_without_a_path_it_refuses_before_anything_is_asked():
    with pytest.raises(ValueError, match="needs the schedule of the model"):
        ExcessError().init(torch.zeros(1, 2), [])


def test_half_precision_pictures_are_scored_in_single():
    """What is rounded is the picture and the answer, not the sum: as a double of the same rounded numbers."""
    x = (0.5 * torch.randn(4, 300, generator=torch.Generator().manual_seed(21))).half()

    def net(z, level):
        return Prediction.pair(gaussian(0.0, 0.5)(z.double(), level).x0.half(), z)

    def noise(draw, dtype=torch.float16):
        return noise_of(x.double())(draw).half().to(dtype)

    def exact(z, level):
        return net(z.half(), level)

    judge = ExcessError(path=Cosine(), bins=256)
    own = judge.score(x, net, noise)
    assert own.dtype == torch.float32
    same = judge.score(x.double(), exact, lambda draw: noise(draw, torch.float64))
    assert torch.allclose(own.double(), same, atol=0.01)


def test_a_path_with_scaled_data_is_judged_in_the_units_of_the_data():
    judge, x0 = ExcessError(levels=(0.0,), k=1, path=Cosine()), torch.rand(3, 1, 2, 2)
    eps = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))

    def denoise(x, level):
        return Prediction.pair(x, 0.5 * x, x)

    end = Level(0.0, 0.5, 0.0)
    step = Step(0, True, end, end, 0.5 * x0, denoise(x0, end), denoise, lambda step, draw: eps)
    assert torch.allclose(judge.update(torch.zeros(3), step), judge.score(x0, denoise, lambda draw: eps))
