"""Presets sample on the models that they are offered for, and fill a form that is read again."""

import math
import warnings

import pytest
import tiny_pipelines
import torch
from modelled import made

from sfumato.diffusion import load
from sfumato.schedules import Eps, ScaledLinearBeta, V, ZeroTerminalSNR
from sfumato.tools.demo.costs import step_costs
from sfumato.tools.demo.facts import beside, facts_of
from sfumato.tools.demo.fitting import fitted, rules_of
from sfumato.tools.demo.form import NAMES, Form, asked, chosen, read_form
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.menus import OWN, RULES
from sfumato.tools.demo.presets import OWN_PRESET, presets_for
from sfumato.tools.demo.shelf import Entry, Shelf

LIMITS = Limits()
# of every preset here, for the time they take
STEPS = 8


def unguided():
    return made(classes=0)


def velocity():
    return made(schedule=ZeroTerminalSNR(ScaledLinearBeta()), row=V())


def noise():
    return made(schedule=ScaledLinearBeta(), row=Eps())


def no_null():
    return made(null_class=False)


def stable_diffusion(tmp_path):
    tiny_pipelines.sd().save_pretrained(tmp_path)
    return load(tmp_path)


def sampled(loaded, shelf, values):
    """Fill a form by values and sample it."""
    form = read_form([values.get(name, getattr(Form(), name)) for name in NAMES], LIMITS)
    wanted = asked(form, loaded.model, LIMITS, beside(shelf, loaded))
    return form, loaded.model.sample(**wanted.arguments())


def all_of(shelf):
    loaded = shelf.get("it")
    facts = facts_of(loaded, shelf)
    found = {}
    for preset in presets_for(facts):
        assert preset.filling(facts)["steps"] <= LIMITS.steps
        values = {
            **preset.filling(facts),
            "steps": max(STEPS, facts.steps) if preset.name == "Scored" else STEPS,
            "seeds": "5",
            "count": 1,
            "prompt": "a cat" if facts.texts else "",
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, found[preset.name] = sampled(loaded, shelf, values)
        assert len(preset.why) > 40
    return loaded, found


@pytest.mark.parametrize("make", [made, unguided, velocity, noise, no_null], ids=lambda f: f.__name__)
def test_presets_sample_on_the_models_they_are_offered_for(make):
    loaded, found = all_of(Shelf([Entry("it", make)]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an untrained network of noise leaves the range of pictures
        own = loaded.model.sample([5], [0] if loaded.model.num_classes else None, steps=STEPS)
    assert torch.equal(found[OWN_PRESET].images, own.images)
    guided = loaded.model.num_classes > 0 and loaded.model.null_class
    assert ("Limited interval" in found) == guided
    assert ("Rescaled, for zero terminal SNR" in found) == (make is velocity)
    assert found["Fast: 8 steps"].evaluations.sum() == STEPS * (
        1 if loaded.model.guidance.__class__.__name__ == "Plain" else 2
    )
    if guided:  # each differs from the model's own
        assert all(
            not torch.equal(each.images, own.images)
            for name, each in found.items()
            if name not in (OWN_PRESET, "Scored")
        )


def test_presets_sample_on_a_folder_of_stable_diffusion(tmp_path):
    _, found = all_of(Shelf([Entry("it", lambda: stable_diffusion(tmp_path))]))
    assert "CFG 7.5, DPM++ 2M Karras" in found
    assert found["CFG 7.5, DPM++ 2M Karras"].evaluations.sum() == 2 * STEPS
    limited = found["Limited interval"].evaluations.sum()
    assert STEPS < limited < 2 * STEPS


def test_the_form_offers_what_the_model_knows():
    for make, classes, rules in (
        (made, True, set(RULES) - {"Autoguidance"}),
        (unguided, False, {"none"}),
        (no_null, True, {"none"}),
    ):
        shelf = Shelf([Entry("it", make)])
        facts = facts_of(shelf.get("it"), shelf)
        assert set(rules_of(facts)) == rules
        found = fitted(
            {"rule": "CFG", "labels": "99", "weak": "gone", "filters": ["calibrated X", "path length"]}, facts, 250
        )
        assert found["labels"]["visible"] == classes
        assert found["labels"]["value"] == "each in turn"
        assert found["rule"]["value"] == ("CFG" if "CFG" in rules else OWN)
        assert found["weak"]["value"] == ""
        assert found["filters"]["value"] == ["path length"]
        assert not found["prompt"]["visible"]
    assert math.isinf(facts_of(shelf.get("it"), shelf).low)


@pytest.mark.parametrize(
    "sampler", ["Euler a", "Heun", "DPM2 a", "DPM++ 2S a", "UniPC", "PLMS", "EDM with churn", "Predictor-corrector"]
)
def test_what_steps_cost_is_what_sampling_counts(sampler):
    model = made()
    for rule, limited in (("CFG", True), ("APG", False)):
        form = Form(sampler=sampler, rule=rule, limited=limited, interval=(-6.0, 6.0), steps=5, seeds="1", count=1)
        way, grid, inner = chosen(form, model)
        levels = grid(model.denoiser.schedule, 5)
        guided, plain = step_costs(inner, way, model.denoiser.schedule, levels)
        inside = [not limited or -6.0 <= float(level.log_snr) < 6.0 for level in levels[:-1]]
        wanted = sum(a if on else b for a, b, on in zip(guided, plain, inside, strict=True))
        found = model.sample(**asked(form, model, LIMITS).arguments())
        assert int(found.evaluations.sum()) == wanted
