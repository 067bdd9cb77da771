"""Conformal bounds: by hand, and the law that they promise."""

import math

import pytest
import torch

from sfumato.samplers.filters import conformal_bounds


def shuffled(count, seed=0):
    """1 .. count in some order."""
    return 1.0 + torch.randperm(count, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(
    ("count", "alpha", "sides", "bounds"),
    [
        (9, 0.1, "upper", (-math.inf, 9.0)),  # rank 10 x 0.9 = 9
        (10, 0.1, "upper", (-math.inf, 10.0)),  # 9.9 -> 10
        (18, 0.1, "upper", (-math.inf, 18.0)),  # 17.1 -> 18
        (19, 0.1, "upper", (-math.inf, 18.0)),  # 18
        (99, 0.01, "upper", (-math.inf, 99.0)),
        (2000, 0.01, "upper", (-math.inf, 1981.0)),  # 1980.99 -> 1981
        (149, 0.18, "upper", (-math.inf, 123.0)),  # 123, of which floats make 123.00000000000001
        (149, 0.36, "both", (27.0, 123.0)),
        (19, 0.1, "both", (1.0, 19.0)),  # 20 x 0.95 = 19
        (39, 0.1, "both", (2.0, 38.0)),
        (40, 0.1, "both", (2.0, 39.0)),  # 38.95 -> 39, and as far from the other end
        (3, 1 - 1e-12, "upper", (-math.inf, 1.0)),
    ],
)
def test_ranks_by_hand(count, alpha, sides, bounds):
    assert conformal_bounds(shuffled(count), alpha, sides) == bounds


@pytest.mark.parametrize(
    ("count", "alpha", "sides", "enough"),
    [(8, 0.1, "upper", 9), (98, 0.01, "upper", 99), (18, 0.1, "both", 19), (0, 0.5, "upper", 1)],
)
def test_too_few_samples_are_refused_with_the_number_that_is_enough(count, alpha, sides, enough):
    with pytest.raises(ValueError, match=rf"{count} real samples are too few for alpha .* at least {enough},"):
        conformal_bounds(shuffled(count), alpha, sides)
    conformal_bounds(shuffled(enough), alpha, sides)
    with pytest.raises(ValueError, match="on both sides" if sides == "both" else r"alpha [\d.]+; allowed"):
        conformal_bounds(shuffled(enough - 1), alpha, sides)


@pytest.mark.parametrize(
    ("scores", "alpha", "sides", "message"),
    [
        ([1.0] * 9, 0.0, "upper", "alpha is 0.0; allowed: above 0 and below 1"),
        ([1.0] * 9, 1.0, "upper", "alpha is 1.0; allowed"),
        ([1.0] * 9, math.nan, "upper", "alpha is nan; allowed"),
        ([1.0] * 9, 0.1, "lower", "sides is 'lower'; allowed: 'upper', 'both'"),
        ([1.0] * 8 + [math.nan], 0.1, "upper", "scores of real samples are nan"),
    ],
)
def test_refusals(scores, alpha, sides, message):
    with pytest.raises(ValueError, match=message):
        conformal_bounds(torch.tensor(scores), alpha, sides)


def test_infinite_scores_have_a_place_in_the_order():
    scores = torch.tensor([1.0] * 17 + [math.inf, -math.inf])
    assert conformal_bounds(scores, 0.1) == (-math.inf, 1.0)
    assert conformal_bounds(scores, 0.05)[1] == math.inf


@pytest.mark.parametrize("sides", ["upper", "both"])
@pytest.mark.parametrize(("count", "alpha"), [(19, 0.1), (25, 0.1), (63, 0.05), (150, 0.3)])
def test_a_further_sample_is_rejected_with_the_probability_that_ranks_say(count, alpha, sides):
    """Of uniform scores the share outside is known given the bounds; its mean over calibrations is 1 - rank / (n + 1) per side."""
    if sides == "both" and count == 19:
        count = 39
    made = torch.Generator().manual_seed(count)
    outside = []
    for _ in range(4000):
        least, most = conformal_bounds(torch.rand(count, generator=made, dtype=torch.float64), alpha, sides)
        outside.append(1 - most + max(least, 0.0))
    mean, per_side = sum(outside) / len(outside), (1 if sides == "upper" else 2)
    rank = math.ceil((count + 1) * (1 - alpha / per_side) - 1e-9)
    wanted = per_side * (1 - rank / (count + 1))
    assert alpha - per_side / (count + 1) <= wanted <= alpha + 1e-12
    error = float(torch.tensor(outside).std()) / math.sqrt(len(outside))
    assert abs(mean - wanted) < 4 * error < 0.2 * alpha


def test_ties_only_make_it_safer():
    """Whole scores: the share of further samples above the bound is at most alpha."""
    made = torch.Generator().manual_seed(0)
    above = []
    for _ in range(2000):
        draws = torch.randint(0, 5, (21,), generator=made).double()
        above.append(float(draws[20] > conformal_bounds(draws[:20], 0.25)[1]))
    assert sum(above) / len(above) <= 0.25 + 3 * math.sqrt(0.25 * 0.75 / 2000)


def test_bounds_of_float32_scores_are_scores():
    scores = torch.rand(99, generator=torch.Generator().manual_seed(1))
    least, most = conformal_bounds(scores, 0.1, "both")
    assert int((scores > most).sum()) == int((scores < least).sum()) == 4
    assert int((scores == most).sum()) == int((scores == least).sum()) == 1
