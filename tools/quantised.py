"""`sfumato sample --quantize`: the quantised model, and how far it is from what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..diffusion import Model
from ..diffusion.distance import Distance, measured_distance
from ..diffusion.quantise import quantised
from ..diffusion.samples import Samples
from ..guidance import for_picture

__all__ = ["quantised_as_asked"]

MOST = 8  # pictures that are made both ways


@dataclass(frozen=True)
class _Asked:
    """The first pictures that were asked for, made as was asked; filters are left out, since they would compare other attempts."""

    options: Any
    labels: Sequence[int | None] | None
    also: Mapping[str, Sequence[int | None] | None] | None
    weak: Model | None
    prompts: Sequence[str] | None

    def __call__(self, model: Model, seeds: Sequence[int]) -> Samples:
        asked, count = self.options, len(seeds)
        # a rule may have a number per picture; compared are these few, under the first one's
        sampler, guidance = (None if part is None else for_picture(part, 0) for part in (asked.sampler, asked.guidance))
        prompts = None if self.prompts is None else list(self.prompts[:count])
        also: dict[str, Any] = {
            name: [None] * count if v is None else list(v[:count]) for name, v in (self.also or {}).items()
        }
        labels = None if self.labels is None else list(self.labels[:count])
        return model.sample(
            seeds, labels, prompts=prompts, also=also or None, weak=self.weak, steps=asked.steps, grid=asked.grid, batch=asked.batch,
            strict=asked.strict, brownian=asked.brownian, sampler=sampler, guidance=guidance,
        )  # fmt: skip


def quantised_as_asked(
    options: Any, model: Model, seeds: Sequence[int], labels: Sequence[int | None] | None,
    also: Mapping[str, Sequence[int | None] | None] | None, weak: Model | None, prompts: Sequence[str] | None = None,
    ranged: Sequence[str] | None = None,
) -> tuple[Model, str]:  # fmt: skip
    """The quantised model, and a line that says how far it is from the model on the first pictures that were asked for.

    Args:
        options: of `sfumato sample`.
        model: in full precision.
        seeds, labels, also, weak, prompts: as asked for.
        ranged: under which texts the ranges of int8_static are found.

    Raises:
        ValueError: for a kind that can't be used here.
    """
    static = options.quantize == "int8_static"
    if static and model.text is not None and ranged is None:
        raise ValueError(
            "quantize is int8_static, and this model knows texts, under which ranges are found; give --prompts, or take int8"
        )
    found = quantised(model, options.quantize, prompts=list(dict.fromkeys(ranged)) if static and ranged else None)
    distance: Distance = measured_distance(model, found, seeds[:MOST], _Asked(options, labels, also, weak, prompts))
    layers = found.source["quantize"]["layers"]
    return found, f"quantised ({options.quantize}, {layers} linear layers): {distance}"
