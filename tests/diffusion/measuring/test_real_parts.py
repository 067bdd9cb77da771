"""Real against real at the counts of what is measured, and what classes in exact proportions do to the kernel distance."""

import statistics

import pytest
import torch
from modelled import made

from sfumato.diffusion import Digits, Split, evaluate
from sfumato.diffusion.measuring import OfSource, OfTensor, Pixels, as_bytes, frechet, kernel_distance, moments
from sfumato.diffusion.measuring.evaluator import Evaluator
from sfumato.schedules.noise import permutation

EYE = Pixels((1, 8, 8))


def features(source, index):
    return EYE(as_bytes(source.batch(index).x)).features


def test_real_parts_have_the_counts_of_what_is_measured():
    source = Digits()
    judge = Evaluator(OfSource(source), EYE, measures=["frechet", "kid", "recall", "memorised"])
    for count in (100, 900):
        found = judge.of(OfTensor(OfSource(source).pixels(torch.arange(count))))
        n = min(count, 898)
        orders = [permutation(0, choice, 1797) for choice in range(5)]
        parts = [[features(source, part) for part in (order[:n], order[n:])] for order in orders]
        distances = [frechet(moments(fake), moments(real)) for fake, real in parts]
        assert found["frechet"].real == pytest.approx(statistics.fmean(distances), rel=1e-6)
        assert found["frechet"].real_std == pytest.approx(statistics.stdev(distances), rel=1e-4)
        kernels = [kernel_distance(fake, real).value for fake, real in parts]
        assert found["kid"].real == pytest.approx(statistics.fmean(kernels), rel=1e-4, abs=1e-7)
        for number in found.numbers:
            assert (number.real_n, number.real_n_reference) == (n, 1797 - n)
        # no picture is in both parts, so none is a copy of itself
        assert found["memorised"].real < 0.05


def test_pictures_that_were_held_out_and_no_training_pictures_say_what_chance_is():
    train, rest = (OfSource(Split(Digits(), part=part, share=0.2)) for part in ("train", "held_out"))
    found = evaluate(OfTensor(train.pixels(torch.arange(50))), train, EYE, measures=["memorised"], held_out=rest)
    assert found["memorised"].value == 1
    held = found.details["memorisation"]["held_out"]["memorised"]
    assert (found["memorised"].real, found["memorised"].real_n, found["memorised"].real_n_reference) == (
        held,
        359,
        1438,
    )
    assert held < 0.05


def test_classes_in_exact_proportions_lower_the_kernel_distance_and_the_note_says_so():
    # two points, so that the kernel (d = 1, degree 3) is 8 within the class at 1, 1 within that at 0 and 1 between them
    n, real = 10, torch.tensor([[0.0]] * 500 + [[1.0]] * 500)
    fake = torch.tensor([[0.0]] * 5 + [[1.0]] * 5)
    real_bias = (4.5 - 2.75) / 999  # the reference is in exact proportions itself
    assert kernel_distance(fake, real).value == pytest.approx(-(4.5 - 2.75) / (n - 1) - real_bias, rel=1e-9)

    model, source = made(), OfSource(Digits(), 60)
    for labels, said in (
        ([i % 10 for i in range(30)], True),
        ([0] * 12 + [1] * 8 + [2] * 10, False),
        ([3] * 30, False),
    ):
        e = evaluate(model.sample(range(30), labels, steps=1), source, EYE, measures=["kid", "frechet"])
        assert any("in exact proportions" in remark for remark in e.remarks) == said
