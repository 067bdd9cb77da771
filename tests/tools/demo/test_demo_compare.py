"""Comparisons of the demo: the cells are those of `Model.sample` and of the command, their cost is foreseen, and Stop stops."""

import csv
import io
import json
import shlex
import time
from dataclasses import astuple, replace
from pathlib import Path

import gradio as gr
import pytest
import torch
from modelled import made

from sfumato.diffusion.measuring import as_bytes
from sfumato.guidance import CFG
from sfumato.samplers import DDIM, DPMSolverPP
from sfumato.tools.cli import main
from sfumato.tools.command import parse
from sfumato.tools.compare.main import run
from sfumato.tools.compare.options import Compare
from sfumato.tools.demo.compare_desk import Desk
from sfumato.tools.demo.compare_grid import bar_of, grid_of
from sfumato.tools.demo.compare_job import Job
from sfumato.tools.demo.compare_results import large_of, results_of, sheet_of
from sfumato.tools.demo.compare_stock import Stock
from sfumato.tools.demo.form import Form, asked
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.running import Running
from sfumato.tools.demo.shelf import Entry, Shelf
from sfumato.tools.sample import own_parts

WAYS = ("sampler", "DDIM, DPM++ 2M", "steps", "3, 5")


def last(found):
    return list(found)[-1]


@pytest.fixture(autouse=True)
def fine(monkeypatch):
    monkeypatch.setattr("sfumato.tools.demo.compare_asked.FINE", 12)


class Watched:
    """A desk with a small model that counts what is asked of its network."""

    def __init__(self, limits=None, entry=None):
        self.asked, self.loads, self.at = 0, 0, None
        self.running = Running()
        self.shelf = Shelf([entry or Entry("small", self.load)])
        self.desk = Desk(self.shelf, limits or Limits(), self.running, Stock(self.shelf))

    def load(self):
        self.loads += 1
        model = made(guidance=CFG(2.0))
        inner = model.denoiser.backbone.forward

        def forward(x, *rest, **more):
            self.asked += len(x)
            if self.at is not None:
                self.at(self)
            return inner(x, *rest, **more)

        model.denoiser.backbone.forward = forward
        return model

    @property
    def model(self):
        return self.shelf.get("small").model

    def compare(self, *own, form=None, session="s", count=4, sets=1, fine=False, name="small"):
        """The comparison to its end, slice by slice, as the page does it."""
        values = [*astuple(form or Form()), *own, count, sets, fine, False]
        job = last(self.desk.start(session, 1, name, *values))
        while not isinstance(job, str) and job.state == "running":
            job = last(self.desk.go_on(session))
        return job

    def cost(self, *own, form=None, count=4, sets=1, fine=False, name="small"):
        return self.desk.cost(name, *astuple(form or Form()), *own, count, sets, fine, False)


def test_cells_are_those_of_sample_to_the_bit_under_names_that_people_know():
    w = Watched()
    job = w.compare(*WAYS, form=Form(labels="3", seeds="7", rule="CFG", scale=1.5))
    assert job.state == "finished"
    assert len(job.outcomes) == 4
    for (row, column), o in job.outcomes.items():
        sampler, steps = (DDIM(), DPMSolverPP(2))[column], (3, 5)[row]
        direct = made().sample(range(7, 11), [3] * 4, steps=steps, sampler=sampler, guidance=CFG(1.5))
        assert torch.equal(o.pictures, as_bytes(direct.images))
    assert job.table.x.labels == ("DDIM", "DPM++ 2M")
    assert job.outcomes[1, 1].cell.settings.sampler["class_path"] == "sfumato.samplers.DPMSolverPP"


