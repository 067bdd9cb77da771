"""The Inception score: closed forms, torchmetrics' formula, and what order and size do."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from sfumato.diffusion.measuring.inception_score import inception_score
from sfumato.schedules.noise import permutation


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_of_a_classifier_that_knows_nothing_is_one() -> None:
    assert inception_score(torch.full((50, 7), 3.0), 5) == pytest.approx((1, 0), abs=1e-12)
    # sure, but always of the same
    assert inception_score(1000.0 * torch.eye(7)[[2] * 50], 5) == pytest.approx((1, 0), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 10])
def test_of_sure_and_balanced_answers_is_the_number_of_classes(classes: int) -> None:
    mean, std = inception_score(1000.0 * torch.eye(classes).repeat(6, 1), 1)
    assert mean == pytest.approx(classes, rel=1e-12)
    assert math.isnan(std)


def test_of_two_kinds_of_answers_by_hand() -> None:
    # (0.9, 0.1) and (0.1, 0.9): log 2 minus the entropy
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    known = math.exp(math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert inception_score(p.log() + 5, 1).mean == pytest.approx(known, rel=1e-12)


def test_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.inception import InceptionScore

    class Flat(torch.nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            return pictures.flatten(1).double() / 50

    pictures = torch.randint(0, 256, (60, 3, 2, 2), generator=torch.Generator().manual_seed(1)).byte()
    with pytest.warns(UserWarning, match="will save all extracted features"):
        whole = InceptionScore(feature=Flat(), splits=1)
    whole.update(pictures)
    logits = Flat()(pictures)
    with pytest.warns(UserWarning, match="std"):  # of one split
        known = float(whole.compute()[0])
    assert inception_score(logits, 1).mean == pytest.approx(known, rel=1e-6)


def test_splits_are_dealt_at_random_by_seed_and_their_spread_is_the_samples() -> None:
    logits = 1000.0 * torch.eye(5).repeat_interleave(
        20, 0
    )  # in order of class: as they come, each split would have one
    mean, std = inception_score(logits, 5)
    assert mean > 4
    assert (mean, std) == inception_score(logits, 5, seed=0)
    assert mean != inception_score(logits, 5, seed=1)[0]
    parts = [
        inception_score(part, 1).mean for part in normals(23, 4)[permutation(2, 0, 23)].tensor_split(3)
    ]  # of 8, 8 and 7
    assert inception_score(normals(23, 4), 3, seed=2) == pytest.approx(
        (statistics.fmean(parts), statistics.stdev(parts))
    )


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="splits is 5; allowed: 1 to 4"):
        inception_score(torch.zeros(4, 3), 5)
    with pytest.raises(ValueError, match="logits are"):
        inception_score(torch.full((4, 3), math.inf))
