"""What a run will be, in words, before it runs: parameters, memory, batches, and what it learns by."""

from __future__ import annotations

from ..schedules.parts import in_short
from .activations import activation_bytes
from .blocks import blocks
from .plan import BatchPlan, plan_batches
from .recipe import Recipe

__all__ = ["memory_of", "report"]


def report(recipe: Recipe, processes: int = 1) -> str:
    """What a run of this recipe will be: parameters, memory, batches, steps, epochs."""
    batches = plan_batches(recipe.batch, processes, recipe.micro_batch if isinstance(recipe.micro_batch, int) else None)
    parameters = sum(p.numel() for p in recipe.backbone.parameters())
    state, activations = memory_of(recipe, batches)
    rows = [
        ("network", f"{type(recipe.backbone).__name__}, {parameters:,} parameters"),
        ("data", f"{type(recipe.data).__name__}, {len(recipe.data):,} of {'x'.join(map(str, recipe.data.shape))}"),
        *([("text", in_short(recipe.text))] if recipe.text is not None else [("classes", _classes(recipe))]),
        ("path", f"{in_short(recipe.schedule)}, row {in_short(recipe.row)}, clock {in_short(recipe.clock)}"),
        ("training", f"{in_short(recipe.density)}, {in_short(recipe.weighting)}, {in_short(recipe.objective)}"),
        (
            "sampling",
            f"{recipe.sampling_steps} steps of {in_short(recipe.sampler)} on {in_short(recipe.grid)}, {in_short(recipe.guidance)}",
        ),
        (
            "batch",
            f"{recipe.batch} = {processes} process(es) x {batches.accumulation} micro-batch(es) of up to {batches.micro_batch}",
        ),
        (
            "steps",
            f"{recipe.steps:,} ({recipe.steps * recipe.batch / len(recipe.data):.1f} epochs), {recipe.precision}",
        ),
        ("learning", _learning(recipe)),
        ("saving", _saving(recipe)),
        (
            "memory",
            f"about {(state + activations) / 2**20:.0f} MiB per process: {state / 2**20:.0f} for weights, gradients, optimizer and "
            f"average, {activations / 2**20:.0f} for activations",
        ),
        ("checks", "the parts fit together"),
    ]
    return "\n".join(f"{name:>8}  {value}" for name, value in rows)


def _classes(recipe: Recipe) -> str:
    names = getattr(recipe.data, "class_names", None)
    told = (
        f": {', '.join(f'{i} {name}' for i, name in enumerate(names[:12]))}{', ...' if len(names) > 12 else ''}"
        if names
        else ""
    )
    return f"{recipe.num_classes or 'none'}{told if recipe.num_classes else ''}"


def _learning(recipe: Recipe) -> str:
    """How the weights are moved, in a line."""
    rate = (
        in_short(recipe.rate)
        if recipe.rate is not None
        else f"warmup {recipe.warmup}, then a cosine to {recipe.lr_end:g} of it"
    )
    done = [in_short(t) for t in recipe.transforms] + ([f"clip {recipe.clip:g}"] if recipe.clip is not None else [])
    mirrored = [in_short(recipe.augment)] if recipe.augment is not None else []
    return "; ".join([in_short(recipe.optimizer), f"lr {recipe.lr:g}, {rate}", *done, *mirrored])


def _saving(recipe: Recipe) -> str:
    """What is kept, and what is looked at, in a line."""
    every = [
        f"every {recipe.save_every} steps" if recipe.save_every else "at the end",
        f"keep {recipe.keep}",
        f"ema {recipe.ema:g}",
    ]
    every += [f"averages of {', '.join(f'{n:g}' for n in recipe.ema_lengths)}"] if recipe.ema_lengths else []
    every += [f"snapshots every {recipe.snapshot_every}"] if recipe.snapshot_every else []
    every += [f"validation every {recipe.validate_every}"] if recipe.validate_every else []
    return ", ".join(every)


def memory_of(recipe: Recipe, batches: BatchPlan) -> tuple[int, int]:
    """Bytes that a process will need, about: for what it keeps between steps, and for activations.

    It keeps weights, gradients, two AdamW moments and the average, 4 bytes each. In parts, each process has its share, and beside it a
    block while it runs, and whole gradients while they are accumulated.

    Args:
        recipe: its backbone is on the host.
        batches: how the batch is split.
    """
    activations, processes = activation_bytes(recipe, batches.micro_batch), batches.processes
    parameters, copies = sum(p.numel() for p in recipe.backbone.parameters()), 5 if recipe.ema else 4
    if recipe.parallel != "fsdp" or processes == 1:
        return 4 * copies * parameters, activations
    one = max((sum(p.numel() for p in block.parameters()) for block in blocks(recipe.backbone)), default=parameters)
    whole = parameters if batches.accumulation > 1 else 0
    return 4 * (copies * parameters // processes + one + whole), activations