def test_the_cost_is_what_is_then_counted_and_a_second_run_asks_nothing():
    w = Watched()
    said = w.cost(*WAYS, fine=True, sets=2)[0]
    foreseen = 2 * 4 * 2 * (3 + 5) * 2 + 2 * 4 * 2 * 12
    assert f"4 cells (2 by 2); 4 pictures per cell in each of 2 sets of seeds. {foreseen:,} evaluations" in said
    assert (w.asked, w.loads) == (0, 1)
    job = w.compare(*WAYS, fine=True, sets=2)
    assert job.spent == job.cost.evaluations == foreseen
    assert w.asked == foreseen + 4 * 2  # and one step to warm up
    before = w.asked
    again = w.compare(*WAYS, fine=True, sets=2)
    assert (w.asked, w.loads) == (before, 1)
    assert all(o.cached for o in again.outcomes.values())
    assert grid_of(again).count("cached") == 4
    assert results_of(again).count("(cached, not timed now)") == 4
    assert "4 of them were there already; 0 evaluations" in bar_of(again)
    assert "4 of them there already" in w.cost(*WAYS, fine=True, sets=2)[0]
    assert "No network has to be asked" in w.cost(*WAYS, fine=True, sets=2)[0]


def test_the_estimate_in_seconds_is_measured_from_this_model():
    w = Watched()
    words, _, _, untimed = w.cost(*WAYS)
    assert untimed == "small"
    assert "on this server" not in words
    w.desk.time(untimed, 4)
    assert w.asked > 0
    words, _, _, untimed = w.cost(*WAYS)
    assert untimed == ""
    assert "on this server" in words


def test_one_slow_moment_does_not_spoil_the_estimate():
    w = Watched()
    model, runs = w.model, []
    inner = model.sample

    def sample(*rest, **more):
        runs.append(len(rest[0]))
        if len(runs) in (1, 2):  # while it warms up, and the first that is timed
            time.sleep(0.4)
        return inner(*rest, **more)

    model.sample = sample
    w.desk.time("small", 4)
    assert set(runs) == {4}
    assert 3 <= len(runs) <= 6
    assert w.desk.stock.pace(w.shelf.get("small"), 4) < 0.2 / (4 * 4)
    assert w.desk.stock.pace(w.shelf.get("small"), 3) is not None
    assert w.desk.stock.pace(w.shelf.get("small"), 16) is None


def test_what_is_left_follows_the_last_cells():
    w = Watched()
    job = Job(w.desk.wanted("small", [*astuple(Form()), *WAYS, 4, 1, False, False]), w.desk.stock)
    for seconds, evaluations in ((100.0, 10), (1.0, 10), (0.5, 0), (2.0, 10), (3.0, 20)):
        job._paced(seconds, evaluations)
    assert job.left == pytest.approx(job.cost.evaluations * 6 / 40)


def test_stop_holds_within_two_steps_and_what_is_finished_is_kept():
    w = Watched()
    values = [*astuple(Form()), "steps", "3, 200", "nothing", "", 4, 1, False, False]
    halted = []

    def halt(watched):
        if not halted and watched.asked > 4 * 2 * 3 + 4 * 2 + 80:  # within the second cell
            halted.append(watched.asked)
            watched.desk.stop("s")

    w.at = halt
    job = last(w.desk.start("s", 1, "small", *values))
    assert job.state == "stopped"
    assert w.asked - halted[0] <= 2 * 4 * 2
    assert list(job.outcomes) == [(0, 0)]
    assert "1 of 2 cells are finished and kept" in bar_of(job)
    assert "not made" in grid_of(job)
    assert w.running.count == 0
    w.at = None
    job = w.compare("steps", "3, 200", "nothing", "")
    assert [o.cached for _, o in sorted(job.outcomes.items())] == [True, False]


