"""Prediction types: golden values, round trips, the regular ends, and the refusal of pairings without meaning."""

import pytest
import torch
from oracles import ROWS

from sfumato.schedules import (
    EDM,
    X0,
    Eps,
    Flow,
    Level,
    Negative,
    PairingError,
    Prediction,
    Score,
    V,
    check_pairing,
    from_eps,
    from_x0,
    target,
)
from sfumato.schedules.prediction import lerp

ONE = torch.ones(1, 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("row", "level", "out"),
    [
        (V(), Level(0.5, 0.6, 0.8), -1.5),
        (Flow(), Level(0.5, 0.6, 0.8), -2.0),
        (Eps(), Level(0.5, 0.6, 0.8), -0.5),
        (X0(), Level(0.5, 0.6, 0.8), 1.5),
        (EDM(0.5), Level(0.5, 0.6, 0.8), 2.9845492535),
        (EDM(1.0), Level(0.5, 0.6, 0.8), 1.5),
        (Negative(EDM(1.0)), Level(0.5, 0.6, 0.8), -1.5),
        (Score(), Level(0.5, 0.6, 0.8), 0.625),
        (Flow(), Level(0.7, 0.3, 0.7), -2.0),
        (EDM(0.5), Level(0.7, 0.3, 0.7), 3.0381717866),
        (EDM(0.5), Level(0.5, 1.0, 2.0), 3.0316953130),
    ],
    ids=str,
)
def test_golden(row, level, out):
    """x0 = 1.5, eps = -0.5."""
    assert float(target(row, level, 1.5 * ONE, -0.5 * ONE)) == pytest.approx(out, abs=1e-9)


def test_edm_is_the_preconditioning_of_the_paper():
    g, sd, x0, eps = 2.0, 0.5, 1.5, -0.5
    z = x0 + g * eps
    skip, out = sd**2 / (g**2 + sd**2), g * sd / (g**2 + sd**2) ** 0.5
    assert float(target(EDM(sd), Level(0, 1.0, g), x0 * ONE, eps * ONE)) == pytest.approx(
        (x0 - skip * z) / out, abs=1e-14
    )


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("log_snr", [-30.0, -10.0, 0.0, 10.0, 30.0])
@pytest.mark.parametrize("scale", [1.0, 0.1, 7.0])
def test_round_trip(row, log_snr, scale):
    level = Level.from_log_snr(0.5, log_snr)
    level = Level(0.5, scale * level.alpha, scale * level.sigma)
    x0, eps = torch.tensor([[1.5, -0.3]], dtype=torch.float64), torch.tensor([[-0.5, 2.0]], dtype=torch.float64)
    x = level.alpha * x0 + level.sigma * eps
    p = Prediction(x, level, target(row, level, x0, eps), row)
    # what is solved from its small share of x keeps the digits that x has of it
    loss_x0, loss_eps = max(1.0, level.ratio), max(1.0, 1 / level.ratio)
    free = isinstance(row, V | EDM)
    assert torch.allclose(
        p.x0, x0, rtol=0, atol=1e-14 * (10 if free and scale == 1 else 10 * loss_x0 * max(scale, 1 / scale))
    )
    assert torch.allclose(
        p.eps, eps, rtol=0, atol=1e-14 * (10 if free and scale == 1 else 10 * loss_eps * max(scale, 1 / scale))
    )


@pytest.mark.parametrize("row", [V(), Flow(), EDM(0.5), X0()], ids=str)
def test_regular_at_zero_snr(row):
    level, x0, eps = Level(1.0, 0.0, 1.0), 1.5 * ONE, -0.5 * ONE
    p = Prediction(eps, level, target(row, level, x0, eps), row)
    assert (float(p.x0), float(p.eps)) == pytest.approx((1.5, -0.5), abs=1e-14)


@pytest.mark.parametrize("row", [V(), Flow(), EDM(0.5), Eps()], ids=str)
def test_regular_without_noise(row):
    level, x0, eps = Level(0.0, 1.0, 0.0), 1.5 * ONE, -0.5 * ONE
    p = Prediction(x0, level, target(row, level, x0, eps), row)
    assert (float(p.x0), float(p.eps)) == pytest.approx((1.5, -0.5), abs=1e-14)


def test_meaningless_pairings_are_refused_with_the_fix():
    with pytest.raises(PairingError, match=r"Eps at zero SNR.*V \(v-prediction\)"):
        check_pairing(Eps(), Level(1.0, 0.0, 1.0))
    with pytest.raises(PairingError, match=r"X0 at no noise.*row: V"):
        check_pairing(X0(), Level(0.0, 1.0, 0.0))
    for row in ROWS:
        check_pairing(row, Level(0.5, 0.6, 0.8))


