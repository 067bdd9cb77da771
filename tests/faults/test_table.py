"""The table of faults itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TESTS = """
import pytest

@pytest.mark.fault(9)
@pytest.mark.fault(7)
def test_survives(injected):
    injected("a flipped bit", 3, 0)

@pytest.mark.fault(8)
def test_loses(injected):
    injected("a lost page", 1, 1)
    assert False
"""


def test_the_table_is_sorted_and_names_what_failed(tmp_path):
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault(number): x\naddopts = --strict-markers\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--fault-table", "out/t.json", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTEST_ADDOPTS": ""}, check=False,
    )  # fmt: skip
    rows = json.loads((tmp_path / "out" / "t.json").read_text())
    assert [(r["fault"], r["times"], r["lost"], r["outcome"]) for r in rows] == [
        (7, 3, 0, "passed"), (8, 1, 1, "failed"), (9, 3, 0, "passed"),
    ]  # fmt: skip
    assert "    8 | a lost page   |     1 |    1 | failed" in done.stdout
    (tmp_path / "test_it.py").write_text("import pytest\n@pytest.mark.fault(3)\ndef test_x(): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "let it use the fixture `injected`" in done.stdout + done.stderr
