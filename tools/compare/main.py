"""`sfumato compare`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...diffusion import Model, load
from ...diffusion.plan import is_picture
from ...diffusion.progress import progress_bar
from ...guidance import Guidance
from ...samplers import Sampler
from ...schedules import Grid
from ...schedules.parts import describe
from ..arguments import read_config
from ..command import help_text, parse
from ..folders import ready_folder
from ..resolve import resolve
from ..sample import own_parts
from ..stopping import Stopped, stopping
from .about import begun, usual_count
from .axes import Axis, parse_axes
from .engine import Comparison
from .looking import Looking
from .networks import Networks
from .options import Compare
from .outcome import Outcome
from .report import FILES, write_report
from .settings import lay_out
from .store import Store
from .table import Table
from .what_looks import what_looks
from .where import home_of, place_for
from .words import about_of, cost_words, said_of

__all__ = ["Compare", "run"]


@dataclass(frozen=True)
class _Own:
    """The parts of a run's config that a cell may take."""

    sampler: Sampler
    grid: Grid
    guidance: Guidance
    sampling_steps: int


def _config_parts(options: Compare) -> dict[str, Any]:
    """How a run samples, as its config says; of other models it is known when they are loaded."""
    config = Path(options.run) / "config.yaml"
    if not config.is_file():
        return {}
    tree = read_config(str(config))
    if not all(name in tree for name in ("sampler", "grid", "guidance", "sampling_steps")):
        return {}
    known = {name: tree[name] for name in ("sampler", "grid", "guidance", "sampling_steps")}
    found = resolve(known, _Own, options.allow)
    return {**found, "steps": found["sampling_steps"]}


def _loaders(options: Compare) -> Networks:
    def model(checkpoint: int | None, ema: bool | float) -> Model:
        found = load(
            options.run, ema=ema, device=options.device, allow=options.allow, step=checkpoint, vae=options.vae, text=options.text,
            scheduler=options.scheduler, size=options.size, precision=options.precision, attention=options.attention,
            compile=options.compile,
        )  # fmt: skip
        if not is_picture(found.picture_shape) or (found.latents and found.vae is None):
            raise ValueError(
                f"the samples of {options.run} are of shape {tuple(found.shape)}, which are no pictures; of latents give "
                "the folder of their VAE by --vae"
            )
        return found

    def weak(run: str, step: int | None) -> Model:
        try:
            return load(run, ema=options.ema, device=options.device, allow=options.allow, step=step)
        except ValueError as error:
            raise ValueError(f"weak: {error}") from error

    return Networks(model, weak)


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        usage = "sfumato compare MODEL --x sampler=DDIM,GHVB,DPMSolverPP [--y steps=5,8,12,20] [--seeds 3] ..."
        print(help_text(usage, Compare, None, argv))
        return 0
    options, _ = parse(_sorted_out(argv), Compare, ("run",), base=own_parts)
    x, y = parse_axes(options.x, options.y, options.allow)
    if len(x) * len(y) > options.most:
        raise ValueError(
            f"x and y make {len(x)} by {len(y)}, {len(x) * len(y)} cells; allowed: at most {options.most}; take fewer values, or say "
            f"--most {len(x) * len(y)}"
        )
    if own := _config_parts(options):  # mistakes are found before anything is loaded
        lay_out(x, y, options.settings(own), options.allow)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    home = home_of(options.run)
    store = Store(home / "cells", options.fresh)
    done: list[Outcome] = []
    try:
        with stopping():
            return _compare(argv, options, x, y, store, home, done)
    except Stopped as stopped:
        made = sum(o.state != "unsupported" for o in done)
        kept = f"{made} of {len(x) * len(y)} cells are finished, and kept in {store.folder}"
        print(f"sfumato compare: {stopped}; {kept}\ngo on with: {_command(argv)}", file=sys.stderr)
        return stopped.code


def _sorted_out(argv: Sequence[str]) -> list[str]:
    """The words with --reference FOLDER said as what it is."""
    found = list(argv)
    for i, word in enumerate(argv):
        key, equals, value = word.partition("=")
        given = value if equals else argv[i + 1] if i + 1 < len(argv) else ""
        if key == "--reference" and Path(given).is_dir():
            found[i] = f"--reference_path={given}" if equals else "--reference_path"
    return found


def _command(argv: Sequence[str]) -> str:
    """The command that makes the same again from what is there."""
    return shlex.join(["sfumato", "compare", *(word for word in argv if word != "--fresh")])


def _first_model(networks: Networks, options: Compare, x: Axis, y: Axis) -> Model:
    """The model of the first cell: what it samples with by itself is the same for all checkpoints."""
    at: dict[str, Any] = {"checkpoint": options.checkpoint, "ema": options.ema}
    for axis in (x, y):
        at |= {key: value for key, value in zip(axis.keys, axis.values[0], strict=True) if key in at}
    return networks.model(at["checkpoint"], at["ema"])


def _compare(
    argv: Sequence[str], options: Compare, x: Axis, y: Axis, store: Store, home: Path, done: list[Outcome]
) -> int:
    networks = _loaders(options)
    model = _first_model(networks, options, x, y)
    own = {name: describe(getattr(model, name)) for name in ("sampler", "grid", "guidance")} | {"steps": model.steps}
    base = options.settings(own)
    cells = lay_out(x, y, base, options.allow)
    count = options.count or usual_count(model)
    shared = options.shared(count)
    looking, remarks = what_looks(options, model, count) if options.frechet else (Looking(), [])
    about = begun(options.run, _command(argv), model, x, y, base, shared, looking.about(), str(store.folder))
    out = place_for(home, options.out, x, y, about["id"])
    made = ready_folder(out, "out")
    try:
        _make(Comparison(x, y, cells, base, shared, networks, store, looking, progress=sys.stderr.isatty()), done)
        if all(o.state == "unsupported" for o in done):
            raise ValueError("no cell can be sampled: " + "; ".join(sorted({o.problem for o in done})[:3]))
    except BaseException:
        with suppress(OSError):  # those that hold something by now stay
            for each in made:
                each.rmdir()
        raise
    table = Table(x, y, done)
    about |= about_of(options.run, model, x, y, base, shared, looking.about(), remarks, done)
    picture = write_report(table, about, out, min(options.show, count), options.tile)
    for line in said_of(table, about):
        print(line)
    print(f"report: {out / FILES[0]}")
    print(f"picture: {out / FILES[1]} ({picture.width} x {picture.height}); table: {out / FILES[2]}, {out / FILES[3]}")
    return 0


def _make(comparison: Comparison, done: list[Outcome]) -> None:
    """Every cell, with a bar that knows how long the rest will take."""
    cost = comparison.cost()
    for line in cost_words(cost, comparison.shared, len(comparison.x), len(comparison.y)):
        print(line, flush=True)
    with progress_bar(cost.evaluations, 0, "comparing", cost.evaluations > 0, unit="evaluation") as bar:

        def told(evaluations: int) -> None:
            bar.total = max(
                bar.total, bar.n + evaluations
            )  # filters and adaptive steps ask more often than was foreseen
            bar.update(evaluations)

        comparison.told = told
        for outcome in comparison.run():
            done.append(outcome)
            bar.set_postfix_str(f"{len(done)} of {len(comparison.cells)} cells", refresh=False)
