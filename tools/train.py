"""`sfumato train`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from ..diffusion import Interrupted, Recipe, train
from ..diffusion.interrupt import signals
from ..diffusion.latents import latents_of
from ..diffusion.migrate import current_recipe
from ..diffusion.noise_scale import Scale
from ..diffusion.plan import check_recipe, is_picture
from ..diffusion.recipe import range_errors
from ..diffusion.rehearsal import rehearse
from ..diffusion.replay import replay
from ..diffusion.report import report
from ..diffusion.run_folder import RunFolder
from ..schedules.parts import build
from .arguments import gather, merge, read_config
from .command import help_text, parse
from .parts import part_of
from .resolve import fields_of, resolve
from .spelling import UsageError

__all__ = ["Train", "plot_losses", "recipe_from", "resolve_recipe", "run"]


@dataclass(frozen=True)
class Train:
    """Train a recipe into a run folder.

    Args:
        config: a preset's name, a YAML file, or a run folder.
        out: the run folder; default runs/NAME of the config, or the run folder that was given.
        resume: go on from the newest checkpoint.
        verify: with resume: first make so many steps again that the run has made, and compare them to the last bit; 0: none.
        other_data: with resume: go on although the data have changed.
        processes: refuse to begin unless so many processes run; null: any number.
        dry_run: check everything, make one step, print what the run would be, and stop; nothing is written.
        print_config: print the resolved config as YAML and stop.
        allow: packages beside Sfumato whose classes the config may name.
    """

    config: str
    out: str | None = None
    resume: bool = False
    verify: int = 0
    other_data: bool = False
    processes: int | None = None
    dry_run: bool = False
    print_config: bool = False
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.verify < 0 or (self.verify and not self.resume):
            raise ValueError(f"verify is {self.verify}; allowed: >= 0, and with --resume only")
        if self.other_data and not self.resume:
            raise ValueError("other_data is true; allowed: with --resume only")
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"processes is {self.processes}; allowed: >= 1, or null")


def resolve_recipe(config: str, pairs: Sequence[tuple[str, Any]], allow: Sequence[str]) -> dict[str, Any]:
    """The complete description of a recipe: a preset, file or run folder, with values set over it.

    Raises:
        UsageError: with every problem found.
    """
    own = Path(config) / "config.yaml"
    # what is a list of parts may be said several times, each with its arguments after it
    lists = {name for name, f in fields_of(Recipe).items() if part_of(f.hint)}
    one = [(k, v) for k, v in pairs if k.split(".")[0] not in lists]
    tree = merge(current_recipe(read_config(str(own) if own.is_file() else config)), one)
    for key in lists:
        if given := [(k, v) for k, v in pairs if k.split(".")[0] == key]:
            tree[key] = gather(given)
    problems: list[str] = []
    said = {key for key, _ in pairs}
    if "rate" in said and (idle := sorted({"warmup", "lr_end"} & said)):
        problems_of_rate = [f"{key}: rate has its own; say --rate.{key.removeprefix('lr_')}" for key in idle]
        raise UsageError(problems_of_rate)
    try:
        resolved = resolve(tree, Recipe, allow, also=[*fields_of(Train)])
    except UsageError as error:
        problems, resolved = error.problems, {}
        told = {problem.split(" ")[0].rstrip(":") for problem in problems}
        tree = {key: value for key, value in tree.items() if key not in told}
    plain: dict[str, Any] = {}
    for key, value in (resolved or tree).items():
        number = _number(value)
        if number is not None:  # what is no number has been reported already
            plain[key] = number
    problems += range_errors(plain)
    if problems:
        raise UsageError(problems)
    return resolved


def _number(value: Any) -> int | float | None:
    """The number that a plain value is, or reads as."""
    for kind in (int, float):
        with suppress(TypeError, ValueError):
            return value if isinstance(value, int | float) and not isinstance(value, bool) else kind(value)
    return None


def recipe_from(description: dict[str, Any], allow: Sequence[str]) -> Recipe:
    """Build a recipe; the network's weights are drawn from its seed."""
    torch.manual_seed(description["seed"])
    return Recipe(**build(description, allow))


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                "sfumato train CONFIG [--out FOLDER] [--resume] [--dry-run] [--KEY VALUE ...]", Train, Recipe, argv
            )
        )
        return 0
    options, pairs = parse(argv, Train, ("config",), Recipe)
    description = resolve_recipe(options.config, pairs, options.allow)
    if options.print_config:
        print(yaml.safe_dump(description, sort_keys=False), end="")
        return 0
    recipe = recipe_from(description, options.allow)
    processes, main = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0") == "0"
    if options.processes not in (None, processes):
        raise ValueError(
            f"processes is {options.processes}, but {processes} was launched; launch with torchrun --nproc_per_node "
            f"{options.processes} -m sfumato.tools.cli train ..."
        )
    given = Path(options.config)
    folder = (
        Path(options.out) if options.out else given if (given / "config.yaml").is_file() else Path("runs") / given.stem
    )
    if options.dry_run:
        check_recipe(recipe)
        if main:
            print(report(recipe, processes))
        for line in rehearse(recipe, folder).words(recipe.steps) if main or processes > 1 else []:
            if main:
                print(f"{'':>8}  {line}")
        return 0
    RunFolder(folder, recipe).refuse(options.resume)
    if main and options.resume and not (folder / "config.yaml").is_file():
        print(f"nothing to resume in {folder}: starting from step 0", file=sys.stderr)
    if main:
        check_recipe(recipe)
        print(report(recipe, processes), file=sys.stderr)
    if options.verify:
        replayed = replay(recipe, folder, options.verify)
        if main:
            print(replayed.words(), file=sys.stderr)
        if replayed.differences:
            return 1
    try:
        train(recipe, folder, resume=options.resume, other_data=options.other_data, progress=True)
    except Interrupted as stopped:
        if main:
            print(f"sfumato train: {stopped}\ngo on with: sfumato train {folder} --resume", file=sys.stderr)
        return 0 if stopped.number == signal.SIGTERM else 130
    with signals():  # all is saved: what asks to stop now finds a run that is finished
        if main:
            print(_finished(recipe, folder, options.allow))
    return 0


