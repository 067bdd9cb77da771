"""The words of an axis, and what each key moves."""

import pytest
from compared import HEAVY, settings_of

from sfumato.guidance import APG, CFG, Interval
from sfumato.samplers import DDIM, DPMSolverPP, Heun
from sfumato.samplers.filters import TrajectoryVariance
from sfumato.tools.compare.axes import parse_axes
from sfumato.tools.compare.syntax import cut, ranged
from sfumato.tools.spelling import UsageError

# the words of an axis


def test_values_are_cut_outside_of_brackets_and_quotes():
    assert cut("a,B(c=1,d=E(2,3)),[f,g],{h: 1, i: 2}", ",", "x") == ["a", "B(c=1,d=E(2,3))", "[f,g]", "{h: 1, i: 2}"]
    assert cut('"a, b",c\'s d', ",", "x") == ['"a, b"', "c's d"]
    for wrong, said in (("a,,b", "empty"), ("a(b", "missing"), ("a)b", "closes nothing"), ('"a', "missing")):
        with pytest.raises(ValueError, match=said):
            cut(wrong, ",", "x")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4..32..4", [str(n) for n in range(4, 33, 4)]),
        ("1..4", ["1", "2", "3", "4"]),
        ("4..1", ["4", "3", "2", "1"]),
        ("0.1..0.5..0.1", ["0.1", "0.2", "0.3", "0.4", "0.5"]),  # exact: no 0.30000000000000004
        ("1..0..-0.25", ["1", "0.75", "0.5", "0.25", "0"]),
        ("-1..1..0.5", ["-1", "-0.5", "0", "0.5", "1"]),
        ("7..7", ["7"]),
        ("DDIM", ["DDIM"]),
        ("sfumato.samplers.DDIM", ["sfumato.samplers.DDIM"]),
    ],
)
def test_ranges_are_exact_and_hold_both_ends(text, values):
    assert ranged(text, "x") == values


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ("sampler=GHBV", "did you mean GHVB?"),
        ("smapler=DDIM", "did you mean sampler?"),
        ("spacings=Karras", "did you mean spacing?"),
        ("steps", "KEY=VALUE"),
        ("steps=", "KEY=VALUE"),
        ("steps=5,5", "5 is there twice"),
        ("steps=5,4..6", "5 is there twice"),
        ("steps=0", "whole numbers from 1"),
        ("steps=4..33..4", "such as 4..32..4"),
        ("steps=9..4..2", "never arrives"),
        ("guidance.scale=0.5..1.5", "needs a step"),
        ("guidance.scale=1..100000000..0.001", "more than"),
        ("sampler+steps=DDIM:20,Heun", "SAMPLER:STEPS"),
        ("sampler+sampler=DDIM:Heun", "twice"),
        ("sampler=DDIM(eta=1,eta=0)", "eta twice"),
        ("sampler=DDIM(1,2)", "1 arguments"),
        ("interval=0.2", "LOW:HIGH"),
        ("ema=0.5", "0.3"),
        ("label=x", "a class"),
        ("sampler=torch.nn.Linear", "outside Sfumato"),
    ],
)
def test_mistakes_are_named(x, said):
    with pytest.raises(UsageError) as found:
        parse_axes(x, None)
    assert said in str(found.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(UsageError) as found:
        parse_axes("sampler=DDIN,GHBV,Heun", "stps=3")
    assert len(found.value.problems) == 3


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ("sampler.ordr=1,2", "did you mean order?"),
        ("sampler.order=1,9", "DPMSolverPP.order is 9"),
        ("sampler=DDIM(etta=1),Heun", "did you mean eta?"),
        ("sampler.eta=0.5,high", "sampler.eta"),
        ("guidance.scale=big,2", "guidance.scale"),
        ("filters.threshold=1,2", "0 filters"),
        ("interval=2:1,1:2", "low <= high"),
    ],
)
def test_a_value_that_fits_nowhere_is_a_mistake(x, said):
    with pytest.raises(UsageError) as found:
        settings_of(x)
    assert said in str(found.value)


