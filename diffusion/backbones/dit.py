"""The diffusion transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention
from .blocks import zeroed
from .embedding import Conditioning, sinusoid, told_layer, with_told

__all__ = ["DiT"]

TIME_FEATURES = 256  # numbers in the time's sinusoid, whatever the width, as published


def positions(grid: int, width: int) -> Tensor:
    """Fixed float32 codes (grid^2, width) of a square grid, row by row: half of each for the column, half for the row.

    Source: He et al. 2021 (2111.06377), as used by DiT; the order of the numbers is that of the published weights.
    """
    waves = sinusoid(torch.arange(grid, dtype=torch.float32), width // 2)
    cos, sin = waves.chunk(2, dim=1)
    axis = torch.cat([sin, cos], dim=1)
    return torch.cat([axis.repeat(grid, 1), axis.repeat_interleave(grid, dim=0)], dim=1)


class Layer(nn.Module):
    """Transformer block with adaLN-zero: the conditioning shifts, scales and gates attention and MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.norm_attention = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.attend = Attention()
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens (B, N, width) and condition (B, 1, width), already through its SiLU."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, dim=2)
        h = torch.addcmul(shift_a, self.norm_attention(x), 1.0 + scale_a)
        q, k, v = rearrange(self.qkv(h), "b n (s h d) -> s b h n d", s=3, h=self.heads).unbind()
        x = torch.addcmul(x, gate_a, self.out(rearrange(self.attend(q, k, v), "b h n d -> b n (h d)")))
        h = torch.addcmul(shift_m, self.norm_mlp(x), 1.0 + scale_m)
        return torch.addcmul(x, gate_m, self.mlp_out(F.gelu(self.mlp_in(h), approximate="tanh")))


class DiT(nn.Module):
    """A transformer over patches, conditioned by adaLN-zero: every block starts as the identity, the output at zero.

    Published sizes, patch 2 and 8 output channels: S (width 384, depth 12, heads 6), B (768, 12, 12), L (1024, 24, 16),
    XL (1152, 28, 16).

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

    Raises:
        ValueError: for arguments outside these ranges; in a call, for inputs of wrong shape or dtype.

    Source: Peebles & Xie 2023 (2212.09748), section 3.2 and table 1.
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
        if augment_features:  # not said otherwise, so that a run from before it was there is the same run
            self.config["augment_features"] = augment_features
        out = channels if out_channels is None else out_channels
        counts = {
            "channels": channels,
            "size": size,
            "patch": patch,
            "depth": depth,
            "heads": heads,
            "out_channels": out,
        }
        for key, value in counts.items():
            if value < 1:
                raise ValueError(f"{key} is {value}; allowed: >= 1")
        if size % patch:
            raise ValueError(f"size is {size}; allowed with patch {patch}: multiples of {patch}; change one of the two")
        if width < 4 or width % 4 or width % heads:
            raise ValueError(f"width is {width}; allowed with {heads} heads: multiples of 4 and of {heads}")
        if not mlp_ratio * width >= 1.0:
            raise ValueError(f"mlp_ratio is {mlp_ratio}; allowed: at least 1 / width (the paper's is 4)")
        self.channels = channels
        self.size = size
        self.num_classes = num_classes
        self.augment_features = augment_features
        self.patch = patch
        self.condition = Conditioning(num_classes, TIME_FEATURES, width, time_scale)
        self.embed = nn.Linear(channels * patch * patch, width)
        # saved with the weights, so that a network built on the meta device gets it from a state dict
        self.register_buffer("positions", positions(size // patch, width))
        self.layers = nn.ModuleList([Layer(width, heads, int(width * mlp_ratio)) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch * patch * out)
        self._initialise()
        self.told = told_layer(augment_features, width)  # last, so that the others' weights are those without it
        if self.told is not None:
            nn.init.normal_(self.told.weight, std=0.02)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.condition.time_in.weight, std=0.02)
        nn.init.normal_(self.condition.time_out.weight, std=0.02)
        if self.condition.label is not None:
            nn.init.normal_(self.condition.label.weight, std=0.02)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            zeroed(layer.modulation)
        zeroed(self.modulation)
        zeroed(self.head)

    def forward(
        self, x: Tensor, time: Tensor, labels: Tensor | None = None, *, augment: Tensor | None = None
    ) -> Tensor:
        """The network's output for noisy images, each at its own time and of its own class.

        Args:
            x: (B, channels, size, size).
            time: float32 (B,).
            labels: int64 (B,) in 0..num_classes, where num_classes is the null class; None: null for all.
            augment: (B, augment_features), what was done to the images; None: zeros, nothing.

        Returns:
            (B, out_channels, size, size) in the dtype of x.
        """
        if x.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; allowed: (B, {self.channels}, {self.size}, {self.size}); resize"
                " the images, or build the network with other channels or size"
            )
        p = self.patch
        condition = F.silu(with_told(self.condition(len(x), time, labels), self.told, augment))[:, None]
        h = self.embed(rearrange(x, "b c (y p) (x q) -> b (y x) (c p q)", p=p, q=p)) + self.positions
        for layer in self.layers:
            h = layer(h, condition)
        shift, scale = self.modulation(condition).chunk(2, dim=2)
        h = self.head(torch.addcmul(shift, self.norm(h), 1.0 + scale))
        return rearrange(h, "b (y x) (p q c) -> b c (y p) (x q)", y=self.size // p, p=p, q=p).to(x.dtype)
