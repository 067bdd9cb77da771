"""What training costs: a step beside that of other libraries, what a run adds to it, memory beside what is predicted of it, growth."""

from __future__ import annotations

import copy
from statistics import median

import torch
from torch import nn

from .goals import Goal
from .kind import Ask, Kind
from .peer_networks import OURS, PEERS, Network, about, plain
from .peers import installed
from .sheet import Cell, Sheet, exact, ratio_of
from .stand_in import import_peer
from .timing import times
from .train_counts import done
from .train_growth import measure_growth
from .train_memory import TRAINED, peak_of, predicted, trained
from .train_recipes import choice
from .train_run import RUNS, added
from .train_steps import COMPILED, VARIANTS, Step, Variant, awake, our_step, usual_step

__all__ = ["TRAINING"]

NAMES = ("UNet", "DiT", "run", "memory", "growth")
SHARE = "clip, optimizer, average"
USUAL = "its usual step"  # the peer of a DiT is the same DiT, trained as other libraries' examples do
_SHAPE = (3, 32, 32)


def _variants(kind: str, compiled: bool) -> dict[str, Variant]:
    """Those of ours that are something for a network: a DiT has no convolutions, and a UNet takes too long to compile on a CPU."""
    if kind == "UNet":
        return VARIANTS
    return {name: v for name, v in {**VARIANTS, **(COMPILED if compiled else {})}.items() if not v.last}


def _counts(network: Network, step: Step) -> dict[str, Cell]:
    """What is exact of a network and its step."""
    step()  # the optimizer makes its state
    found, counted = about(network), done(step)
    return {
        "parameters": exact(found["parameters"]), "MFLOP forward": exact(found["mflop"]),
        "operations": exact(counted.operations), "fresh tensors": exact(round(counted.fresh / 2**20, 3), "MiB"),
        "syncs": exact(counted.syncs),
    }  # fmt: skip


def _compiled(step: Step) -> dict[str, Cell]:
    """Graphs that the first step compiles, and that three further ones do."""
    from torch._dynamo.utils import counters

    made: list[int] = []
    for count in (1, 3):
        before = counters["stats"]["unique_graphs"]
        for _ in range(count):
            step()
        made.append(counters["stats"]["unique_graphs"] - before)
    return {"graphs": exact(made[0]), "recompiles": exact(made[1])}


def _beside(sheet: Sheet, ask: Ask, who: str, kind: str, theirs: Network, ours: nn.Module) -> None:
    """A row for what is exact of every step, and one for the time of each of ours beside theirs, all interleaved."""
    count, rounds = (2, 1) if ask.quick else (32, 7 if kind == "UNet" else 21)
    variants, base = _variants(kind, ask.compile), copy.deepcopy(theirs.module)
    sheet.add(f"{kind} beside {who}, counts, theirs", _counts(theirs, usual_step(Network(base, theirs.call), count)))
    for name, variant in variants.items():
        if variant.compile is None and not variant.last:
            step = our_step(copy.deepcopy(ours), count, variant)
            sheet.add(f"{kind} beside {who}, counts, {name}", _counts(plain(ours), step))
    steps = {who: usual_step(theirs, count, ask.device)}
    steps |= {name: our_step(copy.deepcopy(ours), count, variant, ask.device) for name, variant in variants.items()}
    graphs = {name: _compiled(steps[name]) for name in steps if name in COMPILED}
    best = (
        "" if ask.device != "cpu" else " ".join(choice(copy.deepcopy(ours), _SHAPE, count)).removesuffix(" contiguous")
    )
    taken = times(steps, rounds, ask.device != "cpu")
    rows: dict[str, dict[str, Cell]] = {}
    for name, step in steps.items():
        seconds = taken[name]
        rows[name] = {
            "times as fast": ratio_of(taken[who], seconds), SHARE: ratio_of(step.moving[-len(seconds) :], seconds, "%"),
            **graphs.get(name, {}),
        }  # fmt: skip
    for name, cells in rows.items():
        sheet.add(f"{kind} beside {who}, {'theirs' if name == who else name}", cells)
    for name, of in (("auto", best), ("auto, compiled", f"{best} compiled")):
        if of in rows:
            sheet.add(f"{kind} beside {who}, {name}", rows[of])
    if best:
        sheet.note(f"precision: auto and memory_format: auto came to {best}")


