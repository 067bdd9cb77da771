"""`sfumato bench train`: equal sizes, steps that train, counts that repeat, rows as written; its times are for nobody here."""

import inspect
import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sfumato.diffusion import DiT
from sfumato.diffusion.activations import activation_bytes
from sfumato.tools.bench import train_run, train_steps, training
from sfumato.tools.bench.kind import Ask
from sfumato.tools.bench.peer_networks import OURS, PEERS, Network, about, plain
from sfumato.tools.bench.peers import installed
from sfumato.tools.bench.sheet import Sheet
from sfumato.tools.bench.train_counts import allocations, done, peak
from sfumato.tools.bench.train_growth import grown
from sfumato.tools.bench.train_memory import Trained, largest_batch, peak_of, predicted, trained
from sfumato.tools.bench.train_run import Small, added, bare, by_hand
from sfumato.tools.bench.train_steps import VARIANTS, our_step, usual_step
from sfumato.tools.bench.training import TRAINING, USUAL
from sfumato.tools.cli import main


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, time):
        return self.conv(x)


def tiny():
    torch.manual_seed(0)
    return Tiny()


def small_dit():
    return DiT(3, 8, 0, patch=4, width=16, depth=1, heads=2)


def sheet(name="train"):
    return Sheet(name, lambda line: None)


def test_the_steps_of_both_sides_are_the_same_step():
    """Loops or not, fused or not, in any memory format: the weights after three steps agree, so what is timed is one piece of work."""
    theirs = tiny()
    step = usual_step(plain(theirs), 4)
    for _ in range(3):
        step()
    assert not torch.equal(theirs.conv.weight, tiny().conv.weight)
    for variant in VARIANTS.values():
        ours = tiny()
        step = our_step(ours, 4, variant)
        for _ in range(3):
            step()
        assert len(step.moving) == 3
        torch.testing.assert_close(ours.conv.weight, theirs.conv.weight, atol=2e-4 if variant.half else 1e-6, rtol=0.0)


def test_both_sides_clip_and_average(monkeypatch):
    """Which weights do not show: AdamW moves as far whatever its gradients are multiplied by."""
    clipped = []

    def watched(clip):
        def called(parameters, limit, **how):
            clipped.append((len(parameters), limit))
            return clip(parameters, limit, **how)

        return called

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", watched(nn.utils.clip_grad_norm_))
    monkeypatch.setattr(train_steps, "clip", watched(train_steps.clip))
    for make in (lambda net: usual_step(plain(net), 4), lambda net: our_step(net, 4, VARIANTS["fp32"])):
        net = tiny()
        step = make(net)
        step()
        within = inspect.getclosurevars(step._move).nonlocals
        average = within["shadow"][0] if "shadow" in within else within["averages"].tensors()["ema"]["conv.weight"]
        first, moved = tiny().conv.weight, net.conv.weight
        share = (average - first) / (moved - first)
        # of theirs 0.001 from the first step on; ours forgets its start, and keeps 2/11 of it
        wanted = 0.001 if "shadow" in within else 9 / 11
        assert float(share.detach().median()) == pytest.approx(wanted, rel=0.05)
    assert clipped == [(2, 1.0), (2, 1.0)]


@pytest.mark.skipif(not installed("diffusers"), reason="diffusers is not installed")
def test_ours_are_within_two_percent_of_the_size_of_a_peer():
    theirs = about(PEERS["diffusers"][1]())
    assert theirs["parameters"] == 1_002_883
    for make in OURS["diffusers"].values():
        count = sum(p.numel() for p in make().parameters())
        assert abs(count / theirs["parameters"] - 1) < 0.02
    for make in OURS["lucidrains"].values():  # whose Unet(dim=36, dim_mults=(1, 2)) has 1,030,583
        assert abs(sum(p.numel() for p in make().parameters()) / 1_030_583 - 1) < 0.02


def test_an_absent_peer_is_said_to_be_absent(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PEERS, "lucidrains", ("no_such_package", PEERS["lucidrains"][1]))
    ask = ["bench", "train", "--quick", "--only", "UNet", "--against", "lucidrains", "--out", str(tmp_path)]
    assert main(ask) == 0
    found = json.loads((tmp_path / "train-quick.json").read_text())
    assert (found["absent"], found["rows"]) == ({"lucidrains": "not installed"}, {})
    assert "lucidrains: absent (not installed)" in capsys.readouterr().out
    assert main(["bench", "train", "--against", "edm,diffusers"]) == 2
    assert "against names 'edm'; allowed: diffusers, lucidrains" in capsys.readouterr().err
    assert main(["bench", "train", "--only", "unet"]) == 2
    assert "only is 'unet'; allowed: UNet, DiT, run, memory, growth" in capsys.readouterr().err


