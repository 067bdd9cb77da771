"""Pipelines of diffusers as our models: their pictures are ours, and our samplers, rules and filters work on them."""

import inspect
from unittest import mock

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler

from sfumato.diffusion import load
from sfumato.diffusion.clocks import EntryClock, SigmaClock
from sfumato.diffusion.pipelines import load_pipeline
from sfumato.guidance import CFG, Interval, Plain
from sfumato.samplers import DDIM, GHVB, DPMSolverPP, Euler
from sfumato.samplers.filters import RenoiseProbe, TrajectoryVariance
from sfumato.samplers.network_time import network_time
from sfumato.schedules import PairingError, gaussian

FAMILIES = ("ddim", "dit", "sd", "sdxl", "sd3", "flux")
SEEDS, PROMPTS, LABELS = [1, 5], ["a cat", "dog"], [3, 7]
TRAILING = {"timestep_spacing": "trailing"}


class Rounded:
    """The nearest entry of a table."""

    def __call__(self, level):
        return float(round(EntryClock(1000)(level)))


@pytest.fixture(scope="module", params=FAMILIES)
def made(request):
    """(name, pipeline, model) of a family."""
    pipe = getattr(tiny, request.param)()
    pipe.set_progress_bar_config(disable=True)
    return request.param, pipe, load_pipeline(pipe, size=16)


def told(name):
    if name in ("ddim", "dit"):
        return {"labels": LABELS} if name == "dit" else {}
    return {"prompts": PROMPTS}


def beginning(model, steps, scheduler):
    """What a pipeline is given as its noise so that it begins where we do."""
    first = model.grid(model.denoiser.schedule, steps)[0]
    x = first.sigma * gaussian(torch.tensor(SEEDS), 0, -1, 0, model.shape)
    if isinstance(scheduler, EulerDiscreteScheduler):
        scheduler.set_timesteps(steps)
        x = x / first.alpha / scheduler.init_noise_sigma
    return x


def its_pictures(name, pipe, model, steps, **more):
    """The pictures of the pipeline itself, in [-1, 1]."""
    x = beginning(model, steps, pipe.scheduler)
    said = {"num_inference_steps": steps, "output_type": "np", **more}
    if name in ("ddim", "dit"):
        said |= {"class_labels": LABELS} if name == "dit" else {"batch_size": len(SEEDS)}
        with mock.patch(f"diffusers.pipelines.{name}.pipeline_{name}.randn_tensor", return_value=x):
            found = pipe(**said).images
    else:
        if name == "flux":
            said |= {"height": 16, "width": 16}
            x = pipe._pack_latents(x, *x.shape)
        found = pipe(prompt=PROMPTS, latents=x, **said).images
    return torch.from_numpy(np.asarray(found)).permute(0, 3, 1, 2) * 2 - 1


def far(a, b):
    return float((a - b).abs().max())


def report(name, pipe, steps, distance):
    """For `pytest -rP`: the table of parity."""
    print(f"{name:5} {type(pipe.scheduler).__name__:33} {steps:2} steps: largest difference {distance:.1e} of [-1, 1]")
    return distance


def test_its_pictures_are_the_pipelines(made):
    name, pipe, model = made
    out = model.sample(SEEDS, steps=5, **told(name))
    wanted = its_pictures(name, pipe, model, 5)
    assert out.images.shape == wanted.shape == (2, 3, 16, 16)
    assert float(wanted.std()) > 0.3
    assert report(name, pipe, 5, far(out.images, wanted)) < 1e-4
    if not isinstance(model.guidance, Plain):  # it is seen
        assert far(model.sample(SEEDS, steps=5, guidance=Plain(), **told(name)).images, wanted) > 0.1


@pytest.mark.parametrize(
    ("name", "scheduler", "sampler"),
    [
        ("sd", DDIMScheduler(**tiny.SD, clip_sample=False, set_alpha_to_one=False), DDIM),
        ("sd", EulerDiscreteScheduler(**tiny.SD), Euler),
        ("sd", DPMSolverMultistepScheduler(**tiny.SD, use_karras_sigmas=True, prediction_type="v_prediction"), DPMSolverPP),
        ("sd", DDIMScheduler(
            **tiny.SD, **TRAILING, clip_sample=False, rescale_betas_zero_snr=True, prediction_type="v_prediction",
        ), DDIM),
        ("sdxl", DPMSolverMultistepScheduler(**tiny.SD, **TRAILING), DPMSolverPP),
        ("dit", DPMSolverMultistepScheduler(**TRAILING), DPMSolverPP),
        # not Euler: DiTPipeline hands its step the input scaled for the network
        ("dit", DDIMScheduler(**TRAILING, clip_sample=False), DDIM),
    ],
)  # fmt: skip
def test_so_they_are_with_other_schedulers(name, scheduler, sampler):
    pipe = getattr(tiny, name)()
    pipe.scheduler = scheduler
    pipe.set_progress_bar_config(disable=True)
    # a Karras grid lies between entries, where DPM-Solver of diffusers tells the network a whole number
    clock = Rounded() if scheduler.config.get("use_karras_sigmas") else None
    model = load_pipeline(pipe, clock=clock)
    assert isinstance(model.sampler, sampler)
    out = model.sample(SEEDS, steps=5, **told(name))
    assert report(name, pipe, 5, far(out.images, its_pictures(name, pipe, model, 5))) < 1e-4