def test_another_gets_a_turn_between_cells_and_stop_holds_there_too(monkeypatch):
    monkeypatch.setattr("sfumato.tools.demo.compare_desk.SLICE", 0.0)
    w = Watched()
    values = [*astuple(Form()), *WAYS, 4, 1, False, False]
    job = last(w.desk.start("s", 1, "small", *values))
    assert (job.state, len(job.outcomes), w.running.count) == ("running", 1, 0)
    before = w.asked
    assert w.desk.stop("s").count("Stopped") == 1
    assert list(w.desk.go_on("s")) == []
    assert (w.asked, job.state) == (before, "stopped")
    assert len(w.compare(*WAYS).outcomes) == 4


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (("sampler", "Calibrated(PathLength, secrets)", "nothing", ""), "no Sampler|Calibrated"),
        (("guidance", "LinearAdaptive(plan=secrets)", "nothing", ""), "file"),
        (("sampler", "sfumato.samplers.DDIM", "nothing", ""), "path"),
        (("sampler", "../x", "nothing", ""), "allowed|path"),
        (("weak", "runs/other", "nothing", ""), "columns is 'weak'; allowed: sampler"),
        (("filters.calibration", "x", "nothing", ""), "allowed: sampler"),
        (("sampler", "GHBV", "nothing", ""), "did you mean GHVB"),
        (("steps", "", "nothing", ""), "at least one value"),
        (("steps", "4..9..2", "nothing", ""), "steps over its end"),
        (("steps", "4, 100000", "nothing", ""), "above 1000"),
        (("steps", "4, 900", "nothing", ""), "at most 250"),
        (("steps", "1..65", "nothing", ""), "at most 64"),
        (("sampler", "AdaptiveStep(limit=100000)", "nothing", ""), "above 1000"),
        (("seed", str(2**70), "nothing", ""), "2\\^63"),
        (("steps", "2, 3", "steps", "4"), "on both axes"),
        (("checkpoint", "3", "nothing", ""), "runs of our own"),
        (("filter threshold", "0.1, 1", "nothing", ""), "choose one filter"),
        (("eta", "nan", "sampler", "UniPC"), "eta"),
        ((True, "x", "nothing", ""), "columns is True"),
    ],
    ids=lambda v: " ".join(map(str, v))[:40] if isinstance(v, tuple) else "said",
)
def test_what_a_browser_may_not_say_is_refused_in_words(own, said):
    w = Watched(entry=None)
    w.shelf = Shelf([replace(w.shelf.entry("small"), run=False)])
    w.desk = Desk(w.shelf, Limits(), w.running)
    with pytest.raises(ValueError, match=said):
        w.compare(*own)
    assert w.asked == 0
    assert ("wrong" in "".join(w.cost(*own))) == bool(own[1])  # a tab that nobody has written into says nothing


@pytest.mark.parametrize("count", [True, 2.7, float("nan"), 2**70, "3", None], ids=str)
def test_absurd_numbers_are_refused(count):
    w = Watched()
    with pytest.raises(ValueError, match="pictures per cell is"):
        w.compare(*WAYS, count=count)
    assert (w.asked, w.loads) == (0, 0)


def test_prompts_move_and_are_escaped_and_those_that_are_files_are_refused():
    from tiny_pipelines import sd

    from sfumato.diffusion import load

    w = Watched(entry=Entry("<b>piped", lambda: load(sd()), run=False))
    for own, form in (
        (("prompt", "a, 'x.txt'", "nothing", ""), None),
        (("steps", "2", "nothing", ""), Form(prompt="/etc/x.TXT ")),
    ):
        with pytest.raises(ValueError, match=r"\.txt"):
            w.compare(*own, form=form, name="<b>piped", count=1)
    job = w.compare(
        "prompt", 'red<script>, "blue, green"', "nothing", "", form=Form(steps=2, rule="CFG"), name="<b>piped", count=1
    )
    assert job.table.x.labels == ("red<script>", "blue, green")
    direct = w.shelf.get("<b>piped").model.sample([0], prompts=["blue, green"], steps=2, guidance=CFG(3.0))
    assert torch.equal(job.outcomes[0, 1].pictures, as_bytes(direct.images))
    w.desk.pick("s", 0, 0)
    whole = grid_of(job) + results_of(job) + large_of(job) + bar_of(job)
    assert "red&lt;script" in whole
    assert "<script" not in whole
    assert "<b>piped" not in whole


