"""Orders: the recorded measurement against expectations, the specification and a new measurement; what drifts is named; the README."""

import copy
import json
import math
import re
from pathlib import Path

import pytest
import torch
from oracles import Mixture, gaussian_end, log_grid, mixture_end
from PIL import Image

from sfumato import samplers
from sfumato.samplers import DDIM, Euler, Heun
from sfumato.tools.cli import main
from sfumato.tools.orders import main as command
from sfumato.tools.orders.inversion import INVERTED
from sfumato.tools.orders.measure import STEPS, errors_on, fitted, walked
from sfumato.tools.orders.methods import METHODS, WHY
from sfumato.tools.orders.paths import DATA, PATHS, Both
from sfumato.tools.orders.record import drifted, recorded

README = (Path(__file__).parents[2] / "README.md").read_text()
MARKED = re.search(r"<!-- orders: [^\n]*-->\n(.*?)\n<!-- end of orders -->", README, re.S)


def test_the_readme_shows_the_tables(capsys):
    assert main(["orders", "--markdown"]) == 0
    assert MARKED is not None
    assert MARKED[1] == capsys.readouterr().out.strip()


def test_the_recorded_result_is_complete_and_as_expected():
    result = recorded()
    assert tuple(result["steps"]) == STEPS
    assert list(result["errors"]) == [m.name for m in METHODS]
    assert all(
        list(e) == list(PATHS) and all(list(d) == list(DATA) for d in e.values()) for e in result["errors"].values()
    )
    assert list(result["inversion"]) == list(INVERTED)
    assert drifted(result, result) == []


def test_names_are_python_and_reasons_are_given_where_practice_differs():
    for m in METHODS:
        assert eval(m.name, vars(samplers)) == m.sampler
        assert bool(m.why) == bool(m.measured)
        assert set(m.why) <= set(WHY)
        assert {key for pair in m.measured for key in pair} <= {*PATHS, *DATA}


SPECIFICATION = {
    "DDIM()": ["1.111e-1", "2.709e-2", "6.728e-3", "1.679e-3"],
    "Heun()": ["2.673e-2", "1.501e-3", "9.148e-5", "5.683e-6"],
    "DPMSolver2()": ["1.272e-2", "7.454e-4", "4.583e-5", "2.853e-6"],
    "DPMSolverPP2S()": ["1.069e-2", "7.053e-4", "4.475e-5", "2.808e-6"],
    "DPMSolverPP(2)": ["1.336e-2", "7.509e-4", "4.605e-5", "2.866e-6"],
    "DPMSolverPP(3, legacy=True)": ["2.117e-3", "2.149e-4", "1.453e-5", "9.180e-7"],
    "DPMSolverPP(3)": ["3.406e-3", "4.823e-5", "1.028e-6", "4.282e-8"],
    "PLMS(4)": ["6.310e-3", "4.779e-4", "2.962e-5", "1.850e-6"],
    "HeavyBall(PLMS(4), 0.8)": ["4.150e-2", "1.263e-2", "3.308e-3", "8.361e-4"],
    "GHVB(1.8)": ["1.522e-2", "1.043e-3", "6.679e-5", "4.195e-6"],
    "GHVB(3.8)": ["6.207e-3", "4.761e-4", "2.952e-5", "1.843e-6"],
    "GradientEstimation()": ["7.232e-2", "2.404e-2", "6.524e-3", "1.666e-3"],
    "HeavyBall(DPMSolverPP(2), 0.8)": ["4.923e-2", "1.312e-2", "3.337e-3", "8.379e-4"],
}


@pytest.mark.parametrize("name", list(SPECIFICATION))
def test_the_recorded_errors_are_those_of_the_specification(name):
    """Computed independently, on the same levels and starts: all four printed digits."""
    errors = dict(zip(STEPS, recorded()["errors"][name]["ve"]["mixture"], strict=True))
    assert [errors[n] for n in (16, 64, 256, 1024)] == pytest.approx(list(map(float, SPECIFICATION[name])), rel=6e-4)


def test_methods_that_are_one_have_one_error():
    errors = recorded()["errors"]
    for a, b in (
        ("DDIM()", "DPMSolverPP(1)"),
        ("DDIM()", "PLMS(1)"),
        ("PLMS(4)", "GHVB(4.0)"),
        ("PLMS(2)", "GradientEstimation(1.5)"),
    ):
        for path in PATHS:
            assert errors[a][path]["mixture"] == pytest.approx(errors[b][path]["mixture"], rel=1e-4), (a, b)
    assert errors_on(PATHS["flow"], Euler(), (16,)) == errors_on(PATHS["flow"], DDIM(), (16,))


