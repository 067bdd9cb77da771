"""A made-up training run whose weights take a random walk, and everything that was averaged on the way, for tests of averages."""

import torch
from torch import nn

from sfumato.diffusion import snapshots
from sfumato.diffusion.ema import Averages
from sfumato.diffusion.posthoc import Stored


class Net(nn.Module):
    """A matrix, a number, a buffer and a counter."""

    def __init__(self, size=64):
        super().__init__()
        self.matrix, self.number = nn.Parameter(torch.zeros(size, 3)), nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


def walk(steps, folder, every, lengths=(0.05, 0.1), dtype="float32", size=64, seed=0):
    """A random walk of the weights with snapshots; returns the network, its averages, and the path: (steps, size, 3), float64."""
    g = torch.Generator().manual_seed(seed)
    net = Net(size)
    averages, path = Averages(net, 0.99, lengths), []
    for step in range(1, steps + 1):
        with torch.no_grad():
            net.matrix += torch.randn(net.matrix.shape, generator=g)
            net.number += 1.0
            net.seen += 1.0
            net.count += 1
        averages.update(net, step)
        path.append(net.matrix.detach().double().clone())
        if every and step % every == 0:
            snapshots.save(folder, step, averages, dtype)
    return net, averages, torch.stack(path)


def stored_in(folder):
    """Every average of the snapshots in a folder."""
    return [
        Stored(s.step, length, path, s.averaged) for s in snapshots.read(folder) for length, path in s.files.items()
    ]
