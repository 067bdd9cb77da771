"""`sfumato bench`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..command import help_text, parse
from ..spelling import did_you_mean
from .evaluate import EVALUATE_PEERS, measure_evaluation
from .evaluate import ROWS as EVALUATIONS
from .filters import BACKBONES, FILTERS, added, shares
from .gpu import measure_gpu
from .methods import METHODS, ROWS
from .peer_networks import PEERS as NETWORKS
from .peers import installed
from .samplers import counted, timed
from .sampling import measure_sampling
from .training import measure_training

__all__ = ["Bench", "run"]

# shape, steps, rounds
SHAPES = (((1, 3, 32, 32), 50, 40), ((16, 4, 64, 64), 50, 12), ((16, 3, 256, 256), 10, 3))
PEERS = ("diffusers", "k_diffusion", "azula")
_ALL = {"samplers": METHODS, "filters": FILTERS, "evaluate": EVALUATIONS}
_NAMES = (*_ALL, "train", "sample", "gpu")
_AGAINST: dict[str, Sequence[str]] = {"train": tuple(NETWORKS), "evaluate": EVALUATE_PEERS}
_UNITS = {"full": "full-tensor ops", "small": "small ops", "syncs": "host syncs", "fresh": "fresh tensors"}


@dataclasses.dataclass(frozen=True)
class Bench:
    """Count and time samplers against minimal loops and other libraries, filters against networks, whole training steps and sampling calls,
    and what numbers of evaluation cost.

    Args:
        name: what to measure: samplers, filters; train or sample: a step or a call as a whole, beside those of other libraries with
            networks of as many parameters; evaluate: Frechet distances and moments beside other libraries'; or gpu: training and what
            holds bit for bit, on a GPU.
        out: folder of the result, a JSON file.
        device: cpu or cuda; what is counted is counted on the host. On cuda nothing of this has been run so far.
        only: one sampler, filter or row of evaluate, as in the table (frechet-2048, too, which takes a minute or two); null: all.
        against: other libraries, with commas between; of train: diffusers, lucidrains (denoising-diffusion-pytorch); of evaluate:
            torchmetrics, scipy. null: all.
        compile: of train: ours compiled, too; takes minutes.
        quick: a tiny version in seconds, to see whether it runs; its times mean nothing.
    """

    name: str = "samplers"
    out: str = "runs/bench"
    device: str = "cpu"
    only: str | None = None
    against: str | None = None
    compile: bool = False
    quick: bool = False

    def __post_init__(self) -> None:
        if self.name not in _NAMES:
            raise ValueError(f"name is {self.name!r}; allowed: {', '.join(_NAMES)}")
        allowed = _AGAINST.get(self.name, ())
        if self.against is not None and (strange := [peer for peer in self.peers if peer not in allowed]):
            there = (
                f"{', '.join(allowed)}, with commas between" if allowed else f"nothing, for {self.name}; leave it out"
            )
            raise ValueError(f"against names {', '.join(map(repr, strange))}; allowed: {there}")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device is {self.device!r}; allowed: cpu, cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is 'cuda', and this PyTorch sees no GPU; use cpu")
        known: Mapping[str, object] = _ALL.get(self.name, {})
        if self.only is not None and self.only not in known:
            raise ValueError(f"only is {self.only!r}; allowed: {', '.join(known)}{did_you_mean(self.only, known)}")

    @property
    def peers(self) -> list[str]:
        """Which other libraries to measure against."""
        return list(_AGAINST.get(self.name, ())) if self.against is None else self.against.split(",")


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                "sfumato bench samplers|filters|train|sample|evaluate|gpu [--out FOLDER] [--device cuda] [--only NAME]",
                Bench,
            )
        )
        return 0
    options, _ = parse(argv, Bench, ("name",))
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports its own starts and stops on stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = _MEASURES[options.name](options)
    finally:
        torch.set_num_threads(threads)
    file = Path(options.out) / f"{options.name}{'-quick' * options.quick}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    for peer, version in result.get("peers", {}).items():
        print(f"{peer}: {version}")
    if options.quick:
        print("the quick version only shows that it runs: its times mean nothing")
    print(f"numbers: {file}")
    return 0


def _measure(options: Bench) -> dict[str, Any]:
    """Every case, printed as it is measured."""
    head = ["sampler", "answer", "who", *_UNITS.values(), *("x".join(map(str, shape)) for shape, *_ in SHAPES)]
    print(
        "per evaluation, without the network's own operation; times include it, as ratios to the floor of the same row"
    )
    print(_line(head))
    cases: list[dict[str, Any]] = []
    for name in METHODS if options.only is None else [options.only]:
        for rows in ROWS:
            counts, times = counted(name, rows), {}
            for shape, steps, rounds in SHAPES:
                if options.quick:
                    steps, rounds = 4, 1
                times["x".join(map(str, shape))] = timed(name, rows, shape, steps, rounds, options.device)
            cases.append({"sampler": name, "answer": rows, "counts": counts, "times": times})
            for who in next(iter(times.values())):
                cells = [f"{value:.2f}" for value in counts[who].values()] if who in counts else ["-"] * len(_UNITS)
                print(_line([name, rows, who, *cells, *(f"{ratio[who]:.2f}" for ratio in times.values())]), flush=True)
    return {**_about(options), "peers": {peer: _version(peer) for peer in PEERS}, "cases": cases}


def _measure_filters(options: Bench) -> dict[str, Any]:
    """Every filter, printed as it is measured."""
    names = list(FILTERS) if options.only is None else [options.only]
    print("per step, what a filter adds to DDIM:")
    counts = {name: {rows: added(name, rows)._asdict() for rows in ROWS} for name in names}
    for name, by_row in counts.items():
        for rows, found in by_row.items():
            cells = ", ".join(f"{value:.2f} {_UNITS[key]}" for key, value in found.items())
            print(f"  {name}, answer {rows}: {cells}")
    print("time per step, as a share of one evaluation of the network:")
    times: dict[str, dict[str, float]] = {}
    for backbone in BACKBONES:
        found = shares(backbone, 1 if options.quick else 15, options.device)
        times[backbone] = {name: found[name] for name in names}
        print(f"  {backbone}: {', '.join(f'{k} {v:.2%}' for k, v in times[backbone].items())}", flush=True)
    return {**_about(options), "counts": counts, "shares": times}


def _say(line: str) -> None:
    print(line, flush=True)


def _measure_training(options: Bench) -> dict[str, Any]:
    peers, count, rounds = options.peers, 2 if options.quick else 32, 1 if options.quick else 9
    return {**_about(options), **measure_training(peers, count, rounds, options.compile, _say)}


def _measure_sampling(options: Bench) -> dict[str, Any]:
    steps, rounds = (2, 1) if options.quick else (20, 5)
    return {**_about(options), **measure_sampling(steps, rounds, options.quick, _say)}


def _measure_evaluation(options: Bench) -> dict[str, Any]:
    return {**_about(options), **measure_evaluation(options.only, options.peers, options.quick, _say)}


_MEASURES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "samplers": _measure, "filters": _measure_filters, "train": _measure_training, "sample": _measure_sampling,
    "evaluate": _measure_evaluation,
    "gpu": lambda options: measure_gpu(options.quick, _say),
}  # fmt: skip


def _about(options: Bench) -> dict[str, Any]:
    return {"torch": str(torch.__version__), "device": options.device, "quick": options.quick}


def _version(peer: str) -> str:
    if not installed(peer):
        return "not installed"
    return "no adapter for it here" if peer == "azula" else "measured where it has the method"


def _line(cells: Sequence[str]) -> str:
    widths = (25, 6, 11, *[15] * 4, *[13] * 3)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
