"""The text encoder of a run, where it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..schedules.parts import build, describe
from .prompts import TextEncoder
from .stored_text import TEXTS

__all__ = ["text_of"]

_ELSEWHERE = ("folder", "device", "precision", "fingerprint")
"""Arguments that do not say what an encoder makes of a text."""


def text_of(described: Any, given: TextEncoder | str | Path | None, allow: Sequence[str] = ()) -> TextEncoder | None:
    """The encoder that a run was trained with, or one given in its place.

    Args:
        described: the run's, from its config; None: it was trained without texts.
        given: an encoder, or the folder where the run's own (or its stored texts) is now; None: as it was.
        allow: packages whose classes the config may name.

    Raises:
        ValueError: for a run without texts, a folder where its encoder has none, and an encoder of another fingerprint.
    """
    if given is None:
        return build(described, allow, "text")
    if described is None:
        raise ValueError(f"text is {given!r}, but this run was trained without texts; leave it out")
    if isinstance(given, str | Path):
        return build(_moved(described, str(given)), allow, "text")
    known, own = (
        _fingerprint(described),
        getattr(given, "fingerprint", None) or getattr(getattr(given, "encoder", None), "fingerprint", None),
    )
    if known is not None and own is not None and known != own:
        raise ValueError(f"text is the encoder {own}, and this run was trained with {known}; give the same encoder")
    _check_arguments(_innermost(described), given)
    return given


def _innermost(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """The encoder itself, of stored texts."""
    inner = _arguments(described).get("encoder")
    return _innermost(inner) if isinstance(inner, Mapping) else described


def _check_arguments(described: Mapping[str, Any], given: TextEncoder) -> None:
    """Refuse an encoder of the run's class that makes something else of a text."""
    told = getattr(given, "encoder", None) or given
    try:
        made = describe(told)
    except (ValueError, TypeError):  # of somebody's own, which nobody has to describe
        return
    if not isinstance(made, Mapping) or made.get("class_path") != described.get("class_path"):
        return  # of another class nothing is known
    own = _arguments(made)
    other = [
        f"{key} is {own[key]!r}, was {value!r}" for key, value in _arguments(described).items()
        if key not in _ELSEWHERE and key in own and own[key] != value
    ]  # fmt: skip
    if other:
        raise ValueError(f"text is another encoder than the run was trained with: {'; '.join(other)}; give the same")


def _arguments(described: Mapping[str, Any]) -> dict[str, Any]:
    return dict(described.get("init_args") or {})


def _fingerprint(described: Mapping[str, Any]) -> str | None:
    arguments = _arguments(described)
    inner = arguments.get("encoder")
    return _fingerprint(inner) if isinstance(inner, Mapping) else arguments.get("fingerprint")


def _moved(described: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The description with another folder: of stored texts, or of the encoder itself."""
    arguments = _arguments(described)
    inner = arguments.get("encoder")
    if isinstance(inner, Mapping) and not (Path(folder) / TEXTS).is_file():
        return _moved(inner, folder)
    if "folder" not in arguments:
        raise ValueError(
            f"text is {folder!r}, but this run's encoder, {described.get('class_path')}, has no folder; leave it out"
        )
    return {**described, "init_args": {**arguments, "folder": folder}}
