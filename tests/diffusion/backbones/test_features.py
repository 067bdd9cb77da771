"""Tokens seen half-way: the very ones that the rest of the network reads, however its blocks run."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sfumato.diffusion import UNet
from sfumato.diffusion.backbones import DiT, features
from sfumato.diffusion.compiling import compile_forward
from sfumato.diffusion.recompute import recompute_blocks


def network() -> DiT:
    torch.manual_seed(0)
    net = DiT(1, 4, 0, patch=2, width=16, depth=3, heads=2, registers=2, rope=True)
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return net


X, TIME = torch.linspace(-1, 1, 32).view(2, 1, 4, 4), torch.tensor([1.0, 30.0])


def seen_and_gradients(net: DiT) -> list[Tensor]:
    with features(net, 1) as seen:
        out = net(X, TIME)
    net.zero_grad()
    (seen.tokens.square().sum() + out.sum()).backward()
    return [seen.tokens.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


def test_the_last_blocks_tokens_are_what_the_head_reads() -> None:
    net = network()
    with features(net, -1) as seen:
        out = net(X, TIME)
    shift, scale = net.modulation(nn.functional.silu(net.condition(2, TIME, None))[:, None]).chunk(2, 2)
    patches = net.head(net.norm(seen.tokens) * (1 + scale) + shift)
    torch.testing.assert_close(patches[:, 1].view(2, 2, 2), out[:, 0, :2, 2:], atol=1e-5, rtol=1e-5)
    assert seen.tokens.shape == (2, 4, 16)


def test_gradients_reach_the_blocks_before_and_no_others() -> None:
    net = network()
    with features(net, 1) as seen:
        net(X, TIME)
    seen.tokens.sum().backward()
    moved = {n.split(".")[1] for n, p in net.named_parameters() if p.grad is not None and n.startswith("layers.")}
    assert moved == {"0", "1"}


@pytest.mark.parametrize("compiled", [False, True])
def test_blocks_may_be_recomputed_and_compiled(compiled: bool) -> None:
    net = network()
    plain = seen_and_gradients(copy.deepcopy(net))
    if compiled:
        compile_forward(net, "blocks", backend="eager")
    recompute_blocks(net)
    for got, expected in zip(seen_and_gradients(net), plain, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


def test_a_network_is_watched_only_within() -> None:
    net = network()
    with torch.no_grad(), features(net, 0) as seen:
        net(X, TIME)
        first = seen.tokens
        net(X + 1, TIME)
        assert not torch.equal(seen.tokens, first)  # the last pass
        assert not seen.tokens.requires_grad
    kept = seen.tokens
    net(X, TIME)
    assert seen.tokens is kept
    assert not net.layers[0]._forward_hooks


def test_what_was_not_seen_is_an_error() -> None:
    net = network()
    with features(net, 2) as seen, pytest.raises(ValueError, match="block 2 has not run yet"):
        _ = seen.tokens
    with pytest.raises(ValueError, match="layer is 3; allowed: 0 to 2"), features(net, 3):
        pass
    unet = UNet(1, 4, width=8, multipliers=(1,), blocks=1, attention=())
    with pytest.raises(ValueError, match="this is a UNet"), features(unet, 0):  # pyright: ignore[reportArgumentType]
        pass
