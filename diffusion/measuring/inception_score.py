"""The Inception score: how sure a classifier is of each picture, and how different pictures are."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...schedules.noise import check_seeds, permutation

__all__ = ["InceptionScore", "inception_score"]


class InceptionScore(NamedTuple):
    """exp of the information that a picture has on its class, from 1 to the number of classes; more is better.

    mean: over the splits. std: sample standard deviation over the splits, nan of a single one: how far a split may be off, as it is mostly
    published. How sure the mean is is std / sqrt(splits).
    """

    mean: float
    std: float


def inception_score(logits: Tensor, splits: int = 10, seed: int = 0) -> InceptionScore:
    """exp of the mean KL divergence between what is said of one picture and what is said of all in its split.

    Pictures are dealt to the splits at random, since they may come in order of class. A split of n pictures has a score of at most n, and
    few pictures make it smaller: compare at equal counts and splits. It sees no real pictures: it can't tell samples from copies, and says
    nothing of classes that the classifier does not know.

    Args:
        logits: (N, K), the classifier's scores before the softmax.
        splits: 1 to N; 10 are usual.
        seed: of the dealing, in [0, 2^63).

    Raises:
        ValueError: for another shape or range, or numbers that are not finite.

    Source: Salimans et al. 2016, arXiv 1606.03498, section 4.
    """
    if logits.ndim != 2 or len(logits) < 1 or logits.shape[1] < 1 or not bool(torch.isfinite(logits).all()):
        raise ValueError(
            f"logits are {tuple(logits.shape)}; allowed: (N, K), all finite, of an extractor that classifies"
        )
    if not 1 <= splits <= len(logits):
        raise ValueError(f"splits is {splits}; allowed: 1 to {len(logits)}, the number of pictures")
    check_seeds([seed])
    dealt = logits[permutation(seed, 0, len(logits)).to(logits.device)].double().log_softmax(1)
    scores = torch.stack([_score(part) for part in dealt.tensor_split(splits)])
    return InceptionScore(float(scores.mean()), float(scores.std()) if splits > 1 else math.nan)


def _score(log_p: Tensor) -> Tensor:
    """Of log-probabilities (n, K)."""
    p = log_p.exp()
    # the mean of probabilities as logarithms: where all are rounded to 0, p log p is 0, not nan
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))
    return (p * (log_p - log_mean)).sum(1).mean().exp()
