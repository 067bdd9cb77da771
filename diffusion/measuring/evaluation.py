"""Numbers that say how near pictures are to real ones, each with all that it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...schedules.plain_json import to_json

__all__ = ["Evaluation", "Measured"]


@dataclass(frozen=True)
class Measured:
    """A number.

    Args:
        name: of the measure, as `measures` takes it.
        label: how it is called in print; below 10,000 pictures the Frechet and kernel distances say of how many: "FID@1000".
        value: the number.
        better: "lower" or "higher"; "" where neither is.
        n: of how many pictures.
        n_reference: against how many; None: it needs no reference, or of how many is not known.
        error: a standard error of the value, where the measure can say.
        low, high: a confidence interval, likewise.
        real: the same measure of some real pictures against others, as good as data are; None: not known. Of memorisation: of those that
            were held out, if some were.
        real_n, real_n_reference: how many pictures these are, and how many the others: as near to `n` and `n_reference` as the reference
            has them.
        real_std: standard deviation of `real` over five random choices of these pictures, of which it is the mean; None: there was one.
        about: what it says, in a sentence.
    """

    name: str
    label: str
    value: float
    better: str
    n: int
    n_reference: int | None = None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    real: float | None = None
    real_n: int | None = None
    real_n_reference: int | None = None
    real_std: float | None = None
    about: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a set of pictures, and what all of it depends on.

    Args:
        numbers: in the order of MEASURES.
        missing: measure -> why it can't be had.
        extractor: who looked, see `identity`.
        classifier: who told classes, likewise; None: nobody.
        pictures: count, shape, fingerprint and made (see `how_made`).
        reference: count, shape, fingerprint and what it is; {} without one.
        training: likewise, the pictures that memorisation was looked for among; {} for none.
        settings: of the measuring: seed, k, batch, processes.
        versions: of sfumato and torch.
        remarks: what must be known to read the numbers, in words.
        details: what figures show: brightness, per_class, confusion, suspects.
    """

    numbers: tuple[Measured, ...]
    missing: Mapping[str, str]
    extractor: Mapping[str, Any]
    classifier: Mapping[str, Any] | None
    pictures: Mapping[str, Any]
    reference: Mapping[str, Any]
    training: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    remarks: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Measured:
        """The number of a measure.

        Raises:
            KeyError: with the reason, for one that was not had.
        """
        for number in self.numbers:
            if number.name == name:
                return number
        raise KeyError(f"{name}: {self.missing.get(name, 'it was not asked for')}")

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_json`; numbers that are not finite stay words outside of `numbers`."""
        numbers = tuple(Measured(**{k: _number(v) for k, v in each.items()}) for each in found["numbers"])
        return cls(**{**found, "numbers": numbers, "remarks": tuple(found["remarks"])})


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value
