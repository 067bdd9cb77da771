"""The README.md beside what was exported: how to load it and sample from it with diffusers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...guidance import CFG
from ...schedules.parts import in_short
from ..model import Model

if TYPE_CHECKING:
    from .folder import Exported

__all__ = ["card", "loading_lines", "sampling_lines"]


def loading_lines(done: Exported, variant: str | None = None) -> list[str]:
    """Python that loads a variant of what was written, leaving `network` and `scheduler`.

    Args:
        done: what was written.
        variant: None: that with the averaged weights.
    """
    name = ("ema" if done.variant == "ema" else "") if variant is None else variant
    said = f', variant="{name}"' if name else ""
    if done.pipeline is not None:
        return [
            "from diffusers import DiffusionPipeline",
            "",
            f'pipe = DiffusionPipeline.from_pretrained("{done.folder}"{said})',
        ]
    return [
        f"from diffusers import {done.native.kind}, {done.process.kind}",
        "",
        f'network = {done.native.kind}.from_pretrained("{done.folder}/{done.native.folder}"{said}).eval()',
        f'scheduler = {done.process.kind}.from_pretrained("{done.folder}/scheduler")',
    ]


def pipeline_lines(model: Model, done: Exported) -> list[str]:
    """Python that samples by the pipeline; without guidance, where it does not guide itself."""
    count = min(model.num_classes, 10) or 4
    labels = f"class_labels=list(range({count})), " if model.num_classes else ""
    if done.pipeline == "DiTPipeline":
        told = f"class_labels={f'list(range({count}))' if model.num_classes else [0] * count}"
        return [
            f"images = pipe({told}, guidance_scale={_scale(model):g}, num_inference_steps={model.steps}, "
            "generator=torch.manual_seed(0)).images"
        ]
    return [
        f"images = pipe(batch_size={count}, {labels}num_inference_steps={model.steps}, generator=torch.manual_seed(0)).images"
    ]


def sampling_lines(model: Model, done: Exported) -> list[str]:
    """Python of the loop itself, which guides where the model knows a null class, leaving a function `sample`."""
    classes, guided = model.num_classes, bool(model.num_classes and model.null_class)
    scale = f", scale={_scale(model):g}" if guided else ""
    takes = f"x, labels, steps={model.steps}{scale}" if classes else f"x, steps={model.steps}"
    lines = ["@torch.no_grad()", f"def sample({takes}):"]
    if done.process.scaled:
        lines.append("    # x: unit noise (B, C, H, W); the scheduler multiplies it")
    lines.append("    scheduler.set_timesteps(steps)")
    if done.process.scaled:
        lines.append("    x = x * scheduler.init_noise_sigma")
    transformer = done.native.kind != "UNet2DModel"
    if not classes and transformer:
        lines.append("    none = torch.zeros(len(x), dtype=torch.long)")
    if guided:
        lines.append(f"    null = torch.full_like(labels, {_null(done, classes)})")
    lines.append("    for t in scheduler.timesteps:")
    given = "x"
    if done.process.scaled:
        lines.append("        scaled = scheduler.scale_model_input(x, t)")
        given = "scaled"
    each = {True: "labels", False: "none" if transformer else ""}[bool(classes)]
    if guided:
        told = "t.expand(2 * len(x))" if transformer else "t"
        lines.append(
            f"        both = network(torch.cat([{given}, {given}]), {told}, class_labels=torch.cat([labels, null])).sample"
        )
        lines.append("        cond, ref = both.chunk(2)")
        lines.append("        out = ref + scale * (cond - ref)")
    else:
        told = "t.expand(len(x))" if transformer else "t"
        lines.append(f"        out = network({given}, {told}{f', class_labels={each}' * bool(each)}).sample")
    lines.append("        x = scheduler.step(out, t, x).prev_sample")
    lines.append("    return x" if model.latents else "    return x.clamp(-1, 1)")
    return lines


def _null(done: Exported, classes: int) -> int:
    return int(done.native.config.get("num_embeds_ada_norm") or classes)


def _scale(model: Model) -> float:
    return (
        float(model.guidance.scale)
        if isinstance(model.guidance, CFG) and isinstance(model.guidance.scale, float | int)
        else 1.0
    )


def card(model: Model, done: Exported) -> str:
    """The text.

    Args:
        model: ours.
        done: what was written.
    """
    channels, *size = model.shape
    shape = ", ".join(map(str, (channels, *size)))
    call = (
        f"sample(torch.randn(10, {shape}), torch.arange(10) % {model.num_classes})"
        if model.num_classes
        else f"sample(torch.randn(4, {shape}))"
    )
    if model.latents:
        what = "pictures, of latents" if done.pipeline else "latents"
    else:
        what = "pictures in [-1, 1]"
    ours = [] if done.pipeline is None else [f"network, scheduler = pipe.{done.native.folder}, pipe.scheduler"]
    average = 'variant="ema" is the averaged weights, the plain files are the raw ones'
    if done.variant == "non_ema":
        average = 'the plain files are the averaged weights, variant="non_ema" the raw ones'
    parts = [
        "---", "library_name: diffusers", "---", "",
        f"# {model.source.get('run', 'A model')}", "",
        f"A {done.native.kind} with a {done.process.kind}, exported from Sfumato.",
        f"Samples are {what}, ({shape}). Of the weights, {average}.", "",
        "```python", "import torch", *loading_lines(done), *(pipeline_lines(model, done) if done.pipeline else []), "```", "",
    ]  # fmt: skip
    if done.pipeline is None:
        parts += ["No pipeline of diffusers runs this network by itself. The loop:", ""]
    elif done.pipeline == "DiTPipeline":
        parts += [
            f"The pipeline guides itself (the run's own is {model.guidance}). As a loop, which leaves latents:",
            "",
        ]
    elif model.num_classes and model.null_class:
        parts += [f"The pipeline samples without guidance. With it (the run's own is {model.guidance}):", ""]
    else:
        parts += ["The same as a loop:", ""]
    parts += [
        "```python",
        *ours,
        "",
        *sampling_lines(model, done),
        "",
        f"x = {call}",
        "```",
        "",
        "## How near it is",
        "",
    ]
    for name, p in done.parity.items():
        parts.append(f"* {name or 'plain'}: network {p.network:.1e} of its largest output, at {p.levels} noise levels" + (
            f"; {p.steps} steps from the same noise: {p.samples[0]:.1e} at most from {in_short(done.process.sampler)}" if p.samples else ""
        ) + (
            f"; the pipeline's pictures: {p.pictures[0]:.1e} at most, and {p.guided[0]:.1e} at guidance_scale {p.scale:g}"
            if p.pictures and p.guided else ""
        ) + (f", {p.own[0]:.1e} from the run's own sampling" if p.own and not done.process.same else "") + ".")  # fmt: skip
    parts += [f"* {note[0].upper()}{note[1:]}." for note in done.notes]
    parts += ["", "`sfumato.yaml` holds the whole process: schedule, row, clock, sampler, grid, guidance.", ""]
    return "\n".join(parts)
