"""What a guider is fed and answers, how it is saved, and what it refuses."""

import json
import subprocess
import sys

import diffusers
import pytest
import torch
from guiding import COND, EULER, REF, SD, protocol, run

from sfumato.guidance import (
    APG,
    CFG,
    Autoguidance,
    CFGPlusPlus,
    Interval,
    Mix,
    Rescale,
    SfumatoGuider,
    Threshold,
    as_guider,
)
from sfumato.samplers import DDIM, as_diffusers
from sfumato.schedules import Eps, RectifiedFlow, V

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_a_learned_variance_stays_the_prompts():
    EULER.set_timesteps(5)
    g = torch.Generator().manual_seed(0)
    x, cond, ref = torch.randn(2, 4, 4, 4, generator=g), *(torch.randn(2, 8, 4, 4, generator=g) for _ in range(2))
    for rule in (CFG(3.0), APG(3.0), CFGPlusPlus(), Rescale(CFG(3.0)), Threshold(CFG(2.0))):
        found = protocol(as_guider(rule, EULER), x, (cond, ref), EULER.timesteps)
        assert torch.equal(found[:, 4:], cond[:, 4:])
        half = protocol(as_guider(rule, EULER), x, (cond[:, :4], ref[:, :4]), EULER.timesteps)
        assert torch.equal(found[:, :4], half)


def test_more_channels_of_an_inpainting_network_are_left_out():
    EULER.set_timesteps(5)
    g = torch.Generator().manual_seed(0)
    x, cond, ref, more = (torch.randn(2, 4, 4, 4, generator=g) for _ in range(4))
    guider = as_guider(APG(3.0), EULER)
    found = protocol(guider, torch.cat([x, more, more[:, :1]], 1), (cond, ref), EULER.timesteps)
    assert torch.equal(found, protocol(guider, x, (cond, ref), EULER.timesteps))
    with pytest.raises(ValueError, match=r"was fed \(2, 4, 2, 4\) and answered \(2, 4, 4, 4\)"):
        protocol(guider, x[:, :, :2], (cond, ref), EULER.timesteps)


def test_half_precision_is_guided_in_float32():
    EULER.set_timesteps(5)
    g = torch.Generator().manual_seed(0)
    x, cond, ref = (torch.randn(2, 4, 4, 4, generator=g).bfloat16() for _ in range(3))
    for rule in (CFG(3.0), APG(3.0)):
        found = protocol(as_guider(rule, EULER), x, (cond, ref), EULER.timesteps)
        want = protocol(as_guider(rule, EULER), x.float(), (cond.float(), ref.float()), EULER.timesteps)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, want.bfloat16())


def test_fields_of_a_block_state(unet):
    """Other pipelines name the fields of their state."""
    from diffusers.modular_pipelines.modular_pipeline import BlockState

    guider, state = as_guider(CFG(3.0)), BlockState(one=COND, two=REF, mask=COND)
    guider.set_state(0, 4, torch.tensor(0))
    cond, ref = guider.prepare_inputs_from_block_state(state, {"labels": ("one", "two"), "mask": "mask"})
    assert cond.labels is COND
    assert ref.labels is REF
    assert cond.mask is ref.mask is COND
    with pytest.raises(ValueError, match="has encoded no negative prompt"):
        guider.prepare_inputs_from_block_state(state, {"labels": ("one", "three")})


# configs


def test_a_config_comes_back(tmp_path, unet):
    rule = Interval(Rescale(APG(5.0, momentum=-0.5), 0.3, V()), 0.28, 5.42)
    guider = SfumatoGuider(rule, EULER, start=0.1, stop=0.9)
    guider.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "guider_config.json").read_text())
    assert saved["_class_name"] == "SfumatoGuider"
    assert saved["rule"]["class_path"] == "sfumato.guidance.Interval"
    assert saved["rule"]["init_args"]["rule"]["init_args"]["rule"]["init_args"]["norm"] == "inf"
    again = SfumatoGuider.from_pretrained(tmp_path, scheduler=EULER)
    assert again.rule == rule
    assert (again._start, again._stop, again.config.start, again.scheduler) == (0.1, 0.9, 0.1, EULER)
    assert torch.equal(run(unet, EULER, again)[0], run(unet, EULER, guider)[0])
    other = again.new(rule=CFG(2.0))
    assert (other.rule, other.scheduler, other._stop) == (CFG(2.0), EULER, 0.9)
    assert again.new().config.rule == again.config.rule
    alone = SfumatoGuider.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"guider\.scheduler = pipe\.scheduler"):
        run(unet, EULER, alone)
    alone.scheduler = EULER
    assert torch.equal(run(unet, EULER, alone)[0], run(unet, EULER, guider)[0])


