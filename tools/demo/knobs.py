"""What of a forward process can be turned on the page, and how far: one table, and what a browser is told of it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from ...samplers import Sampler
from ...schedules import Density, Grid, Row, Schedule, Weighting
from ..parts import choices
from ..resolve import fields_of

__all__ = ["INF", "KINDS", "KNOBS", "SAME", "WRAPPERS", "Knob", "Listed", "Nested", "classes_of", "menu", "names_of"]

INF = math.inf
SAME = "the schedule above"
"""Stands for the schedule that is drawn, where a part wants one."""

WRAPPERS = ("ZeroTerminalSNR", "Truncated", "Shifted", "InputScaled")
"""Schedules around a schedule, the innermost first: zero terminal SNR is made within, everything else around it."""

KINDS: dict[str, type] = {
    "schedule": Schedule, "row": Row, "density": Density, "weighting": Weighting, "grid": Grid, "sampler": Sampler,
}  # fmt: skip
"""Parts that have a menu."""


@dataclass(frozen=True)
class Knob:
    """A number that can be turned.

    least, most: ends. log: whether equal ways are equal ratios. whole: whether it is a whole number. off: what is said where nothing is
    set, "" where something must be. at: what is meant then. start: where it begins once it is set; None: at the default.
    """

    least: float
    most: float
    log: bool = False
    whole: bool = False
    off: str = ""
    at: float | None = None
    start: float | None = None


@dataclass(frozen=True)
class Listed:
    """Numbers in a line of text. start: at first. most: how many."""

    start: tuple[float, ...]
    most: int = 64


@dataclass(frozen=True)
class Nested:
    """A part within a part. kind: of `KINDS`. start: the name at first, or `SAME`."""

    kind: str
    start: str


_OWN = "the schedule's"
_STD = Knob(0.05, 5, log=True)
_ENTRIES = Knob(2, 2000, log=True, whole=True, off="the table's", start=1000)
_LOW = Knob(1e-3, 1, log=True, off=_OWN, start=0.01)
_HIGH = Knob(1, 1000, log=True, off=_OWN, start=80)

KNOBS: dict[str, dict[str, Knob | Listed | Nested]] = {
    "BetaTable": {
        "steps": Knob(25, 2000, log=True, whole=True), "low": Knob(1e-5, 0.1, log=True, off="the recipe's", start=1e-4),
        "high": Knob(1e-3, 0.99, log=True, off="the recipe's", start=0.02), "s": Knob(0, 0.2),
    },
    "Cauchy": {"mean": Knob(-8, 8), "scale": _STD},
    "Cosine": {"s": Knob(0, 0.2)},
    "CosineGamma": {"start": Knob(0, 0.95), "end": Knob(0.05, 1), "tau": Knob(0.1, 10, log=True)},
    "CosineShifted": {
        "size": Knob(8, 2048, log=True), "noisy": Knob(8, 2048, log=True), "clean": Knob(8, 2048, log=True, off="as noisy", start=64),
    },
    "Laplace": {"mean": Knob(-8, 8), "scale": _STD},
    "LinearBeta": {"low": Knob(1e-3, 5, log=True), "high": Knob(1, 60)},
    "LinearGamma": {},
    "RectifiedFlow": {},
    "ScaledLinearBeta": {"low": Knob(1e-2, 5, log=True), "high": Knob(1, 60)},
    "Sigmoid": {"start": Knob(-10, 10), "end": Knob(-10, 10), "tau": Knob(0.1, 5, log=True)},
    "Table": {"log_snr": Listed(tuple(range(10, -11, -1)))},
    "VarianceExploding": {
        "low": Knob(5e-4, 1, log=True), "high": Knob(1, 1000, log=True), "rho": Knob(1, 20, off="infinite", at=INF, start=7),
    },
    "ZeroTerminalSNR": {},
    "Truncated": {
        "log_snr_min": Knob(-30, 10, off="its end", at=-INF, start=-9), "log_snr_max": Knob(-10, 30, off="its end", at=INF, start=9),
    },
    "Shifted": {"shift": Knob(0.1, 20, log=True)},
    "InputScaled": {"scale": Knob(0.05, 4, log=True)},
    "EDM": {"data_std": _STD},
    "Eps": {}, "Flow": {}, "Score": {}, "V": {}, "X0": {},
    "Negative": {"row": Nested("row", "V")},
    "LogNormal": {"mean": Knob(-5, 5), "std": _STD},
    "LogSNRImportance": {"like": Nested("schedule", "Laplace")},
    "LogitNormal": {"mean": Knob(-4, 4), "std": _STD},
    "LossSecondMoment": {
        "steps": _ENTRIES, "history": Knob(1, 100, whole=True), "uniform": Knob(1e-4, 1, log=True),
    },
    "Uniform": {},
    "UniformEntries": {"steps": _ENTRIES},
    "Constant": {"row": Nested("row", "Eps")},
    "Debiased": {"most": Knob(1, 1e6, log=True)},
    "EDMWeighting": {"data_std": _STD},
    "ELBO": {"schedule": Nested("schedule", SAME)},
    "MinSNR": {"gamma": Knob(0.1, 100, log=True)},
    "P2": {"k": Knob(0.01, 100, log=True), "gamma": Knob(0, 4)},
    "SigmoidWeighting": {"bias": Knob(-10, 10)},
    "SoftMinSNR": {"gamma": Knob(0.1, 100, log=True)},
    "Explicit": {"values": Listed((1, 0.8, 0.6, 0.4, 0.2), 250)},
    "Exponential": {"low": _LOW, "high": _HIGH},
    "Karras": {"low": _LOW, "high": _HIGH, "rho": Knob(0.5, 20)},
    "Leading": {"offset": Knob(0, 10, whole=True)},
    "Linspace": {},
    "LogSNRUniform": {"low": Knob(-20, 5, off=_OWN, start=-8), "high": Knob(-5, 20, off=_OWN, start=8)},
    "Trailing": {},
}  # fmt: skip
"""By class and argument; what chooses among words, or is true or false, says so in its signature and is not here."""


@cache
def classes_of(kind: str) -> Mapping[str, type]:
    """Our classes of a kind, by name; looked for once, since that takes longer than all the rest of reading what was turned.

    Args:
        kind: of `KINDS`.
    """
    return choices(KINDS[kind])


def names_of(kind: str, nested: bool = False) -> list[str]:
    """The classes that a menu offers.

    Args:
        kind: of `KINDS`.
        nested: whether it stands within another part, where there is no part within it again.
    """
    left_out = WRAPPERS if kind == "schedule" else ("Negative",) if nested else ()
    return [name for name in classes_of(kind) if name not in left_out]


def menu() -> dict[str, Any]:
    """What the browser needs to draw the controls, as JSON: the classes of every kind, and of each class what can be turned."""
    classes = {
        name: _controls(name, cls) for kind in KINDS if kind != "sampler" for name, cls in classes_of(kind).items()
    }
    about = {name: _sentence(cls) for kind in KINDS for name, cls in classes_of(kind).items()}
    return {
        "kinds": {kind: names_of(kind) for kind in KINDS}, "nested": {kind: names_of(kind, True) for kind in ("schedule", "row")},
        "wrappers": list(WRAPPERS), "classes": classes, "about": about, "same": SAME,
    }  # fmt: skip


def _sentence(cls: type) -> str:
    """The first sentence of what a class says of itself."""
    text = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    first = re.split(r"(?<!\.)\. (?=[A-Z])", text)[0].rstrip(".")
    first = re.sub(r": \([^()]*\)$", "", first)  # a row's numbers
    return first if len(first) <= 180 else f"{first[:179]}…"


def _controls(name: str, cls: type) -> list[dict[str, Any]]:
    """The controls of a class, in the order of its arguments."""
    found: list[dict[str, Any]] = []
    for argument, (hint, default) in fields_of(cls).items():
        if argument == "schedule" and name in WRAPPERS:
            continue
        knob = KNOBS[name].get(argument)
        control: dict[str, Any] = {"name": argument}
        if isinstance(knob, Nested):
            control |= {"type": "part", "kind": knob.kind, "start": knob.start}
        elif isinstance(knob, Listed):
            control |= {"type": "list", "start": ", ".join(f"{v:g}" for v in knob.start)}
        elif isinstance(knob, Knob):
            off = knob.at == default if knob.off else False
            start = knob.start if knob.start is not None else default
            control |= {
                "type": "number", "least": knob.least, "most": knob.most, "log": knob.log, "whole": knob.whole, "off": knob.off,
                "start": start, "begins": None if off else start,
            }  # fmt: skip
        elif hint is bool:
            control |= {"type": "switch", "start": default}
        elif get_origin(hint) is Literal:
            control |= {"type": "choice", "start": default, "words": list(get_args(hint))}
        else:
            raise ValueError(f"{name}.{argument} has no knob; give it one in KNOBS")
        found.append(control)
    return found
