"""What the network believes at (x, level): x0 and eps, solved lazily from its raw output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .level import Level
from .rows import Row, determinant
from .scalar import Number

__all__ = ["Prediction", "combine", "difference", "from_eps", "from_x0", "lerp", "solve"]


def solve(row: Row, level: Level) -> tuple[tuple[Number, Number], tuple[Number, Number]]:
    """The 2x2 solve: ((c, d), (e, f)) with x0 = c * x + d * out and eps = e * x + f * out.

    row, level: at which determinant(row, level) is not 0 (see check_pairing).
    """
    a, b = row(level)
    det = determinant(row, level)
    return (b / det, -level.sigma / det), (-a / det, level.alpha / det)


def _combine(weights: tuple[Number, Number], x: Tensor, out: Tensor) -> Tensor:
    c, d = weights
    if not isinstance(c, Tensor) and c == 0:
        return out if not isinstance(d, Tensor) and d == 1 else d * out
    if isinstance(d, Tensor):
        return c * x + d * out
    return torch.add(c * x, out, alpha=float(d))  # an operation and a tensor less


class Prediction:
    """The pair (x0, eps) that a network believes in.

    Made from a raw output and its row (solved only when read), or given as a pair, `Prediction.pair(x0, eps)`. A pair need not
    agree with any x.

    x, out: (B, ...) tensors; level: where the network was asked; row: its prediction type. variance: of a network that learns it,
    (B, ...): -1 for the posterior's log-variance of a step, 1 for the largest, any number between or beyond; else None.
    toward: another prediction at the same place, or None. Samplers walk by this one, and when a step is over the loop moves x by
    the difference of the two: CFG++ denoises with one prediction and renoises with another.
    """

    __slots__ = ("_eps", "_x0", "level", "out", "row", "toward", "variance", "x")

    def __init__(
        self, x: Tensor | None, level: Level | None, out: Tensor | None, row: Row | None, variance: Tensor | None = None,
        toward: Prediction | None = None,
    ) -> None:  # fmt: skip
        self.x, self.level, self.out, self.row, self.variance, self.toward = x, level, out, row, variance, toward
        self._x0: Tensor | None = None
        self._eps: Tensor | None = None

    @classmethod
    def pair(cls, x0: Tensor, eps: Tensor, variance: Tensor | None = None) -> Prediction:
        """A prediction given as x0 and eps, each (B, ...)."""
        p = cls(None, None, None, None, variance)
        p._x0, p._eps = x0, eps
        return p

    def steered(self, toward: Prediction | None, variance: Tensor | None = None) -> Prediction:
        """The same prediction, with another to move to at the end of a step; variance: another than its own."""
        p = Prediction(self.x, self.level, self.out, self.row, self.variance if variance is None else variance, toward)
        p._x0, p._eps = self._x0, self._eps
        return p

    @property
    def raw(self) -> bool:
        """Whether this is still a network's output with its row."""
        return self.row is not None

    def _solved(self, which: int) -> Tensor:
        assert self.x is not None
        assert self.level is not None
        assert self.out is not None
        assert self.row is not None
        return _combine(solve(self.row, self.level.like(self.x))[which], self.x, self.out)

    @property
    def x0(self) -> Tensor:
        """The predicted data, (B, ...)."""
        if self._x0 is None:
            self._x0 = self._solved(0)
        return self._x0

    @property
    def eps(self) -> Tensor:
        """The predicted noise, (B, ...)."""
        if self._eps is None:
            self._eps = self._solved(1)
        return self._eps

    def rows(self, index: slice | Tensor) -> Prediction:
        """The prediction for some samples of the batch."""
        if isinstance(index, Tensor):  # once, without waiting for the device
            index = index.to((self.x if self.x is not None else self.x0).device, non_blocking=True)
        variance = None if self.variance is None else self.variance[index]
        toward = None if self.toward is None else self.toward.rows(index)
        if self.x is None or self.out is None or self.level is None:
            return Prediction.pair(self.x0[index], self.eps[index], variance).steered(toward)
        return Prediction(self.x[index], self.level.rows(index), self.out[index], self.row, variance, toward)

    def put(self, index: Tensor, other: Prediction) -> Prediction:
        """This prediction with `other` (len(index) samples) in place of the samples at `index` (host int64)."""

        def into(a: Tensor, b: Tensor) -> Tensor:
            return a.index_copy(0, index.to(a.device, non_blocking=True), b.to(a.dtype))

        variance = None
        if self.variance is not None and other.variance is not None:
            variance = into(self.variance, other.variance)
        toward = None
        if self.toward is not None or other.toward is not None:  # who moves nowhere moves to itself
            own, theirs = self.steered(None), other.steered(None)
            toward = (self.toward or own).put(index, other.toward or theirs)
        if self.out is not None and other.out is not None and other.row == self.row and _same(self.level, other.level):
            return Prediction(self.x, self.level, into(self.out, other.out), self.row, variance, toward)
        return Prediction.pair(into(self.x0, other.x0), into(self.eps, other.eps), variance).steered(toward)


