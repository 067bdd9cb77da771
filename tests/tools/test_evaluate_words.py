"""The headline of a report says no more than its numbers are sure of."""

from types import SimpleNamespace

import pytest

from sfumato.diffusion.measuring import Spread
from sfumato.diffusion.measuring.evaluation import Measured
from sfumato.tools.evaluate_words import headline


def said(values, better="lower", real=4.0, real_std=0.5, low=None, high=None):
    top = Measured(
        "frechet",
        "FD@9",
        values[0],
        better,
        9,
        9,
        low=low,
        high=high,
        real=real,
        real_n=4,
        real_n_reference=5,
        real_std=real_std,
    )
    return headline([SimpleNamespace(numbers=(top,))] * len(values), {"frechet": Spread(tuple(values))})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"values": (9.0, 9.5, 10.0)}, "differ from real ones more than"),
        ({"values": (6.0, 5.0, 4.0)}, "not told apart from real ones"),
        # two deviations on either side: 5.2 to 5.6 against 3 to 5, and then against 2.4 to 5.6
        ({"values": (5.3, 5.4, 5.5)}, "differ from real ones more than"),
        ({"values": (5.3, 5.4, 5.5), "real_std": 0.8}, "not told apart from real ones"),
        ({"values": (1.0, 1.1, 1.2)}, "better than real pictures do"),
        ({"values": (9.0, 9.1, 9.2), "better": "higher"}, "better than real pictures do"),
        ({"values": (9.0,), "low": 8.0, "high": 10.0}, "differ from real ones more than"),
        ({"values": (9.0,), "low": 4.5, "high": 13.5}, "not told apart from real ones"),
    ],
)
def test_a_verdict_beyond_the_spread_only(given, words):
    assert words in said(**given)
    assert "real pictures against other real ones are at 4 ± 0." in said(**given)


@pytest.mark.parametrize(
    "given", [{"values": (9.0,)}, {"values": (9.0, 9.1)}, {"values": (9.0, 9.1, 9.2), "real": None}]
)
def test_no_verdict_where_nothing_says_how_sure(given):
    assert said(**given).endswith("Lower is better.")
