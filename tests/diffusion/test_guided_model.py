"""Guidance through the sampling API: further branches, a weaker network, scales per picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from modelled import LABELS, made, network, same
from torch import nn

from sfumato.diffusion import Denoiser, LogSNRClock, Model, load, measure_cosines, train
from sfumato.diffusion.branches import OnItsPath
from sfumato.diffusion.chunked import Chunked
from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    CFGPlusPlus,
    Interval,
    LinearAdaptive,
    LinearPlan,
    Mix,
    Plain,
    Rescale,
    for_picture,
)
from sfumato.samplers import DDIM, AdaptiveStep, DPMSolverPP, Heun, PredictorCorrector, trajectory
from sfumato.samplers.filters import TrajectoryVariance
from sfumato.samplers.refill import addressed
from sfumato.schedules import (
    EDM,
    Cosine,
    Level,
    LinearBeta,
    PairingError,
    Prediction,
    RectifiedFlow,
    V,
    VarianceExploding,
    karras,
    trailing,
)
from sfumato.tools.train import recipe_from, resolve_recipe


def test_a_negative_label_without_a_class_is_the_reference(model):
    away = model.sample(range(6), LABELS, guidance=CFG(3.0, "negative"), also={"negative": None})
    assert torch.equal(away.images, model.sample(range(6), LABELS, guidance=CFG(3.0)).images)
    assert away.branches == ("cond", "ref", "negative")
    assert away.evaluations.sum(1).tolist() == [12] * 6


def test_a_negative_label_is_the_reference_of_another_class(model):
    """Away from class 7, which from class 7's own side is a step of weight 3 towards the other labels."""
    out = model.sample(range(6), LABELS, guidance=CFG(3.0, "negative"), also={"negative": 7}, sampler=DDIM())
    assert out.evaluations.tolist() == [[6, 0, 6]] * 6
    turned = Mix({"other": 3.0}, "cond")
    assert same(out, model.sample(range(6), [7] * 6, guidance=turned, also={"other": LABELS}, sampler=DDIM()))
    assert not same(out, model.sample(range(6), LABELS, guidance=CFG(3.0), sampler=DDIM()), atol=1e-2)
    each = model.sample(range(6), LABELS, guidance=CFG(3.0, "negative"), also={"negative": [7] * 6}, sampler=DDIM())
    assert same(out, each)


def test_labels_of_further_branches_follow_their_slot(model):
    """Through small batches and retries, each picture has its own negative label."""
    negative = [9, 8, 7, 6, 5, 4]
    arguments = {"guidance": CFG(2.0, "negative"), "filters": [TrajectoryVariance(low=-3.0)], "retries": 0}
    scores = model.sample(range(6), LABELS, also={"negative": negative}, **arguments).scores[0]
    arguments["filters"] = [TrajectoryVariance(float(scores.median()), low=-3.0)]
    arguments["retries"] = 30
    out = model.sample(range(6), LABELS, also={"negative": negative}, batch=4, **arguments)
    assert (out.attempts > 0).any()
    for i in range(6):
        alone = model.sample([i], [LABELS[i]], also={"negative": negative[i]}, **arguments)
        assert torch.allclose(out.images[i], alone.images[0], atol=1e-4)
        assert out.attempts[i] == alone.attempts[0]
        assert out.settings_of(i)["also"] == {"negative": negative[i]}
    assert out.settings["also"] == {"negative": negative}


def test_mix_of_one_branch_is_cfg_and_two_cost_three_evaluations(model):
    guided = model.sample(range(6), LABELS, guidance=CFG(2.5))
    assert same(model.sample(range(6), LABELS, guidance=Mix({"cond": 2.5})), guided)
    out = model.sample(range(6), LABELS, guidance=Mix({"cond": 2.0, "second": 1.5}), also={"second": 9})
    assert out.evaluations.tolist() == [[6, 6, 6]] * 6
    # two branches that say the same are one, and their weights add up
    twice = model.sample(range(6), LABELS, guidance=Mix({"cond": 1.5, "second": 1.0}), also={"second": LABELS})
    assert twice.evaluations.tolist() == [[6, 6, 0]] * 6
    assert same(twice, guided)


def test_a_weak_network_that_is_the_model_is_no_guidance(model):
    plain = model.sample(range(6), LABELS, guidance=Plain())
    out = model.sample(range(6), LABELS, guidance=Autoguidance(3.0), weak=model)
    assert same(out, plain)
    assert out.evaluations.tolist() == [[6, 0, 0]] * 6  # one network under one condition is asked once
    twin = model.sample(range(6), LABELS, guidance=Autoguidance(3.0), weak=made().denoiser)  # the same weights again
    assert same(twin, plain)
    assert twin.evaluations.tolist() == [[6, 0, 6]] * 6