def _same(a: Level | None, b: Level | None) -> bool:
    """Whether outputs made at two levels are read alike, as far as plain numbers say it: to look at tensors would wait for the device."""
    if a is None or b is None or not (a.is_scalar and b.is_scalar):
        return False
    return bool(a.alpha == b.alpha and a.sigma == b.sigma)


def lerp(a: Prediction, b: Prediction, weight: Number) -> Prediction:
    """a + weight * (b - a) of two predictions made at the same (x, level); beyond [0, 1] it extrapolates.

    Raw outputs of one row stay raw: one pass over the data, and nothing is solved. A learned variance is b's: guidance steers the
    mean of the conditional prediction, and draws with its variance, as ADM and DiT do.

    Args:
        a, b: the predictions.
        weight: a number, or a tensor that broadcasts with x.
    """

    def between(u: Tensor, v: Tensor) -> Tensor:
        if u.dtype != v.dtype:  # networks that answer in dtypes of their own, and a weight in that of x
            common = torch.promote_types(u.dtype, v.dtype)
            u, v = u.to(common), v.to(common)
        return torch.lerp(u, v, weight.to(u.dtype) if isinstance(weight, Tensor) else weight)

    if a.out is not None and b.out is not None and a.row == b.row and a.x is b.x and a.level is b.level:
        return Prediction(a.x, a.level, between(a.out, b.out), a.row, b.variance)
    return Prediction.pair(between(a.x0, b.x0), between(a.eps, b.eps), b.variance)


def combine(weights: Sequence[float], predictions: Sequence[Prediction]) -> Prediction:
    """The weighted sum of predictions made at the same (x, level); raw outputs of one row stay raw. A learned variance is the last one's.

    Args:
        weights: one per prediction, summing to 1, so that the sum agrees with x as they do.
        predictions: at least one.
    """

    def total(parts: list[Tensor]) -> Tensor:
        out = weights[0] * parts[0]
        for w, part in zip(weights[1:], parts[1:], strict=True):
            out = out.add(part, alpha=w)
        return out

    first, last = predictions[0], predictions[-1]
    outs = [p.out for p in predictions if p.out is not None and p.row == first.row]
    if len(outs) == len(predictions) and all(p.x is first.x and p.level is first.level for p in predictions):
        return Prediction(first.x, first.level, total(outs), first.row, last.variance)
    return Prediction.pair(total([p.x0 for p in predictions]), total([p.eps for p in predictions]), last.variance)


def difference(a: Prediction, b: Prediction, of: Literal["x0", "eps"]) -> Tensor:
    """b - a in x0 or eps, for two predictions made at the same (x, level); of raw outputs of one row, x itself drops out.

    Args:
        a, b: the predictions.
        of: which of the two.
    """
    if a.out is not None and b.out is not None and a.row == b.row and a.x is b.x and a.level is b.level:
        assert a.row is not None
        assert a.level is not None
        assert a.x is not None
        weight = solve(a.row, a.level.like(a.x))[0 if of == "x0" else 1][1]
        return weight * (b.out - a.out)
    return b.x0 - a.x0 if of == "x0" else b.eps - a.eps


def from_x0(x: Tensor, level: Level, x0: Tensor) -> Prediction:
    """The prediction that believes in x0 at (x, level): eps is recomputed, as after clipping. Needs sigma > 0."""
    at = level.like(x)
    return Prediction.pair(x0, (x - at.alpha * x0) / at.sigma)


def from_eps(x: Tensor, level: Level, eps: Tensor) -> Prediction:
    """The prediction that believes in eps at (x, level). Needs alpha > 0."""
    at = level.like(x)
    return Prediction.pair((x - at.sigma * eps) / at.alpha, eps)
