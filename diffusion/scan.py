"""Every sample read once, before training is."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeGuard, get_args

from .data import Source
from .excluding import Excluding
from .interrupt import Interrupted, Told
from .progress import progress_bar
from .subset import Subset

__all__ = ["Checkable", "Corrupt", "Scan", "checkable", "scan"]

Corrupt = Literal["stop", "skip"]
_TOLD = 5  # samples that a message names
_ROUND = 256  # samples that are given to the threads at a time, so that a large set needs no large queue


class Checkable(Source, Protocol):
    """A data set that can say what is wrong with a sample."""

    def problem(self, index: int) -> str | None:
        """What is wrong with a sample, with its path or name; None where nothing is. Called by several threads at a time."""
        ...


@dataclass(frozen=True)
class Scan:
    """Which samples of a data set can't be read.

    Args:
        count: samples in all.
        bad: index -> what is wrong with it.
        fingerprint: of the data set that was read.

    Raises:
        ValueError: for an index out of range.
    """

    count: int
    bad: Mapping[int, str] = field(default_factory=dict)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        wrong = [i for i in self.bad if not isinstance(i, int) or not 0 <= i < self.count]
        if wrong:
            raise ValueError(f"Scan.bad names sample {wrong[0]!r} of {self.count}; allowed: 0 to {self.count - 1}")

    def words(self) -> list[str]:
        """A report: how many were read, how many are bad, and the first of them with their reasons."""
        share = f", {len(self.bad):,} of them bad ({len(self.bad) / self.count:.2%})" if self.bad else ", all good"
        return [f"{self.count:,} samples read{share}", *self._told()]

    def _told(self) -> list[str]:
        more = len(self.bad) - _TOLD
        lines = [f"  sample {i}: {self.bad[i]}" for i in sorted(self.bad)[:_TOLD]]
        return [*lines, f"  and {more:,} more"] if more > 0 else lines

    def check(self, policy: Corrupt, limit: float = 0.01) -> None:
        """Refuse data that the policy does not allow.

        Args:
            policy: "stop": none may be bad. "skip": up to a limit may, and are left out.
            limit: the largest share of bad samples that may be skipped, in [0, 1].

        Raises:
            ValueError: naming the samples, and for another policy or limit.
        """
        if policy not in get_args(Corrupt):
            raise ValueError(f"corrupt is {policy!r}; allowed: {', '.join(map(repr, get_args(Corrupt)))}")
        if not 0.0 <= limit <= 1.0:
            raise ValueError(f"the share of samples that may be skipped is {limit}; allowed: 0 to 1")
        if not self.bad:
            return
        if policy == "skip":
            if len(self.bad) == self.count or len(self.bad) > limit * self.count:
                raise ValueError("\n".join([
                    f"{len(self.bad):,} of {self.count:,} samples can't be read, more than may be skipped ({limit:.2%}); "
                    "mend or remove them",
                    *self._told(),
                ]))  # fmt: skip
            return
        raise ValueError("\n".join([
            f"{len(self.bad):,} of {self.count:,} samples can't be read; mend or remove them, or leave them out (corrupt 'skip')",
            *self._told(),
        ]))  # fmt: skip

    def good(self, data: Source) -> Source:
        """The data set without its bad samples; itself where there are none.

        Args:
            data: what was scanned.

        Raises:
            ValueError: when it has changed since.
        """
        if (len(data), data.fingerprint) != (self.count, self.fingerprint):
            raise ValueError(
                f"the data have changed since they were read: {len(data)} samples, fingerprint {data.fingerprint}, and then "
                f"{self.count}, {self.fingerprint}; read them again"
            )
        return Excluding(data, sorted(self.bad)) if self.bad else data

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads."""
        bad = {str(i): self.bad[i] for i in sorted(self.bad)}
        return {"count": self.count, "bad": bad, "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, known: Any) -> Scan:
        """What `to_json` wrote.

        Raises:
            ValueError: for anything else.
        """
        try:
            bad = {int(i): str(reason) for i, reason in known["bad"].items()}
            return cls(int(known["count"]), bad, str(known["fingerprint"]))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(
                f"this is no report on data ({error!r}); remove the file, and the data are read again"
            ) from error


def checkable(data: Source) -> TypeGuard[Checkable]:
    """Whether a data set can say what is wrong with a sample; a part of another can when the other can."""
    # not isinstance, which would read the data to see whether they have a fingerprint
    return checkable(data.source) if isinstance(data, Subset) else callable(getattr(data, "problem", None))


def scan(data: Checkable, threads: int = 2, progress: bool = True, told: Told | None = None) -> Scan:
    """Read every sample once, and note what is wrong with it; the outcome does not depend on the threads.

    Args:
        data: the data set.
        threads: how many read at a time, >= 1.
        progress: whether to show a bar.
        told: what signals ask for; one that asks to stop ends the reading.

    Raises:
        Interrupted: when a signal asked to stop.
        ValueError: for another number of threads, and data that can't say what is wrong.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; allowed: >= 1")
    if not checkable(data):
        raise ValueError(
            f"{type(data).__name__} can't say what is wrong with a sample; give it a method problem(index)"
        )
    count, fingerprint, bad = (
        len(data),
        data.fingerprint,
        {},
    )  # asked once here, so that what they cache is made by one thread
    with (
        ThreadPoolExecutor(threads) as pool,
        progress_bar(count, 0, "reading the data", progress, leave=False, unit="sample") as bar,
    ):
        for first in range(0, count, _ROUND):
            if told is not None and told.stop:
                raise Interrupted("stopped while the data were read; nothing was begun", told.stop)
            chosen = range(first, min(first + _ROUND, count))
            bad |= {
                i: reason
                for i, reason in zip(chosen, pool.map(data.problem, chosen), strict=True)
                if reason is not None
            }
            bar.update(len(chosen))
    return Scan(count, bad, fingerprint)
