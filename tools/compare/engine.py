"""A comparison that is made cell by cell: what it will cost, what is there already, and each cell as soon as it is finished.

Nothing here prints. Leaving the loop over `run()` stops between two cells, and an exception within one leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from ...diffusion import Model
from ...samplers import on_path
from ...samplers.refill import Glimpse
from ...schedules.parts import describe
from ..sample import also_of, numbers, prompts_of
from .axes import Axis
from .looking import Looking
from .making import Drawn, Way, evaluations_of, fine_way, make, make_fine
from .networks import Networks, conditions_hash
from .outcome import Cost, Outcome, Shared
from .settings import Cell, Settings
from .store import Store, Stored, address

__all__ = ["Comparison"]


class Comparison:
    """Cells of one model, sampled and measured.

    Args:
        x, y: columns and rows.
        cells: as `lay_out` lays them out, their own parts known.
        base: of all cells.
        shared: of all cells.
        networks: who loads the model.
        store: where finished cells are.
        looking: what looks at the pictures.
        progress: whether each cell shows a bar of its own.

    For progress: `told` is called with the number of evaluations after each part of a cell, `begins` with a cell whose network is about to
    be asked, and `watch`, where there is one, sees every step, as that of `Model.sample`. An exception in any of them ends the comparison.
    """

    def __init__(
        self, x: Axis, y: Axis, cells: Sequence[Cell], base: Settings, shared: Shared, networks: Networks, store: Store, looking: Looking,
        progress: bool = False,
    ) -> None:  # fmt: skip
        self.x, self.y, self.base, self.shared, self.looking = x, y, base, shared, looking
        self.cells, self._networks, self._store = list(cells), networks, store
        self.told: Callable[[int], object] = lambda evaluations: None
        self.begins: Callable[[Cell], object] = lambda cell: None
        self.watch: Callable[[Glimpse], object] | None = None
        self._progress = progress
        self._real: Any = None
        self._warm: set[int] = set()

    @property
    def _options(self) -> dict[str, Any]:
        s = self.shared
        return {
            "retries": s.retries, "mark": s.mark, "batch": s.batch, "strict": s.strict, "progress": self._progress, "watch": self.watch,
        }  # fmt: skip

    def model(self, cell: Cell) -> Model:
        """The model of a cell."""
        return self._networks.model(cell.settings.checkpoint, cell.settings.ema)

    def way(self, cell: Cell) -> Way:
        """How a cell is sampled."""
        parts, model = cell.settings.parts(self.shared.allow), self.model(cell)
        noisy = bool(on_path(parts["sampler"], model.denoiser.schedule).draws)
        steps = model.steps if cell.settings.steps is None else cell.settings.steps
        return Way(
            parts["sampler"], parts["grid"], parts["guidance"], steps, parts["filters"], self.shared.brownian and noisy
        )

    def drawn(self, cell: Cell, part: int) -> Drawn:
        """Which pictures a cell has in a set of seeds."""
        s, count, model = cell.settings, self.shared.count, self.model(cell)
        first = s.first + part * count
        if first + count > 2**63:
            raise ValueError(f"seed is {s.first}; allowed: at most 2^63 - {count * self.shared.sets}")
        labels: list[int | None] | None = None
        if s.labels is None:
            labels = [i % model.num_classes for i in range(count)] if model.num_classes else None
        elif s.labels not in ("none", "null"):
            given = numbers(s.labels, "labels")
            labels = [given[i % len(given)] for i in range(count)]
        prompts = None if s.prompts is None else prompts_of(s.prompts, count)
        also = also_of(s.also, count, model.text is not None) if s.also else None
        weak = None if s.weak is None else self._networks.weak(s.weak, s.weak_step)
        return Drawn(range(first, first + count), labels, prompts, also, weak)

    def _known(self, cell: Cell, way: Way, drawn: Drawn) -> dict[str, Any]:
        """Everything that makes the pictures of a cell in a set."""
        s, model = cell.settings, self.model(cell)
        count = len(drawn.seeds)
        return {
            "model": self._networks.identity(s.checkpoint, s.ema),
            "weak": None if s.weak is None else self._networks.weak_identity(s.weak, s.weak_step),
            "told": conditions_hash(model, drawn.labels, drawn.prompts, drawn.also, count),
            "seeds": [drawn.seeds[0], count], "sampler": describe(way.sampler), "grid": describe(way.grid), "steps": way.steps,
            "guidance": describe(way.guidance), "filters": describe(list(way.filters)), "brownian": way.brownian,
            "batch": min(self.shared.batch, count) if not self.shared.strict else self.shared.batch, "strict": self.shared.strict,
            "retries": self.shared.retries if way.filters else 0, "mark": self.shared.mark, "device": model.device.type,
            "computed": dict(self.shared.computed), "versions": {"sfumato": version("sfumato"), "torch": torch.__version__},
        }  # fmt: skip

    def cost(self) -> Cost:
        """What it will take, without asking a network. Loads the networks, since weights are a part of what is known of a cell."""
        unsupported = cached = evaluations = fine = 0
        paid: set[str] = set()
        for cell in self._ordered():
            if cell.problem:
                unsupported += 1
                continue
            try:
                own, its_fine, there = self._cost_of(cell, paid)
            except ValueError:
                unsupported += 1
                continue
            cached += there
            evaluations, fine = evaluations + own, fine + its_fine
        return Cost(len(self.cells), unsupported, cached, evaluations + fine, fine)

    def _cost_of(self, cell: Cell, paid: set[str]) -> tuple[int, int, bool]:
        """Evaluations of a cell, of its fine solution where nobody else paid for it, and whether it needs none."""
        way, model, own, fine, there, last = self.way(cell), self.model(cell), 0, 0, True, ""
        for part in range(self.shared.sets):
            drawn = self.drawn(cell, part)
            known = self._known(cell, way, drawn)
            key = address({"cell": known, "near": self._near})
            if made := self._store.has(key):
                last = key
            elif self._diverged(last):
                break
            else:
                own, there = own + evaluations_of(model, way, drawn) * len(drawn.seeds), False
            try:
                its = self._fine(cell, way)
            except ValueError:
                continue
            fine_key = self._fine_key(cell, its, part)
            if fine_key not in paid and not self._store.has(fine_key):
                if made and self._diverged(key):
                    break
                few = self.drawn(cell, part).first(self._near)
                fine, there = fine + evaluations_of(model, its, few) * self._near, False
            paid.add(fine_key)
        return own, fine, there

    def _diverged(self, key: str) -> bool:
        """Whether what is kept there ended in numbers that are not finite, so that nothing more is made of its cell."""
        kept = self._store.get(key) if key else None
        return kept is not None and bool(kept.about["problem"])

    @property
    def _near(self) -> int:
        return min(self.shared.near, self.shared.count)

    def _fine(self, cell: Cell, way: Way) -> Way:
        if not self.shared.fine_steps:
            raise ValueError("not asked for")
        if cell.settings.grid == self.base.grid or self.base.grid is None:
            grid = way.grid
        else:
            grid = self.base_grid()
        return fine_way(self.model(cell), way, grid, self.shared.fine_steps)

    def base_grid(self) -> Any:
        """The grid that all cells have but for the axes; on it fine solutions are walked, so that they are the same for all cells."""
        return self.base.parts(self.shared.allow)["grid"]

    def _fine_key(self, cell: Cell, way: Way, part: int) -> str:
        return address({"fine": self._known(cell, way, self.drawn(cell, part).first(self._near))})

    def _ordered(self) -> list[Cell]:
        """Row by row, but all cells of a network one after another."""
        networks = list(dict.fromkeys(_network(cell) for cell in self.cells))
        return sorted(self.cells, key=lambda cell: networks.index(_network(cell)))

    def run(self) -> Iterator[Outcome]:
        """Every cell, as soon as it is finished."""
        for cell in self._ordered():
            if cell.problem:
                yield Outcome(cell, "unsupported", cell.problem)
                continue
            try:
                yield self._outcome(cell)
            except ValueError as error:
                yield Outcome(cell, "unsupported", str(error))

    def _outcome(self, cell: Cell) -> Outcome:
        way, model, cached = self.way(cell), self.model(cell), True
        parts: list[Stored] = []
        measured: list[dict[str, float]] = []
        no_distance = ""
        for part in range(self.shared.sets):
            drawn = self.drawn(cell, part)
            known = self._known(cell, way, drawn)
            key = address({"cell": known, "near": self._near})
            stored = self._store.get(key)
            if stored is None:
                cached = False
                self.begins(cell)
                self._warm_up(model, way, drawn)
                stored = make(model, way, drawn, self._near, self._options)
                self._store.put(key, stored)
                self.told(int(stored.arrays["evaluations"].sum()) if stored.arrays else 0)
            parts.append(stored)
            if stored.about["problem"]:
                return Outcome(cell, "diverged", stored.about["problem"], cached=cached, diverged=self.shared.count)
            exact, no_distance = self._exact(cell, way, part)
            if exact is not None:
                cached = cached and not exact[1]
            measured.append(self._measured(cell, key, stored, None if exact is None else exact[0], model.num_classes))
        return self._finished(cell, parts, measured, cached, no_distance)

    def _warm_up(self, model: Model, way: Way, drawn: Drawn) -> None:
        """One step before the first cell of a network, so that its seconds are those of all."""
        if id(model) in self._warm:
            return
        self._warm.add(id(model))
        options = {**self._options, "progress": False}
        few = drawn.first(min(len(drawn.seeds), self.shared.batch))
        try:
            make(model, Way(way.sampler, way.grid, way.guidance, 1), few, 1, options)
        except ValueError:  # a grid that has no single step, and what is said again of the cell
            return

    def _exact(self, cell: Cell, way: Way, part: int) -> tuple[tuple[np.ndarray, bool] | None, str]:
        """The fine solution of a cell and whether it was made now; or why there is none."""
        try:
            its = self._fine(cell, way)
            key = self._fine_key(cell, its, part)
            stored = self._store.get(key)
            if stored is not None and "exact" in stored.arrays:
                return (stored.arrays["exact"], False), ""
            drawn = self.drawn(cell, part).first(self._near)
            self.begins(cell)
            stored = make_fine(self.model(cell), its, drawn, self._options)
        except (ValueError, FloatingPointError) as error:
            return None, str(error)
        self._store.put(key, stored)
        self.told(evaluations_of(self.model(cell), its, drawn) * self._near)
        return (stored.arrays["exact"], True), ""

    def _measured(
        self, cell: Cell, key: str, stored: Stored, exact: np.ndarray | None, classes: int
    ) -> dict[str, float]:
        about, arrays = stored.about, stored.arrays
        found = {"evaluations": float(arrays["evaluations"].sum(1).mean()), "seconds": float(about["seconds"])}
        usable = _usable(stored)
        if exact is not None and usable.any():
            difference = arrays["exact"][usable].astype(np.float64) - exact[usable]
            found["distance"] = float(np.sqrt(np.square(difference).mean()))
        if about["filters"]:
            scores = arrays["scores"][:, 0]
            found["score"] = float(scores[np.isfinite(scores)].mean()) if np.isfinite(scores).any() else float("nan")
            found["rejected"] = about["rejected"] / max(about["tries"], 1)
        looked = address({"looked": key, "by": self.looking.about(), "classes": classes})
        seen = self._store.get(looked)
        if seen is None:
            if self._real is None:
                self._real = (self.looking.real(self._store),)
            good = torch.from_numpy(arrays["pictured"])
            labels = torch.from_numpy(arrays["labels"])[good] if len(arrays["labels"]) else None
            seen = Stored(
                {
                    "seen": self.looking.measure(
                        torch.from_numpy(arrays["pictures"])[good], labels, self._real[0], classes
                    )
                }
            )
            self._store.put(looked, seen)
        return {**found, **seen.about["seen"]}

    def _finished(
        self,
        cell: Cell,
        parts: Sequence[Stored],
        measured: Sequence[Mapping[str, float]],
        cached: bool,
        no_distance: str,
    ) -> Outcome:
        first = parts[0]
        names = [name for name in measured[0] if all(name in m for m in measured)]
        diverged = sum(int(p.about["diverged"]) for p in parts)
        total = sum(len(p.arrays["kept"]) for p in parts)
        lost = sum(int((~p.arrays["pictured"]).sum()) for p in parts)
        problem = f"{diverged} of {total} pictures diverged" if diverged else ""
        if lost:
            problem = "; ".join(
                filter(None, (problem, f"{lost} of {total} slots have no picture: filters rejected every attempt"))
            )
        counts = {
            "frechet": total - lost,
            "accuracy": total - lost,
            "distance": sum(int(_usable(p).sum()) for p in parts),
        }
        near = self._near * len(parts)
        if "distance" in names and counts["distance"] < near:
            few = f"distance of {counts['distance']} of {near} pictures, those that filters kept at once"
            problem = "; ".join(filter(None, (problem, few)))
        evaluations = np.concatenate([p.arrays["evaluations"] for p in parts]).mean(0)
        notes = dict.fromkeys(text for p in parts for text in p.about["warnings"])
        return Outcome(
            cell, "diverged" if diverged else "made", problem, {name: [m[name] for m in measured] for name in names},
            dict(zip(first.about["branches"], evaluations.tolist(), strict=True)), torch.from_numpy(first.arrays["pictures"]),
            torch.from_numpy(first.arrays["pictured"]), torch.from_numpy(first.arrays["labels"]), tuple(notes), first.about["settings"],
            cached, no_distance, diverged, counts,
        )  # fmt: skip


def _usable(stored: Stored) -> np.ndarray:
    """Which pictures are ends from the noise that the fine solution begins with, bool (near,)."""
    return (stored.arrays["kept"] & (stored.arrays["attempts"] == 0))[: len(stored.arrays["exact"])]


def _network(cell: Cell) -> tuple[Any, ...]:
    return cell.settings.checkpoint, type(cell.settings.ema).__name__, cell.settings.ema
