"""Answers of the measures: each asks the function that knows; what is slow to import is imported when it is asked."""

from __future__ import annotations

import math

import torch

from .frechet import frechet
from .question import Answer, Question

__all__ = [
    "ask_accuracy", "ask_brightness", "ask_frechet", "ask_frechet_infinity", "ask_inception_score", "ask_kid", "ask_memorised",
    "ask_prdc", "ask_sliced",
]  # fmt: skip

# pictures of which a jackknife over 20 groups can be had
_JACKKNIFE = 40


def ask_frechet(q: Question) -> dict[str, Answer]:
    """The Frechet distance."""
    from .frechet_error import frechet_with_error

    assert q.moments is not None
    assert q.fake.moments is not None
    if not q.sure or len(q.fake) < _JACKKNIFE:
        return {"frechet": Answer(frechet(q.fake.moments, q.moments))}
    found = frechet_with_error(q.fake.features, q.moments, seed=q.seed)
    return {"frechet": Answer(found.value, found.error, found.low, found.high)}


def ask_frechet_infinity(q: Question) -> dict[str, Answer]:
    """The Frechet distance without the bias of finite sets."""
    from .frechet_infinity import frechet_infinity

    assert q.moments is not None
    need = 2 * q.fake.features.shape[1]
    parts = min(5, len(q.fake) // need)
    real = q.moments
    if q.real is not None and len(q.real) >= max(3 * need, _JACKKNIFE):
        parts, real = min(parts, len(q.real) // need), q.real.features
    found = frechet_infinity(q.fake.features, real, parts, seed=q.seed)
    return {"frechet_infinity": Answer(found.value, found.error, found.low, found.high)}


def ask_kid(q: Question) -> dict[str, Answer]:
    """The kernel distance, with its jackknife's error."""
    from .kernel import kernel_distance

    assert q.real is not None
    found = kernel_distance(q.fake.features, q.real.features)
    return {"kid": Answer(found.value, found.error, found.low, found.high)}


def ask_prdc(q: Question) -> dict[str, Answer]:
    """Precision, recall, density and coverage, which share their work."""
    from .neighbours import prdc

    assert q.real is not None
    found = prdc(q.fake.features, q.real.features, q.k)
    return {name: Answer(getattr(found, name)) for name in ("precision", "recall", "density", "coverage")}


def ask_inception_score(q: Question) -> dict[str, Answer]:
    """The Inception score, over ten splits."""
    from .inception_score import inception_score

    assert q.fake.logits is not None
    splits = min(10, len(q.fake))
    mean, std = inception_score(q.fake.logits, splits, q.seed)
    # the deviation of a split; that of their mean is what a standard error is
    return {"inception_score": Answer(mean, std / math.sqrt(splits) if math.isfinite(std) else None)}


def ask_sliced(q: Question) -> dict[str, Answer]:
    """The sliced Wasserstein distance."""
    from .sliced import sliced_wasserstein

    assert q.real is not None
    found = sliced_wasserstein(q.fake.features, q.real.features, seed=q.seed)
    return {"sliced": Answer(found.value, found.error)}


def ask_brightness(q: Question) -> dict[str, Answer]:
    """How much brightness varies."""
    from .brightness import brightness_of

    assert q.real is not None
    found = brightness_of(q.fake.brightness / 255, q.real.brightness / 255)
    error = found.ratio_error
    facts = {
        name: getattr(found, name) for name in ("fake_mean", "real_mean", "fake_std", "real_std", "distance", "ks")
    }
    return {
        "brightness": Answer(
            found.ratio, error, found.ratio - 1.96 * error, found.ratio + 1.96 * error, {"brightness_facts": facts}
        )
    }


def ask_memorised(q: Question) -> dict[str, Answer]:
    """How many look like copies, and which."""
    from .memorised import memorised

    assert q.training is not None
    found = memorised(q.fake.features, q.training, q.held_out)
    beside = found.held_out
    suspects = [
        {"picture": i, "training": j, "ratio": float(found.ratios[i]), "distance": float(found.distances[i])}
        for i, j in found.pairs.tolist()
    ]
    facts = {
        "copies": found.copies, "near": found.near, "usual": found.usual,
        "held_out": None if beside is None else {"memorised": beside.memorised, "z": beside.z, "p": beside.p},
    }  # fmt: skip
    n = len(q.fake)
    error = (found.memorised * (1 - found.memorised) / n) ** 0.5
    return {"memorised": Answer(found.memorised, error, details={"suspects": suspects, "memorisation": facts})}


def ask_accuracy(q: Question) -> dict[str, Answer]:
    """How often the classifier names the class that was asked for, and what it named instead."""
    assert q.fake.logits is not None
    assert q.fake.labels is not None
    known = q.fake.labels >= 0
    labels, told = q.fake.labels[known], q.fake.logits[known].argmax(1)
    width = q.fake.logits.shape[1]
    table = torch.bincount(labels * width + told, minlength=width * width).view(width, width)
    share = float((labels == told).double().mean())
    each = (table.diagonal().double() / table.sum(1).clamp(min=1)).tolist()
    details = {"per_class": each, "asked": table.sum(1).tolist(), "confusion": table.tolist() if width <= 40 else None}
    return {"accuracy": Answer(share, (share * (1 - share) / len(labels)) ** 0.5, details=details)}
