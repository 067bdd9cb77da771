"""Symbols: what a linear sampler does to a tensor, as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

__all__ = ["Form"]

# relative size below which a coefficient is round-off of an exact zero
_NOTHING = 4e-15


class Form:
    """A linear form {symbol: number}: the sum of numbers times symbols. It knows + - * / by numbers and nothing else.

    Args:
        terms: symbol -> coefficient; coefficients that are round-off beside the largest are dropped.
    """

    __slots__ = ("terms",)
    __array_ufunc__ = None  # numpy numbers leave the multiplication to __rmul__

    def __init__(self, terms: Mapping[str, float]) -> None:
        largest = max((abs(c) for c in terms.values()), default=0.0)
        self.terms = {k: c for k, c in terms.items() if abs(c) > _NOTHING * largest}

    @classmethod
    def symbol(cls, name: str) -> Form:
        """One symbol, times 1."""
        return cls({name: 1.0})

    def __add__(self, other: Form) -> Form:
        if not isinstance(other, Form):
            return NotImplemented
        terms = dict(self.terms)
        for k, c in other.terms.items():
            terms[k] = terms.get(k, 0.0) + c
        return Form(terms)

    def __mul__(self, number: float) -> Form:
        # only numbers: a tensor, even of one element, may be another one the next time the step is run
        if not isinstance(number, Real):
            return NotImplemented
        return Form({k: c * float(number) for k, c in self.terms.items()})

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> Form:
        if not isinstance(number, Real):
            return NotImplemented
        return Form({k: c / float(number) for k, c in self.terms.items()})  # c / c is 1 exactly

    def __neg__(self) -> Form:
        return self * -1.0

    def __sub__(self, other: Form) -> Form:
        return self + -other

    def into(self, table: Mapping[str, Form]) -> Form:
        """This form with the symbols of `table` replaced by forms."""
        total: dict[str, float] = {}
        for k, c in self.terms.items():
            for j, d in (table[k].terms if k in table else {k: 1.0}).items():
                total[j] = total.get(j, 0.0) + c * d
        return Form(total)

    def __repr__(self) -> str:
        return " ".join(f"{c:+.6g}*{k}" for k, c in self.terms.items()) or "0"
