"""SDXL's modular denoising on a tiny network, with our guiders; run by test_guider.py in a process of its own."""

import json
import re
import tempfile
import warnings
from pathlib import Path

import pretend_transformers  # noqa: F401
import torch

warnings.simplefilter("ignore")

from diffusers import (  # noqa: E402
    ClassifierFreeGuidance,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.modular_pipelines.stable_diffusion_xl.denoise import StableDiffusionXLDenoiseStep  # noqa: E402

from sfumato.guidance import APG, CFG, Adaptive, Branch, Field, Interval, Rescale, SfumatoGuider, as_guider  # noqa: E402
from sfumato.samplers import DPMSolverPP, Heun, as_diffusers, trajectory  # noqa: E402
from sfumato.schedules import Eps, Prediction, Trailing, V  # noqa: E402

torch.manual_seed(0)
torch.set_num_threads(1)
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
EULER = EulerDiscreteScheduler(**SD)
UNET = UNet2DConditionModel(
    sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, norm_num_groups=4,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=2, addition_embed_type="text_time", addition_time_embed_dim=4,
    projection_class_embeddings_input_dim=6 * 4 + 8,
).eval()  # fmt: skip
TEXT, EMPTY, POOLED = torch.randn(1, 5, 8), torch.randn(1, 5, 8), torch.randn(1, 8)
IDS = torch.tensor([[16, 16, 0, 0, 16, 16]])
CALLS = [0]
UNET.register_forward_pre_hook(lambda *_: CALLS.__setitem__(0, CALLS[0] + 1))
FOUND = {}


def pipeline(scheduler, guider):
    pipe = StableDiffusionXLDenoiseStep().init_pipeline()
    pipe.update_components(unet=UNET, scheduler=scheduler, guider=guider)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def begin(scheduler):
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma


def run(pipe, steps=6):
    """The latents, and calls of the network."""
    pipe.scheduler.set_timesteps(steps)
    CALLS[0] = 0
    state = pipe(
        latents=begin(pipe.scheduler), timesteps=pipe.scheduler.timesteps, num_inference_steps=len(pipe.scheduler.timesteps),
        denoiser_input_fields={
            "prompt_embeds": TEXT, "negative_prompt_embeds": EMPTY, "pooled_prompt_embeds": POOLED,
            "negative_pooled_prompt_embeds": POOLED, "add_time_ids": IDS, "negative_add_time_ids": IDS,
        },
    )  # fmt: skip
    return state.get("latents"), CALLS[0]


def network(row):
    def answer(x, level, text):
        t = torch.tensor(round(level.t * 1000 - 1))
        extra = {"text_embeds": POOLED.expand(len(x), -1), "time_ids": IDS.expand(len(x), -1)}
        return Prediction(x, level, UNET(x, t, encoder_hidden_states=text, added_cond_kwargs=extra).sample, row)

    return answer


def parity():
    schedulers = {
        "Euler": EULER,
        "Euler, v": EulerDiscreteScheduler(prediction_type="v_prediction", **SD),
        "DDIM, v": DDIMScheduler(prediction_type="v_prediction", clip_sample=False, **SD),
        "ours": as_diffusers(DPMSolverPP(), like=EULER),
    }
    for name, scheduler in schedulers.items():
        row = V() if name.endswith("v") else Eps()
        for rule, theirs in (
            (CFG(5.0), ClassifierFreeGuidance(guidance_scale=5.0)),
            (Rescale(CFG(5.0), 0.7, row), ClassifierFreeGuidance(guidance_scale=5.0, guidance_rescale=0.7)),
        ):
            guider = as_guider(rule, scheduler)
            pipe = pipeline(scheduler, guider)
            assert pipe.guider is guider
            want, calls = run(pipeline(scheduler, theirs))
            found, own = run(pipe)
            FOUND[f"{name}: {type(rule).__name__}"] = torch.equal(found, want) and own == calls == 12


def ours():
    """APG, and an Interval, on our own loop; a second call begins anew."""
    for rule in (APG(6.0, norm=5.0, momentum=-0.5), Interval(CFG(5.0), 0.5, 4.0), Adaptive(CFG(3.0), 0.5, least=2)):
        for sampler in (DPMSolverPP(), Heun()):
            scheduler = as_diffusers(sampler, like=EULER)
            pipe = pipeline(scheduler, as_guider(rule, scheduler))
            (found, calls), (again, _) = run(pipe), run(pipe)
            answer = network(scheduler.row)
            field = Field({"cond": Branch(answer, TEXT), "ref": Branch(answer, EMPTY)}, rule, 1)
            *_, last = trajectory(sampler, field, Trailing()(scheduler.schedule, 6), begin(scheduler))
            FOUND[f"{rule}, {type(sampler).__name__}"] = (
                bool((found - last.x).abs().max() < 1e-4 * last.x.abs().max())
                and torch.equal(found, again)
                and calls == int(field.spent.sum())
                and pipe.guider.num_conditions == 2
            )


class Pretended:
    """A pipeline that is asked as a whole one is, with embeddings in place of text and latents for pictures."""

    def __init__(self, pipe):
        self._pipe = pipe

    def __getattr__(self, name):
        return getattr(self._pipe, name)

    def __call__(self, prompt, num_inference_steps, output):
        assert (prompt, output) == ("a fox in the snow", "images")
        return [run(self._pipe, num_inference_steps)[0]]


def readme():
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "as_guider" in block)
    pipe = pipeline(EULER, ClassifierFreeGuidance())
    scope = {"pipe": Pretended(pipe)}
    exec(compile(code, "README.md", "exec"), scope)
    guided = [0.28 < float(sigma) <= 5.42 for sigma in EULER.sigmas[:-1]]
    FOUND["the README's lines"] = CALLS[0] == 30 + sum(guided) < 60
    again = SfumatoGuider.from_pretrained("guided", scheduler=pipe.scheduler)
    pipe.update_components(guider=again)
    FOUND["the README's guider, loaded"] = again.rule == scope["rule"] and torch.equal(run(pipe, 30)[0], scope["image"])
    # diffusers writes its modular pipelines without their guiders
    pipe.save_pretrained("whole")
    FOUND["no guider is saved with a pipeline"] = not [p for p in Path("whole").rglob("*") if "guider" in p.name]


with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
    import os

    os.chdir(folder)
    parity()
    ours()
    readme()
    os.chdir("/")
print("FOUND " + json.dumps(FOUND))
