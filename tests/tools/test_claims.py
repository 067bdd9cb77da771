"""Claims: the table, the recorded results and their verdicts, the quick versions, and what is refused."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest
import torch

from sfumato.diffusion import Model, Recipe
from sfumato.diffusion.plan import check_recipe
from sfumato.guidance import CFG
from sfumato.schedules import Level, ScaledLinearBeta, ZeroTerminalSNR
from sfumato.tools.claims import CLAIMS
from sfumato.tools.claims.cells import raw_of
from sfumato.tools.claims.claim import FAILED, HELD, UNDECIDED, verdict
from sfumato.tools.claims.divergence import distance, diverged, share
from sfumato.tools.claims.input_scaling import LargeDigits
from sfumato.tools.claims.main import recorded
from sfumato.tools.claims.momentum import REFERENCE, SAMPLERS, SCALES, STEPS, ends, gains
from sfumato.tools.claims.speed import reached
from sfumato.tools.claims.zero_terminal_snr import Fields, gaussian_std, predicted
from sfumato.tools.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()
MARKED = re.search(r"<!-- claims: [^\n]*-->\n(.*?)\n<!-- end of claims -->", README, re.S)


def test_the_table_prints(capsys):
    assert main(["claims"]) == 0
    out = capsys.readouterr().out
    assert "not measured" not in out
    for name in CLAIMS:
        assert name in out
    assert max(map(len, out.splitlines())) < 180


def test_the_readme_shows_the_table(capsys):
    assert main(["claims", "--markdown"]) == 0
    assert MARKED is not None
    assert MARKED[1] == capsys.readouterr().out.strip()


@pytest.mark.parametrize("name", list(CLAIMS))
def test_a_recorded_result_is_complete_and_its_verdict_follows_from_its_numbers(name):
    claim, result = CLAIMS[name], recorded(name)
    assert result is not None
    assert result["quick"] is False
    assert result["seeds"] == [0, 1, 2]
    assert result["version"]
    assert result["torch"]
    assert {(c["variant"], c["seed"]) for c in result["cells"]} == {(v, s) for v in claim.variants for s in range(3)}
    assert all(c["seconds"] > 0 and c["cpu_seconds"] > 0 for c in result["cells"])
    assert result["minutes"] == round(sum(c["seconds"] for c in result["cells"]) / 60, 1)
    assert {k: result[k] for k in ("paper", "arxiv", "promise", "figure", "command")} == {
        k: getattr(claim, k) for k in ("paper", "arxiv", "promise", "figure", "command")
    }
    finding = claim.judge(raw_of(result["cells"]))
    assert finding.verdict == result["verdict"]
    if "never reached" not in finding.ours:
        assert finding.verdict == verdict(result["values"])
    assert finding.ours == result["ours"]
    assert finding.values == pytest.approx(result["values"])


@pytest.mark.parametrize("name", list(CLAIMS))
def test_the_recipes_of_a_recorded_result_build_and_are_those_of_the_code(name):
    claim, result = CLAIMS[name], recorded(name)
    assert result is not None
    assert set(result["recipes"]) == set(claim.variants)
    for variant, description in result["recipes"].items():
        recipe = Recipe.from_description({**description, "seed": 1})
        check_recipe(recipe)
        assert recipe.describe() == claim.recipe(variant, 1, False).describe()


# of those that train networks of pictures even the quick version takes five seconds and more
LONG = {
    "adaptive-guidance", "input-scaling", "limited-interval", "mode-interpolation", "momentum", "recursive-training", "renoise-probe",
    "simple-shapes",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CLAIMS]
)
def test_the_quick_version_runs_and_goes_on_from_finished_runs(name, capsys, tmp_path, monkeypatch):
    argv = ["claims", name, "--quick", "--seeds", "2", "--out", str(tmp_path)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert CLAIMS[name].promise in out
    assert any(word in out for word in (HELD, FAILED, UNDECIDED))
    result = json.loads((tmp_path / "quick" / f"{name}.json").read_text())
    assert result["quick"] is True
    assert (tmp_path / "quick" / f"{name}.png").stat().st_size > 5000
    kept = CLAIMS[name].keeps_runs  # for other claims of the same recipe
    assert all(kept and "trained" in path.parts for path in tmp_path.rglob("checkpoints"))
    monkeypatch.setattr("sfumato.tools.claims.cells.train", lambda *_, **__: pytest.fail("trained again"))
    assert main(argv) == 0


def test_an_interrupted_measurement_goes_on(capsys, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    argv = ["claims", "min-snr", "--quick", "--seeds", "2", "--out", str(tmp_path)]
    with monkeypatch.context() as patched:
        patched.setattr("sfumato.tools.claims.cells.train", stop)
        assert main(argv) == 130
    assert "go on with the same command" in capsys.readouterr().err
    assert main(argv) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["min-srn"], "did you mean min-snr?"),
        (["min-snr", "--seeds", "1"], "seeds is 1; allowed: >= 2"),
        (["--quick"], "quick is for one claim"),
        (["min-snr", "--sedes", "3"], "did you mean seeds?"),
    ],
)
def test_mistakes_are_refused(argv, said, capsys):
    assert main(["claims", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_difference_within_the_spread_is_no_verdict():
    assert verdict([0.9, 1.0, 1.1]) == HELD
    assert verdict([-0.9, -1.0, -1.1]) == FAILED
    assert verdict([0.1, 0.5, 1.0]) == UNDECIDED
    assert verdict([0.0, 0.0, 0.0]) == FAILED


def test_the_step_that_reaches_a_distance():
    cell = {"steps": [50, 100, 150], "frechet": [100.0, 10.0, 1.0]}
    assert reached(cell, 10.0) == pytest.approx(100)
    assert reached(cell, 10**0.5) == pytest.approx(125)
    assert reached(cell, 200.0) == 50
    assert reached(cell, 0.5) is None


def test_a_variant_that_never_reaches_the_baselines_distance_did_not_hold():
    """Its ratios are upper bounds, here of 1, which the rule of the spread alone would call noise."""

    def cell(*distances):
        return {"steps": [50, 100, 150], "frechet": list(distances)}

    cells = {
        "constant-eps": {k: cell(90.0, 30.0, 9.0 + k) for k in range(3)},
        "min-snr": {k: cell(90.0, 30.0, 20.0 + k) for k in range(3)},
    }
    finding = CLAIMS["min-snr"].judge(cells)
    assert finding.verdict == FAILED
    assert "never reached" in finding.ours
    cells["min-snr"] = {k: cell(20.0, 9.0 + k, 5.0) for k in range(3)}
    assert CLAIMS["min-snr"].judge(cells).verdict == HELD


def test_the_prediction_of_brightness_is_the_odes():
    """A Gaussian brightness: both predictions agree, and with Euler's integration of the ODE from the top of the path."""
    shares = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    means = 0.5 * math.sqrt(2) * torch.erfinv(2 * (torch.arange(20001, dtype=torch.float64) + 0.5) / 20001 - 1)
    top = ScaledLinearBeta()(1.0)
    std = gaussian_std(0.5, top, 1024)
    normal = math.sqrt(2) * torch.erfinv(2 * shares - 1)
    assert torch.allclose(predicted(means, top, 1024, shares), std * normal, atol=2e-3)
    x, ts = normal * top.sigma / 32, torch.linspace(1, 0, 4001).tolist()
    levels = [ScaledLinearBeta()(t) for t in ts]
    for now, nxt in itertools.pairwise(levels):
        x0 = now.alpha * 0.25 / (now.alpha**2 * 0.25 + now.sigma**2 / 1024) * x
        eps = (x - now.alpha * x0) / now.sigma
        x = nxt.alpha * x0 + nxt.sigma * eps
    assert torch.allclose(x, std * normal, atol=2e-3)
    zero = ZeroTerminalSNR(ScaledLinearBeta())(1.0)
    assert gaussian_std(0.5, zero, 1024) == pytest.approx(0.5)
    assert torch.allclose(predicted(means, zero, 1024, shares), 0.5 * normal, atol=1e-3)
    assert isinstance(top, Level)


