"""One sample's path: nothing but watching is added to what `Model.sample` does, and everything that is told of it is true."""

import csv
import dataclasses
import io
import itertools
import json
import re

import pytest
import torch
from modelled import made
from PIL import Image

from sfumato.guidance import CFG, CFGPlusPlus, Interval, Plain
from sfumato.samplers import DDIM, AdaptiveStep, Euler, Heun
from sfumato.samplers.filters import PathLength, RenoiseProbe, TrajectoryVariance
from sfumato.tools.demo.form import Form, asked
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.path import Path, decided, one_of, walk
from sfumato.tools.demo.path_figures import panels, place
from sfumato.tools.demo.path_files import numbers, strip, table
from sfumato.tools.demo.path_pictures import PIXELS, address, laid_out, side_for
from sfumato.tools.demo.preview import Preview

FORM = Form(labels="3", steps=6, seeds="5", count=1)


@pytest.fixture(scope="module", name="model")
def the_model():
    return made()


def wanted(model, **changed):
    return dataclasses.replace(one_of(asked(FORM, model, Limits())), **changed)


def walk_of(model, one, plain=False, heard=None):
    path = Path("guided", one.steps)
    seen = [] if heard is None else heard
    return walk(model, one, path, Preview(model), 64, lambda p: seen.append(len(p.shots)), plain)


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        (DDIM(), CFG(3.0)),
        (Euler(eta=1.0), Interval(CFG(2.0), 0.5, 5.0)),
        (Heun(), CFG(2.0)),
        (DDIM(), CFGPlusPlus(0.6)),
        (AdaptiveStep(0.02), CFG(2.0)),
        (DDIM(), Plain()),
    ],
    ids=["ddim", "interval", "heun", "cfg++", "adaptive", "plain"],
)
def test_the_end_is_the_picture_of_sampling_to_the_bit_and_costs_no_more(model, sampler, rule):
    one = wanted(model, sampler=sampler, guidance=rule)
    heard = []
    path = walk_of(model, one, heard=heard)
    alone = model.sample(**one.arguments(), batch=1)
    assert torch.equal(path.samples.images, alone.images)
    assert path.samples.settings_of(0) == alone.settings_of(0)
    assert path.evaluations == int(alone.evaluations.sum())
    assert heard == [1, 2, 3, 4, 5, 6]
    assert len(path.shots) == 7


def test_the_unguided_path_begins_with_the_same_noise_and_is_that_of_plain(model):
    one = wanted(model, sampler=DDIM(), guidance=CFG(3.0))
    guided, plain = walk_of(model, one), walk_of(model, one, plain=True)
    assert guided.shots[0].x.tobytes() == plain.shots[0].x.tobytes()
    alone = model.sample(**dataclasses.replace(one, guidance=Plain()).arguments(), batch=1)
    assert torch.equal(plain.samples.images, alone.images)
    assert all(shot.pull is None for shot in plain.shots)


def test_the_pull_is_that_of_the_formula_at_the_same_x(model):
    # CFG(s) is ref + s (cond - ref), so it is (s - 1) (cond - ref) away from cond, and at the first step x is the same for every scale
    sizes = {s: walk_of(model, wanted(model, sampler=DDIM(), guidance=CFG(s))).shots[0].pull.size for s in (2.0, 4.0)}
    assert sizes[2.0] > 0.01
    assert sizes[4.0] / sizes[2.0] == pytest.approx(3.0, rel=1e-4)
    assert [s.pull.steered for s in walk_of(model, wanted(model, guidance=CFG(1.0))).shots[:-1]] == [False] * 6


def test_steps_that_are_guided_are_those_within_the_interval(model):
    rule = Interval(CFG(3.0), -2.0, 3.0, unit="log_snr")
    path = walk_of(model, wanted(model, sampler=DDIM(), guidance=rule))
    inside = [rule.inside(shot.level) for shot in path.shots[:-1]]
    assert 0 < sum(inside) < 6
    assert [shot.pull.steered for shot in path.shots[:-1]] == inside
    assert [shot.pull.size > 0 for shot in path.shots[:-1]] == inside


