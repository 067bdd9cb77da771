"""The trajectory tab's handler: what a visitor sees, sends and may not send."""

import base64
import dataclasses
import io
import json
import re

import gradio as gr
import pytest
from modelled import made
from PIL import Image

from sfumato.tools.demo.app import build_app
from sfumato.tools.demo.form import NAMES, Form, asked
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.parts import Page
from sfumato.tools.demo.path_words import heading
from sfumato.tools.demo.running import Running
from sfumato.tools.demo.shelf import Entry, Shelf
from sfumato.tools.demo.trajectory_tab import walked

FORM = Form(labels="3", steps=6, seeds="5", count=1)


@pytest.fixture(scope="module", name="model")
def the_model():
    return made()


@pytest.fixture(scope="module", name="page")
def the_page(model):
    shelf = Shelf([Entry("tiny", lambda: model)])
    with gr.Blocks():
        return Page(shelf, Limits(), Running(), gr.Dropdown(["tiny"]), gr.Tabs())


def values(**changed):
    form = dataclasses.replace(FORM, **changed)
    return tuple(list(v) if isinstance(v, tuple) else v for v in (getattr(form, name) for name in NAMES))


def test_the_handler_tells_of_every_step_and_of_both_paths(page):
    said = list(walked(page, "me", "tiny", "9", True, values(rule="CFG", sampler="Heun")))
    last, seed = said[-1]
    assert seed == "9"
    told = json.loads(re.search(r'data-shots="([^"]*)"', last)[1].replace("&quot;", '"'))
    assert [shot["say"][:11] for shot in told] == [f"step {i} of 6" for i in range(1, 7)] + ["finished pi"]
    evaluations = {row[0]: row[1:] for row in told[-1]["rows"]}["evaluations so far"]
    assert evaluations == ["22", "11"]  # Heun asks once in its last step, and guidance asks twice
    assert len(re.findall(r'class="sf-path-x0[^"]*" data-row="1"', last)) == 7
    assert "http" not in re.sub(r'xmlns[:\w]*="[^"]*"', "", re.sub(r"<!--.*?-->|base64,[^\"]*", "", last, flags=re.S))


def test_a_prompt_or_a_name_can_put_nothing_into_the_page(page, model):
    bad = dataclasses.replace(asked(FORM, model, Limits()), prompts=["<img src=x onerror=1>"])
    assert "<img" not in heading(bad, FORM)


def test_stop_ends_the_walk_within_two_steps_and_shows_what_there_is(page, model):
    calls, at_stop = [], None
    hook = model.denoiser.backbone.register_forward_hook(lambda *_: calls.append(1))
    try:
        for said, _ in walked(page, "me", "tiny", "9", True, values(steps=200, rule="CFG", sampler="DDIM")):
            if "step " in str(said) and at_stop is None:
                at_stop = len(calls)
                page.running.stop("me")
            last = said
    finally:
        hook.remove()
    assert len(calls) - at_stop <= 2  # a step of DDIM is one call, of both branches
    assert "stopped after" in last
    assert len(json.loads(re.search(r'data-shots="([^"]*)"', last)[1].replace("&quot;", '"'))) == len(calls)
    assert page.running.count == 0


@pytest.mark.parametrize(
    ("seed", "other", "changed", "word"),
    [
        (True, True, {}, "seed"),
        ("-1", True, {}, "seed"),
        (str(2**63), True, {}, "seed"),
        ("٣", True, {}, "seed"),
        ("1", "yes", {}, "beside it"),
        ("1", True, {"steps": 2.7}, "steps"),
        ("1", True, {"sampler": "Nonsense"}, "sampler"),
    ],
    ids=["bool", "negative", "large", "other digits", "flag", "fraction", "no sampler"],
)
def test_what_is_no_value_is_refused_in_words(page, seed, other, changed, word):
    with pytest.raises(ValueError, match=word):
        list(walked(page, "me", "tiny", seed, other, values(**changed)))
    assert page.running.count == 0


def test_links_hold_the_files_themselves(page):
    *_, (last, _) = walked(page, "me", "tiny", "9", False, values())
    png, table_, data = re.findall(r'download="path-seed-9\.(\w+)" href="data:[^;]*;base64,([^"]*)"', last)
    assert (png[0], table_[0], data[0]) == ("png", "csv", "json")
    assert Image.open(io.BytesIO(base64.b64decode(png[1]))).format == "PNG"


def test_the_tab_is_on_the_page_with_its_own_event(model):
    app = build_app(Shelf([Entry("tiny", lambda: model)]))
    assert "trajectory" in {fn.api_name for fn in app.fns.values()}
