"""Filters on pipelines of diffusers: what the callback shows, step by step, and what is said of finished pictures."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from oracles import Mixture

from sfumato.diffusion import TimeClock, fingerprint
from sfumato.diffusion.calibrate import calibrate
from sfumato.diffusion.data import Batch
from sfumato.diffusion.denoiser import Denoiser
from sfumato.diffusion.model import Model
from sfumato.diffusion.probe_level import candidates, find_level
from sfumato.guidance import Plain
from sfumato.samplers import (
    DDIM,
    DDPM,
    PLMS,
    Churn,
    Clipped,
    DPMSolver2,
    DPMSolverPP,
    Heun,
    UniPC,
    as_diffusers,
    from_diffusers,
    network_denoise,
    on_path,
    trajectory,
)
from sfumato.samplers.filters import (
    Calibrated,
    Calibration,
    FilterCallback,
    Judged,
    PathLength,
    RenoiseProbe,
    TrajectoryVariance,
    Verdict,
    conformal_bounds,
    judge_pictures,
)
from sfumato.samplers.network_time import network_time
from sfumato.schedules import EDM, Eps, InputScaled, LinearBeta, PairingError, Prediction, RectifiedFlow, Trailing, V

FOLDER = Path(__file__).parents[1]
LIKE = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
EPS = Eps()
BLOCKS = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, norm_num_groups=4, layers_per_block=1, **BLOCKS
    ).eval()


class Pipe:
    """The loop that diffusers' pipelines with a callback share; repaint: what they do to latents after a step (inpainting)."""

    def __init__(self, scheduler, network, repaint=lambda x: x):
        self.scheduler, self.network, self.repaint, self.stop = scheduler, network, repaint, None

    @torch.no_grad()
    def __call__(self, x, steps, watch, begin=0, generator=None, tensors=("latents",)):
        self.scheduler.set_timesteps(steps)
        times = self.scheduler.timesteps
        if begin:
            times = times[begin * self.scheduler.order :]
            self.scheduler.set_begin_index(begin * self.scheduler.order)
        for i, t in enumerate(times):
            if self.stop is not None and i >= self.stop:
                continue  # `pipe._interrupt`
            out = self.network(self.scheduler.scale_model_input(x, t), t)
            x = self.repaint(self.scheduler.step(out, t, x, generator=generator, return_dict=False)[0])
            known = {"latents": x}
            given = {k: known[k] for k in tensors}
            back = watch(self, i, t, given)
            assert not isinstance(watch, FilterCallback) or back is given
            x = back.pop("latents", x)
        return x


@dataclass(frozen=True)
class Diary:
    """Keeps every step that it is shown."""

    pages: list = field(default_factory=list, compare=False)

    def init(self, x, levels):
        self.pages.append(levels)
        return []

    def update(self, memory, step):
        kept = (
            step.index,
            step.last,
            step.now,
            step.level,
            step.x.clone(),
            step.prediction.x0.clone(),
            step.prediction.eps.clone(),
        )
        return [*memory, kept]

    def verdict(self, memory):
        self.pages.append(memory)
        n = len(memory[0][4])
        return Verdict(torch.ones(n, dtype=torch.bool), torch.zeros(n))


def diaries(sampler, schedule, steps, begin=0, dtype=torch.float64, network=torch.tanh, repaint=None, row=EPS, **rest):
    """What the callback showed, and what our own loop shows: [levels, steps] each."""
    scheduler = as_diffusers(sampler, schedule, row, **rest)
    x = torch.randn(3, 2, 4, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))
    one, two = Diary(), Diary()
    g = torch.Generator().manual_seed(7)
    Pipe(scheduler, lambda x, t: network(x), repaint or (lambda x: x))(
        x, steps, FilterCallback(one), begin=begin, generator=g
    )
    levels = scheduler.grid(schedule, steps)[begin:]
    g = torch.Generator().manual_seed(7)

    def noise(step, draw):
        return torch.randn(x.shape, generator=g, dtype=dtype)

    def denoise(x, level):
        return Prediction(x, level, network(x), row)

    memory = two.init(x, levels)
    with torch.no_grad():
        for step in trajectory(on_path(sampler, schedule), denoise, levels, x, noise):
            memory = two.update(memory, step)
    two.verdict(memory)
    return one.pages, two.pages


