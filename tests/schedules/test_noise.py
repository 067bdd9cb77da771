"""Addressed noise: known answers, the same bits everywhere, normality, independence, no collisions."""

import math

import pytest
import torch

from sfumato.schedules import Stream, check_seeds, gaussian, permutation, uniform
from sfumato.schedules.noise import _log, _turn, host_integers, integers
from sfumato.schedules.philox import philox, words


def _words(counter, key):
    return [int(w) for w in philox(tuple(torch.tensor([v]) for v in counter), tuple(torch.tensor([v]) for v in key))]


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers_of_random123(counter, key, answer):
    assert _words(counter, key) == [int(w, 16) for w in answer.split()]


def test_logarithm_and_turn_are_what_they_say():
    u = torch.cat(
        [
            torch.rand(20_000, dtype=torch.float64),
            torch.tensor([0.5 * 2.0**-32, 1 - 0.5 * 2.0**-32, 0.5, math.sqrt(0.5)]),
        ]
    )
    assert torch.allclose(_log(u), torch.log(u), rtol=1e-14, atol=1e-15)
    w = torch.cat([torch.randint(0, 2**32, (20_000,)), torch.arange(4) * 2**30, torch.tensor([2**32 - 1])])
    angle = (w.double() + 0.5) * (2 * math.pi / 2**32) - math.pi / 4
    cosine, sine = _turn(w)
    assert torch.allclose(cosine, angle.cos(), rtol=0, atol=2e-15)
    assert torch.allclose(sine, angle.sin(), rtol=0, atol=2e-15)


PINNED = ["1.0517586849", "-0.2725678202", "2.1910375194", "-0.5392786795", "1.1483302492", "-0.4400001009"]


def test_the_bits_are_pinned():
    """A release that changes them changes every picture of every seed."""
    first = gaussian(torch.tensor([0, 1, 2**40]), 0, 0, 0, (2,), torch.float64)
    again = gaussian(torch.tensor([0, 1, 2**40]), 0, 0, 0, (2,), torch.float64)
    assert torch.equal(first, again)
    assert [f"{v:.10f}" for v in first.flatten().tolist()] == PINNED


def test_a_sample_is_the_same_in_any_batch_and_order():
    seeds = torch.arange(70)
    whole = gaussian(seeds, 3, 5, 1, (3, 37, 11))
    order = torch.randperm(70)
    assert torch.equal(gaussian(seeds[order], 3, 5, 1, (3, 37, 11)), whole[order])
    assert torch.equal(gaussian(seeds[42:43], 3, 5, 1, (3, 37, 11)), whole[42:43])


def test_large_samples_are_the_same_in_chunks():
    """Element i is made of its own words: a long stream begins as a short one does, across the chunks of the implementation."""
    long = gaussian(torch.tensor([7]), 0, 0, 0, (200_003,))
    assert torch.equal(gaussian(torch.tensor([7]), 0, 0, 0, (65_539,)), long[:, :65_539])
    assert torch.equal(
        words(torch.tensor([7]), (torch.tensor([1]),) * 3, 40)[:, 8:],
        words(torch.tensor([7]), (torch.tensor([1]),) * 3, 32, 8),
    )


def test_normality():
    z = gaussian(torch.arange(64), 0, 0, 0, (1 << 14,), torch.float64).flatten()
    n = len(z)
    assert abs(float(z.mean())) < 4 / math.sqrt(n)
    assert abs(float(z.var()) - 1) < 4 * math.sqrt(2 / n)
    assert abs(float((z**3).mean())) < 4 * math.sqrt(15 / n)
    assert abs(float((z**4).mean()) - 3) < 4 * math.sqrt(96 / n)
    # Kolmogorov-Smirnov against the normal distribution, 1 in 10,000
    cdf = 0.5 * (1 + torch.erf(z.sort().values / math.sqrt(2)))
    steps = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert float((cdf - steps).abs().max()) < 2.23 / math.sqrt(n)