def _finished(recipe: Recipe, folder: Path, allowed: Sequence[str]) -> str:
    """What to tell of a finished run: where it is, and how to go on."""
    told = f"{plot_losses(folder)}\ntrained: {folder}\nnext: "
    about = latents_of(recipe.data)
    if about is not None or is_picture(recipe.data.shape):
        allow = "".join(f" --allow {package}" for package in allowed)
        labels = f" --labels 0-{recipe.num_classes - 1}" if recipe.num_classes else ""
        prompts = ' --prompts "..."' if recipe.text is not None else ""
        vae = f" --vae {recipe.vae or 'FOLDER'}" if about is not None else ""
        return f"{told}sfumato sample {folder} --seeds 0-15{labels}{prompts}{vae}{allow}"
    return (
        f'{told}in Python, load("{folder}").sample(range(16)).images: samples of shape {tuple(recipe.data.shape)}, which are no pictures; '
        "Vae(folder).decode makes some of latents"
    )


def plot_losses(folder: Path) -> str:
    """Draw the losses of a run into its folder; returns what to tell the user."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    skipped = next((line["skipped"] for line in reversed(lines) if line.get("skipped")), 0)
    about = [f"left out:    {skipped} updates whose loss or gradient was not finite"] if skipped else []
    try:
        from .run_plot import draw_run
    except ImportError:
        return "no loss plot: matplotlib is not installed (pip install 'sfumato[plots]')"
    draw_run(lines, folder / "loss.png")
    return "\n".join([*about, f"the loss:    {folder / 'loss.png'}", *_noise_scale(folder, lines)])


def _noise_scale(folder: Path, lines: Sequence[dict[str, Any]]) -> list[str]:
    """What the gradient's noise says of the batch, where a run measured it."""
    known = [line for line in lines if line.get("noise_scale") is not None]
    if not known:
        return []
    batch = yaml.safe_load((folder / "config.yaml").read_text())["batch"]
    return [Scale(1.0, 1.0, known[-1]["noise_scale"], known[-1].get("noise_scale_error")).words(batch)]
