"""Measuring sets of pictures against one reference, which is looked at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...schedules import check_seeds
from ..launch import Processes
from .as_pictures import Measurable, as_pictures, check_shapes
from .evaluation import Evaluation
from .extractor import Extractor, identity
from .frechet import Moments, moments
from .measures import MEASURES
from .pictures import Pictures
from .question import Answer, Question, Side
from .real_parts import Beside, beside_held_out, question_of_parts, real_parts
from .record import record
from .spread import Spread
from .statistics import save_statistics, statistics_of
from .usual import classes_of

__all__ = ["Evaluator"]

_CHOICES, _FEW = 5, 5000


class Evaluator:
    """Measures of pictures against a reference.

    Args: see `evaluate`; `extractor` is given here.

    Raises:
        ValueError: see `evaluate`.
    """

    def __init__(
        self, reference: Measurable | Moments | None, extractor: Extractor, *, measures: Sequence[str] | None = None,
        classifier: Extractor | None = None, training: Measurable | None = None, held_out: Measurable | None = None, k: int = 5,
        batch: int = 64, seed: int = 0, device: str = "cpu", processes: Processes | None = None, progress: bool = False,
        size: int | Sequence[int] | None = None, channels: int | None = None,
    ) -> None:  # fmt: skip
        check_seeds([seed])
        for name, value in (("batch", batch), ("k", k)):
            if value < 1:
                raise ValueError(f"{name} is {value}; allowed: >= 1")
        self.names = _checked(measures)
        self._processes, self._progress, self._batch, self._device = processes, progress, batch, device
        self._last: tuple[str, Moments | None] = "", None
        self._parts: dict[int, dict[str, Beside]] = {}
        self._seed, self._k, self._size, self._channels = seed, k, size, channels
        self._extractor, self._classifier = _placed(extractor, device), _placed(classifier, device)
        self.statistics, self._unsaid = statistics_of(reference, self._extractor)
        self.reference = None if reference is None or self.statistics else self._pictures(reference, "reference")
        self.training = self.reference if training is None else self._pictures(training, "training")
        self.held_out = None if held_out is None else self._pictures(held_out, "held_out")

    def _pictures(self, given: Any, name: str) -> Pictures:
        try:
            return as_pictures(given, self._size, self._channels)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _side(self, pictures: Pictures, about: str, labels: bool) -> Side:
        """What is seen of pictures, in one pass."""
        from .collect import collect  # torchmetrics, which takes a second to import

        extractors = [self._extractor, *([] if self._classifier is None else [self._classifier])]
        seen, light = collect(
            pictures, extractors, batch=self._batch, device=self._device, processes=self._processes, progress=self._progress, about=about,
        )  # fmt: skip
        return Side(seen[0].features, seen[-1].logits, pictures.classes() if labels else None, light)

    @cached_property
    def _real(self) -> Side | None:
        if self.reference is None:
            return None
        return _with_moments(self._side(self.reference, "looking at the reference", "accuracy" in self.names))

    @cached_property
    def _trained(self) -> Side | None:
        """The training pictures, where memorisation is asked about."""
        if self.training is None or "memorised" not in self.names:
            return None
        if self.reference is not None and self.training.fingerprint == self.reference.fingerprint:
            return self._real
        return self._side(self.training, "looking at the training pictures", False)

    @cached_property
    def _held(self) -> Side | None:
        if self.held_out is None or "memorised" not in self.names:
            return None
        return self._side(self.held_out, "looking at what was held out", False)

    def _beside(self, asked: Question, found: Mapping[str, Answer]) -> dict[str, Beside]:
        """What real pictures reach against others, in as many pictures as were asked about."""
        if self._real is None or len(self._real) < 4:
            return {}
        count = min(len(asked.fake), len(self._real) // 2)
        if count not in self._parts:
            # of few pictures one choice says little, and of many one is enough
            each: list[dict[str, Answer]] = []
            for choice in range(_CHOICES if len(self._real) <= _FEW else 1):
                fake, real = map(_with_moments, real_parts(self._real, count, self._seed, choice))
                each.append(self._asked(question_of_parts(fake, real, asked))[0])
            spreads = {name: Spread(tuple(answers[name].value for answers in each)) for name in each[0]}
            rest = len(self._real) - count
            self._parts[count] = {
                name: Beside(s.mean, count, rest, s.std if len(each) > 1 else None) for name, s in spreads.items()
            }
        return self._parts[count] | beside_held_out(found, asked)

    def _asked(self, q: Question) -> tuple[dict[str, Answer], dict[str, str]]:
        """Answers, and why there is none; the main process computes them and tells the others."""
        others, error, text = self._processes, None, ""
        if others is None or others.main:
            try:
                found, missing = self._answered(q)
            except (ValueError, ArithmeticError, RuntimeError) as wrong:
                if others is None:
                    raise
                error = wrong
            else:
                if others is None:
                    return found, missing
                text = json.dumps([{name: a._asdict() for name, a in found.items()}, missing])
        assert others is not None
        others.agree(error)
        told = json.loads(others.tell(text))
        return {name: Answer(**a) for name, a in told[0].items()}, told[1]

    def _answered(self, q: Question) -> tuple[dict[str, Answer], dict[str, str]]:
        found: dict[str, Answer] = {}
        missing: dict[str, str] = {}
        for name in self.names:
            measure = MEASURES[name]
            if name in found:
                continue
            if reason := measure.lacks(q):
                missing[name] = reason
                continue
            found |= {key: answer for key, answer in measure.ask(q).items() if key in self.names}
        return found, missing

    def check(self, shape: Sequence[int] | None) -> None:
        """Refuse pictures of a shape before they are made.

        Args:
            shape: (C, H, W), or None: not known yet.

        Raises:
            ValueError: for another than that of the reference.
        """
        for name, other in (("reference", self.reference), ("training", self.training), ("held_out", self.held_out)):
            if shape is not None and other is not None:
                check_shapes(shape, name, other)

    def of(self, pictures: Measurable) -> Evaluation:
        """Measure pictures.

        Args:
            pictures: of the reference's shape.

        Raises:
            ValueError: for another shape, fewer than two, and where an extractor refuses them.
        """
        own = self._pictures(pictures, "pictures")
        self.check(own.shape)
        if len(own) < 2:
            raise ValueError(
                f"there is {len(own)} picture; allowed: at least 2, of which a mean and a spread can be had"
            )
        fake = _with_moments(self._side(own, "looking at the pictures", "accuracy" in self.names))
        real = self._real
        self._last = own.fingerprint, fake.moments
        question = Question(
            fake, real, self.statistics if real is None else real.moments, None if self._trained is None else self._trained.features,
            None if self._held is None else self._held.features, classes_of(own, self.reference), self._seed, self._k, True,
        )  # fmt: skip
        found, missing = self._asked(question)
        who = identity(self._extractor)
        told = who if self._classifier is None else identity(self._classifier)
        settings = {"seed": self._seed, "k": self._k, "batch": self._batch}
        settings["processes"] = 1 if self._processes is None else self._processes.count
        return record(
            own,
            question,
            found,
            missing,
            self._beside(question, found),
            who,
            told,
            self.reference,
            self.training,
            settings,
            self._unsaid,
        )

    def save(self, path: str | Path, pictures: Measurable) -> Moments:
        """Write the statistics of pictures, which `pytorch-fid` reads too.

        Args:
            path: of the .npz.
            pictures: whose.
        """
        own = self._pictures(pictures, "pictures")
        known, found = self._last
        if found is None or known != own.fingerprint:
            found = moments(self._side(own, "looking at the pictures", False).features)
        if self._processes is None or self._processes.main:
            save_statistics(Path(path), found, self._extractor, own)
        return found


def _with_moments(side: Side) -> Side:
    return replace(side, moments=moments(side.features))


def _placed(extractor: Any, device: str) -> Any:
    return extractor.to(device) if isinstance(extractor, torch.nn.Module) else extractor


def _checked(measures: Sequence[str] | None) -> list[str]:
    """The names of measures, in the order of reports."""
    if measures is None:
        return list(MEASURES)
    if isinstance(measures, str):
        raise ValueError(f"measures is {measures!r}; allowed: a list of names, such as [{measures!r}]")
    for name in measures:
        if name not in MEASURES:
            near = get_close_matches(name, MEASURES, 1, 0.5)
            raise ValueError(
                f"measures has {name!r}; allowed: {', '.join(MEASURES)}{f'; did you mean {near[0]}?' if near else ''}"
            )
    return [name for name in MEASURES if name in measures]
