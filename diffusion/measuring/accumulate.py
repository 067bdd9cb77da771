"""Moments of features that come a batch at a time, in one process or in several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from .frechet import Moments
from .half_products import add_gram, mirrored
from .moments_file import load_moments, save_moments

__all__ = ["FeatureMoments", "load_moments", "save_moments"]


def _merged(stacked: Tensor) -> Tensor:
    """The state of all vectors, of states (K, d + 2, d) of some of them each."""
    total = stacked[0].clone()
    for other in stacked[1:]:
        if bool(other[0, 0]):
            total[2:] += other[2:]
            _shift(total, other[1], float(other[0, 0]))
    return total


def _shift(state: Tensor, mean: Tensor, count: float) -> None:
    """Count and mean of a state with other vectors, and what the distance of the two means adds to their sums of products.

    Source: Chan, Golub & LeVeque 1979, eq. 2.1.
    """
    before = float(state[0, 0])
    step, share = mean - state[1], count / (before + count)
    state[2:].addr_(step, step, alpha=before * share)
    state[1] += step * share
    state[0] = before + count


class FeatureMoments(Metric):
    """Mean and covariance in float64, streaming: rows are collected, and enter a thousand at a time by one product.

    Its one state holds count, mean and the sum of outer products around the mean, not around zero, so features far from zero keep their
    digits. States are merged by torchmetrics: over processes when `compute` is called in all of them, or by `merge_state`. The answer
    does not depend on how rows were cut into batches, to the bit; on processes only by rounding.

    Args:
        num_features: d, >= 1.
        rows: collected before a product, >= 1.

    Raises:
        ValueError: for numbers out of range.
    """

    full_state_update = False
    is_differentiable = False
    state: Tensor

    def __init__(self, num_features: int, rows: int = 1024) -> None:
        super().__init__()
        if num_features < 1 or rows < 1:
            raise ValueError(f"num_features is {num_features} and rows is {rows}; allowed: both >= 1")
        self.num_features, self.rows = num_features, rows
        self._waiting, self._filled = torch.empty(0, num_features), 0
        # row 0: the count, d times; row 1: the mean; then the products, of which the lower triangle counts
        self.add_state(
            "state", torch.zeros(num_features + 2, num_features, dtype=torch.float64), dist_reduce_fx=_merged
        )

    def update(self, features: Tensor) -> None:
        """Add feature vectors.

        Args:
            features: (B, d), B >= 0, on any device; any floating type.

        Raises:
            ValueError: for another shape, or numbers that are not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ValueError(f"features have shape {tuple(features.shape)}; allowed: (B, {self.num_features})")
        if not bool(torch.isfinite(features).all()):
            raise ValueError(
                "features hold nan or infinite numbers; leave out pictures that no filter kept (Samples.kept)"
            )
        if len(self._waiting) != self.rows or self._waiting.device != self.state.device:
            waiting = self.state.new_empty(self.rows, self.num_features)
            waiting[: self._filled] = self._waiting[: self._filled]
            self._waiting = waiting
        while len(features):
            part, features = features[: self.rows - self._filled], features[self.rows - self._filled :]
            self._waiting[self._filled : self._filled + len(part)] = part.detach()
            self._filled += len(part)
            if self._filled == self.rows:
                self._flush()

    def compute(self) -> Moments:
        """The moments of all that was added, in all processes.

        Raises:
            ValueError: for fewer than two vectors.
        """
        n = int(self.state[0, 0])
        if n < 2:
            raise ValueError(f"{n} feature vectors were added; allowed: 2 or more, of which a covariance can be taken")
        return Moments(self.state[1].clone(), mirrored(self.state[2:]) / (n - 1), n)

    def forward(self, features: Tensor) -> None:
        """Add feature vectors; there is no value of a batch alone, which may be a single vector."""
        self.update(features)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add what another has gathered.

        Args:
            incoming_state: another FeatureMoments of the same width, which stays as it is, or its `metric_state`.

        Raises:
            ValueError: for one of another width.
        """
        self._flush()
        state = incoming_state.metric_state if isinstance(incoming_state, Metric) else incoming_state
        other = state.get("state")
        if not isinstance(other, Tensor) or other.shape != self.state.shape:
            width = f"width {other.shape[-1]}" if isinstance(other, Tensor) else "no width"
            raise ValueError(
                f"the other's features have {width}; allowed: {self.num_features}, those of a FeatureMoments of the same network"
            )
        self._computed = None
        super().merge_state({"state": other})

    @property
    def metric_state(self) -> dict[str, list[Tensor] | Tensor]:
        """The state, as it is now."""
        self._flush()
        return {"state": self.state.clone()}

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[..., Any] | None = None,
    ) -> None:
        """As that of torchmetrics, of what waits, too."""
        self._flush()
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._filled = 0

    def set_dtype(self, dst_type: str | torch.dtype) -> Metric:
        """Refused but for float64: sums of squares have no digits to spare."""
        if dst_type not in (torch.float64, "torch.DoubleTensor"):
            raise ValueError(f"dst_type is {dst_type!r}; allowed: torch.float64")
        return self

    def _flush(self) -> None:
        """What waits becomes part of the state."""
        if not self._filled:
            return
        rows, self._filled = self._waiting[: self._filled].to(self.state.device), 0
        mean = rows.mean(0)
        add_gram(rows - mean, self.state[2:])
        _shift(self.state, mean, len(rows))

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """As that of torchmetrics, which would squeeze a tensor of a single feature, can't look into a frozen dataclass, and keeps the
        sum over processes as this one's where `compute` raises."""

        def wrapped() -> Moments:
            self.sync(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync)
            try:
                return compute()
            finally:
                self.unsync(should_unsync=self._is_synced and self._should_unsync)

        return wrapped
