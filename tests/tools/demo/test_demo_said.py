"""What visitors type: names of other programs, numbers alone, and numbers that no slider has."""

import pytest
from modelled import made

from sfumato.diffusion.filtered import Filtered
from sfumato.guidance import CFG, Guidance
from sfumato.samplers import Sampler
from sfumato.schedules import Grid
from sfumato.tools.demo.facts import facts_of
from sfumato.tools.demo.fitting import fitted
from sfumato.tools.demo.form import Form, chosen, part
from sfumato.tools.demo.menus import GRIDS, RULES, SAMPLERS
from sfumato.tools.demo.presets import CUSTOM, OWN_PRESET, fits, presets_for
from sfumato.tools.demo.shelf import Entry, Shelf
from sfumato.tools.demo.slider import Slider
from sfumato.tools.demo.thresholds import hints


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("euler", "Euler"), ("EULER A", "Euler a"), ("euler_ancestral", "Euler a"), ("heun", "Heun"), ("dpm_2", "DPM2"),
        ("dpmpp_2m", "DPM++ 2M"), ("dpmpp_2m_sde", "DPM++ 2M SDE"), ("dpmpp_2s_ancestral", "DPM++ 2S a"), ("ddim", "DDIM"),
        ("ddpm", "DDPM"), ("lms", "LMS"), ("uni_pc", "UniPC(order=3, variant=bh1)"),
    ],
)  # fmt: skip
def test_samplers_of_others_are_understood(theirs, ours):
    assert part(theirs, Sampler, SAMPLERS, None, "sampler") == part(ours, Sampler, SAMPLERS, None, "sampler")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("karras", "Karras"), ("exponential", "Exponential"), ("simple", "Trailing"), ("normal", "Linspace")],
)
def test_grids_of_others_are_understood(theirs, ours):
    assert part(theirs, Grid, GRIDS, None, "grid") == part(ours, Grid, {}, None, "grid")


def test_a_number_alone_is_guidance_and_a_rule_in_small_letters_has_the_forms_strength():
    assert chosen(Form(rule="7.5"), made())[2] == CFG(7.5)
    assert chosen(Form(rule="cfg", scale=4.0), made())[2] == CFG(4.0)


@pytest.mark.parametrize(
    ("said", "kind", "menu", "name", "words"),
    [
        ("Foo", Sampler, SAMPLERS, "sampler", "DPM\\+\\+ 2M SDE Heun, .*such as DDIM"),
        ("Foo(3)", Grid, GRIDS, "grid", "Simple \\(trailing\\), Karras, "),
        ("DDIM", Guidance, RULES, "guidance", "Rescaled CFG, .*such as CFG\\(3\\)"),
        ("CFG(", Guidance, RULES, "guidance", "as in CFG\\(3\\)"),
        ("HeavyBall(base=Foo)", Sampler, SAMPLERS, "sampler", "allowed: DPMSolverPP, PLMS"),
    ],
    ids=["sampler", "grid", "rule", "bracket", "inner"],
)
def test_an_unknown_name_is_told_the_menu(said, kind, menu, name, words):
    with pytest.raises(ValueError, match=words) as told:
        part(said, kind, menu, None, name)
    assert "class path" not in str(told.value)


def test_a_preset_is_left_by_any_field_that_it_sets_and_by_no_other():
    shelf = Shelf([Entry("m", made)])
    facts = facts_of(shelf.get("m"), shelf)
    for preset in presets_for(facts):
        filling = preset.filling(facts)
        held = {"scale": 3.0, "interval": [-4.0, 4.0], "labels": "3", **filling}
        assert fits(filling, held | {"labels": "5", "steps": float(held["steps"])})
        assert not fits(filling, held | {"steps": held["steps"] + 1})
        assert not fits(filling, held | {"sampler": "LMS"})
        assert not fits(filling, held | {"limited": not held["limited"]})


def test_the_models_own_way_is_there_where_it_has_more_steps_than_are_allowed():
    shelf = Shelf([Entry("m", made)])
    facts = facts_of(shelf.get("m"), shelf)
    first = presets_for(facts, facts.steps - 1)[0]
    assert first.name == OWN_PRESET
    assert first.filling(facts)["steps"] == facts.steps - 1
    names = [value for _, value in fitted({}, facts, 1)["preset"]["choices"]]
    assert names[0] == OWN_PRESET
    assert names[-1] == CUSTOM


def test_a_slider_hands_on_what_was_typed_and_is_a_slider_to_the_page():
    slider = Slider(1, 250, 20, step=1)
    assert slider.preprocess(99999) == 99999
    assert slider.get_block_name() == "slider"
    assert type(slider)(minimum=1, maximum=3).preprocess(0) == 0


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([i / 10 for i in range(1, 11)], "Nine of ten score below 0.95;"),
        ([0.1, 0.2], "1 of 2 score below 0.15;"),
        ([0.5, 0.5, 0.5], "nothing is rejected. Calibrating"),
        ([], "nothing is rejected. Calibrating"),
    ],
    ids=["ten", "two", "equal", "none"],
)
def test_a_threshold_is_suggested_by_this_runs_scores(scores, words):
    filtered = Filtered(("PathLength",), bounds=((-float("inf"), float("inf")),))
    (said,) = hints(filtered, [(score,) for score in scores])
    assert words in said
    assert "RUN" not in said
    assert hints(Filtered(("PathLength",), bounds=((-float("inf"), 1.0),)), [(0.1,)]) == []
