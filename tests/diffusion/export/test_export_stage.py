"""A folder that is filled out of sight: what a killed process left is swept, and nothing else."""

import os
import signal

import pytest

from sfumato.diffusion.export.stage import staged
from sfumato.diffusion.lock import RunLock


def test_what_a_killed_export_left_is_swept(tmp_path):
    out = tmp_path / "out"
    child = os.fork()
    if child == 0:
        with staged(out, 0) as stage:
            (stage / "half.txt").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"]
    with staged(out, 0) as stage:
        (stage / "whole.txt").write_text("whole")
        assert list(tmp_path.iterdir()) == [stage]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in out.iterdir()] == ["whole.txt"]


def test_what_is_of_others_stays(tmp_path):
    mine, other, live = (
        tmp_path / name for name in (".out-mine.part", f".outer-{'0' * 32}.part", f".out-{'1' * 32}.part")
    )
    for path in (mine, other, live):
        path.mkdir()
    (tmp_path / f".out-{'2' * 32}.part").symlink_to(mine)
    lock = RunLock(live)
    there = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "out", 0):
        raise KeyboardInterrupt
    assert set(tmp_path.iterdir()) == there
    lock.release()
    with staged(tmp_path / "out", 0):
        pass
    assert set(tmp_path.iterdir()) == there - {live} | {tmp_path / "out"}