def test_the_sources_are_what_they_say():
    fields = Fields(200)
    x = fields.batch(torch.arange(200)).x
    assert x.shape == (200, 1, 32, 32)
    assert float(x.abs().max()) <= 1
    plain = x[::2].flatten(1)
    assert torch.equal(plain.min(1).values, plain.max(1).values)
    assert float(x[1::2].flatten(1).std(1).min()) > 0.05
    brightness = plain[:, 0].sort().values
    assert torch.allclose(brightness, torch.linspace(-0.9, 0.9, 100), atol=0.05)
    assert fields.fingerprint == Fields(200).fingerprint != Fields(201).fingerprint
    large, small = (LargeDigits(s).batch(torch.arange(50)).x for s in (16, 8))
    assert large.shape == (50, 1, 16, 16)
    assert torch.allclose(large.mean((1, 2, 3)), small.mean((1, 2, 3)), atol=0.02)
    with pytest.raises(ValueError, match="multiples of 8"):
        LargeDigits(12)
    with pytest.raises(ValueError, match="count is 0"):
        Fields(0)


def test_diverged_pixels_are_counted_before_anything_cuts_them():
    x = torch.tensor([[[0.0, 1.5, -1.5001], [1.9, -2.1, math.nan]], [[1.0, -1.0, 0.3], [1.6, 0.0, -math.inf]]])[:, None]
    assert diverged(x, 0.5).int().tolist() == [[[[0, 0, 1], [1, 1, 1]]], [[[0, 0, 0], [1, 0, 1]]]]
    assert share(x, 0.5) == pytest.approx(6 / 12)
    assert share(x, 1.0) == pytest.approx(3 / 12)
    many = torch.zeros_like(x)
    many[0, 0, 1] = 3.0  # guidance pushes these three out in many steps too
    assert share(x, 0.5, many) == pytest.approx(3 / 12)
    assert share(many, 0.5, x) == 0
    assert distance(torch.tensor([1.0, 2.0, 5.0, 0.0]), torch.tensor([1.0, 0.0, 1.0, 4.0])) == pytest.approx(3.0)
    with pytest.raises(ValueError, match=r"margin is -0\.1; allowed: >= 0"):
        share(x, -0.1)


