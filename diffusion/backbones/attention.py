"""Attention on (B, H, N, D), and the back-ends that can compute it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["BACKENDS", "Attention", "Backend", "attend"]

Backend = Literal["auto", "sdpa", "math", "flex", "xformers"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

# Of bfloat16 on a CPU, SDPA's backward pass takes up to eight times as long as in float32. Softmax between two products takes half to two
# thirds of float32's time, but for rows so short that calls are what costs, and it keeps all scores, which has an end. Measured on a CPU
# with AVX512-BF16, forward and backward: it wins from 64 keys on, at every length up to 4096.
_FEW_KEYS = 64
_MOST_SCORES = 1 << 28


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, backend: Backend = "auto") -> Tensor:
    """softmax(q k^T / sqrt(D)) v for every head.

    Args:
        q: queries, (B, H, N, D).
        k: keys, (B, H, M, D).
        v: values, (B, H, M, D).
        mask: bool, broadcast to (B, H, N, M), true where a query may look; None: everywhere. A query that may look nowhere gets zeros,
            and has a gradient of zero.
        backend: "sdpa", torch's scaled dot product attention; "math", the same without fused kernels; "flex", torch's flex attention;
            "xformers". "auto" is sdpa, and for bfloat16 on a CPU what is fast there: softmax between two products.

    Returns:
        (B, H, N, D), in the dtype of the inputs (under autocast, its dtype).

    Raises:
        ValueError: for another backend, and a mask that is not boolean.

    Source: Vaswani et al. 2017 (1706.03762), eq. 1.
    """
    compute = _COMPUTE.get(backend)
    if compute is None:
        raise ValueError(f"attention is {backend!r}; allowed: {', '.join(BACKENDS)}")
    if mask is None:
        return compute(q, k, v, None)
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}; allowed: torch.bool, true where a query may look")
    sees = mask.any(-1, keepdim=True)
    # no back-end is asked for the softmax of nothing, of which each makes something else
    return compute(q, k, v, mask | ~sees).masked_fill(~sees, 0.0)


class Attention(nn.Module):
    """`attend` as a module without parameters, so that a hook sees queries and keys.

    Args:
        backend: see `attend`; `set_attention` changes it in a whole network.
    """

    def __init__(self, backend: Backend = "auto") -> None:
        super().__init__()
        self.backend: Backend = backend

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `attend`."""
        return attend(q, k, v, mask, backend=self.backend)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _math(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _auto(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """SDPA, but for bfloat16 on a CPU."""
    if q.device.type != "cpu":
        return _sdpa(q, k, v, mask)
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast and q.dtype == torch.float32 else q.dtype
    if dtype != torch.bfloat16:
        return _sdpa(q, k, v, mask)
    keys, scores = k.shape[2], q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    with torch.autocast("cpu", enabled=False):
        if keys < _FEW_KEYS or scores > _MOST_SCORES:
            return _sdpa(q.float(), k.float(), v.float(), mask).to(dtype)
        # queries are scaled, which are fewer numbers than scores
        scored = (q.to(dtype) * q.shape[3] ** -0.5) @ k.to(dtype).transpose(2, 3)
        if mask is not None:
            scored = scored.masked_fill(~mask, float("-inf"))
        return scored.softmax(dim=3) @ v.to(dtype)


def _flex(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention  # pulls in the compiler, so not at import time

    if mask is None:
        out = flex_attention(q, k, v)
    else:
        whole = mask.expand(*q.shape[:3], k.shape[2])

        def score(value: Tensor, b: Tensor, h: Tensor, n: Tensor, m: Tensor) -> Tensor:
            return torch.where(whole[b, h, n, m], value, float("-inf"))

        out = flex_attention(q, k, v, score_mod=score)
    assert isinstance(out, Tensor)
    return out


def _xformers(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    from xformers.ops import memory_efficient_attention  # pyright: ignore[reportMissingImports]  # optional

    bias = None
    if mask is not None:
        keys = k.shape[2]
        # its kernels read rows of a bias from addresses that are multiples of 8 numbers
        room = q.new_zeros(*q.shape[:3], -(-keys // 8) * 8)
        bias = room[..., :keys].masked_fill_(~mask, float("-inf"))
    # heads come after the positions there
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return memory_efficient_attention(q, k, v, attn_bias=bias).transpose(1, 2)


_Compute = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
_COMPUTE: dict[str, _Compute] = {"auto": _auto, "sdpa": _sdpa, "math": _math, "flex": _flex, "xformers": _xformers}