def _steps(sheet: Sheet, ask: Ask, kind: str) -> None:
    for who in ask.against if kind == "UNet" else (USUAL,):
        torch.manual_seed(0)
        if kind == "DiT":
            network = awake(OURS["diffusers"][kind]())
            _beside(sheet, ask, who, kind, plain(copy.deepcopy(network)), network)
            continue
        module, make = PEERS[who]
        if not installed(module):
            sheet.lacks(who, "not installed")
            continue
        import_peer(module)  # without what it needs for pictures
        _beside(sheet, ask, who, kind, make(), awake(OURS[who][kind]()))


def _run(sheet: Sheet, ask: Ask) -> None:
    """What a run takes beside a loop by hand."""
    if torch.accelerator.is_available():
        sheet.lacks("run", "there is an accelerator, which a run would take, and these steps are timed on the host")
        return
    for name, small in RUNS.items():
        found = added(small, *((1, 2) if ask.quick else (10, 50)))
        run, bare, by_hand = found["run"], found["bare"], found["by hand"]
        sheet.add(
            f"run, {name}",
            {
                "bare step": Cell(median(bare), unit="s"), "over the bare step": _more(run, bare),
                "a loop by hand, over it": _more(by_hand, bare), "over the loop by hand": _more(run, by_hand),
            },
        )  # fmt: skip


def _more(one: list[float], other: list[float]) -> Cell:
    """What one takes more than another, as a share of the other."""
    return ratio_of([a - b for a, b in zip(one, other, strict=True)], other, "%")


def _memory(sheet: Sheet, ask: Ask) -> None:
    """What is predicted of a run's memory beside what it asked of the allocator."""
    if torch.accelerator.is_available():
        sheet.lacks("memory", "there is an accelerator, which a run would take, and bytes are counted on the host")
        return
    for name, case in TRAINED.items():
        recipe = trained(case, 2 if ask.quick else None)
        said, really = predicted(recipe), peak_of(recipe)
        sheet.add(
            f"memory, {name}",
            {
                "predicted": exact(round(said / 2**20, 2), "MiB"), "peak": Cell(round(really / 2**20, 2), unit="MiB"),
                "off": Cell(said / really - 1, unit="%"), "off, either way": Cell(abs(said / really - 1), unit="%"),
            },
        )  # fmt: skip


def _measure(ask: Ask, sheet: Sheet) -> None:
    names = [n for n in NAMES if n != "growth" or ask.growth] if ask.only is None else [ask.only]
    for name in names:
        if name in ("UNet", "DiT"):
            _steps(sheet, ask, name)
        elif name == "run":
            _run(sheet, ask)
        elif name == "memory":
            _memory(sheet, ask)
        else:
            measure_growth(sheet, ask.quick, ask.device)


def _goal(what: str, row: str, column: str, limit: float, at_most: bool = True, why: str = "") -> Goal:
    return Goal(what, "train", row, column, limit, at_most, why)


_NO_AMX = "matrix products take 44 % of the step in float32, the same on both sides; bf16 ones take longer still on a processor without AMX"
_AROUND = (
    "a loop by hand that draws, clips and averages adds 5 to 8 % itself; noise that any machine draws to the bit takes 1 % of the UNet's "
    "step and 6 % of the DiT's, losses per level, seeds and checks the rest"
)
_MOVED = (
    "the average, AdamW and clipping read and write 20 MB from memory, beside a step of 0.13 s with 78 MFLOP a picture"
)


TRAINING = Kind(
    _measure, NAMES, tuple(PEERS), takes=("growth", "compile", "cuda"),
    goals=(
        *(_goal(f"step of our UNet over {who}'s of as many parameters, eager", f"UNet beside {who}, auto", "times as fast", 1.5,
                at_most=False) for who in PEERS),
        _goal("step of our DiT over its usual step, eager", f"DiT beside {USUAL}, auto", "times as fast", 1.6, at_most=False,
              why=_NO_AMX),
        _goal("step of our DiT over its usual step, compiled", f"DiT beside {USUAL}, auto, compiled", "times as fast", 2.1, at_most=False,
              why=_NO_AMX),
        *(_goal(f"what a run adds to a step of 10 ms, {name}", f"run, {name}", "over the bare step", 0.1, why=_AROUND) for name in RUNS),
        *(_goal(f"clip, optimizer and average, share of the step of a {kind}", f"{kind} beside {who}, auto", SHARE, 0.03, why=_MOVED)
          for kind, who in (("UNet", "diffusers"), ("DiT", USUAL))),
        *(_goal(f"memory of training beside the prediction, {name}", f"memory, {name}", "off, either way", 0.1) for name in TRAINED),
    ),
)  # fmt: skip
