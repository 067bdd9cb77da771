"""What a whole sampling call costs: beside the pipeline of diffusers, beside its network alone, in memory, and as it grows."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ...diffusion.memory_format import set_memory_format
from ...diffusion.model import Model
from .count import count
from .floors import Network
from .kind import Ask, Kind
from .peer_networks import OURS, PEERS, TheirUNet, about
from .peer_networks import Network as PeerNetwork
from .peers import installed, pipeline_call
from .sample_growth import GROWTH, measure_growth
from .sample_memory import MEMORY_GOALS, measure_memory
from .sample_networks import OneOperation, model_of, unsaid
from .sheet import Cell, Sheet, exact, ratio_of
from .timing import times

__all__ = ["CALLS", "counted", "timed"]

# pictures, steps, rounds
_BATCHES = ((1, 20, 15), (16, 10, 5))


class _TheirOneOperation(OneOperation):
    """A network of one operation, as the pipeline of diffusers wants one."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.config = SimpleNamespace(sample_size=32, in_channels=3)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Any:
        return SimpleNamespace(sample=self.network(x))


def counted(against: bool) -> dict[str, dict[str, float]]:
    """Evaluations, operations, syncs and fresh tensors per step of DDIM in the middle of a whole call, the network's own left out.

    Args:
        against: whether to count the pipeline of diffusers, too.

    Returns:
        {"ours" or "diffusers": counts}.
    """
    steps, x = 20, torch.zeros(2, 3, 32, 32)

    def ours(network: Network, x: Tensor) -> object:
        return model_of(OneOperation(network)).sample(range(len(x)), steps=steps)

    def theirs(network: Network, x: Tensor) -> object:
        return pipeline_call(_TheirOneOperation(network), len(x), steps)()

    walks: dict[str, Callable[[Network, Tensor], object]] = {"ours": ours, **({"diffusers": theirs} if against else {})}
    found: dict[str, dict[str, float]] = {}
    for who, walk in walks.items():
        asked: list[None] = []

        def network(x: Tensor, asked: list[None] = asked) -> Tensor:
            asked.append(None)
            return x * 0.5

        with unsaid():
            walk(network, x)
            counts = count(walk, x, 8, 8)
        found[who] = {
            "evaluations": len(asked) / steps, "full-tensor operations": counts.full, "small operations": counts.small,
            "syncs": counts.syncs, "fresh tensors": counts.fresh,
        }  # fmt: skip
    return found


def _models(theirs: nn.Module | None) -> dict[str, Model]:
    """Ours: around the very network of diffusers, and with our UNet of as many parameters."""
    ours, last = OURS["diffusers"]["UNet"](), OURS["diffusers"]["UNet"]()
    set_memory_format(last, "channels_last")
    named = {} if theirs is None else {"its own network": model_of(TheirUNet(theirs))}
    return {**named, "our UNet": model_of(ours), "our UNet, channels_last": model_of(last)}


def timed(batch: int, steps: int, repeats: int, theirs: nn.Module | None) -> dict[str, dict[str, Cell]]:
    """Time of whole calls, interleaved: pictures per second over those of the pipeline, and time over that of the network alone.

    Args:
        batch: pictures per call, >= 1.
        steps: of DDIM, all deterministic.
        repeats: rounds, >= 1.
        theirs: the UNet of diffusers, or None: only ours.

    Returns:
        {"diffusers" or a model of ours: cells}.
    """
    models = _models(theirs)
    runs: dict[str, Callable[[], object]] = {}
    if theirs is not None:
        runs["diffusers"] = pipeline_call(theirs, batch, steps)
    for name, model in models.items():
        runs[name] = lambda model=model: model.sample(range(batch), steps=steps)
    x, time = torch.randn(batch, 3, 32, 32), torch.full((batch,), 500.0)
    for name, model in models.items():
        network = model.denoiser.backbone.eval()
        runs[f"{name}, alone"] = lambda network=network: [network(x, time) for _ in range(steps)]
    with unsaid():
        taken = times(runs, repeats, cuda=False)
    found: dict[str, dict[str, Cell]] = {}
    for name in (*(["diffusers"] if theirs is not None else []), *models):
        alone = taken[f"{'its own network' if name == 'diffusers' else name}, alone"]
        found[name] = {"over its network alone": ratio_of(taken[name], alone)}
        if theirs is not None and name != "diffusers":
            found[name]["pictures per second, over diffusers"] = ratio_of(taken["diffusers"], taken[name])
    return found


def _measure_calls(ask: Ask, sheet: Sheet, theirs: nn.Module | None) -> None:
    if theirs is not None:
        sizes = about(PeerNetwork(theirs, lambda module, x, time: module(x, time).sample))
        ours = about(PeerNetwork(OURS["diffusers"]["UNet"](), lambda module, x, time: module(x, time)))
        sheet.add("network of diffusers", {name: exact(value) for name, value in sizes.items()})
        sheet.add("our UNet", {name: exact(value) for name, value in ours.items()})
    sheet.say("whole calls of DDIM, network included")
    for batch, steps, rounds in _BATCHES[:1] if ask.quick else _BATCHES:
        steps, rounds = (2, 1) if ask.quick else (steps, rounds)
        for name, cells in timed(batch, steps, rounds, theirs).items():
            sheet.add(f"batch {batch}, {name}", cells)


def _measure(ask: Ask, sheet: Sheet) -> None:
    against = "diffusers" in ask.against and installed("diffusers")
    if "diffusers" in ask.against and not against:
        sheet.lacks("diffusers", "not installed")
    if ask.only in (None, "counts"):
        sheet.say(
            "per step of DDIM in the middle of a call, without the network's own operation; counted by the profiler"
        )
        for who, counts in counted(against).items():
            sheet.add(f"step, {who}", {name: exact(round(value, 3) + 0.0) for name, value in counts.items()})
    if ask.only in (None, "memory"):
        measure_memory(sheet)
    if ask.only in (None, "calls"):
        torch.manual_seed(0)
        _measure_calls(ask, sheet, PEERS["diffusers"][1]().module if against else None)
    if ask.growth or ask.only in GROWTH:
        for name in GROWTH:
            if ask.only in (None, name):
                measure_growth(name, ask.quick, sheet)


CALLS = Kind(_measure, ("counts", "memory", "calls", *GROWTH), ("diffusers",), MEMORY_GOALS, ("growth",))
