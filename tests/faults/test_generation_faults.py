"""Fault 50 for several processes: one job of pictures, whoever began it, stopped or killed at any moment."""

import shlex
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from children import ends

from sfumato.diffusion import picture_folder
from sfumato.tools.cli import main


def job(run, out, *more):
    return [
        "sample", str(run), "--seeds", "0-39", "--labels", "0-9", "--batch", "4", "--steps", "4", "--strict", "--filters", "PathLength",
        "--filters.last", "3", "--filters.threshold", "2.0", "--retries", "2", "--threads", "1", "--out", str(out), *more,
    ]  # fmt: skip


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def quiet(a_run, tmp_path_factory):
    """The pictures of one process that nobody disturbed."""
    out = tmp_path_factory.mktemp("quiet")
    assert main(job(a_run, out)) == 0
    return files(out)


@pytest.mark.fault(50)
def test_two_processes_are_told_to_stop_and_one_goes_on(a_run, quiet, place, injected):
    """They write what one writes, say what one says, once, and how to go on as two."""
    codes, said, _ = ends(lambda rank: main(job(a_run, place / "whole")), place / "log")
    assert codes == [0, 0], said
    assert files(place / "whole") == quiet
    assert "attempts rejected by PathLength" in said[0]
    assert "pictures in" in said[0]
    assert "pictures" not in said[1]
    save = picture_folder.save_png

    def told(number):
        def does(rank):
            calls = []

            def saves(path, *rest):
                calls.append(path)
                if len(calls) == 5:  # torchrun tells all
                    signal.raise_signal(number)
                save(path, *rest)

            picture_folder.save_png = saves
            return main(job(a_run, place / number.name))

        return does

    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        codes, said, _ = ends(told(number), place / f"log-{number.name}")
        assert codes == [code, code], said
        assert f"stopped by {number.name}; " in said[0]
        assert not any("Traceback" in each for each in said)
        (line,) = [line for line in "".join(said).splitlines() if line.startswith("go on with: ")]
        start, words = line.removeprefix("go on with: ").split(" sample ")
        assert start == "torchrun --nproc_per_node 2 -m sfumato.tools.cli"
        assert main(["sample", *shlex.split(words)]) == 0
        assert files(place / number.name) == quiet
    injected("SIGTERM and SIGINT to two processes that sample", 4, 0)


@pytest.mark.fault(50)
def test_mistakes_end_all_processes(a_run, place, injected):
    """What the main process refuses, and what one alone runs into."""
    (place / "full").mkdir()
    (place / "full" / "seed-00000000.png").write_bytes(b"")

    def full(rank):
        return main(job(a_run, place / "full"))

    def cut(rank):
        save = picture_folder.save_png

        def saves(path, *rest):
            if rank == 1:
                raise OSError(28, "No space left on device")
            save(path, *rest)

        picture_folder.save_png = saves
        return main(job(a_run, place / "cut"))

    codes, said, _ = ends(full, place / "log-full")
    assert codes == [2, 2]
    assert "holds pictures already" in said[0]
    codes, said, _ = ends(cut, place / "log-cut")
    assert codes == [2, 1]
    assert "another process has failed" in said[0]
    assert "No space left on device" in said[1]
    assert not any("Traceback" in each for each in said)
    injected("a mistake of one of two processes", 2, 0)


@pytest.mark.slow
@pytest.mark.fault(50)
def test_kills_by_torchrun_lose_no_picture(a_run, quiet, tmp_path, injected):
    """SIGKILL of a process at a random moment, each time gone on with by another number of processes."""
    rng, kills = np.random.default_rng(0), 0
    for count in (2, 3, 1, 2, 3, 2):
        before = len(list(tmp_path.glob("seed-*.png")))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        argv = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node",
            f"{count}",
            "--master_port",
            f"{port}",
        ]
        argv += ["-m", "sfumato.tools.cli", *job(a_run, tmp_path, "--resume")]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launcher:
            want = before + int(rng.integers(1, 6))
            while launcher.poll() is None and len(list(tmp_path.glob("seed-*.png"))) < want:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.05)
            if launcher.poll() is None:
                children = subprocess.run(
                    ["pgrep", "-P", f"{launcher.pid}"], capture_output=True, text=True, check=False
                )
                for child in children.stdout.split()[:1]:
                    subprocess.run(["kill", "-9", child], check=False, stderr=subprocess.DEVNULL)
                    kills += 1
        if launcher.returncode == 0:
            break
    assert kills >= 2
    assert main(job(a_run, tmp_path, "--resume")) == 0
    assert files(tmp_path) == quiet
    injected("SIGKILL of one of several processes", kills, 0)
