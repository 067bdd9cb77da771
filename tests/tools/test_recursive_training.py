"""Recursive training: measures on samples whose truth is known, what each treatment keeps, and that nothing is done twice."""

import math

import pytest
import torch

from sfumato.diffusion import Digits, Source, train
from sfumato.diffusion.measuring.judge import measure, train_judge
from sfumato.samplers.filters import TrajectoryVariance
from sfumato.tools.claims import generations as loop
from sfumato.tools.claims.claim import FAILED, HELD
from sfumato.tools.claims.fourier_net import FourierNet
from sfumato.tools.claims.generations import Recursion, generations
from sfumato.tools.claims.grid_recipe import grid_recipe
from sfumato.tools.claims.kept_samples import KeptSamples, keep_samples
from sfumato.tools.claims.main import CLAIMS
from sfumato.tools.claims.modes import Modes
from sfumato.tools.claims.placed import RINGS, placed
from sfumato.tools.claims.recursive_training import effects, pictured
from sfumato.tools.claims.treatments import TREATMENTS, extra_of, make, sampled

LAW = Modes("grid", 10_000)
EXACT = LAW.batch(torch.arange(10_000)).x


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(grid_recipe(1, True, 200), tmp_path_factory.mktemp("runs") / "run", progress=False)


def test_exact_samples_are_as_near_to_the_law_as_counting_allows():
    found = placed(EXACT, LAW)
    # the mean of |share - p| is sqrt(2 p / (pi N)) per cell; modes come in turn, so that there is less of it
    assert found["distance"] < 0.5 * math.sqrt(2 * 25 * RINGS / math.pi / 10_000)
    assert found["modes"] == pytest.approx(0, abs=1e-12)
    assert found["off"] == 0
    assert found["width"] == pytest.approx(1, abs=0.02)


def test_samples_that_are_off_by_a_known_share():
    x = EXACT.clone()
    x[:2500] += 0.25
    assert placed(x, LAW)["off"] == 0.25
    assert placed(x, LAW)["modes"] == pytest.approx(0.25)
    assert placed(x, LAW)["distance"] == pytest.approx(0.25, abs=0.03)
    x[:2500] = math.nan
    assert placed(x, LAW)["off"] == 0.25
    half = LAW.centres[torch.arange(1000) % 10].float()[:, :, None, None]
    # ten of 25 modes, and of their rings the innermost only
    assert placed(half, LAW)["modes"] == pytest.approx(15 / 25)
    assert placed(half, LAW)["distance"] == pytest.approx(1 - 10 / 25 / RINGS)
    assert placed(half, LAW)["width"] == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="'line'"):
        placed(half, Modes("line"))


def test_the_width_is_that_of_the_points():
    index = torch.arange(10_000)
    wide = LAW.centres[index % 25, :, None, None] + 2 * (EXACT.double() - LAW.centres[index % 25, :, None, None])
    away = placed(wide, LAW)
    # of a Gaussian twice as wide exp(-4.5) = 1.1 % are further than six deviations
    assert away["off"] == pytest.approx(math.exp(-4.5), rel=0.2)
    assert away["width"] == pytest.approx(2, rel=0.05)


