"""The words of sampling: what a sampler is, what it carries, and the one move that all methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.scalar import Number, divide, relu, sqrt

__all__ = ["Denoise", "Sampler", "State", "Vector", "check_within", "move", "renewed"]

Denoise: TypeAlias = Callable[[Tensor, Level], Prediction]
"""All that a sampler knows of a model: (x, level) -> what it believes, such as Prediction.pair(x0, eps).

What it returns must not be written to later: a network that answers in one buffer again and again (CUDA graphs) returns copies.
It must not write to x, and may keep it."""

Vector: TypeAlias = Any
"""A tensor (B, ...), or the symbol that stands for one while a sampler is traced; only + - * / by numbers is done to it."""


class State(NamedTuple):
    """All that a sampler carries from step to step.

    x: (B, ...), where it stands. memory: batch-first tensors, whatever the method remembers.
    """

    x: Vector
    memory: tuple[Vector, ...] = ()


@runtime_checkable
class Sampler(Protocol):
    """A way to walk along levels: one pure step, written as in the paper.

    A step that does nothing but + - * / to vectors, with Python numbers taken from the levels, is run once on symbols and
    then executed as a table of numbers; any other step runs as it is written. A frozen dataclass, so that it can be compared.
    """

    @property
    def draws(self) -> int:
        """Gaussian tensors wanted per step; 0 for a deterministic method."""
        ...

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        """From levels[-2] to levels[-1].

        Args:
            state: where it stands; its memory is empty in the first step.
            denoise: the model, asked as often as the method needs.
            levels: *past, now, nxt; of the past the last 30.
            z: `draws` tensors of standard normals like x.

        Returns:
            The next state, and the prediction (one that was asked for) to show for this step.
        """
        ...


def move(
    p: Prediction, now: Level, nxt: Level, *,
    eps: Vector = None, x0: Vector = None, fresh: Number = 0.0, z: Vector = None,
) -> Vector:  # fmt: skip
    """Carry x from now to nxt with the prediction held fixed; a better mean `eps` or `x0` over the step adds a correction.

    Without the correction this is DDIM, alpha' x0 + sigma' eps, which divides by nothing. The correction exists only once there
    is memory, so never at a first step of infinite length (alpha = 0).

    Args:
        p: what the model believes at now.
        now, nxt: levels.
        eps: the mean of eps over the step, for methods in sigma / alpha (Adams, heavy ball).
        x0: the mean of x0 over the step, for methods in log-SNR (DPM-Solver++).
        fresh: standard deviation of new noise, in [0, nxt.sigma]; the old noise keeps sqrt(sigma'^2 - fresh^2).
        z: standard normals, where fresh > 0.

    Source: Song et al. 2021 (2010.02502), eq. 12.
    """
    none = not isinstance(fresh, Tensor) and fresh == 0
    kept = nxt.sigma if none else sqrt(relu(nxt.sigma**2 - fresh**2))
    x = nxt.alpha * p.x0 + kept * p.eps
    if eps is not None:
        x = x + (kept - nxt.alpha * now.ratio) * (eps - p.eps)
    if x0 is not None:
        x = x + (nxt.alpha - divide(kept, now.ratio)) * (x0 - p.x0)
    return x if none else x + fresh * z


def renewed(now: Level, nxt: Level, eta: Number = 1.0) -> Number:
    """How much of the next level's noise an ancestral step draws anew, eta sqrt(1 - (g' / g)^2) with g = sigma / alpha; upward none.

    now, nxt: the step. eta: 1 is the posterior's own share, DDPM.

    Source: Song et al. 2021 (2010.02502), eq. 16.
    """
    return eta * sqrt(relu(1.0 - divide(nxt.ratio, now.ratio) ** 2))


def check_within(whole: object, name: str, value: object, wanted: type) -> None:
    """Refuse a part of a sampler that is none.

    Raises:
        ValueError: naming the field and the fix.
    """
    if isinstance(value, type) or not isinstance(value, wanted):
        raise ValueError(
            f"{type(whole).__name__}.{name} is {value!r}, which is no {wanted.__name__}; give an object, such as DDIM()"
        )
