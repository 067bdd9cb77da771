"""Disks that are full, fill up, or may not be written: what was there stays, nothing lies about, and the message says what to do."""

import errno
import os
import resource
import shutil
import stat
import subprocess
from collections import namedtuple

import pytest
import torch
from children import Child, forked
from faulted import Dots, Mixer, go, numbers, same, tiny

from sfumato.diffusion import publish, train
from sfumato.diffusion.checkpoint import newest, save, valid
from sfumato.diffusion.update import Update

NOBODY = 65534
MIB = 2**20


@pytest.fixture
def small(place):
    """A disk of 24 MiB."""
    folder = place / "small"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def ballast(folder, free):
    """Fill a disk but for so many bytes."""
    (folder / "ballast").unlink(missing_ok=True)
    room = os.statvfs(folder)
    with (folder / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - free)


def big(mib):
    """Tensors that take so much."""
    return {"model": {"w": torch.ones(mib * MIB // 8)}, "ema": {"w": torch.zeros(mib * MIB // 8)}}


def left(root):
    return sorted(p.name for p in root.iterdir())


@pytest.mark.fault(18)
def test_a_full_disk(small, injected, monkeypatch):
    """Found before anything is written; and where it fills while it is written, at whichever file."""
    root = small / "run" / "checkpoints"
    save(root, 1, big(4), {}, 2)
    ballast(small, 6 * MIB)
    with pytest.raises(OSError, match=rf"disk is full: 8\.0 MiB are needed and 6\.0 MiB are free.*{root}") as caught:
        save(root, 2, big(8), {}, 2)
    assert caught.value.errno == errno.ENOSPC
    assert (left(root), newest(root).step) == (["step-000000001"], 1)
    # a disk that says it has room, and has not: none is left for the first file, for a later one, or for the manifest
    usage = namedtuple("usage", "total used free")
    real = shutil.disk_usage
    tried = 0
    for free in (0, 4096, 2 * MIB, 4 * MIB + 8192, 8 * MIB - 4096, 8 * MIB + 8192, 8 * MIB + 12288):
        ballast(small, free)
        asked = iter([usage(0, 0, 2**40)])
        monkeypatch.setattr(publish.shutil, "disk_usage", lambda path, asked=asked: next(asked, None) or real(path))
        with pytest.raises(OSError, match=rf"8\.0 MiB are needed and .* MiB are free.*{root}"):
            save(root, 2, big(8), {"long": "x" * 9000}, 2)
        assert (left(root), newest(root).step) == (["step-000000001"], 1)
        tried += 1
    monkeypatch.undo()
    (small / "ballast").unlink()
    save(root, 2, big(8), {}, 2)
    assert newest(root).step == 2
    injected("a disk of 24 MiB is full, or fills within a save", 1 + tried, 0)


@pytest.mark.fault(18)
def test_a_run_whose_disk_fills(small, injected):
    """Refused where it can't have room; otherwise stopped at the save, and gone on with when there is room again."""
    wide = {"backbone": Wide(2**18), "keep": 2}  # 1 MiB of weights, 4 MiB a checkpoint
    with pytest.raises(ValueError, match=r"of 40\.0 MiB each: .*are needed and 24\.0 MiB are free.*small"):
        train(tiny(backbone=Wide(10 * 2**18)), small / "never", progress=False)
    assert left(small) == []
    go(small.parent / "quiet", **wide)

    def full():
        real = Dots.batch

        def batch(self, index):
            if newest(small / "run" / "checkpoints") and newest(small / "run" / "checkpoints").step == 4:
                ballast(small, 2 * MIB)
            return real(self, index)

        Dots.batch = batch
        with pytest.raises(OSError, match=r"4\.\d MiB are needed and 2\.\d MiB are free.*checkpoints"):
            go(small / "run", **wide)

    assert forked(full, small.parent / "log") == 0, (small.parent / "log").read_text()
    assert left(small / "run" / "checkpoints") == ["step-000000003", "step-000000004"]
    (small / "ballast").unlink()
    go(small / "run", **wide)
    assert same(numbers(small / "run"), numbers(small.parent / "quiet"))
    injected("the disk of a run fills, and is emptied again", 2, 0)


class Wide(Mixer):
    """With so many weights more, which nothing reads."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.config = {"more": more}
        self.more = torch.nn.Parameter(torch.zeros(more))

    def forward(self, x, time, labels=None):
        return super().forward(x, time, labels) + 0 * self.more.sum()


@pytest.mark.fault(18)
def test_a_file_that_may_not_grow(place, injected):
    """The system's limit on the size of a file is no full disk: the message is the system's, with the path."""
    root = place / "run" / "checkpoints"
    save(root, 1, big(1), {}, 2)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))
        with pytest.raises(OSError, match=r"[Ff]ile too large.*model\.safetensors") as caught:
            save(root, 2, big(8), {}, 2)
        assert caught.value.errno == errno.EFBIG

    assert forked(limited, place / "log") == 0, (place / "log").read_text()
    assert (left(root), newest(root).step) == (["step-000000001"], 1)
    injected("a file grows beyond the system's limit", 1, 0)


def test_a_checkpoint_is_as_readable_as_its_folder(place):
    """What writes tensors makes them the owner's alone; who may read the folder may read what is in it."""
    folder = save(place, 1, big(1), {}, 2)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes.values()) == {stat.S_IMODE(folder.stat().st_mode) & 0o666}, modes


@pytest.mark.fault(19)
def test_what_may_not_be_written_is_refused_before_the_first_step(place, injected):
    """By somebody who is not root: the folder's parent, the folder, its checkpoints, or its lock belong to another."""
    place.chmod(0o755)
    go(place / "run", steps=2)
    runs = {"parent": place / "new", "folder": place / "run"}
    for name in ("checkpoints", "lock"):
        runs[name] = place / name
        shutil.copytree(place / "run", runs[name])
        for path in (runs[name], *runs[name].rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    for path in (runs["checkpoints"] / "checkpoints", runs["lock"] / ".lock"):
        path.touch() if not path.is_dir() else None
        os.chown(path, 0, 0)
        path.chmod(0o755 if path.is_dir() else 0o644)

    def attempt(say, folder):
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        steps = []
        Update.__call__ = lambda self, step: steps.append(step)
        with pytest.raises(ValueError, match=rf"{folder}.* can't be written: .*[Pp]ermission denied"):
            go(folder, steps=4)
        assert not steps

    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    for name, folder in runs.items():
        child = Child(lambda say, f=folder: attempt(say, f), place / f"log-{name}")
        assert child.ended() == 0, (place / f"log-{name}").read_text()
    assert [c.step for c in valid(place / "run" / "checkpoints")] == [2, 1]
    assert not (place / "new").exists()
    injected("a folder, or a part of it, that may not be written", len(runs), 0)
