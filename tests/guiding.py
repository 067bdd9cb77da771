"""What the tests of guiders share: a tiny network, the loop of a modular pipeline, and the same in our own."""

import diffusers
import pytest
import torch

from sfumato.guidance import (
    Branch,
    Field,
)
from sfumato.samplers import trajectory
from sfumato.schedules import Prediction

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
EULER = diffusers.EulerDiscreteScheduler(**SD)
COND, REF = torch.tensor([1, 2]), torch.tensor([0, 0])


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, num_class_embeds=3,
    ).eval()  # fmt: skip


def begin(scheduler, dtype=torch.float32):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    return x * scheduler.init_noise_sigma


@torch.no_grad()
def run(unet, scheduler, guider, steps=6, labels=(COND, REF), dtype=torch.float32):
    """The loop of a modular pipeline; the sample, and how many branches ran in each evaluation."""
    scheduler.set_timesteps(steps)
    x, ran = begin(scheduler, dtype), []
    for i, t in enumerate(scheduler.timesteps):
        fed = scheduler.scale_model_input(x, t)
        guider.set_state(step=i, num_inference_steps=len(scheduler.timesteps), timestep=t)
        batches = guider.prepare_inputs({"labels": labels})
        for batch in batches:
            guider.prepare_models(unet)
            batch.noise_pred = unet(fed, t, class_labels=batch.labels, return_dict=False)[0]
            guider.cleanup_models(unet)
        assert not unet._forward_pre_hooks
        ran.append(len(batches))
        x = scheduler.step(guider(batches)[0], t, x, return_dict=False)[0]
    return x, ran


@torch.no_grad()
def ours(unet, sampler, levels, rule, row, x, time=lambda level: round(level.t * 1000 - 1)):
    """The same network and rule in our own loop; the sample, and evaluations per picture and branch."""

    def network(x, level, labels):
        at = torch.tensor(time(level), dtype=torch.float32)
        return Prediction(x, level, unet(x, at, class_labels=labels).sample, row)

    field = Field({"cond": Branch(network, COND), "ref": Branch(network, REF)}, rule, 2)
    *_, last = trajectory(sampler, field, levels, x)
    return last.x, field.spent


def theirs(scale, rescale=0.0):
    return diffusers.ClassifierFreeGuidance(guidance_scale=scale, guidance_rescale=rescale)


class Quiet(torch.nn.Module):
    """A network that says what it is told to."""

    def forward(self, sample, out):
        return out


def protocol(guider, x, outs, times=None):
    """One evaluation with outputs made up; the guided output."""
    net = Quiet()
    guider.set_state(0, 1, torch.tensor(0) if times is None else times[0])
    batches = guider.prepare_inputs({"out": tuple(outs)})
    for batch in batches:
        guider.prepare_models(net)
        batch.noise_pred = net(x, batch.out)
        guider.cleanup_models(net)
    return guider(batches)[0]