def test_a_weak_network_is_steered_away_from(model):
    weak = made(1, source={"run": "small", "checkpoint": 200, "ema": True})
    weak.denoiser.train()
    out = model.sample(range(6), LABELS, guidance=Autoguidance(2.0), weak=weak, sampler=DDIM())
    assert weak.denoiser.training  # given back as it was
    assert out.evaluations.tolist() == [[6, 0, 6]] * 6
    settings = out.settings_of(2)["weak"]
    assert {k: settings[k] for k in ("run", "checkpoint", "ema")} == weak.source
    weak.denoiser.eval()
    condition, levels = {"labels": torch.tensor(LABELS)}, karras(RectifiedFlow(), 6)

    def by_hand(x, level):
        a, b = model.denoiser(x, level, condition), weak.denoiser(x, level, condition)
        return Prediction.pair(2 * a.x0 - b.x0, 2 * a.eps - b.eps)

    noise = addressed(torch.arange(6), torch.zeros(6, dtype=torch.int64), (1, 8, 8))
    with torch.no_grad():
        *_, last = trajectory(DDIM(), by_hand, levels, levels[0].sigma * noise(-1, 0))
    assert torch.allclose(out.images, last.x.clamp(-1, 1), atol=1e-4)


class Exact(nn.Module):
    """The denoiser of N(mean, 0.5^2) as the output of a row on a path: one belief, whatever the path. It is told log-SNR."""

    num_classes = 0

    def __init__(self, schedule, row, mean):
        super().__init__()
        self.schedule, self.row = schedule, row
        self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))

    def forward(self, x, time):
        level = self.schedule.at_log_snr(time.double()).like(x.double())
        gain = 0.25 * level.alpha / (0.25 * level.alpha**2 + level.sigma**2)
        x0 = self.mean + gain * (x - level.alpha * self.mean)
        a, b = self.row(level)
        return a * x0 + b * (x - level.alpha * x0) / level.sigma


class LogSNR:
    """Tells the network log-SNR itself."""

    def __call__(self, level):
        return level.log_snr


def exact(schedule, row, mean):
    return Denoiser(Exact(schedule, row, mean), schedule, row, LogSNR())