def test_a_value_that_fits_somewhere_is_marked_elsewhere():
    cells = settings_of("sampler=DDIM,DPMSolverPP", "eta=0,0.5")
    assert [bool(problem) for _, problem in cells] == [False] * 4
    cells = settings_of("sampler=DDIM,Heun", "eta=0.5")
    assert "Heun has no such argument" in cells[1][1]
    assert cells[0][0].parts()["sampler"] == DDIM(0.5)


# what each key moves


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("sampler=DDIM(eta=1),HeavyBall(base=DPMSolverPP(2),beta=0.7)", lambda s, i: s.parts()["sampler"] == HEAVY[i]),
        ("sampler=DDIM(1)", lambda s, i: s.parts()["sampler"] == DDIM(1.0)),
        ("sampler.eta=0.5,1", lambda s, i: s.parts()["sampler"] == DPMSolverPP(eta=[0.5, 1.0][i])),
        ("eta=0,1", lambda s, i: s.parts()["sampler"].eta == i),
        ("grid=Trailing,Karras(rho=5)", lambda s, i: getattr(s.parts()["grid"], "rho", None) == [None, 5.0][i]),
        ("steps=4..12..4", lambda s, i: s.steps == [4, 8, 12][i]),
        ("guidance=Plain,CFG(3)", lambda s, i: getattr(s.parts()["guidance"], "scale", None) == [None, 3.0][i]),
        ("guidance.scale=1..2..0.5", lambda s, i: s.parts()["guidance"] == CFG(1 + 0.5 * i)),
        ("scale=1,2", lambda s, i: s.parts()["guidance"] == CFG(1.0 + i)),
        ("interval=none,0.2:2,0.3:", lambda s, i: str(s.parts()["guidance"]) == _interval(i)),
        ("filters=none,TrajectoryVariance(threshold=0.5)", lambda s, i: s.parts()["filters"] == [[], [TrajectoryVariance(0.5)]][i]),
        ("seed=3,9", lambda s, i: s.first == [3, 9][i]),
        ("label=3,none,0-9", lambda s, i: s.labels == ["3", "none", "0-9"][i]),
        ('prompt="a boat, red",b', lambda s, i: s.prompts == ["a boat, red", "b"][i]),
        ("also.negative=1,2", lambda s, i: s.also == {"negative": str(i + 1)}),
        ("checkpoint=newest,200", lambda s, i: s.checkpoint == [None, 200][i]),
        ("ema=true,false,0.1", lambda s, i: s.ema is [True, False][i] if i < 2 else s.ema == 0.1),
        ("weak+weak_step=a:5,b:newest", lambda s, i: (s.weak, s.weak_step) == [("a", 5), ("b", None)][i]),
        ("sampler+steps=DDIM:20,Heun:10", lambda s, i: (s.parts()["sampler"], s.steps) == [(DDIM(), 20), (Heun(), 10)][i]),
        ("interval+steps=0.2:2:5,none:8", lambda s, i: (("Interval" in str(s.parts()["guidance"])), s.steps) == [(True, 5), (False, 8)][i]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_every_key_changes_what_it_says(x, expected):
    for i, (settings, problem) in enumerate(settings_of(x)):
        assert not problem
        assert expected(settings, i), settings


def _interval(i):
    return str([CFG(), Interval(CFG(), 0.2, 2.0), Interval(CFG(), 0.3, None)][i])


def test_parts_come_before_their_arguments_and_intervals_go_around():
    cells = settings_of("guidance=CFG,APG,Interval(rule=CFG(4),high=9)", "guidance.scale=2,3")
    assert [str(s.parts()["guidance"]) for s, _ in cells[3:]] == [
        str(CFG(3.0)), str(APG(3.0)), str(Interval(CFG(3.0), None, 9.0))
    ]  # fmt: skip
    (settings, _), *_ = settings_of("interval=0.1:1", guidance={"class_path": "Interval", "init_args": {"high": 5.0}})
    assert settings.parts()["guidance"] == Interval(CFG(), 0.1, 1.0)  # replaced, not nested
