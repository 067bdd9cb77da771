"""The record of an evaluation, put together of what was found."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from ...schedules.parts import describe
from .evaluation import Evaluation, Measured
from .how_made import how_made
from .measures import MEASURES
from .pictures import OfSource, Pictures
from .question import Answer, Question
from .real_parts import Beside
from .said import bins_of, remarks_of

__all__ = ["FEW", "about", "record"]

FEW = 10_000
"""Pictures below which a distance is labelled with their number."""


def record(
    own: Pictures, q: Question, found: Mapping[str, Answer], missing: Mapping[str, str], real: Mapping[str, Beside],
    who: Mapping[str, Any], told: Mapping[str, Any], reference: Pictures | None, training: Pictures | None, settings: Mapping[str, Any],
    unsaid: str = "",
) -> Evaluation:  # fmt: skip
    """What was found, with all that it depends on.

    Args:
        own: the pictures.
        q: what was asked of them.
        found, missing: the answers, and why there are none.
        real: what real pictures reach against others.
        who, told: the identities of the extractor and of whoever told classes.
        reference, training: pictures, where there are some.
        settings: of the measuring.
        unsaid: what is not known of the reference.
    """
    n = len(own)
    m = None if q.moments is None else q.moments.count or None  # 0: nobody wrote it down
    numbers = tuple(
        Measured(
            name, _label(MEASURES[name].label, who["short"], told["short"], n), a.value, MEASURES[name].better, n,
            m if {"moments", "real"} & set(MEASURES[name].needs) else None, a.error, a.low, a.high,
            *real.get(name, (None, None, None, None)), MEASURES[name].about,
        )
        for name, a in found.items()
    )  # fmt: skip
    details = {key: value for a in found.values() for key, value in a.details.items()}
    details["brightness"] = bins_of(q.fake.brightness, None if q.real is None else q.real.brightness)
    made = how_made(getattr(own, "settings", None) or None)
    return Evaluation(
        numbers, missing, who, None if q.fake.logits is None else told, {**about(own), "made": made},
        about(reference) if reference is not None else {} if q.moments is None else {"count": m},
        about(training) if training is not None and "memorised" in found else {}, settings,
        {"sfumato": version("sfumato"), "torch": torch.__version__}, (*remarks_of(own, q, who, made), *filter(None, [unsaid])), details,
    )  # fmt: skip


def _label(label: str, short: str, classifier: str, n: int) -> str:
    other = short.replace("FID", "KID").replace("FD", "KD")
    return label.format(
        FD=short, KD=other if other != short else f"KD-{short}", at=f"@{n}" if n < FEW else "",
        IS="IS" if classifier == "FID" else classifier.replace("FD", "IS"),
    )  # fmt: skip


def about(pictures: Pictures) -> dict[str, Any]:
    """What is kept of a set of pictures."""
    kind = pictures.source if isinstance(pictures, OfSource) else pictures
    try:
        what = describe(kind) if hasattr(kind, "root") or isinstance(pictures, OfSource) else type(kind).__name__
    except ValueError:  # of somebody else's class
        what = type(kind).__name__
    return {"count": len(pictures), "shape": list(pictures.shape), "fingerprint": pictures.fingerprint, "what": what}
