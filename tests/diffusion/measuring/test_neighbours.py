"""Nearest neighbours and precision, recall, density, coverage: brute force, ties, duplicates, and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.diffusion.measuring import neighbours
from sfumato.diffusion.measuring.neighbours import PRDC, nearest, prdc


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def apart(a: Tensor, b: Tensor) -> np.ndarray:
    """All distances, by differences."""
    x, y = a.double().numpy(), b.double().numpy()
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))


def by_hand(fake: Tensor, real: Tensor, k: int) -> list[float]:
    """The definitions, picture by picture."""
    cross, own_real, own_fake = apart(real, fake), apart(real, real), apart(fake, fake)

    def radius(own: np.ndarray, i: int) -> float:
        return sorted(own[i, j] for j in range(len(own)) if j != i)[k - 1]

    r = [radius(own_real, i) for i in range(len(real))]
    f = [radius(own_fake, j) for j in range(len(fake))]
    rows, columns = range(len(real)), range(len(fake))
    return [
        sum(any(cross[i, j] <= r[i] for i in rows) for j in columns) / len(fake),
        sum(any(cross[i, j] <= f[j] for j in columns) for i in rows) / len(real),
        sum(cross[i, j] < r[i] for i in rows for j in columns) / (k * len(fake)),
        sum(any(cross[i, j] <= r[i] for j in columns) for i in rows) / len(real),
    ]


def values(found: PRDC) -> list[float]:
    return [found.precision, found.recall, found.density, found.coverage]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that sets of a few vectors are looked at in several blocks, the last of them short."""
    monkeypatch.setattr(neighbours, "_ROWS", 7)
    monkeypatch.setattr(neighbours, "_COLUMNS", 11)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 2, 5])
def test_of_clouds_is_brute_force(k: int) -> None:
    fake, real = 0.8 * normals(61, 4, seed=1) + 0.3, normals(47, 4, seed=2)
    assert values(prdc(fake, real, k)) == pytest.approx(by_hand(fake, real, k), abs=1e-12)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("d", "levels"), [(3, 4), (20, 2)])
def test_ties_and_duplicates_are_brute_force(k: int, d: int, levels: int) -> None:
    # on a lattice far from zero many distances are equal, and many vectors, so that every tie is decided wrongly by a rounding
    fake = torch.randint(0, levels, (60, d), generator=torch.Generator().manual_seed(1)).float() * 0.1 + 1000
    real = torch.randint(0, levels, (45, d), generator=torch.Generator().manual_seed(2)).float() * 0.1 + 1000
    assert values(prdc(fake, real, k)) == pytest.approx(by_hand(fake, real, k), abs=1e-12)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("k", [1, 4, 29])
def test_nearest_is_brute_force(k: int, itself: bool) -> None:
    a, b = normals(33, 5, seed=1), normals(33, 5, seed=2)
    if itself:
        b = a
    distances, rows = nearest(a, b, k, itself)
    every = apart(a, b)
    if itself:
        np.fill_diagonal(every, math.inf)
    assert rows.tolist() == np.argsort(every, 1)[:, :k].tolist()
    np.testing.assert_allclose(distances.numpy(), np.sort(every, 1)[:, :k], rtol=1e-14)


def test_equal_vectors_are_at_zero_and_near_ones_at_their_distance() -> None:
    # by |x|^2 + |y|^2 - 2 xy a distance of 1e-4 at a length of 1e5 would be lost in rounding
    x = normals(40, 300, seed=1) + 1e5
    moved = x.double()
    moved[:, 0] += 1e-4
    copies, rows = nearest(x, torch.cat([normals(30, 300, seed=2) + 1e5, x]), 1)
    assert bool((copies == 0).all())
    assert rows[:, 0].tolist() == list(range(30, 70))
    torch.testing.assert_close(
        nearest(moved, x.double(), 1)[0][:, 0], torch.full((40,), 1e-4).double(), rtol=1e-6, atol=0
    )


