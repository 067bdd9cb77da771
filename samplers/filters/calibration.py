"""A filter whose thresholds were found from real data, and what they hold for."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ...schedules.level import Level
from ...schedules.parts import build, describe
from ...schedules.plain_json import from_json, to_json
from ..trajectory import Step
from .conformal import Sides
from .filter import Filter, Sampling, Verdict

__all__ = ["Calibrated", "Calibration"]


@dataclass(frozen=True)
class Calibration:
    """A filter with its thresholds, and what they hold for; made by `calibrate`.

    Args:
        filter: with level and thresholds in it.
        alpha: a real sample, exchangeable with those of the calibration, is rejected with probability <= alpha; no more is promised.
        count: real samples that it was calibrated on.
        sides: "upper", or "both".
        model: the fingerprint of the weights.
        data: the fingerprint of the data that the samples are from.
        held_out: whether the model was not trained on them; if it was, alpha holds for them and not for new ones.
        condition: whether the model saw the "labels" of the samples, or the null class ("none").
        margin: how far beyond the guaranteed bounds the thresholds were put, as a factor >= 1.
        sampler, guidance: that the trajectories were walked with, as text; None: the filter looks at the finished sample alone.
        log_snrs: of the levels that the trajectories were walked along; None: likewise.

    Raises:
        ValueError: for a filter that is none.
    """

    filter: Filter
    alpha: float
    count: int
    sides: Sides
    model: str
    data: str
    held_out: bool
    condition: Literal["labels", "none"] = "none"
    sampler: str | None = None
    guidance: str | None = None
    log_snrs: Sequence[float] | None = None
    margin: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.filter, type) or not isinstance(self.filter, Filter):
            raise ValueError(f"Calibration.filter is {self.filter!r}; allowed: a filter, such as RenoiseProbe()")
        for name, fits, allowed in (
            ("alpha", 0.0 < self.alpha < 1.0, "above 0 and below 1"), ("count", self.count >= 1, ">= 1"),
            ("sides", self.sides in ("upper", "both"), "'upper', 'both'"), ("margin", 1.0 <= self.margin < math.inf, ">= 1"),
            ("condition", self.condition in ("labels", "none"), "'labels', 'none'"),
        ):  # fmt: skip
            if not fits:
                raise ValueError(f"Calibration.{name} is {getattr(self, name)!r}; allowed: {allowed}")

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest score that is kept."""
        return float(getattr(self.filter, "least", -math.inf)), float(getattr(self.filter, "threshold", math.inf))

    def save(self, file: str | Path, report: dict[str, Any] | None = None) -> None:
        """Write it as JSON, which `Calibrated(file)` and `load` read.

        Args:
            file: where to.
            report: of how it was found, for people; JSON-able.
        """
        known = to_json(describe(self))
        whole = {"calibration": known, "sha256": _hash(known), **to_json(report or {})}
        Path(file).write_text(json.dumps(whole, indent=1, allow_nan=False))

    @classmethod
    def load(cls, file: str | Path, allow: Sequence[str] = ()) -> Calibration:
        """Read what `save` wrote.

        Args:
            file: the JSON.
            allow: packages whose classes it may name (a filter of your own), beside Sfumato's.

        Raises:
            ValueError: for a file that is none.
        """
        try:
            found: Any = json.loads(Path(file).read_text())
            known, wanted = found["calibration"], found["sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = f"it has no key {error}" if isinstance(error, KeyError) else error
            raise ValueError(
                f"{file} holds no calibration ({why}); `sfumato calibrate RUN` writes one into RUN/filters"
            ) from error
        if _hash(known) != wanted:
            raise ValueError(f"{file} is damaged, or was changed by hand; calibrate again: sfumato calibrate RUN")
        try:
            made = build(from_json(known), allow)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file} can't be used: {error}") from error
        if not isinstance(made, cls):
            raise ValueError(f"{file} holds a {type(made).__name__}, not a Calibration")
        return made

    def check(self, sampling: Sampling) -> None:
        """Refuse to judge what the thresholds do not hold for.

        Raises:
            ValueError: naming what was calibrated, what is sampled, and the fix.
        """
        name = type(self.filter).__name__
        if sampling.model() != self.model:
            raise ValueError(
                f"the calibration of {name} is of other weights than these (another run, checkpoint, or not the averaged ones); calibrate "
                f"these: sfumato calibrate RUN --filter {name}, with the --ema and RUN that you sample from"
            )
        if sampling.labelled is not None and sampling.labelled != (self.condition == "labels"):
            now, own = ("with", "none") if sampling.labelled else ("without", "labels")
            was = "without labels" if own == "none" else "with their labels"
            raise ValueError(
                f"the calibration of {name} is of real samples {was}, and these are sampled {now} labels; calibrate again: sfumato "
                f"calibrate RUN --filter {name} --condition {'labels' if sampling.labelled else 'none'}"
            )
        if self.sampler is None:
            return
        for what, was, now in (
            ("sampler", self.sampler, sampling.sampler),
            ("guidance", self.guidance, sampling.guidance),
        ):
            if was != now:
                raise ValueError(
                    f"the calibration of {name} is of the {what} {was}, and this is {now}; a statistic of the trajectory means another "
                    f"thing there: calibrate again, sfumato calibrate RUN --filter {name} --{what} ... "
                    "(RenoiseProbe and ExcessError look at the finished picture and hold for every one)"
                )
        own, here = list(self.log_snrs or ()), [float(level.log_snr) for level in sampling.levels]
        if len(own) != len(here) or not all(map(_close, own, here)):
            raise ValueError(
                f"the calibration of {name} is of {len(own) - 1} steps that end with log-SNR {_ends(own)}, and these are "
                f"{len(here) - 1} that end with {_ends(here)}; a statistic of the trajectory means another thing there: "
                f"calibrate again, sfumato calibrate RUN --filter {name} --steps {len(here) - 1}, with the --grid that you sample on"
            )


def _hash(known: Any) -> str:
    """Of a description as JSON."""
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _close(a: float, b: float) -> bool:
    return a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)


def _ends(log_snrs: Sequence[float]) -> str:
    return ", ".join(f"{v:.3g}" for v in log_snrs[-3:])


@dataclass(frozen=True)
class Calibrated:
    """A filter with the thresholds that `sfumato calibrate` found; it refuses other models, and what else they do not hold for.

    Args:
        calibration: what was found, or the file that it was saved to.
        allow: packages whose classes the file may name (a judge of your own), beside Sfumato's.

    Raises:
        ValueError: for a file that holds none; before sampling, for what the calibration does not hold for.
    """

    calibration: str | Calibration
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.calibration, Calibration):  # the numbers are kept, not where they were
            object.__setattr__(self, "calibration", Calibration.load(self.calibration, self.allow))
        object.__setattr__(self, "allow", ())  # of no more use

    @property
    def _known(self) -> Calibration:
        assert isinstance(self.calibration, Calibration)
        return self.calibration

    @property
    def filter(self) -> Filter:
        """The filter itself."""
        return self._known.filter

    def check(self, sampling: Sampling) -> None:
        """Refuse what the calibration does not hold for (ValueError), and what the filter itself refuses."""
        self._known.check(sampling)
        own = getattr(self.filter, "check", None)
        if own is not None:
            own(sampling)

    def init(self, x: Tensor, levels: Sequence[Level]) -> Any:
        return self.filter.init(x, levels)

    def update(self, memory: Any, step: Step) -> Any:
        return self.filter.update(memory, step)

    def verdict(self, memory: Any) -> Verdict:
        return self.filter.verdict(memory)
