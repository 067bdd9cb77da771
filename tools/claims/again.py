"""`sfumato claims --again`: claims measured once more, in full, and compared with what is recorded."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...diffusion.whole_file import replace_text
from .cells import measure_cells, raw_of
from .claim import FAILED, HELD, Claim
from .result import code_hash, lines_of, machine, result_of

__all__ = ["compared", "measure_again", "quick_ones", "turned"]

Results = Mapping[str, Mapping[str, Any] | None]


def quick_ones(claims: Mapping[str, Claim], results: Results, minutes: float) -> list[str]:
    """The claims whose recorded measurements took the least, as many as fit into so many minutes of the processor together.

    Minutes of the processor rather than of the clock: what else ran on that machine says nothing of this one.

    Args:
        claims: by name.
        results: recorded, by name.
        minutes: of all of them; claims of one measurement share it, and it counts once.
    """
    took = {name: sum(c["cpu_seconds"] for c in r["cells"]) / 60 for name in claims if (r := results[name]) is not None}
    found: set[str] = set()
    paid: set[str] = set()
    for name in sorted(took, key=lambda name: took[name]):
        again = claims[name].measurement in paid
        if again or took[name] <= minutes:
            found.add(name)
            paid.add(claims[name].measurement)
            minutes -= 0.0 if again else took[name]
    return [name for name in claims if name in found]


def turned(before: str, now: str) -> bool:
    """Whether a verdict has become its opposite; to and from "within the noise" is none."""
    return {before, now} == {HELD, FAILED}


def measure_again(claims: Sequence[Claim], results: Results, seeds: int, out: Path) -> list[dict[str, Any]]:
    """Measure claims from nothing, one after the other, and hold each against its recorded verdict.

    What an interrupted call of the same code has finished is not measured twice; what a call that ended has measured is not used again.

    Args:
        claims: which.
        results: recorded, by name.
        seeds: runs of every variant, >= 2.
        out: folder; the new results, NAME.json, and again.json go there.

    Returns:
        One per claim: name, command, recorded and again (verdict, ours, values, seeds, minutes; None where nothing is recorded), turned.
    """
    work, of = out / "again", {"code": code_hash(), "seeds": seeds}
    mark = work / "of.json"
    if work.is_dir() and not (mark.is_file() and json.loads(mark.read_text()) == of):
        print(f"{work} is of other code or seeds: measured from nothing", file=sys.stderr)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    replace_text(mark, json.dumps(of))
    rows: list[dict[str, Any]] = []
    for claim in claims:
        cells = measure_cells(claim, seeds, work, False)
        result = result_of(claim, cells, claim.judge(raw_of(cells)), False)
        replace_text(out / f"{claim.name}.json", lines_of(result))
        before = results[claim.name]
        rows.append({
            "name": claim.name, "command": claim.command, "recorded": None if before is None else _short(before),
            "again": _short(result), "turned": before is not None and turned(before["verdict"], result["verdict"]),
        })  # fmt: skip
    about = {
        "command": "sfumato claims --again",
        "code": code_hash(),
        "machine": machine(1),
        "seeds": seeds,
        "claims": rows,
    }
    replace_text(out / "again.json", json.dumps(about, indent=1))
    shutil.rmtree(work)
    return rows


def _short(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of a result."""
    kept = {key: result[key] for key in ("verdict", "ours", "values", "seeds", "minutes", "version", "torch")}
    return {**kept, "cpu_minutes": round(sum(cell["cpu_seconds"] for cell in result["cells"]) / 60, 1)}


def compared(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows in words.

    Args:
        rows: of `measure_again`.
    """
    lines: list[str] = []
    for row in rows:
        before, now = row["recorded"], row["again"]
        lines.append(f"{row['name']}: {_word(row)}")
        if before is not None:
            lines.append(f"  recorded: {before['verdict']}; {before['ours']}")
        lines.append(f"  again:    {now['verdict']}; {now['ours']}")
        lines.append(
            f"  {len(now['seeds'])} seeds, {now['minutes']:.1f} minutes ({now['cpu_minutes']:.1f} of the processor)"
        )
    return lines


def _word(row: Mapping[str, Any]) -> str:
    before, now = row["recorded"], row["again"]["verdict"]
    if before is None:
        return "nothing is recorded to compare with"
    if row["turned"]:
        return "turned into its opposite"
    return (
        "the same verdict" if before["verdict"] == now else f"{before['verdict']} before, {now} now: no contradiction"
    )
