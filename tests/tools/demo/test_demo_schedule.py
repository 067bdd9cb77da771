"""The schedule tab: positions of controls and parts, the command and the config that say the same, sentences, what is drawn."""

import json
import math
import re
import shlex
import threading

import gradio as gr
import pytest
import yaml
from gradio_client import Client
from modelled import made

from sfumato.diffusion import Recipe
from sfumato.samplers import DDIM, DPMSolverPP, Heun
from sfumato.schedules import (
    EDM,
    ELBO,
    BetaTable,
    Constant,
    Cosine,
    CosineShifted,
    Eps,
    Explicit,
    Flow,
    InputScaled,
    Karras,
    Laplace,
    LinearBeta,
    LogNormal,
    LogSNRImportance,
    MinSNR,
    Negative,
    RectifiedFlow,
    Shifted,
    Table,
    Trailing,
    Truncated,
    Uniform,
    UniformEntries,
    V,
    VarianceExploding,
    ZeroTerminalSNR,
)  # fmt: skip
from sfumato.tools.arguments import preset_names
from sfumato.tools.command import parse
from sfumato.tools.demo.limits import Limits
from sfumato.tools.demo.parts import Page
from sfumato.tools.demo.running import Running
from sfumato.tools.demo.schedule_choice import Turned, as_choice, read_choice
from sfumato.tools.demo.schedule_source import MODEL, Sources
from sfumato.tools.demo.schedule_tab import schedule_tab
from sfumato.tools.demo.schedule_words import about, as_command, as_yaml, sentences
from sfumato.tools.demo.shelf import Entry, Shelf
from sfumato.tools.inspect import Inspect, curves
from sfumato.tools.inspect_words import warnings_of
from sfumato.tools.inspected import Inspected, Parts, look

DIGITS = look("digits", [], [], None)


def parts(schedule, row=None, density=None, weighting=None, sampler=None, grid=None, steps=12, input_std=None):
    return Parts(
        schedule, row or V(), density or Uniform(), weighting or MinSNR(), sampler or DPMSolverPP(), grid or Trailing(), steps, input_std
    )  # fmt: skip


CASES = {
    "wrapped": parts(InputScaled(Shifted(Truncated(ZeroTerminalSNR(LinearBeta(0.2, 18.0)), -9.0), 2.0), 0.5), Negative(V())),
    "geometric": parts(
        VarianceExploding(0.01, 50.0, math.inf), EDM(0.5), LogNormal(0.5, 1.5), Constant(EDM(0.25)), Heun(), Karras(0.02, 40.0),
    ),
    "nested": parts(RectifiedFlow(), Flow(), LogSNRImportance(Laplace(-1.0, 0.3), True), ELBO(RectifiedFlow()), input_std=0.75),
    "table": parts(
        Table([6.0, 1.0, -2.0, -math.inf], "straight"), V(), UniformEntries(), Constant(V()), grid=Explicit([1.0, 0.5], "t"), steps=2,
    ),
    "null": parts(CosineShifted(256.0, 32.0), Eps(), UniformEntries(200), grid=Karras(rho=5.0)),
}  # fmt: skip


def inspected(given, elements=64):
    return Inspected(given, {}, elements)


def parsed(command):
    """What a command looks at, and what it draws beside it."""
    words = shlex.split(command)
    assert words[:2] == ["sfumato", "inspect"]
    options, pairs = parse(words[2:], Inspect, ("config",), Recipe)
    return look(options.config, pairs, options.allow, options.tokens), tuple(options.also), options.elements


@pytest.mark.parametrize("name", CASES)
def test_parts_become_positions_and_positions_the_same_parts(name):
    source = inspected(CASES[name])
    choice = json.loads(json.dumps(as_choice(source), allow_nan=False))
    assert all(choice[kind]["name"] for kind in ("schedule", "row", "density", "weighting", "grid", "sampler"))
    # read against another process, so that nothing is right because it was left as it is
    assert read_choice(choice, DIGITS).parts == CASES[name]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_begun_with(name):
    source = look(name, [], [], None)
    turned = read_choice(json.loads(json.dumps(as_choice(source))), source)
    assert turned.parts == source.parts
    assert turned.elements == source.elements


def test_what_no_control_can_say_stays_as_it_is():
    odd = parts(
        ZeroTerminalSNR(Table([float(v) for v in range(99, -1, -1)])), sampler=DDIM(0.5), density=LogNormal(30.0, 1.0)
    )
    choice = as_choice(inspected(odd))
    assert [choice[k]["name"] for k in ("schedule", "density", "sampler")] == ["", "", ""]
    assert read_choice(choice, inspected(odd)).parts == odd
    around = choice | {"wraps": {"Shifted": {"shift": 3.0}}}
    assert read_choice(around, inspected(odd)).parts.schedule == Shifted(odd.schedule, 3.0)


