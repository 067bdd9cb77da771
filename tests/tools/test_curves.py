"""Quality against evaluations: counts, the exact mixture, who is named, what is kept, and the command."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from modelled import made
from scipy.integrate import solve_ivp

from sfumato.diffusion import Digits
from sfumato.diffusion.measuring import Pixels, frechet, leaders, moments
from sfumato.guidance import CFG, Interval, Plain
from sfumato.samplers import DDIM, GHVB, Clipped, DPMSolverPP, Heun, State, move
from sfumato.schedules import Cosine, Karras, LogSNRUniform, RectifiedFlow, Trailing
from sfumato.schedules.level import Level
from sfumato.tools.claims.mixture2d import ARMS, exact_noise
from sfumato.tools.cli import main
from sfumato.tools.curves.budgets import asks, steps_within
from sfumato.tools.curves.cells import Line, keeper, measure
from sfumato.tools.curves.methods import METHODS, chosen
from sfumato.tools.curves.mixture import ExactMixture, exact_pair, ode_end
from sfumato.tools.curves.report import said
from sfumato.tools.curves.sampled import FineGrid, Sampled
from sfumato.tools.curves.subject import Block, Ends
from sfumato.tools.curves.winners import best_grids, named

TWICE = {"Heun()", "DPMSolver2()", "DPMSolverPP2S()", "Churn(Heun())", "PredictorCorrector(DDIM(), Langevin(0.01))"}


def by_hand(name, n, infinite):
    """Of n steps: a step to data, or out of pure noise (alpha = 0), has no second stage; a corrector stands behind all but one."""
    if name.startswith("PredictorCorrector"):
        return 2 * n - 1
    whole = max(0, n - 1 - infinite)
    if name in TWICE:
        return n + whole
    if "rk4" in name:  # three steps of four evaluations
        return n + 3 * min(3, whole)
    return n


@pytest.mark.parametrize("name", METHODS)
def test_what_a_sampler_costs_is_counted_exactly(name):
    """By its step as it is written, by hand, and by the calls of a real trajectory, which runs as a table."""
    mixture, block = ExactMixture(fine=10), Block(0, 2)
    for grid, infinite in ((Trailing(), 1), (Karras(), 0)):
        for n in (1, 2, 4, 7):
            count = asks(METHODS[name], Cosine(), grid, n)
            assert count == by_hand(name, n, infinite)
            assert mixture.ends(METHODS[name], grid, n, block).evaluations == count


@pytest.mark.parametrize("name", METHODS)
def test_the_most_steps_within_a_budget(name):
    for budget in (5, 8, 12, 20):
        found = steps_within(lambda n: asks(METHODS[name], Cosine(), Karras(), n), budget)
        assert found is not None
        steps, cost = found
        assert cost == by_hand(name, steps, 0) <= budget < by_hand(name, steps + 1, 0)


def test_not_even_one_step():
    assert steps_within(lambda n: 2 * n, 1) is None
    assert steps_within(lambda n: 2 * n, 5) == (2, 4)


def test_samplers_are_chosen_by_class_and_by_name():
    assert list(chosen("Heun, GHVB(3.8)")) == ["Heun()", "GHVB(3.8)"]
    assert list(chosen('GHVB,UniPC(2,"bh2")')) == ["GHVB(1.8)", "GHVB(3.8)", 'UniPC(2, "bh2")']
    assert chosen(None) == METHODS
    with pytest.raises(ValueError, match="samplers names 'Euler'"):
        chosen("DDIM,Euler")


@pytest.mark.filterwarnings("ignore:.*diverged", "ignore:nothing is guided")
def test_guided_evaluations_count_both_branches():
    model = made()
    for guidance in (Plain(), CFG(2.0), Interval(CFG(2.0), 0.2, 2.0)):
        subject, block = Sampled(model, guidance, fine=10), Block(5, 3)
        for sampler, budget in ((DDIM(), 5), (Heun(), 5), (Heun(), 8)):
            found = steps_within(lambda n, s=sampler, q=subject: q.cost(s, Karras(), n), budget)
            assert found is not None
            steps, cost = found
            spent = model.sample(block.seeds, [0, 1, 2], steps=steps, sampler=sampler, guidance=guidance, grid=Karras())
            assert spent.evaluations.sum(1).tolist() == [cost] * 3
            assert cost <= budget < subject.cost(sampler, Karras(), steps + 1)
    assert Sampled(model, CFG(2.0)).cost(Heun(), Karras(), 3) == 10
    assert Sampled(model, Plain()).cost(Heun(), Karras(), 3) == 5


def test_the_exact_denoiser_of_the_mixture():
    torch.manual_seed(0)
    x = torch.randn(50, 2, 1, 1, dtype=torch.float64)
    everyone = torch.full((50,), ARMS)
    for alpha, sigma in ((0.0, 1.0), (0.3, 0.9), (0.99, 0.1), (1.0, 0.01)):
        x0, eps = exact_pair(x, Level(0.5, alpha, sigma))
        assert torch.allclose(eps, exact_noise(x, alpha, sigma, everyone), atol=1e-12)
        assert torch.allclose(alpha * x0 + sigma * eps, x, atol=1e-12)


def test_the_exact_end_is_that_of_another_integrator_in_another_clock():
    """In g = sigma / alpha, dz / dg = eps, by scipy's method of order 8 with tolerances near rounding; and it converges as order 4."""
    torch.manual_seed(1)
    level = Cosine().at_log_snr(-2 * math.log(80.0))
    x = level.sigma * torch.randn(6, 2, 1, 1, dtype=torch.float64)

    def slope(log_g, z):
        g = math.exp(log_g)
        points = torch.from_numpy(z.reshape(6, 2, 1, 1))
        return g * exact_noise(points, 1.0, g, torch.full((6,), ARMS)).numpy().ravel()

    start, end = math.log(level.ratio), math.log(1e-7)
    z = solve_ivp(slope, (start, end), (x / level.alpha).numpy().ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y[
        :, -1
    ]
    ends = ode_end(x, level)
    assert np.abs(ends.numpy().ravel() - z).max() < 1e-7
    errors = [float((ode_end(x, level, n) - ends).abs().max()) for n in (50, 100)]
    assert 10 < errors[0] / errors[1] < 25


def test_samplers_converge_to_the_exact_end_of_the_mixture():
    mixture, block = ExactMixture(fine=200), Block(0, 50)
    coarse, fine = (mixture.ends(DPMSolverPP(2), LogSNRUniform(high=19.0), n, block).ode for n in (100, 400))
    assert fine is not None
    assert coarse is not None
    assert fine < 0.01
    assert 10 < coarse / fine < 25
    stochastic = mixture.ends(METHODS["DDPM()"], Trailing(), 20, block)
    assert stochastic.ode is None
    assert stochastic.law is not None
    known = mixture.exact(block)
    assert known["error"] < 1e-6
    assert mixture.ends(GHVB(3.8), LogSNRUniform(), 200, block).law == pytest.approx(known["law"], rel=0.05)


def test_a_models_ends_converge_to_its_own_ode():
    subject, block = Sampled(made(), Plain(), fine=100), Block(0, 2)
    assert subject.measures.keys() == {"ode"}
    few, more = (subject.ends(Heun(), Karras(), n, block).ode for n in (10, 40))
    assert few is not None
    assert more is not None
    assert more < few / 4
    assert subject.exact(block)["error"] < 0.01
    levels = FineGrid(0.8)(RectifiedFlow(), 4)
    assert [round(level.t, 9) for level in levels] == [0.8, 0.6, 0.4, 0.2, 0.0]


def test_the_distance_to_data_is_the_frechet_distance():
    model, data = made(), Digits("even")
    subject, block = Sampled(model, Plain(), data, Pixels(), fine=10), Block(0, 40)
    images = model.sample(block.seeds, [s % 10 for s in block.seeds], steps=3, sampler=DDIM(), guidance=Plain()).images
    bytes_of = [
        ((x + 1) * 127.5).round().flatten(1) / 127.5 - 1 for x in (images, data.batch(torch.arange(len(data))).x)
    ]
    wanted = frechet(moments(bytes_of[0]), moments(bytes_of[1]))
    assert subject.ends(DDIM(), model.grid, 3, block).law == pytest.approx(wanted, rel=1e-4)


@dataclass(frozen=True)
class Astray:
    """DDIM whose every step is too long."""

    factor: float = 20.0
    draws = 0

    def step(self, state, denoise, levels, z):
        *_, now, nxt = levels
        p = denoise(state.x, now)
        return State(self.factor * move(p, now, nxt)), p


def test_what_diverges_is_said_and_leads_nothing(tmp_path):
    subject = Sampled(made(), Plain(), fine=10)
    samplers = {"Astray()": Astray(), "Lost": Astray(1e30), "DDIM()": DDIM()}
    lines = measure(subject, samplers, {"own": Karras()}, [5], [Block(0, 3), Block(3, 3)], tmp_path)
    trouble = {line.sampler: line.trouble for line in lines}
    assert trouble == {"Astray()": "6 pictures diverged", "Lost": "numbers that are not finite", "DDIM()": ""}
    assert [line.sampler for line in named(lines, "ode", 5).lines] == ["DDIM()"]


class Planted:
    """A subject with numbers that were made up; counts how often it is asked."""

    schedule, grid, about = Cosine(), Trailing(), {"model": "planted"}
    measures = {"ode": "a distance", "law": "another"}  # noqa: RUF012

    def __init__(self, values, stop=None):
        self.values, self.stop, self.asked, self.kept = values, stop, 0, None

    def cost(self, sampler, grid, steps):
        return asks(sampler, self.schedule, grid, steps)

    def ends(self, sampler, grid, steps, block):
        if self.asked == self.stop:
            raise KeyboardInterrupt
        self.asked += 1
        value = self.values[type(sampler).__name__][block.first // block.count]
        return Ends(value, 10 - value, float(steps))

    def exact(self, block):
        return {"law": None, "error": 0.0}


SAMPLERS = {"DDIM()": DDIM(), "Heun()": Heun(), "Clipped": Clipped()}
BLOCKS = [Block(10 * k, 10) for k in range(3)]
# the second is worse by half in each block, far less than blocks differ; the third is as good as the first
VALUES = {"DDIM": [1.0, 5.0, 3.0], "Heun": [1.5, 5.6, 3.4], "Clipped": [1.1, 4.9, 3.05]}


def test_a_planted_winner_is_named_and_a_planted_tie_is_not(tmp_path):
    lines = measure(Planted(VALUES), SAMPLERS, {"Trailing": Trailing()}, [5], BLOCKS, tmp_path / "tie")
    found = named(lines, "ode", 5)
    assert {line.sampler for line in found.lines} == {"DDIM()", "Clipped"}
    assert found.compared == 3
    assert "no winner, 2 of 3 are not told apart" in said(found)
    clear = {**VALUES, "Clipped": [0.5, 4.4, 2.6]}
    lines = measure(Planted(clear), SAMPLERS, {"Trailing": Trailing()}, [5], BLOCKS, tmp_path / "clear")
    found = named(lines, "ode", 5)
    assert [line.sampler for line in found.lines] == leaders(clear) == ["Clipped"]
    assert "Clipped on Trailing (2.5 ± 2; 5 in 5 steps) is the best of 3" in said(found)
    one = measure(Planted(clear), SAMPLERS, {"Trailing": Trailing()}, [5], BLOCKS[:1], tmp_path / "clear")
    assert len(named(one, "ode", 5).lines) == 3  # a single block tells nothing apart
    for blocks in (BLOCKS[:1], BLOCKS):
        alone = named(
            measure(Planted(clear), {"DDIM()": DDIM()}, {"Trailing": Trailing()}, [5], blocks, tmp_path / "clear"),
            "ode",
            5,
        )
        assert not alone.won  # who was compared with nobody has won nothing
        assert "no winner" in said(alone)
    assert found.won


def test_a_curve_is_on_the_best_grid():
    def line(grid, *values):
        return Line("DDIM()", grid, 5, 5, 5, False, tuple(Ends(v, None, 5.0) for v in values))

    lines = [line("a", 1.0, 2.0), line("b", 0.5, 1.0), line("c", 0.1, math.nan)]
    assert [each.grid for each in best_grids(lines, "ode")] == ["b"]
    assert best_grids(lines, "law") == []


def test_an_interrupted_job_goes_on_and_nothing_is_measured_twice(tmp_path):
    first = Planted(VALUES, stop=4)
    arguments = (SAMPLERS, {"Trailing": Trailing()}, [5, 8], BLOCKS, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        measure(first, *arguments)
    second, third = Planted(VALUES), Planted(VALUES)
    lines = measure(second, *arguments)
    assert second.asked == 3 * 2 * 3 - 4
    assert measure(third, *arguments) == lines
    assert third.asked == 0
    third.about = {"model": "another"}
    measure(third, *arguments)
    assert third.asked == 18


def test_a_kept_tensor_is_made_once(tmp_path):
    value, calls = torch.randn(3), []
    for about in ("a", "a", "b"):
        kept = keeper(tmp_path, {"of": about})
        assert torch.equal(kept("x", lambda: calls.append(1) or value), value)
    assert len(calls) == 2


def test_the_command_on_the_mixture(tmp_path, capsys):
    out = tmp_path / "curves"
    argv = ["curves", "mixture", "--samplers", "DDIM,GHVB(3.8),DDPM()", "--grids", "LogSNRUniform"]
    argv += ["--evaluations", "5,8", "--fine", "40", "--count", "60", "--out", str(out)]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "5 evaluations: " in said
    result = json.loads((out / "curves.json").read_text())
    assert result["command"].startswith("sfumato curves mixture --samplers")
    assert [block["first"] for block in result["blocks"]] == [0, 60, 120]
    assert all(key in result for key in ("version", "torch", "code", "machine", "rule"))
    assert len(result["rows"]) == 4 * 2 * 2
    for best in result["best"]:
        values = {
            f"{row['sampler']} on {row['grid']}": [e[best["measure"]] for e in row["ends"]]
            for row in result["rows"]
            if row["budget"] == best["evaluations"] and row["ends"][0][best["measure"]] is not None
        }
        assert best["not_told_apart"] == leaders(values)
        assert best["winner"] == (leaders(values)[0] if len(leaders(values)) == 1 else None)
    page = (out / "curves.html").read_text()
    assert all(name in page for name in ("DDIM()", "GHVB(3.8)", "DDPM()", "LogSNRUniform", "data:image/png"))
    assert (out / "curves.png").stat().st_size > 20_000
    cells = {p: p.stat().st_mtime_ns for p in (out / "cells").iterdir()}
    assert main(argv) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "cells").iterdir()} == cells
    for file in (out / "cells").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    assert main(argv) == 0  # what is damaged is measured again
    assert json.loads((out / "curves.json").read_text())["rows"] == result["rows"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["mixture", "--samplers", "DDMI"], "did you mean"),
        (["mixture", "--guidance", "CFG"], "guidance, data and extractor say nothing about the mixture"),
        (["mixture", "--evaluations", "0"], "evaluations is '0'"),
        (["mixture", "--grids", "Karas"], "did you mean Karras?"),
        (["mixture", "--grids", "Explicit"], "can't be made without arguments"),
        (["nowhere", "--schedule", "Cosine"], "schedule is for the mixture only"),
        (["nowhere"], "nowhere"),
    ],
)
def test_mistakes_of_curves(argv, said, capsys, tmp_path):
    assert main(["curves", *argv, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
