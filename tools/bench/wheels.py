"""Wheels of Sfumato and of what it needs, for a machine that reaches no network: `python -m sfumato.tools.bench.wheels --into DIR`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import requires, version
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["closure", "run"]

# those of Linux on x86-64 that wheels are built for; pip matches each name exactly
_PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (39, 35, 34, 31, 28, 27, 24, 17)] + [
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
]


def closure(name: str, without: Collection[str], python: str) -> dict[str, str]:
    """What a distribution needs, and what that needs, at the versions that are installed here: {name: version}.

    Args:
        name: an installed distribution, itself left out.
        without: what is there already; what those alone need is left out, too.
        python: for which Python, such as "3.12".

    Raises:
        ValueError: for what is not installed here, as PackageNotFoundError says.
    """
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    left = {canonicalize_name(n) for n in without}
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo: list[tuple[str, str]] = [(canonicalize_name(name), "")]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        for needed, extras in _needed(*at, environment):
            if needed not in left:
                found[needed] = version(needed)
                todo += [(needed, extra) for extra in ("", *extras)]
    return dict(sorted(found.items()))


def _needed(name: str, extra: str, environment: dict[str, str]) -> Iterator[tuple[str, set[str]]]:
    """What a distribution asks for itself, with one of its extras or none."""
    for line in requires(name) or []:
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate({**environment, "extra": extra}):
            yield canonicalize_name(asked.name), set(asked.extras)


def run(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m sfumato.tools.bench.wheels", description=__doc__)
    parser.add_argument("--into", type=Path, required=True, help="folder of the wheels")
    parser.add_argument("--python", default="3.12", help="version of Python there")
    parser.add_argument("--without", default="torch", help="what is there already, with commas between")
    parser.add_argument("--source", type=Path, default=Path(), help="the checkout of Sfumato")
    given = parser.parse_args(argv)
    needed = closure("sfumato", given.without.split(","), given.python)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    there = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", given.python, *platforms]
    subprocess.run(
        [*pip, "download", "-q", *there, "-d", str(given.into), *(f"{n}=={v}" for n, v in needed.items())], check=True
    )
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(given.into), str(given.source)], check=True
    )
    wheels = sorted(given.into.glob("*.whl"))
    print(f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels) / 2**20:.0f} MiB, in {given.into}")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
