"""The progress bar is drawn in every terminal."""

import os
import pty
import subprocess
import sys

CODE = """
import time
from sfumato.diffusion.progress import progress_bar
with progress_bar(5, 0, "working", True) as bar:
    for _ in range(5):
        time.sleep(0.12)
        bar.update()
"""


def test_a_terminal_without_a_size_shows_the_bar():
    """A pseudo-terminal starts with no rows and no columns, as under `script` or some CI."""
    parent, child = pty.openpty()
    subprocess.run([sys.executable, "-c", CODE], stderr=child, stdin=child, stdout=child, check=True)
    os.close(child)
    assert b"working: 100%" in os.read(parent, 1 << 16)


def test_a_file_gets_lines_not_redraws():
    done = subprocess.run([sys.executable, "-c", CODE], stderr=subprocess.PIPE, check=True)
    assert b"working: 100%" in done.stderr
    assert done.stderr.count(b"\r") <= 3
