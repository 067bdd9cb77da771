"""The re-noise probe: closed forms, whose noise it draws, and what it asks."""

import math

import pytest
import torch
from modelled import made
from oracles import Mixture, log_grid

from sfumato.guidance import CFG, Branch, Field
from sfumato.samplers import DDIM, DDPM, Heun, trajectory
from sfumato.samplers.filters import Judged, RenoiseProbe
from sfumato.samplers.path import on_path
from sfumato.samplers.refill import fill
from sfumato.schedules import Cosine, InputScaled, RectifiedFlow, V, VarianceExploding, gaussian, trailing

MEAN, STD = 0.3, 0.4
GAUSSIAN = Mixture((1.0,), (MEAN,), (STD,))


def normals(shape, seed=0):
    return lambda draw: torch.randn(shape, generator=torch.Generator().manual_seed(seed + draw), dtype=torch.float64)


@pytest.mark.parametrize("path", [Cosine(), RectifiedFlow(), VarianceExploding(), InputScaled(Cosine(), 0.5)], ids=str)
@pytest.mark.parametrize("k", [1, 3])
def test_on_a_gaussian_the_score_is_closed_form(path, k):
    """D(alpha x + sigma e) - x = (1 - c alpha) (mean - x) + c sigma e, with c = alpha s^2 / (alpha^2 s^2 + sigma^2)."""
    probe = RenoiseProbe(1.7, k=k, path=path)
    at = path.at_log_snr(1.7)
    c = at.alpha * STD**2 / (at.alpha**2 * STD**2 + at.sigma**2)
    x = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    noise = normals(x.shape)
    back = [(1 - c * at.alpha) * (MEAN - x) + c * at.sigma * noise(draw) for draw in range(k)]
    wanted = torch.stack(back).square().mean(0).flatten(1).mean(1)
    assert torch.allclose(probe.score(x, GAUSSIAN, noise), wanted, rtol=1e-10)


def test_the_mean_score_is_closed_form():
    """E = (1 - c alpha)^2 (x - mean)^2 + c^2 sigma^2: what lies far from the data is far from where it returns to."""
    probe = RenoiseProbe(2.0, k=8, path=Cosine())
    at = probe.at
    c = at.alpha * STD**2 / (at.alpha**2 * STD**2 + at.sigma**2)
    x = torch.tensor([0.3, 0.7, 2.0], dtype=torch.float64)[:, None].expand(3, 20_000)
    wanted = (1 - c * at.alpha) ** 2 * (x[:, 0] - MEAN) ** 2 + c**2 * at.sigma**2
    assert torch.allclose(probe.score(x, GAUSSIAN, normals(x.shape)), wanted, rtol=0.02)
    assert float(wanted[2]) > 3 * float(wanted[0])


def test_between_two_modes_it_scores_more_than_within_one():
    """At the middle a draw leads to either mode, one gap's half away."""
    modes = Mixture((0.5, 0.5), (-1.0, 1.0), (0.02, 0.02))
    probe = RenoiseProbe(4.0, k=8, path=Cosine())
    x = torch.tensor([[-1.0], [1.0], [0.0]], dtype=torch.float64)
    left, right, middle = probe.score(x, modes, normals(x.shape)).tolist()
    assert max(left, right) < 0.001
    assert 0.5 < middle < 1.01


