"""The options of `sfumato demo`."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...diffusion.backbones.attention import Backend
from ...diffusion.vae import Precision
from .limits import Limits

__all__ = ["Demo", "is_loopback"]


@dataclass(frozen=True)
class Demo:
    """Open a page in the browser on which models are sampled, compared and looked into.

    Args:
        run: what is offered: run folders, folders of diffusers (a pipeline's or a network's), .safetensors files of DiT, ADM or EDM in
            their authors' own form; none: every run in `root`, and the page offers to train one where there is none.
        root: folder that is searched for runs when none is named.
        host: address that is listened on; 127.0.0.1: this machine alone. Any other demands `auth`.
        port: that is listened on; null: a free one, from 7860 on.
        open: open the page in a browser.
        auth: file with a user:password per line, passwords of 8 characters and more; null: the lines of the environment variable
            SFUMATO_DEMO_AUTH, where it is set.
        vae: folder of the VAE that makes pictures of latents, for a network that was trained on them.
        text: folder where a run's text encoder is, when it is no longer where it was.
        scheduler: folder of the scheduler that a network of diffusers was trained with, where none is beside it.
        size: height and width of the pictures, pixels, for networks that take any; null: as they were trained.
        precision: of a network of diffusers: fp32, bf16, fp16.
        attention: by which back-end a network of ours attends: auto, or one that `sfumato doctor` calls ok.
        pictures: that one visitor may ask for at once.
        steps: of a sampler, at most.
        cells: of a comparison, at most.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes a run's config may name; a visitor may never name one.
    """

    run: Sequence[str] = ()
    root: str = "runs"
    host: str = "127.0.0.1"
    port: int | None = None
    open: bool = False
    auth: str | None = None
    vae: str | None = None
    text: str | None = None
    scheduler: str | None = None
    size: int | None = None
    precision: Precision = "fp32"
    attention: Backend = "auto"
    pictures: int = Limits.pictures
    steps: int = Limits.steps
    cells: int = Limits.cells
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.port is not None and not 0 < self.port < 65536:
            raise ValueError(f"port is {self.port}; allowed: 1 to 65535, or null for a free one")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; allowed: >= 1, or null")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is {self.size}; allowed: >= 1, or null")
        if not self.host or not all(sign.isalnum() or sign in ".:-_" for sign in self.host):
            raise ValueError(
                f"host is {self.host!r}; allowed: an address of this machine, such as 127.0.0.1, ::1 or 0.0.0.0"
            )
        self.limits()

    def limits(self) -> Limits:
        """Of one visitor.

        Raises:
            ValueError: for numbers below 1.
        """
        return Limits(pictures=self.pictures, steps=self.steps, cells=self.cells)


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only; a name other than localhost may be anybody's."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
