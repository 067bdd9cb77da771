"""Min-SNR weighting trains faster."""

from .speed import speed_claim

__all__ = ["CLAIM"]

CLAIM = speed_claim(
    name="min-snr",
    paper="Hang et al. 2023",
    arxiv="2303.09556",
    promise="the Min-SNR weight converges faster than a constant weight",
    figure="3.4 x faster (ImageNet 256)",
    baseline="constant-eps",
    variant="min-snr",
)
