"""What a model believes, as pictures, while it samples."""

from __future__ import annotations

import math
import threading

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion import Model
from ...diffusion.prompts import Decoder

__all__ = ["LARGEST", "LatentColours", "Preview", "as_pictures", "preview", "preview_of"]

LARGEST = 256
"""Sides of a preview at most, in pixels: it is looked at for a tenth of a second."""

# latents and their pictures that a map learns from before there are any of the model: few and small, a fraction of one decoded picture
_SIDE, _MADE = 8, 12
# what is known of made-up latents counts as so many pixels, so that the model's own soon outweigh it
_WEIGHT = 32.0
# of the model's own pictures; more would not change the map
_LEARNT = 64


class LatentColours:
    """A linear map from latents to colours, by least squares on what the VAE makes of latents.

    It begins with smooth made-up latents, and learns of each picture that the model finishes, which are the latents it is used on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inner: Tensor | None = None
        self._outer: Tensor | None = None
        self._map: Tensor | None = None
        self._learnt = 0

    def begin(self, vae: Decoder, channels: int, device: torch.device) -> None:
        """Fit the map on made-up latents, once.

        Args:
            vae: what turns latents into pictures.
            channels: of the latents.
            device: where the VAE is.
        """
        with self._lock:
            if self._map is not None:
                return
            # of unit variance in all, as latents are scaled to, mostly flat, as pictures are; seeded, so that previews are repeatable
            g = torch.Generator().manual_seed(0)
            flat = torch.randn(_MADE, channels, 1, 1, generator=g).expand(-1, -1, _SIDE, _SIDE)
            soft = F.interpolate(torch.randn(_MADE, channels, 3, 3, generator=g), size=_SIDE, mode="bilinear")
            fine = torch.randn(_MADE, channels, _SIDE, _SIDE, generator=g)
            latents = (0.75 * flat + 0.75 * soft + 0.35 * fine).to(device)
            with torch.no_grad():
                self._add(latents, torch.cat([vae.decode(one) for one in latents.split(1)]), _WEIGHT)

    def learn(self, latents: Tensor, pictures: Tensor) -> None:
        """Some of the model's own latents (B, c, h, w), and what the VAE made of them, (B, C, H, W) in [-1, 1]."""
        with self._lock:
            if self._learnt < _LEARNT:
                self._learnt += len(latents)
                self._add(latents, pictures, None)

    def __call__(self, latents: Tensor) -> Tensor:
        """Pictures (B, C, h, w) of latents (B, c, h, w), by the map."""
        assert self._map is not None, "begin comes first"
        return torch.einsum("kc,bkhw->bchw", self._map.to(latents.device), _with_one(latents.float()))

    def explained(self, latents: Tensor, pictures: Tensor) -> float:
        """How much of the variance of pictures the map explains at the latents' resolution, R^2: 1 is all of it.

        Args:
            latents, pictures: as of `learn`.
        """
        wanted = _averaged(pictures, latents.shape[-2], latents.shape[-1])
        left = (self(latents) - wanted).square().sum()
        return 1 - float(left / (wanted - wanted.mean((0, 2, 3), keepdim=True)).square().sum())

    def _add(self, latents: Tensor, pictures: Tensor, pixels: float | None) -> None:
        """Add to the normal equations, with the weight of so many pixels, and solve them."""
        if not bool(torch.isfinite(pictures).all()):
            return
        small = _averaged(pictures, latents.shape[-2], latents.shape[-1])
        rows = _with_one(latents.float()).movedim(1, -1).flatten(0, 2).double().cpu()
        wanted = small.movedim(1, -1).flatten(0, 2).double().cpu()
        share = 1.0 if pixels is None else pixels / len(rows)
        inner, outer = share * rows.T @ rows, share * rows.T @ wanted
        self._inner = inner if self._inner is None else self._inner + inner
        self._outer = outer if self._outer is None else self._outer + outer
        ridge = 1e-6 * torch.eye(len(self._inner), dtype=torch.float64) * self._inner.diagonal().mean()
        self._map = torch.linalg.solve(self._inner + ridge, self._outer).float()


def _averaged(x: Tensor, height: int, width: int) -> Tensor:
    return F.adaptive_avg_pool2d(x.float(), (height, width))


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


class Preview:
    """How the x0 of one model is looked at.

    Args:
        model: that is sampled.
    """

    def __init__(self, model: Model) -> None:
        self._latents, self._range = model.latents, 4.0 if model.latents else 1.0
        self.colours = LatentColours() if model.vae is not None else None

    def begin(self, model: Model) -> None:
        """What must be known before the first step; costs something the first time only."""
        if self.colours is not None and model.vae is not None:
            self.colours.begin(model.vae, model.shape[0], model.device)

    def __call__(self, x0: Tensor, most: int = LARGEST) -> Tensor:
        """Pictures (B, 1 or 3, H, W) in [-1, 1] of a predicted x0, on the host.

        Args:
            x0: (B, C, H, W), in the units of the data.
            most: sides at most, in pixels; larger ones are averaged down.
        """
        x = x0.float() if self.colours is None else self.colours(x0)
        x = torch.nan_to_num(as_pictures(x / (self._range if self.colours is None else 1.0)))
        return self.small(x, most).clamp(-1, 1).cpu()

    @staticmethod
    def small(x: Tensor, most: int = LARGEST) -> Tensor:
        """Pictures (..., H, W) whose sides are `most` at most."""
        if max(x.shape[-2:]) <= most:
            return x
        scale = most / max(x.shape[-2:])
        height, width = (max(1, round(side * scale)) for side in x.shape[-2:])
        return _averaged(x, height, width)

    def finished(self, images: Tensor) -> Tensor:
        """What is shown of finished pictures (B, C, H, W): themselves, or the channels of what can't be shown in colours."""
        latents = self._latents and self.colours is None
        return as_pictures(images.float() / (self._range if latents else 1.0)).clamp(-1, 1).cpu()


def preview_of(model: Model) -> Preview:
    """How a model is looked at; held by the model itself, so that what is learnt of its latents is learnt once.

    Args:
        model: as it was loaded; what `replace` makes of it is another.
    """
    return vars(model).setdefault("_preview", Preview(model))


def preview(model: Model, x0: Tensor) -> Tensor:
    """Pictures (B, 1 or 3, H, W) in [-1, 1] of a predicted x0, no side longer than `LARGEST`; latents by a linear map.

    Args:
        model: that is sampled.
        x0: (B, C, H, W), in the units of the data.
    """
    found = preview_of(model)
    found.begin(model)
    return found(x0)


def as_pictures(x: Tensor) -> Tensor:
    """Pictures of 1 or 3 channels: any other number of channels is laid side by side, in grey.

    Args:
        x: (B, C, H, W).
    """
    count, channels, height, width = x.shape
    if channels in (1, 3):
        return x
    columns = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / columns)
    x = torch.cat([x, x.new_full((count, rows * columns - channels, height, width), -1.0)], 1)
    x = x.view(count, rows, columns, height, width).permute(0, 1, 3, 2, 4)
    return x.reshape(count, 1, rows * height, columns * width)
