"""No winner is called inside the noise."""

import math

import pytest

from sfumato.diffusion.measuring import Spread, leaders


def test_a_winner_beyond_two_deviations_of_the_paired_differences():
    # all three move together from seed to seed: the pairing removes what they share
    assert leaders({"a": [1.0, 5.0, 3.0], "b": [1.5, 5.6, 3.4], "c": [1.2, 4.9, 3.1]}) == ["a", "c"]


def test_one_seed_tells_nothing_apart():
    assert leaders({"a": [1.0], "b": [100.0]}) == ["a", "b"]


def test_the_larger_is_better_on_demand_and_nan_never_leads():
    assert leaders({"a": [0.1, 0.2], "b": [0.9, 0.91], "c": [math.nan, 1.0]}, lower=False) == ["b"]
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
