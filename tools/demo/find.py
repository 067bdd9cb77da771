"""Which models are offered: those that the command names, or the runs of a folder."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ...diffusion import Model, load
from ...diffusion.backbones.attention import Backend
from ...diffusion.loading import check_options, kind_of
from ...diffusion.plan import is_picture
from ...diffusion.vae import Precision
from .glance import glance, refuse_run
from .shelf import Entry

__all__ = ["entry_of", "find_models", "unplaced"]


def entry_of(
    path: str | Path, *, ema: bool | float = True, device: str = "cpu", allow: Sequence[str] = (), vae: str | None = None,
    text: str | None = None, scheduler: str | None = None, size: int | None = None, precision: Precision = "fp32",
    attention: Backend = "auto", compile: Literal["blocks", "whole"] | None = None,
) -> Entry:  # fmt: skip
    """A model that can be chosen; it is loaded when somebody asks for it, but what is none is refused at once.

    Args:
        path: a run folder, a folder of diffusers (a pipeline's or a network's), or a .safetensors file of DiT, ADM or EDM in its authors'
            own form.
        ema, device, allow, vae, text, scheduler, size, precision, attention, compile: as of `load`.

    Raises:
        ValueError: for what is no model, a run without a valid checkpoint, samples that are no pictures, and an option that says nothing
            about such a model; in words.
    """
    place = Path(path)
    kind = kind_of(place)
    check_options(kind, {"scheduler": scheduler, "size": size, "precision": None if precision == "fp32" else precision})
    if vae is not None and not Path(vae).is_dir():
        raise ValueError(f"vae is {vae!r}, which is no folder; give that of a VAE of diffusers")
    if kind == "run":
        refuse_run(place, allow, vae is not None)
    elif kind == "file":
        from ...diffusion.published import check_published

        check_published(place)
    elif not (place / "sfumato.yaml").is_file():  # ours, exported, may have no config of diffusers beside it
        from ...diffusion.pipelines import check_folder

        check_folder(place)

    def make() -> Model:
        model = load(
            place, ema=ema, device=device, allow=allow, vae=vae, text=text, scheduler=scheduler, size=size, precision=precision,
            attention=attention, compile=compile,
        )  # fmt: skip
        if not is_picture(model.picture_shape) or (model.latents and model.vae is None):
            raise ValueError(
                f"its samples are of shape {tuple(model.shape)}, which are no pictures; of latents give the folder of their VAE by --vae"
            )
        return model

    options = {
        "ema": ema, "device": device, "vae": vae, "text": text, "scheduler": scheduler, "size": size, "precision": precision,
        "attention": attention, "compile": compile,
    }  # fmt: skip
    return Entry(
        place.resolve().stem if kind == "file" else place.resolve().name or str(place), make,
        (lambda: glance(place)) if kind == "run" else lambda: None, place, kind == "run", _command(path, options, allow),
    )  # fmt: skip


_USUAL = {"ema": True, "device": "cpu", "precision": "fp32", "attention": "auto"}


def unplaced(entry: Entry) -> Entry:
    """A model whose commands on the page name it, and not where it lies: for a page that others see."""
    return replace(entry, command=shlex.quote(entry.name))


def _command(path: str | Path, options: dict[str, Any], allow: Sequence[str]) -> str:
    """The words by which a command names a model: its path, and those options that are not as they always are."""
    words = [str(path)]
    for name, value in options.items():
        if value != _USUAL.get(name):
            words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join([*words, *(word for package in allow for word in ("--allow", package))])


def find_models(
    root: str | Path = "runs", *, device: str = "cpu", allow: Sequence[str] = (), vae: str | None = None,
    text: str | None = None, attention: Backend = "auto",
) -> list[Entry]:  # fmt: skip
    """The runs of a folder that can be sampled, the one whose checkpoint is newest first; of each other one a warning says why.

    Args:
        root: folder of run folders; none there: there are no runs.
        device, allow, vae, text, attention: as of `load`; vae and text for those runs that need them.
    """
    found: list[tuple[int, str, Entry]] = []
    for config in sorted(Path(root).glob("*/config.yaml")):
        run = config.parent
        try:
            entry = _entry(run, device, allow, vae, text, attention)
            seen = glance(run)
        except (ValueError, OSError) as error:
            warnings.warn(f"not offered: {error}", stacklevel=2)
            continue
        if seen is not None:
            found.append((-seen.published, run.name, entry))
    return [entry for *_, entry in sorted(found, key=lambda each: each[:2])]


def _entry(
    run: Path, device: str, allow: Sequence[str], vae: str | None, text: str | None, attention: Backend
) -> Entry:
    """A run; what it has no use for is not given to it."""
    from ...diffusion.run_model import description_of

    said = description_of(run)
    knows = said.get("text") is not None
    try:
        refuse_run(run, allow, False)
    except ValueError:
        if vae is None:
            raise
        return entry_of(run, device=device, allow=allow, vae=vae, text=text if knows else None, attention=attention)
    return entry_of(run, device=device, allow=allow, text=text if knows else None, attention=attention)
