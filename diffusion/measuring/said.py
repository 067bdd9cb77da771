"""What must be said beside numbers, and what is drawn beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .defaults import default_extractor
from .pictures import Pictures
from .question import Question

__all__ = ["bins_of", "remarks_of"]

_BINS = 32


def bins_of(fake: Tensor, real: Tensor | None) -> dict[str, Any]:
    """A histogram of the brightness of pictures: edges, and the share of each set between them.

    Args:
        fake, real: the mean of each picture's numbers, 0 to 255.
    """
    both = fake if real is None else torch.cat([fake, real])
    low, high = float(both.min()), float(both.max())
    edges = torch.linspace(low, max(high, low + 1.0), _BINS + 1, dtype=torch.float64)

    def shares(values: Tensor) -> list[float]:
        return (torch.histc(values.double(), _BINS, low, float(edges[-1])) / len(values)).tolist()

    return {"edges": edges.tolist(), "fake": shares(fake), "real": None if real is None else shares(real)}


def remarks_of(own: Pictures, q: Question, who: Mapping[str, Any], made: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader must know, in words.

    Args:
        own: the pictures.
        q: what was asked.
        who: looked.
        made: how the pictures were made.
    """
    said: list[str] = []
    n = len(own)
    if q.moments is not None:
        m = q.moments.count or n  # 0: nobody wrote it down
        if max(n, m) > 1.5 * min(n, m):
            said.append(
                f"{n} pictures were compared with {m}: precision, recall, density and coverage depend on both counts, so compare these "
                f"numbers only with others of {n} against {m}; equal counts are best"
            )
        if min(n, m) <= who["num_features"]:
            said.append(
                f"there are {min(n, m)} pictures for {who['num_features']} features: the Frechet distance is computed exactly, but mostly "
                "says how few there are; the kernel distance has no such bias"
            )
    if q.real is None and q.moments is not None:
        said.append(
            "of the reference only its mean and covariance are known, so only the Frechet distance could be measured"
        )
    if q.real is not None and _in_proportion(made.get("labels", {}), q.real.labels):
        said.append(
            "classes were given in exact proportions and not drawn, so pictures of one class meet a little less often than among as many "
            "drawn at random: of equal laws the kernel distance lies below 0, by (mean kernel within a class - mean kernel of all) / "
            f"{n - 1}, and the Frechet distance is smaller, too"
        )
    if made.get("differs"):
        said.append(f"the pictures were not all made alike: {', '.join(made['differs'])} differ")
    if made.get("rejected"):
        said.append(
            f"filters rejected {made['rejected']} of {made['attempts']} attempts before these pictures were kept"
        )
    if not made.get("known"):
        said.append("nothing is known of how these pictures were made; they carry no settings")
    usual = default_extractor(own.shape)
    if who["name"] == type(usual.extractor).__name__:
        said.append(usual.remark[:1].lower() + usual.remark[1:].rstrip("."))
    return tuple(said)


def _in_proportion(asked: Mapping[str, int], real: Tensor | None) -> bool:
    """Whether classes are as often as can be in turn, or as among real pictures; drawn ones almost never are.

    Args:
        asked: label -> how many pictures.
        real: labels of the real pictures, -1 where not known, or None.
    """
    counts = {int(label): n for label, n in asked.items() if label.isdecimal()}
    if len(counts) < 2 or len(counts) < len(asked):
        return False
    if max(counts.values()) - min(counts.values()) <= 1:
        return True
    known = None if real is None else real[real >= 0]
    if known is None or not len(known) or int(known.max()) not in counts:
        return False
    share, total = known.bincount().double() / len(known), sum(counts.values())
    return all(abs(counts.get(c, 0) - total * float(share[c])) <= 1 for c in range(len(share)))
