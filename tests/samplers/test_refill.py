"""Slots, refill and filters: a picture depends on its slot alone, and what is rejected is tried again."""

from dataclasses import dataclass

import pytest
import torch
from oracles import Mixture, log_grid

from sfumato.samplers import DDIM, DPMSolverPP
from sfumato.samplers.filters import Verdict
from sfumato.samplers.refill import addressed, fill
from sfumato.schedules import V, gaussian

LEVELS = log_grid(20, 0.02, 12)


@dataclass(frozen=True)
class Sign:
    """Rejects samples whose first number is not positive."""

    def init(self, x, levels):
        return x

    def update(self, memory, step):
        return step.x if step.last else memory

    def verdict(self, memory):
        score = memory.flatten(1)[:, 0]
        return Verdict(score > 0, -score)


def run(seeds, batch, filters=(), retries=0, sampler=DPMSolverPP(2), **more):  # noqa: B008
    done = {}
    with torch.no_grad():
        for f in fill(
            sampler, lambda slots: Mixture(row=V()), LEVELS, seeds, (3,), filters=filters, retries=retries, batch=batch,
            dtype=torch.float64, **more,
        ):  # fmt: skip
            for s, a, x, k, e in zip(
                f.slots.tolist(), f.attempts.tolist(), f.x, f.keep.tolist(), f.evaluations, strict=True
            ):
                done.setdefault(s, []).append((a, x, k, int(e.sum())))
    return done


@pytest.mark.parametrize("sampler", [DPMSolverPP(2), DDIM(1.0)], ids=str)
@pytest.mark.parametrize("batch", [1, 4, 7, 64])
def test_a_picture_depends_on_its_seed_alone(batch, sampler):
    whole = run(range(20, 40), 64, sampler=sampler)
    other = run(range(20, 40), batch, sampler=sampler)
    alone = run([27], 64, sampler=sampler)
    for slot in range(20):
        assert torch.allclose(whole[slot][0][1], other[slot][0][1], rtol=0, atol=1e-12)
    assert torch.allclose(alone[0][0][1], whole[7][0][1], rtol=0, atol=1e-12)


def test_rejected_slots_try_again_as_further_attempts_of_their_seed():
    done = run(range(50), 8, [Sign()], retries=20)
    assert set(done) == set(range(50))
    for slot, tries in done.items():
        assert [t[0] for t in tries] == list(range(len(tries)))
        assert [t[2] for t in tries] == [False] * (len(tries) - 1) + [True]
        assert all(float(x[0]) > 0 if kept else float(x[0]) <= 0 for _, x, kept, _ in tries)
        assert all(e == 12 for *_, e in tries)
        # the same attempt of the same seed, whatever was beside it
        last = run([slot], 1, [Sign()], retries=20)[0][-1]
        assert last[0] == tries[-1][0]
        assert torch.allclose(last[1], tries[-1][1], rtol=0, atol=1e-12)


def test_batches_stay_full():
    sizes = []
    with torch.no_grad():
        for f in fill(DDIM(), lambda s: Mixture(), LEVELS, range(40), (3,), filters=[Sign()], retries=30, batch=8):
            sizes.append(len(f.slots))
    assert all(n == 8 for n in sizes[:5])
    assert sum(n < 8 for n in sizes) <= 6  # only once the queue has run low


def test_a_slot_that_runs_out_is_marked():
    done = run(range(30), 8, [Sign()], retries=0)
    assert all(len(tries) == 1 for tries in done.values())
    assert {t[0][2] for t in done.values()} == {True, False}


def test_strict_batches_have_one_shape():
    shapes = []

    def network(x, level):
        shapes.append(len(x))
        return Mixture()(x, level)

    with torch.no_grad():
        out = [f.x for f in fill(DDIM(), lambda s: network, LEVELS, range(11), (3,), batch=4, strict=True)]
    assert set(shapes) == {4}
    assert [len(x) for x in out] == [4, 4, 3]


@dataclass(frozen=True)
class LooksAgain:
    """Asks the model once more at the end, at a fresh noising of what was made; remembers its noise."""

    def init(self, x, levels):
        return x

    def update(self, memory, step):
        if not step.last:
            return memory
        again = step.noise(step.index, 0)
        step.denoise(step.x + again, LEVELS[3])
        return again

    def verdict(self, memory):
        score = memory.flatten(1)[:, 0]
        return Verdict(score < 99, score)


def test_a_filter_that_looks_again_is_counted_and_has_noise_of_its_own():
    with torch.no_grad():
        (f,) = fill(
            DDIM(1.0),
            lambda s: Mixture(),
            LEVELS,
            range(4),
            (3,),
            filters=[LooksAgain(), LooksAgain()],
            dtype=torch.float64,
        )
        (plain,) = fill(DDIM(1.0), lambda s: Mixture(), LEVELS, range(4), (3,), dtype=torch.float64)
    assert f.evaluations.tolist() == [[14]] * 4
    assert torch.equal(f.x, plain.x)
    draws = [v.score for v in f.verdicts] + [gaussian(torch.arange(4), 0, 11, 0, (3,), torch.float64)[:, 0]]
    assert len({tuple(d.tolist()) for d in draws}) == 3


def test_noise_is_addressed_by_seed_attempt_step_and_draw():
    noise = addressed(torch.tensor([3, 4]), torch.tensor([0, 2]), (5,))
    assert torch.equal(noise(7, 1)[1:], gaussian(torch.tensor([4]), 2, 7, 1, (5,)))
    assert torch.equal(noise(-1, 0)[:1], gaussian(torch.tensor([3]), 0, -1, 0, (5,)))


def test_refusals():
    for bad in ({"retries": -1}, {"batch": 0}):
        with pytest.raises(ValueError, match="allowed: >= "):
            fill(DDIM(), lambda s: Mixture(), LEVELS, [0], (3,), **bad)
    with pytest.raises(ValueError, match="seed -1"):
        fill(DDIM(), lambda s: Mixture(), LEVELS, [-1], (3,))
