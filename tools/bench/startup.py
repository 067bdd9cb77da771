"""What starting costs: imports and commands, each in processes of its own, beside importing torch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from .goals import Goal
from .kind import Ask, Kind
from .sheet import Cell, Sheet, exact, ratio_of
from .startup_child import modules, parted, spent

__all__ = ["PACKAGES", "STARTING", "command", "first_step", "subjects"]

PACKAGES = ("sfumato.schedules", "sfumato.samplers", "sfumato.guidance", "sfumato.diffusion")
_TORCH, _CUT, _SAMPLE = "import torch", "import torch, ended there", "sfumato sample, to its first step"
_FIRST = """
import os, sys
from torch.nn.modules.module import register_module_forward_pre_hook
register_module_forward_pre_hook(lambda module, given: os._exit(0))
from sfumato.tools.cli import main
main({words!r})
sys.exit("no network was asked")
"""


def command(*words: str) -> str:
    """What the installed script does; what fails is no time of a start."""
    return f"from sfumato.tools.cli import main\nif main({list(words)!r}): raise SystemExit(1)"


def first_step(run: Path, out: Path) -> str:
    """`sfumato sample` of a run up to where its network is asked for the first time; there the process ends."""
    words = ["sample", str(run), "--seeds", "0", "--labels", "3", "--steps", "2", "--out", str(out)]
    return _FIRST.format(words=words)


def subjects(folder: Path) -> dict[str, str]:
    """What is started, as Python.

    Args:
        folder: where a run lies in `run`.
    """
    named = ("--help", "--version", "train --help", "sample --help", "bench --help")
    commands = {f"sfumato {name}": command(*name.split()) for name in named}
    return {
        _TORCH: _TORCH,
        **commands,
        _CUT: "import os, torch; os._exit(0)",
        _SAMPLE: first_step(folder / "run", folder / "pictures"),
    }


def _cells(seconds: Sequence[float], torch: Sequence[float], code: str) -> dict[str, Cell]:
    cells = {
        "CPU seconds": ratio_of(seconds, [1.0] * len(seconds), "s"),
        "times importing torch": ratio_of(seconds, torch),
    }
    if "_exit" in code:  # it ends where it can't be asked
        return cells
    counted = modules(code)
    return {**cells, "our modules": exact(counted.ours), "others": Cell(counted.others, unit="")}


def _measure(ask: Ask, sheet: Sheet) -> None:
    rounds = 1 if ask.quick else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = ("train", "digits", "--steps", "1", "--batch", "8", "--sample_every", "0", "--out", str(folder / "run"))
        spent(command(*run))
        started = subjects(folder)
        took: dict[str, list[float]] = {what: [] for what in started}
        parts: dict[str, list[tuple[float, float]]] = {package: [] for package in PACKAGES}
        for number in range(rounds + 1):
            for what, code in started.items():
                seconds = spent(code)
                took[what] += [seconds] * bool(number)  # in the first round modules are compiled and files read
            for package, found in parts.items():
                found += [parted(package)] * bool(number)
        for package, found in parts.items():
            before, after = zip(*found, strict=True)
            sheet.add(f"import {package}", _cells(after, before, f"import {package}"))
        for what, code in started.items():
            # clearing up takes a quarter of what importing torch does: a process that does not is held against another
            sheet.add(what, _cells(took[what], took[_CUT if "_exit" in code else _TORCH], code))
    sheet.note(
        "CPU seconds, of the user and the system, with compiled modules on the disk; packages after torch in its own process, each command "
        "in theirs, beside one that imports torch"
    )


STARTING = Kind(
    _measure,
    goals=(
        Goal("sfumato --help, CPU", "startup", "sfumato --help", "CPU seconds", 0.3),
        Goal("import sfumato.samplers beside import torch", "startup", "import sfumato.samplers", "times importing torch", 1.05),
    ),
)  # fmt: skip
