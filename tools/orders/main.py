"""`sfumato orders`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..command import help_text, parse
from .measure import STEPS
from .paths import PATHS
from .record import drifted, measured, recorded
from .table import as_markdown, as_text

__all__ = ["Orders", "run"]

_QUICK = (16, 64)
# a few of the rows, by order; a picture of all of them shows nothing
_DRAWN = (
    "DDIM()", "GradientEstimation()", "HeavyBall(PLMS(4), 0.8)", "Heun()", "DPMSolver2()", "DPMSolverPP(2)", "PLMS(4)", "GHVB(3.8)",
    "DPMSolverPP(3)", 'UniPC(2, "bh2")', 'UniPC(3, "bh2")', 'PLMS(4, variable=True, warm_up="rk4")',
)  # fmt: skip


@dataclass(frozen=True)
class Orders:
    """Measure every sampler's order of convergence, round trips and stability against exact ends, and say what has drifted.

    Args:
        out: folder of the numbers and the picture.
        quick: at 16 and 64 steps only, in seconds: errors are compared with the recorded ones, orders are not looked at.
        markdown: print the recorded tables as in the README, and measure nothing.
    """

    out: str = "runs/orders"
    quick: bool = False
    markdown: bool = False


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(help_text("sfumato orders [--quick] [--out FOLDER] [--markdown]", Orders))
        return 0
    options, _ = parse(argv, Orders, ())
    if options.markdown:
        print(as_markdown(recorded()))
        return 0
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    steps = _QUICK if options.quick else STEPS
    result = measured(
        steps, *((_QUICK,) if options.quick else ()), say=lambda text: print(f"orders: {text}", file=sys.stderr)
    )
    file = folder / ("quick.json" if options.quick else "orders.json")
    file.write_text(_lines(result))
    print(as_text(result))
    print(f"\nnumbers: {file}")
    if not options.quick:
        _draw(result, folder / "orders.png")
    problems = drifted(result, recorded())
    for line in problems:
        print(f"sfumato orders: drifted: {line}", file=sys.stderr)
    print(f"{len(problems)} drifted" if problems else "everything as expected")
    return 1 if problems else 0


def _draw(result: dict[str, Any], path: Path) -> None:
    try:
        from ..plots import draw_orders
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'sfumato[plots]')")
        return
    panels = {PATHS[name].about: {m: result["errors"][m][name]["mixture"] for m in _DRAWN} for name in PATHS}
    draw_orders(result["steps"], panels, path)
    print(f"picture: {path}")


def _lines(result: dict[str, Any]) -> str:
    """JSON with a line per sampler, so that a difference between two results can be read."""
    parts: list[str] = []
    for key, value in result.items():
        if isinstance(value, dict) and key != "paths":
            inner = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f"{json.dumps(key)}: {{\n  {inner}\n }}")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"
