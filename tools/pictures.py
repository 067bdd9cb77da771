"""A folder of pictures on the command line: which one, and what lies there when all are made."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent

from ..diffusion import Samples
from ..diffusion.images import save_png
from ..diffusion.whole_file import whole_file
from ..schedules.plain_json import to_json
from .folders import free_folder, last_folder

__all__ = ["MARKS", "choose", "write"]

MARKS = ("samples.json", "seed-*.png", ".rejected")
"""What a folder of pictures holds, finished or not."""


def choose(run: str, out: str | None, resume: bool) -> Path:
    """The folder to write to.

    Args:
        run: the run folder, in which a new one is made, or the last one is gone on with; of another model, under pictures/ here.
        out: given instead.
        resume: whether to go on with what is there.

    Raises:
        ValueError: for a file, or a folder that holds pictures when this is no resume.
    """
    if out is None:
        # a model of somebody else's is not written into
        own = Path(run) / "pictures" if (Path(run) / "config.yaml").is_file() else Path("pictures") / Path(run).stem
        return last_folder(own, *MARKS) if resume else free_folder(own, *MARKS)
    folder = Path(out)
    if folder.is_file():
        raise ValueError(f"out is {out!r}, which is a file; choose another folder")
    if not resume and any(True for mark in MARKS for _ in folder.glob(mark)):
        raise ValueError(
            f"out is {out!r}, which holds pictures already; choose another folder, or make what is missing there: the same command "
            "with --resume"
        )
    return folder


def write(samples: Samples, out: Path, columns: int) -> list[str]:
    """Write what is about all pictures; returns lines that say what filters did.

    Args:
        samples: the pictures.
        out: their folder.
        columns: of the sheet.
    """
    said: list[str] = []
    if samples.filtered.names:
        samples.save_scores(out / "scores.csv")
        save_png(out / "filtered.png", samples.filter_sheet(), None)
        said = samples.filtered.words()
        lost = int((~samples.pictured).sum())
        if lost:
            said.append(f"{lost} of {len(samples)} slots ran out of retries and are crossed out on the sheet")
        said.append(f"every attempt: {out / 'scores.csv'}, kept and rejected side by side: {out / 'filtered.png'}")
    samples.save_sheet(out / "sheet.png", columns)
    with whole_file(out / "samples.json") as temporary, temporary.open("w") as file:
        for i in range(len(samples)):  # one at a time: there may be many
            picture = json.dumps(to_json(samples.settings_of(i)), indent=1, allow_nan=False)
            file.write(("[\n" if i == 0 else ",\n") + indent(picture, " "))
        file.write("\n]")
    return said
