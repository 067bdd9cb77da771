"""Errors that a user can act on: the key, the value, what is allowed, the nearest spelling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = ["UsageError", "did_you_mean"]


class UsageError(ValueError):
    """What is wrong with a command line or config, all of it.

    Args:
        problems: one line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


# what other frameworks call our keys
_ELSEWHERE = {
    "learning_rate": "lr", "batch_size": "batch", "global_batch": "batch", "max_steps": "steps", "num_steps": "steps",
    "train_steps": "steps", "warmup_steps": "warmup", "ema_decay": "ema", "model": "backbone", "network": "backbone",
    "unet": "backbone", "prediction_type": "row", "noise_schedule": "schedule", "scheduler": "sampler", "solver": "sampler",
    "dataset": "data", "cfg": "guidance", "guidance_scale": "guidance", "max_grad_norm": "clip", "mixed_precision": "precision",
    "num_inference_steps": "sampling_steps", "spacing": "grid", "loss_weighting": "weighting", "cond_drop": "label_dropout",
    "v_prediction": "V", "velocity": "V", "epsilon": "Eps", "flow_prediction": "Flow", "x0_prediction": "X0",
}  # fmt: skip


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest of the allowed words, or nothing when none is near."""
    words = {w.lower(): w for w in allowed}
    words |= {theirs: ours for theirs, ours in _ELSEWHERE.items() if ours in words.values() and theirs not in words}
    near = get_close_matches(given.lower(), words, n=1, cutoff=0.6)
    return f"; did you mean {words[near[0]]}?" if near else ""
