"""What a browser remembers is checked like everything else, and Stop reaches those who wait."""

from dataclasses import asdict, replace

import pytest

from sfumato.tools.demo.form import NAMES, Form
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.remembered import VERSION, recalled
from sfumato.tools.demo.tickets import Tickets

FORM = replace(Form(), steps=7, seeds="3,9", filters=("PathLength",), interval=(-1.5, 2.0))
HELD = {"version": VERSION, "model": "m", "values": [asdict(FORM)[name] for name in NAMES]}


def test_a_form_comes_back_as_it_was():
    assert recalled(HELD, Limits()) == FORM


@pytest.mark.parametrize(
    "held",
    [
        None, "x", [], {}, {**HELD, "version": 0}, {**HELD, "values": HELD["values"][:-1]}, {**HELD, "values": None}, {**HELD, "model": 3},
        {**HELD, "values": [2**70 if name == "steps" else v for name, v in zip(NAMES, HELD["values"], strict=True)]},
        {**HELD, "values": [{"a": 1}] * len(NAMES)},
    ],
    ids=["none", "text", "list", "empty", "old", "short", "no values", "no name", "absurd", "kinds"],
)  # fmt: skip
def test_what_is_broken_is_left_alone(held):
    assert recalled(held, Limits()) is None


def test_a_ticket_that_was_called_off_is_not_begun_and_a_new_one_is():
    tickets = Tickets()
    first, other = tickets.draw("a"), tickets.draw("b")
    assert tickets.call_off("a") == 1
    second = tickets.draw("a")
    assert not tickets.hand_in(first)
    assert tickets.hand_in(second)
    assert tickets.hand_in(other)
    assert tickets.call_off("a") == 0  # it is at work, and the flag stops it
    assert tickets.hand_in("")
    assert not tickets.waits(second)