@pytest.mark.parametrize("name", CASES)
def test_the_command_and_the_config_say_the_same(name, tmp_path):
    turned = Turned(CASES[name], (Cosine(0.1), Shifted(BetaTable("cosine", 100), 2.0)), 100, False)
    command = as_command(turned, "digits", DIGITS.parts, DIGITS.elements)
    seen, also, elements = parsed(command)
    assert seen.parts == CASES[name]
    assert also == turned.also
    assert elements == 100
    config = tmp_path / "some.yaml"
    config.write_text(as_yaml(CASES[name]))
    assert look(str(config), [], [], None).parts == CASES[name]


def test_the_command_says_only_what_is_different():
    same = Turned(DIGITS.parts, (), DIGITS.elements, False)
    assert as_command(same, "digits", DIGITS.parts, DIGITS.elements) == "sfumato inspect digits"
    other = same._replace(parts=Parts(**{**vars(DIGITS.parts), "schedule": Cosine(), "sampling_steps": 7}))
    assert as_command(other, "'a b'", DIGITS.parts, 64) == "sfumato inspect 'a b' --schedule Cosine --sampling_steps 7"
    long = same._replace(
        parts=Parts(**{**vars(DIGITS.parts), "schedule": Table([1e-3 * k for k in range(999, -1, -1)])})
    )
    assert as_command(long, "digits", DIGITS.parts, 64) == ""


BAD = [
    ({"steps": float("nan")}, "steps is nan"), ({"steps": True}, "steps is True"), ({"steps": 2.7}, "whole numbers from 1"),
    ({"steps": 2**70}, "whole numbers from 1"), ({"size": "8"}, "size is '8'"), ({"input_std": -1.0}, "input_std is -1.0"),
    ({"schedule": {"name": "os.system", "args": {}}}, "schedule is 'os.system'; allowed: BetaTable"),
    ({"schedule": {"name": "Shifted", "args": {}}}, "schedule is 'Shifted'; allowed"), ({"schedule": []}, "schedule is a list"),
    ({"schedule": {"name": "Cosine", "args": {"s": float("inf")}}}, "Cosine.s is inf"),
    ({"schedule": {"name": "Cosine", "args": {"path": "x"}}}, "schedule has no 'path'; allowed: s"),
    ({"schedule": {"name": "Cosine", "args": {"s": None}}}, "Cosine.s is None"),
    ({"schedule": {"name": "Table", "args": {"log_snr": "1, two"}}}, "Table.log_snr is not a list of numbers"),
    ({"schedule": {"name": "Table", "args": {"log_snr": ""}}}, "has 0 numbers"),
    ({"schedule": {"name": "BetaTable", "args": {"betas": "quadratic"}}}, "BetaTable.betas is 'quadratic'; allowed: linear"),
    ({"wraps": {"Cosine": {}}}, "wraps has no 'Cosine'"), ({"wraps": {"Shifted": {"schedule": {}}}}, "Shifted has no 'schedule'"),
    ({"also": [{}, {}, {}]}, "at most 2"), ({"also": [7]}, "also is a int"), ({"pickle": 1}, "controls has no 'pickle'"),
    ({"density": {"name": "LogSNRImportance", "args": {"unbiased": 1}}}, "LogSNRImportance.unbiased is 1"),
    ({"row": {"name": "Negative", "args": {"row": {"name": "Negative"}}}}, "Negative.row is 'Negative'"),
    ({"wraps": {"ZeroTerminalSNR": {}}}, "allowed: variance-preserving schedules"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BAD, ids=[f"{k}-{next(iter(c))}" for k, (c, _) in enumerate(BAD)])
def test_every_value_is_checked_again(change, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        read_choice(as_choice(DIGITS) | change, DIGITS)


@pytest.mark.parametrize(
    "junk", [None, 3, "x", [], {"schedule": {"name": "Cosine"}}], ids=["none", "number", "text", "list", "half"]
)
def test_what_is_no_position_of_the_controls_is_refused(junk):
    with pytest.raises(ValueError, match="allowed: names with values"):
        read_choice(junk, DIGITS)


def test_warnings_are_those_of_the_command_with_what_to_do():
    bad = parts(LinearBeta(0.1, 4.0), Eps(), grid=Karras(high=2.0))
    problems = warnings_of(bad, 4096)
    said = sentences(Turned(bad, (), 4096, True))
    plain = re.sub(r"<[^>]+>", "", said)
    assert said.count('<li class="sf-note">') == len(problems) >= 2
    for problem in problems:
        lead, _, rest = problem.partition(": ")
        assert lead[1:] in plain
        assert rest[1:60].replace("'", "&#x27;") in plain
    assert "A scheduler does not say how its network was trained" in plain
    assert "Nothing wrong found" not in said
    assert "Nothing wrong found" in sentences(Turned(DIGITS.parts, (), DIGITS.elements, False))


def test_a_panel_is_said_with_its_numbers():
    given = parts(LinearBeta(), steps=10)
    data = curves(given, [Cosine()])
    said = about("log-SNR", data, given)
    assert (
        said
        == "log-SNR from infinity at data to -10 at noise in 10 steps of Trailing, which begin at -10; beside it Cosine(s=0.008)"
    )
    assert "sigma from 0 to 1" in about("alpha and sigma", data, given)
    # t uniform on a path: the quantiles of log-SNR are those of its own curve
    numbers = [float(v) for v in re.findall(r"-?\d+\.\d+", about("density", data, given))]
    at = [float(given.schedule(t).log_snr) for t in (0.5, 0.95, 0.05)]
    assert numbers[:3] == pytest.approx(at, abs=0.3)
    weight = about("weight", data, given)
    w = data["weighting"]
    assert f"on eps from {w['eps'][0]:.3g} to {w['eps'][-1]:.3g}" in weight


@pytest.fixture(scope="module")
def client():
    with gr.Blocks(analytics_enabled=False) as app:
        model = gr.Dropdown(["tiny"], value="tiny")
        with gr.Tabs() as tabs, gr.Tab("Schedule"):
            schedule_tab(Page(Shelf([Entry("tiny", made)]), Limits(), Running(), model, tabs))
    app.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, server_port=None)
    try:
        yield Client(app.local_url, verbose=False)
    finally:
        app.close()


def test_the_page_draws_what_is_turned_and_keeps_the_last_figure_when_it_can_not(client):
    choice = as_choice(look("digits", [], [], None))
    figures, said, copied = client.predict("tiny", "digits", choice, api_name="/schedule")
    assert figures.count("<svg") == 4
    assert "Nothing wrong found" in said
    assert ">sfumato inspect digits</code>" in copied
    moved = choice | {
        "schedule": {"name": "LinearBeta", "args": {"low": 0.1, "high": 5.0}},
        "grid": {"name": "Trailing", "args": {}},
    }
    other, said, copied = client.predict("tiny", "digits", moved, api_name="/schedule")
    assert (
        f"log-SNR from infinity at data to {-math.log(math.expm1(2.55)):.3g} at noise" in other
    )  # the integral of beta is 2.55
    assert "--schedule LinearBeta --schedule.high 5.0" in copied
    assert "The grid does not start" not in said
    assert "Terminal SNR is not zero" in said
    refused = choice | {"wraps": {"ZeroTerminalSNR": {}}}
    kept, said, _ = client.predict("tiny", "digits", refused, api_name="/schedule")
    assert "can't be drawn" in said.replace("&#x27;", "'")
    assert "variance-preserving" in said
    assert "<svg" not in str(kept)
    evil = choice | {"row": {"name": "<script>alert(1)</script>", "args": {}}}
    _, said, _ = client.predict("tiny", "digits", evil, api_name="/schedule")
    assert "<script" not in said


def test_a_run_is_read_not_loaded(tmp_path):
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({"data": "no such", **yaml.safe_load(as_yaml(CASES["geometric"]))})
    )

    def loaded():
        raise AssertionError("loaded")

    sources = Sources(Shelf([Entry("run", loaded, home=tmp_path, command="some/run --allow mine --device cpu")]))
    found = sources.get("run", MODEL)
    assert found.inspected.parts == CASES["geometric"]
    assert found.base == "some/run --allow mine"
    assert sources.get("run", MODEL) is found
    assert sources.get(None, MODEL).inspected.parts == DIGITS.parts
    assert "no model yet" in sources.get(None, MODEL).note
    with pytest.raises(ValueError, match="no such preset"):
        sources.get("run", "../secret")
    with pytest.raises(ValueError, match="no such model"):
        sources.get("../secret", MODEL)


