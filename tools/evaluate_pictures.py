"""The pictures that `sfumato evaluate` makes with a model, and finds again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from ..diffusion import Model, load
from ..diffusion.generate import Generated, generate
from ..diffusion.launch import Processes
from ..diffusion.measuring import OfSource, Pictures
from ..diffusion.plan import is_picture
from ..diffusion.texts import texts_of
from ..schedules.noise import permutation
from ..schedules.parts import describe
from ..schedules.plain_json import to_json
from .compare.networks import model_hash
from .evaluate import Evaluate
from .evaluate_reference import place
from .sample import numbers, prompts_of
from .spelling import UsageError

__all__ = ["labels_like", "made", "opened"]

COUNT = 10_000


def labels_like(classes: Tensor | None, number: int, count: int) -> list[int]:
    """Classes as often as they are among real pictures, in a mixed order; in turn where that is not known.

    Args:
        classes: int64 (M,), of the real ones, -1 where not known; None: not known.
        number: of classes.
        count: of labels.
    """
    known = None if classes is None else classes[classes >= 0]
    if known is None or not len(known) or int(known.max()) >= number:
        return [i % number for i in range(count)]
    places = (2 * torch.arange(count) + 1) * len(known) // (2 * count)
    return known.sort().values[places][permutation(0, 0, count)].tolist()


def _told(
    options: Evaluate, model: Model, reference: object, count: int
) -> tuple[list[int | None] | None, list[str] | None]:
    """Labels, or prompts, one per picture."""
    if model.text is not None:
        if options.prompts is not None:
            return None, prompts_of(options.prompts, count)
        if isinstance(reference, OfSource):
            texts = texts_of(reference.source, torch.arange(count) % len(reference))
            if texts is not None:
                return None, [each[0] for each in texts]
        raise UsageError(["the model knows texts; give --prompts, a text or a file with a text per line"])
    if not model.num_classes or (options.labels or "").lower() in ("none", "null"):
        return None, None
    if options.labels is not None:
        given = numbers(options.labels, "labels")
        return [given[i % len(given)] for i in range(count)], None
    classes = reference.classes() if isinstance(reference, Pictures) else None
    return list(labels_like(classes, model.num_classes, count)), None


def made(
    options: Evaluate, model: Model, reference: object, processes: Processes | None
) -> list[tuple[Path, Generated]]:
    """Make the pictures, or find them; a folder per set.

    Raises:
        ValueError: for a model that makes no pictures.
    """
    if not is_picture(model.picture_shape) or (model.latents and model.vae is None):
        raise ValueError(
            f"the samples of {options.run} are of shape {tuple(model.shape)}, which are no pictures; of latents give their VAE by --vae"
        )
    count = options.count or COUNT
    labels, prompts = _told(options, model, reference, count)
    parts = {
        key: describe(getattr(options, key))
        for key in ("steps", "sampler", "grid", "guidance", "retries", "batch", "strict", "first_seed")
    }
    # which network it is, also where another one was trained in its place; pictures say it, so that those of another are refused
    model = replace(model, source={**model.source, "network": model_hash(model)})
    parts |= {
        "filters": describe(list(options.filters)), "count": count, "source": model.source,
        "text": getattr(model.text, "fingerprint", None),
        "attention": options.attention, "compile": options.compile, "device": model.device.type, "version": version("sfumato"),
    }  # fmt: skip
    name = hashlib.sha256(json.dumps([to_json(parts), labels, prompts], sort_keys=True).encode()).hexdigest()[:8]
    home = Path(options.pictures) if options.pictures else place(options) / f"pictures-{name}"
    found: list[tuple[Path, Generated]] = []
    for i in range(options.seeds):
        folder = home / f"set-{i}" if options.seeds > 1 or not options.pictures else home
        first = options.first_seed + i * count
        done = generate(
            model, folder, range(first, first + count), labels, prompts=prompts, steps=options.steps, sampler=options.sampler,
            grid=options.grid, guidance=options.guidance, filters=options.filters, retries=options.retries, batch=options.batch,
            strict=options.strict, resume=True, processes=processes, progress=True,
        )  # fmt: skip
        found.append((folder, done))
    return found


def opened(options: Evaluate) -> Model:
    """The model."""
    return load(
        options.run, ema=options.ema, device=options.device, allow=options.allow, vae=options.vae, text=options.text,
        scheduler=options.scheduler, size=None if place(options).name == "evaluation" else options.size, precision=options.precision,
        attention=options.attention, compile=options.compile,
    )  # fmt: skip
