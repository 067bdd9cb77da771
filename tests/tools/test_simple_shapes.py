"""The claim on Simple Shapes: its measures on cases that are known, its statistics against the filters, its rule."""

import math

import pytest
import torch

from sfumato.diffusion import Model, calibrate
from sfumato.samplers import DDIM
from sfumato.samplers.filters import Calibrated, ExcessError, RenoiseProbe
from sfumato.schedules.noise import gaussian
from sfumato.tools.claims.separation import at_equal, auc, removed
from sfumato.tools.claims.shape_cells import PAPER, SAMPLERS
from sfumato.tools.claims.shape_statistics import (
    CHOSEN,
    CHOSEN_LEVELS,
    LEVELS,
    features,
    grey,
    ink,
    probe,
    statistics_of,
    stored,
)
from sfumato.tools.claims.shapes import Shapes, drawn
from sfumato.tools.claims.simple_shapes import CLAIM, shapes_recipe


def test_the_area_under_the_curve_is_the_share_of_pairs():
    bad, good = torch.tensor([3.0, 1.0, math.nan]), torch.tensor([0.0, 1.0, 2.0, 4.0])
    pairs = [(b > g) + 0.5 * (b == g) for b in (3.0, 1.0, math.inf) for g in good.tolist()]
    assert auc(bad, good) == pytest.approx(sum(pairs) / 12)
    assert auc(-bad[:2], -good) == pytest.approx(1 - auc(bad[:2], good))
    assert auc(bad[:0], good) == 0.5


def test_at_equal_count_what_only_counts_parts_tells_nothing():
    """Scores that are the number of parts, which separate the bad from the good well without the condition."""
    random = torch.Generator().manual_seed(0)
    bad = torch.rand(4000, generator=random) < 0.3
    parts = torch.randint(1, 4, (4000,), generator=random) + bad.long()
    score = parts.double() + 1e-3 * torch.rand(4000, generator=random)
    assert auc(score[bad], score[~bad]) > 0.7
    equal, counted = at_equal(auc, score, bad, ~bad, parts)
    assert equal == pytest.approx(0.5, abs=0.03)
    assert counted == int((bad & (parts < 4)).sum())  # no good picture has four
    # and what knows which are bad tells all, whatever the parts are
    assert at_equal(auc, -10 * parts + bad.double(), bad, ~bad, parts)[0] == 1
    assert at_equal(removed, -10 * parts + bad.double(), bad, ~bad, parts)[0] == 1


def test_the_threshold_keeps_what_it_says():
    good = torch.arange(100.0)
    assert removed(torch.tensor([95.0, 95.5, 96.0]), good, 0.96) == pytest.approx(2 / 3)
    assert removed(torch.tensor([98.0, 100.0]), good, 1.0) == pytest.approx(1 / 2)
    assert removed(good[:0], good) == 0


def _model():
    recipe = shapes_recipe("shapes", 0, True)
    model = Model(recipe.denoiser().eval(), recipe.data.shape, 0, grid=recipe.grid)
    for p in model.denoiser.parameters():  # the network's answer is zero at initialisation
        torch.nn.init.normal_(p, std=0.05, generator=torch.Generator().manual_seed(p.numel()))
    return model


def test_statistics_are_those_of_the_filters():
    """The chosen one is ExcessError, the error at a level RenoiseProbe, on the same noise."""
    model, seeds = _model(), torch.arange(9) + 5
    x = 0.7 * drawn(torch.arange(9), 32)[0]
    network, path = model.denoiser, model.denoiser.schedule
    found, seen = probe(network, x, seeds, batch=4), features(network, x, batch=4)
    scores = statistics_of(x, found, probe(network, stored(x), seeds), seen, found, seen)

    def noise(place, k):
        return gaussian(seeds, 0, (1 << 20) + place, k, x.shape[1:])

    with torch.no_grad():
        for at in (-3.0, 1.0):
            place = LEVELS.index(at)
            own = RenoiseProbe(level=at, path=path).score(x, network, lambda draw, p=place: noise(p, draw))
            assert torch.allclose(scores[f"re-noise probe, {at:g}"], own, rtol=1e-4)
        first = LEVELS.index(CHOSEN_LEVELS[0])
        for name, bins in (("excess error", None), (CHOSEN, 2)):
            judge = ExcessError(levels=CHOSEN_LEVELS, bins=bins, path=path)
            own = judge.score(x, network, lambda draw: noise(first + draw // 8, draw % 8))
            assert torch.allclose(scores[name], own, rtol=1e-3, atol=1e-5)
    assert torch.equal(ink(stored(x)), (x > 0).flatten(1).sum(1).float())
    assert torch.allclose(grey(x), torch.tensor(1024 * (1 - 0.49)))
    assert torch.equal(grey(stored(x)), torch.zeros(9))
    # squared Mahalanobis distances from their own cloud add up to its dimensions
    many = torch.randn(500, 6, generator=torch.Generator().manual_seed(1))
    first = {at: type(p)(*(v[:1].expand(500) for v in p)) for at, p in found.items()}
    same = statistics_of(x[:1].expand(500, -1, -1, -1), first, first, many, found, many)["features"]
    assert float(same.mean()) == pytest.approx(6, rel=0.01)


def _run(ink_, paper, ours):
    def row(equal):
        nothing = dict.fromkeys(("repeat", "malformed", "empty", "any"), 0.5)
        some = dict.fromkeys(("repeat", "own", "column", "malformed"), equal)
        return {"equal": some, "counted": some, "removed_equal": some, "auc": nothing, "removed": nothing}

    one = {
        "pictures": 10, "rates": {"any": 1}, "components": [1], "rule": {},
        "rows": {"ink": row(ink_), "grey": row(0.9), PAPER: row(paper), CHOSEN: row(ours)},
    }  # fmt: skip
    return {"samplers": dict.fromkeys(SAMPLERS, one), "pictures": {}, "real": 1, "planted": {"ink": 0.5}}


def test_the_paper_is_judged_against_ink_in_its_better_direction():
    found = CLAIM.judge({"shapes": {k: _run(0.4, 0.65 + 0.01 * k, 0.9) for k in range(3)}})
    assert found.values == pytest.approx([0.05, 0.06, 0.07])
    assert found.verdict == "held"
    assert found.notes["excess_error"]["values"] == pytest.approx([0.3] * 3)
    assert CLAIM.judge({"shapes": {k: _run(0.4, 0.55 + 0.01 * k, 0.9) for k in range(3)}}).verdict == "did not hold"


def test_the_filter_is_calibrated_on_real_pictures_and_survives_a_file(tmp_path):
    """As many of the samples score at most the threshold as the conformal rank says; samplers take it from the file."""
    model, data = _model(), Shapes(40, 32)
    found = calibrate(model, ExcessError(bins=2, k=2), data, held_out=True, alpha=0.1, batch=16)
    threshold = found.calibration.bounds[1]
    assert int((found.scores <= threshold).sum()) == math.ceil(41 * 0.9)
    found.calibration.save(tmp_path / "excess.json")
    known = Calibrated(str(tmp_path / "excess.json"))
    assert known.filter == found.calibration.filter
    out = model.sample(range(6), sampler=DDIM(), steps=3, filters=[known], retries=0)
    assert torch.equal(out.kept, out.scores[0] <= threshold)
