"""Memorisation: planted copies are found, and only they; what is not copied gives no alarm more often than said."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from sfumato.diffusion.measuring.memorised import memorised, rank_z


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_planted_copies_are_found_and_only_they() -> None:
    train, fake = normals(400, 24, seed=1), normals(100, 24, seed=2)
    planted = torch.tensor([3, 50, 97])
    fake[planted] = train[torch.tensor([7, 399, 0])]
    fake[20] = train[11] + 0.02 * normals(24, seed=3)
    found = memorised(fake, train, show=4)
    assert found.copies == pytest.approx(3 / 100)
    assert found.memorised == found.near == pytest.approx(4 / 100)
    assert found.pairs.tolist() == [[3, 7], [50, 399], [97, 0], [20, 11]]
    assert torch.equal(found.rows[found.pairs[:, 0]], found.pairs[:, 1])
    assert found.distances[planted].tolist() == found.ratios[planted].tolist() == [0, 0, 0]
    assert float(found.distances[20]) == pytest.approx(float((fake[20].double() - train[11].double()).norm()), rel=1e-9)
    assert found.held_out is None
    larger = memorised(100 * fake, 100 * train)  # in other units the same
    assert (larger.memorised, larger.copies, larger.near) == (found.memorised, found.copies, found.near)


def test_copies_of_a_picture_that_the_data_have_twice_are_found_too() -> None:
    train, fake = normals(300, 24, seed=1), normals(50, 24, seed=2)
    train[100] = train[5] + 1e-3
    fake[0] = train[5]
    fake[1] = train[5] + 5e-4
    found = memorised(fake, train)
    assert found.copies == 1 / 50
    assert float(found.ratios[0]) == 0
    assert float(found.ratios[1]) > 0.9  # by the ratio it is no copy
    assert found.near == 2 / 50
    train[100] = train[5]  # now both nearest are at 0, and 0 / 0 must not hide it
    assert memorised(fake, train, show=1).pairs.tolist() in ([[0, 5]], [[0, 100]])
    assert memorised(fake, train).memorised == memorised(fake, train).copies == 1 / 50


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("ratio", [1 / 3, 0.6])
def test_by_chance_the_share_is_the_ratio_to_the_power_of_the_dimension(d: int, ratio: float) -> None:
    """Within a ball the nearest of two is uniform in volume: P(d1 < r d2) = r^d."""
    generator = torch.Generator().manual_seed(d)
    train, fake = (torch.rand(n, d, generator=generator) for n in (4000, 3000))
    known = ratio**d
    assert memorised(fake, train, ratio=ratio).memorised == pytest.approx(known, abs=4 * math.sqrt(known / 3000))


def test_near_is_within_a_tenth_of_the_usual_distance() -> None:
    train = torch.arange(10.0)[:, None] * 3  # the usual distance is 3
    fake = torch.tensor([[0.29], [3.31], [6.5], [7.5]])
    assert memorised(fake, train).near == 1 / 4
    assert memorised(fake, train, fraction=0.2).near == 3 / 4


def test_the_usual_distance_is_that_of_a_row_to_another() -> None:
    train = torch.arange(10.0)[:, None] * 3
    assert memorised(train[:2], train).usual == 3
    doubled = train.repeat(2, 1)
    assert memorised(train[:2], doubled).usual == 0


def test_the_rank_test_gives_no_alarm_more_often_than_said_and_finds_copiers() -> None:
    p, z = [], []
    for i in range(300):
        train, fake, held_out = (
            normals(60, 3, seed=3 * i),
            normals(40, 3, seed=3 * i + 1),
            normals(30, 3, seed=3 * i + 2),
        )
        found = memorised(fake, train, held_out).held_out
        assert found is not None
        p.append(found.p)
        z.append(found.z)
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 <= sum(v < 0.05 for v in p) / 300 <= 0.09
    # one in three samples lies close to a training picture
    train, fake, held_out = normals(300, 8, seed=1), normals(200, 8, seed=2), normals(200, 8, seed=3)
    fake[:70] = train[:70] + 0.1 * normals(70, 8, seed=4)
    found = memorised(fake, train, held_out).held_out
    assert found is not None
    assert found.p < 1e-4
    assert found.z < -3.7
    # samples that are farther than the data are no alarm
    far = memorised(normals(200, 8, seed=2) * 2, train, held_out).held_out
    assert far is not None
    assert far.p > 0.999


def test_held_out_pictures_say_what_chance_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    train, fake, held_out = (torch.rand(n, 2, generator=generator) for n in (2000, 10, 1500))
    fake[:8] = train[:8]
    found = memorised(fake, train, held_out)
    assert found.memorised >= 0.8
    assert found.held_out is not None
    assert found.held_out.memorised == pytest.approx(1 / 9, abs=0.03)


@pytest.mark.parametrize("step", [None, 0.5])
def test_the_rank_test_is_scipys(step: float | None) -> None:
    x, y = normals(40, seed=1), normals(25, seed=2) + 0.4
    if step is not None:  # with ties
        x, y = (x / step).round() * step, (y / step).round() * step
    peer = scipy.stats.mannwhitneyu(
        x.double().numpy(), y.double().numpy(), alternative="less", method="asymptotic", use_continuity=False
    )
    assert 0.5 * math.erfc(-rank_z(x, y) / math.sqrt(2)) == pytest.approx(float(peer.pvalue), rel=1e-9)
    assert rank_z(x, y) == pytest.approx(-rank_z(y, x))
    assert rank_z(torch.ones(4), torch.ones(3)) == 0


def test_mistakes_are_refused() -> None:
    x = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="ratio and fraction in"):
        memorised(x, x, ratio=1.0)
    with pytest.raises(ValueError, match="held_out is 2 wide"):
        memorised(x, x, torch.zeros(4, 2))
    with pytest.raises(ValueError, match="train has shape"):
        memorised(x, x[:1])
