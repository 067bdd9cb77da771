"""What happens between Sample and the pictures: a stream of what is to be shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ...diffusion.samples import Samples
from ...samplers.refill import Glimpse
from .bundle import held
from .facts import beside
from .form import Form, asked
from .heard import heard
from .limits import Limits
from .live import Live
from .preview import preview_of
from .report import plain, progress, report
from .running import Done, Halt, going_on
from .shelf import Shelf

__all__ = ["Shown", "shown_while"]

# of the time of a visitor's work at most what previews may take
_SHARE = 0.1


class Shown(NamedTuple):
    """What is on the page: tiles, status and report as HTML, the seeds that are used, and the pictures at the end.

    Without tiles (None) those of before stay, and their pictures; with tiles no pictures (None) means none yet.
    """

    tiles: list[str] | None
    status: str
    report: str
    seeds: tuple[int, ...]
    pictures: Samples | None


def shown_while(shelf: Shelf, name: object, form: Form, limits: Limits, flag: Halt) -> Iterator[Shown]:
    """Load a model and sample from it; yields what is to be shown meanwhile, and at the end.

    Args:
        shelf, name: the model.
        form: checked.
        limits: of the server.
        flag: that stops it.

    Raises:
        ValueError, FloatingPointError: what the form can't be, and what sampling refuses, in words.
    """
    ready = isinstance(name, str) and name in shelf.names and shelf.ready(name)
    yield Shown(None, plain("Beginning" if ready else "Loading the model"), "", (), None)
    started: list[Live] = []

    def work(say: Callable[[Glimpse | None], None]) -> tuple[Samples, list[str]]:
        loaded = shelf.get(name)
        model = loaded.model
        live = Live(model, asked(form, model, limits, beside(shelf, loaded)), preview_of(model), flag)
        started.append(live)
        say(None)
        with heard() as notes:
            return live.work(say), notes

    last: Glimpse | None = None
    rest = 0.0
    for said in going_on(work, flag):
        if isinstance(said, Done):
            yield _end(started, said, last)
            continue
        began = time.perf_counter()
        live, last = started[0], said if said is not None else last
        if began >= rest or last is None:
            yield Shown(live.tiles(last, False), progress(live, last), "", live.asked.seeds, None)
            # a page that is slow to make is made less often
            rest = time.perf_counter() + (time.perf_counter() - began) * (1 / _SHARE - 1)


def _end(started: Sequence[Live], done: Done[tuple[Samples, list[str]]], last: Glimpse | None) -> Shown:
    """What is shown when nothing is made any more."""
    if not started:
        return Shown(None, plain("Stopped while the model was loaded; nothing was made."), "", (), None)
    live = started[0]
    seconds = time.perf_counter() - live.began
    samples, notes = (None, []) if done.result is None else done.result
    if samples is None:
        samples = live.gathered.samples(live.filtered, live.asked.prompts) if live.gathered.latest else None
        step, steps = live.at
        where = f" at step {step} of {steps}" if step else ""
        there = 0 if samples is None else len(samples)
        stays = f"{there} of {live.count} are finished and stay." if there else "No picture was finished."
        status = plain(f"Stopped{where}. {stays}", f"{seconds:.1f} s")
    else:
        made = int(samples.pictured.sum())
        few = "" if made == live.count else f" of {live.count}"
        status = plain(f"{made}{few} picture{'s' * (live.count != 1)} made.", f"{seconds:.1f} s")
    words = report(live, samples, seconds, notes, done.stopped)
    pictures = None if samples is None else held(samples, live.preview)
    return Shown(live.tiles(last, True), status, words, live.asked.seeds, pictures)
