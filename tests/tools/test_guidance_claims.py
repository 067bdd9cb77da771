"""Claims on guidance: what they measure with, on samples and Gaussians whose truth is known, and their judges on made-up cells."""

import dataclasses
import json
import math

import pytest
import torch

from sfumato.diffusion import Model
from sfumato.guidance import CFG, Adaptive, CFGPlusPlus, Plain
from sfumato.samplers import DDIM, DDPM, Langevin, PredictorCorrector
from sfumato.tools.claims import CLAIMS
from sfumato.tools.claims.cfg_plus_plus import round_trip
from sfumato.tools.claims.claim import FAILED, HELD, UNDECIDED
from sfumato.tools.claims.gaussian_laws import laws, variance
from sfumato.tools.claims.guided import ends, guided_recipe, in_turn
from sfumato.tools.claims.guided_measures import BEYOND, apart, energy, measured, recall
from sfumato.tools.claims.mixture2d import (
    ARMS,
    COMPONENTS,
    STD,
    Arms,
    centres,
    drawn,
    exact_noise,
    powered,
    squared_lengths,
)
from sfumato.tools.claims.predictor_corrector_guidance import GAMMAS, exact_model
from sfumato.tools.claims.saved_evaluations import _Cosines, guided_steps, threshold_for
from sfumato.tools.claims.scales import at_same, best
from sfumato.tools.cli import main

COUNT = 6000
LABELS = torch.arange(COUNT) % ARMS


def _model(quick: bool = True) -> Model:
    recipe = guided_recipe("mixture", 0, quick)
    return Model(recipe.denoiser().eval(), recipe.data.shape, ARMS, grid=recipe.grid)


def test_exact_samples_are_as_good_as_samples_can_be():
    found = measured(drawn(torch.arange(COUNT), LABELS), LABELS)
    assert found["distance"] == pytest.approx(0.4 * math.sqrt((COMPONENTS - 1) / (COUNT / ARMS)), rel=0.4)
    assert found["energy"] < 1e-3
    assert found["found"] == 1
    assert found["diverse"] > 0.99
    assert found["right"] > 0.99
    # of one Gaussian exp(-BEYOND^2 / 2) lie so far out, of which another may catch some
    assert found["outliers"] <= 3 * math.exp(-(BEYOND**2) / 2)


