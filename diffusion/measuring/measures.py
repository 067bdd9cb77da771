"""The measures by name: what each needs, what it says, and whose function answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .answers import (
    ask_accuracy,
    ask_brightness,
    ask_frechet,
    ask_frechet_infinity,
    ask_inception_score,
    ask_kid,
    ask_memorised,
    ask_prdc,
    ask_sliced,
)
from .question import Answer, Question

__all__ = ["MEASURES", "Measure"]


@dataclass(frozen=True)
class Measure:
    """One measure.

    Args:
        label: in print; {FD} and {KD} are the extractor's name for its distances, {at} is @n below 10,000 pictures.
        better: "lower", "higher" or "".
        needs: of a question: "moments", "real", "logits", "labels", "training"; "neighbours", more pictures than k; "three" pictures;
            "many": six per feature, and 40.
        ask: answers; measures that share a function share its work.
        about: what it says, in a sentence for those who never saw it.
    """

    label: str
    better: str
    needs: tuple[str, ...]
    ask: Callable[[Question], Mapping[str, Answer]]
    about: str

    def lacks(self, q: Question) -> str:
        """Why a question can't be answered; "" where it can."""
        if "moments" in self.needs and q.moments is None:
            return "there is no reference to compare with"
        if "real" in self.needs and q.real is None:
            known = q.moments is not None
            return "of the reference only the mean and covariance are known, and this needs its pictures" if known else (
                "there is no reference to compare with"
            )  # fmt: skip
        if "training" in self.needs and q.training is None:
            return "there are no training pictures to look among"
        if "logits" in self.needs and q.fake.logits is None:
            return "nobody told classes; it needs an extractor with logits, or a classifier"
        if "labels" in self.needs:
            if q.fake.labels is None:
                return "the pictures say no classes, so there is nothing that they should be"
            width = 0 if q.fake.logits is None else q.fake.logits.shape[1]
            if int(q.fake.labels.max()) >= width or (q.classes and q.classes != width):
                told = q.classes or int(q.fake.labels.max()) + 1
                return f"the classifier knows {width} classes and the pictures are of {told}: these are not the same"
        least = min(len(side.features) for side in (q.fake, q.real) if side is not None)
        if "neighbours" in self.needs and least <= q.k:
            return f"k is {q.k}, and the smaller set has {least} pictures; it needs at least {q.k + 1}, or a smaller k"
        if "many" in self.needs and len(q.fake) < (most := max(6 * q.fake.features.shape[1], 40)):
            return f"there are {len(q.fake)} pictures; for {q.fake.features.shape[1]} features it needs {most}"
        if "three" in self.needs and least < 3:
            return "its error needs at least 3 pictures on each side"
        return ""


_NEAR = ("real", "neighbours")

MEASURES: dict[str, Measure] = {
    "frechet": Measure("{FD}{at}", "lower", ("moments",), ask_frechet,
        "how far the cloud of these pictures is from that of the reference, each taken as a Gaussian; 0 for equal ones. Few pictures make "
        "it larger, so compare it at equal counts only"),
    "frechet_infinity": Measure("{FD}, without the bias of few", "lower", ("moments", "many"), ask_frechet_infinity,
        "the same, extrapolated to pictures without end, from what it is of parts of them; around 0 for equal sets. "
        "A reference of fewer than six pictures per feature, or of statistics, keeps its own bias"),
    "kid": Measure("{KD}{at}", "lower", ("real", "three"), ask_kid,
        "the same question without taking them for Gaussians, and without a bias from few pictures; around 0 for equal ones, below 0 by "
        "chance"),
    "precision": Measure("precision", "higher", _NEAR, ask_prdc,
        "share of these pictures that lie among real ones: how real they are, 0 to 1"),
    "recall": Measure("recall", "higher", _NEAR, ask_prdc,
        "share of real pictures that lie among these: how much of the data is reached, 0 to 1"),
    "density": Measure("density", "higher", _NEAR, ask_prdc,
        "as precision, but counting how many real ones a picture is near to; 1 for equal sets, above 1 where pictures crowd the usual"),
    "coverage": Measure("coverage", "higher", _NEAR, ask_prdc,
        "share of real pictures that have one of these near, 0 to 1: as recall, less moved by single odd pictures"),
    "inception_score": Measure("{IS}{at}", "higher", ("logits",), ask_inception_score,
        "how sure the classifier is of each picture, and how many classes there are, 1 to the number of classes; it never looks at the "
        "reference"),
    "sliced": Measure("sliced Wasserstein{at}", "lower", ("real",), ask_sliced,
        "how far features must be moved to become those of the reference, squared, along random directions; 0 for equal sets. "
        "Its ± is over directions, not over pictures"),
    "accuracy": Measure("class accuracy", "higher", ("logits", "labels"), ask_accuracy,
        "share of pictures that the classifier takes for the class that was asked for, 0 to 1"),
    "brightness": Measure("brightness spread", "", ("real",), ask_brightness,
        "how much the brightness of pictures varies, over how much that of real ones does: 1 is right, below 1 all are medium bright"),
    "memorised": Measure("memorised", "lower", ("training",), ask_memorised,
        "share of pictures that are three times nearer to one training picture than to any other, as copies are; what real pictures have "
        "of it is chance, no copying"),
}  # fmt: skip
"""By name, in the order of reports."""
