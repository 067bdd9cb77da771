"""Guidance through the sampling API: what is refused before a network runs, and what is warned of."""

import warnings

import pytest
import torch
from modelled import made, network
from torch import nn

from sfumato.diffusion import Denoiser, Model, TimeClock, UNet, fit_linear
from sfumato.diffusion.fingerprint import fingerprint
from sfumato.guidance import (
    CFG,
    Autoguidance,
    Branch,
    Field,
    Interval,
    LinearAdaptive,
    LinearPlan,
    Mix,
    Plain,
    Rescale,
)
from sfumato.samplers import DDIM, DPMSolverPP
from sfumato.schedules import (
    Eps,
    PairingError,
    RectifiedFlow,
    V,
    karras,
    trailing,
)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"also": {"cond": 3}}, "also names 'cond', which is what labels say"),
        ({"also": {"ref": 3}}, "also names 'ref', which is the null class"),
        ({"also": {"weak": 3}}, "also names 'weak', which is the network that weak= gives"),
        ({"also": {"negative": 10}}, r"also\['negative'\]: label 10; allowed: 0 to 9"),
        ({"also": {"negative": [1, 2, 3]}}, r"also\['negative'\]: 3 labels for 2 seeds"),
        ({"also": {"negative": 2.5}}, r"also\['negative'\]: labels is 2.5; allowed: a list"),
        ({"also": 7}, "also is 7; allowed: what a further branch says, by its name"),
        ({"also": {7: 7}}, "also names 7; allowed: the name of a branch"),
        ({"guidance": Autoguidance()}, r"asks for branch 'weak'.*weak=load"),
        ({"guidance": CFG(2.0, "negative")}, r"asks for branch 'negative'.*also="),
        ({"guidance": CFG(2.0, "negativ"), "also": {"negative": 1}}, r"did you mean 'negative'\?"),
        ({"guidance": Mix({"cnd": 2.0})}, r"did you mean 'cond'\?"),
        ({"guidance": CFG([1.0, 2.0, 3.0])}, r"CFG.scale has 3 numbers for 2 picture\(s\)"),
        ({"weak": "runs/small"}, "weak is 'runs/small'; allowed: a Model"),
        ({"weak": made(classes=3)}, "weak has 3 classes, the model 10"),
        ({"weak": Model(made(1).denoiser, (1, 16, 16), 10)}, "weak makes samples of 1 x 16 x 16, the model of 1 x 8 x 8"),
        ({"weak": Denoiser(network(1, size=16), RectifiedFlow(), V(), TimeClock())}, "weak makes samples of 1 x 16 x 16"),
        ({"weak": made(1, null_class=False)}, "weak was trained with label_dropout 0"),
    ],
)  # fmt: skip
def test_refusals_come_before_the_network_is_asked(model, arguments, said, monkeypatch):
    monkeypatch.setattr(model.denoiser.backbone, "forward", lambda *a, **k: pytest.fail("the network was asked"))
    with pytest.raises(ValueError, match=said):
        model.sample([0, 1], **arguments)


def test_a_weak_network_of_another_device_is_refused(model):
    weak = made(1)
    weak.denoiser.to("meta")
    with pytest.raises(ValueError, match="weak is on meta, the model on cpu"):
        model.sample([0], [1], guidance=Autoguidance(2.0), weak=weak)


def test_a_rule_in_an_interval_is_refused_before_the_interval_begins(model, monkeypatch):
    monkeypatch.setattr(model.denoiser.backbone, "forward", lambda *a, **k: pytest.fail("the network was asked"))
    with pytest.raises(ValueError, match="asks for branch 'negative'"):
        model.sample([0], [1], guidance=Interval(CFG(2.0, "negative"), high=0.5))
    plan = LinearPlan(2.0, [None] * 6, [level.ratio for level in karras(RectifiedFlow(), 6)[:-1]])
    with pytest.raises(ValueError, match="sample with the steps and grid of the plan"):
        model.sample([0], [1], guidance=LinearAdaptive(plan), steps=5)


def test_a_space_that_says_nothing_is_refused_before_the_network_is_asked(monkeypatch):
    model = made(row=V())
    monkeypatch.setattr(model.denoiser.backbone, "forward", lambda *a, **k: pytest.fail("the network was asked"))
    with pytest.raises(PairingError, match=r"Rescale.space is Eps\(\)"):
        model.sample([0], [1], guidance=Rescale(CFG(2.0), space=Eps()), grid=trailing)


