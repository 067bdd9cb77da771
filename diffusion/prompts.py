"""From prompts to the condition of each branch, and from latents to pictures: what a model has beside its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from ..guidance.tree import Tree, take
from ..samplers.filters import Judge
from .conditions import check_names

__all__ = ["Decoded", "Decoder", "Prompts", "TextEncoder", "prompt_conditions", "prompt_lists"]

Prompts: TypeAlias = "str | Sequence[str]"

AT_ONCE = 32
"""Prompts that are encoded at a time."""


@runtime_checkable
class TextEncoder(Protocol):
    """What turns prompts into keyword arguments of a backbone."""

    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The condition of some prompts, batch first; of one length for all prompts, and the same whatever is encoded beside."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """What turns latents into pictures."""

    def decode(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in [-1, 1] of latents (B, c, h, w), scaled as the network makes them."""
        ...

    def picture_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(C, H, W) of the pictures that latents of a shape (c, h, w) become."""
        ...


@dataclass(frozen=True)
class Decoded:
    """A judge of pictures that is given latents: it rates what the decoder makes of them, one by one.

    judge: of pictures. vae: the decoder.
    """

    judge: Judge
    vae: Decoder

    def rate(self, x0: Tensor) -> Tensor:
        """One number per picture."""
        return self.judge.rate(torch.cat([self.vae.decode(one) for one in x0.split(1)]))


def prompt_lists(prompts: Prompts | None, also: Mapping[str, Prompts] | None, count: int) -> dict[str, list[str]]:
    """The prompts of each branch that has some of its own, one per slot, checked.

    Args:
        prompts: of "cond"; one text is for all slots. None: no prompt, which is the text "".
        also: of further branches, likewise.
        count: number of slots.

    Raises:
        ValueError: for too few or too many, and what is no text; for the name of a branch that the model has already.
    """
    check_names(also, '{"negative": "blurry"}')
    found = {"cond": _checked("" if prompts is None else prompts, "prompts", count)}
    for name, given in (also or {}).items():
        found[name] = _checked(given, f"also[{name!r}]", count)
    return found


def _checked(given: Prompts, name: str, count: int) -> list[str]:
    if isinstance(given, str):
        return [given] * count
    listed = list(given) if isinstance(given, Sequence) else None
    if listed is None or not all(isinstance(p, str) for p in listed):
        raise ValueError(
            f"{name} is {given!r}; this model knows texts: give one for all pictures, or a list of one per seed"
        )
    if len(listed) != count:
        raise ValueError(f"{name} has {len(listed)} texts for {count} seeds; give one per seed, or one text for all")
    return listed


def prompt_conditions(
    lists: Mapping[str, Sequence[str]], text: TextEncoder, null: bool, device: torch.device
) -> dict[str, Tree]:
    """The condition of each branch: "cond", "ref" (no text) for a model that knows it, and the others; every prompt is encoded once.

    Branches that say the same share one condition object, so that guidance does not pay to steer from a text to itself.

    Args:
        lists: of `prompt_lists`.
        text: the encoder.
        null: whether the model was trained with dropped texts.
        device: where to put the conditions.

    Raises:
        ValueError: for no text where the model was not trained without.
    """
    for name, prompts in lists.items():
        if not null and "" in prompts:
            at = "prompts: " if name == "cond" else f"also[{name!r}]: "
            raise ValueError(
                f"{at}this model was trained with label_dropout 0, so it knows no empty text; give every seed a prompt"
            )
    wanted = dict(lists)
    if null:
        wanted["ref"] = [""] * len(lists["cond"])
    each = list(dict.fromkeys(p for prompts in wanted.values() for p in prompts))
    parts = [text.encode(each[i : i + AT_ONCE]) for i in range(0, len(each), AT_ONCE)]
    encoded = {key: torch.cat([part[key] for part in parts]).to(device) for key in parts[0]}
    place = {prompt: i for i, prompt in enumerate(each)}
    made: dict[tuple[str, ...], Tree] = {}
    for prompts in wanted.values():
        if tuple(prompts) not in made:
            index = torch.tensor([place[p] for p in prompts])
            # one text for all, as the empty one is, stays one row in memory
            same = {key: v[index[:1]].expand(len(prompts), *v.shape[1:]) for key, v in encoded.items()}
            made[tuple(prompts)] = same if len(set(prompts)) == 1 else take(encoded, index)
    return {name: made[tuple(prompts)] for name, prompts in wanted.items()}
