"""Looking on while a model samples: what is shown is what is made, it changes nothing, and an exception ends the work."""

import pytest
import torch
from modelled import LABELS, made

from sfumato.guidance import CFG
from sfumato.samplers import DDIM, DPMSolverPP
from sfumato.samplers.filters import RenoiseProbe


class Enough(Exception):
    pass


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_shown_is_what_is_made(strict):
    model, seen = made(), []
    plain = model.sample(range(5), LABELS[:5], guidance=CFG(2.0), steps=4, sampler=DDIM(), batch=3, strict=strict)
    watched = model.sample(
        range(5), LABELS[:5], guidance=CFG(2.0), steps=4, sampler=DDIM(), batch=3, strict=strict, watch=seen.append
    )
    assert torch.equal(plain.images, watched.images)
    assert [(g.step.index, g.steps, g.slots.tolist()) for g in seen] == [
        (i, 4, slots) for slots in ([0, 1, 2], [3, 4]) for i in range(4)
    ]
    for g in seen:
        assert g.x0.shape[0] == len(g.slots) == len(g.attempts)
        # DDIM's step is one line of its prediction
        nxt, p = g.step.level, g.step.prediction
        if not g.step.last:
            torch.testing.assert_close(nxt.alpha * p.x0 + nxt.sigma * p.eps, g.step.x)
    last = torch.cat([g.x0 for g in seen if g.step.last])
    torch.testing.assert_close(last.clamp(-1, 1), plain.images)  # at sigma 0 the step ends at the prediction


def test_evaluations_are_those_so_far():
    model, seen = made(), []
    model.sample(
        [1], [2], guidance=CFG(2.0), steps=3, sampler=DPMSolverPP(), watch=lambda g: seen.append(g.spent.tolist())
    )
    assert seen == [[[1, 1]], [[2, 2]], [[3, 3]]]


def test_attempts_are_told_and_an_exception_ends_it_at_once():
    model, seen = made(), []

    def watch(g):
        seen.append((g.attempts.tolist(), g.step.index))
        if len(seen) == 5:
            raise Enough

    with pytest.raises(Enough):
        model.sample([3], [1], steps=2, filters=[RenoiseProbe(1.0, threshold=0.0, k=1)], watch=watch)
    assert seen == [([0], 0), ([0], 1), ([1], 0), ([1], 1), ([2], 0)]
    assert len(model.sample([3], [1], steps=2)) == 1
