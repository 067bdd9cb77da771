"""The form: how one visitor wants pictures made, as plain values, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...diffusion import Model
from ...guidance import Guidance
from ...samplers import Sampler
from ...samplers.filters import Filter
from ...schedules import Grid
from ...schedules.parts import build
from ..resolve import resolve
from . import checked
from .asked_for import LOG_SNR, Asked, Beside
from .limits import Limits
from .menus import EACH, GRIDS, OWN, RULES, SAMPLERS
from .plain_parts import check_counts, check_said, example, plain_tree
from .said import check_known, meant
from .slots import labels_of, seeds_of
from .steering import asks, filters_of, limited_to, steered_from, with_scale

__all__ = ["LOG_SNR", "NAMES", "Asked", "Beside", "Form", "asked", "chosen", "read_form"]


@dataclass(frozen=True)
class Form:
    """What the page holds, JSON-able, in the order of its components.

    labels: classes as commands write them, "each in turn", "none". prompt: a text. negative: a text, or a class, to steer away from; "":
    none. sampler, grid, rule: names of the menus, or parts as in Python, DDIM(eta=1). steps: how many. scale: of a rule of the menu. weak:
    a model of the shelf for rules that steer away from a weaker one; "": none. limited: whether the rule holds within `interval` only.
    interval: its ends in log-SNR, the lower first; an end of the axis is none. seeds: "random", one number, or several (3,9,27-30).
    count: pictures. filters: names of the menu or of the model's calibrations, or parts. threshold: of those of the menu, in their order,
    with commas between; "": they only score. rejected: "mark" or "retry". brownian: one Brownian motion per picture. strict: the same
    to the last bit.
    """

    labels: str = EACH
    prompt: str = ""
    negative: str = ""
    sampler: str = OWN
    grid: str = OWN
    steps: int = 20
    rule: str = OWN
    scale: float = 3.0
    weak: str = ""
    limited: bool = False
    interval: tuple[float, float] = (-4.0, 4.0)
    seeds: str = "random"
    count: int = 8
    filters: tuple[str, ...] = ()
    threshold: str = ""
    rejected: str = "mark"
    brownian: bool = False
    strict: bool = False


NAMES = tuple(each.name for each in fields(Form))
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
        labels=checked.text(v["labels"], "class", 400), prompt=checked.text(v["prompt"], "prompt", limits.text),
        negative=checked.text(v["negative"], "negative", limits.text), sampler=checked.text(v["sampler"], "sampler", 300),
        grid=checked.text(v["grid"], "grid", 300), steps=checked.whole(v["steps"], "steps", 1, limits.steps),
        rule=checked.text(v["rule"], "guidance", 300), scale=checked.number(v["scale"], "scale", -100, 100),
        weak=checked.text(v["weak"], "weaker model", 200), limited=checked.flag(v["limited"], "only within an interval"),
        interval=checked.interval(v["interval"], "interval", -LOG_SNR, LOG_SNR),
        seeds=checked.text(v["seeds"], "seed", 2000), count=checked.whole(v["count"], "pictures", 1, limits.pictures),
        filters=_filters(v["filters"]), threshold=checked.text(v["threshold"], "thresholds", 200),
        rejected=checked.choice(v["rejected"], "rejected pictures", ("mark", "retry")),
        brownian=checked.flag(v["brownian"], "one Brownian motion"), strict=checked.flag(v["strict"], "the same to the last bit"),
    )  # fmt: skip


def _filters(value: object) -> tuple[str, ...]:
    given = [] if value is None else value
    if not isinstance(given, list | tuple) or len(given) > 8:
        raise ValueError("filters are no list of at most 8 names; choose them in the menu")
    return tuple(checked.text(each, "filters", 300) for each in given)


@dataclass(frozen=True)
class _Parts:
    sampler: Sampler | None = None
    grid: Grid | None = None
    guidance: Guidance | None = None
    filter: Filter | None = None


def part(said: str, kind: type, menu: Mapping[str, str], own: Any, name: str) -> Any:
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
    said = meant(said, menu)
    check_said(said, name)  # a visitor's text opens no file
    check_known(said, kind, menu, name)
    key = {Sampler: "sampler", Grid: "grid", Guidance: "guidance", Filter: "filter"}[kind]
    try:
        tree = plain_tree(menu.get(said, said), kind, name)
        made = build(resolve({key: tree}, _Parts, ())[key], (), name)
    except ValueError as error:  # class paths are for the command line
        words = str(error).replace(", or a class path", "")
        raise ValueError(words.replace("as in DDIM(eta=1)", f"as in {example(name)}")) from None
    check_counts(made, name)
    return made


def chosen(form: Form, model: Model) -> tuple[Sampler, Grid, Guidance]:
    """Sampler, grid and rule of a form, the rule before it is limited to an interval or given something to steer away from.

    Raises:
        ValueError: for what is no such part, in words.
    """
    rule = with_scale(part(form.rule, Guidance, RULES, model.guidance, "guidance"), meant(form.rule, RULES), form.scale)
    return (
        part(form.sampler, Sampler, SAMPLERS, model.sampler, "sampler"), part(form.grid, Grid, GRIDS, model.grid, "grid"), rule
    )  # fmt: skip


def asked(form: Form, model: Model, limits: Limits, beside: Beside | None = None) -> Asked:
    """What a form means for a model.

    Args:
        form: checked by `read_form`.
        model: that will be sampled.
        limits: of the server.
        beside: what else is known of it, see `facts.beside`; None: nothing, so that calibrations and weaker models are refused.

    Raises:
        ValueError: for what the model does not know, or parts that can't be put together, in words.
    """
    beside = beside or Beside()
    seeds = seeds_of(form.seeds, form.count, limits)
    labels = None if model.num_classes == 0 else labels_of(form.labels, len(seeds), model.num_classes, "class")
    sampler, grid, rule = chosen(form, model)
    also = None
    if form.negative and (model.text is not None or model.num_classes):
        rule = steered_from(rule, "negative")
        told = [form.negative] * len(seeds)
        also = {
            "negative": told
            if model.text is not None
            else labels_of(form.negative, len(seeds), model.num_classes, "negative class")
        }
    if form.limited:
        rule = limited_to(rule, *form.interval, LOG_SNR)
    weak = None
    if asks(rule, "weak"):
        if not form.weak or beside.weak is None:
            raise ValueError(
                "weaker model: none is chosen, and this guidance steers away from one; choose a model of the same pictures that is smaller "
                "or was trained less"
            )
        weak = beside.weak(form.weak)
    return Asked(
        seeds, labels, [form.prompt] * len(seeds) if model.text is not None else None, also, form.steps, sampler, grid, rule,
        filters_of(form.filters, form.threshold, beside.calibrations, lambda said, menu: part(said, Filter, menu, None, "filters")),
        limits.retries, form.rejected == "mark", weak, form.brownian, form.strict,
    )  # fmt: skip
