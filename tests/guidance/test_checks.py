"""What rules refuse when they are made, and what a field refuses of a rule's answer."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from guided import Net, branches

from sfumato.guidance import APG, CFG, Adaptive, CFGPlusPlus, Field, Interval, LinearPlan, Mix, Rescale, Threshold
from sfumato.schedules import X0, Level

LEVEL = Level(0.5, 0.6, 0.8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Interval(0.2, 2.0), r"Interval.rule is 0.2; allowed: a guidance rule, such as CFG\(3.0\), before the numbers"),
        (lambda: Adaptive(CFG), "Adaptive.rule is the class CFG; allowed: a guidance rule"),
        (lambda: Rescale(7.5), "Rescale.rule is 7.5; allowed: a guidance rule"),
        (lambda: Threshold(2.0), "Threshold.rule is 2.0; allowed: a guidance rule"),
        (lambda: Interval(CFG(), "0.2"), "Interval.low is '0.2'; allowed: a number"),
        (lambda: Interval(CFG(), high=True), "Interval.high is True; allowed: a number"),
        (lambda: Adaptive(threshold="0.9"), "Adaptive.threshold is '0.9'; allowed: a number from -1 on"),
        (lambda: Adaptive(threshold=-2), "Adaptive.threshold is -2; allowed: a number from -1 on"),
        (lambda: Adaptive(threshold=float("nan")), "Adaptive.threshold is nan; allowed: a number from -1 on"),
        (lambda: Adaptive(against="cond"), "Adaptive.against is 'cond'; allowed: the name of a branch other than 'cond'"),
        (lambda: Adaptive(space=X0), r"Adaptive.space is the class X0; allowed: a row, such as X0\(\)"),
        (lambda: APG(space="x0"), r"APG.space is 'x0'; allowed: a row"),
        (lambda: APG(norm="5"), "APG.norm is '5'; allowed: a number"),
        (lambda: CFG(against=3), "CFG.against is 3; allowed: the name of a branch"),
        (lambda: CFG(against=""), "CFG.against is ''; allowed: the name of a branch"),
        (lambda: Rescale(phi=None), r"Rescale.phi is None; allowed: 0 \(not at all\) to 1 \(wholly\)"),
        (lambda: Threshold(quantile="0.9"), "Threshold.quantile is '0.9'; allowed: a number above 0"),
        (lambda: Mix({1: 2.0}), r"Mix.weights is \{1: 2.0\}; allowed: finite numbers by branch"),
        (lambda: Mix([("cond", 3)]), r"Mix.weights is \[\('cond', 3\)\]; allowed: finite numbers by branch"),
        (lambda: Mix(against=""), "Mix.against is ''; allowed: the name of a branch"),
        (lambda: CFG(np.ones(2)), r"ndarray: give float\(...\) or .tolist\(\)\); allowed: a finite number"),
        (lambda: CFG(torch.ones(2)), r"Tensor: give float\(...\) or .tolist\(\)\); allowed: a finite number"),
        (lambda: CFG(range(3)), r"CFG.scale is range\(0, 3\); allowed: a finite number"),
        (lambda: CFGPlusPlus([0.3, 1.6]), r"CFGPlusPlus.scale is \[0.3, 1.6\]; allowed: 0 to 1 per step"),
        (lambda: LinearPlan(2.0, [None], [1.0], space="Eps"), "LinearPlan.space is 'Eps'; allowed: a row"),
    ],
)  # fmt: skip
def test_values_that_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_default_strength_of_cfg_plus_plus_is_that_of_its_unit():
    assert CFGPlusPlus().scale == 0.6
    assert CFGPlusPlus(per="noise").scale == 3.0


@dataclass(frozen=True)
class Answers:
    """Returns what a mistaken rule would."""

    kind: str

    def init(self, x):
        return ()

    def __call__(self, ask, memory):
        cond = ask("cond")
        return {"alone": cond[0], "tuple": (cond, memory), "three": (cond[0], memory, 1)}[self.kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("alone", r"Answers returned \(Prediction\); a guidance rule returns \(Prediction, memory\)"),
        ("three", r"Answers returned \(Prediction, tuple, int\); a guidance rule returns"),
        ("tuple", r'Answers answered with a tuple; .* ask\(...\) returns a tuple: \(cond,\) = ask\("cond"\)'),
    ],
)
def test_what_a_rule_returns_is_checked(kind, words):
    with pytest.raises(ValueError, match=words):
        Field(branches(Net(), 2), Answers(kind), 2)(torch.zeros(2, 1), LEVEL)
