"""Thresholds from real samples: by hand, counted, and refused where nothing can be promised."""

import math
from dataclasses import dataclass

import pytest
import torch
from hallucinating import Grid25, smooth
from modelled import made

from sfumato.diffusion import Digits, Split, calibrate
from sfumato.guidance import CFG, Plain
from sfumato.samplers import DDIM, DDPM, DPMSolverPP, Langevin, PredictorCorrector, trajectory
from sfumato.samplers.filters import (
    Calibrated,
    Judged,
    PathLength,
    RenoiseProbe,
    TrajectoryVariance,
    Verdict,
    conformal_bounds,
    judge_pictures,
)
from sfumato.schedules import Cosine, Stream, V, gaussian, karras
from sfumato.schedules.noise import permutation

PROBE, DATA = RenoiseProbe(2.0, k=2), Digits()


def found_by(model, judge=PROBE, data=DATA, **more):
    return calibrate(model, judge, data, **{"held_out": True, "alpha": 0.1, "count": 60, **more})


def noise_at(index, seed, step, draw):
    return gaussian(torch.full_like(index, seed), index, step, draw, (1, 8, 8), stream=Stream.CALIBRATION)


@pytest.mark.parametrize("condition", ["labels", "none"])
def test_scores_of_the_probe_by_hand(model, condition):
    """The samples are those that the seed chooses; the noise of each is addressed by the seed and its index."""
    found = found_by(model, seed=3, condition=condition)
    index = permutation(3, 0, len(DATA))[:60]
    x, labels, _ = DATA.batch(index)
    given = labels if condition == "labels" else torch.full_like(labels, 10)
    probe = RenoiseProbe(2.0, k=2, path=model.denoiser.schedule)
    with torch.no_grad():
        wanted = probe.score(
            x, lambda x, level: model.denoiser(x, level, {"labels": given}), lambda d: noise_at(index, 3, 0, d)
        )
    assert torch.allclose(found.scores, wanted, rtol=1e-5)
    made_ = found.calibration
    assert (made_.count, made_.alpha, made_.condition, made_.sides) == (60, 0.1, condition, "upper")
    assert made_.bounds == (0.0, conformal_bounds(found.scores, 0.1)[1])
    assert (made_.sampler, made_.guidance, made_.log_snrs) == (None, None, None)
    assert made_.data == DATA.fingerprint
    assert made_.held_out


def test_the_curve_is_that_of_four_looks_with_noise_that_is_not_used_again():
    model, data = smooth(0.18), Grid25(300)
    found = calibrate(model, RenoiseProbe(k=2), data, held_out=True, alpha=0.1, count=300, batch=300, seed=5)
    index = permutation(5, 0, 300)
    for point in (found.curve[0], found.curve[7]):
        probe = RenoiseProbe(point.log_snr, k=4, path=model.denoiser.schedule)

        def noise(draw):
            return gaussian(
                torch.full_like(index, 5), index, 0, (1 << 20) + draw, data.shape, stream=Stream.CALIBRATION
            )

        with torch.no_grad():
            errors = probe.score(data.points[index], model.denoiser, noise).double()
        assert point.median == pytest.approx(float(torch.quantile(errors, 0.5)), rel=1e-5)
        assert point.high == pytest.approx(float(torch.quantile(errors, 0.99)), rel=1e-5)
    assert found.calibration.filter.level in [p.log_snr for p in found.curve]
    assert found.evaluations == (4 * len(found.curve), 2)


def test_labels_are_the_default_of_a_model_that_knows_them(model):
    assert found_by(model).calibration.condition == "labels"
    assert found_by(made(classes=0)).calibration.condition == "none"
    assert not found_by(model, held_out=False).calibration.held_out


