"""`sfumato bench guidance`: evaluations to the row, what rules add to a step, and what is written; its times are for nobody here."""

import json

import pytest
import torch
from torch import nn

from sfumato.guidance import Interval
from sfumato.tools.bench import guidance, guidance_walks
from sfumato.tools.bench.guidance import _Shown, added, evaluations, timed
from sfumato.tools.bench.guidance_cases import CASES, COUNT, STEPS, Window, edm_levels, edm_ratios
from sfumato.tools.bench.guidance_walks import GUIDERS, our_walk, their_walk
from sfumato.tools.bench.peers import installed
from sfumato.tools.bench.sample_networks import OneOperation
from sfumato.tools.cli import main

needs_diffusers = pytest.mark.skipif(not installed("diffusers"), reason="diffusers is not installed")


class Conditioned(nn.Module):
    """A network that answers by its labels, in the place of a real one; it remembers its output's rows."""

    num_classes = 10

    def __init__(self):
        super().__init__()
        self.scale, self.rows = nn.Parameter(torch.ones(1)), []

    def forward(self, x, time, labels):
        self.rows.append(len(x))
        return torch.tanh(x * self.scale + (labels / 10.0).view(-1, 1, 1, 1))


@pytest.mark.parametrize("name", CASES)
def test_evaluations_are_steps_times_one_and_the_guided_share(name):
    """To the row: as the networks are shown them, and as Model.sample says."""
    seen, said = evaluations(name)
    assert seen == said == STEPS + CASES[name].extra


def test_the_interval_of_edm2_guides_seven_of_32_steps():
    assert [float(level.ratio) for level in edm_levels()[:-1]] == pytest.approx(edm_ratios())
    rule = CASES["Interval(CFG)"].make()
    assert isinstance(rule, Interval)
    assert [k for k, level in enumerate(edm_levels()[:-1]) if rule.inside(level)] == list(range(16, 23))
    assert evaluations("Interval(CFG)")[0] / evaluations("CFG")[0] == pytest.approx(0.609, abs=0.001)


def adds(name, where=""):
    def make(network):
        return our_walk(name, network, network)

    plain = added(lambda network: our_walk("Plain", network, network), Window(), None)
    return added(make, CASES[name].windows[where], plain)


def test_cfgplusplus_adds_what_it_adds_in_a_call():
    """In the loop of `Model.sample`, where nobody looks on and no step keeps a prediction: x goes to the joined batch, both branches
    are solved, and x is moved."""
    assert adds("CFGPlusPlus")[3] == pytest.approx(7, abs=0.01)


def test_outside_of_the_interval_nothing_is_added():
    assert adds("Interval(CFG)", ", outside") == (0, 0, 0, pytest.approx(0, abs=0.01))


def test_classifier_free_guidance_adds_one_operation():
    """One lerp; of fresh tensors the joined batch of two, and the lerp's answer."""
    found = adds("CFG")
    assert (found.full, found.syncs) == (1, 0)
    assert found.fresh == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("name", CASES)
def test_a_window_holds_whole_steps_of_what_it_says(name):
    """Of each window the rows that are shown are those of its steps."""
    for where, window in CASES[name].windows.items():
        shown = _Shown()
        network = OneOperation(shown, 10)
        our_walk(name, network, network)(torch.randn(COUNT, 3, 4, 4))
        rows = sum(shown.rows[window.first : window.first + window.calls]) / COUNT / window.steps
        share = CASES[name].extra / STEPS
        expected = {", inside": 2, ", before": 2, ", outside": 1, ", after": 1}.get(where, 1 + share)
        assert rows == expected


@needs_diffusers
@pytest.mark.parametrize("name", [name for name in GUIDERS if name not in ("APG", "Rescale")])
def test_a_guider_does_the_same_work(name, monkeypatch):
    """Each branch by itself, as often in all, and to the same end; so what is timed is one piece of work."""
    ends = []
    kept = guidance_walks.trajectory

    def watched(*given, **named):
        for step in kept(*given, **named):
            if step.last:
                ends.append(step.x.clone())
            yield step

    monkeypatch.setattr(guidance_walks, "trajectory", watched)
    x, (ours, theirs) = torch.randn(COUNT, 3, 4, 4), (Conditioned(), Conditioned())
    with torch.no_grad():
        our_walk(name, ours, ours)(x)
        their_walk(name, theirs)(x)
    assert sum(ours.rows) == sum(theirs.rows) == COUNT * (STEPS + CASES[name].extra)
    torch.testing.assert_close(*ends, atol=1e-5, rtol=1e-5)


def test_every_rule_is_timed_beside_full_guidance(monkeypatch):
    monkeypatch.setattr(guidance, "_BACKBONES", {"UNet": (lambda size: OneOperation(num_classes=10), 3, 4, 4)})
    found = timed("UNet", ["CFG", "Autoguidance", "Mix of two"], False, 2)
    timed_ = ["CFG", "Autoguidance", "Mix of two", "CFG, network alone"]
    assert {who: len(seconds) for who, seconds in found.items()} == dict.fromkeys(timed_, 2)


@pytest.mark.parametrize("name", ["CFG", "Interval(CFG)"])
def test_the_network_alone_is_shown_as_many_rows(name):
    network = Conditioned()
    with torch.no_grad():
        guidance._alone(name, network)(torch.randn(COUNT, 3, 4, 4))
    assert len(network.rows) == STEPS
    assert sum(network.rows) == COUNT * evaluations(name)[0]


def test_what_is_measured_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(guidance, "installed", lambda name: False)
    assert main(["bench", "guidance", "--quick", "--only", "Interval(CFG)", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "guidance-quick.json").read_text())
    assert found["absent"] == {"diffusers": "not installed"}
    assert found["rows"]["Interval(CFG), evaluations"]["over full CFG"] == {"value": 0.6094, "unit": "x", "exact": True}
    wanted = ["evaluations", "inside, added", "outside, added"]
    timed_ = ["CFG", "Interval(CFG)", "CFG, network alone", "Interval(CFG), network alone"]
    assert list(found["rows"]) == [*(f"Interval(CFG), {w}" for w in wanted), *(f"{who}, time" for who in timed_)]
    assert found["rows"]["CFG, time"]["DiT"]["value"] == 1.0
    assert main(["bench", "guidance", "--only", "Intervall"]) == 2
    assert "only is 'Intervall'; allowed: Plain, CFG" in capsys.readouterr().err