def same(ours, theirs, atol=0.0):
    assert list(ours[0]) == list(theirs[0])
    assert len(ours[1]) == len(theirs[1])
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert a[:4] == b[:4]
        for u, v in zip(a[4:], b[4:], strict=True):
            assert u.dtype == v.dtype
            assert torch.allclose(u, v, rtol=0, atol=atol)


@pytest.mark.parametrize("begin", [0, 2])
@pytest.mark.parametrize(
    "sampler",
    [DDIM(), DDIM(1.0), DDPM(), DPMSolverPP(3), DPMSolverPP(2, 1.0), Heun(), DPMSolver2(), UniPC(), PLMS(), Clipped(DDPM())],
    ids=str,
)  # fmt: skip
def test_the_callback_shows_the_steps_of_our_own_loop(sampler, begin):
    """Steps, not evaluations: index, last, both levels, the state and the prediction that the step began with, bit for bit."""
    ours, theirs = diaries(sampler, LinearBeta(), 6, begin, clock=TimeClock(1000))
    assert len(ours[1]) == 6 - begin
    assert [page[1] for page in ours[1]] == [False] * (5 - begin) + [True]
    same(ours, theirs)


@pytest.mark.parametrize("begin", [0, 2])
def test_steps_that_begin_with_noise_of_their_own(begin):
    """Churn moves x before it asks: the pipeline holds where it asks next, the filter sees where the step ended."""
    sampler, schedule = Churn(gamma=0.2), LinearBeta()
    ours, _ = diaries(sampler, schedule, 6, begin, clock=TimeClock(1000))
    scheduler = as_diffusers(sampler, schedule, clock=TimeClock(1000))
    scheduler.set_timesteps(6)
    hat, levels = scheduler.asked[begin * scheduler.order][0], Trailing()(schedule, 6)[begin:]
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    g, drawn, theirs = torch.Generator().manual_seed(7), [0], []

    def noise(step, draw):  # the noise of its first step is in what it begins with
        drawn[0] += 1
        return torch.randn(x.shape, generator=g, dtype=x.dtype) * (drawn[0] > 1)

    def denoise(x, level):
        return Prediction(x, level, torch.tanh(x), Eps())

    with torch.no_grad():
        for step in trajectory(on_path(sampler, schedule), denoise, levels, x * levels[0].alpha / hat.alpha, noise):
            p = step.prediction
            theirs.append((step.index, step.last, step.now, step.level, step.x.clone(), p.x0.clone(), p.eps.clone()))
    same(ours, [levels, theirs], atol=1e-9)


def test_what_the_pipeline_paints_over_is_seen_so():
    """Inpainting: the step's x is what the pipeline made of it, as if our own loop had been sent it."""
    keep = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    keep[..., :2] = 1.0

    def repaint(x):
        return keep * 0.25 + (1 - keep) * x

    ours, _ = diaries(DDIM(), LinearBeta(), 6, repaint=repaint, clock=TimeClock(1000))
    plain, _ = diaries(DDIM(), LinearBeta(), 6, clock=TimeClock(1000))
    for page, other in zip(ours[1], plain[1], strict=True):
        assert torch.equal(page[4][..., :2], torch.full_like(page[4][..., :2], 0.25))
        assert torch.equal(page[4][..., 2:], other[4][..., 2:])  # this network looks at each element alone
    # written to in place, with nothing else said
    scheduler, seen = as_diffusers(DDIM(), LinearBeta(), clock=TimeClock(1000)), Diary()
    pipe = Pipe(scheduler, lambda x, t: torch.tanh(x), lambda x: x.mul_(0.5))
    end = pipe(torch.ones(1, 2, 4, 4, dtype=torch.float64), 5, FilterCallback(seen))
    assert torch.equal(seen.pages[1][-1][4], end)


