"""Guidance through the sampling API: further branches, a weaker network, scales per picture, and what is refused."""

import warnings

import pytest
import torch
from torch import nn

from sfumato.diffusion import Denoiser, LogSNRClock, Model, TimeClock, UNet, fit_linear, load, measure_cosines, train
from sfumato.diffusion.branches import OnItsPath
from sfumato.diffusion.chunked import Chunked
from sfumato.diffusion.fingerprint import fingerprint
from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    Branch,
    CFGPlusPlus,
    Field,
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
    Eps,
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

LABELS = [0, 1, 2, 3, 4, 5]


def network(seed, classes=10, size=8):
    torch.manual_seed(seed)
    net = UNet(channels=1, size=size, num_classes=classes, width=8, multipliers=(1, 2), blocks=1, attention=())
    with torch.no_grad():  # a network that answers something, untrained
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net


def made(seed=0, classes=10, schedule=None, row=None, **rest):
    denoiser = Denoiser(network(seed, classes), schedule or RectifiedFlow(), row or EDM(0.75), LogSNRClock())
    return Model(denoiser, (1, 8, 8), classes, steps=6, grid=karras, **rest)


@pytest.fixture(scope="module")
def model():
    return made()


def same(a, b, atol=1e-5):
    return torch.allclose(a.images, b.images, atol=atol)


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
    filters = [TrajectoryVariance(float(scores.median()), low=-3.0)]
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


def test_a_rule_as_one_picture_sees_it():
    nested = Interval(Rescale(APG([1.0, 2.0])), 0.2)
    assert for_picture(nested, 1) == Interval(Rescale(APG(2.0)), 0.2)
    assert for_picture(PredictorCorrector(rule=CFG([1.0, 2.0])), 0) == PredictorCorrector(rule=CFG(1.0))
    rule = LinearAdaptive(LinearPlan(2.0, (None, (0.5, 0.5, 1.0)), (2.0, 1.0)))
    assert for_picture(rule, 1) is rule  # a list that is no list of pictures


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"also": {"cond": 3}}, "also names 'cond', which is what labels say"),
        ({"also": {"ref": 3}}, "also names 'ref', which is the null class"),
        ({"also": {"weak": 3}}, "also names 'weak', which is the network that weak= gives"),
        ({"also": {"negative": 10}}, r"also\['negative'\]: label 10; allowed: 0 to 9"),
        ({"also": {"negative": [1, 2, 3]}}, r"also\['negative'\]: 3 labels for 2 seeds"),
        ({"also": {"negative": 2.5}}, r"also\['negative'\]: labels is 2.5; allowed: a list"),
        ({"also": 7}, "also is 7; allowed: labels by the name of a branch"),
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
    with pytest.warns(UserWarning, match=words):
        out = model.sample(range(2), steps=3, **arguments)
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
