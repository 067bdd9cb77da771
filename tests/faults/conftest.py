"""Fault injection: each test says which numbered fault it injects, how often, and what was lost; `make faults` prints the table."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from sfumato.tools.cli import main

TINY = [
    "--steps", "6", "--batch", "8", "--micro_batch", "8", "--backbone.width", "8", "--sampling_steps", "4", "--sample_every", "0",
    "--log_every", "3", "--threads", "1", "--save_every", "3",
]  # fmt: skip


@dataclass
class Row:
    """One line of the table: a fault, what was injected, how often, what was lost, by which test, and how that ended."""

    fault: int
    injected: str
    times: int
    lost: int
    test: str
    outcome: str = "not run"


class Table:
    """What the tests of this session have injected."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """How a test ended stands in its rows; a failure when it is torn down counts too."""
        for row in self.rows:
            if row.test == report.nodeid and (report.when == "call" or report.failed):
                row.outcome = report.outcome

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """The table, where it was asked for, and as JSON."""
        file = config.getoption("--fault-table", None)
        if file is None:
            return
        rows = sorted(self.rows, key=lambda row: row.fault)
        width = max((len(row.injected) for row in rows), default=8)
        terminalreporter.section("faults")
        terminalreporter.write_line(f"fault | {'injected':<{width}} | times | lost | outcome")
        for row in rows:
            line = f"{row.fault:>5} | {row.injected:<{width}} | {row.times:>5} | {row.lost:>4} | {row.outcome}"
            terminalreporter.write_line(line)
        faults, times, lost = len({row.fault for row in rows}), sum(r.times for r in rows), sum(r.lost for r in rows)
        terminalreporter.write_line(f"{faults} faults, injected {times} times, {lost} lost")
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


KEY = pytest.StashKey[Table]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", metavar="FILE", help="print what was injected, and write it to this JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[KEY] = Table()
    config.pluginmanager.register(config.stash[KEY], "fault-table")


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test that is of a numbered fault has to record what it injects."""
    if item.get_closest_marker("fault") and "injected" not in getattr(item, "fixturenames", ()):
        raise pytest.UsageError(f"{item.nodeid} is marked as a fault; let it use the fixture `injected`")


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[[str, int, int], None]:
    """Record a row of the table: injected(what, times, lost), for each fault that the test is marked with.

    what: what was done to it, in a few words. times: how often. lost: how much of what was promised to be there was gone afterwards.
    """
    numbers = [number for marker in request.node.iter_markers("fault") for number in marker.args]
    assert numbers, f"{request.node.nodeid}: mark it with pytest.mark.fault(number)"

    def record(what: str, times: int, lost: int) -> None:
        assert times > 0, "nothing was injected"
        rows = request.config.stash[KEY].rows
        rows += [Row(number, what, times, lost, request.node.nodeid) for number in numbers]

    return record


@pytest.fixture(scope="session")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run on the digits with classes, six steps, two checkpoints; look at it, don't write in it."""
    folder = tmp_path_factory.mktemp("fault-runs") / "tiny"
    assert main(["train", "digits", *TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory, where there is such a thing: what kills a process leaves what it has written, synced or not."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