def test_draws_at_neighbouring_addresses_are_independent():
    seeds = torch.arange(8)
    base = gaussian(seeds, 0, 0, 0, (1 << 14,), torch.float64)
    others = [
        gaussian(seeds + 1, 0, 0, 0, (1 << 14,), torch.float64),
        gaussian(seeds + 2**32, 0, 0, 0, (1 << 14,), torch.float64),
        gaussian(seeds, 1, 0, 0, (1 << 14,), torch.float64),
        gaussian(seeds, 0, 1, 0, (1 << 14,), torch.float64),
        gaussian(seeds, 0, -1, 0, (1 << 14,), torch.float64),
        gaussian(seeds, 0, 0, 1, (1 << 14,), torch.float64),
        gaussian(seeds, 0, 0, 0, (1 << 14,), torch.float64, Stream.TRAIN_NOISE),
        base.roll(1, 1),
        base.roll(2, 1),
    ]
    n = base.numel()
    for other in others:
        assert abs(float((base * other).mean())) < 4.5 / math.sqrt(n)
        assert abs(float(((base**2 - 1) * (other**2 - 1)).mean())) < 4.5 * 2 / math.sqrt(n)


def test_no_two_addresses_collide():
    """The first 64 bits of 100,000 streams over all parts of the address; a collision of honest ones has probability 3e-10."""
    seed, attempt, step, draw = (torch.randint(0, 2**20, (100_000,)) for _ in range(4))
    address = (draw, step, attempt)
    bits = words(seed, address, 2)
    unique_addresses = torch.stack([seed, *address], 1).unique(dim=0)
    assert len(((bits[:, 0] << 31) ^ bits[:, 1]).unique()) >= len(unique_addresses)
    one = words(torch.tensor([7, 7 + 2**32, 7 + 2**33]), (torch.zeros(3, dtype=torch.int64),) * 3, 2)
    assert len(one.unique(dim=0)) == 3


@pytest.mark.parametrize("seeds", [[-1], [2**63], [2**70], [1.5], [True], ["3"]], ids=str)
def test_seeds_that_would_wrap_are_refused(seeds):
    with pytest.raises(ValueError, match=r"allowed: whole numbers in \[0, 2\^63\)"):
        check_seeds(seeds)


def test_seeds_of_all_kinds():
    assert check_seeds(range(3)).tolist() == [0, 1, 2]
    assert check_seeds(torch.tensor([5])).tolist() == [5]
    assert check_seeds([2**63 - 1]).tolist() == [2**63 - 1]
    with pytest.raises(ValueError, match="float32"):
        check_seeds(torch.tensor([0.5]))


def test_uniform():
    u = uniform(torch.zeros(1 << 16, dtype=torch.int64), torch.arange(1 << 16), 3, 1, Stream.TRAIN_TIME)[:, 0]
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    steps = torch.arange(1, len(u) + 1, dtype=torch.float64) / len(u)
    assert float((u.sort().values - steps).abs().max()) < 2.23 / math.sqrt(len(u))


def test_permutation():
    one = permutation(5, 0, 1797)
    assert torch.equal(one.sort().values, torch.arange(1797))
    assert torch.equal(one, permutation(5, 0, 1797))
    for other in (permutation(5, 1, 1797), permutation(6, 0, 1797)):
        # the expected number of fixed points between two random orders is 1
        assert int((one == other).sum()) < 10
    assert permutation(0, 0, 1).tolist() == [0]


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5, 2**63 - 1])
def test_integers_of_the_host_are_those_of_tensors(seed):
    for index, step, stream in ((0, 0, Stream.DATA), (2**32 - 1, -1, Stream.TRAIN_NETWORK), (3, 2**31, Stream.MEASURE)):
        found = host_integers(seed, index, step, 11, stream)
        assert found == integers(torch.tensor([seed]), index, step, 11, stream)[0].tolist()