def test_a_new_measurement_is_the_recorded_one(tmp_path, capsys):
    """All samplers on all paths at 16 and 64 steps, round trips, tolerances and intervals."""
    assert main(["orders", "--quick", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "everything as expected" in out
    assert max(map(len, out.splitlines())) < 180
    result = json.loads((tmp_path / "quick.json").read_text())
    assert result["steps"] == [16, 64]
    assert set(result["errors"]) == {m.name for m in METHODS}


def test_what_drifts_is_named(tmp_path, capsys, monkeypatch):
    known = recorded()
    worse = copy.deepcopy(known)
    worse["errors"]["Heun()"]["flow"] = worse["errors"]["DDIM()"]["flow"]
    worse["inversion"]["UniPC(2)"]["ve"]["mixture"]["back"][-1] *= 2
    worse["stability"]["eps"]["GHVB(3.8)"] *= 1.001
    lines = drifted(worse, known)
    assert sum(line.startswith("Heun() on flow, mixture: order 1.00, expected 2") for line in lines) == 1
    assert any(line.startswith("UniPC(2) back on ve: order 2") for line in lines)
    assert any(line.startswith("GHVB(3.8): real interval") for line in lines)
    assert any(line.startswith("errors, Heun(), flow, gaussian: ") and "recorded" in line for line in lines)
    assert not any("PLMS" in line for line in lines)
    monkeypatch.setattr(command, "measured", lambda *_, **__: worse)
    assert main(["orders", "--quick", "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "drifted: Heun() on flow" in shown.err
    assert "drifted" in shown.out


def test_the_full_command_leaves_numbers_and_a_picture(tmp_path, capsys, monkeypatch):
    """With the recorded result in place of a new one: the file is the recorded one to the byte, so copying it changes nothing else."""
    monkeypatch.setattr(command, "measured", lambda *_, **__: recorded())
    assert main(["orders", "--out", str(tmp_path)]) == 0
    assert "everything as expected" in capsys.readouterr().out
    shipped = Path(command.__file__).with_name("orders.json").read_text()
    assert (tmp_path / "orders.json").read_text() == shipped
    with Image.open(tmp_path / "orders.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 100


def test_orders_leave_rounding_out():
    assert fitted([1.6e-11, 4e-12, 9e-13, 5e-13], [16, 32, 64, 128]) == pytest.approx(2.0)
    assert fitted([8.0, 4.0, 2.0, 1.0, 0.5], [1, 2, 4, 8, 16]) == pytest.approx(1.0)
    assert math.isnan(fitted([1e-13, 1e-14], [16, 32]))


def test_a_mixture_ends_where_its_quantiles_are():
    z = 20 * torch.tensor([-1.1, -0.3, 0.2, 0.9], dtype=torch.float64) + 0.2
    printed = torch.tensor([-1.04948118, 0.44042445, 0.72161064, 0.98934939], dtype=torch.float64)
    assert torch.allclose(mixture_end(z, 20, 0.02, Mixture()), printed, rtol=0, atol=5.1e-9)
    one, two = Mixture((1.0,), (0.3,), (0.5,)), Mixture((0.4, 0.6), (0.3, 0.3), (0.5, 0.5))
    far = torch.tensor([-700.0, -60.0, -3.0, 0.0, 0.3, 7.0, 90.0, 900.0], dtype=torch.float64)
    for data in (one, two):
        assert torch.allclose(
            mixture_end(far, 20, 0.02, data), gaussian_end(far, 20, 0.02, 0.5, 0.3), rtol=1e-13, atol=1e-13
        )
        noise = far / 30
        assert torch.allclose(
            mixture_end(noise, math.inf, 0.1, data),
            gaussian_end(noise, math.inf, 0.1, 0.5, 0.3),
            rtol=1e-13,
            atol=1e-13,
        )
    there = mixture_end(far / 10, 20, 0.02, Mixture())
    assert torch.allclose(mixture_end(there, 0.02, 20, Mixture()), far / 10, rtol=1e-12, atol=1e-12)
    # the limit of ever noisier starts
    assert torch.allclose(
        mixture_end(1e8 * noise, 1e8, 0.1, Mixture()), mixture_end(noise, math.inf, 0.1, Mixture()), rtol=0, atol=1e-6
    )


def test_the_ode_leads_there():
    """Independent of quantiles: Heun's error falls fourfold with twice the steps, so its extrapolation is exact to h^3."""
    z = torch.tensor([-9.0, -2.0, 1.0, 8.0], dtype=torch.float64)
    coarse, fine = (walked(Heun(), Mixture(), log_grid(20, 0.02, n), z) for n in (400, 800))
    assert torch.allclose(fine + (fine - coarse) / 3, mixture_end(z, 20, 0.02, Mixture()), rtol=0, atol=1e-7)


def test_the_batch_of_both_kinds_is_each_kind():
    path = PATHS["vp"]
    level = path.schedule(0.6)
    x0 = Both()(path.start, level).x0
    assert torch.equal(x0[:4], Mixture().x0(path.start[:4], level))
    variance = (0.5 * level.alpha) ** 2 + level.sigma**2
    assert torch.allclose(
        x0[4:], 0.3 + level.alpha * 0.25 / variance * (path.start[4:] - 0.3 * level.alpha), atol=1e-14
    )
