"""Pipelines of diffusers, on tiny networks made from configs, with our schedulers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    UNet2DModel,
)
from diffusers.utils.torch_utils import randn_tensor

from sfumato.samplers import DDIM, DDPM, Clipped, DPMSolverPP, Heun, as_diffusers, from_diffusers, on_path, trajectory
from sfumato.schedules import Prediction, Trailing

FOLDER = Path(__file__).parent
LIKE = DDPMScheduler(beta_schedule="squaredcos_cap_v2")


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    ).eval()  # fmt: skip


@torch.no_grad()
def ours(sampler, unet, scheduler, steps, seed):
    """The same network and generator in our own loop; these pipelines start from unscaled noise."""
    g = torch.Generator().manual_seed(seed)
    x = randn_tensor((2, 1, 8, 8), generator=g)

    def denoise(x, level):
        return Prediction(x, level, unet(x, torch.tensor(round(level.t * 1000 - 1))).sample, scheduler.row)

    levels = scheduler.grid(scheduler.schedule, steps)
    walker = on_path(sampler, scheduler.schedule)
    *_, last = trajectory(walker, denoise, levels, x, lambda step, draw: randn_tensor((2, 1, 8, 8), generator=g))
    return (last.x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def pictures(pipe, steps, seed=5, **options):
    pipe.set_progress_bar_config(disable=True)
    g = torch.Generator().manual_seed(seed)
    return pipe(batch_size=2, generator=g, num_inference_steps=steps, output_type="np", **options).images


@pytest.mark.parametrize("sampler", [DDPM(), DPMSolverPP(), Heun(), Clipped(DDPM())], ids=str)
def test_ddpm_pipeline(unet, sampler):
    scheduler = as_diffusers(sampler, like=LIKE)
    found = pictures(DDPMPipeline(unet, scheduler), 6)
    assert (found == ours(sampler, unet, scheduler, 6, 5)).all()


def test_ddim_pipeline(unet):
    pipe = DDIMPipeline(unet, LIKE)  # which makes its own DDIMScheduler of what it is given
    pipe.scheduler = as_diffusers(DDIM(eta=1.0), like=LIKE)
    found = pictures(pipe, 6, eta=1.0)
    assert (found == ours(DDIM(eta=1.0), unet, pipe.scheduler, 6, 5)).all()
    with pytest.raises(ValueError, match=r"eta is 0\.5"):
        pictures(pipe, 6, eta=0.5)
    with pytest.raises(ValueError, match="Clipped"):
        pictures(pipe, 6, use_clipped_model_output=True)


def test_what_from_diffusers_gives_draws_their_pictures(unet):
    """DDPMPipeline as its scheduler is, clipping and leading grid included."""
    found = pictures(DDPMPipeline(unet, as_diffusers(*from_diffusers(LIKE))), 10)
    want = pictures(DDPMPipeline(unet, LIKE), 10)
    assert abs(found - want).max() < 1e-5
    theirs = DDIMScheduler.from_config(LIKE.config, timestep_spacing="trailing")
    pipe = DDIMPipeline(unet, theirs)
    want = pictures(pipe, 10)
    pipe.scheduler = as_diffusers(*from_diffusers(theirs))
    assert abs(pictures(pipe, 10) - want).max() < 1e-5


@torch.no_grad()
def test_dit_pipeline():
    """A transformer with a learned variance; the pipeline splits it off, guides, and hands on halves of its batch."""
    torch.manual_seed(0)
    net = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=1, sample_size=8, norm_num_groups=4,
        num_embeds_ada_norm=1000,
    ).eval()  # fmt: skip
    torch.nn.init.normal_(net.proj_out_2.weight)
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
        "block_out_channels": (8,),
    }
    vae = AutoencoderKL(latent_channels=4, norm_num_groups=4, **blocks).eval()
    like = DDIMScheduler(clip_sample=False)
    for sampler in (DPMSolverPP(), Heun()):
        scheduler = as_diffusers(sampler, like=like)
        pipe = DiTPipeline(net, vae, like)
        pipe.scheduler = scheduler
        pipe.set_progress_bar_config(disable=True)
        found = pipe(
            [3], guidance_scale=4.0, num_inference_steps=5, generator=torch.Generator().manual_seed(1), output_type="np"
        ).images
        x = randn_tensor((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))

        def denoise(x, level, row=scheduler.row):
            t = torch.full((2,), round(level.t * 1000 - 1))
            cond, ref = net(torch.cat([x, x]), t, class_labels=torch.tensor([3, 1000])).sample[:, :4].chunk(2)
            return Prediction(x, level, ref + 4.0 * (cond - ref), row)

        *_, last = trajectory(sampler, denoise, Trailing()(scheduler.schedule, 5), x)
        image = (
            (vae.decode(last.x / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        )
        assert found.std() > 0.01
        assert abs(found - image).max() < 1e-5


def test_a_saved_pipeline_loads_with_our_import_only(unet, tmp_path):
    DDPMPipeline(unet, as_diffusers(DPMSolverPP(), like=LIKE)).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["scheduler"] == ["sfumato.samplers.diffusers_scheduler", "SfumatoScheduler"]
    again = pictures(DDPMPipeline.from_pretrained(tmp_path), 4)
    assert (again == pictures(DDPMPipeline(unet, as_diffusers(DPMSolverPP(), like=LIKE)), 4)).all()
    code = f"""
from diffusers import DDPMPipeline
try:
    DDPMPipeline.from_pretrained({str(tmp_path)!r})
except ValueError as error:
    print(error)
from sfumato.samplers import SfumatoScheduler
print(DDPMPipeline.from_pretrained({str(tmp_path)!r}).scheduler.sampler)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    alone, loaded = done.stdout.splitlines()
    assert "import sfumato.samplers.diffusers_scheduler before calling `from_pretrained`" in alone
    assert loaded == str(DPMSolverPP())
    # what is given is not looked for
    given = DDPMPipeline.from_pretrained(tmp_path, scheduler=LIKE)
    assert isinstance(given.scheduler, DDPMScheduler)
    assert isinstance(DiffusionPipeline.from_pretrained(tmp_path).scheduler.sampler, DPMSolverPP)


def test_stable_diffusion():
    """In a process of its own, since its pipelines import transformers, whose names are made up where it is missing."""
    path = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(FOLDER / "stable_diffusion.py"), "text", "image", "inpaint", "modular", "flow"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-2000:]
    found = json.loads(lines[0].removeprefix("FOUND "))
    assert len(found) == 42
    assert [name for name, held in found.items() if not held] == []


def test_half_precision_is_walked_in_float32(unet):
    """A pipeline in bfloat16 keeps 24 bits in what it walks: nearer to float32's picture than rounding every step."""
    scheduler = as_diffusers(DPMSolverPP(), like=LIKE)
    x = randn_tensor((2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    network = torch.tanh

    def walk(dtype):
        scheduler.set_timesteps(40)
        at = x.to(torch.bfloat16).to(dtype)
        for t in scheduler.timesteps:
            at = scheduler.step(network(at.float()).to(dtype), t, at).prev_sample
            assert at.dtype == dtype
        return at.float()

    with torch.no_grad():
        exact, kept = walk(torch.float32), walk(torch.bfloat16)
    levels = Trailing()(scheduler.schedule, 40)
    state = x.to(torch.bfloat16)
    with torch.no_grad():
        *_, plain = trajectory(
            DPMSolverPP(), lambda x, level: Prediction(x, level, network(x), scheduler.row), levels, state
        )
    assert (kept - exact).abs().max() < 0.5 * (plain.x.float() - exact).abs().max()
