"""What `sfumato evaluate` says, in lines and in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..diffusion.generate import Generated
from ..diffusion.measuring import Spread
from ..diffusion.measuring.evaluation import Evaluation, Measured

__all__ = ["READ", "beside", "headline", "how", "judge_in_words", "lines", "losses", "number", "real", "sure"]


READ = (
    "Nobody looked at these pictures. An extractor, usually a network that was trained for something else, turned each picture into a list "
    "of numbers, its features, and the numbers above compare the two clouds of features. They say how alike two sets are to that "
    "extractor: what it does not see does not count, and numbers of different extractors, sizes or ways of resizing can't be compared.",
    "Every measure depends on how many pictures there are, the Frechet distance most: fewer pictures make it larger, even where nothing "
    'else changes. So its label says how many there were (@n below 10,000), and it is compared at equal counts only. The column "real '
    'against real" is what some pictures of the reference score against its others: as good as data get, with so many pictures as it says. '
    "There are as many on its left side as were measured, or half of the reference where it has fewer than twice as many; its ± is over "
    "five random choices of them.",
    "A difference that is within the spread over sets of seeds (or, of one set, within the standard error) is no difference. What is "
    "better than data here (a distance below real against real) usually means that counts differ, that classes come in exact "
    "proportions (which real pictures, drawn at random, do not), or that pictures are copies: look at the section on copies.",
    "None of these numbers says that pictures are good for a purpose, that people would like them, or that they are fair or new. Pictures "
    "that were chosen by a filter, or by guidance, may score well on precision by leaving out what is rare: read it beside recall.",
)
"""How to read the report, for who never saw one."""


def number(value: float | None) -> str:
    """Four digits; a dash for none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def real(measured: Measured) -> str:
    """What real pictures reach, with its spread over choices of them."""
    return number(measured.real) + (f" ± {measured.real_std:.2g}" if measured.real_std is not None else "")


def beside(measured: Measured) -> str:
    """Of how many real pictures, against how many others, the number of real ones is."""
    return f"{measured.real_n} against {measured.real_n_reference}"


def sure(measured: Measured, spread: Spread) -> str:
    """How sure a number is, in words."""
    if len(spread.values) > 1:
        return f"± {spread.std:.2g} over {len(spread.values)} sets"
    if measured.low is not None and measured.high is not None:
        return f"[{number(measured.low)}, {number(measured.high)}]"
    return "" if measured.error is None else f"± {measured.error:.2g}"


def judge_in_words(who: Mapping[str, Any]) -> str:
    """An extractor, and which one exactly."""
    resize = f", resize {who['resize']}" if who["resize"] else ""
    return f"{who['name']} ({who['num_features']} features, hash {who['hash']}{resize})"


def headline(sets: Sequence[Evaluation], spreads: Mapping[str, Spread]) -> str:
    """The first number in a sentence, beside what real pictures reach."""
    first = sets[0]
    if not first.numbers:
        return "Nothing could be measured; below is why."
    top = first.numbers[0]
    spread = spreads[top.name]
    said = f"{top.label} is {spread}"
    if len(spread.values) > 1:
        said += f" (mean and standard deviation over {len(spread.values)} sets of seeds)"
    if top.real is not None:
        said += f"; real pictures against other real ones are at {real(top)} ({beside(top)})"
    said = f"{said}. {top.better.capitalize()} is better." if top.better else f"{said}."
    return f"{said} {_against_real(top, spread)}".strip()


def _against_real(top: Measured, spread: Spread) -> str:
    """Whether the first number is told apart from that of real pictures, where it says how sure it is."""
    if top.real is None or top.better not in ("lower", "higher"):
        return ""
    if len(spread.values) > 2:
        least, most = spread.mean - 2 * spread.std, spread.mean + 2 * spread.std
    elif len(spread.values) == 1 and top.low is not None and top.high is not None:
        least, most = top.low, top.high
    else:
        return ""
    wide = 2 * (top.real_std or 0.0)
    if least <= top.real + wide and top.real - wide <= most:
        return "To this judge the pictures are not told apart from real ones by this number; the others below may see more."
    worse = (least > top.real) == (top.better == "lower")
    return (
        "To this judge the pictures differ from real ones more than real ones do from each other."
        if worse
        else "That is better than real pictures do: usually counts differ, classes come in exact proportions, or pictures are copies."
    )


