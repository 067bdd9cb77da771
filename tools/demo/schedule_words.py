"""What is drawn of a schedule, in words: for those who read, for those who can't see, for a config and for the command line."""

from __future__ import annotations

import html
import inspect
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import yaml

from ...schedules import Schedule
from ...schedules.parts import describe, find_class, in_short
from ..inspect_words import said_of, warnings_of
from ..inspected import Parts
from ..resolve import fields_of
from .schedule_choice import Turned

__all__ = ["about", "as_command", "as_yaml", "sentences"]

LONGEST = 4000
"""Characters of a command that somebody may still want to have."""

_OURS = ("sfumato.schedules.", "sfumato.samplers.")
_MUST = inspect.Parameter.empty


def about(panel: str, curves: Mapping[str, Any], parts: Parts) -> str:
    """A panel in one sentence with its numbers.

    Args:
        panel: one of schedule_figure.PANELS.
        curves: of inspect.curves.
        parts: that are drawn.
    """
    log_snr, grid = curves["log_snr"], curves["grid"]["log_snr"]
    also = "".join(f"; beside it {other['name']}" for other in curves["also"])
    steps = f"{len(grid) - 1} steps"
    if panel == "log-SNR":
        return (
            f"log-SNR from {_number(log_snr[0])} at data to {_number(log_snr[-1])} at noise in {steps} of {in_short(parts.grid)}, which "
            f"begin at {_number(grid[0])}{also}"
        )
    if panel == "alpha and sigma":
        a, s = curves["alpha"], curves["sigma"]
        return (
            f"over t from data to noise alpha goes from {_number(a[0])} to {_number(a[-1])} and sigma from {_number(s[0])} to "
            f"{_number(s[-1])}, with {steps} marked"
        )
    if panel == "density":
        at, value = curves["density"]["log_snr"], curves["density"]["value"]
        total, run, found = sum(value), 0.0, []
        for share in (0.05, 0.5, 0.95):
            run, k = 0.0, 0
            while k < len(value) - 1 and run + value[k] < share * total:
                run, k = run + value[k], k + 1
            found.append(at[k])
        return (
            f"training draws half of its noise levels above log-SNR {_number(found[1])}, and nine of ten between {_number(found[0])} and "
            f"{_number(found[2])} ({type(parts.density).__name__}){also}"
        )
    w = curves["weighting"]
    ends = [f"on {name} from {_number(w[key][0])} to {_number(w[key][-1])}" for key, name in _WEIGHTS]
    return f"weight of the squared error ({w['name']}), from log-SNR -15 to 15: {', '.join(ends)}; the network's output is {w['row']}"


_WEIGHTS = (("output", "the output"), ("eps", "eps"), ("x0", "x0"))


def _number(value: float) -> str:
    if math.isinf(value):
        return "infinity" if value > 0 else "minus infinity"
    return f"{value:.3g}"


def sentences(turned: Turned) -> str:
    """Warnings with what to do, and what there is to know beside, as HTML.

    Args:
        turned: what is drawn.
    """
    problems = warnings_of(turned.parts, turned.elements)
    notes = "".join(f'<li class="sf-note">{_lead(problem)}</li>' for problem in problems)
    found = (
        f'<ul class="sf-schedule-notes" aria-label="warnings">{notes}</ul>'
        if problems
        else '<p class="sf-note sf-info">Nothing wrong found.</p>'
    )
    grid = turned.parts.grid(turned.parts.schedule, turned.parts.sampling_steps)
    said = [
        *said_of(turned.parts, turned.elements, turned.assumed),
        f"the grid's {len(grid) - 1} steps begin at log-SNR {_number(float(grid[0].log_snr))}, the last begins at "
        f"{_number(float(grid[-2].log_snr))}",
    ]
    rest = "".join(f"<li>{html.escape(line[0].upper() + line[1:])}.</li>" for line in said)
    return f'{found}<ul class="sf-schedule-facts">{rest}</ul>'


def _lead_of(problem: str) -> tuple[str, str]:
    """A warning as what it is about, and the rest with what to do."""
    lead, colon, rest = problem.partition(": ")
    return (lead, rest) if colon and len(lead) <= 90 else (problem, "")


def _lead(problem: str) -> str:
    lead, rest = _lead_of(problem)
    lead, rest = (part[:1].upper() + part[1:] for part in (lead, rest))
    end = "" if rest.endswith((".", "?")) or not rest else "."
    return f"<strong>{html.escape(lead)}.</strong> {html.escape(rest)}{end}".rstrip()


def _described(parts: Parts) -> dict[str, Any]:
    return {field.name: describe(getattr(parts, field.name)) for field in fields(Parts)}


def as_yaml(parts: Parts) -> str:
    """The keys of a config that give these parts."""
    return yaml.safe_dump(_described(parts), sort_keys=False, width=100, default_flow_style=None)


def as_command(turned: Turned, base: str, own: Parts, elements: int) -> str:
    """The command that draws the same; nothing, where no command line should be as long.

    Args:
        turned: what is drawn.
        base: words for the config that is begun with.
        own: the parts of that config.
        elements: numbers per channel of its samples.
    """
    words = ["sfumato", "inspect", *shlex.split(base)]
    ours, theirs = _described(turned.parts), _described(own)
    for key, value in ours.items():
        if value != theirs[key]:
            words += _words(key, value)
    for schedule in turned.also:
        words += _also(schedule)
    if turned.elements != elements:
        words += ["--elements", str(turned.elements)]
    command = shlex.join(words)
    return command if len(command) <= LONGEST else ""


def _also(schedule: Schedule) -> list[str]:
    return _words("also", describe(schedule))


def _words(key: str, value: Any) -> list[str]:
    """A value as options: a part by its short name, its arguments dotted."""
    if isinstance(value, Mapping):
        path = str(value["class_path"])
        words = [f"--{key}", path.rpartition(".")[2] if path.startswith(_OURS) else path]
        # a part that is named begins with its own defaults
        usual = {name: describe(f.default) for name, f in fields_of(find_class(path)).items() if f.default is not _MUST}
        for name, argument in (value.get("init_args") or {}).items():
            if name not in usual or argument != usual[name]:
                words += _words(f"{key}.{name}", argument)
        return words
    return [f"--{key}", _plain(value)]


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_in_list(v) for v in value) + "]"
    return str(value)


def _in_list(value: Any) -> str:
    """YAML writes infinity in its own way."""
    return {math.inf: ".inf", -math.inf: "-.inf"}.get(value, str(value))
