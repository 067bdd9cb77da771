"""`sfumato encode`: a data set's latents, made once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from ..diffusion.data import Source
from ..diffusion.encode import TEXT, encode
from ..diffusion.latents import LatentArray
from ..diffusion.prompts import TextEncoder
from ..diffusion.stored_text import TEXTS, StoredText, store_texts
from ..diffusion.texts import captioned, texts_of
from ..diffusion.vae import Precision, Vae
from .command import help_text, parse

__all__ = ["Encode", "run"]


@dataclass(frozen=True)
class Encode:
    """Encode a data set by a VAE into a folder of latents, to train on with `--data LatentArray --data.folder FOLDER`; its captions, too.

    Args:
        data: the pictures, in [-1, 1]; its arguments are dotted, such as ImageFolder --data.root photos --data.size 256.
        vae: a folder of diffusers with config.json and safetensors, or a pipeline's that has one in vae/; null: texts alone are encoded.
        text: what encodes the captions, for `--text StoredText --text.folder OUT/text` in training (OUT without a VAE); null: nothing does.
        out: the folder of latents; it appears when all is done. Until then FOLDER.part; the same command goes on with that.
        batch: pictures at a time, >= 1.
        mirror: encode every picture mirrored left to right, too.
        dtype: of the files.
        precision: of the VAE.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    data: Source
    out: str
    vae: str | None = None
    text: TextEncoder | None = None
    batch: int = 32
    mirror: bool = False
    dtype: Literal["float16", "float32"] = "float16"
    precision: Precision = "fp32"
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("batch", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; allowed: >= 1")
        if self.vae is None and self.text is None:
            raise ValueError(
                "vae is null and text is null, so there is nothing to encode with; give a folder by --vae, or --text"
            )


def _size(count: int) -> str:
    unit, name = next((u, n) for u, n in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes")) if count >= u)
    return f"{count / unit:.4g} {name}"


def _words(latents: LatentArray, folder: str, source: Source) -> str:
    """What is told at the end."""
    about = latents.about
    shape = "x".join(map(str, about["shape"]))
    size = sum(file["bytes"] for file in about["files"].values())
    rows = [
        f"latents: {len(latents)} of {shape}{', the second half mirrored' * about['mirrored']}, {about['dtype']}, {_size(size)}",
        f"from: {len(source)} of {'x'.join(map(str, source.shape))}, {latents.num_classes or 'no'} classes; "
        f"{about['vae']['class']} {about['vae']['folder']}",
        "what a network sees, by channel: mean "
        + ", ".join(f"{v:.3g}" for v in about["channel_mean"])
        + "; standard deviation "
        + ", ".join(f"{v:.3g}" for v in about["channel_std"]),
        f"in: {folder}; train on them by --data LatentArray --data.folder {folder} --backbone.channels {about['shape'][0]} "
        f"--backbone.size {about['shape'][-1]} --backbone.num_classes {latents.num_classes}",
    ]
    if latents.texts(torch.tensor([0])) is not None:
        rows[-1] = rows[-1].rpartition(" --backbone.num_classes")[0]
        if (Path(folder) / TEXT).is_dir():
            rows.append(_use_texts(f"{folder}/{TEXT}"))
    return "\n".join(rows)


def _use_texts(folder: str) -> str:
    """How texts are trained on."""
    about = json.loads((Path(folder) / TEXTS).read_text())
    width = StoredText(folder).encode([""])["text"].shape[-1]
    return (
        f"texts: {about['number']}, the empty one among them; train on them by --text StoredText --text.folder {folder} "
        f"--backbone.text_width {width}"
    )


def _encode_texts(options: Encode) -> str:
    """Encode the captions alone; what to tell at the end."""
    assert options.text is not None
    if not captioned(options.data):
        raise ValueError(
            "the data have no captions, so there is nothing to encode without a VAE; give --vae, or data.captions"
        )
    count, each = len(options.data), options.batch
    found = [
        text for first in range(0, count, each)  # a source may read its pictures to say them
        for texts in texts_of(options.data, torch.arange(first, min(first + each, count))) or [] for text in texts
    ]  # fmt: skip
    store_texts(found, options.text, options.out, progress=True)
    return _use_texts(options.out)


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                "sfumato encode DATA [--data.KEY VALUE ...] --vae FOLDER --out FOLDER [--mirror] ...",
                Encode,
                None,
                argv,
            )
        )
        return 0
    options, _ = parse(argv, Encode, ("data",))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.vae is None:
        print(_encode_texts(options))
        return 0
    vae = Vae(options.vae, options.device, options.precision)
    try:
        latents = encode(
            options.data,
            vae,
            options.out,
            batch=options.batch,
            dtype=options.dtype,
            mirror=options.mirror,
            text=options.text,
            progress=True,
        )
    except KeyboardInterrupt:
        print(f"what is done is kept in {options.out}.part; the same command goes on with it", file=sys.stderr)
        raise
    print(_words(latents, options.out, options.data))
    return 0
