"""How pictures were made, of what each of them says of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ...schedules.plain_json import to_json

__all__ = ["how_made", "seeds_in_words"]

UNKNOWN = "unknown"
# what is another for each picture by its nature, and is summed up instead of compared
_EACH = ("seed", "label", "prompt", "also", "attempt", "evaluations", "scores", "kept", "reason")
_MOST = 8


def seeds_in_words(seeds: Sequence[int]) -> str:
    """0, 1, 2, 3, 9 -> "0-3, 9"; of more than a few pieces the first and the last."""
    if not seeds:
        return UNKNOWN
    pieces: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if pieces and seed == pieces[-1][1] + 1:
            pieces[-1][1] = seed
        else:
            pieces.append([seed, seed])
    words = [f"{a}" if a == b else f"{a}-{b}" for a, b in pieces]
    return ", ".join(words) if len(words) <= _MOST else f"{words[0]}, ..., {words[-1]} ({len(words)} pieces)"


def how_made(settings: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """The settings that all pictures share, and of those that differ what there is.

    Args:
        settings: of each picture, as `Samples.settings_of` and PNG metadata have them; None: pictures of somebody else's.

    Returns:
        {"known": False}, or known: True; one entry per shared setting; differs: name -> the values that were found (or how many);
        seeds, in words; evaluations: per picture, the mean by branch, and total; attempts and rejected: in all; labels: name -> how many;
        kept: how many, where rejected pictures were marked and not tried again.
    """
    if not settings:
        return {"known": False}
    shared: dict[str, Any] = {}
    differs: dict[str, Any] = {}
    for name in dict.fromkeys(key for each in settings for key in each if key not in _EACH):
        texts = Counter(json.dumps(to_json(each.get(name)), sort_keys=True) for each in settings)
        if len(texts) == 1:
            shared[name] = json.loads(next(iter(texts)))
        else:
            values = sorted(texts)
            differs[name] = [json.loads(text) for text in values] if len(values) <= _MOST else f"{len(values)} values"
    branches = dict.fromkeys(name for each in settings for name in each.get("evaluations", {}))
    mean = {b: sum(float(each.get("evaluations", {}).get(b, 0)) for each in settings) / len(settings) for b in branches}
    rejected = sum(int(each.get("attempt", 0)) for each in settings)
    rejected += sum(not each.get("kept", True) for each in settings)
    labels = Counter(str(each.get("label")) for each in settings)
    return {
        "known": True, **shared, "differs": differs, "seeds": seeds_in_words([each["seed"] for each in settings if "seed" in each]),
        "evaluations_per_picture": {**mean, "total": sum(mean.values())},
        "attempts": len(settings) + sum(int(each.get("attempt", 0)) for each in settings), "rejected": rejected,
        "labels": dict(sorted(labels.items(), key=lambda item: (len(item[0]), item[0]))),
        "prompts": len({each["prompt"] for each in settings if "prompt" in each}),
    }  # fmt: skip
