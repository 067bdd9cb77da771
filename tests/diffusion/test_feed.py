"""Batches in the order of steps, and the generators that a batch finds."""

import random

import numpy as np
import torch

from sfumato.diffusion import Digits
from sfumato.diffusion.draws import DataOrder
from sfumato.diffusion.feed import Feed, seed_everything
from sfumato.schedules import Stream
from sfumato.schedules.noise import integers


def test_generators_are_those_of_a_manual_seed():
    """Seeded without torch.manual_seed, which is slow on a machine without devices, and to the same state."""
    a, b = integers(torch.tensor([7]), 64, 3, 2, Stream.DATA)[0].tolist()
    torch.manual_seed(a << 31 ^ b)
    wanted = torch.random.get_rng_state()
    seed_everything(7, 3, 64, Stream.DATA)
    assert torch.equal(torch.random.get_rng_state(), wanted)
    assert torch.initial_seed() == a << 31 ^ b
    assert random.random() == random.Random(a << 31 ^ b).random()
    assert np.random.rand() == np.random.RandomState(a).rand()  # noqa: NPY002 - the global one is what is seeded


def test_a_process_reads_its_places():
    data = Digits()
    order = DataOrder(5, len(data))
    reads = list(Feed(data, 5, [range(8, 12), range(12, 14)], 16, 9)(2))
    assert [read.places.tolist() for read in reads] == [[8, 9, 10, 11], [12, 13]]
    for read in reads:
        assert torch.equal(read.samples, order(32 + read.places))
        assert torch.equal(read.batch.x, data.batch(read.samples).x)
