"""Descriptions as JSON, which has no infinity and no nan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["from_json", "to_json"]


def to_json(value: Any) -> Any:
    """A description (see `describe`) with "inf", "-inf" and "nan" for the numbers that are not finite."""
    if isinstance(value, Mapping):
        return {k: to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(value: Any) -> Any:
    """The inverse of `to_json`."""
    if isinstance(value, Mapping):
        return {k: from_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [from_json(v) for v in value]
    return float(value) if value in ("inf", "-inf", "nan") else value
