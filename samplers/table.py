"""A sampler's table: its step, run once on symbols, as float64 numbers per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction, solve
from ..schedules.rows import Row
from .form import Form
from .state import Sampler, State

__all__ = ["Program", "recent", "substitute", "trace"]

# levels that a step is told of: 30 behind it, now and next
_RECENT = 32


def recent(levels: Sequence[Level], i: int) -> Sequence[Level]:
    """The levels of step i, *past, now, nxt: at most 30 past ones, so that a long walk costs the same per step as a short one."""
    return levels[max(0, i + 2 - _RECENT) : i + 2]


@dataclass(frozen=True)
class Program:
    """One step as numbers, over the symbols x, m0, m1, ... (memory), z0, ... (noise) and x0.k, eps.k (the k-th answer).

    asks: where the network is asked, (form, level). x, memory: what they become. shown: which answer the step shows.
    """

    asks: tuple[tuple[Form, Level], ...]
    x: Form
    memory: tuple[Form, ...]
    shown: int


def trace(sampler: Sampler, levels: Sequence[Level]) -> list[Program] | None:
    """Run every step of a sampler on symbols.

    Returns:
        One Program per step; None when a step does something that is not linear, or levels are not plain numbers. Such a
        sampler runs as it is written.
    """
    if not all(level.is_scalar for level in levels):
        return None
    programs: list[Program] = []
    width = 0
    for i in range(len(levels) - 1):
        asks: list[tuple[Form, Level]] = []
        answers: list[Prediction] = []

        def denoise(
            x: Any, level: Level, asks: list[tuple[Form, Level]] = asks, answers: list[Prediction] = answers
        ) -> Prediction:
            k = len(asks)
            asks.append((x, level))
            symbols: Any = Form.symbol(f"x0.{k}"), Form.symbol(f"eps.{k}")
            answers.append(Prediction.pair(*symbols))
            return answers[-1]

        memory = tuple(Form.symbol(f"m{j}") for j in range(width))
        z = tuple(Form.symbol(f"z{j}") for j in range(sampler.draws))
        try:
            state, p = sampler.step(State(Form.symbol("x"), memory), denoise, recent(levels, i), z)
        except (
            Exception
        ):  # a symbol was asked for more than + - * /; a real mistake shows again, on tensors, as written
            return None
        if not (isinstance(state, State) and isinstance(p, Prediction)):  # named when it runs as written
            return None
        linear = all(isinstance(v, Form) for v in (state.x, *state.memory, *(x for x, _ in asks)))
        shown = next((k for k, a in enumerate(answers) if a is p), -1)
        if not linear or shown < 0:
            return None
        programs.append(Program(tuple(asks), state.x, tuple(state.memory), shown))
        width = len(state.memory)
    return programs


def substitute(program: Program, rows: Sequence[Row | None]) -> Program:
    """The same numbers over raw outputs: where answer k is an output of a row, x0.k and eps.k become forms in x and o{k}.

    x = alpha x0 + sigma eps removes one of each pair, so that a step costs fewer operations.

    Args:
        program: the step.
        rows: the row of each answer, or None for one given as a pair; may be shorter than the asks, for a step under way.
    """
    table: dict[str, Form] = {}
    asks: list[tuple[Form, Level]] = []
    for k, (x, level) in enumerate(program.asks):
        at = x.into(table)
        asks.append((at, level))
        row = rows[k] if k < len(rows) else None
        if row is not None:
            (c, d), (e, f) = solve(row, level)
            assert not any(isinstance(v, Tensor) for v in (c, d, e, f))
            out = Form.symbol(f"o{k}")
            table |= {f"x0.{k}": at * float(c) + out * float(d), f"eps.{k}": at * float(e) + out * float(f)}
    return Program(tuple(asks), program.x.into(table), tuple(m.into(table) for m in program.memory), program.shown)
