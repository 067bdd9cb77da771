"""A comparison in words: above its pictures, below its tables, and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...diffusion import Model
from ...schedules.parts import describe, find_class
from ..resolve import fields_of
from .axes import Axis
from .outcome import Cost, Outcome, Shared
from .report import best_words, heading_of
from .settings import Settings
from .table import Table

__all__ = ["about_of", "brief", "cost_words", "said_of", "shared_words"]


def brief(tree: Any, allow: Sequence[str] = ()) -> str:
    """A part as one would write it on an axis: its name, and the arguments that are not its defaults.

    Args:
        tree: its description.
        allow: packages beside Sfumato whose classes may be named.
    """
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(brief(each, allow) for each in tree) + "]"
    if not isinstance(tree, Mapping) or "class_path" not in tree:
        return "null" if tree is None else f"{tree:g}" if isinstance(tree, float) else str(tree)
    fields = fields_of(find_class(tree["class_path"], allow))
    given = tree.get("init_args") or {}
    own = [f"{key}={brief(value, allow)}" for key, value in given.items() if value != _default(fields, key)]
    return tree["class_path"].rpartition(".")[2] + (f"({', '.join(own)})" if own else "")


def _default(fields: Mapping[str, Any], key: str) -> Any:
    try:
        return describe(fields[key].default) if key in fields else None
    except ValueError:  # what must be given has none
        return object()


def cost_words(cost: Cost, shared: Shared, columns: int, rows: int) -> list[str]:
    """What a comparison will take, before it starts.

    Args:
        cost: of it.
        shared: of all cells.
        columns, rows: of it.
    """
    there = f", {cost.cached} of them there already" if cost.cached else ""
    no = f", {cost.unsupported} not possible" if cost.unsupported else ""
    sets = f" in each of {shared.sets} sets of seeds" if shared.sets > 1 else ""
    lines = [
        f"{cost.cells} cells ({columns} by {rows}){there}{no}; {shared.count} pictures each{sets}; {cost.evaluations:,} evaluations of the "
        "network to make"
    ]
    if cost.fine:
        lines.append(
            f"{cost.fine:,} of these are for fine solutions in {shared.fine_steps} steps, to {min(shared.near, shared.count)} pictures of "
            "each set; --fine_steps 0 leaves them out, and the distance with them"
        )
    return lines


def about_of(
    run: str, model: Model, x: Axis, y: Axis, base: Settings, shared: Shared, looking: Mapping[str, Any], remarks: Sequence[str],
    outcomes: Sequence[Outcome],
) -> dict[str, Any]:  # fmt: skip
    """Title, shared settings, what was measured and how, and remarks, in words.

    Args:
        run: the model, as it was named.
        model: for its source.
        x, y: columns and rows.
        base, shared: of all cells.
        looking: extractor and data, as they say of themselves.
        remarks: to begin with.
        outcomes: of all cells.
    """
    step = f", step {model.source['checkpoint']}" if "checkpoint" in model.source else ""
    moved = {key for axis in (x, y) for key in axis.keys}
    axes = " and ".join(axis.name for axis in (x, y) if axis.keys)
    kinds = dict.fromkeys(f"no distance, {o.no_distance}" for o in outcomes if o.no_distance and shared.fine_steps)
    none = [
        f"{'; '.join(o.cell.name for o in own[:6])}{f' and {len(own) - 6} more' if len(own) > 6 else ''}: {why}"
        for why in kinds
        if (own := [o for o in outcomes if f"no distance, {o.no_distance}" == why])
    ]
    if "label" in moved and looking["data"] is not None:
        remarks = [
            *remarks,
            "The pictures of a cell are of one class, and the real ones of all, which makes most of the Frechet distance here.",
        ]
    notes = dict.fromkeys(note for o in outcomes for note in o.notes if "pictures diverged" not in note)
    return {
        "title": f"{Path(run).name}{step}: {axes}", "shared": shared_words(model, base, shared, moved, looking),
        "measured": _measured(base, shared, looking), "looking": looking, "notes": [*remarks, *none, *notes],
    }  # fmt: skip


def shared_words(model: Model, base: Settings, shared: Shared, moved: set[str], looking: Mapping[str, Any]) -> str:
    """What all cells have in common, in one line.

    Args:
        model: of all cells.
        base, shared: of all cells.
        moved: keys that an axis moves, which are left out.
        looking: extractor and data, as they say of themselves.
    """
    said = [f"{base.steps} steps"] if "steps" not in moved else []
    said += [brief(getattr(base, name), shared.allow) for name in ("sampler", "grid", "guidance") if name not in moved]
    said += [f"filters {brief(base.filters, shared.allow)}"] if base.filters and "filters" not in moved else []
    if "label" not in moved and model.num_classes:
        said.append("classes in turn" if base.labels is None else f"class {base.labels}")
    if "prompt" not in moved and model.text is not None:
        said.append(f"prompt {base.prompts!r}" if base.prompts else "no prompt")
    if "ema" not in moved and "ema" in model.source:
        said.append(
            ("averaged weights" if base.ema else "raw weights")
            if isinstance(base.ema, bool)
            else f"average of length {base.ema}"
        )
    if "seed" not in moved:
        last = base.first + shared.count * shared.sets - 1
        said.append(f"seeds {base.first} to {last}" + (f" in {shared.sets} sets" if shared.sets > 1 else ""))
    e, d = looking["extractor"], looking["data"]
    if e is not None and d is not None:
        # who judged stands on the picture, which may travel alone
        said.append(
            f"Frechet: {e['short']}@{shared.count} against {d['n']} real pictures, by {e['name']} {e['hash'][:8]}"
        )
    return "In all cells: " + " · ".join(said)


def _measured(base: Settings, shared: Shared, looking: Mapping[str, Any]) -> list[str]:
    sets = (
        f" in each of {shared.sets} sets of seeds; ± is the standard deviation over the sets" if shared.sets > 1 else ""
    )
    said = [f"{shared.count} pictures per cell{sets}."]
    e, d = looking["extractor"], looking["data"]
    if d is not None and e is not None:
        resized = f", resized: {e['resize']}" if e["resize"] else ""
        few = ""
        if shared.count <= e["num_features"]:
            few = f" {shared.count} are not more than the features, which makes up most of the number: only differences say something."
        said.append(
            f"{e['short']}@{shared.count}: squared Frechet distance to {d['n']} pictures of {d['says']} (data {d['fingerprint'][:16]}), in "
            f"{e['num_features']} features of {e['name']} (hash {e['hash']}){resized}. Few pictures make it too large: compare it at equal "
            f"counts only.{few}"
        )
    if shared.fine_steps:
        said.append(
            f"distance: root mean square difference of the first {min(shared.near, shared.count)} pictures of each set, in [-1, 1], to "
            f"DPM-Solver++(2M) in {shared.fine_steps} steps from the same noise under the cell's rule, on "
            f"{brief(base.grid, shared.allow)}. Of a stochastic sampler only with --brownian, to the same sampler in as many steps."
        )
    return said


def said_of(table: Table, about: Mapping[str, Any]) -> list[str]:
    """The table, who leads and remarks, as lines of a terminal.

    Args:
        table: of the outcomes.
        about: of the comparison.
    """
    axes = [axis.name for axis in (table.x, table.y) if axis.keys]
    rows = [[*axes, *(heading_of(m, about) for m in table.measures), ""]]
    for o in table.outcomes:
        state = {"made": "", "diverged": "diverged: ", "unsupported": "not possible: "}[o.state] + o.problem
        rows.append([*(o.cell.said[name] for name in axes), *(_mean(o, m.key) for m in table.measures), state])
    widths = [min(max(len(row[i]) for row in rows), 40) for i in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows]
    measure, rows_of = "", {f"{table.y.name} {label}" for label in table.y.labels}
    for name, where, who in best_words(table, about):
        measure = name or measure
        told = not who.startswith("not told apart")
        if where == "all cells" or (told and where in rows_of):  # columns are in the report
            lines.append(f"best {measure}, {where}: {who}" if told else f"{measure}, {where}: {who}")
    if about["sets"] < 3 and len(table.outcomes) > 1:
        there = ("one set of seeds", "two sets of seeds")[about["sets"] - 1]
        lines.append(
            f"{there}, so no cell is told apart from another; --seeds 3 measures three, what is there is reused"
        )
    return [*lines, *(f"note: {note}" for note in about["notes"])]


def _mean(outcome: Outcome, key: str) -> str:
    values = outcome.measured.get(key)
    return "-" if values is None else f"{sum(values) / len(values):.4g}"
