"""How far pictures are, and what they took, in words."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence

from ...diffusion.samples import Samples
from ...samplers.refill import Glimpse
from .live import Live
from .thresholds import hints, unbounded
from .tiles import spoken

__all__ = ["failed", "plain", "progress", "report"]


def plain(words: str, numbers: str = "", share: float | None = None) -> str:
    """The status: a sentence that screen readers are told, numbers that change too often for them, and a bar.

    Args:
        words: of the sentence.
        numbers: beside it.
        share: of the work that is done; None: it can't be told, and there is no bar.
    """
    bar = ""
    if share is not None:
        done = min(max(share, 0.0), 1.0)
        bar = (
            '<div class="sf-bar" role="progressbar" aria-label="pictures" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{100 * done:.0f}" style="--done:{done:.4f}"></div>'
        )
    return (
        f'<div class="sf-status"><span class="sf-said" role="status" aria-live="polite">{html.escape(words)}</span>'
        f'<span class="sf-numbers">{html.escape(numbers)}</span></div>{bar}'
    )


def failed(words: str) -> str:
    """The status after a mistake: the sentence that says what it was."""
    return f'<div class="sf-note sf-bad" role="alert"><b>That can’t be done.</b> {html.escape(words)}</div>'


def progress(live: Live, glimpse: Glimpse | None) -> str:
    """The status while pictures are made.

    Args:
        live: they.
        glimpse: the step that was made last.
    """
    if glimpse is None:
        return plain(f"Making {_pictures(live.count)}", share=0.0)
    step, steps = glimpse.step.index + 1, glimpse.steps
    finished = sum(one.shown for one in list(live.gathered.latest.values()))
    first = live.count - sum(slot not in live.gathered.latest for slot in range(live.count))
    # of every attempt so far the steps, and of those that are known to come
    whole = (live.count + live.gathered.again + _awaited(live)) * steps
    done = (first + live.gathered.again) * steps + (step * len(glimpse.slots) if step < steps else 0)
    seconds = time.perf_counter() - live.began
    left = f", about {_seconds(seconds * (whole - done) / done)} left" if done and whole > done else ""
    spent = live.gathered.evaluations + int(glimpse.spent.sum()) * (step < steps)
    share = f"{finished} of {live.count} finished, " if len(glimpse.slots) < live.count or finished else ""
    again = " (again)" if bool(glimpse.attempts.any()) else ""
    return plain(
        f"Making {_pictures(live.count)}{again}",
        f"{share}step {step} of {steps}, {spent:,} evaluations, {_seconds(seconds)}{left}", done / whole if whole else 0.0,
    )  # fmt: skip


def _awaited(live: Live) -> int:
    """Attempts that are known to be made again."""
    asked = live.asked
    if asked.mark:
        return 0
    return sum(not one.kept and one.attempt < asked.retries for one in list(live.gathered.latest.values()))


def report(live: Live, samples: Samples | None, seconds: float, notes: Sequence[str], stopped: bool) -> str:
    """What it took, what filters did, and what was warned of.

    Args:
        live: pictures that were made.
        samples: those that are finished; None: there are none.
        seconds: since sampling began.
        notes: warnings, in words.
        stopped: before its end.
    """
    if samples is None:
        return "".join(f'<p class="sf-note">{html.escape(words)}</p>' for words in notes)
    count, spent = len(samples), samples.evaluations.sum(0).tolist()
    each = ", ".join(f"{n / count:.4g} {name}" for name, n in zip(samples.branches, spent, strict=True))
    total = live.gathered.evaluations
    lines = [
        ("Network", f"{total:,} evaluations; per picture {each}"),
        ("Time", f"{_seconds(seconds)}, {count / max(seconds, 1e-9):.3g} pictures per second"),
    ]
    if live.filtered.names:
        lines.append(("Filters", _filters(live, samples, stopped)))
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(words)}</dd>" for name, words in lines)
    # what is an option of a command is a choice of the form here
    notes = [
        words.replace("mark=True shows what was rejected", "“shown and marked” shows what was rejected")
        for words in notes
    ]
    # what has no threshold is said here with the scores of this run
    told = [words for words in samples.filtered.words()[1:] if "has no threshold" not in words] if not stopped else []
    said = [*notes, *told, *hints(live.filtered, [one.scores for one in list(live.gathered.latest.values())])]
    warned = "".join(f'<p class="sf-note">{html.escape(words)}</p>' for words in dict.fromkeys(said))
    return f'<dl class="sf-facts">{rows}</dl>{warned}'


def _filters(live: Live, samples: Samples, stopped: bool) -> str:
    """What filters did, in a sentence."""
    gathered, names = live.gathered, " and ".join(spoken(name) for name in live.filtered.names)
    if len(unbounded(live.filtered)) == len(live.filtered.names):
        return f"{names}: no threshold, so {'it scores and keeps' if len(live.filtered.names) == 1 else 'they score and keep'} all"
    attempts = len(gathered.latest) + gathered.again
    words = f"{gathered.rejected} of {attempts}{' attempts' * bool(gathered.again)} rejected by {names}"
    if gathered.again:
        words += f"; {gathered.again} {'was' if gathered.again == 1 else 'were'} tried again"
    lost = 0 if stopped else int((~samples.pictured).sum())
    if lost:
        words += f"; {lost} ran out of attempts and {'has' if lost == 1 else 'have'} no picture"
    return words


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