def test_what_is_not_possible_says_why_and_what_diverged_is_framed():
    w = Watched()
    job = w.compare("sampler", "DDIM, UniPC", "eta", "0, 0.5", form=Form())
    page = grid_of(job)
    assert job.outcomes[0, 1].state == "unsupported"
    assert page.count('class="sf-cell no"') == 2
    assert "UniPC has no such argument" in page
    wild = w.compare("guidance scale", "1, 900", "nothing", "", form=Form(rule="CFG", steps=5))
    states = [o.state for _, o in sorted(wild.outcomes.items())]
    assert states[0] == "made"
    assert ("sf-cell diverged" in grid_of(wild)) == (states[1] == "diverged")


def test_too_much_is_refused_and_a_costly_one_is_asked_for_twice(monkeypatch):
    w = Watched(Limits(evaluations=100))
    assert "more than the 100" in w.cost(*WAYS)[0]
    with pytest.raises(ValueError, match="more than the 100"):
        w.compare(*WAYS)
    monkeypatch.setattr("sfumato.tools.demo.compare_desk.COSTLY", 1e-9)
    w = Watched()
    w.desk.time("small", 4)
    assert "once more" in w.compare(*WAYS)
    assert "once more" in w.compare(*WAYS, count=3)  # another question
    assert w.compare(*WAYS, count=3).state == "finished"


def test_the_table_its_files_and_the_cell_that_goes_back_into_the_form():
    w = Watched()
    job = w.compare(*WAYS, sets=3, fine=True, form=Form(grid="Karras", seeds="5"))
    page = results_of(job)
    assert "Who leads" in page
    assert "differences on the same seeds, set by set; the ± of the table below is that of each cell alone" in page
    assert "seconds, this server, as it was busy" in page
    assert "not timed now" not in page
    assert "s a picture" not in grid_of(job)
    assert "6 evaluations" in grid_of(job)
    lines = list(csv.DictReader(io.StringIO(job.table.as_csv())))
    assert [line["steps"] for line in lines] == ["3", "3", "5", "5"]
    assert [line["sampler"] for line in lines] == ["DDIM", "DPM++ 2M"] * 2
    assert float(lines[0]["evaluations"]) == 6
    sorted_page = w.desk.sort("s", "distance")
    best = min(job.outcomes.values(), key=lambda o: sum(o.measured["distance"]))
    first = sorted_page.partition("<tbody>")[2] if "Who leads" not in sorted_page else sorted_page.split("<tbody>")[2]
    assert first.startswith(f'<tr class="made"><th scope=row>{best.cell.said["sampler"]}')
    assert sheet_of(job)[:4] == b"\x89PNG"
    assert w.desk.pick("s", 1, 1)[2]
    assert "sampler DPM++ 2M, steps 5" in large_of(job)
    form, left = w.desk.put("s")
    assert (form.sampler, form.steps, form.seeds, form.grid, left) == ("DPM++ 2M", 5, "5", "Karras", "")
    direct = w.model.sample(**asked(form, w.model, Limits()).arguments())
    assert torch.equal(as_bytes(direct.images)[:4], job.outcomes[1, 1].pictures)
    with pytest.raises(ValueError, match="not finished"):
        w.desk.pick("s", 9, 0)
    with pytest.raises(ValueError, match="whole numbers"):
        w.desk.pick("s", True, 0)


def test_every_cell_goes_back_into_a_form_that_samples_it():
    w = Watched()
    for own, form in (
        (("sampler", "dpm++ 2m", "guidance", "none, CFG"), Form(negative="7", steps=2, grid="Karras")),
        (("grid", "karras, LINSPACE", "nothing", ""), Form(steps=2)),
        (("filter threshold", "0.5, 1e-9", "nothing", ""), Form(steps=6, filters=("PathLength",))),
        (("filter threshold", "0.5, 1e-9", "nothing", ""), Form(steps=6, filters=("path length",))),
    ):
        job = w.compare(*own, form=form, count=1)
        assert len(job.outcomes) == 2
        for place, outcome in job.outcomes.items():
            w.desk.pick("s", *place)
            back, left = w.desk.put("s")
            assert left == ""
            found = w.model.sample(**asked(back, w.model, Limits()).arguments())
            assert torch.equal(as_bytes(found.images), outcome.pictures), outcome.cell.name
            assert outcome.settings["filters"] == found.settings["filters"]


