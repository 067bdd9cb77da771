"""Fixtures of the tests of guidance."""

from guiding import unet

__all__ = ["unet"]