def test_samples_that_miss_half_of_the_gaussians_or_fly_away():
    x = drawn(torch.arange(COUNT), LABELS)
    half = centres()[LABELS, torch.arange(COUNT) // ARMS % (COMPONENTS // 2)][:, :, None, None]
    found = measured(half, LABELS)
    assert found["distance"] == pytest.approx(0.5)
    assert found["found"] == found["diverse"] == pytest.approx(0.5)
    assert found["outliers"] == 0
    far = measured(x + 10, LABELS)
    assert (far["distance"], far["outliers"], far["found"]) == (1, 1, 0)
    other = measured(x, (LABELS + 1) % ARMS)
    assert other["right"] < 0.01
    assert other["odds"] < 0 < measured(x, LABELS)["odds"]
    assert apart(torch.cat([half, x + 10]), torch.cat([LABELS, LABELS])) == pytest.approx(0.5)


def test_the_exact_denoiser_is_the_gradient_of_the_log_density():
    level_alpha, sigma = 0.8, 0.6
    x = (
        0.5 * torch.randn(12, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    labels = torch.arange(12) % (ARMS + 1)  # the last is all classes together
    spread = level_alpha**2 * STD**2 + sigma**2
    away = (x.flatten(1)[:, None] - level_alpha * centres().double().flatten(0, 1)).square().sum(-1)
    owner = torch.arange(ARMS).repeat_interleave(COMPONENTS)
    mine = (labels[:, None] == owner) | (labels == ARMS)[:, None]
    log_density = torch.logsumexp((-away / (2 * spread)).masked_fill(~mine, -math.inf), 1).sum()
    (score,) = torch.autograd.grad(log_density, x)
    assert torch.allclose(exact_noise(x.detach(), level_alpha, sigma, labels), -sigma * score, atol=1e-12)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_the_powered_law_is_the_class_reweighted(gamma):
    """Against exact samples of the class, weighted by (p(x | class) / p(x))^(gamma - 1)."""
    seeds = torch.arange(20000)
    labels = torch.zeros_like(seeds)
    x = drawn(seeds, labels)
    own, all_ = (
        torch.stack([torch.logsumexp(-squared_lengths(x, torch.full_like(labels, c)) / 2, 1) for c in of], 1).logsumexp(1)
        for of in ([0], range(ARMS))
    )  # fmt: skip
    weights = torch.softmax((gamma - 1) * (own - all_), 0)
    wanted = (weights[:, None] * x.flatten(1).double()).sum(0)
    second = (weights[:, None] * x.flatten(1).double().square()).sum(0)
    drawn_here = powered(gamma, 0, seeds).flatten(1).double()
    assert torch.allclose(drawn_here.mean(0), wanted, atol=0.01)
    assert torch.allclose(drawn_here.square().mean(0), second, atol=0.01)


def test_the_source_is_exact_samples_of_the_classes_in_turn():
    batch = Arms(300).batch(torch.arange(300))
    assert torch.equal(batch.labels, torch.arange(300) % ARMS)
    assert measured(batch.x, batch.labels)["outliers"] < 0.02
    assert Arms(300).fingerprint == Arms(300).fingerprint != Arms(301).fingerprint
    with pytest.raises(ValueError, match="count is 2; allowed: >= 3"):
        Arms(2)


def test_distances_and_recall_in_closed_form():
    a, b = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert energy(a, b) == pytest.approx(10)
    assert energy(a, a) == 0
    assert energy(torch.cat([a, b]), torch.cat([a, b])) == pytest.approx(0)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert recall(x, x) == 1
    assert recall(x + 100, x) == 0
    assert recall(torch.cat([x, x + 100]), x) == pytest.approx(0.5)


def test_what_a_curve_says_at_the_same_diversity():
    rows = [
        {"scale": s, "diverse": d, "distance": q} for s, d, q in ((1.0, 0.9, 8.0), (2.0, 0.7, 2.0), (4.0, 0.5, 32.0))
    ]
    assert best(rows)["scale"] == 2
    assert at_same(rows, "diverse", 0.8, "distance") == pytest.approx(4)
    assert at_same(rows, "diverse", 0.6, "scale") == pytest.approx(math.sqrt(8))
    assert at_same(rows, "diverse", 0.95, "distance") == 8
    assert at_same(rows, "diverse", 0.1, "distance") == 32


def test_a_threshold_spends_what_it_was_set_for():
    """Until a sample stops, Adaptive is CFG, so the cosines that CFG sees say where it stops."""
    cosines = torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.1, 0.3], [0.9, 0.8, 0.4], [0.95, 0.9, 0.5]])
    assert guided_steps(cosines, 0.85).tolist() == [3, 1, 4]
    assert guided_steps(cosines, 0.0).tolist() == [1, 1, 1]
    assert guided_steps(cosines, 2.0).tolist() == [4, 4, 4]
    model, seeds = _model(), range(60)
    noted = _Cosines(CFG(2.0))
    ends(model, noted, 8, seeds, batch=60)
    found = torch.stack(noted.found)
    threshold = threshold_for(found, 4)
    guided = guided_steps(found, threshold).double().mean()
    _, spent = ends(model, Adaptive(CFG(2.0), threshold), 8, seeds, batch=60)
    assert spent == pytest.approx(8 + float(guided))
    assert float(guided) == pytest.approx(4, abs=1)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_variances_on_gaussians_come_to_their_limits(gamma):
    ddpm = [variance(DDPM(), CFG(gamma), n) for n in (100, 400)]
    limit = laws(gamma)["ddpm"]
    assert abs(ddpm[1] - limit) < abs(ddpm[0] - limit) / 3
    assert ddpm[1] == pytest.approx(limit, abs=0.03)
    assert variance(DDIM(), CFG(gamma), 400) == pytest.approx(laws(gamma)["ddim"], abs=0.02)
    pcg = PredictorCorrector(DDIM(), Langevin(), CFG(2 * gamma - 1))
    found = variance(pcg, Plain(), 400)
    assert found == pytest.approx(limit, abs=0.01)
    assert abs(found - limit) < abs(found - laws(gamma)["powered"]) / 5


