"""The diffusion transformer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .dit_init import check_arguments, initialise
from .dit_layer import Layer
from .embedding import Conditioning, told_layer, with_told
from .positions import positions, rotations
from .text import PooledText, TextTokens, checked_text

__all__ = ["DiT"]

TIME_FEATURES = 256  # numbers in the time's sinusoid, whatever the width, as published


class DiT(nn.Module):
    """A transformer over patches, conditioned by adaLN-zero: every block starts as the identity, the output at zero.

    Published sizes: S (width 384, depth 12, heads 6), B (768, 12, 12), L (1024, 24, 16), XL (1152, 28, 16), at patch 2, 4 and 8, with
    twice the channels out; `sized("XL/2")` gives these numbers by name.

    Args:
        channels: of the image or latent.
        size: height and width, pixels, a multiple of patch; the positions are fixed to it.
        num_classes: classes; 0: a network without labels.
        patch: side of a patch, pixels.
        width: numbers per token, a multiple of 4 and of heads.
        depth: blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLPs, in units of width.
        time_scale: highest frequency of the time embedding, see `Conditioning`.
        out_channels: of the output; None: as many as channels.
        augment_features: numbers per sample that an augmentation tells, as many as its `told`; 0: none.
        rope: also turn queries and keys by the token's column and row; needs width / heads a multiple of 4. Positions are added to
            the tokens all the same, as in LightningDiT and JiT (2511.13720).
        qk_norm: RMS norm of queries and keys in each head, with learned scales.
        swiglu: gated MLPs, silu(a) * b, of two thirds of the hidden width, so about as many parameters.
        registers: learned tokens beside those of the image, which the head does not see, >= 0.
        frequencies: of the time: published, of DiT's own code, or diffusers, of its DiTTransformer2DModel, whose lowest one is a little
            lower; only a network with the latter can become one of diffusers'.
        text_width: numbers per token of a text that the blocks attend to; 0: no text.
        base_width: the width at which learning rates are found, for optimizer MuP: initial weights of other widths are then those for
            which the same rates are right; 0: as published.

    Raises:
        ValueError: for arguments outside these ranges; in a call, for inputs of wrong shape or dtype.

    Source: Peebles & Xie 2023 (2212.09748), section 3.2 and table 1. LightningDiT (2501.01423), section 4, for rope, qk_norm and
    swiglu; Darcet et al. 2024 (2309.16588) for registers; PixArt-alpha (2310.00426), section 2.3, for text.
    """

    def __init__(
        self,
        channels: int = 4,
        size: int = 32,
        num_classes: int = 0,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        time_scale: float = 1.0,
        out_channels: int | None = None,
        augment_features: int = 0,
        rope: bool = False,
        qk_norm: bool = False,
        swiglu: bool = False,
        registers: int = 0,
        frequencies: Literal["published", "diffusers"] = "published",
        text_width: int = 0,
        base_width: int = 0,
    ) -> None:
        super().__init__()
        self.config: dict[str, object] = {
            "channels": channels,
            "size": size,
            "num_classes": num_classes,
            "patch": patch,
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp_ratio": mlp_ratio,
            "time_scale": time_scale,
            "out_channels": out_channels,
        }
        later: dict[str, object] = {
            "augment_features": augment_features,
            "rope": rope,
            "qk_norm": qk_norm,
            "swiglu": swiglu,
            "registers": registers,
            "frequencies": "" if frequencies == "published" else frequencies,
            "text_width": text_width,
            "base_width": base_width,
        }
        # not said at their defaults, so that a run from before they were there is the same run
        self.config |= {key: value for key, value in later.items() if value}
        check_arguments({**self.config, **later, "frequencies": frequencies})
        out = channels if out_channels is None else out_channels
        self.channels = channels
        self.size = size
        self.num_classes = num_classes
        self.augment_features = augment_features
        self.patch = patch
        self.text_width = text_width
        self.base_width = base_width
        self.head_width = width // heads if rope else 0
        self.condition = Conditioning(
            num_classes, TIME_FEATURES, width, time_scale, reach_lowest=frequencies == "diffusers"
        )
        self.embed = nn.Linear(channels * patch * patch, width)
        # saved with the weights, so that a network built on the meta device gets it from a state dict
        self.register_buffer("positions", positions(size // patch, width))
        hidden = int(width * mlp_ratio)
        self.layers = nn.ModuleList(
            [Layer(width, heads, hidden, qk_norm, swiglu, text_width > 0) for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch * patch * out)
        # last, so that the others' weights are those without it
        self.text_tokens = TextTokens(text_width, width) if text_width else None
        self.text_pool = PooledText(text_width, width) if text_width else None
        initialise(self, base_width)
        self.told = told_layer(augment_features, width)
        if self.told is not None:
            nn.init.normal_(self.told.weight, std=0.02)
        self.registers = nn.Parameter(0.02 * torch.randn(1, registers, width)) if registers else None

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        labels: Tensor | None = None,
        *,
        augment: Tensor | None = None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """The network's output for noisy images, each at its own time and of its own class.

        Args:
            x: (B, channels, size, size).
            time: float32 (B,).
            labels: int64 (B,) in 0..num_classes, where num_classes is the null class; None: null for all.
            augment: (B, augment_features), what was done to the images; None: zeros, nothing.
            text: (B, M, text_width), an encoder's tokens; None: none, where text_width is 0.
            text_mask: bool (B, M), true for real tokens; a row without one is no text. None: all are real.

        Returns:
            (B, out_channels, size, size) in the dtype of x.
        """
        if x.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; allowed: (B, {self.channels}, {self.size}, {self.size}); resize"
                " the images, or build the network with other channels or size"
            )
        p, grid = self.patch, self.size // self.patch
        vector = with_told(self.condition(len(x), time, labels), self.told, augment)
        words, heard = checked_text(text, text_mask, len(x), self.text_width), None
        if words is not None:
            assert self.text_tokens is not None
            assert self.text_pool is not None
            vector, heard = vector + self.text_pool(*words), (self.text_tokens(words[0]), words[1])
        condition = F.silu(vector)[:, None]
        h = self.embed(rearrange(x, "b c (y p) (x q) -> b (y x) (c p q)", p=p, q=p)) + self.positions
        if self.registers is not None:
            h = torch.cat([h, self.registers.to(h.dtype).expand(len(h), -1, -1)], dim=1)
        turn = rotations(grid, self.head_width, h.shape[1] - grid**2, h.device) if self.head_width else None
        for layer in self.layers:
            h = layer(h, condition, turn, *(heard or ()))
        shift, scale = self.modulation(condition).chunk(2, dim=2)
        h = self.head(torch.addcmul(shift, self.norm(h[:, : grid**2]), 1.0 + scale))
        return rearrange(h, "b (y x) (p q c) -> b c (y p) (x q)", y=grid, p=p, q=p).to(x.dtype)
