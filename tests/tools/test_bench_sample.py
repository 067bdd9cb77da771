"""`sfumato bench sample`: that both sides do the same work, what is counted, and what is written; its times are for nobody here."""

import json

import pytest
import torch

from sfumato.guidance import CFG, Plain
from sfumato.samplers import DDIM
from sfumato.tools.bench import sample_growth, sampling
from sfumato.tools.bench.peers import installed
from sfumato.tools.bench.sample_growth import GROWTH, line
from sfumato.tools.bench.sample_memory import beside, peaks
from sfumato.tools.bench.sample_networks import OneOperation, model_of, unsaid
from sfumato.tools.bench.sheet import Sheet
from sfumato.tools.cli import main

needs_diffusers = pytest.mark.skipif(not installed("diffusers"), reason="diffusers is not installed")


def small():
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 3, 3, padding=1)


class Small(torch.nn.Module):
    """A network in the place of the peers', of both."""

    def __init__(self):
        super().__init__()
        self.conv, self.asked = small(), []

    def forward(self, x, time):
        self.asked.append(len(x))
        return self.conv(x)


def test_a_step_of_a_call_waits_for_nothing():
    """Counted through Model.sample and its denoiser: one evaluation, no read of a tensor by the host."""
    found = sampling.counted(against=False)["ours"]
    assert found["evaluations"] == 1
    assert found["syncs"] == 0
    assert found["full-tensor operations"] <= 2  # x is multiplied, the output added
    assert found["fresh tensors"] < 0.1


@needs_diffusers
def test_the_pipeline_is_counted_in_the_same_way():
    found = sampling.counted(against=True)["diffusers"]
    assert found["evaluations"] == 1
    assert found["syncs"] > 0
    assert found["full-tensor operations"] > 2


def test_both_sides_evaluate_as_often(monkeypatch):
    """Ours, and the network alone that it is held against."""
    made = []
    monkeypatch.setattr(sampling, "OURS", {"diffusers": {"UNet": lambda: made.append(Small()) or made[-1]}})
    found = sampling.timed(2, 3, 1, None)
    assert list(found) == ["our UNet", "our UNet, channels_last"]
    assert all(list(cells) == ["over its network alone"] for cells in found.values())
    for network in made:  # two rounds, the first not counted, of a call and of the network alone
        assert network.asked == [2] * 3 * 2 * 2


def test_peaks_are_exact():
    def run():
        a = torch.empty(1000)
        with torch.profiler.record_function("the network is asked"):
            pass
        b = a + a
        del a
        return b + b

    found = peaks(run)
    assert (found.whole, found.asked) == (8000, 8000)

    def early():
        a = torch.empty(5000)
        del a
        b = torch.empty(100)
        with torch.profiler.record_function("the network is asked"):
            pass
        return b

    assert peaks(early) == (20_000, 400)


def test_guidance_holds_a_joined_batch():
    """Beside a network that is shown both branches at once, the loop holds what it did, and the state that was joined."""
    plain, guided = (beside(DDIM(), rule, OneOperation(num_classes=10))[0] for rule in (Plain(), CFG(3.0)))
    assert guided == pytest.approx(plain + 1, abs=0.02)


def test_a_line_is_found():
    intercept, bends = line({n: [3.0 + 2.0 * n, 5.0 + 2.0 * n] for n in (10, 20, 40)})
    assert intercept.value == pytest.approx(2.0)  # between 1.5 and 2.5 steps
    assert bends.value == pytest.approx(1.0)
    assert intercept.unit == ""


@pytest.mark.parametrize("name", GROWTH)
def test_what_grows_is_measured(name, monkeypatch):
    monkeypatch.setattr(sample_growth, "_NETWORKS", {"network of one operation": lambda size: OneOperation()})
    sheet = Sheet("sample", lambda line: None)
    sample_growth.measure_growth(name, True, sheet)
    assert all(cell.value > 0 for cells in list(sheet.rows.values())[:2] for cell in cells.values())
    assert all(row.startswith((name, "set-up", "a later step")) for row in sheet.rows)


def test_filters_see_every_step_and_keep_all():
    with unsaid():
        made = model_of(OneOperation(), (3, 8, 8)).sample(
            range(2), steps=8, sampler=DDIM(), filters=sample_growth._FILTERS, mark=True
        )
    assert bool(made.kept.all())
    assert made.evaluations.tolist() == [[8], [8]]


def test_what_is_measured_is_written(tmp_path, capsys, monkeypatch):
    """Without a peer: ours alone, and it is said."""
    monkeypatch.setattr(sampling, "installed", lambda name: False)
    monkeypatch.setattr(sampling, "OURS", {"diffusers": {"UNet": Small}})
    assert main(["bench", "sample", "--quick", "--only", "calls", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "sample-quick.json").read_text())
    assert found["absent"] == {"diffusers": "not installed"}
    assert list(found["rows"]) == ["batch 1, our UNet", "batch 1, our UNet, channels_last"]
    assert main(["bench", "sample", "--only", "speed"]) == 2
    assert "only is 'speed'; allowed: counts, memory, calls, batch, steps, size" in capsys.readouterr().err


@needs_diffusers
def test_sampling_runs_beside_the_pipeline(tmp_path):
    assert main(["bench", "sample", "--quick", "--only", "calls", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "sample-quick.json").read_text())["rows"]
    names = ["diffusers", "its own network", "our UNet", "our UNet, channels_last"]
    assert list(rows) == ["network of diffusers", "our UNet", *(f"batch 1, {name}" for name in names)]
    assert rows["network of diffusers"]["parameters"] == {"value": 1_002_883.0, "unit": "", "exact": True}
    assert all(rows[f"batch 1, {name}"]["pictures per second, over diffusers"]["value"] > 0 for name in names[1:])
