"""Filters on pipelines of diffusers: what the callback shows, step by step."""

import copy
from dataclasses import dataclass, replace

import pytest
import torch
from diffusers import DDIMScheduler
from oracles import Mixture
from piped import LIKE, Diary, Mean, Pipe, diaries, same

from sfumato.diffusion import TimeClock
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
    on_path,
    trajectory,
)
from sfumato.samplers.filters import (
    FilterCallback,
    Judged,
    PathLength,
    RenoiseProbe,
    TrajectoryVariance,
    judge_pictures,
)
from sfumato.schedules import Eps, InputScaled, LinearBeta, Prediction, RectifiedFlow, Trailing, V


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


def test_a_finished_call_keeps_no_memory():
    watch = FilterCallback(PathLength(low=-3.0))
    pipe = Pipe(as_diffusers(DDIM(), LinearBeta(), clock=TimeClock(1000)), lambda x, t: torch.tanh(x))
    pipe(torch.randn(2, 2, 4, 4), 6, watch)
    assert not watch._memories
    assert len(watch.keep) == 2
