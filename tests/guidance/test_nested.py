"""Rules within rules are found wherever a dataclass holds them."""

from dataclasses import dataclass, field

from sfumato.guidance import APG, CFG, Interval, Rescale, rules_within
from sfumato.samplers import DDIM, Langevin, PredictorCorrector


@dataclass(frozen=True)
class ByClass:
    """A plug-in with rules in a mapping and in a tuple."""

    rules: dict = field(default_factory=dict)
    more: tuple = ()


def test_rules_are_found_with_the_parts_around_them():
    outer = Interval(Rescale(CFG(2.0)), 0.2)
    assert list(rules_within(outer, CFG)) == [(CFG(2.0), (outer, outer.rule))]
    mine = ByClass({"a": CFG(2.0)}, (APG(3.0), Interval(CFG(4.0))))
    assert [rule for rule, _ in rules_within(mine, CFG)] == [CFG(2.0), CFG(4.0)]
    assert [rule for rule, _ in rules_within(mine, APG)] == [APG(3.0)]
    assert [rule for rule, _ in rules_within(PredictorCorrector(DDIM(), Langevin(), rule=CFG(5.0)), CFG)] == [CFG(5.0)]
    assert list(rules_within(CFG, CFG)) == []
