"""Anybody's network as an extractor, by class path: what resolves, what is asked, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from sfumato.diffusion.measuring import Extractor, Seen, identity, look
from sfumato.schedules.parts import build
from sfumato.tools.resolve import resolve
from sfumato.tools.spelling import UsageError

NETS = '''
from dataclasses import dataclass
import torch
from torch import nn

class Net(nn.Module):
    """As users of torchmetrics write it: the width is set when it is made, and the answer is a tensor."""
    def __init__(self, width: int = 5):
        super().__init__()
        self.num_features = width
        self.drop = nn.Dropout(0.5)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.linear = nn.Linear(16, width)
    def forward(self, pictures):
        return self.drop(self.linear(pictures.float().flatten(1)))

@dataclass(frozen=True)
class Moments:
    """With scores, and a width without a default."""
    num_features: int
    short = "FD-moments"
    resize = "none"
    def __call__(self, pictures):
        x = pictures.double().flatten(1)
        return torch.stack([x.mean(1), x.std(1)], 1)[:, : self.num_features], x

class Widthless(nn.Module):
    def forward(self, pictures):
        return pictures.flatten(1)

class Talks(Net):
    def forward(self, pictures):
        return {"features": pictures}

class Wide(Net):
    def forward(self, pictures):
        return pictures.float().flatten(1)

class Broken(Net):
    def forward(self, pictures):
        return pictures.flatten(1)[:, :5] / torch.zeros(())

class Silent:
    num_features = 5
'''


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "strangers.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("strangers", None)


@dataclass(frozen=True)
class Asks:
    """What a command has that takes an extractor.

    Args:
        extractor: who looks.
    """

    extractor: Extractor | None = None


def made(spec: object, allow: tuple[str, ...] = ("strangers",)) -> Extractor:
    resolved = resolve({"extractor": spec}, Asks, allow)
    return build(resolved, allow)["extractor"]


def pictures() -> torch.Tensor:
    return torch.arange(4 * 16, dtype=torch.uint8).view(4, 1, 4, 4)


def test_a_module_by_class_path_whose_answer_is_a_tensor() -> None:
    net = made({"class_path": "strangers.Net", "init_args": {"width": 3}})
    assert isinstance(net, torch.nn.Module)
    net.train()
    seen = look(net, pictures())
    assert net.training  # asked in evaluation mode, and left as it was
    with torch.no_grad():
        torch.testing.assert_close(seen.features, net.linear(pictures().float().flatten(1)))  # pyright: ignore
    assert seen.logits is None
    about = identity(net)
    assert (about["name"], about["short"], about["num_features"]) == ("Net", "FD-Net", 3)
    assert identity(made("strangers.Net"))["hash"] != about["hash"]


def test_a_frozen_dataclass_with_scores() -> None:
    extractor = made({"class_path": "strangers.Moments", "init_args": {"num_features": 2}})
    seen = look(extractor, pictures())
    x = pictures().float().flatten(1)
    torch.testing.assert_close(seen, Seen(torch.stack([x.mean(1), x.std(1)], 1), x))
    assert identity(extractor)["settings"]["init_args"] == {"num_features": 2}


def test_short_names_are_ours() -> None:
    extractor = made({"class_path": "Pixels", "init_args": {"shape": [1, 4, 4]}}, ())
    assert look(extractor, pictures()).features.shape == (4, 16)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("Incepton", r"'Incepton' is no Extractor; allowed: CLIP, DINOv2, DigitsFeatures, Inception, Pixels.*did you mean '?Inception"),
        ("strangers.Silent", r"'strangers\.Silent' has no __call__, which a Extractor needs"),
        ("strangers.Missing", r"can't be imported"),
        ("Inception", r"weights: missing"),
        ({"class_path": "Inception", "init_args": {"weights": "nowhere.safetensors"}}, "is no file; nothing is downloaded"),
        ({"class_path": "strangers.Net", "init_args": {"widht": 3}}, "widht: unknown key of Net; allowed: width"),
    ],
)  # fmt: skip
def test_mistakes_in_naming_are_refused(spec: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made(spec)


def test_a_stranger_must_be_allowed() -> None:
    with pytest.raises(UsageError, match=r"outside Sfumato, and importing it runs its code.*--allow strangers"):
        made("strangers.Net", ())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Widthless", "Widthless is no extractor: its num_features is None"),
        ("Talks", "Talks answered with a dict; allowed: a tensor of features, or features and logits"),
        ("Wide", r"Wide made features of shape \(4, 16\) of 4 pictures; allowed: \(4, 5\)"),
        ("Broken", "Broken made features that are not finite"),
    ],
)
def test_mistakes_in_answering_are_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        look(made(f"strangers.{name}"), pictures())
