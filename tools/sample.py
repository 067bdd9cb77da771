"""`sfumato sample`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..diffusion import load
from ..diffusion.backbones.attention import Backend
from ..diffusion.generate import generate
from ..diffusion.in_turns import InTurns
from ..diffusion.launch import Processes, launched
from ..diffusion.own_inputs import RangeSearch
from ..diffusion.picture_folder import PictureFolder
from ..diffusion.plan import is_picture
from ..diffusion.vae import Precision
from ..guidance import CFGPlusPlus, Guidance, Interval, equivalent_scale, rules_within
from ..samplers import Sampler
from ..samplers.filters import Filter
from ..schedules import Grid, Level
from .arguments import read_config
from .command import help_text, parse
from .folders import ready_folder
from .pictures import choose, write
from .quantised import quantised_as_asked
from .stopping import Stopped, stopping

__all__ = ["Sample", "also_of", "numbers", "own_parts", "prompts_of", "run", "strengths"]

MOST = 1_000_000


@dataclass(frozen=True)
class Sample:
    """Draw pictures from a model: one PNG per seed, and a sheet of all; under torchrun by several processes.

    Args:
        run: a run folder, a folder of diffusers (a pipeline's or a network's), or a .safetensors file of DiT, ADM or EDM in its authors'
            own form.
        seeds: one picture each: 0-15, 3,5,9 or 7.
        labels: classes, as seeds; fewer than seeds are repeated in turn. none: no class.
        prompts: of a network that knows texts: one text, or a file (.txt) with a text per line; fewer than seeds are repeated in turn.
        also: labels (or prompts) of further branches by name, for rules that ask for them: --also.negative 7 with --guidance.against
            negative, or --also "{second: 0-9}" with --guidance Mix.
        vae: folder of the VAE that makes pictures of latents, for a network that was trained on them.
        text: folder where the run's text encoder is, when it is no longer where it was; or that of its stored texts.
        weak: run folder of a weaker network, for --guidance Autoguidance; it may be the run itself.
        weak_step: its checkpoint of that optimizer step; null: the newest.
        steps: how many; null: the run's own.
        sampler: the method; null: the run's own.
        grid: the levels; null: the run's own.
        guidance: the rule; null: the run's own.
        filters: rejected pictures are tried again; may be given several times. --filters Calibrated --filters.calibration FILE takes what
            `sfumato calibrate` found.
        retries: how often a rejected picture is tried again.
        mark: rejected pictures are kept and marked, and nothing is tried again.
        batch: pictures at a time.
        strict: the same picture to the last bit, however many are asked for at once.
        brownian: a stochastic sampler follows one Brownian motion, so its pictures converge as steps are added.
        out: folder of the pictures; null: RUN/pictures, or RUN/pictures-2, ... when that holds some; of a model that is no run,
            pictures/NAME.
        resume: make what is missing in a folder that was begun by the same command.
        columns: of the sheet.
        ema: the averaged weights: true, the exponential average; false, the raw weights; a number: the average of that length, a share of
            training above 0 to 0.3, such as 0.1, for runs with ema_lengths (see `sfumato ema`).
        quantize: linear layers in int8, by torchao, of a network that was trained as it was: int8_weights (weights only), int8 (inputs
            too, scaled as they come), int8_static (inputs by scales that are found on trajectories of the model); the distance is told.
        scheduler: folder of the scheduler that a network of diffusers was trained with, where none is beside it.
        size: height and width of the pictures, pixels, for networks that take any; null: as they were trained.
        precision: of the network: fp32, bf16, fp16.
        attention: by which back-end a network of ours attends: auto, or one that `sfumato doctor` calls ok.
        compile: compile the network's blocks, or the whole, which pays for many pictures; null: run it as it is written.
        graph: on a GPU: record the network as a CUDA graph, once per kind of input, which small batches gain by; with compile, what is
            compiled.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    run: str
    seeds: str = "0-15"
    labels: str | None = None
    prompts: str | None = None
    also: Mapping[str, Any] | None = None
    vae: str | None = None
    text: str | None = None
    weak: str | None = None
    weak_step: int | None = None
    steps: int | None = None
    sampler: Sampler | None = None
    grid: Grid | None = None
    guidance: Guidance | None = None
    filters: Sequence[Filter] = ()
    retries: int = 8
    mark: bool = False
    batch: int = 64
    strict: bool = False
    brownian: bool = False
    out: str | None = None
    resume: bool = False
    columns: int = 8
    ema: bool | float = True
    quantize: Literal["int8_weights", "int8", "int8_static"] | None = None
    scheduler: str | None = None
    size: int | None = None
    precision: Precision = "fp32"
    attention: Backend = "auto"
    compile: Literal["blocks", "whole"] | None = None
    graph: bool = False
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.columns < 1:
            raise ValueError(f"columns is {self.columns}; allowed: >= 1")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; allowed: >= 1, or null")
        if self.weak_step is not None and self.weak is None:
            raise ValueError(f"weak_step is {self.weak_step}, but weak is null; name the run too, as --weak {self.run}")


