"""The gradient noise scale: closed form, its own error, resumption, and what it does with steps that tell nothing."""

import math

import pytest
import torch

from sfumato.diffusion.noise_scale import NoiseScale, Scale

SMALL, BIG, SIZE = 8, 64, 50


def problem(steps, seed, noise=2.0):
    """Squared norms of means over 8 and 64 gradients, the 8 within the 64: G of norm 1, per-sample noise of trace noise^2 SIZE."""
    draw = torch.Generator().manual_seed(seed)
    true = torch.nn.functional.normalize(torch.arange(1.0, SIZE + 1, dtype=torch.float64), dim=0)
    spread = torch.linspace(0.5, 1.5, SIZE, dtype=torch.float64) * noise
    each = true + spread * torch.randn(steps, BIG, SIZE, generator=draw, dtype=torch.float64)
    return each[:, :SMALL].mean(1).square().sum(1), each.mean(1).square().sum(1), float(spread.square().sum())


def test_it_converges_to_the_closed_form():
    """|G|^2 = 1 and tr(Sigma) = sum of variances: the error falls as 1 / sqrt(steps)."""
    small, big, trace = problem(3000, 0)
    wrong = []
    for steps in (30, 300, 3000):
        known = NoiseScale(decay=1.0 - 1e-9)
        for a, b in zip(small[:steps], big[:steps], strict=True):
            known.add(a, SMALL, b, BIG)
        read = known.read()
        assert read.gradient_square is not None
        assert read.noise_trace is not None
        assert read.scale is not None
        assert read.noise_trace == pytest.approx(trace, rel=0.5 / math.sqrt(steps))
        wrong.append(abs(read.scale - trace))
    assert wrong[2] < 0.03 * trace
    assert wrong[2] < wrong[0]
    assert read.gradient_square == pytest.approx(1.0, abs=0.03)


def test_each_estimator_is_unbiased_where_a_step_tells_nothing():
    """With the noise at 870 times |G|^2 a step's own estimate of |G|^2 is below zero in two of five; the means are right."""
    small, big, trace = problem(2000, 1, noise=4.0)
    known = NoiseScale(decay=1.0 - 1e-9)
    for a, b in zip(small, big, strict=True):
        known.add(a, SMALL, b, BIG)
    read = known.read()
    gradient = (BIG * big - SMALL * small) / (BIG - SMALL)
    assert float((gradient < 0).double().mean()) > 0.3
    assert read.gradient_square == pytest.approx(1.0, abs=3 * float(gradient.std()) / math.sqrt(len(gradient)))
    assert read.noise_trace == pytest.approx(trace, rel=0.03)
    assert read.scale is not None
    assert read.error is not None
    assert abs(read.scale - trace) < 3 * read.error < 0.6 * trace


def test_its_own_error_is_the_scatter_of_repeats():
    """Over 50 repeats the truth lies within two standard errors about 95 times of 100, and the errors are as large as the scatter."""
    scales, errors, trace = [], [], 0.0
    for seed in range(50):
        small, big, trace = problem(120, 100 + seed, noise=1.0)
        known = NoiseScale(decay=0.98)
        for a, b in zip(small, big, strict=True):
            known.add(a, SMALL, b, BIG)
        read = known.read()
        scales.append(read.scale)
        errors.append(read.error)
    scales, errors = torch.tensor(scales), torch.tensor(errors)
    assert float(errors.mean()) == pytest.approx(float(scales.std()), rel=0.25)
    assert float(((scales - trace).abs() < 2 * errors).double().mean()) > 0.85


def test_a_constant_stream_is_read_without_bias_from_the_first_step():
    """|g_B|^2 = |G|^2 + tr / B put in exactly comes out exactly, however short the average and however unequal the sizes."""
    known = NoiseScale(decay=0.9)
    for small, big in ((4, 8), (1, 64), (16, 17)):
        known.add(torch.tensor(3.0 + 12.0 / small), small, torch.tensor(3.0 + 12.0 / big), big)
        read = known.read()
        assert read.gradient_square == pytest.approx(3.0, rel=1e-5)
        assert read.noise_trace == pytest.approx(12.0, rel=1e-4)
        assert read.scale == pytest.approx(4.0, rel=1e-4)


def test_it_follows_a_change():
    """After 5 / (1 - decay) steps of other noise the old is forgotten to e^-5."""
    known = NoiseScale(decay=0.9)
    for trace in [10.0] * 50 + [1000.0] * 50:
        known.add(torch.tensor(1.0 + trace / 8), 8, torch.tensor(1.0 + trace / 64), 64)
    assert known.read().scale == pytest.approx(1000.0, rel=0.01)


def test_resumed_it_is_the_same_to_the_bit():
    small, big, _ = problem(30, 2)
    whole, first = NoiseScale(), NoiseScale()
    for i, (a, b) in enumerate(zip(small.float(), big.float(), strict=True)):
        whole.add(a, SMALL, b, BIG)
        if i == 11:
            saved = {k: v.clone() for k, v in first.state().items()}
            first = NoiseScale()
            first.restore(saved)
        first.add(a, SMALL, b, BIG)
    assert torch.equal(whole.state()["known"], first.state()["known"])
    assert whole.read() == first.read()


def test_a_step_that_is_not_finite_is_left_out():
    small, big, _ = problem(5, 3)
    with_bad, without = NoiseScale(), NoiseScale()
    for i, (a, b) in enumerate(zip(small, big, strict=True)):
        if i == 2:
            with_bad.add(a, SMALL, torch.tensor(math.inf), BIG)
            with_bad.add(torch.tensor(math.nan), SMALL, b, BIG)
        with_bad.add(a, SMALL, b, BIG)
        without.add(a, SMALL, b, BIG)
    assert torch.equal(with_bad.state()["known"], without.state()["known"])


def test_what_is_not_positive_is_no_scale():
    known = NoiseScale()
    assert known.read() == Scale(None, None, None, None)
    assert "can't be told yet" in known.read().words(64)
    known.add(torch.tensor(9.0), 8, torch.tensor(1.0), 64)  # all noise: |G|^2 is estimated below 0
    read = known.read()
    assert read.gradient_square is not None
    assert read.gradient_square < 0
    assert read.scale is None
    with pytest.raises(ValueError, match="64 and 64 samples; allowed: 0 < small < big"):
        known.add(torch.tensor(1.0), 64, torch.tensor(1.0), 64)
    with pytest.raises(ValueError, match=r"NoiseScale.decay is 1.0; allowed: 0 <= decay < 1"):
        NoiseScale(1.0)
    with pytest.raises(ValueError, match=r"holds \['other'\]; allowed: what NoiseScale.state"):
        known.restore({"other": torch.zeros(6)})


def test_the_words_say_no_more_than_is_known():
    assert "the batch is 64, the noise scale suggests about 310 (one standard error 40): a larger batch" in Scale(
        1.0, 312.0, 312.0, 40.0
    ).words(64)
    assert "a smaller one would learn about as much" in Scale(1.0, 9.0, 9.0, 1.0).words(64)
    assert "agree within a factor of two" in Scale(1.0, 60.0, 60.0, 1.0).words(64)
    assert "too uncertain to act on" in Scale(1.0, 60.0, 60.0, 40.0).words(64)
    assert "order of magnitude" in Scale(1.0, 12345.6, 12345.6, 40.0).words(64)
    assert "about 12,000" in Scale(1.0, 12345.6, 12345.6, 40.0).words(64)
    assert "about 0.012" in Scale(1.0, 0.0123, 0.0123, 0.001).words(64)
