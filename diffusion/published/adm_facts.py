"""What the weights of ADM and improved DDPM do not say, for every shape that was published."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["ADMFacts", "ADMShape", "adm_facts"]


class ADMShape(NamedTuple):
    """What the weights say: updown, multipliers, whether there are classes, and whether these and the time scale a norm; see `ADM`."""

    updown: Literal["block", "conv"]
    multipliers: tuple[float, ...]
    classes: bool
    scale_shift: bool


class ADMFacts(NamedTuple):
    """What they do not say, though the network computes something else without it.

    name: as its authors call it. size: pixels. head_width, heads: see `ADM`, one of them None. interleaved: whether the rows of qkv are
    q, k and v of the first head, then those of the next (their older order), or q of all heads, then k, then v. noise: which table of
    how many steps. rescaled: whether the time is told in thousandths of the table, or as the index. dropout: in training.
    """

    name: str
    size: int
    head_width: int | None = 64
    heads: int | None = None
    interleaved: bool = True
    noise: Literal["linear", "cosine"] = "linear"
    steps: int = 1000
    rescaled: bool = False
    dropout: float = 0.0


def adm_facts(shape: ADMShape) -> ADMFacts | None:
    """What was published with a shape; None: nothing.

    Source: the flags in the READMEs of openai/guided-diffusion and openai/improved-diffusion.
    """
    older = ADMFacts("improved DDPM", 64, None, 4, True, "cosine", 4000, True)
    match shape:
        case ("block", (1, 2, 3, 4), _, True):
            return ADMFacts("ADM ImageNet-64", 64, interleaved=False, noise="cosine", dropout=0.1)
        case ("block", (1, 1, 2, 3, 4), _, True):
            return ADMFacts("ADM ImageNet-128", 128, None, 4)
        case ("block", (1, 1, 2, 2, 4, 4), classes, True):
            return ADMFacts("ADM ImageNet-256" if classes else "ADM ImageNet-256 or LSUN", 256)
        case ("block", (0.5, 1, 1, 2, 2, 4, 4), _, True):
            return ADMFacts("ADM ImageNet-512", 512)
        case ("conv", (1, 2, 3, 4), classes, True):
            return older._replace(name="improved DDPM ImageNet-64", rescaled=not classes)
        case ("conv", (1, 2, 2, 2), False, True):
            return older._replace(name="improved DDPM CIFAR-10", size=32, dropout=0.3)
        case ("conv", (1, 1, 2, 2, 4, 4), False, False):
            return ADMFacts("improved DDPM LSUN bedroom", 256, None, 1)
        case _:
            return None