@pytest.mark.parametrize("schedule", [Cosine(), VarianceExploding(), LinearBeta()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "sampler", [DDIM(), Heun(), DPMSolverPP(2), AdaptiveStep(tolerance=1e-2)], ids=lambda s: type(s).__name__
)
def test_a_weak_network_of_another_path_is_asked_there(schedule, sampler):
    """Data of one Gaussian have one denoiser on all paths, so the weak network of any path gives the same pictures."""
    flow = RectifiedFlow()
    model = Model(exact(flow, EDM(0.5), 0.3), (1, 2, 2), steps=8, grid=karras)
    here, there = exact(flow, EDM(0.5), -0.2), exact(schedule, V(), -0.2)
    rule = Autoguidance(1.5)
    a, b = (model.sample(range(4), guidance=rule, weak=weak, sampler=sampler) for weak in (here, there))
    assert same(a, b, atol=2e-5)
    assert not same(a, model.sample(range(4), sampler=sampler), atol=1e-2)
    assert torch.equal(a.evaluations, b.evaluations)


def test_on_its_path_brings_x_to_its_scale():
    own = OnItsPath(exact(Cosine(), V(), 0.1))
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    for level in (Level(0.5, 0.5, 0.5), Level(0.3, 2.0, 1.0), Level(0.9, 0.01, 3.0)):
        p = own(x, level, None)
        assert p.level.log_snr == pytest.approx(level.log_snr)
        assert torch.allclose(p.x / p.level.sigma, x / level.sigma, atol=1e-12)
        assert torch.allclose(p.x / p.level.alpha, x / level.alpha, atol=1e-10)
    level = Level(1.0, 0.0, 3.0)  # pure noise: sigma alone
    assert own.own(level).alpha < 1e-8
    assert torch.allclose(own(x, level, None).x, x / 3.0, atol=1e-12)


def test_a_weak_path_without_pure_noise_is_refused_there():
    weak = made(1, schedule=VarianceExploding())
    with pytest.raises(PairingError, match="no level of pure noise"):
        made(row=V()).sample([0], [1], guidance=Autoguidance(2.0), weak=weak, grid=trailing)


def test_scales_per_picture_follow_their_slot(model):
    scales = [1.0, 2.0, 4.0, 8.0, 1.0, 3.0]
    watched = TrajectoryVariance(low=-3.0)
    scores = model.sample(range(6), LABELS, guidance=CFG(scales), filters=[watched], retries=0).scores[0]
    middle = float(scores.sort().values[2:4].mean())  # between two scores: at one of them rounding would decide
    filters = [TrajectoryVariance(middle, low=-3.0)]
    for extra in ({}, {"batch": 4}, {"strict": True, "batch": 4}, {"filters": filters, "retries": 4, "batch": 4}):
        out = model.sample(range(6), LABELS, guidance=CFG(scales), **extra)
        assert ("filters" in extra) == bool(((out.attempts > 0) & out.kept).any())
        for i, scale in enumerate(scales):
            alone = model.sample([i], [LABELS[i]], guidance=CFG(scale), **extra)
            assert torch.allclose(out.images[i], alone.images[0], atol=1e-4, equal_nan=True), (extra, i)
            tries = int(out.attempts[i]) + 1
            assert out.evaluations[i].tolist() == [6 * tries, 0 if scale == 1.0 else 6 * tries]
            assert out.evaluations[i].tolist() == alone.evaluations[0].tolist()
            assert out.settings_of(i)["guidance"] == alone.settings_of(0)["guidance"]
    assert out.settings["guidance"]["init_args"]["scale"] == scales


@pytest.mark.filterwarnings("ignore:weak was given")
def test_strict_pictures_do_not_see_which_neighbours_are_guided(model):
    scales = [3.0, 1.0, 2.0, 1.0, 1.0, 4.0]
    cosines = measure_cosines(model, range(6), LABELS, scale=3.0)
    adaptive = Adaptive(CFG(3.0), cosines.threshold("x0", 0.25))
    labels = [*LABELS[:4], None, None]
    for rules in ([CFG(v) for v in scales], [adaptive] * 6, [Autoguidance(v) for v in scales]):
        whole = (
            CFG(scales) if rules[0] == CFG(3.0) else Autoguidance(scales) if rules[0] == Autoguidance(3.0) else adaptive
        )
        weak = made(1, schedule=RectifiedFlow()) if isinstance(whole, Autoguidance) else None
        out = model.sample(range(6), labels, guidance=whole, weak=weak, strict=True, batch=6)
        for i in range(6):
            alone = model.sample([i], [labels[i]], guidance=rules[i], weak=weak, strict=True, batch=6)
            assert torch.equal(out.images[i], alone.images[0]), (whole, i)


@dataclass(frozen=True)
class Mine:
    """A plug-in whose numbers are not one per picture."""

    knots: Sequence[float]


def test_a_rule_as_one_picture_sees_it():
    nested = Interval(Rescale(APG([1.0, 2.0])), 0.2)
    assert for_picture(nested, 1) == Interval(Rescale(APG(2.0)), 0.2)
    assert for_picture(PredictorCorrector(rule=CFG([1.0, 2.0])), 0) == PredictorCorrector(rule=CFG(1.0))
    rule = LinearAdaptive(LinearPlan(2.0, (None, (0.5, 0.5, 1.0)), (2.0, 1.0)))
    assert for_picture(rule, 1) is rule  # a list that is no list of pictures
    mine = Mine((1.0, 2.0))
    assert for_picture(mine, 1) is mine


def test_cfg_plus_plus_per_noise_is_cfg_under_ddim(model):
    a = model.sample(range(4), LABELS[:4], guidance=CFGPlusPlus(2.0, per="noise"), sampler=DDIM())
    assert same(a, model.sample(range(4), LABELS[:4], guidance=CFG(2.0), sampler=DDIM()), atol=1e-4)


def test_an_early_checkpoint_is_a_weak_network(tmp_path):
    pairs = [("steps", 4), ("save_every", 2), ("batch", 8), ("sample_every", 0), ("backbone.width", 8)]
    train(recipe_from(resolve_recipe("digits", pairs, []), []), tmp_path / "run", progress=False)
    weak = load(tmp_path / "run", step=2)
    out = load(tmp_path / "run").sample([1, 2], [3, 4], guidance=Autoguidance(2.0), weak=weak)
    assert out.settings["checkpoint"] == 4
    assert out.settings["weak"]["checkpoint"] == 2
    assert out.evaluations.tolist() == [[20, 0, 20]] * 2


def test_a_filled_network_sees_the_next_multiple_of_eight():
    sizes = []

    class Counted(Denoiser):
        def answer(self, x, level, condition=None):
            sizes.append(len(x))
            return super().answer(x, level, condition)

    counted = Counted(network(0, 10), RectifiedFlow(), EDM(0.75), LogSNRClock())
    x, level = torch.randn(11, 1, 8, 8), RectifiedFlow()(0.5)
    condition = {"labels": torch.arange(11) % 10}
    with torch.no_grad():
        for most, fill, seen in ((6, True, [8, 8]), (8, True, [8, 8]), (16, True, [16]), (6, False, [6, 5])):
            sizes.clear()
            said = Chunked(counted, most, fill)(x, level, condition)
            assert sizes == seen
            assert torch.allclose(said.out, counted.answer(x, level, condition).out, atol=1e-5)
