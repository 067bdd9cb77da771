"""The loss-second-moment resampler: its shares, that it is unbiased, and what it remembers."""

import pytest
import torch

from sfumato.schedules import BetaTable, Cosine, Learning, LossSecondMoment, Table
from sfumato.schedules.density import Density

FOUR = Table([3.0, 1.0, -1.0, -3.0])


def told(density, schedule, losses, times):
    known = density.start(schedule)
    count = len(known)
    t = (torch.arange(count, dtype=torch.float64) + 1) / count
    for _ in range(times):
        known = density.learn(known, t, losses)
    return known


def test_golden():
    """Constant losses 1, 2, 3, 4 on four entries."""
    density = LossSecondMoment()
    known = told(density, FOUR, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), 10)
    assert density.shares(known).tolist() == pytest.approx([0.10015, 0.20005, 0.29995, 0.39985], abs=1e-12)
    drawn = density.draw(known, torch.tensor([0.05, 0.2, 0.5, 0.9], dtype=torch.float64), FOUR)
    assert drawn.level.t.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert drawn.weight.tolist() == pytest.approx([2.49625562, 1.24968758, 0.83347225, 0.62523446], abs=6e-9)


def test_uniform_until_every_entry_is_known():
    density = LossSecondMoment()
    known = told(density, FOUR, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), 9)
    assert density.shares(known).tolist() == [0.25] * 4
    known = density.learn(
        known, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    )
    assert density.shares(known).tolist() == [0.25] * 4
    known = density.learn(known, torch.tensor([1.0], dtype=torch.float64), torch.tensor([9.0], dtype=torch.float64))
    assert density.shares(known).argmax() == 3


def test_it_is_the_second_moment():
    """Losses 0 and 2 weigh sqrt 2, as much as 1 and 1 would not."""
    density = LossSecondMoment(history=2, uniform=1e-12)
    known = torch.tensor([[0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    first, second = density.shares(known).tolist()
    assert first / second == pytest.approx(2**0.5)
    edge = torch.tensor([first, first - 1e-9], dtype=torch.float64)
    assert density.draw(known, edge, Table([1.0, -1.0])).level.t.tolist() == [1.0, 0.5]


def test_unbiased():
    """The expected loss is that of uniform entries, whatever it has learned."""
    density, table = LossSecondMoment(), BetaTable("linear", 100)
    losses = torch.logspace(-3, 1, 100, dtype=torch.float64)
    known = told(density, table, losses, 10)
    u = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    drawn = density.draw(known, u, table)
    index = (drawn.level.t * 100).round().long() - 1
    weighted = losses[index] * drawn.weight
    assert float(weighted.mean()) == pytest.approx(float(losses.mean()), rel=1e-4)
    # and it is what it promises: less variance than uniform draws
    assert float(weighted.var()) < 0.01 * float(losses.var())


def test_the_last_losses_count_in_order():
    density = LossSecondMoment(history=2, uniform=1e-9)
    known = density.start(FOUR)
    t = torch.tensor([0.5, 0.25, 0.5, 0.75, 0.5, 1.0], dtype=torch.float64)
    known = density.learn(known, t, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64))
    assert known[1].tolist() == [3.0, 5.0]
    assert known[0, 1:].tolist() == [2.0]
    assert torch.isnan(known[0, 0])
    one_by_one = density.start(FOUR)
    for i in range(6):
        one_by_one = density.learn(one_by_one, t[i : i + 1], torch.tensor([1.0 + i], dtype=torch.float64))
    assert torch.equal(known.nan_to_num(-1), one_by_one.nan_to_num(-1))


def test_it_is_a_density_and_a_learning_one():
    assert isinstance(LossSecondMoment(), Density)
    assert isinstance(LossSecondMoment(), Learning)
    u = torch.tensor([0.1, 0.6], dtype=torch.float64)
    assert LossSecondMoment(10)(u, Cosine()).level.t.tolist() == [0.2, 0.7]
    known = torch.zeros(4, 10, dtype=torch.float64)  # every loss was zero
    assert LossSecondMoment().shares(known).tolist() == [0.25] * 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: LossSecondMoment(0),
        lambda: LossSecondMoment(history=0),
        lambda: LossSecondMoment(uniform=0.0),
        lambda: LossSecondMoment().start(Cosine()),
    ],
)
def test_refusals(make):
    with pytest.raises(ValueError, match=r"allowed|give steps"):
        make()


def test_a_large_batch_is_learned_as_one_loss_after_the_other():
    generator = torch.Generator().manual_seed(0)
    density = LossSecondMoment(history=3)
    index = torch.randint(0, 4, (1000,), generator=generator).square() // 4  # uneven
    t, loss = (index + 1).double() / 4, torch.rand(1000, generator=generator, dtype=torch.float64)
    rows = [[float("nan")] * 3 for _ in range(4)]
    for i, value in zip(index.tolist(), loss.tolist(), strict=True):
        rows[i] = [*rows[i][1:], value]
    known = density.learn(density.start(FOUR), t, loss)
    assert torch.equal(known.nan_to_num(-1), torch.tensor(rows, dtype=torch.float64).nan_to_num(-1))
