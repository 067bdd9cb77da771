"""Alignment: the term is what it says, and tokens become what the encoder says."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sfumato.diffusion import (
    Alignment,
    Denoiser,
    Digits,
    DiT,
    LearnedUncertainty,
    LogSNRClock,
    Noised,
    Recipe,
    Regression,
    UNet,
    train,
)
from sfumato.diffusion.backbones import features
from sfumato.schedules import Constant, Cosine, V
from sfumato.schedules.parts import build, describe


@dataclass(frozen=True)
class Patches:
    """An encoder whose features are the pixels of a patch, times a number."""

    size: int = 2
    by: float = 1.0

    def __call__(self, x0: Tensor) -> Tensor:
        return self.by * torch.nn.functional.unfold(x0, self.size, stride=self.size).mT


def network(**more: int) -> DiT:
    torch.manual_seed(0)
    net = DiT(1, 8, 0, patch=2, width=16, depth=3, heads=2, **more)
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return net


def batch() -> Noised:
    generator = torch.Generator().manual_seed(1)
    x0, eps = torch.randn(2, 6, 1, 8, 8, generator=generator)
    return Noised(x0, eps, Cosine()(torch.linspace(0.1, 0.9, 6, dtype=torch.float64)))


def test_the_loss_is_the_others_plus_one_minus_the_cosine() -> None:
    denoiser, seen = Denoiser(network(registers=2), Cosine(), V(), LogSNRClock()), batch()
    part = Alignment(Patches(by=3.0), width=16, features=4, layer=1, scale=0.7, hidden=8)
    head = part.head()
    assert head is not None
    losses, plain = part(denoiser, head, Constant(), seen), Regression()(denoiser, None, Constant(), seen)
    assert isinstance(denoiser.backbone, DiT)
    with features(denoiser.backbone, 1) as inside:
        denoiser.answer(seen.x, seen.level)
    said = head(inside.tokens)
    for i in range(6):
        cosines = []
        for place in range(16):
            row, column = 2 * (place // 4), 2 * (place % 4)
            patch = seen.x0[i, 0, row : row + 2, column : column + 2].flatten()
            cosines.append(said[i, place] @ patch / (said[i, place].norm() * patch.norm()))
        torch.testing.assert_close(losses.loss[i], plain.loss[i] + 0.7 * (1 - torch.stack(cosines).mean()))
    assert torch.equal(losses.error, plain.error)
    losses.loss.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_it_trains_within_a_run_with_blocks_recomputed(tmp_path) -> None:
    part = Alignment(Patches(), width=16, features=4, layer=1, hidden=32)
    common = {
        "data": Digits(), "schedule": Cosine(), "row": V(), "clock": LogSNRClock(), "steps": 12, "batch": 16, "lr": 3e-3, "warmup": 1,
        "sample_every": 0, "seed": 1, "threads": 1, "save_every": 0,
    }  # fmt: skip
    recipe = Recipe(**common, backbone=network(), objective=part, gradient_checkpointing=True)
    again = build(describe(part), allow=[__name__.partition(".")[0]])
    assert again == part
    before = copy.deepcopy(recipe.backbone.state_dict())
    train(recipe, tmp_path / "aligned")
    train(Recipe(**common, backbone=network(), objective=Regression()), tmp_path / "plain")
    assert all(torch.equal(v, before[k]) for k, v in recipe.backbone.state_dict().items())  # the recipe's is copied
    files = [sorted(p.name for p in (tmp_path / run).glob("checkpoints/*/*")) for run in ("aligned", "plain")]
    assert [any("head" in name for name in found) for found in files] == [True, False]


def test_what_does_not_fit_is_refused() -> None:
    seen = batch()
    for message, arguments in [
        ("width is 0", {"width": 0}),
        ("scale is -1", {"scale": -1.0}),
        ("LearnedUncertainty, which trains a head of its own", {"objective": LearnedUncertainty()}),
    ]:
        with pytest.raises(ValueError, match=message):
            Alignment(Patches(), **arguments)
    unet = UNet(1, 8, width=8, multipliers=(1,), blocks=1, attention=())
    cases = [
        ("the backbone is a UNet", Alignment(Patches(), 16, 4), unet),
        ("objective.width is 24; allowed: the backbone's, 16", Alignment(Patches(), 24, 4), network()),
        (r"encoder says \(6, 4, 16\); allowed: \(6, 16, 4\)", Alignment(Patches(4), 16, 4, layer=0), network()),
        ("layer is 7; allowed: 0 to 2", Alignment(Patches(), 16, 4), network()),
    ]
    for message, part, net in cases:
        with pytest.raises(ValueError, match=message):
            part(Denoiser(net, Cosine(), V(), LogSNRClock()), part.head(), Constant(), seen)