def test_a_diffusers_folder_is_what_its_scheduler_says(tmp_path):
    (tmp_path / "scheduler").mkdir()
    config = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
    }
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    found = Sources(Shelf([Entry("sd", made, home=tmp_path, run=False)])).get("sd", MODEL)
    assert found.inspected.assumed
    choice = as_choice(found.inspected)
    assert choice["schedule"]["name"] == ""  # a thousand numbers
    turned = read_choice(choice, found.inspected)
    assert turned.parts == found.inspected.parts
    assert turned.elements == 64**2
    assert "brightness" in sentences(turned)


def test_a_model_without_a_folder_is_what_it_knows_of_itself():
    model = made()
    found = Sources(Shelf([Entry("made", lambda: model)])).get("made", MODEL)
    assert found.inspected.parts.schedule == model.denoiser.schedule
    assert found.inspected.elements == 64
    turned = Turned(found.inspected.parts, (), found.inspected.elements, True)
    assert parsed(as_command(turned, found.base, found.begun.parts, found.begun.elements))[0].parts == turned.parts


def test_presets_are_read_once_however_many_ask_at_once():
    sources, seen = Sources(Shelf([])), []
    threads = [threading.Thread(target=lambda: seen.append(sources.get(None, "dit-imagenet256"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(found) for found in seen}) == 1
