"""What can be saved of guidance: cosines, thresholds and the fit of LinearAG."""

import math

import pytest
import torch
from torch import nn

from sfumato.diffusion import Cosines, Denoiser, LogSNRClock, Model, TimeClock, UNet, fit_linear, measure_cosines
from sfumato.guidance import CFG, Adaptive, LinearAdaptive, Plain
from sfumato.samplers import DDIM, AdaptiveStep, Heun
from sfumato.samplers.refill import addressed
from sfumato.schedules import EDM, X0, Cosine, RectifiedFlow, karras

LABELS = [0, 1, 2, 3, 4, 5]


def made(classes=10, **rest):
    torch.manual_seed(0)
    net = UNet(channels=1, size=8, num_classes=classes, width=8, multipliers=(1, 2), blocks=1, attention=())
    with torch.no_grad():  # a network that answers something, untrained
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    denoiser = Denoiser(net, RectifiedFlow(), EDM(0.75), LogSNRClock())
    return Model(denoiser, (1, 8, 8), classes, steps=6, grid=karras, **rest)


@pytest.fixture(scope="module")
def model():
    return made()


def same(a, b, atol=1e-5):
    return torch.allclose(a.images, b.images, atol=atol)


def test_the_threshold_saves_what_was_asked_exactly(model):
    cosines = measure_cosines(model, range(20), scale=2.0, batch=7)
    labels = [i % 10 for i in range(20)]
    for least in (1, 2):
        threshold = cosines.threshold("x0", 0.2, least)
        out = model.sample(range(20), labels, guidance=Adaptive(CFG(2.0), threshold, X0(), least))
        assert int(out.evaluations[:, 0].sum()) == 20 * 6
        assert int(out.evaluations.sum()) == round(20 * 12 * (1 - 0.2))
        assert int(out.evaluations[:, 1].min()) >= least


def test_cosines_are_those_of_the_branches(model):
    """In the first step x is noise, and the cosine is that of two calls by hand."""
    cosines = measure_cosines(model, range(4), [3, 1, 4, 1], scale=2.0)
    level = karras(RectifiedFlow(), 6)[0]
    x = level.sigma * addressed(torch.arange(4), torch.zeros(4, dtype=torch.int64), (1, 8, 8))(-1, 0)
    with torch.no_grad():
        cond = model.denoiser(x, level, {"labels": torch.tensor([3, 1, 4, 1])})
        ref = model.denoiser(x, level, {"labels": torch.full((4,), 10)})
    for name, a, b in (("x0", cond.x0, ref.x0), ("eps", cond.eps, ref.eps)):
        by_hand = nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))
        assert torch.allclose(cosines.values[name][0].float(), by_hand, atol=1e-5)
    assert {name: v.shape for name, v in cosines.values.items()} == dict.fromkeys(("x0", "eps", "v"), (6, 4))


def test_thresholds_of_known_cosines():
    values = torch.tensor([[0.1, 0.2], [0.5, 0.3], [0.4, 0.9], [0.99, 0.99]], dtype=torch.float64)
    cosines = Cosines({"x0": values, "eps": values * math.nan}, 2.0)
    # the running maxima of the first three steps are .9 .5 .5 .3 .2 .1
    assert cosines.threshold("x0", 1 / 16) == pytest.approx(0.7)
    assert cosines.threshold("x0", 3 / 16) == pytest.approx(0.4)
    assert cosines.threshold("x0", 5 / 16) == pytest.approx(0.15)
    assert cosines.threshold("x0", 1 / 16, least=3) == pytest.approx(0.65)
    assert cosines.spread("x0")[0] == pytest.approx((0.15, 0.105, 0.195))
    with pytest.raises(ValueError, match=r"save is 0.4; allowed: above 0 and below 0.375"):
        cosines.threshold("x0", 0.4)
    with pytest.raises(ValueError, match="in eps the branches can't be compared"):
        cosines.threshold("eps", 0.2)


