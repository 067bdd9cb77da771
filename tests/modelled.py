"""A small model with classes that answers something, untrained, for tests of the sampling API."""

import pytest
import torch

from sfumato.diffusion import Denoiser, LogSNRClock, Model, UNet
from sfumato.schedules import (
    EDM,
    RectifiedFlow,
    karras,
)

LABELS = [0, 1, 2, 3, 4, 5]


def network(seed, classes=10, size=8):
    torch.manual_seed(seed)
    net = UNet(channels=1, size=size, num_classes=classes, width=8, multipliers=(1, 2), blocks=1, attention=())
    with torch.no_grad():  # a network that answers something, untrained
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net


def made(seed=0, classes=10, schedule=None, row=None, **rest):
    denoiser = Denoiser(network(seed, classes), schedule or RectifiedFlow(), row or EDM(0.75), LogSNRClock())
    return Model(denoiser, (1, 8, 8), classes, steps=6, grid=karras, **rest)


@pytest.fixture(scope="module", name="model")
def model():
    return made()


def same(a, b, atol=1e-5):
    return torch.allclose(a.images, b.images, atol=atol)
