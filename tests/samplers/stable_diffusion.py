"""Stable Diffusion's pipelines on tiny networks, with our schedulers; run by test_pipelines.py in a process of its own.

The pipelines import transformers. Where it is missing its names are made up: the text encoder is left out anyway.
"""

import json
import sys
import warnings

import pretend_transformers  # noqa: F401
import torch

warnings.simplefilter("ignore")


from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel  # noqa: E402
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline  # noqa: E402
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import (  # noqa: E402
    StableDiffusionImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import (  # noqa: E402
    StableDiffusionInpaintPipeline,
)
from diffusers.utils.torch_utils import randn_tensor  # noqa: E402

from sfumato.samplers import (  # noqa: E402
    DDIM,
    PLMS,
    Churn,
    DPMSolverPP,
    Heun,
    UniPC,
    as_diffusers,
    on_path,
    trajectory,
)
from sfumato.schedules import Eps, Leading, Prediction, Trailing  # noqa: E402

torch.manual_seed(0)
torch.set_num_threads(1)
LIKE = PNDMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
)
UNET = UNet2DConditionModel(
    sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=2, norm_num_groups=4,
).eval()  # fmt: skip
VAE = AutoencoderKL(
    block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    latent_channels=4, norm_num_groups=4, sample_size=16,
).eval()  # fmt: skip
PARTS = {
    "vae": VAE, "text_encoder": None, "tokenizer": None, "unet": UNET, "scheduler": LIKE, "safety_checker": None,
    "feature_extractor": None, "requires_safety_checker": False,
}  # fmt: skip
TEXT, EMPTY = torch.randn(1, 5, 8), torch.randn(1, 5, 8)
SCALE = 3.0
ASK = {
    "prompt_embeds": TEXT, "negative_prompt_embeds": EMPTY, "guidance_scale": SCALE, "height": 16, "width": 16,
    "output_type": "latent",
}  # fmt: skip
FOUND = {}


def pipeline(kind, scheduler):
    pipe = kind(**PARTS)
    pipe.scheduler = scheduler
    pipe.set_progress_bar_config(disable=True)
    return pipe


def denoise(x, level):
    t = level.t * 1000 - 1
    t = torch.tensor(round(t)) if abs(t - round(t)) < 1e-6 else torch.tensor(t, dtype=torch.float32)
    out = UNET(torch.cat([x] * 2), t, encoder_hidden_states=torch.cat([EMPTY, TEXT])).sample
    ref, cond = out.chunk(2)
    return Prediction(x, level, ref + SCALE * (cond - ref), Eps())


def ours(sampler, levels, x, g=None):
    def noise(step, draw):
        return randn_tensor(tuple(x.shape), generator=g)

    *_, last = trajectory(on_path(sampler, SCHEDULE), denoise, levels, x, noise)
    return last.x


SCHEDULE = as_diffusers(DDIM(), like=LIKE).schedule


