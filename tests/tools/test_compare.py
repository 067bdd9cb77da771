"""Comparisons: what an axis means, the same pictures as `sample` gives, what is measured, what is kept, and what is refused."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from modelled import made
from PIL import Image

from sfumato.diffusion import Denoiser, Model, TimeClock
from sfumato.diffusion.images import read_settings
from sfumato.diffusion.measuring import OfTensor, Pixels, Seen, as_bytes, frechet, moments
from sfumato.guidance import APG, CFG, Interval, Plain
from sfumato.samplers import DDIM, DPMSolverPP, HeavyBall, Heun
from sfumato.samplers.filters import TrajectoryVariance
from sfumato.schedules import X0, Karras, RectifiedFlow
from sfumato.schedules.parts import describe
from sfumato.tools.cli import main
from sfumato.tools.compare.axes import parse_axes
from sfumato.tools.compare.engine import Comparison
from sfumato.tools.compare.looking import Looking
from sfumato.tools.compare.networks import Networks
from sfumato.tools.compare.outcome import Shared
from sfumato.tools.compare.settings import Settings, lay_out
from sfumato.tools.compare.sheet import draw_sheet
from sfumato.tools.compare.store import Store
from sfumato.tools.compare.syntax import cut, ranged
from sfumato.tools.compare.table import Table
from sfumato.tools.spelling import UsageError

HEAVY = [DDIM(1.0), HeavyBall(DPMSolverPP(2), 0.7)]
SHORT = {"count": 6, "near": 4, "fine_steps": 0, "batch": 8}


class Counted:
    """A loader of small models that counts what is asked of them."""

    def __init__(self):
        self.loaded, self.asked, self.stop_at = [], 0, math.inf

    def __call__(self, checkpoint, ema):
        self.loaded.append((checkpoint, ema))
        model = made(seed=(checkpoint or 0) + (ema is False), guidance=CFG(2.0))
        inner = model.denoiser.backbone.forward

        def forward(x, *rest, **more):
            self.asked += len(x)
            if self.asked > self.stop_at:
                raise KeyboardInterrupt
            return inner(x, *rest, **more)

        model.denoiser.backbone.forward = forward
        return model


def compared(x, y=None, store=None, loader=None, looking=None, base=None, **shared):
    """The outcomes of a comparison of a small model, its table, and the comparison itself."""
    loader = loader or Counted()
    model = made(guidance=CFG(2.0))
    own = {name: describe(getattr(model, name)) for name in ("sampler", "grid", "guidance")}
    settings = Settings(**(own | {"steps": 4} | (base or {})))
    columns, rows = parse_axes(x, y)
    cells = lay_out(columns, rows, settings)
    networks = Networks(loader, lambda run, step: made(seed=3))
    comparison = Comparison(
        columns, rows, cells, settings, Shared(**(SHORT | shared)), networks, store or Store(None), looking or Looking()
    )
    outcomes = list(comparison.run())
    return outcomes, Table(columns, rows, outcomes), comparison


def settings_of(x, y=None, **base):
    base = {"sampler": "DPMSolverPP", "grid": "Trailing", "guidance": "CFG", "steps": 20} | base
    columns, rows = parse_axes(x, y)
    return [(cell.settings, cell.problem) for cell in lay_out(columns, rows, Settings(**base))]


def parts_of(settings):
    return settings.parts()


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


# the pictures


def test_a_cell_holds_what_sample_gives_to_the_last_bit():
    outcomes, _, _ = compared("sampler=DDIM,DPMSolverPP", "steps=3,5", sets=2)
    for o in outcomes:
        sampler = o.cell.settings.parts()["sampler"]
        expected = made(guidance=CFG(2.0)).sample(
            range(6), [0, 1, 2, 3, 4, 5], steps=o.cell.settings.steps, sampler=sampler, batch=8
        )
        assert torch.equal(o.pictures, as_bytes(expected.images))
        assert o.measured["evaluations"] == [2.0 * o.cell.settings.steps] * 2
        assert o.branches == {"cond": o.cell.settings.steps, "ref": o.cell.settings.steps}


def test_axes_of_seed_label_checkpoint_and_average_sample_those():
    loader = Counted()
    (a, b), _, _ = compared("seed=0,5", loader=loader, base={"labels": "3"})
    direct = made(guidance=CFG(2.0)).sample(range(5, 11), [3] * 6, steps=4, batch=8)
    assert torch.equal(b.pictures, as_bytes(direct.images))
    assert torch.equal(b.pictures[0], a.pictures[5])
    (a, b), _, _ = compared("label=none,7")
    with pytest.warns(UserWarning, match="no labels"):
        direct = made(guidance=CFG(2.0)).sample(range(6), None, steps=4, batch=8)
    assert torch.equal(a.pictures, as_bytes(direct.images))
    outcomes, _, _ = compared("checkpoint=newest,5", "ema=true,false", loader=loader)
    assert len({o.pictures.numpy().tobytes() for o in outcomes}) == 4
    direct = made(seed=6, guidance=CFG(2.0)).sample(range(6), range(6), steps=4, batch=8)
    assert torch.equal(outcomes[-1].pictures, as_bytes(direct.images))


def test_each_network_is_loaded_once():
    loader = Counted()
    compared("ema=true,false", "steps=2,3,4", loader=loader)
    assert sorted(loader.loaded, key=str) == [(None, False), (None, True)]


# what is kept


def test_what_is_there_is_not_made_again(tmp_path):
    loader = Counted()
    first, _, comparison = compared("sampler=DDIM,Heun", "steps=2,4", Store(tmp_path), loader, fine_steps=12, sets=2)
    foreseen = 2 * 6 * 2 * (2 + 4 + 3 + 7) + 2 * 4 * 2 * 12
    made_once = loader.asked
    assert made_once >= foreseen  # and one step for warming up
    assert comparison.cost().evaluations == 0
    again, _, comparison = compared("sampler=DDIM,Heun", "steps=2,4", Store(tmp_path), loader, fine_steps=12, sets=2)
    assert loader.asked == made_once
    assert all(o.cached for o in again)
    assert not any(o.cached for o in first)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.pictures, b.pictures)
        assert a.measured == b.measured
    # another axis that shares two cells, and one more set of seeds
    third, _, comparison = compared(
        "sampler=DDIM,DPMSolverPP", "steps=2,4", Store(tmp_path), loader, fine_steps=12, sets=2
    )
    assert [o.cached for o in third] == [True, False, True, False]
    compared("sampler=DDIM,Heun", "steps=2,4", Store(tmp_path, fresh=True), loader, fine_steps=12, sets=2)
    assert loader.asked > 2 * made_once


def test_the_cost_is_foreseen():
    store, loader = Store(None), Counted()
    _, _, comparison = compared("sampler=DDIM,Heun", "steps=2,4", store, loader, fine_steps=12, sets=2)
    columns, rows = comparison.x, comparison.y
    fresh = Comparison(
        columns, rows, comparison.cells, comparison.base, comparison.shared, comparison._networks, Store(None), Looking()
    )  # fmt: skip
    before = loader.asked
    cost = fresh.cost()
    assert (cost.cells, cost.cached, loader.asked) == (4, 0, before)
    assert cost.fine == 2 * 4 * 2 * 12  # sets, pictures, branches, steps: one fine solution for all cells
    told = []
    fresh.told = told.append
    list(fresh.run())
    assert sum(told) == cost.evaluations == 2 * 6 * 2 * (2 + 4 + 3 + 7) + cost.fine


def test_a_damaged_cell_is_made_again(tmp_path):
    first, _, _ = compared("steps=2,3", store=Store(tmp_path))
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-40] + b"x" * 40)
    again, _, _ = compared("steps=2,3", store=Store(tmp_path))
    assert not any(o.cached for o in again)
    assert all(torch.equal(a.pictures, b.pictures) for a, b in zip(first, again, strict=True))


def test_an_interrupted_comparison_goes_on(tmp_path):
    loader = Counted()
    loader.stop_at = 90  # within the third cell
    with pytest.raises(KeyboardInterrupt):
        compared("steps=2,3,4", store=Store(tmp_path), loader=loader)
    kept = len(list(tmp_path.glob("*.npz")))
    assert kept >= 2
    assert not list(tmp_path.glob(".*"))
    outcomes, _, _ = compared("steps=2,3,4", store=Store(tmp_path))
    assert [o.cached for o in outcomes] == [True, True, False]
    whole, _, _ = compared("steps=2,3,4")
    assert all(torch.equal(a.pictures, b.pictures) for a, b in zip(outcomes, whole, strict=True))


def test_leaving_the_loop_stops_between_cells(tmp_path):
    loader = Counted()
    _, _, comparison = compared("steps=2", store=Store(tmp_path), loader=loader)
    columns, rows = parse_axes("steps=2,3,4", None)
    cells = lay_out(columns, rows, comparison.base)
    other = Comparison(
        columns, rows, cells, comparison.base, comparison.shared, Networks(loader, None), Store(tmp_path), Looking()
    )
    running = other.run()
    assert next(running).cached
    asked = loader.asked
    running.close()
    assert loader.asked == asked


# what is not possible


def test_what_cannot_be_sampled_is_marked_and_the_rest_is_made():
    outcomes, table, _ = compared(
        "guidance=CFG,Autoguidance,CFG(scale=1e30)", "sampler=DDIM,PredictorCorrector(rule=Autoguidance)"
    )
    states = {(o.cell.row, o.cell.column): o.state for o in outcomes}
    assert states[0, 0] == "made"
    assert states[0, 1] == states[1, 1] == "unsupported"
    assert states[0, 2] == "diverged"
    assert "weak" in table.at(0, 1).problem
    sheet = draw_sheet(table, "a title", "about")
    assert (np.asarray(sheet) == (0xE9, 0xE9, 0xEC)).all(-1).sum() > 1000  # grey boxes
    assert table.winner("distance") is None


def test_numbers_that_are_not_finite_are_a_cell_that_diverged(tmp_path):
    def load(checkpoint, ema):
        model = made(guidance=CFG(2.0))
        if checkpoint == 9:
            next(model.denoiser.backbone.parameters()).data.fill_(math.nan)
        return model

    for _ in range(2):  # made, and read
        (good, bad), table, _ = compared("checkpoint=newest,9", loader=load, store=Store(tmp_path))
        assert (good.state, bad.state) == ("made", "diverged")
        assert "not finite" in bad.problem
        assert table.rows()[1]["measures"] == {}


# what is measured


class Gaussian(torch.nn.Module):
    """The exact mean of pixels with standard deviation 0.2, given x of RectifiedFlow at time t."""

    def __init__(self):
        super().__init__()
        self.variance = torch.nn.Parameter(torch.tensor(0.04), requires_grad=False)

    def forward(self, x, time):
        t = time.view(-1, 1, 1, 1)
        return (1 - t) * self.variance / ((1 - t) ** 2 * self.variance + t**2) * x


def test_the_distance_to_the_fine_solution_falls_at_the_order_of_the_sampler():
    """Doubling the steps halves the error of DDIM, and quarters that of a method of order 2."""

    def load(checkpoint, ema):
        return Model(Denoiser(Gaussian(), RectifiedFlow(), X0(), TimeClock(1.0)), (1, 8, 8))

    base = {"grid": describe(Karras(0.01, 20.0, 3.0)), "guidance": describe(Plain())}
    _, table, _ = compared(
        "sampler=DDIM,DPMSolverPP,Heun", "steps=20,40", fine_steps=1500, count=4, base=base, loader=load
    )
    for column, order in ((0, 1), (1, 2), (2, 2)):
        coarse, fine = (table.at(row, column).measured["distance"][0] for row in range(2))
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2), column
    assert table.at(1, 1).measured["distance"][0] < table.at(1, 0).measured["distance"][0] / 2


def test_the_distance_is_that_of_the_exact_numbers():
    (a,), _, _ = compared("steps=4", fine_steps=50, near=3)
    model = made(guidance=CFG(2.0))
    coarse = model.sample(range(6), range(6), steps=4, batch=8).images[:3]
    fine = model.sample(range(3), range(3), steps=50, sampler=DPMSolverPP(2), batch=8).images
    assert a.measured["distance"][0] == pytest.approx(float((coarse - fine).double().square().mean().sqrt()), rel=1e-6)


def test_what_draws_noise_has_no_distance_but_along_one_brownian_motion():
    outcomes, _, _ = compared("sampler=DDIM(eta=1),DDIM,DDPM", "guidance=CFG(2),APG(momentum=0.5)", fine_steps=10)
    by_name = {(o.cell.said["sampler"], o.cell.said["guidance"]): o for o in outcomes}
    assert "brownian" in by_name["DDIM(eta=1)", "CFG(2)"].no_distance
    assert "distance" not in by_name["DDPM", "CFG(2)"].measured
    assert "distance" in by_name["DDIM", "CFG(2)"].measured
    assert "remembers" in by_name["DDIM", "APG(momentum=0.5)"].no_distance
    outcomes, _, _ = compared("steps=2,4,8,16", fine_steps=64, brownian=True, base={"sampler": describe(DDIM(1.0))})
    found = [o.measured["distance"][0] for o in outcomes]
    assert found[0] > found[1] > found[2] > found[3]
    assert found[3] < found[0] / 2


def test_features_are_compared_with_the_data():
    data = OfTensor(torch.rand(40, 1, 8, 8) * 2 - 1)
    looking = Looking(Pixels(), data, says="noise")
    (a, b), table, _ = compared("steps=2,5", looking=looking, sets=2)
    expected = frechet(moments(Pixels()(b.pictures).features), moments(Pixels()(data.x).features))
    assert b.measured["frechet"][0] == pytest.approx(expected, rel=1e-9)
    assert len(a.measured["frechet"]) == 2
    assert looking.about()["data"]["n"] == 40
    assert {m.key for m in table.measures} == {"evaluations", "seconds", "frechet"}


class Named:
    """An extractor whose classes are known beforehand."""

    num_features, short, fingerprint = 2, "FD-named", "0"

    def __call__(self, pictures):
        logits = torch.zeros(len(pictures), 10)
        logits[torch.arange(len(pictures)), torch.arange(len(pictures)) % 3] = 1.0
        return Seen(pictures.flatten(1)[:, :2].float(), logits)


def test_accuracy_is_the_share_that_is_named_as_asked_for():
    (a,), _, _ = compared("steps=2", looking=Looking(Named()))
    assert a.measured["accuracy"] == [0.5]  # of the classes 0 to 5 it says 0, 1, 2, 0, 1, 2


def test_filters_are_scored_and_counted():
    (a, b), _, _ = compared(
        "filters.threshold=0,1000", base={"filters": [describe(TrajectoryVariance(1.0))]}, retries=1
    )
    assert a.measured["rejected"] == [1.0]
    assert "6 of 6 slots" in a.problem
    assert [o.counts for o in (a, b)] == [{"frechet": n, "accuracy": n, "distance": min(n, 4)} for n in (0, 6)]
    assert b.measured["rejected"] == [0.0]
    direct = made(guidance=CFG(2.0)).sample(range(6), range(6), steps=4, batch=8, filters=[TrajectoryVariance(1000.0)])
    assert b.measured["score"][0] == pytest.approx(float(direct.scores[0].mean()), rel=1e-6)


def test_a_winner_is_named_only_where_it_is_told_apart():
    _, table, _ = compared("steps=2,3,20", fine_steps=40, sets=3)
    assert table.winner("distance").cell.said == {"steps": "20"}
    assert table.best()["distance"]["all"]["winner"] == "steps 20"
    _, table, _ = compared("steps=2,3,20", fine_steps=40)  # one set: nothing is known
    assert table.winner("distance") is None
    assert len(table.best()["distance"]["all"]["leaders"]) == 3


def test_a_cell_that_is_beside_diverged_ones_only_wins_nothing():
    cells, table, _ = compared("steps=2,3", fine_steps=0, count=2)
    good, bad = cells
    for values, one in (((0.3,), "one set"), ((0.3, 0.4, 0.5), "three sets")):
        measured = {"distance": values}
        far = replace(bad, state="diverged", measured={"distance": tuple(v / 9 for v in values)})
        pair = Table(table.x, table.y, [replace(good, measured=measured), far])
        assert pair.winner("distance") is None, one
        # of fewer pictures, since filters rejected some
        fewer = replace(bad, measured={"distance": tuple(v + 9 for v in values)}, counts={"distance": 3})
        full = replace(good, measured=measured, counts={"distance": 6})
        assert Table(table.x, table.y, [full, fewer]).winner("distance") is None, one
        assert Table(table.x, table.y, [full, replace(fewer, counts=full.counts)]).winner("distance") is (
            full if len(values) > 2 else None
        )
        assert pair.best()["distance"]["all"]["winner"] is None


def test_csv_and_json_agree(tmp_path):
    _, table, _ = compared("sampler=DDIM,Heun", "guidance=CFG,Autoguidance", fine_steps=20, sets=2)
    table.save_csv(tmp_path / "t.csv")
    table.save_json(tmp_path / "t.json", {"id": "x"})
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    cells = json.loads((tmp_path / "t.json").read_text())["cells"]
    assert (
        [row["state"] for row in rows]
        == [cell["state"] for cell in cells]
        == ["made", "made", "unsupported", "unsupported"]
    )
    for row, cell in zip(rows, cells, strict=True):
        assert {"sampler": row["sampler"], "guidance": row["guidance"]} == cell["place"]
        assert row["problem"] == cell["problem"]
        for key in ("evaluations", "distance", "seconds"):
            own = cell["measures"].get(key)
            assert (row[key] == "") == (own is None)
            if own:
                assert float(row[key]) == pytest.approx(own["mean"], rel=1e-8)
                assert float(row[f"{key}_std"]) == pytest.approx(own["std"], rel=1e-8)
                assert len(own["values"]) == 2


def test_long_labels_stay_inside_the_picture():
    name = "HeavyBall(base=DPMSolverPP(order=2,eta=0.0,solver=heun),beta=0.8,nesterov=true)"
    _, table, _ = compared(f"sampler={name},DDIM", "steps=2,3", base={"guidance": describe(CFG(1.0))})
    sheet = np.asarray(draw_sheet(table, "a title that is quite long " * 6, "about " * 60))
    for edge in (sheet[:8], sheet[-8:], sheet[:, :8], sheet[:, -8:]):
        assert (edge == 255).all()


# the command


def test_the_command_as_its_user_meets_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = "train digits --steps 4 --batch 8 --backbone.width 8 --sampling_steps 4 --sample_every 0 --save_every 2 --keep 2 --out run"
    assert main(small.split()) == 0
    capsys.readouterr()
    ways = "compare run --x sampler=DDIM,GHVB --y steps=2,4"
    words = f"{ways} --count 8 --near 4 --fine_steps 20 --seeds 2 --reference_count 300".split()
    pixels = ["--extractor", "Pixels"]
    words += pixels
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "4 cells (2 by 2); 8 pictures each in each of 2 sets of seeds" in out
    folder = tmp_path / "run" / "compare" / "sampler-steps"
    found = json.loads((folder / "compare.json").read_text())
    assert found["looking"]["extractor"]["hash"]
    assert found["looking"]["data"]["n"] == 300
    assert found["looking"]["extractor"]["short"] + "@8" in out
    assert found["cells"][0]["settings"]["sampler"]["class_path"] == "sfumato.samplers.DDIM"
    page = (folder / "compare.html").read_text()
    assert found["command"] in page
    assert read_settings(folder / "compare.png")["compare"]["command"] == found["command"]
    assert main(words) == 0  # all there, written to the same place
    assert (
        "4 of them there already; 8 pictures each in each of 2 sets of seeds; 0 evaluations" in capsys.readouterr().out
    )
    assert not (tmp_path / "run" / "compare" / "sampler-steps-2").exists()
    # the first pictures are those of `sample`
    assert (
        main(
            [
                "sample",
                "run",
                "--seeds",
                "0-7",
                "--labels",
                "0-9",
                "--sampler",
                "DDIM",
                "--steps",
                "2",
                "--out",
                "pictures",
            ]
        )
        == 0
    )
    cells = [np.load(path) for path in (tmp_path / "run" / "compare" / "cells").glob("*.npz")]
    picture = np.asarray(Image.open(tmp_path / "pictures" / "seed-00000003.png"))
    assert any("pictures" in c.files and np.array_equal(c["pictures"][3, 0], picture) for c in cells)
    for wrong, said in (
        ("--x sampler=GHBV", "did you mean GHVB?"),
        ("--x steps=1..500", "--most 500"),
        ("--x steps=2 --seeds 0-15", "--first 0 --count 16"),
        ("--x checkpoint=3", "holds no checkpoint; allowed: 2, 4"),
        ("--x ema=0.1", "ema_lengths"),
        ("--x label=12", "no cell can be sampled"),
        ("--x steps=2 --show 9", "show is 9"),
        ("--x steps=2 --fine_steps -1", "fine_steps is -1"),
    ):
        assert main(["compare", "run", *pixels, *wrong.split()]) == 2, wrong
        assert said in capsys.readouterr().err, wrong


def test_a_pipeline_of_diffusers_is_compared_under_a_prompt(tmp_path, capsys, monkeypatch):
    import tiny_pipelines as tiny

    monkeypatch.chdir(tmp_path)
    tiny.sd().save_pretrained("pipe")
    words = ["compare", "pipe", "--x", "sampler=DDIM,UniPC", "--y", "guidance=CFG(3),Plain", "--prompts"]
    more = ["--steps", "2", "--count", "2", "--near", "1", "--fine_steps", "4", "--show", "2"]
    assert main([*words, "a red boat", *more]) == 0
    out = capsys.readouterr().out
    assert "8 evaluations" not in out
    folder = tmp_path / "compare" / "pipe" / "sampler-guidance"
    cells = json.loads((folder / "compare.json").read_text())["cells"]
    assert [cell["branches"].get("ref", 0) for cell in cells] == [2, 2, 0, 0]
    assert all(cell["measures"]["distance"]["mean"] > 0 for cell in cells)
    assert "prompt 'a red boat'" in json.loads((folder / "compare.json").read_text())["shared"]
    assert not list((tmp_path / "pipe").glob("compare*"))  # a model of somebody else's is not written into


def test_a_folder_of_pictures_is_a_reference(tmp_path):
    from sfumato.tools.compare.options import Compare
    from sfumato.tools.compare.what_looks import what_looks

    for i in range(5):
        Image.fromarray(np.full((16, 16), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    options = Compare("nowhere", "steps=2", reference_path=str(tmp_path), extractor=Pixels())
    looking, _ = what_looks(options, made(), 6)
    assert (len(looking.data), looking.data.shape) == (5, (1, 8, 8))
    (a,), _, _ = compared("steps=2", looking=looking)
    assert a.measured["frechet"][0] > 0
    none, remarks = what_looks(Compare("nowhere", "steps=2", extractor=Pixels()), made(), 6)
    assert none.data is None
    assert "no real pictures were named" in remarks[0]
