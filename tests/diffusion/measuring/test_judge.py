"""The judge of digits: how well it reads, that it is a function of its seed, and what its measures say."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from sfumato.diffusion import Digits
from sfumato.diffusion.measuring import judge as judging
from sfumato.diffusion.measuring.judge import Judge, measure, references, train_judge

DIGITS = Digits()


@pytest.fixture(scope="module")
def trained() -> tuple[Judge, float]:
    """The judge of seed 0, and the CPU seconds that it took."""
    len(DIGITS)
    start = time.thread_time()
    return train_judge(DIGITS), time.thread_time() - start


@pytest.fixture(scope="module")
def judge(trained: tuple[Judge, float]) -> Judge:
    return trained[0]


@pytest.fixture(scope="module")
def real() -> tuple[Tensor, Tensor]:
    x, labels, _ = DIGITS.batch(torch.arange(len(DIGITS)))
    assert labels is not None
    return x, labels


def test_reads_digits_it_never_saw(trained: tuple[Judge, float]) -> None:
    judge, seconds = trained
    assert judge.test_accuracy >= 0.98
    assert seconds < 5


def test_features_and_accuracy(judge: Judge, real: tuple[Tensor, Tensor]) -> None:
    x, labels = real
    features = judge.features(x)
    assert features.shape == (1797, 64)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert judge.accuracy(x, labels) > 0.99
    assert judge.accuracy(x, (labels + 1) % 10) < 0.01
    # a picture is judged alone, not beside the others
    torch.testing.assert_close(judge.features(x[:3]), features[:3], rtol=1e-4, atol=1e-4)


def test_is_a_function_of_its_seed_and_leaves_the_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "_EPOCHS", 2)
    half = Digits("even")
    before = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    a = train_judge(half, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.manual_seed(99)
    b = train_judge(half, seed=3)
    torch.random.set_rng_state(before)
    for key, value in a.network.state_dict().items():
        assert torch.equal(value, b.network.state_dict()[key]), key
    assert a.test_accuracy == b.test_accuracy
    c = train_judge(half, seed=4)
    assert not torch.equal(c.network.head.weight, a.network.head.weight)


def test_references_are_in_order(judge: Judge) -> None:
    found = references(judge, DIGITS)
    assert set(found) == {"real_vs_real", "noise_vs_real", "test_accuracy"}
    assert found["test_accuracy"] == judge.test_accuracy
    assert 0 < found["real_vs_real"] < 10 < 200 < found["noise_vs_real"]


def test_measure_of_the_real_digits(judge: Judge, real: tuple[Tensor, Tensor]) -> None:
    x, labels = real
    found = measure(judge, x, x, labels)
    assert set(found) == {"frechet", "accuracy", "n"}
    assert found["frechet"] < 1e-6
    assert found["accuracy"] == judge.accuracy(x, labels)
    assert found["n"] == 1797


def test_measure_sees_blur_noise_and_missing_classes(judge: Judge, real: tuple[Tensor, Tensor]) -> None:
    x, labels = real
    floor = references(judge, DIGITS)["real_vs_real"]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    little, much = ((x + s * noise).clamp(-1, 1) for s in (0.2, 0.6))
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    few = labels < 5
    near, far, blur = (measure(judge, x, fake, labels) for fake in (little, much, blurred))
    assert near["frechet"] < far["frechet"]
    assert far["accuracy"] < near["accuracy"]
    for fake in (far, blur, measure(judge, x, x[few], labels[few])):
        assert fake["frechet"] > floor


def test_refuses_what_it_cannot_judge(judge: Judge, real: tuple[Tensor, Tensor]) -> None:
    x, labels = real
    with pytest.raises(ValueError, match=r"x has shape .* allowed: \(N, 1, 8, 8\)"):
        judge.features(torch.zeros(2, 1, 16, 16))
    with pytest.raises(ValueError, match=r"labels have shape \(3,\); allowed: \(4,\)"):
        judge.accuracy(x[:4], labels[:3])
    with pytest.raises(ValueError, match="seed -1"):
        train_judge(DIGITS, seed=-1)
    with pytest.raises(ValueError, match="nan or infinite"):
        measure(judge, x, torch.full((4, 1, 8, 8), torch.nan), labels[:4])
