"""At which level the probe looks: the last before the first crossing."""

import itertools
import math

import pytest
import torch

from sfumato.diffusion.probe_level import LevelPoint, candidates, find_level
from sfumato.schedules import Cosine, InputScaled, RectifiedFlow, Table, Truncated, VarianceExploding


def errors(ratio):
    """101 errors with median 1 and 99th percentile `ratio`, by linear interpolation."""
    found = torch.ones(101)
    found[99:] = ratio
    return found[torch.randperm(101, generator=torch.Generator().manual_seed(0))]


def level_of(ratios, cut=12.0):
    """With log-SNR 10, 9, 8, ..."""
    at = {10.0 - i: r for i, r in enumerate(ratios)}
    return find_level(lambda v: errors(at[v]), list(at), cut)


@pytest.mark.parametrize(
    ("ratios", "level"),
    [
        ([2, 5, 11, 13, 40], 8.0),
        ([2, 5, 11, 13, 4, 5, 50], 8.0),  # it falls again farther on, and crosses again: the first counts
        ([2, 12, 12.5], 9.0),  # 12 is not more than 12
        ([2, 3, 4], None),
        ([13, 2, 3], None),
        ([2, 13], 10.0),
    ],
)
def test_the_level_before_the_first_crossing(ratios, level):
    found, curve = level_of(ratios)
    assert found == level
    assert [p.log_snr for p in curve] == [10.0 - i for i in range(len(ratios))]
    assert [p.ratio for p in curve] == pytest.approx(ratios)


def test_another_cut_and_quantiles():
    assert level_of([2, 5, 11, 13], 4.0)[0] == 10.0
    (point,) = find_level(lambda v: torch.arange(1.0, 102.0), [0.0])[1]
    assert point == LevelPoint(0.0, 51.0, 100.0)
    assert point.ratio == 100 / 51
    assert LevelPoint(0.0, 0.0, 0.0).ratio == 0.0


def test_errors_that_are_no_numbers_are_refused():
    broken = torch.tensor([1.0, math.nan])
    with pytest.raises(ValueError, match=r"round-trip error of real samples at log-SNR 3 is nan; the weights hold nan"):
        find_level(lambda v: broken if v == 3.0 else errors(2), [4.0, 3.0])


@pytest.mark.parametrize(
    ("path", "top", "bottom"),
    [
        (Cosine(), 12.0, -4.0),
        (RectifiedFlow(), 12.0, -4.0),
        (VarianceExploding(0.01, 50.0), 2 * math.log(100), -4.0),
        (Truncated(Cosine(), log_snr_min=-1.2, log_snr_max=5.0), 5.0, -1.0),
        (InputScaled(Cosine(), 0.5), 12.0, -4.0),
    ],
    ids=str,
)
def test_levels_are_half_a_unit_apart_within_what_the_model_knows(path, top, bottom):
    found = candidates(path)
    assert found[0] == pytest.approx(top)
    assert bottom <= found[-1] < bottom + 0.5 + 1e-9
    assert [a - b for a, b in itertools.pairwise(found)] == pytest.approx([0.5] * (len(found) - 1))


def test_levels_of_a_table_are_entries_not_closer_than_a_quarter():
    table = Table([13.0, 9.0, 8.8, 8.74, 8.0, 3.0, 2.0, -3.9, -4.1])
    assert candidates(table) == pytest.approx([9.0, 8.74, 8.0, 3.0, 2.0, -3.9])
    scaled = candidates(InputScaled(table, 0.5))  # log-SNR falls by log 4
    assert scaled == pytest.approx([v - 2 * math.log(2) for v in (13.0, 9.0, 8.74, 8.0, 3.0, 2.0)])
