"""What claims on hallucinations measure with, on examples made by hand."""

import math

import pytest
import torch

from sfumato.tools.claims import CLAIMS
from sfumato.tools.claims.claim import FAILED, HELD, UNDECIDED
from sfumato.tools.claims.hallucinations import auc, between, kept_at_removed, outcome, removed_at_kept
from sfumato.tools.claims.mode_interpolation import best_window
from sfumato.tools.claims.modes import Modes
from sfumato.tools.claims.modes_recipe import modes_recipe
from sfumato.tools.claims.sampled_modes import MARGIN, NOISINGS, SAMPLERS, statistics

# 50 good ones score 1 to 50; 4 bad ones 25.5, 48.5, 60 and no number
SCORE = torch.cat([torch.arange(1.0, 51.0), torch.tensor([25.5, 48.5, 60.0, math.nan])])
BAD = torch.arange(54) >= 50


def test_removed_at_a_share_that_is_kept():
    # the threshold is the 48th good score of 50: 48.5, 60 and the broken one are above it
    assert removed_at_kept(SCORE, BAD, 0.96) == 0.75
    assert removed_at_kept(SCORE, BAD, 1.0) == 0.5
    assert removed_at_kept(SCORE, BAD, 0.5) == 1.0
    assert removed_at_kept(SCORE[:50], BAD[:50]) is None


def test_kept_at_a_share_that_is_removed():
    assert kept_at_removed(SCORE, BAD, 1.0) == 0.5  # all bad: below 25.5 are 25 of 50
    assert kept_at_removed(SCORE, BAD, 0.75) == 0.96
    assert kept_at_removed(SCORE, BAD, 0.5) == 1.0
    assert kept_at_removed(SCORE[50:], BAD[50:]) is None


def test_the_area_under_the_curve():
    assert auc(SCORE, BAD) == pytest.approx((25 + 48 + 50 + 50) / 200)
    assert auc(torch.ones(10), torch.arange(10) < 3) == 0.5
    assert auc(-SCORE.nan_to_num(99), BAD) == pytest.approx(1 - (25 + 48 + 50 + 50) / 200)
    assert auc(SCORE[:50], BAD[:50]) is None


def test_what_a_threshold_does():
    distance = torch.tensor([1.0, 3.0, 5.0, 6.0, 6.1, 9.0, math.inf])
    score = torch.tensor([1.0, 3.0, 5.0, 2.0, 2.0, 9.0, math.nan])
    assert outcome(score, 2.5, distance) == {
        "removed": pytest.approx(2 / 3), "kept": 0.5, "kept4": 0.5, "rejected": pytest.approx(4 / 7),
    }  # fmt: skip
    assert outcome(score[:4], 9.0, distance[:4]) == {"removed": None, "kept": 1, "kept4": 1, "rejected": 0}


def test_between_which_modes_points_are():
    grid, rotated, gap = Modes("grid"), Modes("rotated"), Modes("gap")

    def at(data: Modes, *points: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(points)[:, :, None, None]

    step = float(grid.centres[1, 1] - grid.centres[0, 1])
    # on an axis, on a diagonal, next to neither, and beyond the last mode
    found = between(grid, at(grid, (step / 2, 0), (step / 3, step / 3), (step / 2, step / 4), (2.5 * step, 0)))
    assert found == {"nearest": 0.25, "next": 0.25}
    # in the diamond an axis joins modes that are not nearest, unless they are two steps apart
    half = float(rotated.centres[:, 0].max()) / 4
    assert between(rotated, at(rotated, (half, 0), (half / 2, half / 2)))["nearest"] == 0.5
    assert between(gap, at(gap, (1.5,), (3.0,), (4.5,), (5.5,))) == {"nearest": 0.5, "next": 0.25}


def _sampled(removed: float, kept: float | None = 0.98) -> dict:
    """What one sampler made: the variance reaches `removed` with its last five steps and half of it with ten."""
    by = {"5": {"auc": 0.9, "removed": removed, "kept": 0.9}, "10": {"auc": 0.8, "removed": removed / 2, "kept": 0.8}}
    done = {"auc": 1.0, "removed": removed, "kept": kept, "kept4": kept, "rejected": 0.1}
    probe = {k: {"plain": done, "rule": done} for k in ("8", str(NOISINGS))}
    return {
        "rate": 0.04, "statistics": dict.fromkeys(("variance", "weighted", "path"), by), "dropped": done, "probe": probe,
        "between": {"nearest": 0.9, "next": 0.05},
    }  # fmt: skip


def _cells(shares: list[float], kept: float | None = 0.98) -> dict:
    return {
        variant: {
            seed: {"level": 5.0, "chance": {}, "samplers": {"DDPM": _sampled(v, kept), "DDIM": _sampled(1.0, kept)}}
            for seed, v in enumerate(shares)
        }
        for variant in ("line", "grid")
    }


def test_the_variance_holds_only_where_its_best_window_removes_enough():
    judge = CLAIMS["mode-interpolation"].judge
    found = judge(_cells([0.97, 0.98, 0.99]))
    assert (found.verdict, found.values) == (HELD, pytest.approx([0.02, 0.03, 0.04]))
    assert (
        "line: 0.98 ± 0.01 in the best window, 0.49 ± 0.01 in the last ten, of 4.0 ± 0.0 % hallucinated" in found.ours
    )
    found = judge(_cells([0.67, 0.66, 0.68]))
    assert found.verdict == FAILED
    assert found.notes["chosen"]["grid"]["windows"] == ["5", "5", "5"]
    assert best_window({"3": {"removed": None}, "4": {"removed": 0.5}}) == ("4", 0.5)


def test_the_probe_holds_only_where_the_worst_cell_meets_both_bounds():
    judge = CLAIMS["renoise-probe"].judge
    found = judge(_cells([0.97, 0.98, 0.975]))
    assert (found.verdict, found.values) == (HELD, pytest.approx([0.02, 0.02, 0.02]))
    assert found.notes["missed"] == []
    assert "both bounds met in 12 of 12" in found.ours
    found = judge(_cells([0.97, 0.0, 0.975]))
    assert found.verdict == UNDECIDED
    assert found.notes["missed"] == [["line", 1, "DDPM", 0.0, 0.98], ["grid", 1, "DDPM", 0.0, 0.98]]
    assert judge(_cells([0.99, 0.99, 0.99], kept=0.94)).verdict == FAILED


def test_both_claims_share_their_cells_and_every_sampler_ends_at_data():
    recipe = modes_recipe("grid", 0, True)
    assert recipe.describe() == CLAIMS["renoise-probe"].recipe("grid", 0, True).describe()
    assert CLAIMS["renoise-probe"].measurement == CLAIMS["mode-interpolation"].measurement
    assert MARGIN >= 1
    for name, (_, grid, steps) in SAMPLERS.items():
        levels = grid(recipe.schedule, steps)
        assert (len(levels), levels[-1].sigma) == (steps + 1, 0), name
        for by in statistics(steps).values():
            for judge in by.values():
                judge.init(torch.zeros(1, 2, 1, 1), levels)
