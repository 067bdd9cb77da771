"""The form: how one visitor wants pictures made, as plain values, and what they mean."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...diffusion import Model
from ...guidance import CFG, Guidance, Interval, Plain
from ...samplers import Sampler
from ...samplers.filters import Filter
from ...schedules import Grid
from ...schedules.parts import build
from ..resolve import resolve
from ..sample import numbers
from . import checked
from .limits import Limits
from .menus import FILTERS, GRIDS, OWN, RULES, SAMPLERS
from .plain_parts import plain_tree

__all__ = ["NAMES", "Asked", "Form", "asked", "read_form"]

LOG_SNR = 40.0
"""Ends of the log-SNR axis, beyond which no schedule is walked."""

_SEEDS = 2**63


@dataclass(frozen=True)
class Form:
    """What the page holds, JSON-able, in the order of its components.

    labels: classes as commands write them, "" for each in turn, "none". prompt, negative: texts. sampler, grid, rule: names of the menus,
    or parts as in Python, DDIM(eta=1). steps: how many. scale: of the rule. limited: whether it holds within `interval` only. interval:
    its ends in log-SNR, the lower first. seeds: "random", one number, or several (3,9,27-30). count: pictures. filters: names of the
    menu. threshold: of them, "" for their own. rejected: "mark" or "retry".
    """

    labels: str = ""
    prompt: str = ""
    negative: str = ""
    sampler: str = OWN
    grid: str = OWN
    steps: int = 20
    rule: str = OWN
    scale: float = 3.0
    limited: bool = False
    interval: tuple[float, float] = (-4.0, 4.0)
    seeds: str = "random"
    count: int = 8
    filters: tuple[str, ...] = ()
    threshold: str = ""
    rejected: str = "mark"


NAMES = tuple(field.name for field in fields(Form))
"""Of the form's fields, in the order of the page's components."""


def read_form(values: Sequence[object], limits: Limits) -> Form:
    """A form of what came from a browser, each value checked.

    Args:
        values: in the order of `NAMES`.
        limits: of the server.

    Raises:
        ValueError: for the first value that is none, in words.
    """
    if len(values) != len(NAMES):
        raise ValueError(f"{len(values)} values were sent; allowed: {len(NAMES)}, for {', '.join(NAMES)}")
    v = dict(zip(NAMES, values, strict=True))
    return Form(
        labels=checked.text(v["labels"], "class", 200), prompt=checked.text(v["prompt"], "prompt", limits.text),
        negative=checked.text(v["negative"], "negative prompt", limits.text), sampler=checked.text(v["sampler"], "sampler", 300),
        grid=checked.text(v["grid"], "grid", 300), steps=checked.whole(v["steps"], "steps", 1, limits.steps),
        rule=checked.text(v["rule"], "guidance", 300), scale=checked.number(v["scale"], "scale", -100, 100),
        limited=checked.flag(v["limited"], "limited"), interval=checked.interval(v["interval"], "interval", -LOG_SNR, LOG_SNR),
        seeds=checked.text(v["seeds"], "seed", 400), count=checked.whole(v["count"], "pictures", 1, limits.pictures),
        filters=tuple(checked.several(v["filters"], "filters", list(FILTERS))),
        threshold=checked.text(v["threshold"], "threshold", 40), rejected=checked.choice(v["rejected"], "rejected", ("mark", "retry")),
    )  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What a form means for a model: the arguments of `Model.sample`, checked."""

    seeds: tuple[int, ...]
    labels: list[int | None] | None
    prompts: list[str] | None
    also: dict[str, Any] | None
    steps: int
    sampler: Sampler
    grid: Grid
    guidance: Guidance
    filters: list[Filter]
    retries: int
    mark: bool

    def arguments(self) -> dict[str, Any]:
        """For `model.sample(**arguments)`, seeds included."""
        return {
            "seeds": list(self.seeds), "labels": self.labels, "prompts": self.prompts, "also": self.also, "steps": self.steps,
            "sampler": self.sampler, "grid": self.grid, "guidance": self.guidance, "filters": self.filters, "retries": self.retries,
            "mark": self.mark,
        }  # fmt: skip