def text_to_image():
    for sampler in (DDIM(), DDIM(eta=1.0), DPMSolverPP(), Heun(), UniPC(), PLMS(warm_up="rk4")):
        pipe = pipeline(StableDiffusionPipeline, as_diffusers(sampler, like=LIKE))
        seen = []

        def callback(pipe, i, t, kwargs, seen=seen):
            seen.append(float(t))
            return kwargs

        g = torch.Generator().manual_seed(1)
        found = pipe(num_inference_steps=4, generator=g, callback_on_step_end=callback, **ASK).images
        g = torch.Generator().manual_seed(1)
        levels = Trailing()(SCHEDULE, 4)
        x = randn_tensor((1, 4, 8, 8), generator=g) * levels[0].sigma
        FOUND[f"text to image, {type(sampler).__name__} {getattr(sampler, 'eta', '')}"] = torch.equal(
            found, ours(sampler, levels, x, g)
        ) and seen == [float(t) for t in pipe.scheduler.timesteps]
    # a list of generators: sample by sample the pictures of each alone
    pipe = pipeline(StableDiffusionPipeline, as_diffusers(DDIM(eta=1.0), like=LIKE))
    both = pipe(
        num_inference_steps=4, num_images_per_prompt=2, generator=[torch.Generator().manual_seed(i) for i in (1, 2)], **ASK
    ).images  # fmt: skip
    alone = [pipe(num_inference_steps=4, generator=torch.Generator().manual_seed(i), **ASK).images for i in (1, 2)]
    FOUND["list of generators"] = torch.allclose(both, torch.cat(alone), atol=2e-5)
    # what a callback does to the latents is what the next step begins with
    pipe = pipeline(StableDiffusionPipeline, as_diffusers(DPMSolverPP(), like=LIKE))

    def half(pipe, i, t, kwargs):
        return {"latents": kwargs["latents"] * 0.5} if i == 1 else {}

    found = pipe(
        num_inference_steps=4, generator=torch.Generator().manual_seed(1), callback_on_step_end=half, **ASK
    ).images
    levels, table = Trailing()(SCHEDULE, 4), pipe.scheduler
    x = randn_tensor((1, 4, 8, 8), generator=torch.Generator().manual_seed(1)) * levels[0].sigma
    from sfumato.samplers import State

    state = State(x)
    for i in range(4):
        state, _ = DPMSolverPP().step(state, denoise, levels[: i + 2], ())
        state = state._replace(x=state.x * 0.5) if i == 1 else state
    FOUND["callback that changes latents"] = torch.allclose(found, state.x, atol=1e-5)
    assert table.step_index == 4


def image_to_image():
    image = torch.rand(1, 3, 16, 16)
    for sampler in (DDIM(), DPMSolverPP(), UniPC(), Heun(), Churn(gamma=0.2)):
        for grid in (Trailing(), Leading(1)):
            pipe = pipeline(StableDiffusionImg2ImgPipeline, as_diffusers(sampler, like=LIKE, grid=grid))
            g = torch.Generator().manual_seed(1)
            ask = {k: v for k, v in ASK.items() if k not in ("height", "width")}
            found = pipe(image=image, strength=0.6, num_inference_steps=5, generator=g, **ask).images
            g = torch.Generator().manual_seed(1)
            z0 = VAE.encode(2 * image - 1).latent_dist.sample(g) * VAE.config.scaling_factor
            noise = randn_tensor(z0.shape, generator=g)
            levels = grid(SCHEDULE, 5)[2:]
            name = f"image to image, {type(sampler).__name__}, {type(grid).__name__}"
            if isinstance(sampler, Churn):  # the noise of its first step is in what it begins with
                hat = pipe.scheduler._walk.asked[4]
                x = (hat.alpha * z0 + hat.sigma * noise) * levels[0].alpha / hat.alpha
                drawn = [0]

                def churn(step, draw, drawn=drawn, g=g, shape=z0.shape):
                    drawn[0] += 1
                    return randn_tensor(shape, generator=g) * (drawn[0] > 1)

                *_, last = trajectory(on_path(sampler, SCHEDULE), denoise, levels, x, churn)
                FOUND[name] = torch.allclose(found, last.x, atol=1e-4) and hat.ratio > levels[0].ratio * 1.19
                continue
            x = levels[0].alpha * z0 + levels[0].sigma * noise
            FOUND[name] = torch.allclose(found, ours(sampler, levels, x, g), atol=1e-6)
    # theirs, on the same grid
    theirs = DDIMScheduler.from_config(
        LIKE.config, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
    )
    images = []
    for scheduler in (theirs, as_diffusers(DDIM(), like=LIKE)):
        pipe = pipeline(StableDiffusionImg2ImgPipeline, scheduler)
        g = torch.Generator().manual_seed(1)
        images.append(pipe(image=image, strength=0.6, num_inference_steps=5, generator=g, **ask).images)
    FOUND["image to image, as DDIMScheduler's"] = torch.allclose(*images, atol=1e-5)


