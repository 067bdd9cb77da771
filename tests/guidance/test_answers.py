"""What was asked is paid once, by whatever views of one evaluation."""

from dataclasses import dataclass

import pytest
import torch

from sfumato.guidance import CFG, Adaptive, Ask, Branch, Field, Interval, Rescale
from sfumato.schedules import Level, Prediction, V

LEVEL = Level(0.5, 0.6, 0.8)


@dataclass
class Net:
    """Answers with its condition times x; counts for whom it was asked."""

    sizes: list

    def __call__(self, x, level, condition):
        self.sizes.append(len(x))
        return Prediction(x, level, condition["k"].view(-1, 1).to(x) * x, V())

    def __eq__(self, other):
        return self is other


def ask(net, n):
    x = torch.randn(n, 3, dtype=torch.float64)
    both = {"cond": Branch(net, {"k": torch.full((n,), 2.0)}), "ref": Branch(net, {"k": torch.arange(n) + 3.0})}
    return Ask(both, x, LEVEL, LEVEL, torch.zeros(n, 2, dtype=torch.int64))


def mask(*numbers):
    return torch.tensor(numbers, dtype=torch.bool)


def test_views_of_views_ask_for_those_that_both_want():
    net = Net([])
    whole = ask(net, 4)
    part = whole.only(mask(1, 1, 1, 0)).only(mask(0, 1, 1, 1))
    cond, ref = part("cond", "ref")
    assert net.sizes == [6]
    assert whole.spent.tolist() == [[1, 0], [1, 1], [1, 1], [1, 0]]
    assert torch.equal(cond.out, 2 * whole.x)
    factors = torch.tensor([2.0, 4.0, 5.0, 2.0], dtype=torch.float64)
    assert torch.equal(ref.out, factors.view(-1, 1) * whole.x)


def test_what_a_part_asked_is_known_to_the_whole_and_only_the_rest_is_asked():
    net = Net([])
    whole = ask(net, 4)
    whole.only(mask(0, 1, 1, 0))("cond", "ref")
    assert whole("cond")[0].out is whole("cond")[0].out
    assert net.sizes == [6]
    (ref,) = whole("ref")
    assert net.sizes == [6, 2]
    assert whole.spent.tolist() == [[1, 1]] * 4
    assert torch.equal(ref.out, (torch.arange(4, dtype=torch.float64) + 3).view(-1, 1) * whole.x)
    (again,) = whole.only(mask(1, 0, 0, 0))("ref")  # fewer than are known: the others repeat cond
    assert net.sizes == [6, 2]
    assert torch.equal(again.out, torch.tensor([3.0, 2.0, 2.0, 2.0]).view(-1, 1) * whole.x)
    (none,) = whole.only(mask(0, 0, 0, 0))("ref")
    assert torch.equal(none.out, 2 * whole.x)


def test_disjoint_parts_join():
    net = Net([])
    whole = ask(net, 3)
    whole.only(mask(1, 0, 0))("ref")
    (ref,) = whole.only(mask(0, 1, 0))("ref")
    assert net.sizes == [4, 1]
    assert torch.equal(ref.out, torch.tensor([2.0, 4.0, 2.0]).view(-1, 1) * whole.x)
    assert whole.spent.tolist() == [[1, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize(
    "rule",
    [Rescale(CFG([1.0, 3.0, 1.0])), Adaptive(CFG([1.0, 3.0, 1.0]), 2.0), Interval(Rescale(CFG([1.0, 3.0, 1.0])))],
    ids=lambda r: type(r).__name__,
)
def test_rules_around_a_scale_per_picture_pay_once(rule):
    net = Net([])
    n = 3
    both = {"cond": Branch(net, {"k": torch.full((n,), 2.0)}), "ref": Branch(net, {"k": torch.arange(n) + 3.0})}
    field = Field(both, rule, n)
    field(torch.randn(n, 3, dtype=torch.float64), LEVEL)
    assert field.spent.tolist() == [[1, 0], [1, 1], [1, 0]]
    assert net.sizes == [4]


def test_adaptive_stops_the_samples_of_an_interval_apart():
    """Levels per sample, two of four inside: the stopped one of them, and those outside, cost nothing more."""
    net, n = Net([]), 4
    k = torch.tensor([2.0, 2.0, 9.0, 9.0])  # ref points where cond does in all: cosine 1 or less in v, by sign
    both = {
        "cond": Branch(net, {"k": torch.full((n,), 2.0)}),
        "ref": Branch(net, {"k": k * torch.tensor([1.0, -1, 1, -1])}),
    }
    sigma = torch.tensor([[0.5], [0.5], [0.1], [0.1]], dtype=torch.float64)
    level = Level(0.5, (1 - sigma**2).sqrt(), sigma)
    field = Field(both, Interval(Adaptive(CFG(2.0), 0.5, space=V()), 0.3, 1.0), n)
    x = torch.randn(n, 3, dtype=torch.float64)
    for steps in (1, 2, 3):
        field.begin(level)
        field(x, level)
        assert field.spent.tolist() == [[steps, 1], [steps, steps], [steps, 0], [steps, 0]]
