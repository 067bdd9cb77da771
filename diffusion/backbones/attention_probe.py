"""Which attention back-ends work where, how far they are from float64, and the choice of one for a network."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import BACKENDS, Attention, Backend, attend

__all__ = ["Verdict", "probe", "set_attention"]

# what rounding explains: of exact attention on the probe's inputs the back-ends here are off by 1e-7 and 4e-3
_ALLOWED = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class Verdict(NamedTuple):
    """Whether a back-end can be used: reason, in one line why it can't, "" where it can; deviation, the largest of its output and gradients
    from float64, where it could."""

    reason: str
    deviation: float | None = None


def probe(
    backend: Backend,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    training: bool = False,
) -> Verdict:
    """Ask a back-end for a tiny attention, with and without a mask, since what can be imported may still not work.

    Args:
        backend: see `attend`.
        device: where; None: torch's default device.
        dtype: of the inputs: float64, float32, bfloat16 or float16.
        training: whether it must have a backward pass.
    """
    device = torch.get_default_device() if device is None else torch.device(device)
    try:
        with torch.autocast(device.type, enabled=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            deviation = max(_deviation(backend, device, dtype, training, masked) for masked in (False, True))
    except Exception as error:  # a probe reports whatever goes wrong, of any type
        line = next(iter(str(error).strip().splitlines()), "")
        return Verdict(f"{type(error).__name__}: {line}"[:160])
    if not deviation <= _ALLOWED[dtype]:
        return Verdict(f"it is wrong: off by {deviation:.2g} from float64", deviation)
    return Verdict("", deviation)


def set_attention(
    backbone: nn.Module,
    backend: Backend,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    training: bool = False,
) -> None:
    """Let every `Attention` of a network compute by one back-end; the weights mean the same under any.

    Args:
        backbone: changed in place.
        backend: see `attend`; "auto" never fails.
        device: where the network will run.
        dtype: in which it will compute.
        training: whether it will be trained.

    Raises:
        ValueError: for a back-end that can't be used there, with the reason, and where one is named for a network without attention.
    """
    if backend not in BACKENDS:
        raise ValueError(f"attention is {backend!r}; allowed: {', '.join(BACKENDS)}")
    found = [module for module in backbone.modules() if isinstance(module, Attention)]
    if backend != "auto":
        if not found:
            raise ValueError(
                f"attention is {backend!r}, but {type(backbone).__name__} has no attention that could be chosen; set attention: auto"
            )
        reason = probe(backend, device, dtype, training).reason
        if reason:
            what = f"{'training' if training else 'sampling'} in {str(dtype).removeprefix('torch.')} on {device}"
            raise ValueError(
                f"attention is {backend!r}, which can't be used for {what} ({reason}); set attention: auto, or one that `sfumato doctor` "
                "calls ok"
            )
    for module in found:
        module.backend = backend


def _deviation(backend: Backend, device: torch.device, dtype: torch.dtype, training: bool, masked: bool) -> float:
    """How far outputs, and gradients where wanted, are from those of float64 at the same inputs."""
    # fixed inputs: no draw from the global generator
    base = torch.linspace(0.0, 900.0, 3 * 2 * 2 * 72 * 32, dtype=torch.float64).sin().view(3, 2, 2, 72, 32)
    given = base.to(device, dtype)
    mask = (torch.arange(72, device=device) < 50).expand(2, 1, 1, 72) if masked else None
    with torch.set_grad_enabled(training):
        found = _asked(backend, given, mask)
        exact = _asked("math", given.cpu().double(), None if mask is None else mask.cpu())
    pairs = zip(found, exact, strict=True)
    return max(float((a.detach().cpu().double() - b.detach()).abs().max()) for a, b in pairs)


def _asked(backend: Backend, given: Tensor, mask: Tensor | None) -> list[Tensor]:
    """The output, and its gradient by the inputs where gradients are recorded."""
    given = given.detach().requires_grad_(torch.is_grad_enabled())
    q, k, v = given.unbind()
    out = attend(q, k, v, mask, backend=backend)
    return [out, *torch.autograd.grad(out.square().sum(), given)] if torch.is_grad_enabled() else [out]
