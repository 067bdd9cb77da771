"""The model of a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError

from ..schedules.parts import build
from .averaged import weights_of
from .checkpoint import at_step, newest
from .choice import chosen_memory_format
from .denoiser import Denoiser
from .latents import check_vae
from .memory_format import set_memory_format
from .model import Model
from .plan import is_picture
from .prompts import Decoder, TextEncoder
from .text_of_run import text_of
from .vae import Vae

__all__ = ["description_of", "load_run", "of_latents"]

_MODEL = ("backbone", "schedule", "row", "clock", "input_std", "sampler", "grid", "sampling_steps", "guidance")
# what the weights mean, which a resume can't change
_TRAINED = ("backbone", "schedule", "row", "clock", "input_std")


def load_run(
    run: str | Path,
    *,
    ema: bool | float = True,
    device: str = "cpu",
    allow: Sequence[str] = (),
    step: int | None = None,
    vae: Decoder | None = None,
    text: TextEncoder | str | Path | None = None,
) -> Model:
    """The model of a run folder, ready to sample.

    Args:
        run: the folder that `sfumato train` wrote.
        ema: the exponential average of the weights, or the raw ones; a number: the average of that length (sigma_rel, above 0 to 0.3), as
            the checkpoint stored it or `sfumato ema` made it, or else made now of what the run stored.
        device: where to put it.
        allow: packages whose classes the run's config may name, beside Sfumato's.
        step: the checkpoint of that optimizer step, of those that the run kept; an average of a length may be of any step for which
            one can be made. None: the newest valid one.
        vae: what makes pictures of latents; None: samples of a run on latents are latents.
        text: the encoder of prompts, or the folder where the run's own one is now; None: as the recipe says.

    Raises:
        ValueError: for a folder that is not a run, holds no valid checkpoint or not that of `step`, or names classes that are not
            allowed, or for a length that can't be made of what it stored.
    """
    folder, description = Path(run), description_of(run)
    config = folder / "config.yaml"
    try:
        checkpoint = (
            newest(folder / "checkpoints")
            if step is None or _is_other(folder, ema, step)
            else at_step(folder / "checkpoints", step)
        )
    except RecursionError as error:
        raise ValueError(f"a checkpoint of {run} can't be read: {error}") from error
    if checkpoint is None:
        raise ValueError(f"{run} holds no valid checkpoint; train it first: sfumato train ... --out {run}")
    state = checkpoint.state if isinstance(checkpoint.state, Mapping) else {}
    trained = state.get("recipe")
    trained = trained if isinstance(trained, Mapping) else {}
    changed = [line for key in _TRAINED if key in trained for line in _changed(trained[key], description[key], key)]
    if changed:
        raise ValueError(
            f"{config} is not what the checkpoint {checkpoint.folder} was trained as: {'; '.join(changed)}. Put it back"
        )
    parts = build({key: description[key] for key in _MODEL}, allow)
    text = text_of(description.get("text"), text, allow)
    if isinstance(vae, Vae) and isinstance(state.get("latents"), Mapping):
        check_vae(vae, state["latents"])
    denoiser = Denoiser(parts["backbone"], parts["schedule"], parts["row"], parts["clock"], parts["input_std"])
    try:
        # hashes find damage; who writes the files may write the hashes too
        if isinstance(ema, bool):
            weights = checkpoint.tensors("ema" if ema else "model")
        else:
            weights, _ = weights_of(folder, float(ema), checkpoint, step)
        denoiser.backbone.load_state_dict(weights)
        state = checkpoint.state
        if chosen_memory_format(state) == "channels_last":
            set_memory_format(denoiser.backbone, "channels_last")
        shape, classes, dropout = (
            tuple(map(int, state["shape"])),
            int(state["num_classes"]),
            float(state["recipe"]["label_dropout"]),
        )
    except (SafetensorError, OSError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the checkpoint {checkpoint.folder} can't be read: {type(error).__name__}: {error}"
        ) from error
    except RuntimeError as error:
        raise ValueError(f"the checkpoint {checkpoint.folder} is not of the network in {config}: {error}") from error
    try:
        denoiser.to(device)
    except (RuntimeError, AssertionError) as error:
        usable = "cpu, cuda" if torch.cuda.is_available() else "cpu (no CUDA device is usable here)"
        raise ValueError(f"device is {device!r}, which can't be used here; allowed: {usable}") from error
    source = {"run": folder.name, "checkpoint": checkpoint.step if step is None else step, "ema": ema}
    return Model(
        denoiser.eval(), shape, classes if text is None else 0,
        parts["sampler"], parts["grid"], parts["sampling_steps"], parts["guidance"],
        source, dropout > 0, text, of_latents(state, description.get("data")) or not is_picture(shape), vae,
    )  # fmt: skip


def description_of(run: str | Path) -> dict[str, Any]:
    """What a run's config says; nothing of it is made.

    Args:
        run: its folder.

    Raises:
        ValueError: for a folder that is not a run, or whose config lacks what a model needs.
    """
    config = Path(run) / "config.yaml"
    if not config.is_file():
        raise ValueError(f"{run} is not a run folder: it holds no config.yaml (a run is made by `sfumato train`)")
    try:
        description = yaml.safe_load(config.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{config} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(description, dict):
        raise ValueError(
            f"{config} is not the config of a run: it {'is empty' if description is None else 'holds no keys'}"
        )
    missing = [key for key in _MODEL if key not in description]
    if missing:
        raise ValueError(f"{config} lacks {', '.join(missing)}; it is not the config of a run")
    return description


def of_latents(state: Mapping[str, Any], data: Any) -> bool:
    """Whether a run was trained on latents; one from before checkpoints said so names them in its config.

    Args:
        state: of a checkpoint.
        data: what the config says of the data.
    """
    if not isinstance(data, Mapping):
        return state.get("latents") is not None
    inner = data.get("init_args")
    within = isinstance(inner, Mapping) and any(of_latents({}, v) for v in inner.values())
    return state.get("latents") is not None or within or str(data.get("class_path")).endswith(".LatentArray")


def _is_other(folder: Path, ema: bool | float, step: int) -> bool:
    """Whether an average is asked for at a step whose checkpoint is gone, so that another one describes the network."""
    return not isinstance(ema, bool) and not (folder / "checkpoints" / f"step-{step:09d}").is_dir()


def _changed(trained: Any, now: Any, at: str) -> list[str]:
    """What two descriptions say differently, one line per value; what only one of them says, as another version's does, is no
    difference."""
    if isinstance(trained, Mapping) and isinstance(now, Mapping):
        shared = [key for key in trained if key in now]
        return [line for key in shared for line in _changed(trained[key], now[key], f"{at}.{key}")]
    return [] if trained == now else [f"{at.replace('.init_args', '')} was {trained}, is {now}"]
