"""A picture's settings fill a form that makes the very same picture again."""

import json

import pytest
import torch
from modelled import made

from sfumato.samplers.filters import Calibrated, Calibration, PathLength
from sfumato.schedules.parts import describe
from sfumato.schedules.plain_json import from_json, to_json
from sfumato.tools.demo.facts import beside, facts_of
from sfumato.tools.demo.filled import settings_to_form
from sfumato.tools.demo.form import Beside, Form, asked
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.menus import FILTERS, GRIDS, NONE, OWN, RULES, SAMPLERS, SCALES
from sfumato.tools.demo.shelf import Entry, Shelf

LIMITS = Limits()
# where a form says something of its own, the form that is filled says the same
SAME = (
    "sampler",
    "grid",
    "rule",
    "steps",
    "labels",
    "negative",
    "limited",
    "filters",
    "threshold",
    "rejected",
    "brownian",
    "strict",
)


@pytest.fixture(scope="module")
def shelf():
    return Shelf([
        Entry("large", lambda: made(0, source={"run": "large", "checkpoint": 800, "ema": True})),
        Entry("small", lambda: made(1, source={"run": "small", "checkpoint": 100, "ema": True})),
    ])  # fmt: skip


def back(form, shelf, known=None, same=SAME):
    """Sample a form, read its settings as they lie in a PNG, fill a form with them, and sample that."""
    loaded = shelf.get("large")
    known = known or beside(shelf, loaded)
    first = loaded.model.sample(**asked(form, loaded.model, LIMITS, known).arguments())
    settings = from_json(json.loads(json.dumps(to_json(first.settings_of(0)), allow_nan=False)))
    again, notes = settings_to_form(settings, loaded.model, facts_of(loaded, shelf), known, LIMITS)
    second = loaded.model.sample(**asked(again, loaded.model, LIMITS, known).arguments())
    assert second.seeds.tolist() == first.seeds[:1].tolist()
    assert torch.equal(first.images[:1], second.images)
    for name in same:
        if getattr(form, name) != getattr(Form(), name):
            assert getattr(again, name) == getattr(form, name), name
    return again, notes


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_of_the_menu_comes_back(sampler, shelf):
    again, notes = back(Form(sampler=sampler, steps=4, seeds="7", count=1, labels="3"), shelf)
    assert notes == []
    assert again.seeds == "7"


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_of_the_menu_comes_back(grid, shelf):
    _, notes = back(Form(grid=grid, steps=5, seeds="8", count=1, labels=NONE), shelf)
    assert notes == []


@pytest.mark.parametrize(("negative", "limited"), [("", True), ("4", False)])
@pytest.mark.parametrize("rule", [name for name in SCALES if name != "Autoguidance"])
def test_every_rule_comes_back_with_strength_interval_and_negative(rule, negative, limited, shelf):
    scale = 0.55 if rule == "CFG++" else 2.7
    form = Form(rule=rule, scale=scale, negative=negative, limited=limited, interval=(-2.5, 40.0), sampler="DDIM", steps=4, seeds="9",
                count=1, labels="2")  # fmt: skip
    again, notes = back(form, shelf)
    assert notes == []
    assert again.scale == scale
    assert not limited or again.interval == (-2.5, 40.0)


def test_no_guidance_comes_back(shelf):
    assert RULES[NONE] == "Plain"
    back(Form(rule=NONE, steps=3, seeds="1", count=1), shelf, same=("rule", "sampler"))


def test_a_weaker_model_comes_back_by_its_name(shelf):
    form = Form(rule="Autoguidance", scale=2.0, weak="small", sampler="DDIM", steps=3, seeds="9", count=1, labels="2")
    again, notes = back(form, shelf)
    assert again.weak == "small"
    assert notes == ["it was steered away from a weaker model, small step 100; choose it under Weaker model"]


@pytest.mark.parametrize("threshold", ["", "1e-05"])
@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_comes_back_with_its_threshold(name, threshold, shelf):
    form = Form(filters=(name,), threshold=threshold, sampler="DDIM", steps=4, seeds="4", count=1, labels="1")
    _, notes = back(form, shelf)
    assert notes == []


