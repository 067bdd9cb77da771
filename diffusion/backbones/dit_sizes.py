"""The published sizes of the diffusion transformer."""

from __future__ import annotations

__all__ = ["sized"]

_SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
_PATCHES = (2, 4, 8)


def sized(name: str) -> dict[str, int]:
    """The arguments of DiT that make a published size: `DiT(channels=4, size=32, **sized("XL/2"))`.

    In YAML they are one line: `patch: 2, width: 1152, depth: 28, heads: 16`.

    Args:
        name: S, B, L or XL, a slash, and the patch, 2, 4 or 8.

    Raises:
        ValueError: for another name.

    Source: Peebles & Xie 2023 (2212.09748), table 1.
    """
    size, _, patch = name.partition("/")
    if size not in _SIZES or patch not in map(str, _PATCHES):
        allowed = ", ".join(f"{s}/{p}" for s in _SIZES for p in _PATCHES)
        raise ValueError(
            f"the size of a DiT is {name!r}; allowed: {allowed}; give patch, width, depth and heads for others"
        )
    width, depth, heads = _SIZES[size]
    return {"patch": int(patch), "width": width, "depth": depth, "heads": heads}
