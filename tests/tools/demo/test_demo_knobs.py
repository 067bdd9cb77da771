"""What can be turned of a schedule: every class, every argument, as far as the class allows, and every pair of parts."""

import itertools
import json
import math
from typing import get_args

import pytest

from sfumato.diffusion.forward_check import check_forward
from sfumato.schedules import LinearBeta, RectifiedFlow, Schedule
from sfumato.tools.demo.knobs import KINDS, KNOBS, SAME, WRAPPERS, Knob, Listed, Nested, menu, names_of
from sfumato.tools.demo.schedule_choice import as_choice, read_choice
from sfumato.tools.demo.schedule_words import sentences
from sfumato.tools.inspect import curves
from sfumato.tools.inspected import look
from sfumato.tools.parts import choices, part_type
from sfumato.tools.resolve import fields_of

TURNED = [kind for kind in KINDS if kind != "sampler"]
CLASSES = {name: cls for kind in TURNED for name, cls in choices(KINDS[kind]).items()}
DIGITS = look("digits", [], [], None)
BEGUN = as_choice(DIGITS)

# ends that another argument must make room for
WITH = {
    ("BetaTable", "low"): {"high": 0.9}, ("BetaTable", "s"): {"betas": "cosine"}, ("CosineShifted", "clean"): {"noisy": 128},
    ("Sigmoid", "start"): {"end": 10.5}, ("Sigmoid", "end"): {"start": -10.5}, ("CosineGamma", "start"): {"end": 1.0},
}  # fmt: skip


def test_every_class_has_its_place_in_the_table_and_every_argument_a_control():
    assert set(KNOBS) == set(CLASSES)
    assert set(WRAPPERS) == {
        name for name, cls in choices(Schedule).items() if part_type(getattr(fields_of(cls).get("schedule"), "hint", None)) is Schedule
    }  # fmt: skip
    controls = menu()["classes"]  # refuses a class with an argument that nothing says anything of
    for name, cls in CLASSES.items():
        around = {"schedule"} if name in WRAPPERS else set()
        assert [c["name"] for c in controls[name]] == [f for f in fields_of(cls) if f not in around]
        assert set(KNOBS[name]) <= set(fields_of(cls)) - around


def test_an_argument_without_a_range_is_not_overlooked(monkeypatch):
    monkeypatch.setitem(KNOBS, "Cosine", {})
    with pytest.raises(ValueError, match=r"Cosine\.s has no knob"):
        menu()