@pytest.mark.parametrize(("steps", "golden"), [(100, 0.58000), (400, 0.58199)])
def test_predictor_corrector_guidance_has_the_variances_known(steps, golden):
    assert variance(PredictorCorrector(DDIM(), Langevin(), CFG(3.0)), Plain(), steps) == pytest.approx(golden, abs=2e-3)


def test_a_round_trip_of_the_exact_unguided_model_comes_back():
    model = exact_model(_model())
    x, labels = drawn(torch.arange(90), in_turn(model, 90)), in_turn(model, 90)
    errors = [round_trip(model, Plain(), x, labels, n)["back"] for n in (25, 100)]
    assert errors[1] < errors[0] < 0.05
    assert round_trip(model, CFGPlusPlus(0.0), x, labels, 100)["noise"] == pytest.approx(1, abs=0.15)


def _row(scale, distance, diverse=0.5):
    return {"scale": scale, "distance": distance, "diverse": diverse, "right": 1.0, "evaluations": 40.0}


def _judged(name, cell):
    """The verdict where three seeds of every model have cells that differ a little."""
    claim = CLAIMS[name]
    return claim.judge({v: {k: cell(0.001 * k) for k in range(3)} for v in claim.variants})


def test_an_interval_is_judged_by_the_data_where_it_gains_less():
    def cell(gain):
        cfg = [_row(1.0, 9.0), _row(2.0, 4.0)]
        return lambda k: {
            "low": 0.0, "high": 1.0, "scale": 3.0, "cfg_chosen": cfg, "cfg": cfg, "searched": [],
            "interval": [_row(2.0, 1.0), _row(3.0, (4.0 + k) / gain)],
        }  # fmt: skip

    assert _judged("limited-interval", cell(2.0)).verdict == HELD
    assert _judged("limited-interval", cell(2.0)).values[0] == pytest.approx(math.log(2))
    assert _judged("limited-interval", cell(0.5)).verdict == FAILED
    cells = {
        "digits": {k: cell(2.0)(0) for k in range(3)},
        "mixture": {k: cell((0.9, 1.5, 1.1)[k])(0) for k in range(3)},
    }
    finding = CLAIMS["limited-interval"].judge(cells)
    assert finding.verdict == UNDECIDED
    assert finding.notes["parts"]["digits"]["verdict"] == HELD


