"""What a table has worked out so far: it is not copied, and batches of several threads share it."""

import copy
import pickle
import sys

import pytest
import torch

from sfumato.samplers import DDIM, as_diffusers, trajectory
from sfumato.samplers.turn import Turn
from sfumato.samplers.walk import tabulate
from sfumato.schedules import BetaTable, Eps, Prediction
from sfumato.tools.bench.methods import ROWS, levels_for


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["copy", "pickle"]
)
def test_a_table_is_copied_however_long_it_is(again):
    """Each turn knows the next, which a copy would follow, a thousand deep."""
    levels = levels_for(ROWS["v"], 1000)
    table, x = tabulate(DDIM(), levels), torch.ones(1, 1, 2, 2)

    def end(table):
        with torch.no_grad():
            *_, last = trajectory(
                DDIM(), lambda x, level: Prediction(x, level, torch.tanh(x), ROWS["v"]), levels, x, table=table
            )
        return last.x

    wanted = end(table)
    assert torch.equal(end(again(table)), wanted)


def test_a_scheduler_is_copied_after_a_long_walk():
    scheduler = as_diffusers(DDIM(), BetaTable("scaled_linear"))
    scheduler.set_timesteps(200)
    x = torch.ones(1, 1, 2, 2)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(torch.tanh(x), t, x).prev_sample
    copy.deepcopy(scheduler)
    assert pickle.dumps(scheduler)


def test_a_turn_asked_by_two_threads_at_once():
    """At every instruction of one, the other asks for what follows another row."""
    levels = levels_for(ROWS["x0"], 4)
    turn = tabulate(DDIM(), levels).turn(0, ())
    one, other = ROWS["x0"], Eps()
    wanted, code = turn.answered(one), Turn.answered.__code__

    def asked_at(instruction):
        left = [instruction]

        def trace(frame, event, argument):
            if frame.f_code is not code:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left[0] -= 1
                if left[0] == 0:
                    sys.settrace(None)
                    turn.answered(other)
            return trace

        turn.answered(one)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return turn.answered(one), left[0] > 0
        finally:
            sys.settrace(before)

    instruction, over = 1, False
    while not over:
        found, over = asked_at(instruction)
        assert found is wanted
        instruction += 1
    assert instruction > 5
