"""`sfumato bench`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ..command import help_text, parse
from ..spelling import did_you_mean
from .goals import Goal, markdown, table
from .kind import Ask
from .kinds import KINDS
from .sheet import Cell, Sheet, changes, read

__all__ = ["Bench", "run"]

RECORDED = Path(__file__).parent / "recorded"


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure what things cost, as ratios of one run, beside other libraries where they are installed.

    Args:
        name: what to measure: samplers (their own cost, the network excluded); filters; guidance; train (a step, and what a run adds);
            sample (a call, and what grows with what); processes (two beside one); evaluate; data; startup; quickstart; gpu. Or goals:
            what was promised, and what was measured.
        out: folder of the result, a JSON file (with `only`, rows join those that are there); of goals: the folder that is read, with
            those within; null: runs/bench, of goals what was measured for this version.
        device: cpu or cuda; what is counted is counted on the host.
        only: one row, as in the table; null: all that take no minutes.
        against: other libraries, with commas between; null: all that the bench knows and that are installed.
        before: a file or folder of an earlier run; what has changed since is listed, and the exit code is 1 where something has.
        compile: of train: compiled, too; takes minutes.
        growth: how cost grows with batch, steps, size, parameters, too; takes a minute or more.
        markdown: of goals: as a table for a README.
        quick: a tiny version in seconds, to see whether it runs; its times mean nothing.
    """

    name: str = "samplers"
    out: str | None = None
    device: str = "cpu"
    only: str | None = None
    against: str | None = None
    before: str | None = None
    compile: bool = False
    growth: bool = False
    markdown: bool = False
    quick: bool = False

    def __post_init__(self) -> None:
        names = [*KINDS, "goals"]
        if self.name not in names:
            raise ValueError(f"name is {self.name!r}; allowed: {', '.join(names)}{did_you_mean(self.name, names)}")
        kind = KINDS.get(self.name)
        peers, rows = (kind.peers, kind.names) if kind else ((), ())
        if self.against is not None and (strange := [p for p in self.against.split(",") if p not in peers]):
            there = f"{', '.join(peers)}, with commas between" if peers else f"nothing, for {self.name}; leave it out"
            raise ValueError(f"against names {', '.join(map(repr, strange))}; allowed: {there}")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device is {self.device!r}; allowed: cpu, cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device is 'cuda', and this PyTorch sees no GPU; use cpu")
        if self.only is not None and self.only not in rows:
            there = f"{', '.join(rows)}{did_you_mean(self.only, rows)}" if rows else "nothing, for it has one row only"
            raise ValueError(f"only is {self.only!r}; allowed: {there}")
        takes = kind.takes if kind else ()
        for name, given, default in (("growth", self.growth, "false"), ("compile", self.compile, "false"),
                                     ("cuda", self.device == "cuda", "cpu")):  # fmt: skip
            if given and name not in takes:
                who = ", ".join(other for other, kind in KINDS.items() if name in kind.takes)
                option = "device is 'cuda'" if name == "cuda" else f"{name} is true"
                raise ValueError(
                    f"{option}, which changes nothing of {self.name}; leave it {default} (it is for {who})"
                )
        if self.markdown and self.name != "goals":
            raise ValueError(f"markdown is true, which changes nothing of {self.name}; leave it out (it is for goals)")
        if self.out is not None and Path(self.out).exists() and not Path(self.out).is_dir():
            raise ValueError(f"out is {self.out!r}, which is a file; give a folder, which is made where it is missing")
        if self.before is not None and not self.earlier.is_file():
            raise ValueError(
                f"before is {self.before!r}, and there is no file {self.earlier}; give one that `sfumato bench` wrote"
            )

    @property
    def earlier(self) -> Path:
        """The file of the earlier run."""
        at = Path(self.before or "")
        return at / f"{self.name}.json" if at.is_dir() else at

    @property
    def ask(self) -> Ask:
        """What the bench is asked."""
        kind = KINDS[self.name]
        against = tuple(kind.peers) if self.against is None else tuple(self.against.split(","))
        return Ask(self.only, against, self.quick, self.compile, self.growth, self.device)


def run(argv: Sequence[str]) -> int:
    """The command."""
    if "--help" in argv or "-h" in argv:
        print(
            help_text(
                f"sfumato bench {'|'.join([*KINDS, 'goals'])} [--against PEER] [--only ROW] [--before FILE]", Bench
            )
        )
        return 0
    options, _ = parse(argv, Bench, ("name",))
    if options.name == "goals":
        return _goals(options)
    before = None  # read now, since it may be about to be written over
    if options.before is not None:
        before = read(options.earlier, options.name)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports its own starts and stops on stderr
    sheet, folder = Sheet(options.name, _say, options.quick, options.device), Path(options.out or "runs/bench")
    threads, whole = torch.get_num_threads(), False
    torch.set_num_threads(1)
    try:
        KINDS[options.name].measure(options.ask, sheet)
        whole = True
    finally:
        torch.set_num_threads(threads)
        if options.quick:
            _say("the quick version only shows that it runs: its times mean nothing")
        if whole or sheet.rows:  # what was measured before Ctrl-C joins what is there
            _say(f"numbers: {sheet.write(folder, join=options.only is not None or not whole)}")
    if before is None:
        return 0
    now = sheet.rows
    if options.only is not None:  # which measures some rows, and of some kinds some columns
        before = {
            row: {k: cell for k, cell in cells.items() if k in now[row]} for row, cells in before.items() if row in now
        }
    changed = changes(before, now)
    _say(
        "\n".join([f"changed since {options.earlier}:", *changed]) if changed else f"unchanged since {options.earlier}"
    )
    return 1 if changed else 0


def _goals(options: Bench) -> int:
    """Print the goals, and what was measured of each."""
    folder = RECORDED if options.out is None else Path(options.out)
    measured: dict[str, dict[str, dict[str, Cell]]] = {}
    for name in KINDS:
        for file in sorted(
            folder.rglob(f"{name}.json")
        ):  # rows that were measured one by one lie in folders of their own
            measured[name] = {**measured.get(name, {}), **read(file)}
    if not measured:
        raise ValueError(
            f"out is {options.out!r}, and no bench has written there; run `sfumato bench samplers --out {folder}`, not --quick"
        )
    goals: list[Goal] = [goal for kind in KINDS.values() for goal in kind.goals]
    if options.markdown:
        _say(markdown(goals, measured))
        return 0
    for what, bound, value, verdict, why in table(goals, measured):
        _say(f"{verdict:<12}  {what}: {value}, goal {bound}" + (f"; {why}" if why else ""))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
