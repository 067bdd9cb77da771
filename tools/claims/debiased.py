"""The debiased weighting trains faster."""

from .speed import speed_claim

__all__ = ["CLAIM"]

CLAIM = speed_claim(
    name="debiased",
    paper="Yu et al. 2023",
    arxiv="2310.08442",
    promise="the weight 1 / sqrt(SNR) on eps trains more efficiently than a constant weight",
    figure="better, no one factor stated",
    baseline="constant-eps",
    variant="debiased",
)