def numbers(text: str, name: str) -> list[int]:
    """0-3,7 -> [0, 1, 2, 3, 7].

    Raises:
        ValueError: naming the option and what is allowed.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ValueError(f"{name} is {text!r}; allowed: whole numbers and ranges, such as 0-15 or 3,5,9")
        stop = int(last if dash else first) + 1
        if len(found) + stop - int(first) > MOST:
            raise ValueError(f"{name} is {text!r}: more than {MOST} numbers")
        found += range(int(first), stop)
    return found


def _in_turn(text: str, name: str, count: int) -> list[int] | None:
    """Labels, one per seed; fewer are repeated in turn. None: none, said in words."""
    if text.lower() in ("none", "null"):
        return None
    given = numbers(text, name)
    return [given[i % len(given)] for i in range(count)]


def prompts_of(given: str, count: int) -> list[str]:
    """Texts, one per seed: one text for all, or those of a file's lines in turn.

    Args:
        given: a text, or the path of a file that ends in .txt.
        count: of seeds.

    Raises:
        ValueError: for a file that can't be read, or holds nothing.
    """
    if not given.endswith(".txt"):
        return [given] * count
    try:
        lines = [line.strip() for line in Path(given).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"prompts is {given!r}, which can't be read: {error}; give a text, or a file with a text per line"
        ) from error
    if not lines:
        raise ValueError(f"prompts is {given!r}, which is empty; give a file with a text per line")
    return [lines[i % len(lines)] for i in range(count)]


def also_of(given: Mapping[str, Any], count: int, texts: bool) -> dict[str, Any]:
    """The labels, or texts, of further branches; None: no class.

    Args:
        given: as on the command line.
        count: of seeds.
        texts: whether the model knows texts.

    Raises:
        ValueError: for what says neither.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if texts:
            found[name] = _texts(value, f"also.{name}", count)
            continue
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        found[name] = _in_turn(text, f"also.{name}", count)
    return found


def _texts(value: Any, name: str, count: int) -> list[str]:
    """Texts as YAML has them: one, a list of them in turn, or a file."""
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(text, str | int | float) for text in listed):
        raise ValueError(f'{name} is {value!r}; allowed: a text, a list of texts, or a file (.txt); "" is no text')
    if isinstance(value, list):
        return [str(listed[i % len(listed)]) for i in range(count)]
    return prompts_of(str(value), count)


def own_parts(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The run's own sampler, grid and guidance where only arguments of them are given, such as --guidance.scale 3."""
    said = {key for key, _ in pairs}
    wanted = {key.split(".")[0] for key in said if "." in key} - said
    config = Path(str(dict(pairs).get("run", ""))) / "config.yaml"
    if not wanted or not config.is_file():
        return {}
    own = read_config(str(config))
    return {key: own[key] for key in wanted if key in own}


def strengths(guidance: Guidance, levels: Sequence[Level]) -> list[str]:
    """What the scale of each CFG++ per step is as a scale of CFG, in the steps that it guides; found within other rules too.

    Args:
        guidance: the rule.
        levels: the grid.
    """
    lines: list[str] = []
    for rule, around in rules_within(guidance, CFGPlusPlus):
        assert rule.scale is not None
        intervals = [outer for outer in around if isinstance(outer, Interval)]
        for own in rule.scale if isinstance(rule.scale, Sequence) else [rule.scale]:
            scales = [
                scale for now, scale in zip(levels[:-2], equivalent_scale(own, levels)[:-1], strict=True)
                if all(bool(interval.inside(now)) for interval in intervals)
            ]  # fmt: skip
            if rule.per == "step" and own and scales:
                weak = "; below 1 is weaker than unguided" if min(scales) < 1.0 else ""
                lines.append(
                    f"CFG++ at {own:g} per step was CFG at {min(scales):.3g} to {max(scales):.3g} in these {len(levels) - 1} steps "
                    f"(with DDIM; the last, to data, left out{weak}); in another number of steps it is another strength"
                )
    return lines


def _many(values: Sequence[int]) -> str:
    """The mean of numbers, and from where to where they go if they differ."""
    mean = f"{sum(values) / len(values):g}"
    return mean if min(values) == max(values) else f"{mean} ({min(values)} to {max(values)})"


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                "sfumato sample MODEL [--seeds 0-15] [--labels 3] [--steps 20] [--sampler NAME ...]", Sample, None, argv
            )
        )
        return 0
    options, _ = parse(argv, Sample, ("run",), base=own_parts)
    processes = Processes("fp32", cpu=True) if launched() else None
    turns, chosen = InTurns(processes), Path()
    with turns.together():
        seeds = numbers(options.seeds, "seeds")
        if turns.main:  # the others might see what it has begun to write
            chosen = choose(options.run, options.out, options.resume)
    out = chosen if processes is None else Path(processes.tell(str(chosen)))
    try:
        with stopping():
            return _sample(options, seeds, out, processes)
    except Stopped as stopped:
        if turns.main:
            print(f"sfumato sample: {stopped}{_way_on(argv, options, out, len(seeds))}", file=sys.stderr)
        return stopped.code
    except OSError as error:
        raise OSError(f"{error}{_way_on(argv, options, out, len(seeds))}") from error