def test_a_plug_in_needs_leave(tmp_path, monkeypatch):
    (tmp_path / "my_rule.py").write_text(
        "from dataclasses import dataclass\nfrom sfumato.guidance import CFG\n\n\n@dataclass(frozen=True)\nclass Double(CFG):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from my_rule import Double

    guider = as_guider(Double(2.0))
    guider.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"allow=\['my_rule'\]"):
        SfumatoGuider.from_pretrained(tmp_path)
    assert SfumatoGuider.from_pretrained(tmp_path, allow=["my_rule"]).rule == Double(2.0)
    assert guider.new(stop=0.5).rule == Double(2.0)


def test_a_config_cant_give_leave_to_itself(tmp_path, monkeypatch):
    (tmp_path / "my_trap.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    as_guider(CFG(2.0)).save_pretrained(tmp_path)
    file = tmp_path / "guider_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "allow": ["my_trap"], "rule": {"class_path": "my_trap.Rule"}})
    )
    for load in (
        SfumatoGuider.from_pretrained,
        lambda folder: SfumatoGuider.from_config(json.loads((folder / "guider_config.json").read_text())),
    ):
        with pytest.raises(ValueError, match=r"allow=\['my_trap'\]"):
            load(tmp_path)


def test_importing_guidance_does_not_import_diffusers():
    code = "import sys\nfrom sfumato.guidance import CFG, as_guider\nprint('diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


# refusals


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (CFG, "rule is <class"),
        ("CFG", "rule is 'CFG'; allowed: a guidance rule"),
        (None, "rule is None"),
        (Autoguidance(), "asks for branch 'weak', and a pipeline of diffusers has 'cond'"),
        (Interval(Autoguidance(), 3.1, 3.2), "asks for branch 'weak'"),
        (Mix({"cond": 2.0, "second": 1.0}), "asks for branch 'second'"),
        (CFG(2.0, "other"), "asks for branch 'other'"),
    ],
)
def test_rules_that_a_pipeline_has_no_branch_for(rule, words):
    with pytest.raises(ValueError, match=words):
        as_guider(rule)


def test_a_rule_that_cant_be_written_down():
    class Bare:
        def init(self, x):
            return ()

        def __call__(self, ask, memory):
            return ask("cond")[0], ()

    with pytest.raises(ValueError, match="make it a dataclass"):
        as_guider(Bare())


@pytest.mark.parametrize("rule", [Interval(CFG(2.0), 0.1, 1.0), APG(2.0), Rescale(CFG(2.0)), CFGPlusPlus()], ids=str)
def test_without_a_scheduler_what_needs_levels_is_refused(rule):
    x = torch.randn(1, 4, 4, 4)
    with pytest.raises(ValueError, match=r"has no scheduler that knows it.*as_guider\(rule, pipe\.scheduler\)"):
        protocol(as_guider(rule), x, (x + 1, x))


def test_schedulers_that_are_refused(unet):
    with pytest.raises(ValueError, match=r"CMStochasticIterativeScheduler has no path.*as_diffusers"):
        as_guider(APG(), diffusers.CMStochasticIterativeScheduler())
    with pytest.raises(ValueError, match="a int is no scheduler"):
        as_guider(APG(), 3)
    for name in ("KDPM2DiscreteScheduler", "ScoreSdeVeScheduler", "DDIMInverseScheduler", "PNDMScheduler"):
        scheduler = getattr(diffusers, name)()
        guider = as_guider(APG(), scheduler)
        scheduler.set_timesteps(4)
        with pytest.raises(ValueError, match=f"{name}.*as_diffusers"):
            guider.set_state(0, 4, scheduler.timesteps[0])
    # the pipeline has got another one since
    other = diffusers.EulerDiscreteScheduler(**SD, use_karras_sigmas=True)
    other.set_timesteps(3)
    guider = as_guider(APG(), other)
    with pytest.raises(ValueError, match=r"is it another scheduler\? Set guider\.scheduler"):
        run(unet, EULER, guider)


def test_what_the_rule_refuses_is_said_before_the_first_step():
    scheduler = as_diffusers(DDIM(), RectifiedFlow(), row="flow_prediction")
    scheduler.set_timesteps(4)
    guider = as_guider(Rescale(CFG(2.0), 0.7, Eps()), scheduler)
    with pytest.raises(ValueError, match=r"Rescale\.space is Eps\(\), and at t = 1 \(no data\)"):
        guider.set_state(0, 4, scheduler.timesteps[0])
    guider = as_guider(CFG(2.0))
    guider.set_state(0, 1, torch.tensor(0))
    batches = guider.prepare_inputs({"labels": (COND, REF)})
    for batch in batches:
        batch.noise_pred = torch.zeros(2, 1, 1, 1)
    with pytest.raises(ValueError, match="heard no network"):
        guider(batches)
    guider = as_guider(CFG([2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match=r"CFG\.scale has 3 numbers for 2 picture"):
        protocol(guider, torch.zeros(2, 4, 4, 4), (torch.zeros(2, 4, 4, 4), torch.ones(2, 4, 4, 4)))
