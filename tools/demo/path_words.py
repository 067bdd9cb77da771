"""A path in words: what was walked, what is told at each step, and what it came to."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from ...guidance import CFG, Guidance, Interval, Plain
from ...schedules.parts import describe
from ..compare.words import brief
from .form import Asked, Form
from .menus import GRIDS, SAMPLERS
from .path import Path, Shot, decided

__all__ = ["heading", "readout", "say", "sentences", "short"]

ANY = "This path: "
SHARE = 0.1
"""How near to the finished picture counts as decided, as a share of its root mean square."""


def short(value: float | None) -> str:
    """A number in three digits, with a minus that is one; what is not there is a dash."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}".replace("-", "−")


def heading(one: Asked, form: Form) -> str:
    """What is walked, in a line; parts of the menus by the menus' names.

    Args:
        one: what was asked for, of one picture.
        form: that asked for it.
    """
    told = "" if one.labels is None else "no class" if one.labels[0] is None else f"class {one.labels[0]}"
    said = f"“{one.prompts[0]}”" if one.prompts and one.prompts[0] else ""
    sampler = form.sampler if form.sampler in SAMPLERS else brief(describe(one.sampler))
    grid = form.grid if form.grid in GRIDS else brief(describe(one.grid))
    steps = f"{one.steps} step{'s' * (one.steps != 1)}"
    words = [f"seed {one.seeds[0]}", told, said, sampler, f"{grid} grid", steps, _rule(one.guidance)]
    return html.escape(" · ".join(word for word in words if word))


def _rule(rule: Guidance) -> str:
    if isinstance(rule, Plain):
        return "unguided"
    if isinstance(rule, Interval) and rule.unit == "log_snr":
        low, high = (
            short(math.copysign(math.inf, sign) if v is None else v) for v, sign in ((rule.low, -1), (rule.high, 1))
        )
        return f"{_rule(rule.rule)} within log-SNR {low} to {high}"
    return (
        f"CFG {short(rule.scale)}"
        if isinstance(rule, CFG) and isinstance(rule.scale, float | int)
        else brief(describe(rule))
    )


def say(path: Path, index: int) -> str:
    """Where a shot stands."""
    shot = path.shots[index]
    at = f"log-SNR {short(float(shot.level.log_snr))}"
    if index == path.steps:
        return f"finished picture, after {path.steps} step{'s' * (path.steps != 1)}"
    return f"step {index + 1} of {path.steps}, {at}"


def readout(paths: Sequence[Path], index: int) -> list[list[str]]:
    """Rows of the table beside the large frame: what, then a value per path."""
    each = [path.shots[index] for path in paths]
    level = each[0].level
    ends = index == paths[0].steps
    rows = [
        ["t", short(float(level.t))], ["log-SNR", short(float(level.log_snr))], ["sigma / alpha", short(float(level.ratio))],
        ["evaluations so far", *(f"{shot.evaluations}" for shot in each)],
    ]  # fmt: skip
    if any(shot.pull is not None for shot in paths[0].shots):
        rows.append(["guided at this step", *(_steered(shot, ends) for shot in each)])
        rows.append(["pull of the guidance", *(short(shot.pull.size if shot.pull else None) for shot in each)])
    rows.append(["size of x0", *(short(shot.size) for shot in each)])
    rows.append(["change of x0", *(short(shot.change) for shot in each)])
    left = [short(100 * path.left[index]) + " %" if path.left else "–" for path in paths]
    rows.append(["distance to the end", *left])
    for known in paths[0].scores:
        if known.speaks:
            found = [next((s.so_far for s in path.scores if s.name == known.name), []) for path in paths]
            rows.append([known.name, *(short(f[min(index, len(f) - 1)] if f else None) for f in found)])
    return rows


def _steered(shot: Shot, ends: bool) -> str:
    if ends:
        return "–"
    return "yes" if shot.pull is not None and shot.pull.steered else "no"


def sentences(paths: Sequence[Path], retry: bool, stopped: bool) -> list[str]:
    """What the paths came to, as HTML.

    Args:
        paths: the guided one first.
        retry: whether the form asks for rejected pictures to be tried again.
        stopped: whether there is no end.
    """
    found: list[str] = []
    for path in paths:
        name = f"{html.escape(path.name.capitalize())}: " if len(paths) > 1 else ""
        seconds = f"{path.evaluations} evaluations of the network in {path.seconds:.2f} s."
        if not path.left:
            where = "stopped after" if stopped else "at"
            found.append(f"{name or ANY}{where} step {len(path.shots)} of {path.steps}, {seconds}")
            continue
        found.append(f"{name or ANY}{_decision(path)} {seconds}")
        found.extend(f"{name or ANY}{html.escape(words)}" for words in _verdicts(path, retry and path is paths[0]))
    if any(path.left for path in paths):
        found.append(
            f'<span class="sf-path-soft">Decided: predicted x0 is from there on within {SHARE:.0%} of the finished picture, root mean '
            "square of the difference over that of the picture itself. It says when the picture stood, not why.</span>"
        )
    return found


def _decision(path: Path) -> str:
    at = decided(path, SHARE)
    if at is None or at == path.steps:
        return "not decided before the last step: x0 was still on its way."
    if at == 0:
        return "decided from the first step on."
    return f"decided from step {at + 1} of {path.steps} on (log-SNR {short(float(path.shots[at].level.log_snr))})."


def _verdicts(path: Path, retry: bool) -> list[str]:
    found: list[str] = []
    for known in path.scores:
        ends = (
            "" if known.speaks else " (it judges the finished picture only, and its evaluations are in the last step's)"
        )
        again = (
            "; the Sample tab would try this seed again, and this is its first attempt"
            if retry and not known.kept
            else ""
        )
        found.append(
            f"filter {known.name} {'keeps' if known.kept else 'rejects'} it with a score of {short(known.score)}{ends}{again}."
        )
    return found
