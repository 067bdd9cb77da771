"""What a rule asked for and is not there."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

__all__ = ["MissingBranch", "WrongCount"]


class MissingBranch(ValueError):
    """A rule asks for a branch that is not there.

    Args:
        name: of the branch.
        there: the names of those that are.
        why: why there is no reference, and what to do, where that is known.
    """

    def __init__(self, name: str, there: Sequence[str], why: str = "") -> None:
        super().__init__(_REFERENCE + why if why else _words(name, list(there)))
        self.name = name


class WrongCount(ValueError):
    """A rule has a number per picture, but of another count than there are pictures."""


_REFERENCE = "guidance steers away from 'ref', the model without a condition, and this model "


def _words(name: str, there: list[str]) -> str:
    if name == "ref" and "ref" not in there:
        return f"{_REFERENCE}has none: trained without classes, or with labels never dropped (label_dropout 0); use guidance Plain"
    hints = {
        "weak": "a weaker network is given as weak=load(...) to sample, or --weak RUN",
        "negative": 'a negative prompt is given as also={"negative": labels} to sample, or --also.negative 3',
    }
    hint = hints.get(name, f'another condition is given as also={{"{name}": labels}} to sample, or --also.{name} 3')
    near = get_close_matches(name, [*there, *hints], n=1, cutoff=0.82)
    meant = f"; did you mean {near[0]!r}?" if near and near[0] != name else "."
    return f"guidance asks for branch {name!r}; there are {', '.join(map(repr, there))}{meant} Fix: {hint}"
