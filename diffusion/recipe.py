"""A recipe: everything that a training run is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from torch import nn

from ..guidance import Guidance, Plain
from ..samplers import DPMSolverPP, Sampler
from ..schedules import Density, Grid, MinSNR, Row, Schedule, Trailing, Uniform, Weighting
from ..schedules.parts import build, describe
from .augment import Augment
from .backbones.attention import BACKENDS, Backend
from .clocks import Clock, TimeClock
from .data import Source
from .denoiser import Denoiser
from .learning_rates import Rate
from .migrate import current_recipe
from .objective import Objective, Regression
from .optimizers import AdamW, Optimizer
from .prompts import TextEncoder
from .transforms import GradientTransform

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run is made of; each field is one line of YAML.

    Args:
        data: the data set.
        backbone: the network.
        schedule: the path from data to noise.
        row: what the network predicts.
        clock: how the network is told the noise level.
        input_std: standard deviation of the data, which scales the network's input to unit variance; null: as the row says.
        augment: what is done to pictures before they are noised; null: nothing.
        density: which noise levels training sees.
        weighting: weight of the loss by noise level.
        objective: what is minimised.
        steps: optimizer steps, >= 1.
        batch: samples per optimizer step over all processes, >= 1.
        micro_batch: most samples at once in one process, >= 1; the rest is accumulated. null: no limit. auto: as many as fit into
            memory, halved until they do; the global batch stays as it is. On a GPU null does that too.
        lr: peak learning rate, > 0.
        warmup: optimizer steps in which the rate rises to lr, >= 0; then it falls by a cosine to lr_end.
        lr_end: share of lr at the last step, 0 to 1.
        rate: how the rate moves instead, as a part with a warm-up of its own; null: as warmup and lr_end say.
        optimizer: what moves the weights; any class of torch.optim by its path, and others with --allow.
        transforms: what is done to gradients before they are clipped, in turn; may be said several times.
        clip: largest norm of the gradient, > 0; null: none.
        ema: decay of the average of the weights per optimizer step, 0 <= ema < 1.
        ema_lengths: further averages, by power functions of training time: the relative width of each, above 0 to 0.3.
        snapshot_every: optimizer steps between stored snapshots of these, from which `sfumato ema` makes averages of any width; 0: none.
        snapshot_dtype: of what is stored: "float32", "float16" or "bfloat16".
        label_dropout: share of labels replaced by the null class, or of captions by the empty text, so that guidance has a reference; 0
            to 1.
        text: what encodes the captions of the data, for a backbone with text_width; null: no texts.
        seed: of everything drawn: weights, order, noise, time, dropout; in [0, 2^63).
        precision: "fp32", or "bf16" or "fp16" autocast; "fp64" to look for rounding. "auto": fp32 or bf16, whichever is measured to be
            faster for this network and batch when the run begins; a resumed one keeps it.
        memory_format: how convolutions lie in memory, "contiguous" or "channels_last"; "auto": measured, likewise.
        attention: what computes it: "auto", "sdpa", "math", "flex" or "xformers"; the weights mean the same under any.
        threads: CPU threads; null: PyTorch's default. 1 is fastest for tiny networks.
        workers: processes that read data ahead, >= 0; 0: the training process reads.
        corrupt: what to do about samples that can't be read, found before the first step: "stop", or "skip" them.
        corrupt_limit: largest share of samples that may be skipped, 0 to 1.
        nonfinite: what to do when the loss or the gradient is not finite: "stop" before the update, or "skip" it.
        nonfinite_limit: how many updates in a row may be skipped, >= 1.
        sampler: how previews, and samples of the finished model unless told otherwise, are drawn.
        grid: at which levels.
        sampling_steps: how many steps, >= 1.
        guidance: under which rule.
        log_every: optimizer steps between log lines, >= 1.
        validation: samples that are not trained on; null: those that data Split holds out.
        validate_every: optimizer steps between validations; 0: none.
        validation_samples: how many of them are asked, >= 1.
        sample_every: optimizer steps between preview pictures; 0: none.
        prompts: what previews show, in turn, of a network that is told texts; empty: the first captions of the data.
        vae: folder of the VAE that makes pictures of latents for previews, the one that the data were encoded with; null: no previews.
        save_every: optimizer steps between checkpoints; 0: only at the end.
        keep: how many checkpoints to keep, >= 1.
        async_save: write checkpoints while training goes on.
        parallel: what several processes share: "ddp", each holds the whole network; "fsdp", each holds a part of the weights, gradients,
            optimizer and average, and gathers a block when it runs. One process holds everything either way.
        gradient_checkpointing: keep only the input of each block for the backward pass and compute the rest again: less memory, about
            a third more time, the same gradients.
        compile: compile "blocks", each kind of them once, or the "whole" network; null: run it as it is written.
        tracker: where metrics go beside metrics.jsonl, by Accelerate's name: tensorboard, wandb, trackio, mlflow, ...; null: nowhere.

    Raises:
        ValueError: for values out of range, all of them in one message.
    """

    data: Source
    backbone: nn.Module
    schedule: Schedule
    row: Row
    clock: Clock = TimeClock()  # noqa: RUF009 - frozen, so one default serves all
    input_std: float | None = None
    augment: Augment | None = None
    density: Density = Uniform()  # noqa: RUF009
    weighting: Weighting = MinSNR()  # noqa: RUF009
    objective: Objective = Regression()  # noqa: RUF009
    steps: int = 10_000
    batch: int = 64
    micro_batch: int | Literal["auto"] | None = None
    lr: float = 2e-4
    warmup: int = 500
    lr_end: float = 0.01
    rate: Rate | None = None
    optimizer: Optimizer = AdamW()  # noqa: RUF009
    transforms: Sequence[GradientTransform] = ()
    clip: float | None = 1.0
    ema: float = 0.999
    ema_lengths: Sequence[float] = ()
    snapshot_every: int = 0
    snapshot_dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    label_dropout: float = 0.1
    text: TextEncoder | None = None
    seed: int = 0
    precision: Literal["fp32", "bf16", "fp16", "fp64", "auto"] = "fp32"
    memory_format: Literal["contiguous", "channels_last", "auto"] = "contiguous"
    attention: Backend = "auto"
    threads: int | None = None
    workers: int = 0
    corrupt: Literal["stop", "skip"] = "stop"
    corrupt_limit: float = 0.01
    nonfinite: Literal["stop", "skip"] = "stop"
    nonfinite_limit: int = 10
    sampler: Sampler = DPMSolverPP()  # noqa: RUF009
    grid: Grid = Trailing()  # noqa: RUF009
    sampling_steps: int = 20
    guidance: Guidance = Plain()  # noqa: RUF009
    log_every: int = 50
    validation: Source | None = None
    validate_every: int = 0
    validation_samples: int = 256
    sample_every: int = 0
    prompts: Sequence[str] = ()
    vae: str | None = None
    save_every: int = 1000
    keep: int = 2
    async_save: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    gradient_checkpointing: bool = False
    compile: Literal["blocks", "whole"] | None = None
    tracker: str | None = "tensorboard"

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        wrong = [*range_errors(values), *split_errors(values)]
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def num_classes(self) -> int:
        """The classes that the network is told: its own number, 0 to train on labelled data without their labels, or on texts."""
        return int(getattr(self.backbone, "num_classes", 0 if self.text is not None else self.data.num_classes))

    def denoiser(self) -> Denoiser:
        """The backbone with its forward process."""
        return Denoiser(self.backbone, self.schedule, self.row, self.clock, self.input_std)

    def describe(self) -> dict[str, Any]:
        """The resolved recipe as plain data, every default filled in."""
        return {f.name: describe(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The description of every field that has a default."""
        return {f.name: describe(f.default) for f in fields(cls) if f.default is not MISSING}

    @classmethod
    def from_description(cls, description: Mapping[str, Any], allow: Sequence[str] = ()) -> Recipe:
        """The recipe that `describe` described, also of an earlier version; `allow`: see parts.find_class."""
        return cls(**build(current_recipe(description), allow))


_RANGES: dict[str, tuple[str, Any]] = {
    "steps": (">= 1", lambda v: v is not None and v >= 1),
    "batch": (">= 1", lambda v: v is not None and v >= 1),
    "micro_batch": (">= 1, auto, or null", lambda v: v in (None, "auto") or v >= 1),
    "lr": ("> 0", lambda v: v is not None and 0 < v < float("inf")),
    "warmup": (">= 0", lambda v: v is not None and v >= 0),
    "lr_end": ("0 to 1", lambda v: v is not None and 0 <= v <= 1),
    "clip": ("> 0, or null", lambda v: v is None or v > 0),
    "ema": ("0 <= ema < 1", lambda v: v is not None and 0 <= v < 1),
    "label_dropout": ("0 to 1", lambda v: v is not None and 0 <= v <= 1),
    "seed": ("0 to 2^63 - 1", lambda v: v is not None and 0 <= v < 2**63),
    "precision": ("fp32, bf16, fp16, fp64, auto", lambda v: v in ("fp32", "bf16", "fp16", "fp64", "auto")),
    "memory_format": ("contiguous, channels_last, auto", lambda v: v in ("contiguous", "channels_last", "auto")),
    "attention": (", ".join(BACKENDS), lambda v: v in BACKENDS),
    "workers": (">= 0", lambda v: v is not None and v >= 0),
    "corrupt": ("stop, skip", lambda v: v in ("stop", "skip")),
    "corrupt_limit": ("0 to 1", lambda v: v is not None and 0 <= v <= 1),
    "nonfinite": ("stop, skip", lambda v: v in ("stop", "skip")),
    "nonfinite_limit": (">= 1", lambda v: v is not None and v >= 1),
    "threads": (">= 1, or null", lambda v: v is None or v >= 1),
    "input_std": ("> 0 and finite, or null", lambda v: v is None or 0 < v < float("inf")),
    "sampling_steps": ("1 to 100000", lambda v: v is not None and 1 <= v <= 100_000),
    "log_every": (">= 1", lambda v: v is not None and v >= 1),
    "snapshot_every": (">= 0", lambda v: v is not None and v >= 0),
    "snapshot_dtype": ("float32, float16, bfloat16", lambda v: v in ("float32", "float16", "bfloat16")),
    "validate_every": (">= 0", lambda v: v is not None and v >= 0),
    "validation_samples": (">= 1", lambda v: v is not None and v >= 1),
    "sample_every": (">= 0", lambda v: v is not None and v >= 0),
    "save_every": (">= 0", lambda v: v is not None and v >= 0),
    "keep": (">= 1", lambda v: v is not None and v >= 1),
    "parallel": ("ddp, fsdp", lambda v: v in ("ddp", "fsdp")),
    "compile": ("blocks, whole, or null", lambda v: v in (None, "blocks", "whole")),
}


_WHOLE = {
    "steps", "batch", "micro_batch", "warmup", "seed", "threads", "sampling_steps", "log_every", "sample_every", "save_every", "keep",
    "workers", "nonfinite_limit", "snapshot_every", "validate_every", "validation_samples",
}  # fmt: skip
_WORDS = {"precision", "memory_format", "attention", "corrupt", "nonfinite", "snapshot_dtype", "parallel", "compile"}


def range_errors(values: Mapping[str, Any]) -> list[str]:
    """What is out of range among the plain fields of a recipe, one message each."""
    return [
        f"{name} is {values[name]!r}; allowed: {'a whole number, ' if name in _WHOLE else ''}{allowed}"
        for name, (allowed, fits) in _RANGES.items()
        if name in values and not (_is_kind(values[name], name) and fits(values[name]))
    ]


def split_errors(values: Mapping[str, Any]) -> list[str]:
    """What does not go together with parallel: fsdp, one message each."""
    if values["parallel"] != "fsdp":
        return []
    reasons = {
        ("precision", "fp16"): "its scaler does not know split gradients; set precision: bf16",
        ("precision", "auto"): "what is measured is a whole network; name one, such as bf16",
        ("memory_format", "auto"): "parts of weights are contiguous; set memory_format: contiguous",
        ("memory_format", "channels_last"): "parts of weights are contiguous; set memory_format: contiguous",
        ("async_save", True): "all processes write a checkpoint together; set async_save: false",
        ("micro_batch", "auto"): "a process that runs out of memory leaves the others waiting; give a number",
        ("compile", "whole"): "a network is gathered block by block; set compile: blocks",
    }
    return [
        f"{key} is {bad!r} and parallel is 'fsdp', but {why}"
        for (key, bad), why in reasons.items()
        if values[key] == bad
    ]


def _is_kind(value: Any, name: str) -> bool:
    """Whether a value is of the kind that a range can judge."""
    if value is None:
        return True
    kind = str if name in _WORDS else int if name in _WHOLE else (int, float)
    return (isinstance(value, kind) and not isinstance(value, bool)) or (name == "micro_batch" and value == "auto")
