"""`sfumato export`: a run for those who do not have Sfumato."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from ..diffusion.export import Exported, to_diffusers, to_program
from ..diffusion.export.card import loading_lines
from ..diffusion.export.parity import Parity
from ..schedules.parts import in_short
from .command import help_text, parse
from .spelling import UsageError

__all__ = ["Export", "run"]


@dataclass(frozen=True)
class Export:
    """Write a run as a folder that diffusers loads without Sfumato, or as one program of torch.export or ONNX.

    What is written is loaded again and compared with the run, and the differences are printed; a network that is not
    the same is not written, and what of the sampling is only near is said.

    Args:
        run: the run folder.
        to: diffusers, a pipeline's folder (UNet and ADM become a UNet2DModel, DiT a DiTTransformer2DModel); torch, a .pt2 of torch.export,
            or onnx: x, log-SNR and labels to x0 and eps, for batches of any size.
        out: the folder to make, or the file of torch and onnx; null: RUN/diffusers, RUN/denoiser.pt2, RUN/denoiser.onnx.
        ema: which average of the weights: true, the exponential one; a number: that of this length, see `sfumato ema`.
        variant: of diffusers: ema, the raw weights lie under the plain name and the average is loaded by variant="ema"; non_ema, the
            average lies under the plain name and the raw weights are loaded by variant="non_ema".
        step: the checkpoint of that optimizer step; null: the newest.
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato that the run needs.
        vae: of a run on latents, the folder of the VAE that made them, which is copied into the folder of diffusers: a DiT becomes a
            DiTPipeline, which makes pictures. null: network and scheduler are written by themselves.
    """

    run: str
    to: Literal["diffusers", "torch", "onnx"] = "diffusers"
    out: str | None = None
    ema: bool | float = True
    variant: Literal["ema", "non_ema"] = "ema"
    step: int | None = None
    threads: int | None = None
    allow: list[str] = field(default_factory=list)
    vae: str | None = None

    def __post_init__(self) -> None:
        if self.ema is False and self.to == "diffusers":
            raise ValueError(
                "ema is false; allowed: true, or a length: diffusers' folder holds the raw weights in any case"
            )
        if self.variant != "ema" and self.to != "diffusers":
            raise ValueError(
                f"variant is {self.variant}, and to is {self.to}; only a folder of diffusers holds two kinds of weights"
            )
        if self.vae is not None and self.to != "diffusers":
            raise ValueError(
                f"vae is {self.vae!r}, and to is {self.to}; only a folder of diffusers holds a VAE; leave vae out"
            )
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; allowed: >= 1, or null")


def _said(name: str, parity: Parity, done: Exported) -> list[str]:
    """What was measured of a variant, in lines."""
    label = f'variant="{name}"' if name else "plain weights"
    lines = [f"  {label}: network {parity.network:.1e} of its largest output, at {parity.levels} noise levels"]
    if parity.samples is not None:
        worst, rms = parity.samples
        what = f"{in_short(done.process.sampler)}, {in_short(done.process.grid)}, {parity.steps} steps"
        made = "latents" if done.latents else "pictures"
        lines.append(f"    {made} from the same noise, unguided, {what}: {worst:.1e} at most, {rms:.1e} RMS")
    else:
        lines.append(f"    {in_short(done.process.sampler)} draws noise of its own there: pictures were not compared")
    if parity.begun is not None:
        worst, rms = parity.begun
        lines.append(f"    with the noise that it begins with itself: {worst:.1e} at most, {rms:.1e} RMS")
    if parity.own is not None and not done.process.same:
        worst, rms = parity.own
        lines.append(f"    from the run's own sampler and grid: {worst:.1e} at most, {rms:.1e} RMS")
    if parity.pictures is not None and parity.guided is not None:
        worst, rms = parity.pictures
        lines.append(
            f"    pictures of {done.pipeline} from the same noise, unguided: {worst:.1e} at most, {rms:.1e} RMS"
        )
        worst, rms = parity.guided
        lines.append(f"    and at guidance_scale {parity.scale:g}: {worst:.1e} at most, {rms:.1e} RMS")
    return lines


def _report(done: Exported) -> str:
    """What is printed."""
    pipeline = done.pipeline or "no pipeline of diffusers runs it by itself; README.md there has the loop"
    lines = [
        f"{done.native.kind} with {done.process.kind} ({pipeline}): {done.folder}",
        "parity, of what was loaded back:",
    ]
    for name, parity in done.parity.items():
        lines += _said(name, parity, done)
    lines += [f"  note: {note}" for note in done.notes]
    averaged, raw = ("ema", "") if done.variant == "ema" else ("", "non_ema")
    lines += [
        "averaged weights:",
        f"  {loading_lines(done, averaged)[2]}",
        "raw weights:",
        f"  {loading_lines(done, raw)[2]}",
    ]
    return "\n".join(lines)


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(help_text("sfumato export RUN [--to diffusers|torch|onnx] [--out FOLDER]", Export, None, argv))
        return 0
    options, _ = parse(argv, Export, ("run",))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    folder = Path(options.run)
    if not (folder / "config.yaml").is_file():
        raise UsageError(
            [f"run: {folder} is not a run folder: it holds no config.yaml (a run is made by `sfumato train`)"]
        )
    name = {"diffusers": "diffusers", "torch": "denoiser.pt2", "onnx": "denoiser.onnx"}[options.to]
    out = folder / name if options.out is None else Path(options.out)
    if options.to == "diffusers":
        done = to_diffusers(
            folder, out, ema=options.ema, variant=options.variant, step=options.step, allow=options.allow,
            vae=options.vae,
        )  # fmt: skip
        print(_report(done))
        return 0
    program = to_program(folder, out, kind=options.to, ema=options.ema, step=options.step, allow=options.allow)
    batches = " and ".join(map(str, program.batches))
    print(
        f"{program.path}: x {list(program.shape)}, log_snr and {'labels, ' * program.labels}to x0 and eps\n"
        f"parity, of what was loaded back, at batches of {batches}: {program.apart:.1e} of the largest answer"
    )
    return 0
