"""A run as a folder that diffusers loads without Sfumato."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import Tensor

from ..backbones import DiT, UNet
from ..backbones.adm import ADM
from ..loading import load
from ..model import Model
from ..vae import Vae
from .adm import adm_native
from .card import card
from .dit import dit_native
from .dit_pipeline import CLASSES, compare_pictures, in_pipeline, vae_of_run
from .parity import Parity, compare
from .process import Process, process_of
from .resnets import Native
from .stage import check_free, staged
from .told import Told
from .unet import unet_native
from .whole import whole_process

__all__ = ["FAR", "Exported", "native_of", "to_diffusers"]

FAR = 1e-4
"""How far the written network may be from ours, relative to its largest output, in float32."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: where.
        native: the network, with the plain weights.
        process: the scheduler.
        pipeline: of diffusers that runs them; None: none does.
        parity: by variant ("": the plain weights), as measured on what was loaded back.
        variant: "ema" or "non_ema".
        notes: what is worth saying.
        latents: whether the network makes latents.
    """

    folder: Path
    native: Native
    process: Process
    pipeline: str | None
    parity: dict[str, Parity]
    variant: str
    notes: list[str]
    latents: bool = False


def to_diffusers(
    run: str | Path, folder: str | Path, *, ema: bool | float = True, variant: Literal["ema", "non_ema"] = "ema",
    step: int | None = None, allow: Sequence[str] = (), vae: str | Path | None = None,
) -> Exported:  # fmt: skip
    """Write a run as networks and schedulers of diffusers, load them again, and compare; the folder appears whole or not at all.

    Args:
        run: the run folder.
        folder: to make; it may be there if it is empty.
        ema: which average: true, the exponential one; a number: that of this length (see `load`).
        variant: "ema": the raw weights lie under the plain name and the average under variant="ema"; "non_ema": the average under the plain
            name and the raw ones under variant="non_ema".
        step: the checkpoint of that optimizer step; None: the newest.
        allow: packages whose classes the run's config may name, beside Sfumato's.
        vae: of a run on latents: the folder of the VAE that made them, which is copied; with a DiT it becomes a DiTPipeline. None: network
            and scheduler of such a run are written by themselves.

    Raises:
        ValueError: for a folder that is in use, a run that diffusers has no words for, and a network that is not equal to ours.
        OSError: for a disk that is full.
    """
    out = Path(folder)
    check_free(out)
    if ema is False:
        raise ValueError(
            "ema is false; allowed: true, or a length: the raw weights are written beside the average in any case"
        )
    if variant not in ("ema", "non_ema"):
        raise ValueError(f"variant is {variant!r}; allowed: 'ema', 'non_ema'")
    decoder, said = (None, []) if vae is None else vae_of_run(run, vae)
    averaged, raw = (load(run, ema=each, step=step, allow=allow, vae=decoder) for each in (ema, False))
    process, piped = process_of(averaged), False
    if decoder is not None and isinstance(averaged.denoiser.backbone, DiT):
        process, piped = in_pipeline(averaged, process, decoder), True
    process.notes += said
    native = native_of(averaged, process.told, process.variance, piped)
    weights = {True: native.weights, False: native_of(raw, process.told, process.variance, piped).weights}
    plain = variant == "non_ema"
    native.weights = weights[plain]
    if decoder is not None and not piped:
        native.notes.append(
            f"vae/ is the VAE of these latents; no pipeline of diffusers runs a {native.kind} with it. Pictures are "
            f"vae.decode(x / {_number(decoder.scaling)} + {_number(decoder.shift)}).sample of the latents x"
        )
    files = [] if decoder is None or decoder.folder is None else decoder.folder.glob("*.safetensors")
    needed = 2 * sum(value.nbytes for value in native.weights.values()) + sum(path.stat().st_size for path in files)
    with staged(out, needed) as stage:
        done = _fill(
            stage, out, averaged, raw, native, process, {"": weights[plain], variant: weights[not plain]}, variant
        )
    return done


def _number(value: Tensor) -> str:
    return f"{float(value):.9g}" if value.numel() == 1 else f"torch.tensor({value.tolist()}).view(-1, 1, 1)"


def native_of(model: Model, told: Told, variance: bool = False, piped: bool = False) -> Native:
    """The network of a model in the words of diffusers.

    Args:
        model: ours.
        told: how the number that it is told follows from a timestep.
        variance: whether a learned variance goes along.
        piped: whether a DiT is for DiTPipeline, which knows 1000 classes and takes a learned variance off by itself.

    Raises:
        ValueError: for a network that none of diffusers equals.
    """
    net: Any = model.denoiser.backbone
    given = net.config.get("out_channels") if isinstance(getattr(net, "config", None), dict) else None
    channels = int(model.shape[0])
    out = channels if given is None else int(given)
    keep = out if variance or (piped and out == 2 * channels) else min(out, channels)
    if isinstance(net, UNet):
        native = unet_native(net, told, keep)
    elif isinstance(net, ADM):
        native = adm_native(net, told, keep)
    elif isinstance(net, DiT):
        native = dit_native(net, told, keep, CLASSES if piped else None)
    else:
        raise ValueError(
            f"backbone is {type(net).__name__}; allowed: UNet, ADM (a UNet2DModel of diffusers), DiT (a DiTTransformer2DModel)"
        )
    height, width = model.shape[1:]
    if height != width:
        native.config["sample_size"] = [height, width]
    if keep < out:
        native.notes.append("the learned variance is left out, since this scheduler reads none")
    if getattr(net, "augment_features", 0):
        native.notes.append("what augmentations tell is left out: sampling tells none")
    return native


def _fill(
    stage: Path, out: Path, averaged: Model, raw: Model, native: Native, process: Process, variants: dict[str, Any], variant: str,
) -> Exported:  # fmt: skip
    """Write the stage, load it again and compare."""
    from .native import pipeline_of, read_network, read_pipeline, read_scheduler, write

    vae = averaged.vae.folder if isinstance(averaged.vae, Vae) else None
    pipeline = pipeline_of(native, process, averaged.latents, vae is not None)
    names = {label: str(label) for label in range(averaged.num_classes)} if pipeline == "DiTPipeline" else None
    write(stage, native, process, variants, pipeline, vae, names)
    scheduler = read_scheduler(stage / "scheduler", process.kind)
    parity: dict[str, Parity] = {}
    for name in variants:
        ours = averaged if (name == "") == (variant == "non_ema") else raw
        parity[name] = compare(ours, read_network(stage / native.folder, native.kind, name), scheduler, process)
        if parity[name].network > FAR:
            raise ValueError(
                f"the {native.kind} that was made differs from the run's network by {parity[name].network:.2g} of its largest output; "
                f"allowed: {FAR:g}; nothing was written. This is a mistake of Sfumato: please report it with the run's config"
            )
        if pipeline == "DiTPipeline":
            parity[name] = compare_pictures(ours, read_pipeline(stage, name), process, parity[name])
    notes = [*native.notes, *process.notes]
    done = Exported(out, native, process, pipeline, parity, variant, notes, averaged.latents)
    (stage / "sfumato.yaml").write_text(yaml.safe_dump(whole_process(averaged, done), sort_keys=False))
    (stage / "README.md").write_text(card(averaged, done))
    return done