def test_per_sample_and_element_wise_levels():
    x0, eps = torch.randn(2, 1, 3, 3, dtype=torch.float64), torch.randn(2, 1, 3, 3, dtype=torch.float64)
    for alpha in (
        torch.tensor([0.3, 0.9], dtype=torch.float64),
        torch.rand(2, 1, 3, 3, dtype=torch.float64) * 0.9 + 0.05,
    ):
        level = Level(0 * alpha, alpha, (1 - alpha**2).sqrt())
        at = level.like(x0)
        x = at.alpha * x0 + at.sigma * eps
        for row in ROWS:
            p = Prediction(x, level, target(row, at, x0, eps), row)
            assert torch.allclose(p.x0, x0, atol=1e-12)
            assert torch.allclose(p.eps, eps, atol=1e-12)


def test_lerp_of_raw_outputs_is_lerp_of_what_they_mean():
    x, level = torch.randn(4, 2, dtype=torch.float64), Level(0.5, 0.6, 0.8)
    for row in ROWS:
        a, b = (Prediction(x, level, torch.randn(4, 2, dtype=torch.float64), row) for _ in range(2))
        mixed = lerp(a, b, 3.5)
        assert mixed.raw
        assert torch.allclose(mixed.x0, a.x0 + 3.5 * (b.x0 - a.x0), atol=1e-12)
        assert torch.allclose(mixed.eps, a.eps + 3.5 * (b.eps - a.eps), atol=1e-12)
        pair = lerp(Prediction.pair(a.x0, a.eps), b, 3.5)
        assert torch.allclose(pair.x0, mixed.x0, atol=1e-12)


def test_a_learned_variance_is_the_conditional_one():
    x, level = torch.randn(4, 2), Level(0.5, 0.6, 0.8)
    a, b = (Prediction(x, level, torch.randn(4, 2), V(), torch.full((4, 2), v)) for v in (0.1, 0.9))
    index = torch.tensor([1, 3])
    for pair in (False, True):
        if pair:
            a, b = (Prediction.pair(p.x0, p.eps, p.variance) for p in (a, b))
        assert torch.equal(lerp(a, b, 3.0).variance, b.variance)
        assert torch.equal(a.rows(index).variance, a.variance[index])
        assert a.put(index, b.rows(index)).variance[:, 0].tolist() == pytest.approx([0.1, 0.9, 0.1, 0.9])


def test_rows_and_put():
    x, level = torch.randn(4, 2), Level(0.5, 0.6, 0.8)
    for p in (Prediction(x, level, torch.randn(4, 2), V()), Prediction.pair(torch.randn(4, 2), torch.randn(4, 2))):
        index = torch.tensor([1, 3])
        part = p.rows(index)
        assert torch.allclose(part.x0, p.x0[index])
        other = Prediction.pair(torch.zeros(2, 2), torch.ones(2, 2))
        merged = p.put(index, other)
        assert torch.equal(merged.x0[index], torch.zeros(2, 2))
        assert torch.allclose(merged.eps[torch.tensor([0, 2])], p.eps[torch.tensor([0, 2])])
        assert torch.allclose(p.put(index, part).x0, p.x0)


def test_from_x0_and_from_eps_agree_with_x():
    x, level = torch.randn(3, 2, dtype=torch.float64), Level(0.5, 0.6, 0.8)
    for p in (
        from_x0(x, level, torch.randn(3, 2, dtype=torch.float64)),
        from_eps(x, level, torch.randn(3, 2, dtype=torch.float64)),
    ):
        assert torch.allclose(0.6 * p.x0 + 0.8 * p.eps, x, atol=1e-14)


@pytest.mark.parametrize("log_snr", [-30.0, -10.0, 0.0, 10.0, 30.0])
@pytest.mark.parametrize("to", [*ROWS, Score(), Negative(Flow())], ids=str)
@pytest.mark.parametrize("row", [*ROWS, Score(), Negative(Flow())], ids=str)
def test_any_row_becomes_any_other(row, to, log_snr):
    """What one network says, said by another type: through the pair, back to the first."""
    level = Level.from_log_snr(0.5, log_snr)
    x0, eps = torch.tensor([[1.5, -0.3]], dtype=torch.float64), torch.tensor([[-0.5, 2.0]], dtype=torch.float64)
    x = level.alpha * x0 + level.sigma * eps
    p = Prediction(x, level, target(row, level, x0, eps), row)
    said = target(to, level, p.x0, p.eps)
    q = Prediction(x, level, said, to)
    # each solve may lose the digits that x has of the smaller part
    loss = max(level.ratio, 1 / level.ratio) * (1 / level.sigma if Score() in (row, to) else 1.0)
    assert torch.allclose(target(row, level, q.x0, q.eps), p.out, rtol=0, atol=3e-15 * max(1.0, loss))
    assert torch.allclose(level.alpha * q.x0 + level.sigma * q.eps, x, atol=1e-14 * max(1.0, loss))


def test_a_score_is_refused_where_it_is_infinite_or_blind():
    with pytest.raises(PairingError, match="the score is infinite there"):
        check_pairing(Score(), Level(0.0, 1.0, 0.0))
    with pytest.raises(PairingError, match=r"Negative\(row=Score\(\)\).*the score is infinite there"):
        check_pairing(Negative(Score()), Level(0.0, 1.0, 0.0))
    with pytest.raises(PairingError, match="Score at zero SNR"):
        check_pairing(Score(), Level(1.0, 0.0, 1.0))
