"""Numbers to operations: whatever linear step a sampler makes, the operations found compute it."""

import random
from dataclasses import dataclass

import pytest
import torch

from sfumato.samplers import State, plan, trajectory
from sfumato.samplers.buffers import Buffers
from sfumato.samplers.form import Form
from sfumato.samplers.plan import bind
from sfumato.samplers.table import Program
from sfumato.schedules import Level, Prediction
from sfumato.tools.bench.methods import ROWS, levels_for


def program(coins):
    """A step of small numbers: memory and x that are often sums and multiples of each other."""
    width, draws, asks = coins.randint(0, 3), coins.randint(0, 1), coins.randint(1, 2)
    names = ["x", *(f"m{j}" for j in range(width)), *(f"z{j}" for j in range(draws)), *(f"x0.{k}" for k in range(asks))]

    def form():
        return Form(
            {n: coins.choice([1.0, 2.0, -1.0, 0.5, 3.0]) for n in coins.sample(names, coins.randint(1, len(names)))}
        )

    forms = [form()]
    while len(forms) < width + 2:
        other = forms[coins.randrange(len(forms))] * coins.choice([1.0, 2.0, -1.0]) + form() * coins.choice([0.0, 1.0])
        forms.append(other if other.terms else form())
    level = Level(0.0, 1.0, 2.0)
    return Program(tuple((Form.symbol("x"), level) for _ in range(asks)), forms[-1], tuple(forms[1:-1]), 0), names


@pytest.mark.parametrize("hundred", range(10))
def test_any_linear_step_is_what_its_numbers_say(hundred):
    for seed in range(100 * hundred, 100 * hundred + 100):
        coins, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        made, names = program(coins)
        draws, width = "z0" in names, len(made.memory)
        rows = [coins.choice([ROWS["x0"], None]) for _ in made.asks]
        scales = tuple(coins.choice([1.0, 2.0]) for _ in made.memory)
        value = {n: torch.randn(2, 3, dtype=torch.float64, generator=generator) for n in names}
        tensors = [value[n].clone() for n in names[: 1 + width + draws]]
        for k, row in enumerate(rows):
            tensors += [value[f"x0.{k}"].clone(), *([torch.zeros(2, 3, dtype=torch.float64)] if row is None else [])]
        for j, scale in enumerate(scales):
            value[f"m{j}"] *= scale
        found_plan = bind(made, rows, scales, int(draws))
        with torch.no_grad():
            buffers = Buffers(tensors[0])
            for recipe in found_plan.computed:
                tensors.append(buffers.compute(recipe, tensors))
            x = buffers.compute(found_plan.x, tensors)
        found = [x, *(tensors[k] * scale for k, scale in zip(found_plan.memory, found_plan.scales, strict=True))]
        for tensor, form in zip(found, (made.x, *made.memory), strict=True):
            torch.testing.assert_close(tensor, sum(c * value[n] for n, c in form.terms.items()), rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class TwoAnswers:
    """A step of two answers that its memory holds in another proportion than x does."""

    draws: int = 0

    def step(self, state, denoise, levels, z):
        now = levels[-2]
        p = denoise(state.x, now)
        q = denoise(state.x, now)
        m = state.memory[0] if state.memory else state.x
        return State(0.3 * m + 0.2 * state.x + 0.1 * p.x0 + 0.2 * q.x0, (m - p.x0 + 0.5 * q.x0,)), p


def test_two_answers_that_a_memory_holds_are_both_said_by_it():
    levels, x = levels_for(ROWS["x0"], 6), torch.randn(2, 3, dtype=torch.float64)
    answers = [lambda x: torch.tanh(0.5 * x), torch.cos]

    def end(as_written):
        asked = []

        def denoise(x, level):
            asked.append(level)
            return Prediction(x, level, answers[len(asked) % 2](x), ROWS["x0"])

        with torch.no_grad():
            *_, last = trajectory(TwoAnswers(), denoise, levels, x, as_written=as_written)
        return last.x

    torch.testing.assert_close(end(False), end(True), rtol=1e-10, atol=1e-10)


def test_a_step_is_planned_alike_in_every_process(monkeypatch):
    """Answers are taken in their order: that of a set of names is another one with every seed of Python's hashes."""
    given, kept = [], plan._without
    monkeypatch.setattr(
        plan, "_without", lambda form, done, answers: given.append(list(answers)) or kept(form, done, answers)
    )
    level = Level(0.0, 1.0, 2.0)
    total = Form({f"x0.{k}": 1.0 + k for k in range(12)})
    bind(Program(((Form.symbol("x"), level),) * 12, total, (total,), 0), [ROWS["x0"]] * 12, (), 0)
    assert given
    assert all(names == [f"o{k}" for k in range(12)] for names in given)
