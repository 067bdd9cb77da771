"""muP: what a step changes, and which learning rate is best, do not depend on the width."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from faulted import tiny
from torch import Tensor, nn

from sfumato.diffusion import AdamW, DiT, Group, Library, MuP, Recipe
from sfumato.diffusion.backbones import features
from sfumato.diffusion.plan import check_recipe

HEAD_WIDTH = 16


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(width: int, base: int = 0) -> DiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DiT(2, 4, 5, patch=2, width=width, depth=2, heads=width // HEAD_WIDTH, base_width=base)


def problem(step: int, count: int = 32) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Noisy pictures of five classes, their times and labels; and the flow to be learned."""
    generator = torch.Generator().manual_seed(1000 + step)
    x0 = torch.randn(count, 2, 4, 4, generator=generator).sign().cumsum(3) / 2
    labels = torch.randint(0, 5, (count,), generator=generator)
    x0 = x0 * (labels[:, None, None, None] - 2) / 2
    t = torch.rand(count, generator=generator)
    eps, s = torch.randn(x0.shape, generator=generator), t[:, None, None, None]
    return ((1 - s) * x0 + s * eps, 1000 * t, labels), eps - x0


def step(net: DiT, optimizer: torch.optim.Optimizer, lr: float, number: int) -> float:
    given, target = problem(number)
    loss = (net(*given) - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    for group in optimizer.param_groups:  # as the trainer does
        group["lr"] = lr * group.get("lr_scale", 1.0)
    optimizer.step()
    return loss.item()


def changes(width: int, base: int) -> list[float]:
    """How far the third step moves the tokens after each block, the condition and the output, mean of the absolute values."""
    net = network(width, base)
    optimizer = (MuP(base) if base else AdamW())([Group.of(net)])
    (x, time, labels), _ = problem(-1)

    def coordinates() -> list[Tensor]:
        with torch.no_grad(), features(net, 0) as first, features(net, 1) as second:
            out = net(x, time, labels)
            return [first.tokens, second.tokens, net.condition(len(x), time, labels), out]

    for number in range(2):
        step(net, optimizer, 1e-2, number)
    before = coordinates()
    step(net, optimizer, 1e-2, 2)
    return [(a - b).abs().mean().item() for a, b in zip(coordinates(), before, strict=True)]


def test_what_a_step_changes_is_the_same_at_every_width() -> None:
    """The coordinate check of 2203.03466, appendix D.1."""
    narrow, middle, wide = (changes(width, 64) for width in (64, 128, 256))
    for a, b, c in zip(narrow, middle, wide, strict=True):
        assert 0.7 < b / a < 1.4
        assert 0.7 < c / a < 1.4
    narrow, wide = (changes(width, 0) for width in (64, 256))
    grown = [c / a for a, c in zip(narrow, wide, strict=True)]
    assert min(grown[:2]) > 4.0  # the tokens, which hidden matrices make
    assert grown[2] > 1.5


def test_initial_weights_are_those_of_the_base_width() -> None:
    """What reads the input is spread as at the base width, what reads the width by the root of their ratio."""
    wide = network(512, 32)
    spread = {
        "embed": math.sqrt(2 / (8 + 32)),
        "condition.time_in": 0.02,
        "condition.label": 0.02,
        "condition.time_out": 0.02 * math.sqrt(32 / 512),
        "layers.0.qkv": math.sqrt(2 / (4 * 512)),
    }
    for name, std in spread.items():
        assert abs(wide.get_submodule(name).weight.std().item() / std - 1) < 0.05, name
    assert network(512).embed.weight.std() < 0.3 * wide.embed.weight.std()


def test_matrices_that_read_the_width_move_less_and_decay_as_much() -> None:
    net = DiT(
        2, 4, 3, patch=2, width=64, depth=1, heads=2, text_width=6, registers=1, augment_features=2, base_width=16
    )
    group, beside = Group.of(net), Group.of(nn.Linear(3, 1), decay=False)
    optimizer = MuP(16, AdamW(weight_decay=0.1))([group, beside])
    assert [(g.get("lr_scale", 1.0), g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.25, pytest.approx(0.4)), (1.0, 0.1), (1.0, 0.0)
    ]  # fmt: skip
    named = {id(p): n for n, p in net.named_parameters()}
    moved = [named[id(p)] for p in optimizer.param_groups[0]["params"]]
    layer = [
        f"layers.0.{n}.weight"
        for n in ("modulation", "qkv", "out", "cross.q", "cross.kv", "cross.out", "mlp_in", "mlp_out")
    ]
    assert moved == [
        "condition.time_out.weight",
        *layer,
        "modulation.weight",
        "head.weight",
        "text_tokens.proj_out.weight",
    ]
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(named) + 2


def test_at_the_base_width_it_is_the_optimizer_alone() -> None:
    nets = [network(32, 32), network(32, 32)]
    optimizers = [MuP(32)([Group.of(nets[0])]), AdamW()([Group.of(nets[1])])]
    for net, optimizer in zip(nets, optimizers, strict=True):
        for number in range(3):
            step(net, optimizer, 3e-3, number)
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    radam = MuP(16, Library(torch.optim.RAdam, {}))([Group.of(nets[0])])
    assert {g.get("lr_scale", 1.0) for g in radam.param_groups} == {0.5, 1.0}


def test_what_can_not_be_scaled_is_refused() -> None:
    for message, arguments in [
        ("base_width is 0", (0,)),
        ("base_width is 1.5", (1.5,)),
        ("a list of words", (8, AdamW(), "embed")),
    ]:
        with pytest.raises(ValueError, match=message):
            MuP(*arguments)
    with pytest.raises(ValueError, match="linear layer 'head', which this network does not have"):
        MuP(8)([Group.of(nn.Linear(3, 3))])

    def together(groups: list[Group]) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for g in groups for p in g.parameters.values()])

    with pytest.raises(ValueError, match="moves in one group what muP moves at different rates"):
        MuP(8, together)([Group.of(network(16))])  # pyright: ignore[reportArgumentType]


