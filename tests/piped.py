"""What tests of filters on pipelines share: a small loop like diffusers' own, and a filter that writes down what it is shown."""

from dataclasses import dataclass, field

import torch
from diffusers import DDPMScheduler

from sfumato.samplers import (
    DDIM,
    as_diffusers,
    on_path,
    trajectory,
)
from sfumato.samplers.filters import (
    FilterCallback,
    Verdict,
)
from sfumato.schedules import Eps, Prediction, Trailing

LIKE = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
LIKE_LEVELS = Trailing()(as_diffusers(DDIM(), like=LIKE).schedule, 4)
EPS = Eps()


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


@dataclass(frozen=True)
class Mean:
    """Rates by the mean."""

    def rate(self, x0):
        return x0.flatten(1).mean(1)
