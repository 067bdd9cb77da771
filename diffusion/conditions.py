"""From labels to the condition of each branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ..guidance.tree import Tree

__all__ = ["Labels", "check_names", "conditions", "label_lists"]

Labels: TypeAlias = "Sequence[int | None] | Tensor"

# of the model itself, its null class, and a weaker network
OWN = ("cond", "ref", "weak")


def label_lists(
    labels: Labels | None, also: Mapping[str, Labels | int | None] | None, count: int, num_classes: int
) -> dict[str, list[int | None]]:
    """The labels of each branch that has some of its own, one per slot, checked; empty for a model without classes.

    Args:
        labels: of "cond"; None: all the null class.
        also: of further branches, by name; one number is for all slots.
        count: number of slots.
        num_classes: of the model; 0: without.

    Raises:
        ValueError: for labels out of range, too few or too many, or of a model without classes; for the name of a branch that the
            model has already.
    """
    if isinstance(labels, int):
        raise ValueError(f"labels is {labels}; give one per seed, such as labels=[{labels}] * {count}")
    check_names(also, '{"negative": 7}')
    if num_classes == 0:
        if also:
            raise ValueError(
                f"also gives labels of {', '.join(map(repr, also))}, but this model was trained without classes; leave also out"
            )
        if labels is not None and any(v is not None for v in _listed(labels)):
            raise ValueError("labels were given, but this model was trained without classes; leave labels out")
        return {}
    found: dict[str, list[int | None]] = {
        "cond": [None] * count if labels is None else _checked(labels, "", count, num_classes)
    }
    for name, given in (also or {}).items():
        many = [given] * count if given is None or isinstance(given, int) else given
        found[name] = _checked(many, f"also[{name!r}]: ", count, num_classes)
    return found


def check_names(also: object, example: str) -> None:
    """Refuse what says nothing of further branches, or names one that the model has already.

    Args:
        also: as given.
        example: what would be right.

    Raises:
        ValueError: naming it.
    """
    if also is not None and not isinstance(also, Mapping):
        raise ValueError(f"also is {also!r}; allowed: what a further branch says, by its name, such as also={example}")
    for name in also or {}:
        if not isinstance(name, str) or not name:
            raise ValueError(f"also names {name!r}; allowed: the name of a branch, such as also={example}")
        if name in OWN:
            raise ValueError(
                f"also names {name!r}, which is {_WHAT[name]}; take another name, such as 'negative' or 'second'"
            )


_WHAT = {
    "cond": "what labels say (or prompts)",
    "ref": "the null class, or the empty text",
    "weak": "the network that weak= gives",
}


def _listed(labels: Labels) -> list[int | None]:
    return labels.tolist() if isinstance(labels, Tensor) else list(labels)


def _checked(labels: Labels, at: str, count: int, num_classes: int) -> list[int | None]:
    try:
        given = _listed(labels)
    except TypeError:
        raise ValueError(f"{at}labels is {labels!r}; allowed: a list of classes, one per seed") from None
    if len(given) != count:
        raise ValueError(
            f"{at}{len(given)} labels for {count} seeds; give one label per seed, such as {f'{at}[3]' if at else 'labels=[3]'} * {count}"
        )
    for v in given:
        if v is not None and (not isinstance(v, int) or isinstance(v, bool) or not 0 <= v < num_classes):
            raise ValueError(f"{at}label {v!r}; allowed: 0 to {num_classes - 1}, or none for no class")
    return given


def conditions(
    lists: Mapping[str, Sequence[int | None]], num_classes: int, null_class: bool, device: torch.device
) -> dict[str, Tree]:
    """The condition of each branch: "cond", "ref" (the null class) for a model with classes that knows one, and the others.

    Branches that say the same share one condition object, so that guidance does not pay to steer from a class to itself.

    Args:
        lists: of `label_lists`.
        num_classes: of the model, whose number is the null class.
        null_class: whether the null class was trained.
        device: where to put the labels.

    Raises:
        ValueError: for no label where the null class was never trained.
    """
    if num_classes == 0:
        return {"cond": None}
    if not null_class:
        for name, labels in lists.items():
            if None in labels:
                at = "" if name == "cond" else f"also[{name!r}]: "
                raise ValueError(
                    f"{at}this model was trained with label_dropout 0, so it knows no null class; give every seed a label"
                )
    made: dict[tuple[int, ...], Tree] = {}

    def condition(labels: Sequence[int | None]) -> Tree:
        key = tuple(num_classes if v is None else v for v in labels)
        if key not in made:
            made[key] = {"labels": torch.tensor(key, dtype=torch.int64, device=device)}
        return made[key]

    found = {"cond": condition(lists["cond"])}
    if null_class:
        found["ref"] = condition([None] * len(lists["cond"]))
    return found | {name: condition(labels) for name, labels in lists.items() if name != "cond"}
