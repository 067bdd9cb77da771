"""What a visitor wants compared: checked, as the command would have it, with the command that repeats it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...diffusion import Model
from ...schedules.parts import describe
from ..command import parse
from ..compare.axes import Axis, parse_axes
from ..compare.options import Compare
from ..compare.outcome import Shared
from ..compare.settings import Cell, Settings, lay_out
from ..compare.spelled import argv_of
from ..sample import own_parts
from . import checked
from .asked_for import STRICT_BATCH, Beside
from .compare_moves import MOVES, NOTHING, spell
from .form import Form, asked
from .limits import Limits
from .menus import EACH, NONE
from .shelf import Entry, Loaded

__all__ = ["FINE", "Own", "Wanted", "axes", "axis_problems", "read_own", "wanted"]

FINE = 200
"""Steps of the fine solution: a fifth of the command's, for visitors wait."""

_REAL = 2000
"""Pictures of the data that a visitor's comparison looks at."""


@dataclass(frozen=True)
class Own:
    """What the tab itself holds, in the order of its components.

    x, y: names of what moves. x_values, y_values: where to. count: pictures per cell. sets: of seeds. fine: whether the distance to the
    fine solution is measured. frechet: whether the pictures are compared with the training pictures.
    """

    x: str
    x_values: str
    y: str
    y_values: str
    count: int
    sets: int
    fine: bool
    frechet: bool


