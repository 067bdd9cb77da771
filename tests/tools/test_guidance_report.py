"""What `sfumato guidance` says of numbers: which rule it names, and which does not pay."""

from sfumato.guidance import CFG, Interval, Mix
from sfumato.tools.guidance import _own_scale
from sfumato.tools.guidance_report import does_not_pay, nearest, table


def row(rule, evaluations, rms, steps=20, least=None, most=None, spread=0.0):
    least, most = (evaluations if v is None else v for v in (least, most))
    return {
        "rule": rule,
        "steps": steps,
        "evaluations": evaluations,
        "rms": rms,
        "blocks": [rms - spread, rms, rms + spread],
        "least": int(least),
        "most": int(most),
    }


FULL, FEWER, FEWEST = (
    row("CFG 3", 40.0, 0.0),
    row("CFG 3, 15 steps", 30.0, 0.2, 15),
    row("CFG 3, 12 steps", 24.0, 0.3, 12),
)


def test_the_nearest_is_one_that_saves():
    """One that saves nothing is nearest of all, and not meant."""
    rows = [
        FULL,
        row("Adaptive in eps", 40.0, 0.0),
        row("Adaptive in x0", 30.0, 0.3),
        row("Adaptive in v", 29.0, 0.1),
        FEWER,
    ]
    assert nearest(rows) == "Adaptive in v"
    assert nearest([FULL, row("Adaptive in eps", 40.0, 0.0)]) is None


def test_what_fewer_steps_beat_does_not_pay():
    rows = [
        FULL,
        row("Adaptive in x0", 30.0, 0.25),
        row("LinearAdaptive", 25.0, 0.1),
        row("Adaptive in v", 23.0, 0.5),
        FEWER,
        FEWEST,
    ]
    # 12 steps cost more than half an evaluation more than Adaptive in v, and are farther than LinearAdaptive
    assert does_not_pay(rows) == {"Adaptive in x0": "CFG 3, 15 steps"}
    lines = table(rows, 10)
    assert "Adaptive in x0 does not pay here: CFG 3, 15 steps cost no more and came nearer" in lines


def test_what_is_not_told_apart_over_the_pictures_is_not_said_to_be_beaten():
    rows = [FULL, row("Adaptive in x0", 30.0, 0.25, spread=0.02), FEWER]
    assert does_not_pay(rows) == {"Adaptive in x0": "CFG 3, 15 steps"}
    rows = [FULL, row("Adaptive in x0", 30.0, 0.25, spread=0.03), FEWER]  # its difference is 0.05 ± 0.03
    assert does_not_pay(rows) == {}


def test_pictures_that_stop_at_once_are_said():
    rows = [
        FULL,
        row("Adaptive in v", 29.0, 0.1, least=21, most=38),
        row("Adaptive in x0", 29.0, 0.1, least=22, most=38),
    ]
    lines = table(rows, 10)
    assert "      21 to 38" in lines[2]
    assert [line for line in lines if "--least" in line] == [
        "Adaptive in v leaves some pictures after their first step; guide more steps at the least: --least"
    ]


class Run:
    def __init__(self, guidance):
        self.guidance = guidance


def test_the_scale_of_a_run_is_one_that_guides():
    assert _own_scale(Run(Interval(CFG(2.5), 0.2, 1.0))) == 2.5
    assert _own_scale(Run(CFG(1.0))) == 3.0
    assert _own_scale(Run(CFG([2.0, 4.0]))) == 3.0
    assert _own_scale(Run(Mix())) == 3.0