@pytest.mark.parametrize("second_half", ["replace", "plain"])
def test_the_plan_of_the_paper(model, second_half):
    """Of 6 steps the first and third ask; chunks change nothing."""
    plan = fit_linear(model, range(20), scale=2.0, second_half=second_half, batch=7)
    assert plan.evaluations == 8
    kinds = ["ask" if entry is None else "replace" if entry else "plain" for entry in plan.steps]
    assert kinds == ["ask", "replace", "ask", *[second_half] * 3]
    out = model.sample(range(30, 36), LABELS, guidance=LinearAdaptive(plan))
    assert out.evaluations.tolist() == [[6, 2]] * 6
    whole = fit_linear(model, range(20), scale=2.0, second_half=second_half, batch=1000)
    assert same(out, model.sample(range(30, 36), LABELS, guidance=LinearAdaptive(whole)), atol=1e-3)
    if second_half == "replace":
        full = model.sample(range(30, 36), LABELS, guidance=CFG(2.0))
        plain = model.sample(range(30, 36), LABELS, guidance=Plain())
        assert (out.images - full.images).norm() < (plain.images - full.images).norm()


def test_the_network_sees_no_more_than_a_batch(model, monkeypatch):
    seen, forward = [], model.denoiser.backbone.forward

    def watched(x, time, labels):
        seen.append(len(x))
        return forward(x, time, labels)

    monkeypatch.setattr(model.denoiser.backbone, "forward", watched)
    fit_linear(model, range(10), scale=2.0, batch=7)
    assert seen == [7, 7, 6] * 6  # both branches of ten trajectories


def test_the_fit_is_exact_where_the_reference_is_linear_in_what_was_seen():
    """Each branch a multiple of x, one for all classes: the sums reproduce full guidance."""

    class Linear(nn.Module):
        num_classes = 2

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.8, 0.8, 0.3]))

        def forward(self, x, time, labels):
            return self.w[labels].view(-1, 1, 1, 1) * x

    linear = Model(Denoiser(Linear(), Cosine(), X0(), TimeClock()), (1, 4, 4), 2, steps=8, grid=karras, sampler=DDIM())
    plan = fit_linear(linear, range(10), scale=2.0)
    a = linear.sample(range(100, 104), [0, 1, 0, 1], guidance=LinearAdaptive(plan))
    b = linear.sample(range(100, 104), [0, 1, 0, 1], guidance=CFG(2.0))
    assert same(a, b, atol=1e-4)
    assert a.evaluations.sum(1).tolist() == [10] * 4


@pytest.mark.parametrize("of", [measure_cosines, fit_linear])
def test_refusals_of_calibration(of, model):
    with pytest.raises(ValueError, match="was trained without classes, so it knows no null class"):
        of(made(classes=0))
    with pytest.raises(ValueError, match="was trained with label_dropout 0, so it knows no null class"):
        of(made(null_class=False))
    with pytest.raises(ValueError, match="scale is 1, which asks one branch only"):
        of(model, scale=1.0)
    with pytest.raises(ValueError, match="batch is 0"):
        of(model, batch=0)
    with pytest.raises(ValueError, match="seeds is empty"):
        of(model, [])


def test_refusals_of_the_fit(model):
    with pytest.raises(ValueError, match="sampler that asks once per step"):
        fit_linear(model, range(4), sampler=Heun())
    with pytest.raises(ValueError, match="sampler that asks once per step"):
        fit_linear(model, range(4), sampler=AdaptiveStep())
    with pytest.raises(ValueError, match="second_half is 'both'; allowed: 'replace', 'plain'"):
        fit_linear(model, range(4), second_half="both")


def test_cosines_are_one_per_step_and_the_network_is_left_as_it_was():
    torch.manual_seed(0)
    net = UNet(channels=1, size=8, num_classes=3, width=8, multipliers=(1, 2), blocks=1, attention=())
    model = Model(Denoiser(net, RectifiedFlow(), EDM(0.75), LogSNRClock()), (1, 8, 8), 3, steps=4, grid=karras)
    model.denoiser.train()
    found = measure_cosines(model, range(5), scale=2.0, steps=4, sampler=Heun())
    assert found.values["v"].shape == (4, 5)
    assert model.denoiser.training
