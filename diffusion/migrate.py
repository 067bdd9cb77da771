"""Checkpoints of earlier formats, made into those of this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["current_recipe", "migrate"]


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
    return {
        **state,
        "recipe": current_recipe(state["recipe"]),
        "trail": [],
        "skipped": [0, 0],
        "scaler": None,
        "processes": None,
    }


def current_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's plain values with the keys of today, where they have those of earlier versions."""
    own = {"beta1", "beta2", "weight_decay"} & recipe.keys()
    if not own or "optimizer" in recipe:
        return dict(recipe)
    kept = {key: value for key, value in recipe.items() if key not in own}
    adamw = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "eps": 1e-8, **{key: recipe[key] for key in own}}
    return {**kept, "optimizer": {"class_path": "sfumato.diffusion.AdamW", "init_args": adamw}}


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _one_to_two}
