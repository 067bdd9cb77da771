"""Networks of diffusers: judged afterwards, calibrated, and Stable Diffusion's own pipelines."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, UNet2DModel
from oracles import Mixture
from piped import LIKE, Mean, Pipe

from sfumato.diffusion import fingerprint
from sfumato.diffusion.calibrate import calibrate
from sfumato.diffusion.data import Batch
from sfumato.diffusion.denoiser import Denoiser
from sfumato.diffusion.model import Model
from sfumato.diffusion.probe_level import candidates, find_level
from sfumato.guidance import Plain
from sfumato.samplers import (
    DDIM,
    DPMSolverPP,
    Heun,
    as_diffusers,
    network_denoise,
)
from sfumato.samplers.filters import (
    Calibrated,
    Calibration,
    FilterCallback,
    Judged,
    RenoiseProbe,
    TrajectoryVariance,
    conformal_bounds,
    judge_pictures,
)
from sfumato.samplers.network_time import network_time
from sfumato.schedules import Eps, LinearBeta

FOLDER = Path(__file__).parents[1]
BLOCKS = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, norm_num_groups=4, layers_per_block=1, **BLOCKS
    ).eval()


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
