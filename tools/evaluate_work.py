"""What `sfumato evaluate` does, in order: what to compare with, pictures, numbers, a report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..diffusion.generate import Generated
from ..diffusion.launch import Processes
from ..diffusion.measuring import Extractor, OfFolder, Pictures, Spread, identity
from ..diffusion.measuring.evaluation import Evaluation
from ..diffusion.measuring.evaluator import Evaluator
from ..diffusion.measuring.statistics import save_statistics
from ..diffusion.measuring.streamed import streamed_moments
from ..diffusion.measuring.usual import usual_extractor
from ..diffusion.whole_file import replace_text
from ..schedules.plain_json import to_json
from .evaluate import Evaluate
from .evaluate_pictures import made, opened
from .evaluate_reference import Compared, compared, is_model, place
from .evaluate_words import lines, losses
from .folders import free_file, ready_folder
from .spelling import UsageError

__all__ = ["Judged", "work"]


@dataclass(frozen=True)
class Judged:
    """What one extractor found: an evaluation per set of pictures."""

    sets: tuple[Evaluation, ...]

    def spread(self, name: str) -> Spread:
        """A measure over the sets."""
        return Spread(tuple(each[name].value for each in self.sets))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        names = [number.name for number in self.sets[0].numbers]
        spreads = {name: self.spread(name) for name in names}
        told = {name: {"mean": s.mean, "std": s.std, "values": list(s.values)} for name, s in spreads.items()}
        return {"spread": to_json(told), "sets": [each.to_json() for each in self.sets]}


def work(options: Evaluate, command: str) -> int:
    """The command.

    Args:
        options: of it.
        command: as it was said.
    """
    began = time.monotonic()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    processes = Processes("fp32") if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
    if processes is not None and options.device.startswith("cuda"):
        options = replace(options, device=str(processes.device))
    model = opened(options) if is_model(options.run) else None
    own = None if model is not None else _folder(options)
    shape = model.picture_shape if model is not None else own.shape if own is not None else None
    found = compared(options, shape, model is not None)
    extractors = list(options.extractor) or [_usual(found, own, shape)]
    if options.save_stats is not None and (len(extractors) > 1 or options.seeds > 1):
        raise UsageError([f"save_stats is {options.save_stats!r}; allowed: with one extractor and one set of pictures"])
    if options.save_stats is not None:  # found out before the work, not after it
        ready_folder(Path(options.save_stats).parent, "save_stats")
    if own is not None and found.reference is None and options.save_stats is not None and options.measures is None:
        return _statistics(options, own, extractors[0], processes)
    # what is wrong with the names of measures, and with the shapes, is found out before the work
    judges = [_judge(options, found, each, processes) for each in extractors]
    for each in judges:
        each.check(shape)
    home = Path(options.out) if options.out is not None else place(options)
    main = processes is None or processes.main
    if main:
        ready_folder(home, "out")
    sets: list[tuple[Path, Generated | None]] = [(Path(options.run), None)]
    if model is not None:
        sets = list(made(options, model, found.reference, processes))
        for _, done in sets:
            if done is not None and done.pictures < 2:
                raise ValueError(
                    f"filters left {done.pictures} of {done.count} pictures; allowed: at least 2. Take filters that reject less, or more "
                    f"retries than {options.retries}"
                )
        del model
    pictures: list[Pictures] = [own] if own is not None else [OfFolder(str(folder)) for folder, _ in sets]
    judged = [Judged(tuple(each.of(one) for one in pictures)) for each in judges]
    if options.save_stats is not None:
        judges[0].save(options.save_stats, pictures[0])
    if main:
        _leave(options, command, found, judged, sets, pictures, home, time.monotonic() - began)
    return 0


def _statistics(options: Evaluate, own: Pictures, extractor: Extractor, processes: Processes | None) -> int:
    """Statistics of a folder and nothing else: of any number of pictures, whose features are not kept."""
    assert options.save_stats is not None
    found = streamed_moments(
        own, extractor, batch=options.batch, device=options.device, processes=processes, progress=True
    )
    if processes is None or processes.main:
        save_statistics(Path(options.save_stats), found, extractor, own)
        who = identity(extractor)
        print(
            f"{found.count} pictures, {who['num_features']} features of {who['name']} (hash {who['hash']}, resize {who['resize']})"
        )
        print(f"statistics: {options.save_stats}")
    return 0


def _folder(options: Evaluate) -> Pictures:
    """The pictures of a folder."""
    for name in ("labels", "prompts", "steps", "sampler", "grid", "guidance", "pictures"):
        if getattr(options, name) is not None:
            raise UsageError(
                [f"{name} is given, but {options.run} is a folder of pictures, which are made already; leave it out"]
            )
    if options.seeds > 1:
        raise UsageError(
            [
                f"seeds is {options.seeds}, but {options.run} is a folder of pictures, which are made already; leave it out"
            ]
        )
    return OfFolder(options.run, options.size, options.channels, options.count)


def _usual(found: Compared, own: Pictures | None, shape: Sequence[int] | None) -> Extractor:
    """Who looks where nobody was named."""
    reference = found.reference
    if isinstance(reference, Pictures):
        return usual_extractor(reference)
    if own is not None:
        return usual_extractor(own)
    from ..diffusion.measuring import OfTensor

    assert shape is not None
    return usual_extractor(OfTensor(torch.zeros(1, *shape, dtype=torch.uint8)))


def _judge(options: Evaluate, found: Compared, extractor: Extractor, processes: Processes | None) -> Evaluator:
    names = None if options.measures is None else [name.strip() for name in options.measures.split(",") if name.strip()]
    return Evaluator(
        found.reference, extractor, measures=names, classifier=options.classifier, training=found.training, held_out=found.held,
        k=options.k, batch=options.batch, seed=options.seed, device=options.device, processes=processes, progress=True,
    )  # fmt: skip


def _leave(
    options: Evaluate, command: str, found: Compared, judged: Sequence[Judged], sets: Sequence[tuple[Path, Generated | None]],
    pictures: Sequence[Pictures], home: Path, seconds: float,
) -> None:  # fmt: skip
    """Numbers as JSON, a page, and lines."""
    from .evaluate_report import report

    page = free_file(home / "report.html")
    file = page.with_suffix(".json")
    result = {
        "command": command, "measured": options.run, "reference": found.what, "seconds": round(seconds, 1),
        "generated": [_generated(folder, done) for folder, done in sets if done is not None],
        "judged": [each.to_json() for each in judged],
    }  # fmt: skip
    lost = losses([done for _, done in sets if done is not None])
    replace_text(file, json.dumps(to_json(result), indent=1, allow_nan=False))
    for each in judged:
        print(
            "\n".join(lines(each.sets, {n.name: each.spread(n.name) for n in each.sets[0].numbers}, found.what, lost))
        )
        print()
    drawn = report(judged, command, found, pictures, page, lost)
    if not drawn:
        print("no figures: matplotlib is not installed (pip install 'sfumato[plots]')")
    made_here = [str(folder) for folder, done in sets if done is not None]
    if made_here:
        print(f"pictures: {', '.join(made_here)}")
    if options.save_stats is not None:
        print(f"statistics: {options.save_stats}")
    print(f"numbers: {file}\nreport: {page}")


def _generated(folder: Path, done: Generated) -> dict[str, Any]:
    """What making a set came to."""
    return {
        "folder": str(folder), "count": done.count, "made": done.made, "found": done.found, "lost": done.lost, "kept": done.kept,
        "evaluations": done.evaluations, "seconds": round(done.seconds, 2),
    }  # fmt: skip
