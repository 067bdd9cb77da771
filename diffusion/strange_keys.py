"""What the config of weights may not say, since it would fetch or run code, or read other than plain weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["strange_keys"]

_NEVER = {"auto_map", "quantization_config"}
# transformers fetches kernels from the hub and runs them where a config names some
_ATTENTION = {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}
_OWN = {None, "eager", "sdpa"}


def strange_keys(config: Mapping[str, Any]) -> list[str]:
    """The keys of a config, of the parts within it too, that are refused.

    Args:
        config: as it was read.
    """
    found: set[str] = set()
    rest: list[Any] = [config]
    while rest:
        part = rest.pop()
        if isinstance(part, list):
            rest += part
        elif isinstance(part, Mapping):
            found |= _NEVER & set(part)
            found |= {
                key for key in _ATTENTION & set(part) if not isinstance(part[key], str | None) or part[key] not in _OWN
            }
            rest += part.values()
    return sorted(found)
