"""Cells: the same pictures as `sample` gives, what is kept, and what is not possible."""

import math

import numpy as np
import pytest
import torch
from compared import Counted, compared
from modelled import made

from sfumato.diffusion.measuring import as_bytes
from sfumato.guidance import CFG
from sfumato.tools.compare.axes import parse_axes
from sfumato.tools.compare.engine import Comparison
from sfumato.tools.compare.looking import Looking
from sfumato.tools.compare.networks import Networks
from sfumato.tools.compare.settings import lay_out
from sfumato.tools.compare.sheet import draw_sheet
from sfumato.tools.compare.store import Store

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