def test_what_is_never_asked_is_said(model):
    with pytest.warns(UserWarning, match=r"negative was given, but CFG.* never asks for it"):
        model.sample([0], [1], guidance=CFG(2.0), also={"negative": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample([0], [1], guidance=CFG(2.0, "negative"), also={"negative": 3})


def test_models_without_a_null_class():
    sure = made(null_class=False)
    out = sure.sample([0], [1], guidance=CFG(2.0, "negative"), also={"negative": 3})
    assert out.branches == ("cond", "negative")
    assert out.evaluations.tolist() == [[6, 6]]
    with pytest.raises(ValueError, match=r"also\['negative'\]: this model was trained with label_dropout 0"):
        sure.sample([0], [1], guidance=CFG(2.0, "negative"), also={"negative": None})
    plain = made(classes=0)
    with pytest.raises(ValueError, match="also gives labels of 'negative', but this model was trained without classes"):
        plain.sample([0], also={"negative": 3})
    with pytest.raises(ValueError, match="steers away from 'ref'"):
        plain.sample([0], guidance=CFG(2.0))
    assert plain.sample([0], guidance=Autoguidance(2.0), weak=made(1, classes=0)).evaluations.tolist() == [[6, 6]]


@pytest.mark.parametrize("condition", [None, {}, {"label": torch.zeros(1, dtype=torch.int64)}])
def test_a_missing_condition_is_named(model, condition):
    field = Field({"cond": Branch(model.denoiser, condition)}, Plain(), 1)
    with pytest.raises(ValueError, match=r"lacks labels, which UNet needs; it takes labels; give .*10 for the null"):
        field(torch.zeros(1, 1, 8, 8), RectifiedFlow()(0.5))


def test_a_condition_that_is_not_taken_is_named():
    plain = made(classes=0).denoiser
    with pytest.raises(
        ValueError, match="condition has labels, and UNet does not take that; it takes nothing; give None"
    ):
        plain(torch.zeros(1, 1, 8, 8), RectifiedFlow()(0.5), {"labels": torch.zeros(1, dtype=torch.int64)})


def test_a_plan_is_of_its_sampler_and_its_weights(model):
    plan = fit_linear(model, range(8), scale=2.0, steps=4, sampler=DPMSolverPP(2), batch=4)
    rule = LinearAdaptive(plan)
    model.sample(range(2), [1, 2], steps=4, sampler=DPMSolverPP(2), guidance=rule)
    for sampler in (DDIM(), DPMSolverPP(2, 1.0)):
        with pytest.raises(ValueError, match=r"fitted with the sampler DPMSolverPP\(order=2, eta=0.0.*, and this is D"):
            model.sample(range(2), [1, 2], steps=4, sampler=sampler, guidance=Rescale(rule))
    with torch.no_grad():
        weight = next(model.denoiser.parameters())
        weight.add_(1e-3)
        with pytest.raises(ValueError, match="was fitted with other weights than these"):
            model.sample(range(2), [1, 2], steps=4, sampler=DPMSolverPP(2), guidance=rule)
        weight.sub_(1e-3)
    assert fingerprint(nn.Linear(2, 2)) != fingerprint(nn.Linear(2, 2))
    one = nn.Linear(2, 2)
    other = nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"guidance": CFG(3.0)}, "no labels were given, so cond and ref say the same"),
        # the grid ends within it, but no step begins there
        ({"guidance": Interval(CFG(3.0), None, 1e-6), "labels": [1, 2]}, "nothing is guided: no step begins within Interval"),
        ({"guidance": Interval(CFG(3.0), 500.0, 600.0), "labels": [1, 2]}, "nothing is guided: no step begins within Interval"),
    ],
)  # fmt: skip
def test_guidance_that_does_nothing_is_said(model, arguments, words):
    with pytest.warns(UserWarning, match=words) as seen:
        out = model.sample(range(2), steps=3, **arguments)
    assert [w.filename for w in seen] == [__file__]  # where it was asked for
    assert int(out.evaluations[:, 1].sum()) == 0


def test_a_weak_network_of_the_same_weights_is_said(model):
    twin = Denoiser(
        UNet(**model.denoiser.backbone.config), model.denoiser.schedule, model.denoiser.row, model.denoiser.clock
    )
    twin.load_state_dict(model.denoiser.state_dict())
    with pytest.warns(UserWarning, match="weak has the very weights of the model"):
        model.sample(range(2), [1, 2], steps=3, guidance=Autoguidance(2.0), weak=twin)
    with torch.no_grad():
        next(twin.parameters()).add_(1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample(range(2), [1, 2], steps=3, guidance=Autoguidance(2.0), weak=twin)
