"""Fixtures of the tests of the product."""

from modelled import model

__all__ = ["model"]