def read_own(values: Sequence[object], limits: Limits) -> Own:
    """The tab's values, each checked.

    Args:
        values: in the order of `Own`.
        limits: of the server.

    Raises:
        ValueError: for the first that is none, in words.
    """
    if len(values) != 8:
        raise ValueError(f"{len(values)} values were sent; allowed: 8")
    x, x_values, y, y_values, count, sets, fine, frechet = values
    return Own(
        checked.choice(x, "columns", list(MOVES)), checked.text(x_values, "columns", limits.text),
        checked.choice(y, "rows", [NOTHING, *MOVES]), checked.text(y_values, "rows", limits.text),
        checked.whole(count, "pictures per cell", 1, limits.pictures), checked.whole(sets, "sets of seeds", 1, 5),
        checked.flag(fine, "distance"), checked.flag(frechet, "Frechet distance"),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Wanted:
    """A comparison that was asked for.

    form, own: as the visitor left them. loaded: the model. x, y: axes, labelled as they were written. cells: laid out. base, shared: of
    all cells. options: of the command. command: that repeats it, "" where there is none. why: there is none.
    """

    form: Form
    own: Own
    loaded: Loaded
    x: Axis
    y: Axis
    cells: list[Cell]
    base: Settings
    shared: Shared
    options: Compare
    command: str
    why: str

    @property
    def key(self) -> tuple[Any, ...]:
        """Two that are equal are the same question."""
        return self.form, self.own, id(self.loaded)


def wanted(form: Form, own: Own, loaded: Loaded, limits: Limits, beside: Beside, weak: Entry | None = None) -> Wanted:
    """What the form and the tab mean for a model.

    Args:
        form, own: checked.
        loaded: the model.
        limits: of the server.
        beside: what else is known of it.
        weak: the weaker model that the form names.

    Raises:
        ValueError: for what can't be, in words.
    """
    model = loaded.model
    x, y, said = axes(form, own, model, limits, beside)
    if len(x) * len(y) > limits.cells:
        raise ValueError(
            f"these are {len(x)} by {len(y)}, {len(x) * len(y)} cells; allowed here: at most {limits.cells}; take fewer values"
        )
    options = _options(form, own, loaded, limits, beside, weak, {*x.keys, *y.keys})
    parts = {name: describe(getattr(model, name)) for name in ("sampler", "grid", "guidance")} | {"steps": model.steps}
    base = options.settings(parts)
    if weak is not None and base.weak is not None:
        base = replace(base, weak=form.weak)
    cells = lay_out(x, y, base)
    _check(cells, loaded, limits)
    options = replace(options, x=said[0], y=said[1] if y.keys else None)
    try:
        command, why = shlex.join(["sfumato", "compare", *argv_of(options)]), ""
    except ValueError as error:
        command, why = "", str(error)
    return Wanted(form, own, loaded, x, y, cells, base, options.shared(own.count), options, command, why)


def axes(form: Form, own: Own, model: Model, limits: Limits, beside: Beside) -> tuple[Axis, Axis, list[str]]:
    """Columns and rows, labelled as the visitor wrote them, and both as the command has them.

    Args:
        form, own, model, limits, beside: as of `wanted`.

    Raises:
        ValueError: for values that are none.
    """
    places = [(own.x, own.x_values, "columns"), (own.y, own.y_values, "rows")]
    spelled = [
        spell(MOVES[move], values, form, model, limits, beside, name)
        for move, values, name in places
        if move != NOTHING
    ]
    said = [text for text, _ in spelled]
    found = parse_axes(said[0], said[1] if len(said) > 1 else None)
    labelled = [
        axis if i >= len(spelled) or (labels := spelled[i][1]) is None else replace(axis, labels=labels)
        for i, axis in enumerate(found)
    ]
    return labelled[0], labelled[1], said


def axis_problems(form: Form, own: Own, model: Model, limits: Limits, beside: Beside) -> tuple[str, str]:
    """What is wrong with the values of the columns alone, and of the rows alone; "" where nothing is.

    Args:
        form, own, model, limits, beside: as of `wanted`.
    """
    found: list[str] = []
    for move, values in ((own.x, own.x_values), (own.y, own.y_values)):
        try:
            if move != NOTHING:
                axes(form, replace(own, x=move, x_values=values, y=NOTHING), model, limits, beside)
            found.append("")
        except ValueError as error:
            found.append(re.sub(r"\b(?:x|columns)( is '[^']*')?: ", "", str(error)))
    return found[0], found[1]


def _options(
    form: Form, own: Own, loaded: Loaded, limits: Limits, beside: Beside, weak: Entry | None, moved: set[str]
) -> Compare:
    """The options of the command that say the same."""
    model, entry = loaded.model, loaded.entry
    for name, text in (("prompt", form.prompt), ("negative", form.negative)):
        _no_file(text, name)
    found = asked(replace(form, count=1, seeds="0"), model, limits, beside)
    words = shlex.split(entry.command) or ["MODEL"]
    options, _ = parse([*words, "--x", "steps=1"], Compare, ("run",), base=own_parts)
    parts = {
        name: None if describe(getattr(found, name)) == describe(getattr(model, name)) else getattr(found, name)
        for name in ("sampler", "grid", "guidance")
    }
    for name in ("sampler", "grid", "guidance"):
        if name in moved:
            parts[name] = None
    labels = None if form.labels in ("", EACH) or not model.num_classes else form.labels.replace(" ", "").lower()
    if labels in ("null", "noclass"):
        labels = NONE
    weaker = None
    if found.weak is not None and weak is not None:
        weaker = (shlex.split(weak.command) or ["WEAKER"])[0]
    return replace(
        options, count=own.count, seeds=str(own.sets), first=0 if "seed" in moved else first_seed(form.seeds),
        steps=None if "steps" in moved or form.steps == model.steps else form.steps, labels=None if "label" in moved else labels,
        prompts=form.prompt or None if model.text is not None and "prompt" not in moved else None,
        also={"negative": _negative(form, model)} if found.also else None, filters=tuple(found.filters),
        retries=limits.retries, mark=found.mark, brownian=found.brownian, strict=found.strict,
        batch=STRICT_BATCH if found.strict else options.batch, fine_steps=FINE if own.fine else 0, frechet=own.frechet,
        device=options.device if options.device.partition(":")[0] == model.device.type else model.device.type,
        weak=weaker, show=min(own.count, 4),
        reference_count=_REAL if own.frechet else options.reference_count, **parts,
    )  # fmt: skip


def _negative(form: Form, model: Model) -> str | int:
    """As a command reads it back: a number is one."""
    if model.text is not None:
        return form.negative
    if form.negative == EACH:
        return f"0-{model.num_classes - 1}"
    return int(form.negative) if form.negative.isdecimal() else form.negative.replace(" ", "")


def _no_file(text: str, name: str) -> None:
    if text.strip().strip("\"'").lower().endswith(".txt"):
        raise ValueError(
            f"{name} ends in .txt, which a comparison takes for a file, and no page may name files; end it another way"
        )


def first_seed(said: str) -> int:
    """The first of the seeds, which follow one another in a comparison.

    Args:
        said: as in the form; "random" is 0, so that cells are found again.

    Raises:
        ValueError: for several that do not follow one another.
    """
    if said in ("", "random"):
        return 0
    found = re.fullmatch(r"(\d{1,19})(?:-\d{1,19})?", said)
    if found is None or int(found[1]) >= 2**62:
        raise ValueError(
            f"seed is {said!r}; a comparison takes one number below 2^62, from which the others follow, or random, which is 0 here"
        )
    return int(found[1])


def _check(cells: Sequence[Cell], loaded: Loaded, limits: Limits) -> None:
    """What the server does not do for visitors.

    Raises:
        ValueError: naming it.
    """
    for cell in cells:
        s = cell.settings
        if s.steps is not None and s.steps > limits.steps:
            raise ValueError(f"steps is {s.steps}; allowed here: at most {limits.steps}")
        if s.prompts is not None:
            _no_file(s.prompts, "prompt")
            if len(s.prompts) > limits.text:
                raise ValueError(f"a prompt has {len(s.prompts):,} characters; allowed: at most {limits.text:,}")
        if not loaded.entry.run and (s.checkpoint is not None or s.ema is not True):
            raise ValueError("checkpoints and averages are those of runs of our own, and this model is none")
