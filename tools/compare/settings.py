"""What a cell of a comparison samples with: the shared settings, with those of its place put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...guidance import Guidance
from ...samplers import Sampler
from ...samplers.filters import Filter
from ...schedules import Grid
from ...schedules.parts import build, find_class
from ..parts import part_of, part_type
from ..resolve import fields_of, resolve
from ..spelling import UsageError, did_you_mean
from .axes import PARTS, Axis
from .syntax import value_tree

__all__ = ["Cell", "Settings", "lay_out"]


@dataclass(frozen=True)
class _Parts:
    """The parts of a cell, for their checks."""

    sampler: Sampler | None = None
    grid: Grid | None = None
    guidance: Guidance | None = None
    filters: Sequence[Filter] = ()


@dataclass(frozen=True)
class Settings:
    """How a cell is sampled.

    sampler, grid, guidance: descriptions {class_path, init_args}; None: the model's own, which is not known yet. filters: likewise.
    steps: None: the model's own. first: the first seed. labels: as on the command line; None: the classes in turn. prompts: a text, or a
    file of them. also: of further branches. checkpoint: step of a run, None: the newest. ema: which average. weak: the run of a weaker
    network. weak_step: its checkpoint.
    """

    sampler: Any = None
    grid: Any = None
    guidance: Any = None
    filters: Sequence[Any] = ()
    steps: int | None = None
    first: int = 0
    labels: str | None = None
    prompts: str | None = None
    also: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: int | None = None
    ema: bool | float = True
    weak: str | None = None
    weak_step: int | None = None

    def parts(self, allow: Sequence[str] = ()) -> dict[str, Any]:
        """The objects: sampler, grid, guidance, filters."""
        return {
            **{name: build(getattr(self, name), allow, name) for name in ("sampler", "grid", "guidance")},
            "filters": build(list(self.filters), allow, "filters"),
        }


@dataclass(frozen=True)
class Cell:
    """A place of a comparison.

    row, column: from 0. said: what stands at it on each axis, as it was written. settings: how it is sampled. problem: why it can't be,
    "" where nothing is known against it.
    """

    row: int
    column: int
    said: Mapping[str, str]
    settings: Settings
    problem: str = ""

    @property
    def name(self) -> str:
        """The place in words."""
        return ", ".join(f"{key} {value}" for key, value in self.said.items())


_FIELDS = {"seed": "first", "label": "labels", "prompt": "prompts"}


def lay_out(x: Axis, y: Axis, base: Settings, allow: Sequence[str] = ()) -> list[Cell]:
    """Every cell, row by row. What can't be put together is marked; a value that no cell can take is a mistake.

    Args:
        x, y: columns and rows.
        base: of all cells, but for the axes.
        allow: packages beside Sfumato whose classes may be named.

    Raises:
        UsageError: for values that fit nowhere, with the reason.
    """
    cells: list[Cell] = []
    known: dict[str, Any] = {}
    for row in range(len(y)):
        for column in range(len(x)):
            moved = [*zip(x.keys, x.values[column], strict=True), *zip(y.keys, y.values[row], strict=True)]
            said = {axis.name: axis.labels[i] for axis, i in ((x, column), (y, row)) if axis.keys}
            try:
                cells.append(Cell(row, column, said, _moved(base, moved, allow, known)))
            except ValueError as error:
                problem = "; ".join(error.problems) if isinstance(error, UsageError) else str(error)
                cells.append(Cell(row, column, said, base, problem))
    wrong = [cell.problem for cell in cells] if all(cell.problem for cell in cells) else []
    for axis, place in ((x, "column"), (y, "row")):
        for i, values in enumerate(axis.values):
            # what fits no cell, and does not fit without the other axis either, was meant otherwise
            if all(cell.problem for cell in cells if getattr(cell, place) == i):
                wrong += _refusal(base, [*zip(axis.keys, values, strict=True)], allow)
    if wrong:
        raise UsageError(list(dict.fromkeys(wrong)))
    return cells


def _refusal(base: Settings, moved: Sequence[tuple[str, Any]], allow: Sequence[str]) -> list[str]:
    """Why values can't be put into the settings; nothing where they can."""
    try:
        _moved(base, moved, allow)
    except ValueError as error:
        return error.problems if isinstance(error, UsageError) else [str(error)]
    return []