class Spied:
    """A model that notes how it was asked."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def __call__(self, x, level):
        self.asked.append((x.clone(), level))
        return self.model(x, level)


@pytest.mark.parametrize("sampler", [DDPM(), DDIM(), Heun()], ids=str)
def test_it_asks_k_times_at_its_level_of_the_finished_sample(sampler):
    levels, path = trailing(InputScaled(Cosine(), 0.5), 5), InputScaled(Cosine(), 0.5)
    spied, (probe,) = Spied(Mixture(row=V())), on_path((RenoiseProbe(1.0, k=3),), path)
    x = torch.randn(2, 4, dtype=torch.float64)
    noise = lambda step, draw: normals(x.shape, 100 * (step + 1))(draw)  # noqa: E731
    memory = probe.init(x, levels)
    with torch.no_grad():
        for step in trajectory(sampler, spied, levels, x, noise):
            before = len(spied.asked)
            memory = probe.update(memory, step)
            assert len(spied.asked) - before == (3 if step.last else 0)
    finished = step.x / levels[-1].alpha
    for draw, (asked, level) in enumerate(spied.asked[-3:]):
        assert level.log_snr == pytest.approx(1.0)
        assert torch.allclose(asked, level.alpha * finished + level.sigma * noise(4, draw))
    assert levels[-1].alpha == pytest.approx(0.5)


def finished(probes, guidance=None, retries=0, seeds=(5, 6, 7), labels=(1, 2, 3)):
    model = made(schedule=Cosine(), row=V())
    levels = trailing(Cosine(), 4)

    def denoise_for(slots):
        conditions = model.conditions([labels[s] for s in slots.tolist()], len(slots))
        branches = {name: Branch(model.denoiser, c) for name, c in conditions.items()}
        return Field(branches, guidance or CFG(3.0), len(slots))

    with torch.no_grad():
        done = list(fill(DDIM(), denoise_for, levels, seeds, (1, 8, 8), filters=probes, retries=retries))
    return model, done


def test_it_asks_the_conditional_model_without_guidance_with_noise_of_its_own():
    """Two probes at different places see other noise, and the k-th draw of each is where its address says."""
    probe = RenoiseProbe(1.0, k=2, path=Cosine())
    model, (done,) = finished([Judged(_Rate()), probe, probe])
    seeds = torch.tensor([5, 6, 7])

    def wanted(place):
        def noise(draw):
            return gaussian(seeds, 0, 3, (place + 1 << 16) + draw, (1, 8, 8))

        def conditional(x, level):
            return model.denoiser(x, level, {"labels": torch.tensor([1, 2, 3])})

        with torch.no_grad():
            return probe.score(done.x, conditional, noise)

    assert torch.allclose(done.verdicts[1].score, wanted(1), rtol=1e-5)
    assert torch.allclose(done.verdicts[2].score, wanted(2), rtol=1e-5)
    assert not torch.allclose(wanted(1), wanted(2), rtol=1e-3)
    # 4 guided steps, and twice 2 looks at the conditional branch alone
    assert done.evaluations.tolist() == [[8, 4]] * 3


class _Rate:
    def rate(self, x0):
        return x0.flatten(1).mean(1)


def test_each_attempt_draws_noise_of_its_own():
    model, (first, second) = finished([RenoiseProbe(1.0, threshold=0.0, k=2, path=Cosine())], retries=1)
    seeds = torch.tensor([5, 6, 7])
    for attempt, done in enumerate((first, second)):
        with torch.no_grad():
            wanted = RenoiseProbe(1.0, k=2, path=Cosine()).score(
                done.x,
                lambda x, level: model.denoiser(x, level, {"labels": torch.tensor([1, 2, 3])}),
                lambda draw, attempt=attempt: gaussian(seeds, attempt, 3, (1 << 16) + draw, (1, 8, 8)),
            )
        assert done.attempts.tolist() == [attempt] * 3
        assert torch.allclose(done.verdicts[0].score, wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_judged_in_single(dtype):
    probe, levels = RenoiseProbe(1.0, k=2, path=Cosine()), log_grid(20, 0.02, 6)
    with torch.no_grad():
        (half,) = fill(DDIM(), lambda s: Mixture(), levels, [1, 2], (64,), filters=[probe], dtype=dtype)
        (full,) = fill(DDIM(), lambda s: Mixture(), levels, [1, 2], (64,), filters=[probe])
    assert half.verdicts[0].score.dtype == torch.float32
    assert torch.allclose(half.verdicts[0].score, full.verdicts[0].score, rtol=0.05)
    x = torch.zeros(2, 4, dtype=dtype)
    assert probe.score(x, GAUSSIAN, lambda draw: torch.ones_like(x)).dtype == torch.float32


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"level": math.inf}, "level is inf; allowed: a finite log-SNR"), ({"level": math.nan}, "level is nan"),
        ({"threshold": -1.0}, "0 <= least <= threshold"), ({"least": 2.0, "threshold": 1.0}, "0 <= least <= threshold"),
        ({"least": -1.0}, "0 <= least"), ({"threshold": math.nan}, "0 <= least <= threshold"),
        ({"k": 0}, "from 1 to 65536"), ({"k": 65537}, "from 1 to 65536"), ({"k": True}, "from 1 to 65536"),
        ({"k": 2.0}, "from 1 to 65536"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(bad, words):
    with pytest.raises(ValueError, match=words):
        RenoiseProbe(**bad)


def test_without_level_path_or_noise_it_refuses_and_says_what_to_do():
    x, levels = torch.zeros(1, 2), log_grid(20, 0.02, 3)
    with pytest.raises(ValueError, match=r"has no level: .* `sfumato calibrate RUN` finds it"):
        RenoiseProbe(path=Cosine()).init(x, levels)
    with pytest.raises(
        ValueError, match=r"needs the schedule of the model: RenoiseProbe\(..., path=schedule\), such as .*, or on_path"
    ):
        RenoiseProbe(1.0).init(x, levels)
    probe = RenoiseProbe(1.0, path=Cosine())
    with torch.no_grad():
        (*_, last) = trajectory(DDIM(), Mixture(), levels, x)
    with pytest.raises(ValueError, match="draws noise; give trajectory"):
        probe.update(probe.init(x, levels), last)
    assert RenoiseProbe(k=65536).k == 65536


def test_what_is_too_smooth_is_rejected_too():
    verdict = RenoiseProbe(least=1.0, threshold=2.0).verdict(torch.tensor([0.5, 1.0, 2.0, 2.5, math.nan]))
    assert verdict.keep.tolist() == [False, True, True, False, False]
