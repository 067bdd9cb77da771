"""What can move along an axis of a comparison, and where to, as a visitor says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...diffusion import Model
from ...diffusion.checkpoint import valid
from ...schedules.parts import describe
from ..compare.axes import cut_pair
from ..compare.spelled import spelled
from ..compare.syntax import cut
from .asked_for import Beside
from .form import Form, asked
from .limits import Limits
from .menus import GRIDS, OWN, RULES, SAMPLERS
from .plain_parts import check_said
from .shelf import Loaded

__all__ = ["MOVES", "NOTHING", "Move", "choices_of", "refuse", "spell", "values_of"]

NOTHING = "nothing"


@dataclass(frozen=True)
class Move:
    """Something that can move.

    keys: as the command has them. says: how its values are written. begin: values to begin with; "" where they depend on the model.
    """

    keys: tuple[str, ...]
    says: str
    begin: str = ""

    @property
    def key(self) -> str:
        """As the command writes it before the equals sign."""
        return "+".join(self.keys)


MOVES: dict[str, Move] = {
    "sampler": Move(("sampler",), "Names of the menu, or parts with arguments: DPM++ 2M, DDIM(eta=1)", "DDIM, DPM++ 2M, UniPC"),
    "grid": Move(("grid",), "Names of the menu, or parts with arguments: Karras, Karras(rho=5)", "Simple (trailing), Karras, Linspace"),
    "steps": Move(("steps",), "Numbers and ranges: 5, 10, 20 or 4..32..4", "4, 8, 16"),
    "sampler + grid": Move(
        ("sampler", "grid"), "Pairs with a colon between", "DPM++ 2M: Karras, DPM++ 2M: Simple (trailing), Heun: Karras"
    ),
    "sampler + steps": Move(("sampler", "steps"), "Pairs with a colon between", "DDIM: 20, Heun: 10, DPM++ 2M: 20"),
    "guidance": Move(("guidance",), "Names of the menu, with the form's scale, or parts: CFG(3), Rescale(CFG(3))", "none, CFG, CFG(5)"),
    "guidance scale": Move(("guidance.scale",), "Numbers and ranges: 1..5 or 0.5..2..0.5", "1, 1.5, 3, 5"),
    "guidance interval": Move(("interval",), "LOW:HIGH in sigma / alpha, an end may be left out; or none", "none, 0.2:2, :1"),
    "eta": Move(("sampler.eta",), "Numbers from 0 (no noise) to 1", "0, 0.5, 1"),
    "seed": Move(("seed",), "The first seed of the pictures: numbers and ranges", "0..3"),
    "class": Move(("label",), "Classes: numbers, several in turn as 0-9, or none"),
    "prompt": Move(("prompt",), "Texts with commas between; one that has commas itself in quotes"),
    "checkpoint": Move(("checkpoint",), "Steps of the run's training, or newest"),
    "average": Move(("ema",), "true (averaged weights), false (as trained), or a length the run stored, such as 0.1", "true, false"),
    "filter threshold": Move(("filters.threshold",), "Numbers; of the one filter that the form names", "0.1, 0.3, 1"),
}  # fmt: skip
"""By the name in the menu."""

_MENUS: dict[str, Mapping[str, str]] = {"sampler": SAMPLERS, "grid": GRIDS, "guidance": RULES}
_FIELDS = {"sampler": "sampler", "grid": "grid", "guidance": "rule"}
_LARGEST = 1000


def refuse(text: str, name: str) -> None:
    """Values that a browser may not say: those that name files or classes by path, and those that never end.

    Args:
        text: as it came.
        name: of the field, for messages.

    Raises:
        ValueError: for one of these.
    """
    check_said(text, name)
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d*)?(?:[eE]\+?\d+)?", text)
    if any(float(number) > _LARGEST for number in numbers):
        raise ValueError(f"{name}: a number above {_LARGEST} is in it; allowed: at most {_LARGEST}")


def spell(
    move: Move, text: str, form: Form, model: Model, limits: Limits, beside: Beside, name: str
) -> tuple[str, tuple[str, ...] | None]:
    """An axis as the command writes it, and how the visitor wrote its places, where that is another way.

    Args:
        move: what moves.
        text: its values.
        form: that all cells share; a name of a menu means what it means there.
        model: that is sampled.
        limits: of the server.
        beside: what else is known of it.
        name: of the axis.

    Raises:
        ValueError: for what is refused, or means nothing.
    """
    if not text.strip():
        raise ValueError(f"{name}: write at least one value. {move.says}")
    if move.keys == ("prompt",):
        return f"prompt={text}", None
    if move.keys in (("seed",), ("checkpoint",)):
        check_said(text, name)
    else:
        refuse(text, name)
    if move.keys == ("filters.threshold",) and len(form.filters) != 1:
        raise ValueError(f"{name}: choose one filter in the form of the Sample tab, whose threshold moves")
    if not set(move.keys) & set(_MENUS):
        return f"{move.key}={','.join(cut(text, ',', name))}", None
    said = cut(text, ",", name)
    pieces: list[str] = []
    for piece in said:
        words = [piece] if len(move.keys) == 1 else cut_pair(piece, move.keys, name)
        pieces.append(
            ":".join(_word(w, key, form, model, limits, beside) for w, key in zip(words, move.keys, strict=True))
        )
    return f"{move.key}={','.join(pieces)}", tuple(said)


def _word(word: str, key: str, form: Form, model: Model, limits: Limits, beside: Beside) -> str:
    """What a name of a menu stands for, in the command's words; anything else that can be put there, too."""
    if key not in _MENUS:
        return word
    known = {each.lower(): each for each in (OWN, *_MENUS[key])}
    word = known.get(word.lower(), word)
    # the rule "none" has nothing to steer away from, whatever the form says of the others
    negative = "" if key == "guidance" and _MENUS[key].get(word) == "Plain" else form.negative
    found = asked(replace(form, negative=negative, **{_FIELDS[key]: word}), model, limits, beside)
    return spelled(describe(getattr(found, key)))


def values_of(move: Move, loaded: Loaded, form: Form) -> str:
    """Values to begin with.

    Args:
        move: what moves.
        loaded: the model.
        form: for a prompt to begin with.
    """
    model = loaded.model
    if move.keys == ("label",):
        return ", ".join([*map(str, range(min(model.num_classes, 4))), "none"])
    if move.keys == ("prompt",):
        return f'"{form.prompt}"' if form.prompt and '"' not in form.prompt else form.prompt
    if move.keys == ("checkpoint",):
        return ", ".join(_checkpoints(loaded)[:6])
    return move.begin


def choices_of(move: Move, loaded: Loaded) -> list[str]:
    """Names to choose among; none where values are numbers or texts.

    Args:
        move: what moves.
        loaded: the model.
    """
    if len(move.keys) == 1 and move.keys[0] in _MENUS:
        return [OWN, *_MENUS[move.keys[0]]]
    if move.keys == ("label",) and loaded.model.num_classes <= 40:
        return [*map(str, range(loaded.model.num_classes)), "none"]
    return {"ema": ["true", "false"], "checkpoint": _checkpoints(loaded)}.get(move.key, [])


def _checkpoints(loaded: Loaded) -> list[str]:
    """Steps of the checkpoints that a run kept, newest first."""
    root = Path(loaded.entry.home) / "checkpoints"
    if not loaded.entry.run or not root.is_dir():
        return []
    return [str(found.step) for found in valid(root)]
