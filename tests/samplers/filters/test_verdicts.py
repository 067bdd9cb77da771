"""Verdicts: bounds, nan, reasons, and what no verdict may look like."""

import math
from dataclasses import dataclass

import pytest
import torch

from sfumato.samplers.filters import Judged, Verdict
from sfumato.samplers.filters.filter import bounded, check_verdict


def test_bounds_belong_to_what_is_kept_and_nan_does_not():
    verdict = bounded(torch.tensor([0.5, 1.0, 2.0, 2.5, math.nan, math.inf]), 2.0, 1.0)
    assert verdict.keep.tolist() == [False, True, True, False, False, False]
    assert verdict.reasons == [
        "score 0.5 is below 1", "", "", "score 2.5 is above 2", "no number", "score inf is above 2"
    ]  # fmt: skip
    assert bounded(torch.tensor([math.inf, -math.inf, math.nan]), math.inf).keep.tolist() == [True, True, False]


def test_a_verdict_gets_the_name_of_its_filter_and_a_reason_for_all_that_was_rejected():
    keep, score = torch.tensor([True, False, False, True]), torch.tensor([1, 2, 3, 4])
    given = check_verdict(Named(), Verdict(keep, score, ["", "too dull", "", "fine"]), 4)
    assert given.reasons == ["", "Named: too dull", "Named: score 3", ""]
    assert given.score.dtype == torch.float32
    assert check_verdict(Named(), Verdict(keep, score), 4).reasons == ["", "Named: score 2", "Named: score 3", ""]


class Named:
    pass


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        ((torch.ones(2, dtype=torch.bool), torch.ones(2)), r"Named.verdict returned a tuple; it must return Verdict"),
        (Verdict(torch.ones(3, dtype=torch.bool), torch.ones(2)), r"returned keep \(3,\); it must be a tensor \(2,\)"),
        (Verdict(torch.ones(2, dtype=torch.bool), torch.ones(2, 1)), r"returned score \(2, 1\); it must be a tensor"),
        (Verdict([True, True], torch.ones(2)), r"returned keep list; it must be a tensor"),
        (Verdict(torch.ones(2), torch.ones(2)), r"returned keep of torch.float32; it must be torch.bool"),
        (Verdict(torch.ones(2, dtype=torch.bool), torch.ones(2), ["a"]), r"returned 1 reasons for 2 samples"),
    ],
)
def test_what_is_no_verdict_is_refused_by_name(verdict, message):
    with pytest.raises(ValueError, match=message):
        check_verdict(Named(), verdict, 2)


@dataclass(frozen=True)
class First:
    """Rates a picture by its first number."""

    def rate(self, x0):
        return x0.flatten(1)[:, 0]


@dataclass(frozen=True)
class Answers:
    """Rates with whatever it was given."""

    answer: object

    def rate(self, x0):
        return self.answer


def test_a_judge_rates_finished_pictures():
    x0 = torch.tensor([[0.5, 9.0], [-0.5, 9.0], [1.5, 9.0]])
    judged = Judged(First(), 1.0, 0.0)
    score = judged.score(x0, None, None)
    assert score.tolist() == [0.5, -0.5, 1.5]
    assert judged.verdict(score).keep.tolist() == [True, False, False]
    assert Judged(First()).verdict(score).keep.all()
    whole = Judged(Answers(torch.tensor([1, 2, 3]))).score(x0, None, None)
    assert whole.dtype == torch.float32
    learned = Judged(Answers(torch.ones(3, dtype=torch.float64, requires_grad=True))).score(x0, None, None)
    assert learned.dtype == torch.float64
    assert not learned.requires_grad


def test_what_is_no_judge_is_refused():
    for bad in (First, 3, "mine.Safety"):
        with pytest.raises(ValueError, match=r"allowed: an object with a method rate"):
            Judged(bad)
    with pytest.raises(ValueError, match=r"Judged\(threshold=1.0, least=2.0\); allowed: least <= threshold"):
        Judged(First(), 1.0, 2.0)
    with pytest.raises(ValueError, match="allowed: least <= threshold"):
        Judged(First(), math.nan)
    for answer, shown in ((torch.ones(3, 1), r"\(3, 1\)"), (torch.tensor(1.0), r"\(\)"), ([1.0] * 3, "list")):
        with pytest.raises(ValueError, match=rf"Answers.rate returned {shown} for 3 pictures; it must return \(3,\)"):
            Judged(Answers(answer)).score(torch.ones(3, 2), None, None)
