"""The denoiser as one program of torch.export or ONNX: no Python of ours is needed to run it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser
from ..loading import load
from ..whole_file import PART, sync

__all__ = ["Program", "to_program"]

BATCHES = (3, 5)  # neither is the one that is traced
FAR = 1e-4


@dataclass(frozen=True)
class Program:
    """What was written.

    Args:
        path: of the file.
        shape: of one sample.
        labels: whether it takes some.
        batches: sizes at which it was tried.
        apart: largest difference from ours, relative to the largest answer.
    """

    path: Path
    shape: tuple[int, ...]
    labels: bool
    batches: tuple[int, ...]
    apart: float


class _Asked(nn.Module):
    """x (B, ...) and log_snr (B,), with labels (B,) or without, to x0 and eps."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, log_snr: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        level = self.denoiser.schedule.at_log_snr(log_snr.double())
        prediction = self.denoiser(x, level, None if labels is None else {"labels": labels})
        return prediction.x0, prediction.eps


def to_program(
    run: str | Path, path: str | Path, *, kind: Literal["torch", "onnx"] = "torch", ema: bool | float = True, step: int | None = None,
    allow: Sequence[str] = (),
) -> Program:  # fmt: skip
    """Write a run's denoiser as a program, load it again, and compare at other batch sizes; the file appears whole or not at all.

    It takes x, float32 (B, C, H, W) as on the run's path, log_snr, float32 (B,), and, of a model with classes, labels, int64 (B,), whose
    null class, if it has one, is num_classes; it returns x0 and eps, float32 (B, C, H, W).

    Args:
        run: the run folder.
        path: of the file to make.
        kind: "torch", a .pt2 for torch.export.load; "onnx".
        ema: see `load`.
        step: the checkpoint of that optimizer step; None: the newest.
        allow: packages whose classes the run's config may name, beside Sfumato's.

    Raises:
        ValueError: for a file that is there, a network that can't be exported, libraries that are not installed, and a program that is not
            equal to ours.
    """
    out = Path(path)
    if kind not in ("torch", "onnx"):
        raise ValueError(f"kind is {kind!r}; allowed: 'torch', 'onnx'")
    if out.exists():
        raise ValueError(f"out is {str(out)!r}, which is there; give another name, or move it away")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" and find_spec(name) is None]
    if missing:
        raise ValueError(f"to is onnx, but {', '.join(missing)} is not installed: pip install 'sfumato[onnx]'")
    model = load(run, ema=ema, step=step, allow=allow)
    if model.text is not None:
        raise ValueError("the run knows texts; a program takes x, log-SNR and labels only")
    asked = _Asked(model.denoiser).eval()
    rows = model.num_classes and model.num_classes + int(getattr(model.denoiser.backbone, "null_class", True))
    given = _inputs(model.shape, rows, 2)
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asked(*given)  # what a schedule makes once, the tensors of a table, is made before it is traced
            program = torch.export.export(asked, given, dynamic_shapes=tuple({0: batch} for _ in given), strict=True)
    except Exception as error:  # tracing fails in many ways
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ValueError(
            f"this network or schedule can't be exported by torch: {type(error).__name__}: {line}"
        ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    # what a killed process left is written over
    temporary = out.with_name(f".{out.stem}{PART}{'.pt2' if kind == 'torch' else '.onnx'}")
    try:
        _save(program, temporary, kind, given)
        apart = max(_apart(asked, temporary, kind, _inputs(model.shape, rows, n)) for n in BATCHES)
        if not apart < FAR:
            raise ValueError(
                f"the program differs from the run's network by {apart:.2g} of its largest answer; allowed: {FAR:g}; not written"
            )
        sync(temporary)
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return Program(out, tuple(model.shape), bool(model.num_classes), BATCHES, apart)


def _inputs(shape: Sequence[int], rows: int, count: int) -> tuple[Tensor, ...]:
    """What to ask; rows: of the table of classes, with that of the null class where there is one."""
    x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(count))
    log_snr = torch.linspace(-6.0, 6.0, count)
    return (x, log_snr, torch.arange(count) % rows) if rows else (x, log_snr)


def _save(program: Any, path: Path, kind: str, given: tuple[Tensor, ...]) -> None:
    if kind == "torch":
        torch.export.save(program, path)
        return
    names = ["x", "log_snr", "labels"][: len(given)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.onnx.export(
            program, given, dynamo=True, input_names=names, output_names=["x0", "eps"], verbose=False
        )
    made.save(str(path), external_data=False)


def _apart(asked: nn.Module, path: Path, kind: str, given: tuple[Tensor, ...]) -> float:
    """How far the loaded program's answers are from ours, relative to the largest."""
    with torch.no_grad():
        ours = asked(*given)
        if kind == "torch":
            theirs = torch.export.load(path).module()(*given)
        else:
            import onnxruntime  # pyright: ignore[reportMissingImports]  # optional

            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            fed = {one.name: value.numpy() for one, value in zip(session.get_inputs(), given, strict=True)}
            theirs = [torch.from_numpy(each) for each in session.run(None, fed)]
    largest = max(float(each.abs().max()) for each in ours)
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) / max(largest, 1e-12)
