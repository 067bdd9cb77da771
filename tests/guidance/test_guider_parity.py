"""Guiders equal to diffusers' own where they are the same, also in a modular pipeline of SDXL."""

import json
import os
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from guiding import EULER, SD, protocol, run, theirs

from sfumato.guidance import (
    CFG,
    Interval,
    Mix,
    Rescale,
    as_guider,
)
from sfumato.samplers import DPMSolverPP, Heun, as_diffusers
from sfumato.schedules import Eps, V

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FOLDER = Path(__file__).parent


@pytest.mark.parametrize("scale", [-1.0, 0.3, 0.5, 1.0, 1.7, 7.5, 12.0])
def test_cfg_and_rescale_are_diffusers_own_to_the_last_bit(scale):
    EULER.set_timesteps(5)
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        x, cond, ref = (torch.randn(3, 4, 8, 8, generator=g) for _ in range(3))
        for guider in (
            as_guider(CFG(scale)),
            as_guider(Mix({"cond": scale})),
            as_guider(CFG(scale, "negative"), EULER),
        ):
            if not isinstance(guider.rule, Mix):  # which sums in another order
                assert torch.equal(
                    protocol(guider, x, (cond, ref), EULER.timesteps), protocol(theirs(scale), x, (cond, ref))
                )
            else:
                assert torch.allclose(
                    protocol(guider, x, (cond, ref)), protocol(theirs(scale), x, (cond, ref)), atol=1e-5
                )
        if scale != 1.0:  # where theirs rescales what is not guided
            for phi in (0.3, 0.7, 1.0):
                guider = as_guider(Rescale(CFG(scale), phi, Eps()), EULER)
                found = protocol(guider, x, (cond, ref), EULER.timesteps)
                assert torch.equal(found, protocol(theirs(scale, phi), x, (cond, ref)))


@pytest.mark.parametrize(
    "scheduler",
    [
        EULER,
        diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False, **SD),
        diffusers.HeunDiscreteScheduler(**SD),
        as_diffusers(DPMSolverPP(), like=EULER),
        as_diffusers(Heun(), like=diffusers.DDIMScheduler(prediction_type="v_prediction")),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_run_is_diffusers_own_to_the_last_bit(unet, scheduler):
    row = V() if scheduler.config.prediction_type == "v_prediction" else Eps()
    want, ran = run(unet, scheduler, theirs(5.0))
    for guider in (as_guider(CFG(5.0)), as_guider(CFG(5.0), scheduler), as_guider(Interval(CFG(5.0)), scheduler)):
        found, own = run(unet, scheduler, guider)
        assert torch.equal(found, want)
        assert own == ran == [2] * len(scheduler.timesteps)
    want, _ = run(unet, scheduler, theirs(5.0, 0.7))
    assert torch.equal(run(unet, scheduler, as_guider(Rescale(CFG(5.0), 0.7, row), scheduler))[0], want)


def test_modular_sdxl():
    """In a process of its own, since its pipelines import transformers, whose names are made up where it is missing."""
    path = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(FOLDER / "modular_sdxl.py")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-2000:]
    found = json.loads(lines[0].removeprefix("FOUND "))
    assert len(found) == 17
    assert [name for name, held in found.items() if not held] == []
