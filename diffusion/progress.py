"""Progress bars that suit a terminal, and a log file."""

from __future__ import annotations

import shutil
import sys

from tqdm.auto import tqdm

__all__ = ["progress_bar"]


def progress_bar(total: int, done: int, about: str, show: bool, leave: bool = True, unit: str = "step") -> tqdm:
    """A bar on standard error: redrawn in a terminal, a line every ten seconds in a file.

    Args:
        total, done: steps in all, and those made already.
        about: what is done.
        show: whether to show anything.
        leave: whether the bar stays when it is full.
        unit: what is counted.
    """
    pause = 0.1 if sys.stderr.isatty() else 10.0
    # asked for here, since in a terminal that says it has no columns and no rows tqdm would draw nothing
    columns, rows = shutil.get_terminal_size()
    return tqdm(
        total=total, initial=done, desc=about, unit=unit, disable=not show, leave=leave, mininterval=pause,
        maxinterval=2 * pause, ncols=columns,
        nrows=rows,
    )  # fmt: skip