def test_cells_that_diverged_are_there_and_cost_nothing_again():
    w = Watched()
    with torch.no_grad():
        next(w.model.denoiser.parameters()).fill_(torch.nan)
    job = w.compare(*WAYS, fine=True, sets=2)
    assert {o.state for o in job.outcomes.values()} == {"diverged"}
    before = w.asked
    said = w.cost(*WAYS, fine=True, sets=2)[0]
    assert "4 of them there already" in said
    assert "No network has to be asked" in said
    w.compare(*WAYS, fine=True, sets=2)
    assert w.asked == before


def test_the_page_is_built_and_its_main_event_has_a_name():
    from sfumato.tools.demo.app import build_app

    app = build_app(Shelf([Entry("small", made)]))
    named = [fn for fn in app.fns.values() if fn.api_name == "compare"]
    assert len(named) == 1
    assert named[0].concurrency_id == "model"
    assert isinstance(app, gr.Blocks)


@pytest.mark.parametrize("frechet", [True, False])
def test_the_command_carries_what_was_measured_without_needless_quotes(frechet):
    w = Watched(entry=Entry("small", made, command="runs/small"))
    values = [*astuple(Form()), "steps", " 4,  8, 16", "class", "0, 0-3", 4, 1, False, frechet]
    asked_for = w.desk.wanted("small", values)
    words = asked_for.command.split()
    assert "steps=4,8,16" in words
    assert "label=0,0-3" in words
    assert ("--frechet false" in asked_for.command) is not frechet
    read, _ = parse(words[2:], Compare, ("run",), base=own_parts)
    assert replace(read, filters=()) == asked_for.options
    assert asked_for.x.labels == ("4", "8", "16")


def test_an_extractor_that_would_measure_nothing_is_refused():
    with pytest.raises(ValueError, match="frechet is false and reference_path is given"):
        Compare("run", "steps=2", frechet=False, reference_path="photos")


@pytest.mark.slow  # four comparisons, each by the page and by the command
def test_the_command_makes_the_same_cells(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = "train digits --steps 4 --batch 8 --backbone.width 8 --sampling_steps 4 --sample_every 0 --save_every 2 --keep 2 --out run"
    assert main(small.split()) == 0
    from sfumato.diffusion import load

    w = Watched(entry=Entry("run", lambda: load("run"), home=Path("run"), command="run"))
    forms = (
        (WAYS, Form(rule="CFG", scale=1.234567891, limited=True, interval=(-3.25, 2.5), labels="3", seeds="11")),
        (("guidance", "none, CFG, Rescale(CFG(2))", "grid", "the model's own, Karras"), Form(negative="7", steps=3, limited=True)),
        (("checkpoint", "newest, 2", "average", "true, false"), Form(steps=8, filters=("path length",), threshold="0.5")),
        (("sampler + steps", "DPM++ 2M: 3, Euler a: 2", "class", "0, none"), Form(rejected="retry", brownian=True, strict=True)),
    )  # fmt: skip
    for own, form in forms:
        job = w.compare(*own, form=form, name="run", fine=own is WAYS)
        assert job.state == "finished"
        words = shlex.split(job.wanted.command)
        assert words[:2] == ["sfumato", "compare"], job.wanted.why
        before = sorted(p.name for p in Path("run/compare/cells").iterdir())
        capsys.readouterr()
        assert run([*words[2:], "--out", own[0]]) == 0
        out = capsys.readouterr().out
        # what the page did not measure the command does not either
        assert set(json.loads(Path(own[0], "compare.json").read_text())["measures"]) == {
            m.key for m in job.table.measures
        }
        cells = len(job.outcomes)
        assert f"{cells} of them there already" in out, job.wanted.command
        assert "; 0 evaluations of the network to make" in out
        assert set(before) <= {p.name for p in Path("run/compare/cells").iterdir()}
