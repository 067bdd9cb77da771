"""What guidance costs and what of it can be saved: cosines between the branches, and the fit of LinearAG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..guidance import CFG, Ask, LinearPlan, Tree, cosine
from ..guidance.linear_fit import Kind, LinearFit
from ..guidance.space import read
from ..samplers import Sampler
from ..schedules import X0, Eps, Grid, PairingError, Prediction, Row, V
from ..schedules.noise import Seeds
from ..schedules.rows import check_pairing
from .conditions import Labels
from .fingerprint import fingerprint
from .guidance_walk import check_guided, walk_all
from .model import Model

__all__ = ["Cosines", "fit_linear", "measure_cosines"]


@dataclass(frozen=True)
class Cosines:
    """The cosine between cond and ref along fully guided trajectories.

    values: by space ("x0", "eps", "v"), float64 (steps, trajectories); nan where a space says nothing (eps at zero SNR).
    scale: of the guidance.
    """

    values: Mapping[str, Tensor]
    scale: float

    def spread(self, space: str) -> list[tuple[float, float, float]]:
        """Mean, 5 and 95 percent over the trajectories, per step."""
        v = self.values[space]
        low, high = torch.quantile(v, torch.tensor([0.05, 0.95], dtype=v.dtype), dim=1)
        return list(zip(v.mean(1).tolist(), low.tolist(), high.tolist(), strict=True))

    def threshold(self, space: str, save: float, least: int = 1) -> float:
        """The threshold with which Adaptive saves a share of the evaluations, on average over these trajectories.

        A trajectory stops after its first step (not before `least`) whose cosine reaches the threshold, so the steps that are saved
        are those that come after; up to there it is the fully guided one, which makes the count exact.

        Args:
            space: one of values, which says something in every step.
            save: share of the 2 N evaluations, in (0, 0.5).
            least: guided steps at the least, >= 1.

        Raises:
            ValueError: for a share that can't be saved, and a space that says nothing in some step.
        """
        v = self.values[space]
        steps, count = v.shape
        most = (steps - least) / (2 * steps)
        if not 0.0 < save < most:
            raise ValueError(
                f"save is {save:g}; allowed: above 0 and below {most:g}, which is all that {steps} steps save when {least} are guided"
            )
        if bool(v.isnan().any()):
            raise ValueError(f"in {space} the branches can't be compared in every step; take v")
        # a saved step is one after a step whose largest cosine so far reached the threshold
        reached = v[least - 1 : -1].cummax(0).values.flatten().sort(descending=True).values
        n = min(max(round(save * 2 * steps * count), 1), len(reached) - 1)
        return float((reached[n - 1] + reached[n]) / 2)


@dataclass
class _Watch:
    """CFG that notes the cosines, once per step."""

    scale: float
    spaces: Mapping[str, Row]
    found: dict[str, list[Tensor]] = field(default_factory=dict)

    def init(self, x: Tensor) -> Tree:
        self.found = {name: [] for name in self.spaces}
        return ()

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        cond, ref = ask("cond", "ref")
        for name, space in self.spaces.items():
            if len(self.found[name]) == ask.step:  # a step's later evaluations are not counted
                try:
                    check_pairing(space, ask.level)
                    alike = cosine(read(ask, cond, space), read(ask, ref, space)).double().cpu()
                except PairingError:
                    alike = torch.full((len(ask.x),), torch.nan, dtype=torch.float64)
                self.found[name].append(alike)
        return CFG(self.scale)(ask, memory)


def measure_cosines(
    model: Model, seeds: Seeds = range(200), labels: Labels | None = None, *, scale: float = 3.0, steps: int | None = None,
    sampler: Sampler | None = None, grid: Grid | None = None, batch: int = 64, progress: bool = False,
) -> Cosines:  # fmt: skip
    """The cosine between the conditional and the unconditional prediction, per step of trajectories under CFG.

    Args:
        model: with classes and a null class.
        seeds: one per trajectory.
        labels: one per seed; None: the classes in turn.
        scale: of CFG, neither 0 nor 1.
        steps, sampler, grid: None: the model's own.
        batch: samples that the network sees at a time, >= 1.
        progress: show a bar.

    Raises:
        ValueError: for a model without a null class, and values out of range.

    Source: Castillo et al. 2023 (2312.12487), figure of the cosines.
    """
    check_guided(model, scale, batch)
    watch = _Watch(scale, {"x0": X0(), "eps": Eps(), "v": V()})
    walk_all(
        model, watch, seeds, labels, steps=steps, sampler=sampler, grid=grid, batch=batch, progress=progress,
        about="cosines",
    )  # fmt: skip
    return Cosines({name: torch.stack(found) for name, found in watch.found.items()}, scale)


def fit_linear(
    model: Model, seeds: Seeds = range(200), labels: Labels | None = None, *, scale: float = 3.0, steps: int | None = None,
    sampler: Sampler | None = None, grid: Grid | None = None, space: Row | None = None,
    second_half: Literal["replace", "plain"] = "replace", batch: int = 64, progress: bool = False,
) -> LinearPlan:  # fmt: skip
    """Fit LinearAdaptive: in the first half of the steps every other reference is replaced, in the second half each.

    Args:
        model: with classes and a null class.
        seeds: one per trajectory; the paper has 200.
        labels: one per seed; None: the classes in turn.
        scale: of CFG, neither 0 nor 1.
        steps, sampler, grid: None: the model's own; the sampler must ask once per step.
        space: in which the sum is taken; None: eps, or v where the path begins without data.
        second_half: "replace" the reference in the second half of the steps, or leave them "plain", unguided.
        batch: samples that the network sees at a time, >= 1.
        progress: show a bar.

    Raises:
        ValueError: for a model without a null class, values out of range, and a sampler that asks more than once per step.

    Source: Castillo et al. 2023 (2312.12487), LinearAG.
    """
    check_guided(model, scale, batch)
    if second_half not in ("replace", "plain"):
        raise ValueError(f"second_half is {second_half!r}; allowed: 'replace', 'plain'")
    own = model.steps if steps is None else steps
    levels = (model.grid if grid is None else grid)(model.denoiser.schedule, own)
    if space is None:
        space = Eps() if levels[0].alpha else V()

    def kind(step: int) -> Kind:
        if 2 * step >= own:
            return second_half
        return "replace" if step % 2 else "ask"

    fit = LinearFit(scale, kind, space)
    walk_all(
        model, fit, seeds, labels, steps=steps, sampler=sampler, grid=grid, batch=batch, progress=progress,
        about="fitting",
    )  # fmt: skip
    walker = sampler or model.sampler
    about = f"CFG {scale:g}, {own} steps of {walker} on {grid or model.grid}"
    return fit.plan(about, repr(walker), fingerprint(model.denoiser))