def test_digits_are_measured_as_the_judge_measures():
    source = Digits()
    x, labels, _ = source.batch(torch.arange(len(source)))
    judge = train_judge(source)
    noisy = (x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    assert labels is not None
    assert pictured(noisy)["distance"] == pytest.approx(measure(judge, x, noisy, labels)["frechet"], rel=1e-6)
    assert pictured(x)["distance"] == pytest.approx(0, abs=1e-6)
    assert pictured(x)["unsure"] < 0.02 < pictured(noisy)["unsure"]


def test_kept_samples_are_what_was_kept(tmp_path):
    file = tmp_path / "a" / "x.safetensors"
    keep_samples(EXACT[:7], file)
    source = KeptSamples(str(file))
    assert isinstance(source, Source)
    assert torch.equal(source.batch(torch.tensor([6, 0])).x, EXACT[[6, 0]])
    assert (len(source), source.shape, source.num_classes) == (7, (2, 1, 1), 0)
    before = source.fingerprint
    keep_samples(EXACT[1:8], file)
    assert KeptSamples(str(file)).fingerprint != before
    assert [p.name for p in file.parent.iterdir()] == ["x.safetensors"]
    with pytest.raises(ValueError, match="which is not there"):
        KeptSamples(str(tmp_path / "none"))


def test_treatments_keep_the_count_and_drop_what_they_should(trained):
    data, count = Modes("grid", 200), 200
    made = {t: make(t, trained, count, 5, 100, data, 5.0) for t in (*TREATMENTS, "more")}
    extra = extra_of("paper", count)
    assert (extra, extra_of("more", count), extra_of("paper", 100_000)) == (5, 13, 2500)
    assert all(len(m.x) == count for m in made.values())
    # the same noise: the first slots are the same samples
    assert torch.equal(made["all"].raw, made["random"].raw[:count])
    assert torch.equal(made["random"].raw, made["paper"].raw)
    scores = sampled(trained, range(5, 5 + count + extra), 100, TrajectoryVariance.paper()).score
    assert made["paper"].dropped.nonzero().flatten().tolist() == sorted(scores.argsort()[count:].tolist())
    assert int(made["random"].dropped.sum()) == extra
    assert int(made["more"].dropped.sum()) == 13
    assert made["more"].dropped[made["paper"].dropped.nonzero()].float().mean() > 0.5
    for name in ("random", "paper", "more"):
        assert torch.equal(made[name].x, made[name].raw[~made[name].dropped])
    probe = made["probe"]
    assert torch.equal(probe.x[~probe.dropped], probe.raw[~probe.dropped])
    assert not (probe.x[probe.dropped] == probe.raw[probe.dropped]).flatten(1).all(1).any()
    assert torch.equal(make("probe", trained, count, 5, 100, data, None).x, made["all"].x)
    with pytest.raises(ValueError, match="treatment is 'some'; allowed: all, random"):
        make("some", trained, count, 5, 100, data, 5.0)


def test_generations_go_on_from_what_is_done(tmp_path, monkeypatch):
    recipe = grid_recipe(1, True, 200)
    train(recipe, tmp_path / "run", progress=False)
    plan = Recursion(
        lambda g: grid_recipe(1 + g, True, 200), lambda x: {"mean": float(x.mean())}, LAW.hallucinated, 50, 2, 50
    )
    begun: list[str] = []

    def stopped(made, run, **options):
        begun.append(run.name)
        if run.name == "random-2":
            raise KeyboardInterrupt
        return train(made, run, **options)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            generations(tmp_path / "run", recipe.data, plan)
    assert begun == ["all-2", "random-2"]
    first = generations(tmp_path / "run", recipe.data, plan)
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("trained again"))
    assert generations(tmp_path / "run", recipe.data, plan) == first
    assert all(first[t][0]["mean"] == first["all"][0]["mean"] for t in TREATMENTS)
    assert all(first[t][0]["trained_on"] == 50 for t in TREATMENTS)
    assert first["paper"][1]["mean"] != first["all"][1]["mean"]
    # and all of it is the same in one go, elsewhere
    monkeypatch.undo()
    train(grid_recipe(1, True, 200), tmp_path / "other", progress=False)
    assert generations(tmp_path / "other", recipe.data, plan) == first


def test_the_network_sees_waves_and_is_told_classes():
    torch.manual_seed(0)
    net = FourierNet(2, 5, width=16, octaves=2)
    x, time = torch.randn(6, 2, 1, 1), torch.linspace(-1, 1, 6)
    a, b = x[:, 0, 0, 0], x[:, 1, 0, 0]
    angles = torch.stack([a, 2 * a, b, 2 * b], 1)
    assert torch.allclose(net.seen(x), torch.cat([torch.stack([a, b], 1), angles.cos(), angles.sin()], 1))
    assert torch.equal(net(x, time), net(x, time, torch.full((6,), 5)))
    assert not torch.allclose(net(x, time), net(x, time, torch.zeros(6, dtype=torch.int64)))


def _cell(**last):
    return {
        "level": 5.0,
        **{
            t: [{"distance": 0.1, "off": 0.03, "unsure": 0.1}, {"distance": last[t], "off": 0.1, "unsure": 0.1}]
            for t in last
        },
    }


def test_the_controls_are_taken_together_and_the_weaker_part_counts():
    cell = _cell(all=0.2, random=0.8, paper=0.1, probe=0.4)
    assert effects(cell, "paper") == pytest.approx(math.log(4))
    assert effects(cell, "probe") == pytest.approx(0)
    claim = CLAIMS["recursive-training"]
    good = {seed: _cell(all=0.4, random=0.4, paper=0.1 + 0.01 * seed, probe=0.1, more=0.2) for seed in range(3)}
    bad = {seed: _cell(all=0.4, random=0.4, paper=0.8 + 0.01 * seed, probe=0.1, more=0.2) for seed in range(3)}
    assert claim.judge({"grid": good, "digits": good}).verdict == HELD
    finding = claim.judge({"grid": good, "digits": bad})
    assert finding.verdict == FAILED
    assert finding.values[0] == pytest.approx(math.log(0.5))
    assert finding.notes["digits"]["probe"]["values"] == [1.3863] * 3
    assert finding.notes["grid"]["probe_against_more"]["values"] == [0.6931] * 3
