"""CFG++: denoise with the guided prediction, renoise with the unguided one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction, lerp
from ..schedules.scalar import Number, divide
from .ask import Ask
from .checks import check_branch, check_scale
from .tree import Tree

__all__ = ["CFGPlusPlus", "equivalent_scale"]


@dataclass(frozen=True)
class CFGPlusPlus:
    """A step of the sampler on the unconditional model, then x moves by alpha' scale (D_cond - D_ref), D the predicted data.

    With DDIM and Euler that is x' = alpha' D_scale + sigma' eps_ref, CFG++ as published, and with DPMSolverPP its 2M and 2S; with any
    other method the same holds, but for UniPC, Clipped, AdaptiveStep and Langevin, which refuse it. Upwards (inversion) the roles change:
    the data are the unconditional model's, the noise is guided.

    The strength depends on the number of steps: with DDIM a step from g to g' (g = sigma / alpha) is that of CFG at scale / (1 - g' / g),
    see `equivalent_scale`. Ten times the steps are about ten times the guidance, there is no limit of small steps, and a scale that
    was found for 50 steps must be found again for 20. With per="noise" each step's share is scale (1 - g' / g) instead: the same strength
    in any number of steps. With deterministic methods it is then CFG's scale, and with DDIM it is CFG; methods that remember extrapolate
    the unconditional model alone. Methods that draw all their noise anew (DDPM, eta 1) take twice as much noise away in small steps,
    so that there it acts as CFG at half the scale.

    Args:
        scale: one number, or one per picture. Per step in [0, 1]: 0 is the unconditional model at one evaluation; the paper has 0.2, 0.4,
            0.6, 0.8 and 1 where CFG has 2, 5, 7.5, 9 and 12.5 (Stable Diffusion 1.5, DDIM, 50 steps). Per noise: as CFG's, see above.
            None: 0.6 per step, 3 per noise.
        against: the branch that renoises.
        per: "step", as published, or "noise".

    Raises:
        ValueError: for a scale out of range; when asked, per="noise" where the step's end is not known or levels are per element.

    Source: Chung et al. 2024 (2406.08070).
    """

    scale: float | Sequence[float] | None = None
    against: str = "ref"
    per: Literal["step", "noise"] = "step"

    def __post_init__(self) -> None:
        if self.per not in ("step", "noise"):
            raise ValueError(f"CFGPlusPlus.per is {self.per!r}; allowed: 'step', 'noise'")
        check_branch(self, self.against)
        if self.scale is None:
            object.__setattr__(self, "scale", 0.6 if self.per == "step" else 3.0)
        check_scale("CFGPlusPlus", self._scale)
        scales = self._scale if isinstance(self._scale, Sequence) else [self._scale]
        if self.per == "step" and not all(0.0 <= v <= 1.0 for v in scales):
            raise ValueError(
                f"CFGPlusPlus.scale is {self.scale}; allowed: 0 to 1 per step (0.6 in 50 steps is like 7.5 of CFG), or with per: noise any "
                "scale of CFG"
            )
        if self.per == "noise" and not all(v >= 0.0 for v in scales):
            raise ValueError(f"CFGPlusPlus.scale is {self.scale}; allowed with per: noise: 0 or more, as CFG's")

    @property
    def _scale(self) -> float | Sequence[float]:
        assert self.scale is not None
        return self.scale

    def init(self, x: Tensor) -> Tree:
        return ()

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        if self.scale == 0.0:
            (ref,) = ask(self.against)
            return ref, memory
        share = ask.each("CFGPlusPlus.scale", self._scale)
        if self.per == "noise":
            if ask.nxt is None:
                raise ValueError("CFGPlusPlus per noise must know where a step leads, and nobody says; take per: step")
            share = share * length(ask.now, ask.nxt)
        cond, ref = ask("cond", self.against)
        # walks by ref, with the conditional model's learned variance
        return ref.steered(lerp(ref, cond, share), cond.variance), memory


def length(now: Level, nxt: Level) -> Number:
    """The share of the noise that a step takes away (downwards) or adds (upwards): 1 - g' / g, g the larger of the two, in [0, 1]."""
    down, up = divide(nxt.ratio, now.ratio), divide(now.ratio, nxt.ratio)
    if isinstance(down, Tensor) or isinstance(up, Tensor):
        raise ValueError("CFGPlusPlus per noise needs one noise level per step; these are per sample or per element")
    return 1.0 - min(down, up)


def equivalent_scale(scale: float, levels: Sequence[Level]) -> list[float]:
    """The scale of CFG that a CFG++ of a scale per step is, in each step of DDIM along levels.

    Args:
        scale: per step, in [0, 1].
        levels: the grid, downwards.

    Returns:
        scale / (1 - g' / g) per step; the last step to the data has the scale itself.
    """
    return [scale / float(length(now, nxt)) for now, nxt in itertools.pairwise(levels)]