def _run_of(shares):
    """A run in which a sampler has the same share of diverged pixels everywhere, and at the other margin half of it."""
    rows = [
        {
            "sampler": name, "scale": scale, "steps": steps, "share": [value, value / 2], "fresh": [0.0, 0.0], "rms": 0.0,
            "rms_seen": 0.0,
        }
        for name, value in shares.items()
        for scale in SCALES
        for steps in STEPS
    ]  # fmt: skip
    return {"rows": rows, "margins": [0.5, 1.0], "pictures": {}, "count": 1}


def test_momentum_is_judged_by_the_one_that_gains_less():
    same = dict.fromkeys((*SAMPLERS, REFERENCE), 0.2)

    def said(hb, ghvb):
        runs = {k: _run_of({**same, "PLMS4 + HB 0.8": hb + 0.001 * k, "GHVB 3.8": ghvb}) for k in range(3)}
        return CLAIMS["momentum"].judge({"digits": runs})

    assert gains(_run_of({**same, "GHVB 3.8": 0.05})) == pytest.approx([0.0, 0.15, 0.0])
    assert gains(_run_of({**same, "GHVB 3.8": 0.05}), 1) == pytest.approx([0.0, 0.075, 0.0])
    assert said(0.1, 0.15).verdict == HELD
    assert said(0.1, 0.15).values == pytest.approx([0.05] * 3)
    assert said(0.1, 0.3).verdict == FAILED
    assert said(0.3, 0.1).values == pytest.approx([-0.1, -0.101, -0.102])
    assert said(0.1, 0.15).notes["PLMS4 to GHVB 3.8"]["settings"]["CFG 5, 6 steps"] == [pytest.approx(0.05), HELD]


def test_the_ends_are_those_that_sampling_cuts():
    """Model.sample clamps; uncut, the same pictures, and out of range where the guidance is strong."""
    recipe = CLAIMS["momentum"].recipe("digits", 0, True)
    model = Model(recipe.denoiser().eval(), recipe.data.shape, 10, grid=recipe.grid)
    x = ends(model, SAMPLERS["GHVB 3.8"], 10.0, 6, 12)
    seen = model.sample(
        range(12), [i % 10 for i in range(12)], sampler=SAMPLERS["GHVB 3.8"], steps=6, guidance=CFG(10.0), batch=100
    )
    assert float(x.abs().max()) > 1.5
    assert torch.equal(x.clamp(-1, 1), seen.images)
