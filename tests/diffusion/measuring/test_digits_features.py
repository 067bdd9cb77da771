"""The digits classifier as an extractor, and what judges where nothing was named."""

from __future__ import annotations

import pytest
import torch

from sfumato.diffusion import Digits
from sfumato.diffusion.measuring import DigitsFeatures, OfSource, Pixels, default_extractor, identity, look
from sfumato.diffusion.measuring import judge as judging
from sfumato.diffusion.measuring.judge import train_judge

DIGITS = OfSource(Digits())


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "_EPOCHS", 3)


@pytest.fixture(scope="module")
def extractor() -> DigitsFeatures:
    return DigitsFeatures()


def test_is_the_judge_of_digits(extractor: DigitsFeatures) -> None:
    judge = train_judge(Digits(), 0)
    pixels = DIGITS.pixels(torch.arange(300))
    with torch.inference_mode():  # where nothing could be trained
        seen = look(extractor, pixels)
    x = pixels.float() / 127.5 - 1
    assert torch.equal(seen.features, judge.features(x))
    assert seen.logits is not None
    assert torch.equal(seen.logits, judge.network(x))
    assert seen.features.shape == (300, extractor.num_features)
    labels = DIGITS.classes()
    assert labels is not None
    assert float((seen.logits.argmax(1) == labels[:300]).float().mean()) > 0.95
    assert extractor.test_accuracy == judge.test_accuracy
    # seventeen levels of grey become bytes, which moves features by little
    moved = judge.features(Digits().batch(torch.arange(300)).x) - seen.features
    assert float(moved.abs().max()) < 0.2 < float(seen.features.std())
    # one by one, to rounding
    alone = torch.cat([look(extractor, one[None]).features for one in pixels[:5]])
    torch.testing.assert_close(alone, seen.features[:5], rtol=0, atol=1e-5)


def test_says_who_it_is_and_refuses_other_pictures(extractor: DigitsFeatures) -> None:
    about = identity(extractor)
    assert (about["short"], about["num_features"], about["settings"]["init_args"]) == ("FD-digits", 64, {"seed": 0})
    assert len(about["hash"]) == 16
    with pytest.raises(ValueError, match=r"pictures are \(3, 32, 32\), and DigitsFeatures judges digits, \(1, 8, 8\)"):
        look(extractor, torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"DigitsFeatures\.seed -1"):
        DigitsFeatures(seed=-1)


def test_what_judges_where_nothing_was_named() -> None:
    extractor, remark = default_extractor([1, 8, 8])
    assert extractor == DigitsFeatures()
    assert "digits" in remark
    extractor, remark = default_extractor((3, 32, 32))
    assert extractor == Pixels((3, 32, 32))
    assert "Inception with weights=PATH" in remark
    with pytest.raises(ValueError, match=r"Pixels\.shape is \(4, 8, 8\)"):
        default_extractor((4, 8, 8))