def inpainting():
    image, mask = torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1.0
    for strength in (1.0, 0.6):
        g = torch.Generator().manual_seed(1)
        pictures = {}
        for sampler in (DDIM(), DPMSolverPP(), Heun(), UniPC()):
            pipe = pipeline(StableDiffusionInpaintPipeline, as_diffusers(sampler, like=LIKE))
            found = pipe(
                image=image, mask_image=mask, strength=strength, num_inference_steps=5,
                generator=torch.Generator().manual_seed(1), **ASK,
            ).images  # fmt: skip
            pictures[type(sampler).__name__] = found
        theirs = DDIMScheduler.from_config(
            LIKE.config, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True
        )
        pipe = pipeline(StableDiffusionInpaintPipeline, theirs)
        levels = Trailing()(SCHEDULE, 5)
        theirs.init_noise_sigma = levels[0].sigma
        want = pipe(
            image=image, mask_image=mask, strength=strength, num_inference_steps=5,
            generator=torch.Generator().manual_seed(1), **ASK,
        ).images  # fmt: skip
        FOUND[f"inpainting {strength}, as DDIMScheduler's"] = torch.allclose(pictures["DDIM"], want, atol=1e-5)
        # what is kept is the picture's own, whatever the sampler
        for name, found in pictures.items():
            FOUND[f"inpainting {strength}, {name} keeps"] = torch.equal(found[..., :4], pictures["DDIM"][..., :4])
            FOUND[f"inpainting {strength}, {name} paints"] = bool(torch.isfinite(found).all()) and (
                name == "DDIM" or not torch.equal(found[..., 4:], pictures["DDIM"][..., 4:])
            )
        assert g is not None


def modular():
    from diffusers import ClassifierFreeGuidance
    from diffusers.modular_pipelines.stable_diffusion_xl.denoise import StableDiffusionXLDenoiseStep

    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
    ).eval()  # fmt: skip
    pooled, ids = torch.randn(1, 8), torch.tensor([[16, 16, 0, 0, 16, 16]])
    for sampler in (DPMSolverPP(), Heun()):
        scheduler = as_diffusers(sampler, like=LIKE)
        pipe = StableDiffusionXLDenoiseStep().init_pipeline()
        pipe.update_components(unet=unet, scheduler=scheduler, guider=ClassifierFreeGuidance(guidance_scale=SCALE))
        pipe.set_progress_bar_config(disable=True)
        scheduler.set_timesteps(4)
        levels = Trailing()(SCHEDULE, 4)
        x = randn_tensor((1, 4, 8, 8), generator=torch.Generator().manual_seed(1)) * levels[0].sigma
        state = pipe(
            # their guider counts evaluations, and is off after the last of num_inference_steps
            latents=x, timesteps=scheduler.timesteps, num_inference_steps=len(scheduler.timesteps),
            denoiser_input_fields={
                "prompt_embeds": TEXT, "negative_prompt_embeds": EMPTY, "pooled_prompt_embeds": pooled,
                "negative_pooled_prompt_embeds": pooled, "add_time_ids": ids, "negative_add_time_ids": ids,
            },
        )  # fmt: skip

        def denoise_xl(x, level):
            t = torch.tensor(round(level.t * 1000 - 1))
            extra = {"text_embeds": pooled, "time_ids": ids}
            cond, ref = (unet(x, t, encoder_hidden_states=e, added_cond_kwargs=extra).sample for e in (TEXT, EMPTY))
            return Prediction(x, level, ref + SCALE * (cond - ref), Eps())

        *_, last = trajectory(sampler, denoise_xl, levels, x)
        FOUND[f"SDXL's modular denoise step, {type(sampler).__name__}"] = torch.allclose(
            state.get("latents"), last.x, atol=1e-5
        )


