"""The tables of orders, round trips and stability, for a terminal and for the README."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from .inversion import INVERTED
from .measure import fitted
from .methods import METHODS, WHY
from .paths import PATHS
from .stability import FURTHER, LOG_STEPS, ON_DATA, ON_EPS, closed_form

__all__ = ["as_markdown", "as_text"]

_Table = list[list[str]]


def _orders(result: Mapping[str, Any]) -> _Table:
    """A row per sampler: theory, fitted orders, two errors, why they differ."""
    steps = result["steps"]
    shown = [n for n in (16, 64) if n in steps]
    rows = [["sampler", "theory", *PATHS, *(f"error at {n} (ve)" for n in shown), "why"]]
    for m in METHODS:
        errors = result["errors"][m.name]
        orders = []
        for path in PATHS:
            ours, other = (fitted(errors[path][data], steps) for data in ("mixture", "gaussian"))
            orders.append(f"{ours:.2f}" + (f" ({other:.2f})" if abs(ours - other) > 0.1 else ""))
        at = [f"{errors['ve']['mixture'][steps.index(n)]:.1e}" for n in shown]
        rows.append([f"`{m.name}`", m.theory, *orders, *at, ", ".join(m.why)])
    return rows


def _adaptive(result: Mapping[str, Any]) -> _Table:
    rows = [["`AdaptiveStep`, tolerance", *PATHS]]
    for tolerance in next(iter(result["adaptive"].values())):
        cells = [result["adaptive"][path][tolerance] for path in PATHS]
        rows.append([f"{float(tolerance):g}", *(f"{c['mixture']:.1e} in {c['evaluations']}" for c in cells)])
    return rows


def _inversion(result: Mapping[str, Any]) -> _Table:
    steps = result["rounds"]
    heads = [f"{what}, {' / '.join(map(str, steps[::2]))}" for what in ("error upward", "error of the round trip")]
    rows = [["sampler", "path", heads[0], "order", heads[1], "order"]]
    for name, (_, expected) in INVERTED.items():
        for path in expected:
            errors = result["inversion"][name][path]["mixture"]
            cells = [
                text for way in ("up", "back")
                for text in (" / ".join(f"{e:.1e}" for e in errors[way][::2]), f"{fitted(errors[way], steps):.2f}")
            ]  # fmt: skip
            rows.append([f"`{name}`", path, *cells])
    return rows


def _interval(measured: float, exact: float | None) -> str:
    return f"{measured:.4f} ({'no closed form' if exact is None else f'{exact:.4f}'})"


def _on_eps(result: Mapping[str, Any]) -> _Table:
    known = result["stability"]["eps"]
    rows = [
        [
            "terms k",
            "`PLMS(k)`",
            "`HeavyBall(PLMS(k), 0.8)`",
            "`HeavyBall(PLMS(k), 0.5)`",
            "`GHVB(k - 0.2)`",
            "`GHVB(k - 0.5)`",
        ]
    ]
    for k, group in enumerate(ON_EPS, 1):
        rows.append([str(k), *(_interval(known[name], closed_form(s)) for name, s in group.items())])
    return rows


def _further(result: Mapping[str, Any]) -> _Table:
    known = result["stability"]
    rows = [["sampler", "equal steps in g", *(f"x0 = -c z, h = {h:g}" for h in LOG_STEPS)]]
    for name, s in FURTHER.items():
        rows.append([f"`{name}`", _interval(known["eps"][name], closed_form(s)), *[""] * len(LOG_STEPS)])
    for name, s in ON_DATA.items():
        cells = [_interval(known["data"][name][str(h)], closed_form(s, h)) for h in LOG_STEPS]
        rows.append([f"`{name}`", "", *cells])
    return rows


def _tables(result: Mapping[str, Any]) -> list[tuple[str, _Table]]:
    paths = "; ".join(f"{name}: {about}" for name, about in result["paths"].items())
    used = [key for key in WHY if any(key in m.why for m in METHODS)]
    return [
        (f"Orders, fitted over the last two doublings of the steps. {paths}.", _orders(result)),
        ("Why: " + "; ".join(f"*{key}*: {WHY[key]}" for key in used) + ".", []),
        ("Error and evaluations where the tolerance chooses the steps.", _adaptive(result)),
        ("Upward, data to noise, and back again; errors upward in standard deviations of the noise.", _inversion(result)),
        ("Real stability intervals for z' = -L z: the longest H = L |step|, measured (closed form).", _on_eps(result)),
        ("The same for other methods, and for exponential integrators on a predicted x0 that falls with z.", _further(result)),
    ]  # fmt: skip


def as_markdown(result: Mapping[str, Any]) -> str:
    """The tables as in the README.

    Args:
        result: of `measured`.
    """
    blocks = []
    for title, rows in _tables(result):
        lines = [f"| {' | '.join(row)} |" for row in rows]
        blocks.append(
            "\n".join(
                [
                    title,
                    *([""] if rows else []),
                    *lines[:1],
                    *(["|" + "---|" * len(rows[0])] if rows else []),
                    *lines[1:],
                ]
            )
        )
    return "\n\n".join(blocks)


def as_text(result: Mapping[str, Any]) -> str:
    """The tables in columns.

    Args:
        result: of `measured`.
    """
    blocks = []
    for title, rows in _tables(result):
        plain: Sequence[Sequence[str]] = [[cell.replace("`", "") for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in plain]
        blocks.append("\n".join([*textwrap.wrap(title, 140), *lines]))
    return "\n\n".join(blocks)
