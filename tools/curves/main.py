"""`sfumato curves`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ...diffusion import Source, load
from ...diffusion.measuring import Extractor, default_extractor
from ...diffusion.measuring.record import FEW
from ...diffusion.prepared import trained_on
from ...diffusion.whole_file import replace_text
from ...guidance import Guidance
from ...schedules import Grid, Schedule
from ...schedules.parts import build
from ..arguments import read_config
from ..claims.result import code_hash, machine
from ..command import help_text, parse
from ..compare.words import brief
from ..folders import ready_folder
from ..parts import resolve_class
from ..sample import numbers, own_parts
from ..stopping import Stopped, stopping
from .cells import keeper, measure
from .methods import chosen
from .mixture import ExactMixture
from .report import as_json, said, write_page
from .sampled import Sampled
from .subject import Block
from .winners import named

__all__ = ["Curves", "run"]


@dataclass(frozen=True)
class Curves:
    """Draw quality against evaluations for every sampler, and name the best at each number of evaluations, if there is one.

    Args:
        model: a run folder, whatever else `sfumato sample` takes, or "mixture": points in the plane whose exact answer is known.
        evaluations: of the network per picture, all branches of the guidance together: 5,8,12,20. Each sampler makes as many steps as fit.
        samplers: which, with commas between them, by class or as they are listed: DDIM,GHVB(3.8); null: all.
        grids: beside the model's own, with commas between them: Trailing,Karras,LogSNRUniform; each with its defaults.
        guidance: the rule; null: the model's own.
        seeds: blocks of seeds, >= 1; the spread is over them. With fewer than 3 nothing is told apart.
        count: pictures per block, >= 2.
        data: what pictures are compared with; null: those that the run was trained on; of another model none.
        extractor: what looks at the pictures; null: the digits classifier for Digits, else raw pixels.
        fine: steps of the ODE's solution that ends are compared with, >= 10; null: 300, or 500 of the mixture.
        schedule: of the mixture; null: Cosine.
        batch: pictures at a time.
        out: folder; null: RUN/curves, or runs/curves/NAME. What an interrupted call has measured is kept there.
        ema: the averaged weights.
        device: cpu, cuda, ...
        threads: CPU threads; null: PyTorch's default.
        allow: packages beside Sfumato whose classes may be named.
    """

    model: str
    evaluations: str = "5,8,12,20"
    samplers: str | None = None
    grids: str = ""
    guidance: Guidance | None = None
    seeds: int = 3
    count: int = 500
    data: Source | None = None
    extractor: Extractor | None = None
    fine: int | None = None
    schedule: Schedule | None = None
    batch: int = 250
    out: str | None = None
    ema: bool = True
    device: str = "cpu"
    threads: int | None = None
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("count", 2), ("fine", 10), ("batch", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; allowed: >= {least}")
        if self.budgets[0] < 1:
            raise ValueError(f"evaluations is {self.evaluations!r}; allowed: whole numbers >= 1, such as 5,8,12,20")
        if self.model != "mixture" and self.schedule is not None:
            raise ValueError("schedule is for the mixture only; a model has its own, leave it out")
        if self.model == "mixture" and (self.guidance, self.data, self.extractor) != (None, None, None):
            raise ValueError(
                "guidance, data and extractor say nothing about the mixture, whose law is known; leave them out"
            )
        chosen(self.samplers)

    @property
    def budgets(self) -> list[int]:
        return sorted(set(numbers(self.evaluations, "evaluations")))


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                "sfumato curves MODEL|mixture [--evaluations 5,8,12,20] [--samplers A,B] [--grids A,B]",
                Curves,
                None,
                argv,
            )
        )
        return 0
    options, _ = parse(argv, Curves, ("model",), base=_own)
    try:
        with stopping():
            return _curves(argv, options)
    except Stopped as stopped:
        words = shlex.join(["sfumato", "curves", *argv])
        print(f"sfumato curves: {stopped}; what was measured is kept\ngo on with: {words}", file=sys.stderr)
        return stopped.code


def _curves(argv: Sequence[str], options: Curves) -> int:
    """Measure, and leave the report."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    samplers, extra = chosen(options.samplers), _grids(options)
    home = Path(options.model) if (Path(options.model) / "config.yaml").is_file() else None
    default = home / "curves" if home is not None else Path("runs/curves") / (Path(options.model).stem or "model")
    out = default if options.out is None else Path(options.out)
    subject = _mixture(options) if options.model == "mixture" else _sampled(options, home)
    ready_folder(out, "out")
    blocks = [Block(i * options.count, options.count) for i in range(options.seeds)]
    grids = {_short(subject.grid): subject.grid, **extra}
    about = subject.about
    subject.kept = keeper(out / "cells", {**about, "version": version("sfumato"), "torch": str(torch.__version__)})
    lines = measure(subject, samplers, grids, options.budgets, blocks, out / "cells", progress=True)
    exact = [subject.exact(block) for block in blocks]
    found = [named(lines, key, budget) for key in subject.measures for budget in options.budgets]
    facts = _facts(options, subject.measures, exact, grids, about)
    result = as_json(lines, found, {
        "subject": options.model, "command": shlex.join(["sfumato", "curves", *argv]), "version": version("sfumato"),
        "torch": str(torch.__version__), "code": code_hash(), "machine": machine(torch.get_num_threads()), "about": about,
        "measures": subject.measures, "blocks": [asdict(block) for block in blocks], "exact": exact, "facts": facts,
    })  # fmt: skip
    replace_text(out / "curves.json", json.dumps(result, indent=1, default=str))
    picture = _draw(lines, found, subject.measures, exact, options, out / "curves.png")
    write_page(lines, found, subject.measures, result, facts, picture, out / "curves.html")
    for key, words in subject.measures.items():
        print("\n".join([f"by {words}:", *(f"  {said(f)}" for f in found if f.measure == key)]))
    failed = sum(bool(line.trouble) for line in lines)
    if failed:
        print(f"{failed} of {len(lines)} failed or did not fit, and lead nothing; the report says which and why")
    print(f"report: {out / 'curves.html'}\nnumbers: {out / 'curves.json'}")
    return 0


