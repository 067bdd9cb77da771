"""No winner is called inside the noise."""

import math
import random

import pytest
import torch

from sfumato.diffusion.measuring import Spread, leaders


def test_a_winner_beyond_two_deviations_of_the_paired_differences():
    # all three move together from seed to seed: the pairing removes what they share
    assert leaders({"a": [1.0, 5.0, 3.0], "b": [1.5, 5.6, 3.4], "c": [1.2, 4.9, 3.1]}) == ["a", "c"]


def test_one_seed_or_two_tell_nothing_apart():
    assert leaders({"a": [1.0], "b": [100.0]}) == ["a", "b"]
    assert leaders({"a": [1.0, 1.1], "b": [100.0, 100.0]}) == ["a", "b"]


def test_how_often_a_winner_is_called_where_there_is_none():
    drawn = torch.randn(4000, 2, 5, generator=torch.Generator().manual_seed(0)).tolist()
    for seeds, rate in ((3, 0.075), (5, 0.011)):  # |t| > 2 sqrt n
        called = sum(len(leaders({"a": a[:seeds], "b": b[:seeds]})) == 1 for a, b in drawn)
        assert called / 4000 == pytest.approx(rate, abs=4 * (rate / 4000) ** 0.5)


def test_two_seeds_tell_nothing_apart_and_three_call_a_winner_of_equals_rarely():
    assert leaders({"a": [1.0, 1.1], "b": [9.0, 9.1]}) == ["a", "b"]
    draw = random.Random(0)
    called = [len(leaders({name: [draw.gauss(0, 1) for _ in range(3)] for name in "ab"})) == 1 for _ in range(2000)]
    # |t| of 2 degrees of freedom beyond 2 sqrt 3: 1 - 2 sqrt 3 / sqrt 14
    assert sum(called) / 2000 == pytest.approx(1 - math.sqrt(12 / 14), abs=0.02)


def test_the_larger_is_better_on_demand_and_nan_never_leads():
    assert leaders({"a": [0.1, 0.2, 0.1], "b": [0.9, 0.91, 0.9], "c": [math.nan, 1.0, 1.0]}, lower=False) == ["b"]
    assert leaders({"c": [math.inf]}) == []


def test_other_numbers_of_seeds_are_refused():
    with pytest.raises(ValueError, match="the same number"):
        leaders({"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match="empty"):
        Spread(())


def test_a_spread_shows_itself():
    assert str(Spread((1.0, 2.0, 3.0))) == "2 ± 1"
    assert str(Spread((1.0,))) == "1"
    assert math.isnan(Spread((1.0,)).std)