def test_what_is_measured_is_written(monkeypatch):
    """Speeds are the peer's time over ours, round by round, and `auto` is the row that it came to."""
    monkeypatch.setitem(PEERS, "diffusers", ("torch", lambda: plain(tiny())))
    monkeypatch.setitem(OURS, "diffusers", {"UNet": tiny})
    monkeypatch.setattr(training, "choice", lambda backbone, shape, batch: ("bf16", "contiguous"))

    def times(runs, rounds, cuda):
        for step in runs.values():
            step.moving += [0.25, 0.5, 0.75]
        return {name: [2.0, 2.0, 3.0] if name == "diffusers" else [1.0, 1.0, 1.0] for name in runs}

    monkeypatch.setattr(training, "times", times)
    found = sheet()
    TRAINING.measure(Ask("UNet", ("diffusers",)), found)
    rows = {name: cells for name, cells in found.rows.items() if "counts" not in name}
    assert list(rows) == [f"UNet beside diffusers, {name}" for name in ("theirs", *VARIANTS, "auto")]
    cells = rows["UNet beside diffusers, bf16"]
    assert cells["times as fast"].value == 2.0
    assert cells["clip, optimizer, average"].value == 0.5
    assert rows["UNet beside diffusers, auto"] == cells
    counts = found.rows["UNet beside diffusers, counts, fp32"]
    assert counts["parameters"].value == 84
    assert counts["operations"].value < found.rows["UNet beside diffusers, counts, theirs"]["operations"].value
    assert all(cell.exact for cell in counts.values())


def test_every_goal_limits_a_cell_that_is_measured(monkeypatch):
    """Rows of other names would leave a goal unmeasured for good."""
    for name in ("UNet", "DiT"):
        monkeypatch.setitem(OURS, "diffusers", {**OURS["diffusers"], name: tiny})
    monkeypatch.setitem(OURS, "lucidrains", {"UNet": tiny})
    for peer in PEERS:
        monkeypatch.setitem(PEERS, peer, ("torch", lambda: plain(tiny())))
    monkeypatch.setattr(training, "choice", lambda backbone, shape, batch: ("fp32", "contiguous"))
    monkeypatch.setattr(training, "added", lambda small, rounds, steps: {"run": [1.0], "bare": [1.0], "by hand": [1.0]})
    monkeypatch.setattr(training, "peak_of", lambda recipe: 2**20)
    monkeypatch.setattr(training, "COMPILED", {})
    found = sheet()
    TRAINING.measure(Ask(None, tuple(PEERS), quick=True), found)
    there = {(row, column) for row, cells in found.rows.items() for column in cells}
    missing = {(goal.row, goal.column) for goal in TRAINING.goals} - there
    assert missing == {(f"DiT beside {USUAL}, auto, compiled", "times as fast")}  # takes --compile


def test_counts_are_those_of_the_profiler_and_repeat():
    x = torch.ones(256)

    def work():
        for _ in range(3):
            (x + 1).sum().item()

    found = done(work)
    assert found == done(work)
    assert (found.syncs, found.fresh >= 3 * 1024) == (3, True)
    assert found.operations == 9  # add, sum and item, thrice

    def two():
        a = torch.empty(1000, dtype=torch.uint8)
        b = torch.empty(500, dtype=torch.uint8)
        del a
        return torch.empty(200, dtype=torch.uint8), b

    sizes = allocations(two)
    assert peak(sizes) == 1500
    assert peak([]) == 0


def test_time_between_two_steps_is_the_run_s(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(train_run, "time", SimpleNamespace(process_time=lambda: float(next(ticks))))
    found = added(Small(small_dit, (3, 8, 8), 2), 2, steps=2, pictures=8)
    # the clock goes on by one whenever it is read, and each share of a step is between two looks at it
    assert found == {"run": [1.0, 1.0], "bare": [1.0, 1.0], "by hand": [1.0, 1.0]}


def test_a_run_is_timed_beside_loops_that_learn():
    small = Small(small_dit, (3, 8, 8), 2)
    found = added(small, 1, steps=2, pictures=8)
    assert {name: len(seconds) for name, seconds in found.items()} == {"run": 1, "bare": 1, "by hand": 1}
    assert all(seconds[0] > 0 for seconds in found.values())
    for loop in (bare, lambda *given: by_hand(*given, 8)):
        network = small_dit()
        before = [p.detach().clone() for p in network.parameters()]
        step = loop(network, small.shape, small.batch)
        step()
        step()
        assert sum(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)) > 4


def test_the_peak_of_a_run_holds_what_a_run_holds():
    """Weights, two moments, the average, and gradients are five times the parameters; the largest batch is where the prediction ends."""
    case = Trained(lambda: DiT(3, 8, 0, patch=4, width=64, depth=4, heads=2), (3, 8, 8), 1)
    recipe = trained(case)
    held = 4 * sum(p.numel() for p in recipe.backbone.parameters())
    assert 4.5 * held < peak_of(recipe) < 6 * held
    for batch in (1, 5):
        fits = predicted(trained(case, batch))
        assert largest_batch(recipe, fits) == batch
        assert largest_batch(recipe, fits - 1) == batch - 1
    assert largest_batch(recipe, held) == 0
    assert activation_bytes(recipe, 1) < predicted(recipe)


def test_growth_is_of_one_size_over_the_one_before():
    found = grown(
        lambda width: DiT(3, 32, 0, patch=8, width=width, depth=1, heads=2), [(16, 1), (32, 1), (32, 2)], 1, "cpu"
    )
    assert list(found) == [(32, 1), (32, 2)]
    assert 2.6 < found[32, 1]["times the parameters"].value < 2.7
    assert found[32, 2]["times the parameters"].value == 1
    assert found[32, 2]["times the operations"].value == 2
    assert 1 < found[32, 2]["times the memory"].value < 2


def test_a_network_and_how_it_is_called():
    network = Network(tiny(), lambda module, x, time: module(x, time)[:1])
    assert network.call(network.module, torch.zeros(2, 3, 8, 8), torch.zeros(2)).shape == (1, 3, 8, 8)
    assert about(plain(tiny())) == {"parameters": 84, "mflop": 0.2}
