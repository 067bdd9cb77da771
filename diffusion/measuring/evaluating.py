"""`evaluate`: how near pictures are to real ones."""

from __future__ import annotations

from collections.abc import Sequence

from ..launch import Processes
from .as_pictures import Measurable, as_pictures
from .evaluation import Evaluation
from .evaluator import Evaluator
from .extractor import Extractor
from .frechet import Moments
from .statistics import is_statistics
from .usual import usual_extractor

__all__ = ["evaluate"]


def evaluate(
    pictures: Measurable, reference: Measurable | Moments | None, extractor: Extractor | None = None, *,
    measures: Sequence[str] | None = None, classifier: Extractor | None = None, training: Measurable | None = None,
    held_out: Measurable | None = None, k: int = 5, batch: int = 64, seed: int = 0, device: str = "cpu",
    processes: Processes | None = None, progress: bool = False, size: int | Sequence[int] | None = None, channels: int | None = None,
) -> Evaluation:  # fmt: skip
    """How near pictures are to real ones, in every measure that can be had; one pass over each set of pictures.

    Args:
        pictures: what is measured: samples, a folder, a data set, a tensor in [-1, 1] or of uint8; at least 2.
        reference: real pictures, likewise, or the path of an .npz of statistics, or Moments, of which only the Frechet distance can be had;
            None: what needs no reference.
        extractor: who looks; None: the digits classifier for the handwritten digits, else the pixels themselves.
        measures: names of MEASURES; None: all. Those that can't be had are in `missing`, with the reason.
        classifier: who tells classes; None: the extractor, if it does.
        training: the pictures that the model was trained on, among which memorised ones are looked for; None: the reference.
        held_out: real pictures that it was not trained on, which say how near new ones come by chance.
        k: neighbours of precision, recall, density and coverage, >= 1.
        batch: pictures at a time, >= 1.
        seed: of measures that draw directions or subsets.
        device: where extractors look.
        processes: of `torchrun`; each reads its own batches, the numbers are the same.
        progress: show bars.
        size, channels: of the pictures of folders; None: their own.

    Raises:
        ValueError: for pictures of another shape or colour than the reference, folders without pictures, names of no measure, and numbers
            out of range.
    """
    if extractor is None:
        looked = pictures
        if not (reference is None or isinstance(reference, Moments) or is_statistics(reference)):
            looked = reference
        known = as_pictures(looked, size, channels)
        extractor = usual_extractor(known)
    return Evaluator(
        reference, extractor, measures=measures, classifier=classifier, training=training, held_out=held_out, k=k, batch=batch, seed=seed,
        device=device, processes=processes, progress=progress, size=size, channels=channels,
    ).of(pictures)  # fmt: skip