def _short(grid: Grid) -> str:
    """A grid's name: its class, and what it was given beside its defaults."""
    if not is_dataclass(grid):
        return str(grid)
    given = [f"{f.name}={getattr(grid, f.name)!r}" for f in fields(grid) if getattr(grid, f.name) != f.default]
    return f"{type(grid).__name__}({', '.join(given)})" if given else type(grid).__name__


def _grids(options: Curves) -> dict[str, Grid]:
    found: dict[str, Grid] = {}
    for name in filter(None, (part.strip() for part in options.grids.split(","))):
        try:
            grid = resolve_class(name, Grid, options.allow)()
        except TypeError as error:
            raise ValueError(f"grids names {name!r}, which can't be made without arguments: {error}") from error
        found[_short(grid)] = grid
    return found


def _own(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The run's own guidance and data where only arguments of them are given."""
    return own_parts(
        [
            ("run" if key == "model" else key, value)
            for key, value in pairs
            if key.split(".")[0] in ("model", "guidance", "data")
        ]
    )


def _mixture(options: Curves) -> ExactMixture:
    own = ExactMixture()
    return ExactMixture(options.schedule or own.schedule, own.grid, options.fine or own.fine)


def _sampled(options: Curves, home: Path | None) -> Sampled:
    model = load(options.model, ema=options.ema, device=options.device, allow=options.allow)
    data = options.data
    if data is None and home is not None:
        data = trained_on(home, build(read_config(str(home / "config.yaml"))["data"], options.allow, "data"))
    if data is not None and (
        len(data.shape) != 3 or data.shape[0] not in (1, 3) or tuple(data.shape) != tuple(model.picture_shape)
    ):
        if options.data is not None:
            raise ValueError(
                f"data are of shape {tuple(data.shape)}, the model's pictures {tuple(model.picture_shape)}; allowed: the same"
            )
        data = None
    extractor = options.extractor
    if data is not None and extractor is None:
        extractor = default_extractor(data.shape).extractor
    return Sampled(model, options.guidance, data, extractor, options.fine or 300, options.batch)


def _facts(
    options: Curves, measures: Mapping[str, str], exact: Sequence[Mapping[str, Any]], grids: Mapping[str, Grid], about: Mapping[str, Any]
) -> list[str]:  # fmt: skip
    """What a stranger has to know, in sentences."""
    last = options.seeds * options.count - 1
    found = [
        f"{options.seeds} disjoint blocks of {options.count} seeds (0 to {last}), the same for every sampler; ± is the standard deviation "
        "over them.",
        "Evaluations are those of the network that were really spent per picture, counted; where guidance asks two branches, both. Each "
        f"sampler makes the most steps whose count is within the budget. Guidance: {brief(about.get('guidance', 'none'), options.allow)}.",
        f"Grids: {', '.join(grids)}; the first is the model's own.",
        f"The exact ends are themselves off by about {max(e['error'] for e in exact):.1g}, from half as many steps; they start where each "
        "grid starts, with the same noise.",
    ]  # fmt: skip
    if "network" in about:
        told = ", ".join(
            f"{name} {about[name]}"
            for name in ("run", "checkpoint", "ema", "pipeline", "model", "file")
            if name in about
        )
        found.append(
            f"Sampled: {told or options.model}, network (hash) {about['network']}; labels: {about['labels'] or 'none'}."
        )
    if about.get("law") and "extractor" in about["law"]:
        law, who = about["law"], about["law"]["extractor"]
        few = f"@{options.count}" if options.count < FEW else ""
        found.append(
            f"{who['short']}{few}: {options.count} pictures of each block against {law['data_count']} ({law['data_fingerprint'][:16]}), "
            f"in {who['num_features']} features of {who['name']} (hash {who['hash']}, resize {who['resize'] or 'none'})."
        )
    laws = [e["law"] for e in exact if e.get("law") is not None]
    if "law" in measures and laws:
        found.append(
            f"At {options.count} samples per block the exact ends of the ODE come to {', '.join(f'{v:.4g}' for v in laws)} by the distance "
            "to data: what is below that is nearer to the data than the model's own ODE. Fewer samples make such distances larger."
        )
    return found


def _draw(lines: Any, found: Any, measures: Mapping[str, str], exact: Any, options: Curves, path: Path) -> Path | None:
    try:
        from .figure import draw_curves
    except ImportError:
        print("no figure: matplotlib is not installed (pip install 'sfumato[plots]')")
        return None
    laws = [e["law"] for e in exact if e.get("law") is not None]
    title = f"{options.model}: quality against evaluations, {options.seeds} x {options.count} samples"
    draw_curves(lines, found, measures, {"law": laws}, title, path)
    return path