@pytest.mark.parametrize("sampler", [DDIM(), DDPM(), DPMSolverPP(2)], ids=str)
@pytest.mark.parametrize("guidance", [Plain(), CFG(3.0)], ids=str)
@pytest.mark.parametrize(
    "judge",
    [TrajectoryVariance.paper(last=4), TrajectoryVariance(low=0.0), PathLength(low=-1.0, high=9.0)],
    ids=["paper", "variance", "path"],
)
def test_trajectories_begin_at_the_window_and_are_walked_back(model, judge, guidance, sampler):
    found = found_by(model, judge, sampler=sampler, guidance=guidance, steps=8, count=10)
    path = model.denoiser.schedule
    levels, index = karras(path, 8), permutation(0, 0, len(DATA))[:10]
    x, labels, _ = DATA.batch(index)
    begin = next(
        i for i, v in enumerate(levels) if (i >= 4 if judge.last else judge.low <= float(v.log_snr) <= judge.high)
    )
    assert 0 < begin < 7
    # a method that remembers begins four steps earlier, so that it has something to remember
    tail = levels[max(begin - 4, 0) if isinstance(sampler, DPMSolverPP) else begin :]
    x = tail[0].alpha * x + tail[0].sigma * noise_at(index, 0, -1, 0)

    def guided(x, level):
        cond, ref = (model.denoiser(x, level, {"labels": given}).out for given in (labels, torch.full_like(labels, 10)))
        p = model.denoiser(x, level, {"labels": labels})
        scale = getattr(guidance, "scale", 1.0)
        return type(p)(x, level, ref + scale * (cond - ref), model.denoiser.row)

    memory = judge.init(x, tail)
    with torch.no_grad():
        for step in trajectory(sampler, guided, tail, x, lambda s, d: noise_at(index, 0, s, d)):
            memory = judge.update(memory, step)
    assert torch.allclose(found.scores, judge.verdict(memory).score, rtol=1e-3, atol=1e-7)
    walked = found.calibration
    assert (walked.sampler, walked.guidance) == (repr(sampler), repr(guidance))
    assert walked.log_snrs == [float(v.log_snr) for v in levels]
    branches = 1 if guidance == Plain() else 2
    assert found.evaluations == (0.0, float(branches * (len(tail) - 1)))


def test_a_corrector_with_a_rule_of_its_own_is_walked(model):
    sampler = PredictorCorrector(DDIM(), Langevin(), rule=CFG(3.0))
    found = found_by(model, PathLength(low=-2.0), count=20, sampler=sampler)
    plain = found_by(model, PathLength(low=-2.0), count=20, sampler=PredictorCorrector(DDIM(), Langevin()))
    assert found.calibration.sampler == repr(sampler)
    assert not torch.allclose(found.scores, plain.scores)


def test_the_models_own_defaults_are_walked(model):
    walked = found_by(model, PathLength(low=-3.0), count=10).calibration
    assert walked.sampler == repr(model.sampler)
    assert walked.guidance == repr(model.guidance)
    assert walked.log_snrs == [float(v.log_snr) for v in karras(model.denoiser.schedule, 6)]


@pytest.mark.parametrize(
    "judge", [RenoiseProbe(k=2), TrajectoryVariance(low=2.0), PathLength(low=2.0)], ids=["probe", "variance", "path"]
)
def test_fresh_real_samples_are_rejected_as_seldom_as_promised(judge):
    model = smooth(0.18)
    how = {"held_out": True, "alpha": 0.05, "count": 2000, "batch": 2000, "steps": 40, "sampler": DDPM()}
    found = calibrate(model, judge, Grid25(2000), **how)
    fresh = calibrate(model, found.calibration.filter, Grid25(2000, seed=7), **how, seed=1).scores
    rate = float((fresh > found.calibration.bounds[1]).double().mean())
    spread = 3 * math.sqrt(0.05 * 0.95 * 2 / 2000)
    assert 0.05 - spread <= rate <= 0.05 + spread


