"""Checkpoints of earlier formats, made into those of this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["migrate"]


def migrate(state: dict[str, Any], found: Any, wanted: int, written_by: str) -> dict[str, Any]:
    """What a checkpoint holds beside tensors, as of the wanted format.

    Args:
        state: as it was saved.
        found: the format of the checkpoint.
        wanted: the format of this version.
        written_by: which version wrote it, for the message.

    Raises:
        ValueError: for a format of a later version, or none that there ever was.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ValueError(f"it has format {found!r}, which no version of Sfumato wrote")
    if found > wanted:
        raise ValueError(
            f"it has format {found}, and this version reads formats up to {wanted}; it was written by {written_by}: install that, or newer"
        )
    for step in range(found, wanted):
        state = _STEPS[step](state)
    return state


def _one_to_two(state: dict[str, Any]) -> dict[str, Any]:
    """Format 2 has the optimizer as a part, keeps a trail of the last steps, and counts updates that were left out."""
    recipe = dict(state["recipe"])
    adamw = {"beta1": recipe.pop("beta1"), "beta2": recipe.pop("beta2"), "weight_decay": recipe.pop("weight_decay")}
    recipe["optimizer"] = {"class_path": "sfumato.diffusion.AdamW", "init_args": {**adamw, "eps": 1e-8}}
    return {**state, "recipe": recipe, "trail": [], "skipped": [0, 0], "scaler": None, "processes": None}


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _one_to_two}
