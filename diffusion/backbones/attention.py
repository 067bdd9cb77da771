"""Attention on (B, H, N, D), and which of its back-ends work here."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["Attention", "attend", "probe"]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D)) v for every head, through torch's scaled dot product attention.

    Args:
        q: queries, (B, H, N, D).
        k: keys, (B, H, M, D).
        v: values, (B, H, M, D).
        mask: bool, broadcast to (B, H, N, M), true where a query may look; None: everywhere.

    Returns:
        (B, H, N, D), in the dtype of the inputs (under autocast, its dtype).

    Source: Vaswani et al. 2017 (1706.03762), eq. 1.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Attention(nn.Module):
    """`attend` as a module without parameters, so that a hook sees queries and keys."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `attend`."""
        return attend(q, k, v, mask)


def _math(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v)


def _flex(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention  # pulls in the compiler, so not at import time

    out = flex_attention(q, k, v)
    assert isinstance(out, Tensor)
    return out


def _xformers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from xformers.ops import memory_efficient_attention  # pyright: ignore[reportMissingImports]  # optional

    # xformers puts the heads after the positions
    return memory_efficient_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


_BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "sdpa": attend,
    "math": _math,
    "flex": _flex,
    "xformers": _xformers,
}


def probe(device: torch.device | str | None = None) -> dict[str, str]:
    """Try every attention back-end with one tiny forward call.

    Args:
        device: where to try; None is torch's default device.

    Returns:
        For `sdpa`, `math`, `flex` and `xformers`: "ok", or in one line why it does not work or is wrong here.
    """
    device = torch.get_default_device() if device is None else torch.device(device)
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    # a fixed input: no draw from the global generator
    x = torch.linspace(-1.0, 1.0, 2 * 16 * 16, device=device, dtype=dtype).view(1, 2, 16, 16)
    report: dict[str, str] = {}
    for name, backend in _BACKENDS.items():
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                error = (backend(x, x, x) - _math(x, x, x)).abs().max().item()
            report[name] = "ok" if error < 1e-2 else f"wrong: differs from math by {error:.2g}"
        except Exception as reason:  # a probe reports whatever goes wrong, of any type
            line = next(iter(str(reason).strip().splitlines()), "")
            report[name] = f"{type(reason).__name__}: {line}"[:120]
    return report
