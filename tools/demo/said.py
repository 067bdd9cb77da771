"""Names as people type them: ours in any case, those of k-diffusion and ComfyUI, and a number alone for guidance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ..parts import choices
from ..spelling import did_you_mean
from .menus import GRIDS, RULES, SAMPLERS
from .plain_parts import example
from .strangers import GRID_NAMES, SAMPLER_NAMES

__all__ = ["check_known", "meant"]


def meant(said: str, menu: Mapping[str, str]) -> str:
    """A name of the menu, or a part, for what was typed; what is neither stays as it is.

    Args:
        said: as in the form.
        menu: names, and what each stands for.
    """
    if said in menu:
        return said
    same = {name.lower(): name for name in menu}
    if said.lower() in same:
        return same[said.lower()]
    others = SAMPLER_NAMES if menu is SAMPLERS else GRID_NAMES if menu is GRIDS else {}
    name = " ".join(said.lower().replace("_", " ").split())
    if name in others:
        return others[name]
    if menu is RULES and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{0,6})?|\.[0-9]{1,6}", said) and math.isfinite(float(said)):
        return f"CFG(scale={float(said)!r})"
    return said


def check_known(said: str, kind: type, menu: Mapping[str, str], name: str) -> None:
    """Refuse a name that is nobody's, before its arguments are looked at.

    Args:
        said: as in the form, after `meant`.
        kind: what it must be.
        menu: names, and what each stands for.
        name: of the field, for messages.

    Raises:
        ValueError: with the names of the menu.
    """
    head = said.partition("(")[0].strip()
    known = choices(kind)
    if said in menu or head in known or not re.fullmatch(r"[\w +-]+", head):
        return
    raise ValueError(
        f"{name} {head[:60]!r} is not known; allowed: {', '.join(menu)}, or a part as in Python, such as "
        f"{example(name)}{did_you_mean(head[:60], [*menu, *known])}"
    )  # fmt: skip