def test_the_running_statistic_ends_as_the_filter_s_own_score_to_the_bit(model):
    one = wanted(model, filters=[TrajectoryVariance(low=-3.0), PathLength(low=-3.0), RenoiseProbe(level=1.0, k=2)])
    path = walk_of(model, one)
    variance, length, probe = path.scores
    for known, score in zip(path.scores, path.samples.scores, strict=True):
        assert known.score == float(score[0])
    assert variance.so_far[-1] == variance.score > 0
    assert length.so_far[-1] == length.score > 0
    first = length.inside.index(True)
    assert first > 0
    assert length.so_far[: first + 1] == [None] * first + [0.0]
    # within its window the length grows by what x0 has changed
    grown = [b - a for a, b in zip(length.so_far[first:], length.so_far[first + 1 :], strict=False)]
    assert grown == pytest.approx([shot.change for shot in path.shots[first + 1 : -1]], rel=1e-5)
    assert not probe.speaks
    assert probe.so_far == [None] * 6
    told = " ".join(p.name for p in panels([path]))
    assert "TrajectoryVariance" in told
    assert "RenoiseProbe" not in told


def test_a_threshold_rejects_on_the_path_what_it_rejects_in_sampling(model):
    path = walk_of(model, wanted(model, filters=[PathLength(1e-9, low=-3.0)]))
    assert not path.scores[0].kept
    assert path.scores[0].reason == path.samples.reasons[0] != ""


def test_one_picture_of_several_keeps_its_own_class_and_number(model):
    form = dataclasses.replace(FORM, labels="each in turn", seeds="20", count=4, rule="CFG([1.0,2.0,3.0,4.0])")
    one = one_of(asked(form, model, Limits()), 22)
    assert (one.seeds, one.labels, one.guidance) == ((22,), [2], CFG(3.0))
    other = one_of(asked(form, model, Limits()), 7)
    assert (other.seeds, other.labels, other.guidance) == ((7,), [0], CFG(1.0))


def test_decided_is_the_first_step_from_which_on_x0_stays_near(model):
    path = Path("guided", 5, left=[0.9, 0.05, 0.2, 0.1, 0.02, 0.0])
    assert decided(path) == 3  # not 1, since x0 left again
    assert decided(dataclasses.replace(path, left=[0.01] * 5 + [0.0])) == 0
    assert decided(dataclasses.replace(path, left=[])) is None
    walked_path = walk_of(model, wanted(model))
    assert walked_path.left[-1] == 0.0


@pytest.mark.parametrize("count", [2, 12, 13, 21, 51, 251])
def test_frames_that_are_laid_out_are_few_and_hold_both_ends(count):
    shown = laid_out(count)
    assert (shown[0], shown[-1]) == (0, count - 1)
    assert len(shown) <= 13
    assert len({b - a for a, b in itertools.pairwise(shown[1:])}) <= 1


def test_all_pictures_together_stay_within_the_bound_even_of_noise():
    for count in (84, 1004):
        side = side_for(count)
        assert count * side * side <= PIXELS
        noise = Image.effect_noise((side, side), 120).convert("RGB")
        assert count * len(address(noise)) < 12e6


def test_the_line_stands_at_the_step_in_every_panel(model):
    path = walk_of(model, wanted(model, sampler=DDIM(), guidance=CFG(3.0)))
    for panel in panels([path]):
        width = float(re.search(r'viewBox="0 0 ([\d.]+) ', panel.svg)[1])
        ticks = re.findall(r'<use xlink:href="#[\w-]+" x="([\d.]+)" y="[\d.]+"', panel.svg)[:7]
        assert [float(x) / width for x in ticks] == pytest.approx([place(i, 6) for i in range(7)], abs=1e-4), panel.name


def test_files_say_how_they_were_made_and_hold_every_number(model):
    one = wanted(model, sampler=DDIM(), guidance=CFG(3.0), filters=[PathLength(low=-3.0)])
    paths = [walk_of(model, one), walk_of(model, one, plain=True)]
    with Image.open(io.BytesIO(strip(paths))) as image:
        settings = json.loads(image.text["sfumato"])
    assert settings["seed"] == 5
    assert settings["guidance"]["class_path"] == "sfumato.guidance.CFG"
    rows = list(csv.DictReader(io.StringIO(table(paths))))
    assert len(rows) == 14
    assert float(rows[0]["pull"]) == paths[0].shots[0].pull.size
    assert json.loads(json.dumps(numbers(paths), allow_nan=False))["paths"][1]["evaluations"] == 6
