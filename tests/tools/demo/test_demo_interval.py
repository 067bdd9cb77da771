"""What the interval says before anything is sampled is what is spent then."""

from dataclasses import replace

import pytest
from modelled import made

from sfumato.guidance import CFG, Adaptive, Interval, Rescale
from sfumato.tools.demo.form import Form, asked, chosen
from sfumato.tools.demo.interval import interval_props
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.sheet import _alike

LIMITS = Limits()
FORM = Form(steps=5, seeds="1", count=2)


def told(model, form):
    sampler, grid, rule = chosen(form, model)
    return interval_props(model, sampler, grid, form.steps, rule, form.limited, _alike(form, 10, False))


def spent(model, form):
    found = model.sample(**asked(form, model, LIMITS).arguments()).evaluations.sum(1)
    assert len(set(found.tolist())) == 1
    return int(found[0])


def test_an_interval_of_the_models_own_counts_where_the_forms_does_not():
    low, high = -5.0, 3.0
    model = made(guidance=Interval(CFG(2.0), low, high, unit="log_snr"))
    props = told(model, FORM)
    inside = [low <= tick < high for tick in props["ticks"]]
    assert props["own"] == inside
    assert 0 < sum(inside) < 5
    costs = zip(props["guided"], props["plain"], inside, strict=True)
    assert spent(model, FORM) == sum(a if on else b for a, b, on in costs)
    # the form's own gives way to nothing
    assert told(model, replace(FORM, limited=True))["on"]
    assert told(model, replace(FORM, rule="none", limited=True)) | {"ticks": []} == {
        **told(model, replace(FORM, rule="none")), "ticks": [], "own": [False] * 5, "on": False,
    }  # fmt: skip


@pytest.mark.parametrize(("labels", "negative"), [("none", ""), ("3", "3"), ("3", "4"), ("none", "3"), ("3,4", "3")])
def test_what_is_steered_from_itself_is_asked_once(labels, negative):
    form = replace(FORM, rule="CFG", labels=labels, negative=negative)
    props = told(made(), form)
    assert sum(props["guided"]) == spent(made(), form) == (5 if labels == (negative or "none") else 10)


@pytest.mark.parametrize(
    "rule", [Adaptive(CFG(2.0), -1.0), Rescale(Adaptive(CFG(2.0), -1.0))], ids=["itself", "within"]
)
def test_a_rule_that_stops_costs_at_most_what_is_said(rule):
    model = made(guidance=rule)
    props = told(model, FORM)
    assert props["most"]
    assert sum(props["guided"]) == 10
    assert spent(model, FORM) == 6
    assert not told(made(), replace(FORM, rule="CFG"))["most"]


def test_thresholds_are_those_of_the_filters_in_their_order():
    form = replace(FORM, filters=("path length", "PathLength(last=2)", "trajectory variance"), threshold="0.5, 0.25")
    found = asked(form, made(), LIMITS).filters
    assert [(type(f).__name__, f.threshold) for f in found] == [
        ("PathLength", 0.5), ("PathLength", float("inf")), ("TrajectoryVariance", 0.25),
    ]  # fmt: skip