def test_a_path_with_scaled_data_ends_at_data():
    """The step's x is alpha x0 as in our own loop, what the pipeline gets is x0; a pipeline that paints over the end paints on x0."""
    schedule = InputScaled(RectifiedFlow(), 0.5)
    ours, theirs = diaries(DDIM(), schedule, 6, row=V(), clock=TimeClock(1000))
    assert ours[1][-1][3].alpha == 0.5
    same(ours, theirs)
    ended = []

    def repaint(x):
        ended.append(x + 1.0)
        return ended[-1]

    painted, _ = diaries(DDIM(), schedule, 6, row=V(), clock=TimeClock(1000), repaint=repaint)
    assert torch.allclose(painted[1][-1][4] / 0.5, ended[-1], rtol=0, atol=1e-12)


def test_half_precision_shows_the_digits_that_are_walked():
    """The pipeline holds bfloat16, the filter sees the float32 of the walk; what the pipeline changed is the pipeline's."""
    scheduler, seen, handed = as_diffusers(DPMSolverPP(), like=LIKE), Diary(), []
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()

    def repaint(x):
        handed.append(torch.cat([x[:1], x[1:] * 0.5]))
        return handed[-1]

    Pipe(scheduler, lambda x, t: torch.tanh(x), repaint)(x, 6, FilterCallback(seen))
    for page, given in zip(seen.pages[1], handed, strict=True):
        assert page[4].dtype == torch.float32
        assert torch.equal(page[4].bfloat16(), given)
    assert any(
        not torch.equal(page[4][:1], given[:1].float()) for page, given in zip(seen.pages[1], handed, strict=True)
    )
    assert all(torch.equal(page[4][1:], given[1:].float()) for page, given in zip(seen.pages[1], handed, strict=True))


@pytest.mark.parametrize("sampler", [DDIM(), DDPM(), Heun()], ids=str)
def test_scores_are_those_of_our_own_sampling(sampler):
    """Statistics of the trajectory through the callback and through `trajectory`, on the same walk."""
    schedule, judges = (
        LinearBeta(),
        [TrajectoryVariance(low=-3.0), PathLength(low=-3.0), TrajectoryVariance.paper(last=4)],
    )
    watch = FilterCallback([*judges, RenoiseProbe(level=3.0, k=2)], Mixture())
    scheduler = as_diffusers(sampler, schedule, clock=TimeClock(1000))
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    end = Pipe(scheduler, lambda x, t: torch.tanh(x))(x, 8, watch, generator=torch.Generator().manual_seed(7))
    g = torch.Generator().manual_seed(7)
    levels = Trailing()(schedule, 8)
    memories = [j.init(x, levels) for j in judges]
    with torch.no_grad():
        for step in trajectory(
            sampler, lambda x, level: Prediction(x, level, torch.tanh(x), Eps()), levels, x,
            lambda step, draw: torch.randn(x.shape, generator=g, dtype=x.dtype),
        ):  # fmt: skip
            memories = [j.update(m, step) for j, m in zip(judges, memories, strict=True)]
    for judge, memory, score in zip(judges, memories, watch.scores, strict=False):
        assert torch.equal(score, judge.verdict(memory).score.float())
        assert float(score.min()) > 0
    # and the probe is asked of what came out
    assert end.shape == (5, 2, 4, 4)
    assert len(watch.verdicts) == 4
    assert watch.keep.tolist() == [True] * 5


