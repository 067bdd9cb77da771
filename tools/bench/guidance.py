"""What guidance costs: evaluations, exactly; time beside full classifier-free guidance; operations that a rule adds to a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...diffusion import DiT
from ...schedules import Karras, V
from .count import Counts, count
from .floors import Network
from .goals import Goal
from .guidance_cases import CASES, COUNT, STEPS, Window
from .guidance_walks import GUIDERS, Walk, our_walk, their_walk
from .kind import Ask, Kind
from .peers import installed
from .sample_networks import OneOperation, half, model_of, small_unet, unsaid
from .sheet import Sheet, exact, ratio_of
from .timing import times

__all__ = ["GUIDING", "added", "evaluations", "timed"]

_CLASSES = 10
_EDM2 = "Interval(CFG)"
_UNITS = {"full": "full-tensor operations", "small": "small operations", "syncs": "syncs", "fresh": "fresh tensors"}
# of a size of samples, their channels and size, and the size of the quick version
_BACKBONES: dict[str, tuple[Callable[[int], nn.Module], int, int, int]] = {
    "UNet": (lambda size: small_unet(size, _CLASSES), 3, 32, 4),
    "DiT": (lambda size: DiT(4, size, _CLASSES, patch=2, width=128, depth=4, heads=4), 4, 16, 4),
}


class _Shown:
    """A network of one operation that remembers how many rows it was shown in each call."""

    def __init__(self, network: Network = half) -> None:
        self._network, self.rows = network, list[int]()

    def __call__(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return self._network(x)


def evaluations(name: str) -> tuple[float, float]:
    """Evaluations per picture of `Model.sample` under a rule: as the networks are shown rows, and as it says itself.

    Args:
        name: of CASES.
    """
    case, shown, weaker = CASES[name], _Shown(), _Shown()
    model = model_of(OneOperation(shown, _CLASSES), (3, 8, 8), V())
    weak = model_of(OneOperation(weaker, _CLASSES), (3, 8, 8), V()) if case.weak else None
    with unsaid():
        found = model.sample(
            range(COUNT), [0] * COUNT, steps=STEPS, grid=Karras(0.002, 80.0), guidance=case.make(), weak=weak,
            also={"second": 1} if case.second else None,
        )  # fmt: skip
    return (sum(shown.rows) + sum(weaker.rows)) / COUNT, float(found.evaluations.sum()) / COUNT


def added(make: Callable[[nn.Module], Walk], window: Window, plain: Counts | None) -> Counts:
    """What a rule adds to a step of DDIM, the networks' own operations and answers left out; counted in the middle of a walk.

    Args:
        make: the walk under the rule, of a network.
        window: where.
        plain: what a step costs without guidance, taken off; None: nothing is.
    """
    shown: list[_Shown] = []

    def walk(network: Network, x: Tensor) -> object:
        shown.append(_Shown(network))
        return make(OneOperation(shown[-1], _CLASSES))(x)

    found = count(walk, torch.randn(COUNT, 3, 32, 32), window.first, window.calls)
    rows = sum(shown[0].rows[window.first : window.first + window.calls]) / COUNT
    # of each call `count` has left out one operation, and one tensor like x
    total = [v * window.calls for v in found[:3]] + [(found.fresh + 1) * window.calls - rows]
    return Counts(*(v / window.steps - (p if plain else 0.0) for v, p in zip(total, plain or [0.0] * 4, strict=True)))


def timed(backbone: str, names: list[str], against: bool, repeats: int, quick: bool = False) -> dict[str, list[float]]:
    """Seconds per round of a walk under each rule, interleaved: {rule: seconds}, that of a guider as "rule, diffusers".

    "rule, network alone": the calls of the network that CFG and its interval make, and nothing else.

    Args:
        backbone: of _BACKBONES.
        names: of CASES.
        against: whether to time guiders of diffusers, too.
        repeats: rounds, >= 1.
        quick: with the smallest samples there are.
    """
    torch.manual_seed(0)
    make, channels, usual, least = _BACKBONES[backbone]
    size = least if quick else usual
    network, weak, x = make(size).eval(), make(size).eval(), torch.randn(COUNT, channels, size, size)
    walks = {name: our_walk(name, network, weak) for name in names}
    if against:
        walks |= {f"{name}, diffusers": their_walk(name, network) for name in names if name in GUIDERS}
    walks |= {f"{name}, network alone": _alone(name, network) for name in ("CFG", _EDM2) if name in names}
    return times({who: lambda walk=walk: walk(x) for who, walk in walks.items()}, repeats, cuda=False)


def _alone(name: str, network: nn.Module) -> Walk:
    """As many calls of a network as a rule makes: with both branches in a step that is guided, with one in another."""
    both = [k < CASES[name].extra for k in range(STEPS)]

    def walk(x: Tensor) -> None:
        for twice in both:
            shown = torch.cat([x, x]) if twice else x
            network(shown, torch.zeros(len(shown)), torch.zeros(len(shown), dtype=torch.int64))

    return walk


def _measure_evaluations(names: list[str], sheet: Sheet) -> None:
    sheet.say("evaluations per picture of Model.sample along EDM's 32 levels, as the networks are shown them")
    full = 2.0 * STEPS
    for name in names:
        seen, said = evaluations(name)
        wanted = STEPS + CASES[name].extra
        sheet.add(f"{name}, evaluations", {
            "evaluations": exact(seen), "steps x (1 + guided share)": exact(wanted), "off": exact(abs(seen - wanted) + abs(said - wanted)),
            "over full CFG": exact(round(seen / full, 4), "x"),
        })  # fmt: skip


def _measure_added(names: list[str], against: bool, sheet: Sheet) -> None:
    sheet.say(
        "per step, what a rule adds to DDIM without guidance, the network's answers left out; counted by the profiler"
    )

    def ours(name: str) -> Callable[[nn.Module], Walk]:
        return lambda network: our_walk(name, network, network)

    plain = added(ours("Plain"), Window(), None)
    makes = {name: ours(name) for name in names if name != "Plain"}
    if against:
        makes |= {f"{name}, diffusers": _theirs(name) for name in names if name in GUIDERS}
    for who, make in makes.items():
        for where, window in CASES[who.removesuffix(", diffusers")].windows.items():
            if who == "Interval(CFG), diffusers" and where == ", inside":
                window = window._replace(calls=2 * window.steps)  # it asks each branch by itself
            elif who.endswith(", diffusers") and not where:
                window = window._replace(first=2 * window.first, calls=2 * window.calls)
            counts = added(make, window, plain)._asdict()
            sheet.add(f"{who}{where}, added", {_UNITS[k]: exact(round(v, 3) + 0.0) for k, v in counts.items()})


def _theirs(name: str) -> Callable[[nn.Module], Walk]:
    return lambda network: their_walk(name, network)


def _measure_times(names: list[str], against: bool, quick: bool, sheet: Sheet) -> None:
    sheet.say(f"time of a walk of {STEPS} steps with real networks, beside that under full CFG")
    rounds = 1 if quick else 3 if len(names) > 1 else 9  # all of them take minutes
    found = {
        backbone: timed(backbone, ["CFG", *(n for n in names if n != "CFG")], against, rounds, quick)
        for backbone in _BACKBONES
    }
    for who in next(iter(found.values())):
        full = "CFG, network alone" if who.endswith("alone") else "CFG"
        cells = {backbone: ratio_of(taken[who], taken[full]) for backbone, taken in found.items()}
        if who.endswith(", diffusers"):
            mine = who.removesuffix(", diffusers")
            cells |= {f"{k}, over ours": ratio_of(taken[who], taken[mine]) for k, taken in found.items()}
        sheet.add(f"{who}, time", cells)


def _measure(ask: Ask, sheet: Sheet) -> None:
    names = list(CASES) if ask.only is None else [ask.only]
    against = "diffusers" in ask.against and installed("diffusers")
    if "diffusers" in ask.against and not against:
        sheet.lacks("diffusers", "not installed")
    _measure_evaluations(names, sheet)
    _measure_added(names, against, sheet)
    _measure_times(names, against, ask.quick, sheet)


GUIDING = Kind(
    _measure, tuple(CASES), ("diffusers",),
    goals=(
        *(Goal(f"evaluations of {name} beside steps x (1 + guided share), difference", "guidance", f"{name}, evaluations", "off", 0.0)
          for name in CASES),
        Goal("evaluations in EDM2's interval beside full CFG", "guidance", f"{_EDM2}, evaluations", "over full CFG", 0.61),
        *(Goal(f"time in EDM2's interval beside full CFG, {backbone}", "guidance", f"{_EDM2}, time", backbone, 0.61 * 1.05)
          for backbone in _BACKBONES),
        Goal("operations added by a step outside of the interval", "guidance", f"{_EDM2}, outside, added", "full-tensor operations", 0.0),
        Goal("syncs added by a step within the interval", "guidance", f"{_EDM2}, inside, added", "syncs", 0.0),
    ),
)  # fmt: skip