def test_more_near_ones_than_candidates_are_still_told_apart() -> None:
    # forty vectors whose distances differ by less than the rounding of a matrix product
    base = normals(1, 64, seed=1).double() * 1e4
    around = base.expand(40, -1).clone()
    around[torch.arange(40), torch.arange(40)] += torch.linspace(2e-6, 1e-6, 40).double()
    far = base + 1e4 * normals(20, 64, seed=2).double()
    distances, rows = nearest(base, torch.cat([far, around]), 5)
    np.testing.assert_allclose(distances[0].numpy(), np.sort(apart(base, around)[0])[:5], rtol=1e-12)
    assert rows[0].tolist() == (20 + np.argsort(apart(base, around)[0])[:5]).tolist()

    both = torch.cat([far, around])
    within, at = nearest(both, both, 5, itself=True)
    every = apart(both, both)
    np.fill_diagonal(every, math.inf)
    np.testing.assert_allclose(within.numpy(), np.sort(every, 1)[:, :5], rtol=1e-12)
    assert not bool((at == torch.arange(60)[:, None]).any())


def test_a_row_is_not_its_own_neighbour_but_an_equal_row_is() -> None:
    x = torch.tensor([[0.0], [0.0], [5.0]])
    distances, rows = nearest(x, x, 1, itself=True)
    assert distances[:, 0].tolist() == [0, 0, 5]
    assert rows[:2, 0].tolist() == [1, 0]


def test_a_set_against_itself_has_one_of_all_and_far_sets_nothing() -> None:
    x = normals(100, 6)
    assert values(prdc(x, x, 5)) == [1, 1, 1, 1]
    assert values(prdc(x + 100, x, 5)) == [0, 0, 0, 0]
    same = torch.zeros(20, 3)  # all equal: balls of no radius, whose centre is on their edge
    assert values(prdc(same, same, 3)) == [1, 1, 0, 1]


def test_of_equal_laws_density_is_one_and_coverage_what_ranks_say() -> None:
    """Of n - 1 own and n other vectors the k nearest are all own: k draws without replacement, whatever the law."""
    k, n, repeats = 3, 60, 80
    found = [prdc(normals(n, 2, seed=2 * i), normals(n, 2, seed=2 * i + 1), k) for i in range(repeats)]
    density, coverage = (
        torch.tensor([getattr(f, name) for f in found], dtype=torch.float64) for name in ("density", "coverage")
    )
    uncovered = math.prod((n - 1 - i) / (2 * n - 1 - i) for i in range(k))
    for measured, known in ((density, 1.0), (coverage, 1 - uncovered)):
        assert abs(float(measured.mean()) - known) < 3 * float(measured.std()) / math.sqrt(repeats)
        assert float(measured.std()) / math.sqrt(repeats) < 0.012  # sharp enough to see k wrong by one


def test_known_balls_on_a_line() -> None:
    # balls of k = 1 around 0, 1, 3 reach 1, 1, 2; those of the fakes around 0.5, 10 reach 9.5
    real, fake = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [10.0]])
    assert values(prdc(fake, real, 1)) == pytest.approx([1 / 2, 1, 2 / 2, 2 / 3])


@pytest.mark.parametrize(
    ("fake", "real", "k", "said"),
    [
        (torch.zeros(5, 3), torch.zeros(5, 4), 2, "real is 4 wide, the others 3"),
        (torch.zeros(5, 3), torch.zeros(9, 3), 5, "k is 5; allowed: 1 to 4, below the counts: 5 fakes, 9 real"),
        (torch.zeros(5, 3), torch.zeros(9, 3), 0, "k is 0"),
        (torch.full((5, 3), math.nan), torch.zeros(9, 3), 1, "fake holds nan"),
        (torch.zeros(5), torch.zeros(9, 3), 1, "fake has shape"),
    ],
)
def test_mistakes_are_refused(fake: Tensor, real: Tensor, k: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prdc(fake, real, k)


def test_nearest_refuses_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="k is 3; allowed: 1 to 2, of 3 vectors without itself"):
        nearest(torch.zeros(3, 1), torch.zeros(3, 1), 3, itself=True)
    with pytest.raises(ValueError, match="itself is True for 3 and 4 vectors"):
        nearest(torch.zeros(3, 1), torch.zeros(4, 1), 1, itself=True)
