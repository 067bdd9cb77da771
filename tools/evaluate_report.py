"""The report of `sfumato evaluate`: one page that says what was measured, by whom it was judged, and what not to conclude."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..diffusion.measuring import Pictures
from ..diffusion.measuring.evaluation import Evaluation
from .evaluate_reference import Compared
from .evaluate_sections import brightness, classes, copies, samples
from .evaluate_words import READ, beside, headline, how, judge_in_words, number, sure
from .evaluate_words import real as real_of
from .page import Page

if TYPE_CHECKING:
    from .evaluate_work import Judged

__all__ = ["report"]


def report(
    judged: Sequence[Judged], command: str, found: Compared, pictures: Sequence[Pictures], path: Path, lost: Sequence[str] = ()
) -> bool:  # fmt: skip
    """Write the page; returns whether there was a library for figures.

    Args:
        judged: one per extractor.
        command: that repeats it.
        found: what was compared with.
        pictures: one per set.
        path: of the page.
        lost: what is missing in the sets, of `losses`.
    """
    first = judged[0].sets[0]
    page = Page(
        "How near to real pictures", f"{first.pictures['count']} pictures, compared with {found.what or 'nothing'}"
    )
    for each in judged:
        page.text(headline(each.sets, {n.name: each.spread(n.name) for n in each.sets[0].numbers}))
    for each in judged:
        _numbers(page, each)
    reference = found.reference if isinstance(found.reference, Pictures) else None
    samples(page, pictures[0], reference)
    copies(
        page,
        first,
        pictures[0],
        found.training if found.training is not None else reference,
        found.training is not None,
    )
    classes(page, first)
    drawn = brightness(page, first)
    page.heading("How the pictures were made")
    page.table(("", ""), how(first.pictures["made"]))
    for each in lost:
        page.text(f"{each}.")
    if len(judged[0].sets) > 1:
        page.text("Seeds of the sets: " + "; ".join(str(each.pictures["made"].get("seeds")) for each in judged[0].sets))
    page.heading("What was measured, exactly")
    page.table(("", ""), _facts(first))
    page.text("The command that repeats it:", soft=True)
    page.code(command)
    page.heading("How to read this")
    for paragraph in READ:
        page.text(paragraph)
    page.table(("measure", "what it says"), [(n.label, n.about) for n in first.numbers])
    page.write(path)
    return drawn


def _numbers(page: Page, each: Judged) -> None:
    first = each.sets[0]
    page.heading(f"Numbers, judged by {first.extractor['name']}")
    page.text(judge_in_words(first.extractor), soft=True)
    if first.classifier is not None and first.classifier["hash"] != first.extractor["hash"]:
        page.text(f"Classes were told by {judge_in_words(first.classifier)}", soft=True)
    rows = []
    for n in first.numbers:
        counts = f"{n.n}" if n.n_reference is None else f"{n.n} against {n.n_reference}"
        real = "" if n.real is None else f"{real_of(n)} ({beside(n)})"
        spread = each.spread(n.name)
        rows.append((n.label, number(spread.mean), sure(n, spread), real, n.better or "1 is right", counts))
    page.table(("measure", "value", "how sure", "real against real", "better", "pictures"), rows)
    if len(each.sets) == 1:
        page.text("Measured once: ± is a standard error, [ ] a 95 % interval, where a measure can say. How much other seeds would change "
                  "is not known; --seeds 3 measures it.", soft=True)  # fmt: skip
    for remark in first.remarks:
        page.text(remark[:1].upper() + remark[1:] + ".")
    if first.missing:
        page.table(("not measured", "because"), sorted(first.missing.items()))


def _facts(e: Evaluation) -> list[tuple[str, str]]:
    """Everything that the numbers depend on, but for how the pictures were made."""
    rows = []
    for name, told in (("pictures", e.pictures), ("reference", e.reference), ("training pictures", e.training)):
        if told and not (name == "training pictures" and told == e.reference):
            shape = " x ".join(map(str, told["shape"])) if "shape" in told else "not known"
            rows.append((name, f"{told['count']}, shape {shape}, fingerprint {told.get('fingerprint', 'not known')}"))
    rows += [(f"measured with {name}", str(value)) for name, value in e.settings.items()]
    return [*rows, *((name, value) for name, value in e.versions.items())]
