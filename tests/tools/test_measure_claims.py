"""Claims on measures: the truths that they compare with, and their judges on made-up cells."""

from __future__ import annotations

import pytest
import torch

from sfumato.diffusion.measuring import kernel_distance
from sfumato.tools.claims import CLAIMS
from sfumato.tools.claims.claim import FAILED, HELD
from sfumato.tools.claims.drawn import all_digits, drawn_rows, noise_pictures
from sfumato.tools.claims.kid_unbiased import COUNTS, LAWS, truths


def test_the_truths_are_those_of_the_law_of_all_rows() -> None:
    """A law of two points each: 0 and 2 against 1 and 1, by hand; d = 1."""
    x, y = torch.tensor([[0.0], [2.0]]).double(), torch.tensor([[1.0], [1.0]]).double()
    kernel, frechet = truths(x, y)
    # k is 1, 1, 1, 125 within x, 8 within y, 1 and 27 between
    assert kernel == pytest.approx(128 / 4 + 8 - 2 * 28 / 2)
    assert frechet == pytest.approx(1.0)  # equal means; deviations 1 and 0
    many = torch.arange(3000) % 2
    assert kernel_distance(x[many], y[many]).value == pytest.approx(kernel, rel=0.01)


def test_what_is_drawn_is_a_function_of_its_address_and_even() -> None:
    rows = drawn_rows(20000, 10, 3, 1)
    assert torch.equal(rows[:50], drawn_rows(50, 10, 3, 1))
    assert not torch.equal(rows[:50], drawn_rows(50, 10, 3, 2))
    assert torch.bincount(rows).double().sub(2000).abs().max() < 200
    assert all_digits().shape == (1797, 64)
    noise = noise_pictures(500, 0, 0)
    assert noise.abs().max() <= 1
    assert float(noise.square().mean()) == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize(("kernel_bias", "said"), [(0.01, HELD), (3.0, FAILED)])
def test_a_kernel_distance_with_a_bias_would_not_hold(kernel_bias: float, said: str) -> None:
    def run(k: int) -> dict[str, object]:
        rows = [
            {"law": law, "count": n, "measure": m, "truth": 1.0, "mean": 1.0 + bias + 0.001 * k, "std": 1.0}
            for law in LAWS
            for n in COUNTS
            for m, bias in (("kernel", kernel_bias), ("frechet", 2.0))
        ]
        return {"rows": rows, "repeats": 60}

    finding = CLAIMS["kid-unbiased"].judge({"digits": {k: run(k) for k in range(3)}})
    assert finding.verdict == said
