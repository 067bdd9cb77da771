"""Buffers that are put back after a step that came to nothing."""

import torch
from torch import nn

from sfumato.diffusion.still import buffers_of, buffers_within, holders, put_back


class Late(nn.Module):
    """Makes its running mean when it is first asked."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", None)
        self.inner = nn.Sequential(nn.BatchNorm1d(2), nn.ReLU())
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.mean = x.mean(0) if self.mean is None else self.mean
        self.mean += x.mean(0)
        self.seen += 1
        return self.inner(x)


def test_every_buffer_is_kept_once_and_put_back_also_one_that_came_later():
    net = Late()
    layers = holders([net])  # found before there is a mean
    net(torch.randn(4, 2))
    kept = buffers_within(layers)
    assert sorted(b.data_ptr() for b, _ in kept) == sorted(b.data_ptr() for b in net.buffers())
    assert len(kept) == len(buffers_of([net])) == 5
    before = {name: value.clone() for name, value in net.named_buffers()}
    net(torch.randn(4, 2))
    assert not torch.equal(net.mean, before["mean"])
    put_back(kept)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
