"""A block of the diffusion transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention
from .head_norm import head_norm
from .positions import rotate
from .text import CrossAttention

__all__ = ["Layer"]


class Layer(nn.Module):
    """Transformer block with adaLN-zero: the conditioning shifts, scales and gates attention and MLP.

    Args:
        width: numbers per token.
        heads: attention heads, a divisor of width.
        hidden: width within the MLP.
        qk_norm, swiglu: see DiT.
        text: whether to attend to a text's tokens, which are `width` wide, between attention and MLP.

    Source: Peebles & Xie 2023 (2212.09748), section 3.2; text as in PixArt-alpha (2310.00426), section 2.3.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, qk_norm: bool = False, swiglu: bool = False, text: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.swiglu = heads, swiglu
        inner = round(2 * hidden / 3) if swiglu else hidden
        self.modulation = nn.Linear(width, 6 * width)
        self.norm_attention = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_q = head_norm(width // heads, qk_norm)
        self.norm_k = head_norm(width // heads, qk_norm)
        self.attend = Attention()
        self.out = nn.Linear(width, width)
        self.cross = CrossAttention(width, width, heads, qk_norm) if text else None
        self.norm_mlp = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp_in = nn.Linear(width, 2 * inner if swiglu else inner)
        self.mlp_out = nn.Linear(inner, width)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        turn: Tensor | None = None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """The next tokens.

        Args:
            x: tokens (B, N, width).
            condition: (B, 1, width), already through its SiLU.
            turn: of `rotations`, (2, N, width / heads / 2); None: queries and keys are not turned.
            text: (B, M, width), with text_mask, bool (B, M), for a block that hears it.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, dim=2)
        h = torch.addcmul(shift_a, self.norm_attention(x), 1.0 + scale_a)
        q, k, v = rearrange(self.qkv(h), "b n (s h d) -> s b h n d", s=3, h=self.heads).unbind()
        q, k = self.norm_q(q), self.norm_k(k)
        if turn is not None:
            # angles are float32, also where the rest is half
            q, k = rotate(q, turn).to(v.dtype), rotate(k, turn).to(v.dtype)
        a = self.attend(q, k, v)
        x = torch.addcmul(x, gate_a, self.out(rearrange(a, "b h n d -> b n (h d)")))
        if self.cross is not None:
            assert text is not None
            assert text_mask is not None
            x = x + self.cross(x, text, text_mask)
        h = self.mlp_in(torch.addcmul(shift_m, self.norm_mlp(x), 1.0 + scale_m))
        if self.swiglu:
            gate, h = h.chunk(2, dim=2)
            h = F.silu(gate) * h
        else:
            h = F.gelu(h, approximate="tanh")
        return torch.addcmul(x, gate_m, self.mlp_out(h))
