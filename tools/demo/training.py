"""The one small model that a visitor may train: one at a time for all of them, by a recipe that nobody can change."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ...diffusion import Interrupted, train
from ..folders import free_folder
from ..train import plot_losses, recipe_from, resolve_recipe
from .find import entry_of
from .running import Halt, Halted, Running
from .shelf import Shelf
from .told import readable

__all__ = ["PRESET", "Stage", "Training"]

PRESET, NAME = "digits", "quickstart"
# of this session and kind is the work that everybody shares
_EVERYBODY, _KIND = "everybody", "train"


@dataclass(frozen=True)
class Stage:
    """How far it is. Frozen, so that what is read by one thread is never half of what another writes.

    state: "idle", "going", "stopped", "failed" or "done". step, steps: of the optimizer, done and in all. loss: of the last step. seconds:
    since it began, or was gone on with. first: step that it began with then. words: what went wrong. name: in the menu, once it is done.
    pictures: samples of it, (10, 1, 8, 8) in [-1, 1], one per digit.
    """

    state: str = "idle"
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    first: int = 0
    words: str = ""
    name: str = ""
    pictures: Tensor | None = None

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None where nothing is known yet."""
        done = self.step - self.first
        return None if done < 1 or self.seconds <= 0 else self.seconds / done * (self.steps - self.step)


class Training:
    """Trains it as `sfumato train digits` would, in a thread of the server, and puts it on the shelf.

    Args:
        shelf: the models that can be chosen.
        running: who is at work; the server's end ends this too.
        root: folder of run folders.
        done: called when it is on the shelf.
    """

    def __init__(self, shelf: Shelf, running: Running, root: Path, done: Callable[[], object] = lambda: None) -> None:
        self._shelf, self._running, self._root, self._done = shelf, running, root, done
        self._folder: Path | None = None
        self._lock = threading.Lock()
        self.stage = Stage()

    def start(self) -> bool:
        """Begin, or go on with what was stopped; false where it goes on already, or there is a model."""
        with self._lock:
            if self.stage.state in ("going", "done") or self._shelf.names:
                return False
            self.stage = replace(self.stage, state="going", words="", seconds=0.0)
            halt = self._running.begin(_EVERYBODY, _KIND)
            thread = threading.Thread(target=self._run, args=(halt,), daemon=True, name="training")
            thread.start()
            self._running.keep(thread)
            return True

    def stop(self) -> None:
        """At the end of the step; what is trained is saved."""
        self._running.stop(_EVERYBODY, _KIND)

    def _run(self, halt: Halt) -> None:
        try:
            self._train(halt)
        except (Interrupted, Halted):
            self.stage = replace(self.stage, state="stopped")
        except Exception as error:  # whatever it is, a visitor must not wait for ever
            foreseen = isinstance(error, ValueError | OSError | MemoryError | FloatingPointError | ImportError)
            if not foreseen:
                traceback.print_exception(error, file=sys.stderr)
            words = readable(error) if foreseen else "The server failed at this, and its log says where."
            # what can't be gone on with is begun anew, elsewhere
            self._folder, self.stage = None, Stage("failed", words=words or type(error).__name__)
        finally:
            self._running.end(_EVERYBODY, _KIND, halt)

    def _train(self, halt: Halt) -> None:
        recipe = recipe_from(resolve_recipe(PRESET, [("seed", 0)], ()), ())
        if self._folder is None:
            self._folder = free_folder(self._root / NAME, "config.yaml")
        halt.check()
        folder, began, first = self._folder, time.perf_counter(), [-1]

        def watch(step: int, loss: float) -> bool:
            if first[0] < 0:
                first[0] = step - 1
            seconds = time.perf_counter() - began
            self.stage = Stage("going", step, recipe.steps, loss, seconds, first[0])
            return halt.stopped

        train(recipe, folder, resume=True, progress=False, watch=watch)
        plot_losses(folder)
        entry = entry_of(folder)
        pictures = entry.load().sample(range(10), list(range(10))).images
        name = self._shelf.add(entry)
        self._done()
        self.stage = replace(self.stage, state="done", name=name, pictures=pictures)