def test_negative_prompts_and_sizes_are_the_pipelines():
    for name, more in (("sd", {}), ("sdxl", {}), ("sd3", {"use_dynamic_shifting": True, "shift": 1.0}), ("flux", {})):
        pipe = getattr(tiny, name)(**more)
        pipe.set_progress_bar_config(disable=True)
        model = load_pipeline(pipe, size=(24, 16))
        scale = 4.0
        said = {"guidance_scale": scale} if name != "flux" else {"true_cfg_scale": scale}
        x = beginning(model, 4, pipe.scheduler)
        assert x.shape[1:] == (4, 12, 8)
        wanted = pipe(
            prompt=PROMPTS, negative_prompt=["dim", "red"], num_inference_steps=4, output_type="np", height=24, width=16, **said,
            latents=pipe._pack_latents(x, *x.shape) if name == "flux" else x,
        ).images  # fmt: skip
        out = model.sample(
            SEEDS, prompts=PROMPTS, also={"negative": ["dim", "red"]}, guidance=CFG(scale, against="negative"), steps=4
        )
        assert far(out.images, torch.from_numpy(wanted).permute(0, 3, 1, 2) * 2 - 1) < 1e-4


@pytest.mark.parametrize("zeros", [True, False])
def test_the_empty_text_of_sdxl_is_what_its_pipeline_says(zeros, tmp_path):
    pipe = tiny.sdxl()
    pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
    pipe.set_progress_bar_config(disable=True)
    model = load_pipeline(pipe, size=16)
    wanted = its_pictures("sdxl", pipe, model, 4)
    assert far(model.sample(SEEDS, steps=4, prompts=PROMPTS).images, wanted) < 1e-4
    pipe.save_pretrained(tmp_path / "pipe")
    assert far(load(tmp_path / "pipe", size=16).sample(SEEDS, steps=4, prompts=PROMPTS).images, wanted) < 1e-4


def test_our_methods_run_and_every_evaluation_is_counted(made):
    name, _, model = made
    steps, k = 8, 2
    levels = model.grid(model.denoiser.schedule, steps)
    ratios = sorted(float(level.ratio) for level in levels[:-1])
    low, high = ratios[2], ratios[5]  # three of eight lie in (low, high]
    rule = Plain() if name == "ddim" else Interval(CFG(3.0), low, high)
    watched = [TrajectoryVariance(last=4), RenoiseProbe(level=float(levels[4].log_snr), k=k)]
    out = model.sample(SEEDS, steps=steps, sampler=GHVB(2.8), guidance=rule, filters=watched, **told(name))
    guided = 0 if name == "ddim" else 3
    wanted = {"cond": steps + k, "ref": guided} if name != "ddim" else {"cond": steps + k}
    assert dict(zip(out.branches, out.evaluations[0].tolist(), strict=True)) == wanted
    assert all(bool((score > 0).all()) for score in out.scores)
    assert bool(out.kept.all())


def test_seeds_do_not_depend_on_the_batch(made):
    name, _, model = made
    said = told(name)
    key = next(iter(said), None)
    both = model.sample(SEEDS, steps=3, strict=True, batch=2, **said).images
    alone = model.sample(SEEDS[1:], steps=3, strict=True, batch=2, **({key: said[key][1:]} if key else {})).images
    assert torch.equal(both[1:], alone)


def test_a_folder_is_the_object(made, tmp_path):
    name, pipe, model = made
    pipe.save_pretrained(tmp_path / "pipe")
    found = load(tmp_path / "pipe", size=16)
    assert torch.equal(
        found.sample(SEEDS, steps=3, **told(name)).images, model.sample(SEEDS, steps=3, **told(name)).images
    )
    assert repr((found.sampler, found.grid, found.guidance, found.steps)) == repr(
        (model.sampler, model.grid, model.guidance, model.steps)
    )


def test_defaults_are_the_pipelines(made):
    name, pipe, model = made
    said = {key: p.default for key, p in inspect.signature(type(pipe).__call__).parameters.items()}
    assert model.steps == said["num_inference_steps"]
    if name == "flux":
        assert (model.guidance, model.denoiser.backbone.guidance) == (Plain(), said["guidance_scale"])
    else:
        assert model.guidance == (CFG(said["guidance_scale"]) if "guidance_scale" in said else Plain())


def test_clocks_say_what_diffusers_tells(made):
    name, pipe, model = made
    denoiser = model.denoiser
    assert isinstance(denoiser.clock, SigmaClock if name in ("sd3", "flux") else EntryClock)
    by_name = network_time(denoiser.schedule, denoiser.row)
    levels = model.grid(denoiser.schedule, 7)[:-1]
    assert [denoiser.clock(level) for level in levels] == [by_name(level) for level in levels]
    if name in ("ddim", "dit", "sd"):
        pipe.scheduler.set_timesteps(7)
        assert [denoiser.clock(level) for level in levels] == pipe.scheduler.timesteps.tolist()


def test_an_eps_network_from_zero_snr_is_refused():
    pipe = tiny.sd(DDIMScheduler(**tiny.SD, clip_sample=False, rescale_betas_zero_snr=True))
    with pytest.raises(PairingError, match="row Eps at zero SNR"):
        load_pipeline(pipe)


def test_a_scheduler_without_equivalent_gives_its_path():
    plain = load_pipeline(tiny.sd(PNDMScheduler(**tiny.SD, skip_prk_steps=True)))
    with pytest.warns(UserWarning, match="thresholding is True"):
        other = load_pipeline(tiny.sd(DDIMScheduler(**tiny.SD, clip_sample=False, thresholding=True)))
    assert isinstance(other.sampler, DPMSolverPP)
    assert other.denoiser.schedule == plain.denoiser.schedule
