"""What can only be measured on a GPU: training, sampling and memory beside what was predicted, and what must hold there."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .goals import Goal
from .gpu_compiling import COMPILED, compiling
from .gpu_exact import noise, out_of_memory, resume
from .gpu_runs import TRAINED
from .gpu_sampling import VARIANTS, pictures, step
from .gpu_training import training
from .gpu_waits import RULES, SAMPLERS, WAITING, Walked, walked
from .kind import Ask, Kind
from .sheet import Sheet

__all__ = ["GPU"]


def _measure(ask: Ask, sheet: Sheet) -> None:
    """Rows on the GPU that there is, whatever `device` says; without one, those that mean something there, or all of them tiny.

    Raises:
        ValueError: without a GPU, for rows that need one.
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    sheet.device = device.type
    if not cuda and not ask.quick and ask.only not in _ANYWHERE:
        raise ValueError(
            "this PyTorch sees no GPU; run it on one, or add --quick, a tiny version on the CPU to see whether it runs; "
            f"{' and '.join(f'--only {name}' for name in _ANYWHERE)} runs anywhere"
        )
    for name in _ROWS if ask.only is None else [ask.only]:
        _ROWS[name](sheet, device, ask.quick)


def _trained(name: str) -> Callable[[Sheet, torch.device, bool], None]:
    return lambda sheet, device, small: sheet.add(f"training {name}", training(name, small))


def _sampled(sheet: Sheet, device: torch.device, small: bool) -> None:
    for rule, cells in pictures(device, small).items():
        sheet.add(f"DiT-XL/2 in 50 steps, {rule}", cells)


def _stepped(sheet: Sheet, device: torch.device, small: bool) -> None:
    found = step(device, small)
    for variant in VARIANTS:
        if variant in found:
            sheet.add(f"DiT-XL/2, one picture, {variant}", found[variant])
        else:
            sheet.lacks(f"one picture, {variant}", "a CUDA graph needs a GPU")


def _compiled(sheet: Sheet, device: torch.device, small: bool) -> None:
    for name in COMPILED:
        sheet.add(f"compiling {name}", compiling(name, device, small))


def _waited(sheet: Sheet, device: torch.device, small: bool) -> None:
    walk = Walked(device, small)
    for sampler, rule in [
        *((sampler, "CFG") for sampler in SAMPLERS),
        *(("DDIM", rule) for rule in RULES if rule != "CFG"),
    ]:
        cells, where = walked(walk, sampler, rule)
        sheet.add(_walk(sampler, rule), cells)
        if where:
            sheet.note(f"{sampler} under {rule} waits for the device: {where}")
    if device.type != "cuda":
        sheet.lacks("waits", "PyTorch tells of them on a GPU alone")


_WALKS = (*((sampler, "CFG") for sampler in SAMPLERS), *(("DDIM", rule) for rule in RULES if rule != "CFG"))


def _walk(sampler: str, rule: str) -> str:
    return f"{sampler} under {rule}"


def _memory(sheet: Sheet, device: torch.device, small: bool) -> None:
    sheet.add("out of memory", out_of_memory(small))


_ROWS: dict[str, Callable[[Sheet, torch.device, bool], None]] = {
    **{name: _trained(name) for name in TRAINED}, "sampling": _sampled, "step": _stepped, "compiling": _compiled, "waits": _waited,
    "resume": lambda sheet, device, small: sheet.add("resume", resume(small)),
    "noise": lambda sheet, device, small: sheet.add("noise", noise(device)), "out-of-memory": _memory,
}  # fmt: skip

_ANYWHERE = ("compiling",)

_TRAINING = {"DiT-XL/2": 600.0, "DiT-B/2": 2600.0, "DDPM++": 2800.0, "DDPM++-augmented": 2800.0}
_SAMPLING = {"unguided": 40.0, "CFG": 20.0}
_COMPILING = {"DiT": "", "UNet": "on a CPU, two thirds of it are g++, of 29 files for its 7 kinds of block"}
_UNSEEN = "no GPU was at hand"
_FP32 = "activations are predicted in float32 whatever the precision (DiT-B/2 in bfloat16 keeps two thirds of them on a CPU)"

GPU = Kind(
    _measure, tuple(_ROWS),
    goals=(
        *(Goal(f"training {name}, one H200", "gpu", f"training {name}", "images per second", limit, at_most=False, why=_UNSEEN)
          for name, limit in _TRAINING.items()),
        *(Goal(f"memory of training {name}, beside the prediction of --dry-run", "gpu", f"training {name}", "off the prediction", 0.1,
               why=_FP32) for name in _TRAINING),
        *(Goal(f"DiT-XL/2 in 50 steps, {rule}, one H200", "gpu", f"DiT-XL/2 in 50 steps, {rule}", "images per second", limit,
               at_most=False, why=_UNSEEN) for rule, limit in _SAMPLING.items()),
        Goal("a step of one picture, DiT-XL/2, one H200", "gpu", "DiT-XL/2, one picture, compiled, graph", "step", 1.0, why=_UNSEEN),
        *(Goal(f"compiling the blocks of a {name} for sampling", "gpu", f"compiling {name}", "compiling", 20.0, why=why)
          for name, why in _COMPILING.items()),
        *(Goal(f"compiled again, {name}, for other steps, intervals, samplers and batches", "gpu", f"compiling {name}", "recompiles", 0.0)
          for name in COMPILED),
        *(Goal(f"the host waits in {_walk(*pair)}", "gpu", _walk(*pair), "waits", 0.0, why=_UNSEEN)
          for pair in _WALKS if not set(pair) & set(WAITING)),
        Goal("a resumed run beside the whole one", "gpu", "resume", "resumed apart", 0.0, why=_UNSEEN),
        *(Goal(f"bits of the noise on the GPU, {name}", "gpu", "noise", f"{name}, other bits", 0.0) for name in ("gaussian", "uniform")),
        Goal("a batch that does not fit is made in micro-batches", "gpu", "out of memory", "made", 1.0, at_most=False, why=_UNSEEN),
    ),
)  # fmt: skip