def test_what_the_browser_is_told_is_json_without_infinity():
    told = json.loads(json.dumps(menu(), allow_nan=False))
    assert told["kinds"]["schedule"] == [n for n in choices(Schedule) if n not in WRAPPERS]
    for name, controls in told["classes"].items():
        for control in controls:
            if control["type"] == "choice":
                assert tuple(control["words"]) == get_args(fields_of(CLASSES[name])[control["name"]].hint)
                assert control["start"] in control["words"]
    assert all(told["about"][name] for name in CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_ranges_are_those_of_the_class(name):
    cls = CLASSES[name]
    inner = {"schedule": RectifiedFlow()} if name in WRAPPERS or name == "ELBO" else {}
    inner |= {"row": choices(KINDS["row"])["V"]()} if name == "Negative" else {}
    inner |= {"log_snr": [1, 0]} if name == "Table" else {"values": [1.0]} if name == "Explicit" else {}
    for argument, (hint, default) in fields_of(cls).items():
        knob = KNOBS[name].get(argument)
        if isinstance(knob, Listed):
            cls(**inner | {argument: list(knob.start)})
        if isinstance(knob, Nested):
            assert part_type(hint) is KINDS[knob.kind]
            assert knob.start == SAME or knob.start in names_of(knob.kind, True)
        if not isinstance(knob, Knob):
            continue
        assert knob.least < knob.most
        assert not knob.log or knob.least > 0
        assert bool(knob.off) == (default is None or not math.isfinite(default) or knob.at is not None)
        if default is not None and math.isfinite(default):
            assert knob.least <= default <= knob.most
        if knob.whole:
            assert hint is int or int in get_args(hint)
        for value in (knob.least, knob.most, *([knob.start] if knob.start is not None else [])):
            assert knob.least <= value <= knob.most
            made = cls(**inner | WITH.get((name, argument), {}) | {argument: value})
            assert getattr(made, argument) == value
        if knob.off:
            cls(**inner | {argument: knob.at} | ({"low": 0.01} if name == "VarianceExploding" else {}))


def _chosen(**names):
    return BEGUN | {kind: {"name": name, "args": {}} for kind, name in names.items()}


def drawn_or_refused(choice, words=True):
    """Whether a choice can be drawn; a sentence says why where it can't."""
    try:
        turned = read_choice(choice, DIGITS)
        check_forward(turned.parts.schedule, turned.parts.weighting)
        data = curves(turned.parts, turned.also)
        said = sentences(turned) if words else "sf-note"
    except ValueError as error:
        return str(error)
    assert len(data["t"]) == len(data["log_snr"])
    assert "sf-note" in said
    return ""


def pairs_of(*sets):
    """Choices one from each set, such that every two of different sets meet."""
    left = {(i, a, j, b) for (i, s), (j, t) in itertools.combinations(enumerate(sets), 2) for a in s for b in t}
    while left:
        i, a, j, b = min(left)
        best = {i: a, j: b}
        for k, s in enumerate(sets):
            if k not in best:
                best[k] = max(
                    s, key=lambda v, k=k, best=best: (sum(_pair(m, w, k, v) in left for m, w in best.items()), v)
                )
        left -= {_pair(m, v, n, w) for m, v in best.items() for n, w in best.items() if m != n}
        yield [best[k] for k in range(len(sets))]


def _pair(i, a, j, b):
    return (i, a, j, b) if i < j else (j, b, i, a)


@pytest.mark.slow  # every pair
def test_every_two_parts_together_are_drawn_or_refused_in_a_sentence():
    """What is refused is refused for the table that a density wants, or a level that a grid wants and the path has not."""
    refused, seen = {}, 0
    for schedule, row, density, weighting in pairs_of(
        *(names_of(k) for k in ("schedule", "row", "density", "weighting"))
    ):
        choice = _chosen(schedule=schedule, row=row, density=density, weighting=weighting, grid="Trailing")
        if (why := drawn_or_refused(choice)) != "":
            refused[schedule, density] = why
            assert "; allowed" in why or len(why) > 30
        seen += 1
    assert seen >= len(names_of("schedule")) * len(names_of("weighting"))
    tables = {"BetaTable", "Table"}
    for (schedule, density), why in refused.items():
        assert schedule == "Table" or density in ("UniformEntries", "LossSecondMoment", "LogSNRImportance"), why
        assert schedule not in tables or density not in ("UniformEntries", "LossSecondMoment") or schedule == "Table", (
            why
        )


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_schedule_within_every_wrapper(wrapper):
    for schedule in names_of("schedule"):
        args = {"log_snr_min": -2.0, "log_snr_max": 1.5} if wrapper == "Truncated" else {}
        choice = _chosen(schedule=schedule, grid="LogSNRUniform") | {"wraps": {wrapper: args}}
        why = drawn_or_refused(choice, words=schedule in ("Cosine", "VarianceExploding"))
        if wrapper == "ZeroTerminalSNR" and schedule == "RectifiedFlow":
            assert "variance-preserving" in why
        made = None if why else read_choice(choice, DIGITS).parts.schedule
        assert made is None or type(made).__name__ == wrapper


@pytest.mark.parametrize("grid", names_of("grid"))
@pytest.mark.parametrize("schedule", ["LinearBeta", "BetaTable", "VarianceExploding"])
def test_every_grid(grid, schedule):
    why = drawn_or_refused(_chosen(schedule=schedule, grid=grid))
    assert why == "" or grid in ("Explicit", "LogSNRUniform", "Karras", "Exponential"), why


@pytest.mark.parametrize("sampler", names_of("sampler"))
def test_every_sampler(sampler):
    assert drawn_or_refused(_chosen(sampler=sampler)) == ""


def test_wrappers_go_around_in_an_order_that_is_allowed():
    choice = _chosen(schedule="LinearBeta") | {
        "wraps": {"InputScaled": {"scale": 0.5}, "Shifted": {"shift": 2.0}, "Truncated": {"log_snr_min": -7.0}, "ZeroTerminalSNR": {}}
    }  # fmt: skip
    made = read_choice(choice, DIGITS).parts.schedule
    names = []
    while not isinstance(made, LinearBeta):
        names.append(type(made).__name__)
        made = made.schedule
    assert names == ["InputScaled", "Shifted", "Truncated", "ZeroTerminalSNR"]
