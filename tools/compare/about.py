"""What is known of a comparison before it begins: which one it is, and what its report begins with."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from ...diffusion import Model
from ...schedules.parts import describe
from .axes import Axis
from .outcome import Shared
from .settings import Settings
from .store import address

__all__ = ["begun", "identity_of", "usual_count"]


def usual_count(model: Model) -> int:
    """Pictures per cell where nobody says: 64, or 4 where they are larger than 64 pixels."""
    return 64 if max(model.picture_shape[1:]) <= 64 else 4


def identity_of(x: Axis, y: Axis, base: Settings, shared: Shared, looking: Mapping[str, Any]) -> str:
    """Which comparison this is, so that a report replaces that of the same one only.

    Args:
        x, y: columns and rows.
        base, shared: of all cells.
        looking: extractor and data, as they say of themselves.
    """
    axes = [[list(axis.keys), list(axis.labels)] for axis in (x, y)]
    return address({"axes": axes, "base": describe(base), "shared": describe(shared), "looking": looking})


def begun(
    name: str, command: str, model: Model, x: Axis, y: Axis, base: Settings, shared: Shared, looking: Mapping[str, Any],
    store: str,
) -> dict[str, Any]:  # fmt: skip
    """What every number of a comparison must travel with, as plain data.

    Args:
        name: of the model.
        command: that makes it again.
        model: whose pictures.
        x, y, base, shared, looking: as of `identity_of`.
        store: where finished cells are, in words.
    """
    return {
        "id": identity_of(x, y, base, shared, looking), "command": command, "model": name, "source": dict(model.source),
        "version": version("sfumato"), "count": shared.count, "sets": shared.sets, "first": base.first,
        "near": min(shared.near, shared.count), "fine_steps": shared.fine_steps, "device": str(model.device), "store": store,
    }  # fmt: skip