def flow():
    """Stable Diffusion 3: flow matching on a shifted path, told 1000 sigma."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline

    net = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        caption_projection_dim=16, joint_attention_dim=8, pooled_projection_dim=8, pos_embed_max_size=8,
    ).eval()  # fmt: skip
    like = FlowMatchEulerDiscreteScheduler(shift=3.0)
    names = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
    pooled = torch.randn(1, 8)
    for sampler in (DDIM(), DPMSolverPP(), Heun()):
        scheduler = as_diffusers(sampler, like=like)
        pipe = StableDiffusion3Pipeline(net, like, VAE, **dict.fromkeys(names))
        pipe.scheduler = scheduler
        pipe.set_progress_bar_config(disable=True)
        found = pipe(
            num_inference_steps=4, generator=torch.Generator().manual_seed(1), pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=pooled, **ASK,
        ).images  # fmt: skip
        x = randn_tensor((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))

        def denoise_sd3(x, level, row=scheduler.row):
            t = torch.tensor(1000 * level.sigma, dtype=torch.float32).expand(2)
            both = {"encoder_hidden_states": torch.cat([EMPTY, TEXT]), "pooled_projections": torch.cat([pooled] * 2)}
            ref, cond = net(hidden_states=torch.cat([x] * 2), timestep=t, **both).sample.chunk(2)
            return Prediction(x, level, ref + SCALE * (cond - ref), row)

        *_, last = trajectory(sampler, denoise_sd3, Trailing()(scheduler.schedule, 4), x)
        FOUND[f"Stable Diffusion 3, {type(sampler).__name__}"] = torch.equal(found, last.x)


def filters():
    """Filters through the callback of each pipeline, against our own loop with the same filters."""
    from sfumato.samplers import network_denoise
    from sfumato.samplers.filters import FilterCallback, PathLength, RenoiseProbe, TrajectoryVariance, judge_pictures

    judges = [TrajectoryVariance(low=-6.0), PathLength(low=-6.0)]
    probe = RenoiseProbe(level=1.0, k=2)
    sizes = []

    def network(x, t):
        sizes.append(len(x))
        return UNET(x, t, encoder_hidden_states=TEXT.expand(len(x), -1, -1)).sample

    plain = network_denoise(network, LIKE)

    def own(sampler, levels, x, g=None):
        memories = [j.init(x, levels) for j in judges]
        for step in trajectory(sampler, denoise, levels, x, lambda step, draw: randn_tensor(x.shape, generator=g)):
            memories = [j.update(m, step) for j, m in zip(judges, memories, strict=True)]
        return step.x, [j.verdict(m).score for j, m in zip(judges, memories, strict=True)]

    def all_of(name, watch, found, scores, atol=0.0):
        FOUND[f"filters, {name}: the trajectory's"] = all(
            torch.allclose(a, b, rtol=1e-4 if atol else 0.0, atol=atol) and bool((b > 0).all())
            for a, b in zip(watch.scores, scores, strict=False)
        )
        after = judge_pictures(RenoiseProbe(1.0, k=2, path=SCHEDULE), found, plain).verdicts[0].score
        # the probe stands third here, and at the first place there: its noise is that of its place
        only = FilterCallback([probe], plain)
        return only, after

    for sampler in (DDIM(eta=1.0), DPMSolverPP(), Heun(), UniPC()):
        pipe = pipeline(StableDiffusionPipeline, as_diffusers(sampler, like=LIKE))
        watch = FilterCallback([*judges, probe], plain)
        sizes.clear()
        g = torch.Generator().manual_seed(1)
        found = pipe(num_inference_steps=4, generator=g, callback_on_step_end=watch, **ASK).images
        asked = list(sizes)
        g = torch.Generator().manual_seed(1)
        levels = Trailing()(SCHEDULE, 4)
        x = randn_tensor((1, 4, 8, 8), generator=g) * levels[0].sigma
        end, scores = own(sampler, levels, x, g)
        name = type(sampler).__name__
        only, after = all_of(f"text to image, {name}", watch, found, scores)
        FOUND[f"filters, {name}: k evaluations, unguided"] = asked == [1, 1] and torch.equal(end, found)
        pipe(num_inference_steps=4, generator=torch.Generator().manual_seed(1), callback_on_step_end=only, **ASK)
        FOUND[f"filters, {name}: after the pipeline as through the callback"] = torch.equal(only.scores[0], after)
    # several pictures per prompt, with a generator each: in the pipeline's order, each as alone; the callback is used again
    pipe = pipeline(StableDiffusionPipeline, as_diffusers(DPMSolverPP(), like=LIKE))
    watch = FilterCallback([*judges, probe], plain)

    def several(seeds):
        g = [torch.Generator().manual_seed(s) for s in seeds]
        pipe(num_inference_steps=4, num_images_per_prompt=len(seeds), generator=g, callback_on_step_end=watch, **ASK)
        return watch.scores

    three = several([1, 2, 3])
    FOUND["filters, several pictures per prompt"] = all(len(v) == 3 for v in three) and all(
        torch.allclose(torch.cat(one), v, rtol=1e-3)
        for v, one in zip(three, zip(*(several([s]) for s in (1, 2, 3)), strict=True), strict=True)
    )
    pair = several([3, 1])
    FOUND["filters, in any order"] = all(
        torch.allclose(a, b[[2, 0]], rtol=1e-3) for a, b in zip(pair, three, strict=True)
    )

    # interrupted, as diffusers' users do it
    def stop(pipe, i, t, tensors):
        pipe._interrupt = i == 1
        return watch(pipe, i, t, tensors)

    pipe(num_inference_steps=4, generator=torch.Generator().manual_seed(1), callback_on_step_end=stop, **ASK)
    try:
        FOUND["filters, interrupted"] = bool(watch.keep.all()) and False
    except ValueError as error:
        FOUND["filters, interrupted"] = "stopped after step 2 of 4" in str(error)
    pipe.scheduler = LIKE
    try:
        pipe(num_inference_steps=4, callback_on_step_end=watch, **ASK)
    except ValueError as error:
        FOUND["filters, a scheduler that is none of ours"] = "pipe.scheduler is PNDMScheduler" in str(error)
    # image to image: from within the schedule
    ask = {k: v for k, v in ASK.items() if k not in ("height", "width")}
    image = torch.rand(1, 3, 16, 16)
    for sampler in (DPMSolverPP(), Heun()):
        pipe = pipeline(StableDiffusionImg2ImgPipeline, as_diffusers(sampler, like=LIKE))
        watch = FilterCallback([*judges, probe], plain)
        found = pipe(
            image=image, strength=0.6, num_inference_steps=5, generator=torch.Generator().manual_seed(1),
            callback_on_step_end=watch, **ask,
        ).images  # fmt: skip
        g = torch.Generator().manual_seed(1)
        z0 = VAE.encode(2 * image - 1).latent_dist.sample(g) * VAE.config.scaling_factor
        levels = Trailing()(SCHEDULE, 5)[2:]
        x = levels[0].alpha * z0 + levels[0].sigma * randn_tensor(z0.shape, generator=g)
        _, scores = own(sampler, levels, x)
        all_of(f"image to image, {type(sampler).__name__}", watch, found, scores, atol=1e-5)
    # inpainting: what the pipeline painted over is what is probed
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1.0
    pipe = pipeline(StableDiffusionInpaintPipeline, as_diffusers(DDIM(), like=LIKE))
    watch = FilterCallback([probe], plain)
    found = pipe(
        image=image, mask_image=mask, strength=1.0, num_inference_steps=5, generator=torch.Generator().manual_seed(1),
        callback_on_step_end=watch, **ASK,
    ).images  # fmt: skip
    after = judge_pictures(RenoiseProbe(1.0, k=2, path=SCHEDULE), found, plain).verdicts[0].score
    FOUND["filters, inpainting"] = torch.equal(after, watch.scores[0])
    # pictures after the decoder, in the data's own units, by a judge of pictures
    from sfumato.samplers.filters import Judged

    class Dark:
        def rate(self, x0):
            return -x0.flatten(1).mean(1)

    pictures = VAE.decode(found / VAE.config.scaling_factor).sample
    said = judge_pictures(Judged(Dark()), pictures).verdicts[0].score
    FOUND["filters, decoded pictures"] = torch.allclose(said, -pictures.flatten(1).mean(1))


with torch.no_grad():
    for part in sys.argv[1:]:
        {
            "text": text_to_image, "image": image_to_image, "inpaint": inpainting, "modular": modular, "flow": flow,
            "filters": filters,
        }[part]()  # fmt: skip
print("FOUND " + json.dumps(FOUND))