@pytest.mark.parametrize("judge", [PROBE, PathLength(low=-3.0), RenoiseProbe(0.0, k=1)], ids=["2", "path", "1"])
def test_the_batch_and_the_run_do_not_matter_the_seed_does(model, judge):
    whole = found_by(model, judge, count=13, sampler=DDPM())
    for batch in (1, 4, 13):
        again = found_by(model, judge, count=13, sampler=DDPM(), batch=batch)
        assert torch.allclose(again.scores, whole.scores, rtol=1e-4, atol=1e-6)
    assert torch.equal(found_by(model, judge, count=13, sampler=DDPM()).scores, whole.scores)
    assert found_by(model, judge, count=13, sampler=DDPM()).calibration == whole.calibration
    assert not torch.allclose(found_by(model, judge, count=13, sampler=DDPM(), seed=1).scores, whole.scores, rtol=0.01)
    assert torch.allclose(found_by(model, judge, count=9, sampler=DDPM()).scores, whole.scores[:9], rtol=1e-4)


def test_what_the_network_is_asked_is_what_is_told(model):
    """Also while the level is looked for."""
    rows = []
    hook = model.denoiser.backbone.register_forward_hook(lambda module, given, out: rows.append(len(out)))
    try:
        found = found_by(model, count=20, batch=6)
        assert sum(rows) == 20 * sum(found.evaluations) == 40
        assert max(rows) <= 6
        rows.clear()
        found = found_by(model, PathLength(low=-9.0), guidance=CFG(2.0), count=20, batch=6)
        assert sum(rows) == 20 * sum(found.evaluations)
        assert max(rows) <= 6
    finally:
        hook.remove()


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_stays_and_sampling_is_in_eval_mode(training):
    model, modes = made(), []
    model.denoiser.train(training)
    model.denoiser.backbone.register_forward_hook(lambda module, given, out: modes.append(module.training))
    found_by(model, count=10)
    assert model.denoiser.training is training
    assert not any(modes)
    model.denoiser.backbone.register_forward_hook(lambda module, given, out: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        found_by(model, count=10)
    assert model.denoiser.training is training


@dataclass(frozen=True)
class Ink:
    """Rates a picture by its mean."""

    def rate(self, x0):
        return x0.flatten(1).mean(1)


def test_both_sides_and_bounds_that_were_there_before(model):
    both = found_by(model, Judged(Ink()), sides="both", count=200)
    ink = Ink().rate(DATA.batch(permutation(0, 0, len(DATA))[:200]).x)
    assert both.calibration.bounds == conformal_bounds(ink, 0.1, "both")
    assert torch.equal(both.scores, ink)
    assert both.evaluations == (0, 0)
    upper = found_by(model, Judged(Ink(), threshold=0.5, least=0.4), count=200).calibration
    assert upper.bounds == (-math.inf, conformal_bounds(ink, 0.1)[1])
    probe = found_by(model, RenoiseProbe(2.0, threshold=9.0, least=8.0, k=2)).calibration
    assert probe.bounds == found_by(model).calibration.bounds


@dataclass(frozen=True)
class Doubtful:
    """Answers in double precision, with a number that single precision rounds down."""

    def rate(self, x0):
        return torch.full((len(x0),), 0.7, dtype=torch.float64)


def test_a_threshold_is_as_exact_as_the_scores_that_are_judged(model):
    """Otherwise a judge that says the same of every picture would have all of them rejected, real ones too."""
    found = found_by(model, Judged(Doubtful())).calibration
    assert found.bounds == (-math.inf, 0.7)
    assert judge_pictures(found.filter, DATA.batch(torch.arange(5)).x).keep.all()


def test_all_samples_are_taken_where_fewer_are_there(model):
    assert found_by(model, Judged(Ink()), count=5000).calibration.count == 1797
    assert found_by(model, Judged(Ink()), Split(DATA, "held_out"), count=5000).calibration.count == 180


@dataclass(frozen=True)
class Draws:
    """Scores by noise of its own, drawn in the first step of a walk."""

    threshold: float = math.inf

    def begins(self, levels):
        return len(levels) - 3

    def init(self, x, levels):
        return None

    def update(self, memory, step):
        return step.noise(step.index, 0).flatten(1)[:, 0] if memory is None else memory

    def verdict(self, memory):
        return Verdict(memory <= self.threshold, memory)


def test_a_filter_that_draws_gets_other_noise_than_the_sampler(model):
    found, index = found_by(model, Draws(), sampler=DDPM()), permutation(0, 0, len(DATA))[:60]
    assert torch.equal(found.scores, noise_at(index, 0, 0, 1 << 16).flatten(1)[:, 0])


@dataclass(frozen=True)
class Unbounded:
    """A filter without a threshold."""

    def init(self, x, levels):
        return None

    def update(self, memory, step):
        return None

    def verdict(self, memory):
        return None


@dataclass(frozen=True)
class Unasked(Unbounded):
    """A filter that neither scores pictures nor says where it begins."""

    threshold: float = 1.0


class Other:
    """Pictures of another shape."""

    shape, num_classes, fingerprint = (3, 8, 8), 0, "other"

    def __len__(self):
        return 500

    def batch(self, index):
        raise AssertionError


class Unlabelled(Other):
    shape = (1, 8, 8)


@pytest.mark.parametrize(
    ("judge", "data", "more", "message"),
    [
        (RenoiseProbe, DATA, {}, "judge is .* allowed: a filter, such as RenoiseProbe"),
        (DDIM(), DATA, {}, "judge is DDIM.* allowed: a filter"),
        (Unbounded(), DATA, {}, "Unbounded has no field threshold"),
        (Unasked(), DATA, {}, r"Unasked can't be calibrated: it has neither score.* nor begins"),
        (PathLength(), DATA, {"sides": "both"}, "sides is 'both', but PathLength has no field least; allowed: 'upper'"),
        (PROBE, DATA, {"sides": "lower"}, "sides is 'lower'; allowed: 'upper', 'both'"),
        (PROBE, Digits, {}, "data is <class .* allowed: a data set"),
        (PROBE, None, {}, "data is None; allowed: a data set"),
        (PROBE, Other(), {}, r"data are \(3, 8, 8\), the model makes \(1, 8, 8\); allowed: the same shape"),
        (PROBE, Unlabelled(), {}, "the data have 0 classes, the model 10; give labelled data, or condition='none'"),
        (PROBE, DATA, {"condition": "class"}, "condition is 'class'; allowed: 'labels', 'none'"),
        (PROBE, DATA, {"count": 0}, "count is 0; allowed: a whole number >= 1"),
        (PROBE, DATA, {"count": 2.5}, "count is 2.5; allowed: a whole number >= 1"),
        (PROBE, DATA, {"batch": 0}, "batch is 0; allowed: a whole number >= 1"),
        (PathLength(), DATA, {"sampler": DDIM}, "sampler is <class .*DDIM'>; allowed: an object"),
        (PathLength(), DATA, {"grid": 12}, "grid is 12; allowed: an object"),
        (PathLength(), DATA, {"guidance": CFG}, "guidance is <class .*CFG'>; allowed: an object"),
        (PROBE, DATA, {"seed": -1}, "seed -1; allowed: whole numbers"),
        (PROBE, DATA, {"alpha": 0.0}, "alpha is 0.0; allowed"),
        (PROBE, DATA, {"alpha": 0.01}, "60 real samples are too few for alpha 0.01; allowed: at least 99"),
        (RenoiseProbe(k=2), DATA, {"cut": 1e9}, "no level was found: .* is more than 1e.09 times its median nowhere .*log-SNR: ratio 12.0"),
        (RenoiseProbe(k=2), DATA, {"cut": 1.0}, "more than 1 times its median already at the cleanest level"),
    ],
)  # fmt: skip
def test_refusals_before_the_work(model, judge, data, more, message):
    asked = []
    hook = model.denoiser.backbone.register_forward_hook(lambda module, given, out: asked.append(1))
    try:
        with pytest.raises(ValueError, match=message):
            found_by(model, judge, data, **more)
    finally:
        hook.remove()
    assert not asked or "cut" in more


def test_labels_of_a_model_without_classes_and_weights_that_are_nan(model):
    with pytest.raises(ValueError, match="condition is 'labels', but this model was trained without classes"):
        found_by(made(classes=0), condition="labels")
    broken = made()
    with torch.no_grad():
        next(broken.denoiser.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match="scores of real samples are nan; the weights hold nan"):
        found_by(broken)
    with pytest.raises(ValueError, match="at log-SNR 12 is nan; the weights hold nan"):
        found_by(broken, RenoiseProbe(k=2))


@pytest.mark.filterwarnings("ignore:filters rejected")
def test_a_calibration_judges_samples_and_refuses_other_weights(model):
    """Rejected are those above the threshold; a picture of the same weights under another path is refused by level, not by chance."""
    calibration = found_by(model, alpha=0.5).calibration
    out = model.sample(range(12), [i % 10 for i in range(12)], filters=[Calibrated(calibration)], mark=True)
    assert torch.equal(out.kept, out.scores[0] <= calibration.bounds[1])
    assert out.filtered.names == ("RenoiseProbe",)
    assert out.filtered.alphas == (0.5,)
    with pytest.raises(ValueError, match="is of other weights than these"):
        made(seed=1).sample([0], [1], filters=[Calibrated(calibration)])
    with pytest.raises(ValueError, match="these are sampled without labels"):
        model.sample([0], filters=[Calibrated(calibration)])
    with pytest.raises(ValueError, match="these are sampled without labels"):
        model.sample([0], [None], filters=[Calibrated(calibration)])
    model.sample([0, 1], [None, 1], filters=[Calibrated(calibration)], mark=True)  # some have one
    bare = made(classes=0)
    bare.sample([0], filters=[Calibrated(found_by(bare).calibration)], mark=True)


def test_a_calibration_of_trajectories_refuses_another_walk(model):
    calibration = found_by(model, PathLength(low=-3.0), guidance=CFG(2.0), condition="labels").calibration
    part = Calibrated(calibration)
    model.sample([0], [1], filters=[part], guidance=CFG(2.0), mark=True)
    for more, message in (
        ({}, "of the guidance CFG.* and this is Plain"), ({"guidance": CFG(3.0)}, "of the guidance"),
        ({"guidance": CFG(2.0), "sampler": DDIM()}, "of the sampler"), ({"guidance": CFG(2.0), "steps": 7}, "of 6 steps that end"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            model.sample([0], [1], filters=[part], **more)


def test_other_paths_are_calibrated_too():
    """The score of a VP model by hand is above; a model without classes, on a path that is walked to data, alike."""
    model = made(classes=0, schedule=Cosine(), row=V())
    found = found_by(model, PathLength(low=-3.0), count=10)
    assert bool((found.scores > 0).all())
    assert found.calibration.log_snrs[-1] == math.inf


def test_a_margin_moves_both_bounds_outwards(model):
    plain, wide = (found_by(model, sides="both", margin=m).calibration for m in (1.0, 1.5))
    assert wide.bounds == (plain.bounds[0] / 1.5, plain.bounds[1] * 1.5)
    assert (plain.margin, wide.margin) == (1.0, 1.5)
    below = Judged(Darkness())  # ratings below 0, where outwards is the other way
    low, high = found_by(model, below, sides="both", margin=1.0).calibration.bounds
    far = found_by(model, below, sides="both", margin=2.0).calibration.bounds
    assert low < high < 0.0
    assert far == (low * 2.0, high / 2.0)
    for bad in (0.9, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"margin is .*; allowed: a finite number >= 1"):
            found_by(model, margin=bad)


@dataclass(frozen=True)
class Darkness:
    def rate(self, x0):
        return x0.flatten(1).mean(1) - 2.0
