"""What is measured of cells, who is named, and what is drawn and written."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from compared import compared
from modelled import made

from sfumato.diffusion import Denoiser, Model, TimeClock
from sfumato.diffusion.measuring import OfTensor, Pixels, Seen, frechet, moments
from sfumato.guidance import CFG, Plain
from sfumato.samplers import DDIM, DPMSolverPP
from sfumato.samplers.filters import TrajectoryVariance
from sfumato.schedules import X0, Karras, RectifiedFlow
from sfumato.schedules.parts import describe
from sfumato.tools.compare.looking import Looking
from sfumato.tools.compare.sheet import draw_sheet
from sfumato.tools.compare.table import Table

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
