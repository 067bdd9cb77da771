"""Real pictures in two parts, one measured against the other: as good as data are, at the counts of what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...schedules.noise import permutation
from .question import Answer, Question, Side

__all__ = ["Beside", "beside_held_out", "question_of_parts", "real_parts"]


class Beside(NamedTuple):
    """value: of a measure, of n real pictures against m others; the mean of several such choices, and std their standard deviation."""

    value: float
    n: int
    m: int
    std: float | None = None


def real_parts(real: Side, count: int, seed: int, choice: int = 0) -> tuple[Side, Side]:
    """Real pictures that stand for those that are measured, and those that stand for the reference.

    Precision, coverage and the Frechet distance depend on both counts, so a part is as large as what is measured, and the rest the other.
    Where more than half would be needed it is halves. They are drawn at random: files come in orders of their own, and every second one of
    digits that were scanned in turn holds half of the classes only.

    Args:
        real: at least 4 pictures.
        count: of the pictures that are measured.
        seed: of the choices.
        choice: which of them, >= 0.
    """
    count = min(count, len(real) // 2)
    order = permutation(seed, choice, len(real))
    return real.part(order[:count].sort().values), real.part(order[count:].sort().values)


def question_of_parts(fake: Side, real: Side, asked: Question) -> Question:
    """What is asked of two parts: the same as of the pictures, but for errors. What counts as memorised is looked for in the rest.

    Args:
        fake, real: the parts, with moments.
        asked: of the pictures.
    """
    training = None if asked.training is None or asked.held_out is not None else real.features
    return asked._replace(
        fake=fake, real=real, moments=real.moments, training=training, held_out=None, classes=0, sure=False
    )


def beside_held_out(found: Mapping[str, Answer], asked: Question) -> dict[str, Beside]:
    """Where real pictures were held out, they say how many of those never trained on look memorised; parts of the training pictures are
    in it themselves.

    Args:
        found: about the pictures.
        asked: of them.
    """
    held = found["memorised"].details["memorisation"]["held_out"] if "memorised" in found else None
    if held is None or asked.held_out is None or asked.training is None:
        return {}
    return {"memorised": Beside(held["memorised"], len(asked.held_out), len(asked.training))}
