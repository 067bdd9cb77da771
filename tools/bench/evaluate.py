"""What numbers of evaluation cost beside features: Frechet distances and moments, ours and those of other libraries."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ...diffusion.measuring.frechet import Moments, frechet, moments
from ...diffusion.measuring.inception_blocks import InceptionNetwork
from .evaluate_peers import DISTANCES, accumulating
from .goals import Goal
from .kind import Ask, Kind
from .peers import installed
from .sheet import Cell, Sheet, exact, ratio_of
from .timing import times

__all__ = ["EVALUATING", "ROWS", "distances", "products", "runs_of", "share_of"]

PEERS = tuple(DISTANCES)

# features, rounds
ROWS = {
    "frechet-64": (64, 21), "frechet-512": (512, 5), "frechet-1024": (1024, 3), "frechet-2048": (2048, 5),
    "singular-512": (512, 5), "accumulate-2048": (2048, 9), "share-2048": (2048, 3),
}  # fmt: skip
_BATCH, _PICTURES = 64, 1024

Runs = dict[str, Callable[[], Any]]


def _features(n: int, d: int, seed: int) -> Tensor:
    """Vectors whose variances fall by three powers of ten, in a basis of their own."""
    draw = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64)).Q
    return (
        torch.randn(n, d, generator=draw, dtype=torch.float64) * torch.logspace(0, -1.5, d, dtype=torch.float64) @ turn
    )


def distances(name: str, d: int, against: Sequence[str]) -> Runs:
    """A distance between two sets, by us and by peers: of twice as many vectors as features, or of half as many (name starts with
    "singular"): then by us with their factors, and as a file would hold them."""
    singular = name.startswith("singular")
    first, second = (moments(_features(d // 2 if singular else 2 * d, d, seed)) for seed in (1, 2))
    runs: Runs = {"ours": lambda: frechet(first, second)}
    if singular:
        bare = [Moments(m.mean, m.covariance, m.count) for m in (first, second)]
        runs["ours, of covariances alone"] = lambda: frechet(*bare)
    for peer, make in DISTANCES.items():
        if peer in against:
            runs[peer] = make(first, second)
    return runs


def _accumulating(d: int, against: Sequence[str]) -> Runs:
    batches = torch.randn(_PICTURES, d, generator=torch.Generator().manual_seed(1)).split(_BATCH)
    return {side: run for side, run in accumulating(d, batches).items() if side == "ours" or side in against}


def runs_of(name: str, d: int, against: Sequence[str]) -> Runs:
    """The sides of a row: name, of ROWS, whose features may be fewer; peers by name."""
    return _accumulating(d, against) if name.startswith("accumulate") else distances(name, d, against)


def _row(name: str, d: int, rounds: int, against: Sequence[str], sheet: Sheet) -> None:
    """Every side's time and, of a distance, how far it is from ours; of an accumulation, its products."""
    runs = runs_of(name, d, against)
    values: dict[str, float] = {}

    def kept(side: str) -> Callable[[], object]:
        def run() -> None:
            if (value := runs[side]()) is not None:
                values[side] = value

        return run

    counts = {side: products(run) for side, run in runs.items()} if name.startswith("accumulate") else {}
    with _one_thread():
        taken = times({side: kept(side) for side in runs}, rounds, cuda=False)
    for side in runs:
        cells: dict[str, Cell] = {"CPU seconds": ratio_of(taken[side], [1.0] * rounds, "s")}
        cells["times ours"] = ratio_of(taken[side], taken["ours"])
        if side in values:
            cells["off ours"] = Cell(abs(values[side] / values["ours"] - 1), unit="")
        if side in counts:
            cells["GFLOP"] = exact(counts[side])
        sheet.add(f"{name}, {side}", cells)


def products(run: Callable[[], object]) -> float:
    """The operations of a run's matrix products, in 10^9: two for each product of two numbers."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        run()
    total = 0
    for event in profiled.events() or []:
        if event.name in ("aten::mm", "aten::addmm", "aten::addmm_"):
            left, right = event.input_shapes[-4:-2] if "addmm" in event.name else event.input_shapes[:2]
            total += 2 * left[0] * left[1] * right[1]
    return total / 1e9


def _one_thread() -> Any:
    """The linear algebra of scipy in one thread, too: CPU time of waiting threads is nobody's work."""
    return importlib.import_module("threadpoolctl").threadpool_limits(1)


def _share(name: str, d: int, rounds: int, pictures: int, sheet: Sheet) -> None:
    """What accumulating costs a picture, as a share of Inception's look at it, with any weights."""
    network = InceptionNetwork().eval()
    x = torch.randn(pictures, 3, 299, 299, generator=torch.Generator().manual_seed(1))
    runs = {"statistics": _accumulating(d, ())["ours"], "look": lambda: network.features(x)}
    sheet.add(name, share_of(times(runs, rounds, cuda=False), pictures))


def share_of(taken: Mapping[str, Sequence[float]], pictures: int) -> dict[str, Cell]:
    """Seconds per round of the statistics of 1,024 pictures, and of a look at some, as a share of a picture each."""
    look = [seconds / pictures for seconds in taken["look"]]
    return {
        "share": ratio_of([seconds / _PICTURES for seconds in taken["statistics"]], look, "%"),
        "CPU seconds of a look": ratio_of(look, [1.0] * len(look), "s"),
    }


def _measure(ask: Ask, sheet: Sheet) -> None:
    there = [peer for peer in ask.against if installed(peer)]
    for peer in ask.against:
        if peer not in there:
            sheet.lacks(peer, "not installed")
    for name in ROWS if ask.only is None else [ask.only]:
        d, rounds = (24, 1) if ask.quick else ROWS[name]
        if name.startswith("share"):
            _share(name, d, rounds, 1 if ask.quick else 8, sheet)
        else:
            _row(name, d, rounds, there, sheet)


EVALUATING = Kind(
    _measure, tuple(ROWS), PEERS,
    goals=(
        Goal("scipy's Frechet distance of 2048 features beside ours", "evaluate", "frechet-2048, scipy", "times ours", 5.0, at_most=False),
        Goal("torchmetrics' of 2048 features beside ours", "evaluate", "frechet-2048, torchmetrics", "times ours", 2.0, at_most=False),
        *(Goal(f"ours of 2048 features off {peer}'s", "evaluate", f"frechet-2048, {peer}", "off ours", 1e-6) for peer in DISTANCES),
        Goal("statistics beside Inception's look", "evaluate", "share-2048", "share", 0.05),
    ),
)  # fmt: skip
