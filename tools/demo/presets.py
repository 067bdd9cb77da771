"""Ways of sampling with a name: each fills the form, and says in a sentence why one would want it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .facts import Facts
from .menus import OWN

__all__ = ["CUSTOM", "CUSTOM_WHY", "OWN_PRESET", "Preset", "fits", "presets_for"]

OWN_PRESET = "The model's own"
CUSTOM, CUSTOM_WHY = "Custom", "Your own settings."

# sigma / alpha from 0.28 to 2.90 (EDM2-S) and to 5.42 (SDXL), in log-SNR
_INTERVAL, _WIDE = (-2.13, 2.55), (-3.38, 2.55)


@dataclass(frozen=True)
class Preset:
    """A name, a sentence on why, and what it puts into the form; of fields that it does not name, the model's own.

    values: by the names of `Form`.
    """

    name: str
    why: str
    values: dict[str, Any] = field(default_factory=dict)

    def filling(self, facts: Facts) -> dict[str, Any]:
        """Every field that a preset decides on."""
        own = {
            "sampler": OWN, "grid": OWN, "steps": facts.steps, "rule": OWN, "limited": False, "filters": [], "threshold": "",
            "rejected": "mark",
        }  # fmt: skip
        return {**own, **self.values}


def presets_for(facts: Facts, most_steps: int = 250) -> list[Preset]:
    """The presets that fit a model, its own way first.

    Args:
        facts: of the model.
        most_steps: that the server allows.
    """
    steps = min(facts.steps, most_steps)  # the model's own way is always there
    few = f" (its own {facts.steps} steps are more than this server makes)" if steps < facts.steps else ""
    found = [
        Preset(
            OWN_PRESET, f"As it was made to be sampled: {facts.sampler}, {steps} steps, guidance {facts.rule}{few}.",
            {"steps": steps},
        ),
        Preset(
            "Fast: 8 steps",
            "A multistep method of order 2 costs one evaluation a step and is close after few of them (DPM-Solver++, Lu et al. 2022).",
            {"sampler": "DPM++ 2M", "grid": "Simple (trailing)", "steps": 8},
        ),
        Preset(
            "Careful: 50 steps",
            "Heun's method asks twice a step and leaves little error; EDM's grid puts steps where errors are made (Karras et al. 2022).",
            {"sampler": "Heun", "grid": "Karras", "steps": 50},
        ),
        *_guided(facts),
        *_filtered(facts),
    ]  # fmt: skip
    return [each for each in found if each.filling(facts)["steps"] <= most_steps]


def fits(filling: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether a form still says what a preset put into it.

    Args:
        filling: of the preset.
        values: of the form, as the page holds them.
    """
    unused = set() if filling.get("filters") else {"threshold", "rejected"}  # they mean nothing without a filter
    return all(_same(value, values.get(name)) for name, value in filling.items() if name not in unused)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, bool | str) or not isinstance(b, int | float):
        return a == b
    return math.isclose(a, b, abs_tol=1e-6)


def _guided(facts: Facts) -> list[Preset]:
    """Presets of a model that can be steered away from no condition."""
    if not (facts.guidable and facts.null):
        return []
    wide = facts.texts or not facts.pixels
    strong = 7.5 if facts.texts else 4.0
    usual = Preset(
        "CFG 7.5, DPM++ 2M Karras", "What most people sample Stable Diffusion with: 20 steps on the grid of Karras et al. 2022.",
        {"sampler": "DPM++ 2M", "grid": "Karras", "steps": 20, "rule": "CFG", "scale": 7.5},
    )  # fmt: skip
    rescaled = Preset(
        "Rescaled, for zero terminal SNR",
        "A model that starts from pure noise overexposes under strong guidance; the spread is pulled back, and the grid starts at the top "
        "(Lin et al. 2024).",
        {"grid": "Simple (trailing)", "rule": "Rescaled CFG", "scale": strong},
    )
    pixels = Preset(
        "Strong in pixels", "What guidance drives out of the range of pictures is moved back (dynamic thresholding, Saharia et al. 2022).",
        {"rule": "Dynamic thresholding", "scale": strong},
    )  # fmt: skip
    return [
        *([usual] if facts.texts and facts.row != "Flow" else []),
        Preset(
            "Limited interval",
            "Guidance in the middle of the noise levels only: more variety, and fewer evaluations (Kynkäänniemi et al. 2024, with "
            f"{'SDXL' if wide else 'EDM2-S'}'s interval).",
            {"rule": "CFG", "scale": strong, "limited": True, "interval": list(_WIDE if wide else _INTERVAL)},
        ),
        Preset(
            "CFG++ in 12 steps", "Noise is put back as the unguided model sees it, so that few steps stay on the path (Chung et al. 2024).",
            {"sampler": "DDIM", "grid": "Simple (trailing)", "steps": 12, "rule": "CFG++", "scale": 0.6},
        ),
        Preset(
            "Strong but tame (APG)", "The part of guidance that only saturates colours is left out (Sadat et al. 2024).",
            {"rule": "APG", "scale": 10.0 if facts.texts else 5.0},
        ),
        Preset(
            "Few steps under strong guidance", "Momentum keeps a fast method stable where guidance is steep (Wizadwongsa et al. 2024).",
            {"sampler": "GHVB", "grid": "Simple (trailing)", "steps": 15, "rule": "CFG", "scale": strong},
        ),
        *([rescaled] if facts.low == -math.inf and facts.row == "V" else []),
        *([pixels] if facts.pixels else []),
    ]  # fmt: skip


def _filtered(facts: Facts) -> list[Preset]:
    if facts.filtered:
        return [Preset(
            "Filtered", "Pictures that the calibrated filter rejects are made again, until it keeps one (`sfumato calibrate`).",
            {"filters": [facts.filtered[0]], "rejected": "retry"},
        )]  # fmt: skip
    if facts.late < 2:  # the filter looks at these
        return []
    return [Preset(
        "Scored", "How much each picture still changed its mind late, below it; nothing is rejected (Aithal et al. 2024).",
        {"filters": ["trajectory variance"]},
    )]  # fmt: skip