def test_what_is_typed_comes_back_as_it_means(shelf):
    form = Form(sampler="HeavyBall(base=DPMSolverPP(2), beta=0.7)", grid="Karras(rho=5)", rule="Rescale(Interval(CFG(4), 0.2, 3), phi=0.3)",
                filters=("RenoiseProbe(level=1.5, k=3)",), steps=5, seeds="5", count=1, labels="6")  # fmt: skip
    again, _ = back(form, shelf, same=("steps", "labels"))
    assert again.sampler == "HeavyBall(base=DPMSolverPP, beta=0.7)"
    assert again.grid == "Karras(rho=5.0)"
    assert again.filters == ("RenoiseProbe(level=1.5, k=3)",)


def test_a_calibrated_filter_comes_back_by_its_name_and_another_is_left_out(shelf):
    loaded = shelf.get("large")

    def judge(threshold):
        return Calibrated(Calibration(PathLength(threshold), 0.1, 50, "upper", "0" * 16, "data", True))

    known = Beside({"calibrated PathLength": judge(0.5)})
    settings = loaded.model.sample([1], steps=3).settings_of(0)
    for threshold, names in ((0.5, ("calibrated PathLength",)), (0.6, ())):
        found, notes = settings_to_form(
            {**settings, "filters": [describe(judge(threshold))]}, loaded.model, facts_of(loaded, shelf), known, LIMITS
        )
        assert found.filters == names
        assert len(notes) == (0 if names else 1)


def test_all_pictures_of_a_sheet_come_back(shelf):
    loaded = shelf.get("large")
    form = Form(labels="3, none, 5", seeds="11,5,6,70", count=4, sampler="Euler a", steps=4, rule="CFG", strict=True)
    first = loaded.model.sample(**asked(form, loaded.model, LIMITS).arguments())
    settings = {**first.settings, "pictures": [first.settings_of(i) for i in range(4)]}
    again, notes = settings_to_form(settings, loaded.model, facts_of(loaded, shelf), Beside(), LIMITS)
    assert (again.seeds, again.labels, again.count) == ("11,5,6,70", "3,none,5,3", 4)
    assert notes == []
    second = loaded.model.sample(**asked(again, loaded.model, LIMITS).arguments())
    assert torch.equal(first.images, second.images)
    assert first.labels.tolist() == second.labels.tolist()


def test_a_picture_of_another_checkpoint_says_so(shelf):
    loaded = shelf.get("large")
    settings = loaded.model.sample([1], steps=3).settings_of(0)
    _, notes = settings_to_form(
        {**settings, "checkpoint": 600}, loaded.model, facts_of(loaded, shelf), Beside(), LIMITS
    )
    assert notes == ["made by large step 600; the model chosen here is large step 800, so the picture will be another"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sampler", {"class_path": "os.system", "init_args": {"command": "true"}}),
        ("sampler", {"class_path": "sfumato.samplers.Euler", "init_args": {"eta": "__import__('os')"}}),
        ("sampler", {"class_path": "sfumato.tools.cli.DDIM"}),
        ("sampler", "DDIM"),
        ("grid", {"class_path": "sfumato.schedules.Karras", "init_args": {"rho": float("nan")}}),
        ("guidance", {"class_path": "sfumato.guidance.LinearAdaptive", "init_args": {"plan": "/etc/passwd"}}),
        ("guidance", {"class_path": "sfumato.guidance.LinearAdaptive", "init_args": {"plan": "passwd"}}),
        ("filters", [{"class_path": "sfumato.samplers.filters.Judged", "init_args": {"judge": {"class_path": "os.system"}}}]),
        ("filters", [{"class_path": "sfumato.samplers.filters.Calibrated", "init_args": {"calibration": "/etc/passwd"}}]),
        ("steps", True), ("steps", 2.7), ("steps", 2**70), ("steps", "20"), ("steps", -1),
        ("seed", 2**70), ("seed", None), ("seed", True), ("label", 99), ("label", "../../etc"),
    ],
    ids=lambda v: str(v)[:60],
)  # fmt: skip
def test_settings_of_strangers_are_checked_and_said(key, value, shelf):
    loaded = shelf.get("large")
    settings = loaded.model.sample([1], steps=3).settings_of(0)
    found, notes = settings_to_form({**settings, key: value}, loaded.model, facts_of(loaded, shelf), Beside(), LIMITS)
    assert len(notes) == 1 or key == "label"
    for name, own in (("sampler", OWN), ("grid", OWN), ("guidance", OWN)):
        assert key != name or getattr(found, "rule" if name == "guidance" else name) == own
    assert key != "steps" or found.steps == Form().steps
    assert key != "filters" or found.filters == ()
