"""A measured claim as JSON: everything that is needed to judge it again, and to measure it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from .claim import Claim, Finding

__all__ = ["code_hash", "lines_of", "machine", "recorded", "result_of"]


def recorded(name: str) -> dict[str, Any] | None:
    """The result of a claim that ships with this version, or None."""
    file = resources.files(__package__ or "").joinpath(f"{name}.json")
    return json.loads(file.read_text()) if file.is_file() else None


@cache
def code_hash() -> str:
    """Of all of Sfumato's Python, 16 hexadecimal digits: numbers of one version may be of different code."""
    root = Path(__file__).parents[2]
    found = hashlib.sha256()
    for folder in ("schedules", "samplers", "guidance", "diffusion", "tools"):
        for file in sorted((root / folder).rglob("*.py")):
            found.update(f"{file.relative_to(root).as_posix()}\n".encode() + file.read_bytes())
    return found.hexdigest()[:16]


def machine(threads: int) -> dict[str, Any]:
    """Where something was measured.

    Args:
        threads: of the CPU, that it was measured on.
    """
    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:  # of Linux only
        pass
    python, system = platform.python_version(), platform.system()
    return {"cpu": name or platform.machine(), "threads": threads, "python": python, "system": system}


def result_of(claim: Claim, cells: Sequence[Mapping[str, Any]], finding: Finding, quick: bool) -> dict[str, Any]:
    """What was measured of a claim, JSON-able.

    Args:
        claim: which.
        cells: of `measure_cells`, just measured by this process, or by one that was interrupted.
        finding: of the claim's `judge`.
        quick: whether these are of the tiny version.
    """
    common = {key: cells[0][key] for key in ("version", "torch")}
    kept = ("variant", "seed", "seconds", "cpu_seconds", "raw")
    return {
        "name": claim.name, "paper": claim.paper, "arxiv": claim.arxiv, "promise": claim.promise, "figure": claim.figure,
        "command": claim.command, "quick": quick, **common, "code": code_hash(), "machine": machine(1),
        "seeds": sorted({c["seed"] for c in cells}),
        "minutes": round(sum(c["seconds"] for c in cells) / 60, 1), **dataclasses.asdict(finding),
        "recipes": {c["variant"]: c["recipe"] for c in cells},
        "cells": [{key: cell[key] for key in kept} for cell in cells],
    }  # fmt: skip


def lines_of(result: Mapping[str, Any]) -> str:
    """JSON with a line per key, recipe and run, so that a difference between two results can be read."""
    parts: list[str] = []
    for key, value in result.items():
        if key == "recipes":
            inner = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f"{json.dumps(key)}: {{\n  {inner}\n }}")
        elif key == "cells":
            inner = ",\n  ".join(json.dumps(v) for v in value)
            parts.append(f"{json.dumps(key)}: [\n  {inner}\n ]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"