@dataclass(frozen=True)
class _Parts:
    sampler: Sampler | None = None
    grid: Grid | None = None
    guidance: Guidance | None = None
    filters: Sequence[Filter] = ()


def part(said: str, kind: type, menu: dict[str, str], own: Any, name: str) -> Any:
    """The object that a menu's name, or a part as in Python, stands for.

    Args:
        said: as in the form.
        kind: what it must be.
        menu: names, and what each stands for.
        own: the model's.
        name: of the field, for messages.

    Raises:
        ValueError: for what is neither.
    """
    if said in ("", OWN):
        return own
    tree = plain_tree(menu.get(said, said), kind, name)  # a visitor's text opens no file
    key = {Sampler: "sampler", Grid: "grid", Guidance: "guidance"}[kind]
    return build(resolve({key: tree}, _Parts, ())[key], (), name)


def asked(form: Form, model: Model, limits: Limits) -> Asked:
    """What a form means for a model.

    Args:
        form: checked by `read_form`.
        model: that will be sampled.
        limits: of the server.

    Raises:
        ValueError: for what the model does not know, or parts that can't be put together, in words.
    """
    seeds = seeds_of(form.seeds, form.count, limits)
    labels = _labels(form.labels, len(seeds), model)
    texts = model.text is not None
    rule = part(form.rule, Guidance, RULES, model.guidance, "guidance") if form.rule not in _SCALED else _scaled(form)
    if form.limited and not isinstance(rule, Plain):
        low, high = form.interval
        rule = Interval(rule, low, high, unit="log_snr")
    also = {"negative": [form.negative] * len(seeds)} if texts and form.negative else None
    return Asked(
        seeds, labels, [form.prompt] * len(seeds) if texts else None, also, form.steps,
        part(form.sampler, Sampler, SAMPLERS, model.sampler, "sampler"), part(form.grid, Grid, GRIDS, model.grid, "grid"), rule,
        [], limits.retries, form.rejected == "mark",
    )  # fmt: skip


_SCALED = ("CFG",)


def _scaled(form: Form) -> Guidance:
    return CFG(form.scale)


def seeds_of(said: str, count: int, limits: Limits) -> tuple[int, ...]:
    """The seed of each picture.

    Args:
        said: "random", one number, from which the others follow, or several.
        count: of pictures.
        limits: of the server.

    Raises:
        ValueError: for what is none of these, and for seeds of 2^63 and more.
    """
    if said in ("", "random"):
        first = secrets.randbelow(2**31)
        return tuple(range(first, first + count))
    if re.fullmatch(r"\d{1,30}", said):
        first = int(said)
        if first + count > _SEEDS:
            raise ValueError(f"seed is {said}; allowed: whole numbers from 0 to 2^63 - {count}")
        return tuple(range(first, first + count))
    found = numbers(said, "seed")
    if len(found) > limits.pictures or any(seed >= _SEEDS for seed in found):
        raise ValueError(f"seed says {len(found)} numbers; allowed: at most {limits.pictures}, each below 2^63")
    return tuple(found)


def _labels(said: str, count: int, model: Model) -> list[int | None] | None:
    if model.num_classes == 0:
        return None
    if said.lower() in ("none", "null", "no class"):
        return [None for _ in range(count)]
    given = list(range(model.num_classes)) if said in ("", "each in turn") else numbers(said, "class")
    wrong = [label for label in given if label >= model.num_classes]
    if wrong:
        raise ValueError(f"class is {wrong[0]}; allowed: 0 to {model.num_classes - 1}, such as 3 or 0-9, or none")
    return [given[i % len(given)] for i in range(count)]