def test_autoguidance_must_win_at_its_best_and_where_cfg_is_as_diverse():
    def cell(distance, diverse):
        cfg = [_row(1.0, 8.0, 0.9), _row(2.0, 4.0, 0.5)]
        auto = [_row(2.0, distance, diverse)]
        return lambda k: {
            "part": "1/8", "scale": 2.0, "cfg_chosen": cfg, "cfg": cfg, "auto": [{**r, "distance": r["distance"] + k} for r in auto],
        }  # fmt: skip

    found = _judged("autoguidance", cell(2.0, 0.7))
    assert found.verdict == HELD
    assert found.notes["parts"]["digits, best"]["values"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert found.notes["parts"]["digits, as diverse"]["values"][0] == pytest.approx(
        math.log(math.sqrt(32) / 2), abs=1e-4
    )
    assert _judged("autoguidance", cell(5.0, 0.7)).verdict == FAILED


def test_saved_evaluations_are_judged_by_the_best_control():
    rules = {
        "CFG, 20 steps": 0.0, "Adaptive, 30": 0.1, "Adaptive, 25": 0.2, "LinearAG": 0.1, "LinearAG, then unguided": 0.3,
        "CFG, 15 steps": 0.2, "CFG, 13 steps": 0.3, "CFG in the first 10": 0.1, "CFG in the last 10": 0.5, "unguided, 20 steps": 0.9,
    }  # fmt: skip

    def judged(name, **changed):
        of = {**rules, **{k.replace("_", " "): v for k, v in changed.items()}}
        rows = [{"rule": n, "scale": s, "evaluations": 30.0, "rms": r} for n, r in of.items() for s in (2.0, 5.0)]

        def cell(k):
            return {"rows": [{**r, "rms": r["rms"] * (1 + k * (r["rule"] == "Adaptive, 30"))} for r in rows]}

        return _judged(name, cell)

    assert judged("adaptive-guidance").verdict == HELD
    assert judged("adaptive-guidance").values[0] == pytest.approx(math.log(2))
    assert judged("adaptive-guidance", **{"CFG, 15 steps": 0.05}).verdict == FAILED
    assert judged("linear-adaptive").verdict == HELD
    assert judged("linear-adaptive").values[0] == pytest.approx(math.log(2))
    assert judged("linear-adaptive", **{"Adaptive, 25": 0.05}).verdict == FAILED


def test_cfg_plus_plus_must_come_back_nearer_and_stay_more_diverse():
    def cell(back, diverse):
        def side(b, d):
            return {"back": b, "diverse": d, "noise": 1.0, "right": 1.0, "odds": 9.0, "distance": 1.0}

        def row(wanted, plus):
            return {"strength": 0.4, "scale": 3.0, "wanted": wanted, "cfg": side(0.4, 0.5), "plus": plus}

        return lambda k: {
            "known": [{"odds": 1.0}, {"odds": 9.0}],
            "rows": [row(5.0, side(back + k, diverse)), row(10.0, side(0.4, 0.5))],
        }

    found = _judged("cfg-plus-plus", cell(0.2, 0.6))
    assert found.verdict == HELD
    assert found.notes["parts"]["digits, round trip"]["values"][0] == pytest.approx(math.log(2) / 2, abs=1e-4)
    # where no CFG has the odds of CFG++ there is nothing of the same strength to compare with
    assert found.notes["where_odds_are_equal"]["digits, round trip"]["values"][0] == pytest.approx(
        math.log(2), abs=1e-4
    )
    assert _judged("cfg-plus-plus", cell(0.2, 0.4)).verdict == FAILED
    assert _judged("cfg-plus-plus", cell(0.8, 0.6)).verdict == FAILED


def test_predictor_corrector_guidance_must_be_nearer_than_the_other_laws():
    def cell(pcg):
        gaussian = [
            {"gamma": g, "steps": 100, "ddpm": laws(g)["ddpm"], "pcg": laws(g)["ddpm"] + 1e-3, "ddim": laws(g)["ddim"]}
            for g in GAMMAS
        ]
        rows = [{"gamma": g, "same": 1e-3, "pcg": pcg, "ddim": 0.02, "powered": 0.03} for g in GAMMAS]
        return lambda k: {
            "gaussian": gaussian,
            "exact": [{**r, "pcg": r["pcg"] + k / 10} for r in rows],
            "trained": rows,
        }

    assert _judged("cfg-is-predictor-corrector", cell(0.002)).verdict == HELD
    assert _judged("cfg-is-predictor-corrector", cell(0.1)).verdict == FAILED


def test_claims_of_the_same_recipe_train_once(tmp_path, monkeypatch):
    argv = ["--quick", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["claims", "adaptive-guidance", *argv]) == 0
    first = json.loads((tmp_path / "quick" / "adaptive-guidance.json").read_text())
    kept = sorted(p.name for p in (tmp_path / "quick" / "trained").glob("digits-*") if p.is_dir())
    assert len(kept) == 2
    assert all(c["seconds"] > 0 for c in first["cells"])
    trained = {p.name: json.loads(p.read_text())[0] for p in (tmp_path / "quick" / "trained").glob("*.seconds")}
    assert {c["seed"]: c["seconds"] for c in first["cells"]}[0] >= round(min(trained.values()), 1)
    # another claim finds those runs; another recipe would not
    assert main(["claims", "cfg-plus-plus", *argv]) == 0
    names = sorted(p.name for p in (tmp_path / "quick" / "trained").glob("digits-*") if p.is_dir())
    assert names == kept
    recipe = guided_recipe("digits", 0, True)
    assert dataclasses.replace(recipe, lr=1e-3).describe() != recipe.describe()