@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=str)
def test_a_verdict_depends_on_the_picture_alone(sampler):
    """Not on what is beside it, nor on the number of steps: through the callback and after it, the same bits."""
    schedule, probe = LinearBeta(), RenoiseProbe(level=1.0, k=3)
    calls = []

    def denoise(x, level):
        calls.append(len(x))
        return Mixture()(x, level)

    def run(x, steps, judges):
        scheduler = as_diffusers(sampler, schedule, clock=TimeClock(1000))
        watch = FilterCallback(judges, denoise)
        end = Pipe(scheduler, lambda x, t: torch.tanh(x))(x, steps, watch)
        return end, watch

    x = torch.randn(4, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    end, watch = run(x, 5, [probe])
    assert calls == [4] * 3  # k evaluations per picture, and not one in the steps
    _, alone = run(x[2:3], 5, [probe])
    assert torch.equal(alone.scores[0], watch.scores[0][2:3])
    after = judge_pictures(replace(probe, path=schedule), end, denoise)
    assert torch.equal(after.verdicts[0].score, watch.scores[0])
    # another seed is other noise; a seed each is that picture's noise wherever it stands
    placed = replace(probe, path=schedule)
    others = judge_pictures(placed, end, denoise, seeds=1).verdicts[0].score
    assert not torch.equal(others, watch.scores[0])
    each = judge_pictures(placed, end, denoise, seeds=[4, 1, 7, 1]).verdicts[0].score
    assert torch.equal(each[[1, 3]], others[[1, 3]])
    assert torch.equal(each[:1], judge_pictures(placed, end[:1], denoise, seeds=[4]).verdicts[0].score)
    # two of them look at different noise
    two = judge_pictures([placed, placed], end, denoise)
    assert not torch.equal(two.verdicts[0].score, two.verdicts[1].score)
    # filters that ask in the middle get other noise in every step, and other noise than their neighbours
    drawn = []

    @dataclass(frozen=True)
    class Draws(Diary):
        def update(self, memory, step):
            drawn.append(step.noise(step.index, 0))
            return super().update(memory, step)

    run(x, 5, [Draws(), Draws()])
    assert len({float(z.sum()) for z in drawn}) == 10


def test_thresholds_reasons_and_reuse():
    schedule = LinearBeta()
    scheduler = as_diffusers(DDIM(), schedule, clock=TimeClock(1000))
    pipe = Pipe(scheduler, lambda x, t: torch.tanh(x))
    x = torch.randn(6, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    free = FilterCallback([TrajectoryVariance(low=-3.0), PathLength(low=-3.0)])
    pipe(x, 6, free)
    cut = float(free.scores[0].median())
    watch = FilterCallback([TrajectoryVariance(cut, low=-3.0), PathLength(low=-3.0)])
    for _ in range(2):  # a callback that is used again begins anew
        pipe(x, 6, watch)
        assert torch.equal(watch.scores[0], free.scores[0])
        assert torch.equal(watch.keep, free.scores[0] <= cut)
        assert [bool(r) for r in watch.reasons] == (~watch.keep).tolist()
        assert all(r.startswith("TrajectoryVariance: score") for r in watch.reasons if r)
    # another batch and another number of steps
    pipe(x[:2], 9, watch)
    assert len(watch.keep) == 2
    # latents that the callback is not given are those of the scheduler
    other = FilterCallback([TrajectoryVariance(cut, low=-3.0)])
    pipe(x, 6, other, tensors=())
    assert torch.equal(other.scores[0], free.scores[0])


def test_a_call_that_did_not_finish_has_no_verdicts():
    scheduler = as_diffusers(Heun(), LinearBeta(), clock=TimeClock(1000))
    pipe = Pipe(scheduler, lambda x, t: torch.tanh(x))
    watch = FilterCallback(PathLength(low=-3.0))
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="no verdicts: it saw no step"):
        _ = watch.keep
    pipe(x, 6, watch)
    assert len(watch.keep) == 2
    pipe.stop = 5  # two steps and a half
    pipe(x, 6, watch)
    with pytest.raises(ValueError, match="stopped after step 2 of 6"):
        _ = watch.scores
    pipe.stop = 1
    pipe(x, 6, watch)
    with pytest.raises(ValueError, match="it saw no step"):
        _ = watch.verdicts
    pipe.stop = None
    pipe(x, 6, watch)
    assert len(watch.reasons) == 2

    def some(pipe, i, t, tensors):
        return watch(pipe, i, t, tensors) if i != 3 else tensors

    with pytest.raises(ValueError, match="told of step 2 and has seen 1; it must hear of every step"):
        pipe(x, 6, some)

    def late(pipe, i, t, tensors):
        return late.watch(pipe, i, t, tensors) if i > 2 else tensors

    late.watch = FilterCallback(PathLength(low=-3.0))
    with pytest.raises(ValueError, match="told of step 1 and has seen 0"):
        pipe(x, 6, late)


def test_what_a_callback_refuses():
    with pytest.raises(ValueError, match=r"filters hold .* allowed: filters"):
        FilterCallback([TrajectoryVariance])
    with pytest.raises(ValueError, match="filters hold"):
        judge_pictures([3], torch.zeros(1, 2))
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    theirs = Pipe(DDIMScheduler(), lambda x, t: torch.tanh(x))
    with pytest.raises(
        ValueError, match=r"pipe.scheduler is DDIMScheduler.*as_diffusers\(DPMSolverPP\(\), like=pipe.scheduler\)"
    ):
        theirs(x, 4, FilterCallback(PathLength()))
    theirs.scheduler = as_diffusers(*from_diffusers(theirs.scheduler))  # its own fix
    theirs(x, 4, watch := FilterCallback(PathLength(low=-20.0)))
    assert len(watch.keep) == 2
    ours = Pipe(as_diffusers(DDIM(), LinearBeta(), clock=TimeClock(1000)), lambda x, t: torch.tanh(x))
    with pytest.raises(ValueError, match="none is given; give denoise, such as network_denoise"):
        ours(x, 4, FilterCallback(RenoiseProbe(level=3.0)))
    with pytest.raises(ValueError, match=r"sees 0 step\(s\)"):
        ours(x, 4, FilterCallback(PathLength(low=99.0)))
    with pytest.raises(ValueError, match="seeds holds 3 for a batch of 2"):
        ours(x, 4, FilterCallback(RenoiseProbe(level=3.0), Mixture(), seeds=[1, 2, 3]))
    with pytest.raises(ValueError, match="seed -1"):
        judge_pictures(Judged(Mean()), x, seeds=-1)
    with pytest.raises(ValueError, match="PathLength watches a trajectory, and these pictures are finished"):
        judge_pictures(PathLength(), x)
    with pytest.raises(ValueError, match=r"x0 is torch.uint8"):
        judge_pictures(Judged(Mean()), torch.zeros(2, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="latents have shape"):
        ours.scheduler.made(torch.zeros(1))


def test_what_a_scheduler_shows_when_there_is_no_step():
    scheduler = as_diffusers(Heun(), LinearBeta(), clock=TimeClock(1000))
    assert scheduler.made() is None
    scheduler.set_timesteps(3)
    assert scheduler.made() is None
    x = torch.randn(1, 2, 4, 4)
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(torch.tanh(x), t, x).prev_sample
        made = scheduler.made()
        assert (made is None) == (i in (0, 2))
        if made is not None:
            with pytest.raises(ValueError, match="a pipeline asks its network itself"):
                made.denoise(x, made.level)
    assert made.last
    assert copy.deepcopy(scheduler).made() is None
    scheduler.set_timesteps(3)
    assert scheduler.made() is None


@dataclass(frozen=True)
class Mean:
    """Rates by the mean."""

    def rate(self, x0):
        return x0.flatten(1).mean(1)


def test_judges_of_finished_pictures():
    x0 = torch.tensor([[0.1, 0.3], [0.9, 0.7], [-0.5, 0.5]])
    seen = judge_pictures([Judged(Mean(), threshold=0.5), Judged(Mean(), least=0.1)], x0)
    assert torch.allclose(seen.verdicts[0].score, torch.tensor([0.2, 0.8, 0.0]))
    assert [v.keep.tolist() for v in seen.verdicts] == [[True, False, True], [True, True, False]]
    assert seen.keep.tolist() == [True, False, False]
    assert seen.verdicts[0].reasons == ["", "Judged: score 0.8 is above 0.5", ""]
    assert judge_pictures([], x0).keep.tolist() == [True] * 3


def test_the_probe_of_finished_pictures_is_its_formula():
    """E |D(alpha x + sigma eps) - x|^2 / dim of one Gaussian, in closed form over many noisings."""
    schedule, model = LinearBeta(), Mixture((1.0,), (0.0,), (0.5,))
    x0 = torch.tensor([[0.0] * 8, [0.5] * 8, [2.0] * 8], dtype=torch.float64)
    probe = RenoiseProbe(level=1.0, k=2000, path=schedule)
    found = judge_pictures(probe, x0, model).verdicts[0].score.double()
    at = schedule.at_log_snr(1.0)
    g = at.sigma / at.alpha
    c = 0.25 / (0.25 + g * g)  # the share of x / alpha that is kept
    wanted = ((c - 1) * x0).square().mean(1) + (c * g) ** 2
    assert torch.allclose(found, wanted, rtol=0.05)


@pytest.mark.parametrize(
    ("like", "row"),
    [(LIKE, Eps()), (DDIMScheduler(prediction_type="v_prediction"), V()), (as_diffusers(DDIM(), RectifiedFlow(), EDM(0.5)), EDM(0.5))],
    ids=["ddpm", "v", "edm"],
)  # fmt: skip
def test_a_network_is_asked_as_the_pipeline_asks_it(like, row):
    """At an entry the number and the bits of the scheduler's own course; between entries the time between."""
    told = []

    def network(x, t):
        told.append((x, t))
        return torch.tanh(x)

    denoise = network_denoise(network, like)
    scheduler = like if row == EDM(0.5) else as_diffusers(DDIM(), like=like)
    scheduler.set_timesteps(4)
    x = torch.randn(2, 1, 4, 4)
    for level, t in zip([a[0] for a in scheduler.asked], scheduler.timesteps, strict=True):
        p = denoise(x, level)
        fed, time = told[-1]
        assert torch.equal(fed, scheduler.scale_model_input(x, t))
        assert time.tolist() == [float(t)] * 2
        assert time.dtype == t.dtype
        assert torch.equal(p.x0, Prediction(x, level, torch.tanh(fed), row).x0)
        scheduler.step(torch.tanh(fed), t, x)
        x = scheduler.made().x
    between = scheduler.schedule.at_log_snr(1.2345)
    denoise(x, between)
    assert told[-1][1].tolist() == pytest.approx([network_time(scheduler.schedule, row)(between)] * 2)


def test_a_network_with_a_learned_variance_and_one_in_half_precision():
    denoise = network_denoise(lambda x, t: torch.cat([x, 2 * x], 1), LIKE, dtype=torch.float16)
    x, level = torch.randn(2, 1, 4, 4), LIKE_LEVELS[1]
    p = denoise(x, level)
    assert p.out.dtype == p.x0.dtype == torch.float32
    assert torch.equal(p.out, x.half().float())
    assert torch.equal(p.variance, 2 * x.half().float())
    with pytest.raises(ValueError, match="one answer per picture"):
        network_denoise(lambda x, t: torch.cat([x, x]), LIKE)(x, level)


def test_a_network_with_a_clock_of_its_own_and_levels_that_it_says_nothing_about():
    told = []

    def network(x, t):
        told.append(t.tolist())
        return x

    denoise = network_denoise(network, as_diffusers(DDIM(), LinearBeta(), clock=TimeClock(500)))
    x = torch.zeros(2, 3)
    denoise(x, LinearBeta()(0.5))
    denoise(x, LinearBeta()(0.333))
    assert told == [[250.0] * 2, pytest.approx([166.5] * 2)]
    with pytest.raises(PairingError):
        denoise(x, RectifiedFlow()(1.0))
    assert len(told) == 2


def test_a_finished_call_keeps_no_memory():
    watch = FilterCallback(PathLength(low=-3.0))
    pipe = Pipe(as_diffusers(DDIM(), LinearBeta(), clock=TimeClock(1000)), lambda x, t: torch.tanh(x))
    pipe(torch.randn(2, 2, 4, 4), 6, watch)
    assert not watch._memories
    assert len(watch.keep) == 2


LIKE_LEVELS = Trailing()(as_diffusers(DDIM(), like=LIKE).schedule, 4)


def test_a_pipeline_without_a_callback_is_judged_afterwards(unet):
    pipe = DDPMPipeline(unet, as_diffusers(DDIM(), like=LIKE))
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        batch_size=3, generator=torch.Generator().manual_seed(0), num_inference_steps=4, output_type="np"
    ).images
    x0 = torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1
    counted = []

    def network(x, t):
        counted.append(len(x))
        return unet(x, t).sample

    denoise = network_denoise(network, pipe.scheduler)
    probe = RenoiseProbe(level=3.0, k=4, path=pipe.scheduler.schedule)
    seen = judge_pictures([probe, Judged(Mean(), threshold=0.0)], x0, denoise)
    assert counted == [3] * 4
    assert torch.equal(seen.verdicts[1].score, x0.flatten(1).mean(1))
    # by hand
    at, wanted = pipe.scheduler.schedule.at_log_snr(3.0), torch.zeros(3)
    from sfumato.schedules import gaussian

    with torch.no_grad():
        for draw in range(4):
            z = gaussian(torch.zeros(3, dtype=torch.int64), 0, 0, (1 << 16) + draw, (1, 8, 8))
            t = torch.full((3,), network_time(pipe.scheduler.schedule, Eps())(at))
            x = at.alpha * x0 + at.sigma * z
            back = (x - at.sigma * unet(x, t).sample) / at.alpha
            wanted += (back - x0).square().flatten(1).mean(1) / 4
    assert torch.allclose(seen.verdicts[0].score, wanted, rtol=1e-4)


class Noisy(torch.nn.Module):
    """A UNet2DModel as a backbone of ours."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x, time):
        return self.unet(x, time).sample


@dataclass(frozen=True)
class Tensors:
    """Pictures in a tensor as a data set."""

    pictures: torch.Tensor = field(repr=False)
    num_classes: int = 0
    fingerprint: str = "mine"

    def __len__(self):
        return len(self.pictures)

    @property
    def shape(self):
        return tuple(self.pictures.shape[1:])

    def batch(self, index):
        return Batch(self.pictures[index], None)


@dataclass(frozen=True)
class Index:
    """The time of a table's entry."""

    def __call__(self, level):
        return level.t * 1000 - 1


def test_calibrating_a_network_of_diffusers_from_a_tensor(unet):
    """The documented recipe: scores of real pictures, then their quantile; a further real one is rejected as seldom as promised."""
    scheduler = as_diffusers(DDIM(), like=LIKE)
    real = 0.3 * torch.randn(600, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    denoise = network_denoise(lambda x, t: unet(x, t).sample, scheduler)
    probe = RenoiseProbe(level=2.0, k=2, path=scheduler.schedule)
    with torch.no_grad():
        scores = judge_pictures(probe, real[:400], denoise, seeds=range(400)).verdicts[0].score
    assert torch.equal(scores[100:200], judge_pictures(probe, real[100:200], denoise, seeds=range(100, 200)).verdicts[0].score) or (
        torch.allclose(scores[100:200], judge_pictures(probe, real[100:200], denoise, seeds=range(100, 200)).verdicts[0].score, rtol=1e-4)
    )  # fmt: skip
    _, most = conformal_bounds(scores, alpha=0.1)
    ready = replace(probe, threshold=most)
    fresh = judge_pictures(ready, real[400:], denoise, seeds=range(400, 600))
    assert 0.02 < float((~fresh.keep).float().mean()) < 0.2
    found = Calibration(ready, 0.1, 400, "upper", fingerprint(unet), "mine", held_out=True)
    told = judge_pictures(
        Calibrated(found), real[400:], denoise, seeds=range(400, 600), model=lambda: fingerprint(unet)
    )
    assert torch.equal(told.keep, fresh.keep)
    with pytest.raises(ValueError, match="say which these are: model=lambda"):
        judge_pictures(Calibrated(found), real[400:], denoise)
    with pytest.raises(ValueError, match="of other weights than these"):
        judge_pictures(Calibrated(found), real[400:], denoise, model=lambda: "others")


def test_the_level_is_found_for_a_network_of_diffusers_as_for_ours():
    """`find_level` on what judge_pictures says: two modes, whose middle is seen from where they begin to meet."""
    model, schedule = Mixture((0.5, 0.5), (-1.0, 1.0), (0.05, 0.05)), LinearBeta()
    g = torch.Generator().manual_seed(0)
    real = torch.where(torch.rand(1000, 1, generator=g) < 0.5, -1.0, 1.0).double() + 0.05 * torch.randn(
        1000, 1, generator=g
    )

    def errors(log_snr):
        return (
            judge_pictures(RenoiseProbe(log_snr, k=4, path=schedule), real, model, seeds=range(1000)).verdicts[0].score
        )

    level, curve = find_level(errors, candidates(schedule))
    assert level is not None
    assert len(curve) > 5
    middle = torch.zeros(4, 1, dtype=torch.float64)
    cut = conformal_bounds(errors(level), 0.01)[1]
    judge = RenoiseProbe(level, cut, path=schedule)
    assert not bool(judge_pictures(judge, middle, model).keep.any())
    assert float(judge_pictures(judge, real, model, seeds=range(5000, 6000)).keep.float().mean()) > 0.97


def test_calibrations_on_a_pipeline(unet):
    """The whole of `calibrate` on a UNet2DModel: what it found holds for this sampler, grid and network, and refuses others."""
    scheduler = as_diffusers(DDIM(), like=LIKE)
    backbone = Noisy(unet)
    model = Model(Denoiser(backbone, scheduler.schedule, scheduler.row, Index()), (1, 8, 8), sampler=DDIM(), steps=6)
    real = Tensors(0.3 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    ready = calibrate(
        model, TrajectoryVariance(low=-3.0), real, held_out=True, alpha=0.1, count=64, batch=32
    ).calibration
    assert ready.guidance == repr(Plain())

    def call(scheduler, steps=6, guides=None, own=lambda: fingerprint(model.denoiser), **rest):
        pipe = Pipe(scheduler, lambda x, t: unet(x, t).sample)
        if guides is not None:
            pipe.do_classifier_free_guidance, pipe.guidance_scale = True, guides
        watch = FilterCallback(Calibrated(ready), model=own, **rest)
        pipe(torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), steps, watch)
        return watch

    watch = call(scheduler)
    assert torch.equal(watch.keep, watch.scores[0] <= ready.filter.threshold)
    assert len(watch.keep) == 3
    call(scheduler, guides=7.5, guidance=Plain())  # who says so is believed
    with pytest.raises(ValueError, match="of the sampler DDIM"):
        call(as_diffusers(DPMSolverPP(), like=LIKE))
    with pytest.raises(ValueError, match="of 6 steps"):
        call(scheduler, steps=7)
    with pytest.raises(ValueError, match=r"of the guidance Plain\(\), and this is the pipeline's own, scale 7.5"):
        call(scheduler, guides=7.5)
    with pytest.raises(ValueError, match="this is CFG"):
        call(scheduler, guidance="CFG(3.0)")
    with pytest.raises(ValueError, match="of other weights"):
        call(scheduler, own=lambda: "others")
    with pytest.raises(ValueError, match="say which these are"):
        call(scheduler, own=None)
    with pytest.raises(ValueError, match="sampled with labels"):
        call(scheduler, labelled=True)
    # the probe's calibration holds for every sampler of the network
    probe = Calibration(RenoiseProbe(2.0, 1.0), 0.1, 64, "upper", "w", "mine", True)
    for sampler in (DDIM(), Heun()):
        watch = FilterCallback(Calibrated(probe), Mixture(), model=lambda: "w")
        Pipe(as_diffusers(sampler, like=LIKE), lambda x, t: torch.tanh(x))(torch.randn(2, 1, 8, 8), 4, watch)
        assert len(watch.keep) == 2


def test_stable_diffusion():
    """Its own pipelines: text to image with several pictures per prompt, image to image, inpainting; see test_pipelines."""
    path = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(FOLDER / "stable_diffusion.py"), "filters"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-2000:]
    found = json.loads(lines[0].removeprefix("FOUND "))
    assert len(found) == 20
    assert [name for name, held in found.items() if not held] == []