def _moved(
    base: Settings, moved: Sequence[tuple[str, Any]], allow: Sequence[str], known: dict[str, Any] | None = None
) -> Settings:
    """The settings with values put in: a part before its arguments, and these before an interval around it."""
    found = base
    trees: dict[str, Any] = {name: getattr(base, name) for name in PARTS}
    for key, value in moved:
        if key in trees:
            trees[key] = value
        elif key.startswith("also."):
            found = replace(found, also={**found.also, key[5:]: value})
        elif "." not in key and key != "interval":
            found = replace(found, **{_FIELDS.get(key, key): value})
    trees = _resolved(trees, allow, known)
    for key, value in moved:
        name, dot, rest = key.partition(".")
        if dot and name in trees:
            trees[name] = _argued(trees[name], name, rest.split("."), value, allow)
    for key, value in moved:
        if key == "interval":
            trees["guidance"] = _within(trees["guidance"], value)
    return replace(found, **_resolved(trees, allow, known))


def _resolved(trees: Mapping[str, Any], allow: Sequence[str], known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Parts complete and checked; `known`: those that were seen before, since many cells have the same."""
    known = {} if known is None else known
    wanted = {f"{name} {tree!r}": (name, tree) for name, tree in trees.items() if tree is not None}
    fresh = {name: tree for key, (name, tree) in wanted.items() if key not in known}
    found = resolve(fresh, _Parts, allow) if fresh else {}
    known |= {key: found[name] for key, (name, _) in wanted.items() if key not in known}
    return {name: known[key] for key, (name, _) in wanted.items()}


def _argued(tree: Any, name: str, words: Sequence[str], text: str, allow: Sequence[str]) -> Any:
    """A part, or a list of filters, with one argument of it set.

    Raises:
        ValueError: where there is no such argument.
    """
    if name == "filters":
        if len(tree) != 1:
            raise ValueError(
                f"filters.{'.'.join(words)}: there are {len(tree)} filters; give one, as --filters TrajectoryVariance"
            )
        return [_set(tree[0], words, text, allow, name)]
    if tree is None:
        raise ValueError(f"{name}.{'.'.join(words)}: whose argument this is, is not known; give --{name} NAME")
    return _set(tree, words, text, allow, name)


def _set(tree: Any, words: Sequence[str], text: str, allow: Sequence[str], at: str) -> Any:
    """Set an argument of a part, or else of the one part within it that has such an argument: the scale of Interval(CFG)."""
    cls = find_class(tree["class_path"], allow)
    fields, own = fields_of(cls), dict(tree.get("init_args") or {})
    first, rest = words[0], words[1:]
    if first in fields:
        if rest and not isinstance(own.get(first), Mapping):
            raise ValueError(f"{at}.{first} is {own.get(first)!r}, which is no part and has no {'.'.join(rest)}")
        if rest:
            own[first] = _set(own[first], rest, text, allow, f"{at}.{first}")
        else:
            hint = fields[first].hint
            own[first] = (
                value_tree(text, hint, allow, f"{at}.{first}")
                if part_type(hint) or part_of(hint)
                else _plain(text, hint)
            )
        return {**tree, "init_args": own}
    inner = [key for key, value in own.items() if isinstance(value, Mapping) and "class_path" in value]
    having = [key for key in inner if _has(own[key], first, allow)]
    if len(having) == 1:
        return {**tree, "init_args": {**own, having[0]: _set(own[having[0]], words, text, allow, f"{at}.{having[0]}")}}
    raise ValueError(
        f"{at}.{first}: {cls.__name__} has no such argument; allowed: {', '.join(fields) or 'none'}{did_you_mean(first, fields)}"
    )


def _plain(text: Any, hint: Any) -> Any:
    """What a text says where no part is wanted; its type is checked when all is put together."""
    return value_tree(text, hint, (), "") if isinstance(text, str) else text


def _has(tree: Mapping[str, Any], name: str, allow: Sequence[str]) -> bool:
    """Whether a part, or one within it, has an argument."""
    inner = (tree.get("init_args") or {}).values()
    return name in fields_of(find_class(tree["class_path"], allow)) or any(
        isinstance(value, Mapping) and "class_path" in value and _has(value, name, allow) for value in inner
    )


_INTERVAL = "sfumato.guidance.Interval"


def _within(tree: Any, ends: tuple[float | None, float | None] | None) -> Any:
    """A rule within an interval in sigma / alpha, in place of the one that it may stand in; None: in none."""
    if tree is None:
        raise ValueError("interval: the rule that it goes around is not known; give --guidance NAME")
    if tree["class_path"] == _INTERVAL:
        tree = tree["init_args"]["rule"]
    if ends is None:
        return tree
    return {"class_path": _INTERVAL, "init_args": {"rule": tree, "low": ends[0], "high": ends[1]}}
