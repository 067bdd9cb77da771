"""What a rule asks of a model that is about to be sampled: refused, or warned of, in the user's words."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..guidance import Guidance, Interval, LinearAdaptive, MissingBranch, Plain, rules_within
from ..samplers import Sampler
from ..samplers.walk import Table
from .fingerprint import fingerprint
from .probe import probe
from .warned import Foreseen

__all__ = ["all_or_none", "ask_first"]


def ask_first(
    guidance: Guidance, names: Sequence[str], table: Table, own: Sampler, shape: Sequence[int],
    count: int, network: nn.Module, weak: nn.Module | None, why_no_ref: str, same: bool,
) -> Mapping[str, int]:  # fmt: skip
    """Put a rule to networks that answer at once, and say what will be refused, or will not do what it seems to.

    Args:
        guidance: the rule.
        names: of the branches there are.
        table: of the sampler on the model's path, along the levels that are sampled.
        own: the sampler as it was given.
        shape, count: of what is sampled.
        network, weak: the networks.
        why_no_ref: why there is no reference, of a model without one.
        same: whether cond and the reference say the same, for want of labels.

    Returns:
        How often each branch would be asked.

    Raises:
        ValueError: what the rule refuses; for a plan of LinearAdaptive that was fitted with another sampler or other weights.
    """
    try:
        asked = probe(guidance, names, table.sampler, table.levels, shape, count, learns=True, table=table)
    except MissingBranch as error:
        if error.name != "ref" or not why_no_ref:
            raise
        raise MissingBranch("ref", names, why_no_ref) from error
    levels = table.levels
    for rule, _ in rules_within(guidance, LinearAdaptive):
        rule.check_fit(repr(own), fingerprint(network))
    idle = [name for name in names if name not in ("cond", "ref") and not asked[name]]
    if idle:
        _warn(f"{', '.join(idle)} was given, but {guidance} never asks for it")
    if not any(asked[name] for name in names if name != "cond") and not isinstance(guidance, Plain):
        for interval, _ in rules_within(guidance, Interval):
            if not any(interval.inside(level) for level in levels[:-1]):
                _warn(
                    f"nothing is guided: no step begins within {interval}; these {len(levels) - 1} begin at sigma / alpha "
                    f"{float(levels[0].ratio):.4g} to {float(levels[-2].ratio):.4g}"
                )
                break
    if same and asked.get("ref"):
        _warn("no labels were given, so cond and ref say the same, and guidance by ref changes nothing")
    if weak is not None and asked.get("weak") and _equal(network, weak):
        _warn("weak has the very weights of the model, so steering away from it changes nothing; take an earlier step")
    return asked


def all_or_none(labels: Sequence[int | None] | None) -> bool | None:
    """Whether all have a label (True) or none has (False); None for some, and for a model without classes.

    labels: one per slot, None: no classes.
    """
    if labels is None:
        return None
    without = sum(label is None for label in labels)
    return True if not without else False if without == len(labels) else None


def _warn(words: str) -> None:
    warnings.warn(words, Foreseen, stacklevel=5)  # who called Model.sample, through its no_grad


def _equal(a: nn.Module, b: nn.Module) -> bool:
    if a is b:
        return True
    one, two = a.state_dict(), b.state_dict()
    if one.keys() != two.keys():
        return False
    return all(one[k].shape == two[k].shape and torch.equal(one[k], two[k]) for k in one)