def _in_short(part: Any) -> str:
    """A part as people write it: its name, and its arguments."""
    if not isinstance(part, Mapping) or "class_path" not in part:
        return str(part)
    own = ", ".join(f"{k}={_in_short(v)}" for k, v in (part.get("init_args") or {}).items())
    return f"{str(part['class_path']).rpartition('.')[2]}({own})"


def how(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How pictures were made, as rows of a table."""
    if not made.get("known"):
        return [("how they were made", "unknown: the files say nothing")]
    differs = made.get("differs", {})

    def said(name: str) -> str:
        if name in differs:
            values = differs[name]
            return f"several: {', '.join(map(_in_short, values)) if isinstance(values, list) else values}"
        return _in_short(made[name]) if made.get(name) is not None else "unknown"

    evaluations = ", ".join(f"{k} {v:g}" for k, v in made["evaluations_per_picture"].items())
    filters = "; ".join(map(_in_short, made.get("filters") or [])) or "none"
    names = (("run", "run"), ("checkpoint", "optimizer step"), ("ema", "averaged weights (EMA)"), ("network", "network (hash)"),
             ("sampler", "sampler"), ("grid", "grid"), ("steps", "steps"), ("guidance", "guidance"))  # fmt: skip
    rows = [(words, said(key)) for key, words in names if key in made or key in differs]
    rows += [
        (key, said(key)) for key in (*made, *differs) if key in ("pipeline", "model", "file", "source", "scheduler")
    ]
    return [
        *rows, ("seeds", str(made["seeds"])), ("network evaluations per picture", evaluations),
        ("filters", f"{filters}; {made['rejected']} of {made['attempts']} attempts rejected" if filters != "none" else "none"),
        ("made with", f"sfumato {said('version')}, on {said('device')}"),
    ]  # fmt: skip


def losses(made: Sequence[Generated]) -> list[str]:
    """What is missing in sets where filters rejected every attempt at some pictures; nothing where none is.

    Args:
        made: the sets.
    """
    return [
        f"{each.lost} of {each.count} seeds ({each.folder.name}) have no picture, since filters rejected every attempt at them: what was "
        f"measured are the {each.pictures} others, whose classes may be in other proportions. All attempts together, lost ones and filters "
        f"included, came to {sum(each.evaluations.values()) / max(each.pictures, 1):.4g} evaluations per picture that there is"
        for each in made
        if each.lost
    ]


def lines(sets: Sequence[Evaluation], spreads: Mapping[str, Spread], what: str, lost: Sequence[str] = ()) -> list[str]:
    """A table, and what must be known to read it.

    Args:
        sets: one evaluation per set of pictures.
        spreads: of each measure over the sets.
        what: the reference is.
        lost: of `losses`.
    """
    first = sets[0]
    n, m = first.pictures["count"], first.reference.get("count")
    against = f" against {m} of {what}" if m is not None else f" against {what}" if what else ""
    told = [
        f"{n} pictures{f' in each of {len(sets)} sets' if len(sets) > 1 else ''}{against}",
        f"judged by {judge_in_words(first.extractor)}",
    ]
    if first.classifier is not None and first.classifier["hash"] != first.extractor["hash"]:
        told.append(f"classes told by {judge_in_words(first.classifier)}")
    usual = next((beside(x) for x in first.numbers if x.real_n), "")
    head = ("", "value", "", f"real against real ({usual})" if usual else "", "better")

    def real_of(x: Measured) -> str:
        return real(x) + (f" ({beside(x)})" if x.real_n and beside(x) != usual else "")

    rows = [
        (x.label, number(spreads[x.name].mean), sure(x, spreads[x.name]), real_of(x), x.better or "near 1")
        for x in first.numbers
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(5)]
    told += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    if len(sets) == 1:
        told.append("± is a standard error, [ ] 95 %, where a measure can say; --seeds 3 shows how much seeds change")
    told += [f"not measured: {name}: {reason}" for name, reason in first.missing.items()]
    told += [f"note: {remark}" for remark in (*first.remarks, *lost)]
    return told