def _way_on(argv: Sequence[str], options: Sample, out: Path, count: int) -> str:
    """What is there of a job that ended before its time, and the command that goes on with it."""
    there = PictureFolder(out).count()
    if not there:
        return "; no picture was finished yet"
    more = [] if options.out is not None else ["--out", str(out)]
    here = os.environ.get("LOCAL_WORLD_SIZE", "1") if launched() else "1"
    start = ["sfumato"] if here == "1" else ["torchrun", "--nproc_per_node", here, "-m", "sfumato.tools.cli"]
    command = shlex.join([*start, "sample", *argv, *more, *([] if options.resume else ["--resume"])])
    return f"; {there} of {count} pictures are in {out}\ngo on with: {command}"


def _sample(options: Sample, seeds: Sequence[int], out: Path, processes: Processes | None) -> int:
    """Make the pictures and say what was made."""
    import torch

    main = processes is None or processes.main
    device = options.device if processes is None else processes.device_of(options.device)

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model = load(
        options.run, ema=options.ema, device=device, allow=options.allow, vae=options.vae, text=options.text,
        scheduler=options.scheduler, size=options.size, precision=options.precision, attention=options.attention,
        compile=options.compile, graph=options.graph,
    )  # fmt: skip
    if not is_picture(model.picture_shape) or (model.latents and model.vae is None):
        raise ValueError(
            f"the samples of {options.run} are of shape {tuple(model.shape)}, which are no pictures; of latents give the folder of their "
            f"VAE by --vae. In Python: load({options.run!r}).sample(seeds).images are its samples"
        )
    weak = None
    if options.weak is not None:
        try:
            weak = load(options.weak, ema=options.ema, device=device, allow=options.allow, step=options.weak_step)
        except ValueError as error:
            raise ValueError(f"weak: {error}") from error
    labels = None if options.labels is None else _in_turn(options.labels, "labels", len(seeds))
    prompts = None if options.prompts is None else prompts_of(options.prompts, len(seeds))
    also = None if options.also is None else also_of(options.also, len(seeds), model.text is not None)
    if options.quantize is not None:
        # ranges must not depend on how many pictures are asked for
        ranged = None if options.prompts is None else prompts_of(options.prompts, RangeSearch().count)
        model, distance = quantised_as_asked(options, model, seeds, labels, also, weak, prompts, ranged)
        if main:
            print(distance)
    # found out before the work, not after it; what was not there is taken away again if nothing is made
    with InTurns(processes).together():
        made = ready_folder(out, "out") if main else []
    try:
        generated = generate(
            model, out, seeds, labels, prompts=prompts, also=also, weak=weak, steps=options.steps, sampler=options.sampler,
            grid=options.grid, guidance=options.guidance, filters=options.filters, retries=options.retries, batch=options.batch,
            strict=options.strict, brownian=options.brownian, mark=options.mark, resume=options.resume, processes=processes, progress=True,
        )  # fmt: skip
    except BaseException:
        with suppress(OSError):  # those that hold pictures by now stay
            for each in made:
                each.rmdir()
        raise
    count = generated.pictures
    if not main:
        return 0 if count else 1
    samples = generated.samples
    said = write(samples, out, options.columns)
    generated.finish()
    there = f" ({generated.found} of them were there already)" if options.resume else ""
    print(f"{count} pictures in {out}{there}, all of them in {out / 'sheet.png'}")
    for line in said:
        print(line)
    columns = zip(samples.branches, samples.evaluations.T.tolist(), strict=True)
    print("evaluations per picture: " + ", ".join(f"{name} {_many(values)}" for name, values in columns))
    grid, steps = options.grid or model.grid, options.steps or model.steps
    for line in strengths(options.guidance or model.guidance, grid(model.denoiser.schedule, steps)):
        print(line)
    return 0 if count else 1