def test_a_recipe_has_one_base_width() -> None:
    def recipe(base: int, **changes: Any) -> Recipe:
        return tiny(backbone=DiT(1, 2, 3, patch=2, width=16, depth=1, heads=1, base_width=base), **changes)

    check_recipe(recipe(8, optimizer=MuP(8)))
    check_recipe(recipe(0))
    check_recipe(tiny())  # a network that knows of none
    for wrong, said in [
        (
            recipe(8, optimizer=MuP(4)),
            "optimizer.base_width is 4 and backbone.base_width 8.*set backbone.base_width: 4, or optimizer.base_width: 8",
        ),
        (
            recipe(0, optimizer=MuP(4)),
            "optimizer.base_width is 4 and backbone.base_width 0.*set backbone.base_width: 4, or another optimizer",
        ),
        (
            recipe(8),
            "backbone.base_width is 8, and optimizer is AdamW.*MuP with optimizer.base_width: 8, or backbone.base_width: 0",
        ),
    ]:
        with pytest.raises(ValueError, match=said):
            check_recipe(wrong)


@pytest.mark.slow
def test_the_best_learning_rate_is_the_same_at_every_width() -> None:
    """200 steps of a small flow: best at 2^-6 from width 32 to 128; without muP that rate is too high for the wider ones."""

    def final(width: int, base: int, lr: float, steps: int = 200) -> float:
        net = network(width, base)
        optimizer = (MuP(base) if base else AdamW())([Group.of(net)])
        losses = [step(net, optimizer, lr * (1 - number / steps), number) for number in range(steps)]
        return sum(losses[150:]) / 50

    def best(width: int, base: int) -> float:
        found = {power: final(width, base, 2.0**power) for power in range(-8, -3)}
        return min(found, key=lambda power: found[power] if math.isfinite(found[power]) else math.inf)

    assert [best(width, 32) for width in (32, 64, 128)] == [-6, -6, -6]
    assert best(128, 0) < -6
    assert final(128, 0, 2.0**-6) > 1.3 * final(128, 32, 2.0**-6)
