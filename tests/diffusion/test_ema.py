"""Averages during training: their closed forms, what is copied, swapping, sharded networks; and their snapshots on disk."""

import json
import os
import socket
import subprocess
import sys
import warnings

import pytest
import torch
from averaged import Net, stored_in, walk
from safetensors.torch import load_file
from torch import nn

from sfumato.diffusion import snapshots
from sfumato.diffusion.ema import Averages, Ema
from sfumato.diffusion.profiles import Exponential, Power, length_in, name_of


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def moved(module, generator):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator).to(p.dtype))
        for b in module.buffers():
            b.add_(1)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_averages_are_the_sums_of_their_profiles(tmp_path):
    net, averages, path = walk(200, tmp_path, 0, lengths=(0.03, 0.1, 0.3))
    for name, state in averages.tensors().items():
        profile = Exponential(0.99) if name == "ema" else Power(length_in(name))
        expected = torch.einsum("t,tij->ij", profile.weights(200), path)
        if name == "ema":  # it began at zero weights, which the profile counts to the first step
            start = 1.0
            for step in range(1, 201):
                start *= min(0.99, (1 + step) / (10 + step))
            expected -= start * path[0]
        assert torch.allclose(state["matrix"].double(), expected, rtol=0, atol=2e-6 * float(path.abs().max()))
        assert torch.equal(state["seen"], net.seen)
        assert torch.equal(state["count"], net.count)
        assert state["count"].dtype == torch.int64


def test_the_exponential_one_is_what_it_was_to_the_bit():
    """Written out as it was before there were others beside it."""
    net, g = network(), torch.Generator().manual_seed(1)
    ema, averages = Ema(net, 0.97), Averages(net, 0.97, [0.1])
    before = {k: v.detach().clone() for k, v in net.state_dict().items()}
    named = [k for k, _ in net.named_parameters()]
    for step in range(1, 60):
        moved(net, g)
        ema.update(net, step)
        averages.update(net, step)
        now = net.state_dict()
        torch._foreach_lerp_(
            [before[k] for k in named], [now[k] for k in named], 1 - min(0.97, (1 + step) / (10 + step))
        )
        for k in before.keys() - set(named):
            before[k].copy_(now[k])
    assert list(ema.state) == list(net.state_dict())
    assert same(ema.state, before)
    assert same(averages.tensors()["ema"], before)


def test_the_first_step_forgets_where_it_began():
    net = network()
    averages = Averages(net, 0.9, [0.05, 0.2])
    moved(net, torch.Generator().manual_seed(0))
    averages.update(net, 1)
    for name in ("ema-0.05", "ema-0.2"):
        assert same(averages.tensors()[name], dict(net.state_dict()))
    averages.update(net, 2)  # weights that stand still
    assert same(averages.tensors()["ema-0.05"], dict(net.state_dict()))


def test_half_precision_networks_have_averages_in_single_precision():
    """Steps far below half precision's digits are taken in; the network itself stays in half precision."""
    net = network().to(torch.bfloat16)
    with torch.no_grad():
        net[0].weight.fill_(1.0)
    averages = Averages(net, 0.0, [0.1])
    for step in range(1, 2001):
        if step == 1001:
            with torch.no_grad():
                net[0].weight.fill_(1.0078125)  # the next number
        averages.update(net, step)
    state = averages.tensors()["ema-0.1"]
    share = float(Power(0.1).weights(2000)[1000:].sum())
    assert state["0.weight"].dtype == torch.float32
    assert state["1.running_mean"].dtype == torch.bfloat16  # copied, as it is
    assert torch.allclose(
        state["0.weight"].double(), torch.full((3, 3), 1 + 0.0078125 * share, dtype=torch.float64), atol=1e-6
    )
    with averages.swapped(net):
        assert net[0].weight.dtype == torch.bfloat16


def test_half_precision_is_widened_in_blocks_without_a_difference(monkeypatch):
    found = []
    for block in (1 << 26, 1, 8):
        monkeypatch.setattr("sfumato.diffusion.ema._BLOCK", block)
        net, g = network().to(torch.bfloat16), torch.Generator().manual_seed(3)
        averages = Averages(net, 0.9, [0.1])
        for step in range(1, 6):
            moved(net, g)
            averages.update(net, step)
        found.append(averages.tensors()["ema-0.1"])
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_double_precision_and_tied_weights_stay_what_they_are():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)).double()
    net[1].weight = net[0].weight
    averages = Averages(net, 0.5, [0.1])
    moved(net, torch.Generator().manual_seed(0))
    averages.update(net, 1)
    state = averages.tensors()["ema-0.1"]
    assert state["0.weight"].dtype == torch.float64
    assert torch.equal(state["0.weight"], state["1.weight"])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_swapped_gives_the_weights_back_whatever_happens(error):
    net = network()
    averages = Averages(net, 0.9, [0.1])
    for step in range(1, 4):
        moved(net, torch.Generator().manual_seed(step))
        averages.update(net, step)
    own = {k: v.clone() for k, v in net.state_dict().items()}

    def fail():
        with averages.swapped(net):
            assert same(dict(net.state_dict()), averages.tensors()["ema"])
            with averages.swapped(net):
                assert same(dict(net.state_dict()), averages.tensors()["ema"])
            assert same(dict(net.state_dict()), averages.tensors()["ema"])
            raise error("stop")

    with pytest.raises(error):
        fail()
    assert same(dict(net.state_dict()), own)


@pytest.mark.parametrize("torn_at", [1, 2])
def test_a_ctrl_c_while_weights_are_exchanged_leaves_no_half(monkeypatch, torn_at):
    """On the way in, and on the way out."""
    net = network()
    averages = Averages(net, 0.9)
    for step in range(1, 4):
        moved(net, torch.Generator().manual_seed(step))
        averages.update(net, step)
    own, whole, calls = {k: v.clone() for k, v in net.state_dict().items()}, nn.Module.load_state_dict, []

    def torn(self, state):
        calls.append(state)
        if len(calls) == torn_at:
            whole(self, {**self.state_dict(), "0.weight": state["0.weight"]})
            raise KeyboardInterrupt
        return whole(self, state)

    def swap():
        with averages.swapped(net):
            pass

    monkeypatch.setattr(nn.Module, "load_state_dict", torn)
    with pytest.raises(KeyboardInterrupt):
        swap()
    assert len(calls) == (2 if torn_at == 1 else 3)
    assert same(dict(net.state_dict()), own)


def test_restored_averages_go_on_as_they_would_have():
    net, other = network(), network()
    averages, again = Averages(net, 0.9, [0.05, 0.1]), Averages(other, 0.9, [0.05, 0.1])
    g = torch.Generator().manual_seed(0)
    for step in range(1, 9):
        if step == 5:
            copy = {n: {k: v.clone() for k, v in s.items()} for n, s in averages.tensors().items()}
            again.restore(copy)
            again.restore(copy.__getitem__)  # as a function of the name
        moved(net, g)
        averages.update(net, step)
        if step >= 5:
            again.update(net, step)
    assert list(averages.tensors()) == ["ema", "ema-0.05", "ema-0.1"]
    assert all(same(averages.tensors()[n], again.tensors()[n]) for n in averages.tensors())


def test_refusals():
    net = network()
    with pytest.raises(ValueError, match=r"ema_lengths is \[0.1, 0.5\]: length is 0.5; allowed: above 0 to 0.3"):
        Averages(net, 0.9, [0.1, 0.5])
    with pytest.raises(ValueError, match="each length once"):
        Averages(net, 0.9, [0.1, 0.1])
    with pytest.raises(ValueError, match=r"ema is 1\.0"):
        Averages(net, 1.0)
    averages = Averages(net, 0.9, [0.1])
    with pytest.raises(ValueError, match=r"no average 'ema-0.1' was saved; resume with the ema_lengths"):
        averages.restore({"ema": averages.tensors()["ema"]})
    with pytest.raises(ValueError, match=r"'ema' that was saved is of another network; see 0.weight"):
        averages.restore({"ema": {**averages.tensors()["ema"], "0.weight": torch.zeros(2)}})


SHARDED = """
import os, sys, torch
torch.distributed.init_process_group("gloo")
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from sfumato.diffusion import snapshots
from sfumato.diffusion.ema import Averages
from pathlib import Path

def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))

plain, sharded, size = network(), network(), torch.distributed.get_world_size()
main = torch.distributed.get_rank() == 0
fully_shard(sharded, mesh=init_device_mesh("cpu", (size,)))
a, b = Averages(plain, 0.9, [0.1]), Averages(sharded, 0.9, [0.1])
for step in range(1, 6):
    for net in (plain, sharded):
        torch.manual_seed(step)
        net.zero_grad()
        net(torch.randn(8, 3)).square().sum().backward()
        with torch.no_grad():
            for p in net.parameters():
                p.sub_(0.1 * p.grad)
    a.update(plain, step)
    b.update(sharded, step)

def whole(v):
    return v.full_tensor() if hasattr(v, "full_tensor") else v

def close(x, y):
    return all(torch.allclose(whole(v), y[k], atol=1e-6) for k, v in x.items())

assert hasattr(b.tensors()["ema"]["0.weight"], "full_tensor")
for name, state in b.tensors().items():
    assert close(state, a.tensors()[name]), name
own = {{k: whole(v).clone() for k, v in sharded.state_dict().items()}}
with b.swapped(sharded):
    assert close(sharded.state_dict(), a.tensors()["ema"])
    sharded(torch.randn(8, 3))
assert close({{k: v for k, v in sharded.state_dict().items() if not k.startswith("1.")}}, own)
snapshots.save(Path({folder!r}), 5, b, main=main)
fresh = Averages(sharded, 0.9, [0.1])
fresh.restore(a.tensors())  # of whole tensors
assert close(fresh.tensors()["ema-0.1"], a.tensors()["ema-0.1"])
fresh.restore(b.tensors())
if main:
    found = snapshots.read(Path({folder!r}))[0]
    from safetensors.torch import load_file
    assert close(load_file(found.files[0.1]), a.tensors()["ema-0.1"])
torch.distributed.destroy_process_group()
"""


def test_sharded_networks_have_sharded_averages(tmp_path):
    """FSDP2 on two processes, rows shared unevenly: states are sharded, and equal to those of the same network in one piece."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = SHARDED.format(folder=str(tmp_path))
    where = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env={**where, "RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    said = [one.communicate(timeout=120)[1] for one in running]
    assert [one.returncode for one in running] == [0, 0], said


def test_snapshots_hold_the_averages(tmp_path):
    _, averages, _ = walk(20, tmp_path, 10)
    first, last = snapshots.read(tmp_path)
    assert (first.step, last.step, last.averaged) == (10, 20, {"matrix", "number"})
    for length, path in last.files.items():
        assert path == tmp_path / "step-000000020" / f"{name_of(length)}.safetensors"
        assert same(load_file(path), averages.tensors()[name_of(length)])
    assert [s.step for s in snapshots.read(tmp_path, last=10)] == [10]
    assert [s.step for s in snapshots.read(tmp_path, last=11)] == [10, 20]
    assert snapshots.read(tmp_path / "none") == []


def test_half_precision_of_what_is_stored(tmp_path):
    averages = Averages(Net(4), 0.9, [0.1])
    state = averages.tensors()["ema-0.1"]
    state["matrix"].fill_(1.0009765625)  # a number of float16, and one more digit below
    state["number"].fill_(1e6)  # more than float16 holds
    for dtype, kept in (("float16", torch.float16), ("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        snapshots.save(tmp_path / dtype, 1, averages, dtype)
        found = load_file(snapshots.read(tmp_path / dtype)[0].files[0.1])
        assert found["matrix"].dtype == kept
        assert float(found["number"]) == pytest.approx(1e6, rel=4e-3)
        assert found["seen"].dtype == torch.float32
        assert float(found["matrix"][0, 0]) == (1.0 if dtype == "bfloat16" else 1.0009765625)


def test_a_snapshot_that_is_there_is_left_if_it_is_the_same_and_replaced_if_not(tmp_path):
    _, averages, _ = walk(10, tmp_path, 10)
    manifest = tmp_path / "step-000000010" / "manifest.json"
    before = manifest.stat().st_ino
    snapshots.save(tmp_path, 10, averages)
    assert manifest.stat().st_ino == before
    averages.tensors()["ema-0.1"]["matrix"].add_(1.0)
    snapshots.save(tmp_path, 10, averages)
    assert manifest.stat().st_ino != before
    assert same(load_file(snapshots.read(tmp_path)[0].files[0.1]), averages.tensors()["ema-0.1"])
    (tmp_path / "step-000000010" / "ema-0.1.safetensors").write_bytes(b"damaged")
    snapshots.save(tmp_path, 10, averages)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(snapshots.read(tmp_path)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000010"]


def test_a_resumed_run_makes_the_same_snapshots(tmp_path):
    walk(30, tmp_path / "a", 10)
    walk(30, tmp_path / "b", 10)
    (tmp_path / "b" / ".stage-of-a-killed-process").mkdir()
    snapshots.cut(tmp_path / "b", 10)
    assert [s.step for s in snapshots.read(tmp_path / "b")] == [10]
    walk(30, tmp_path / "b", 10)
    for one in sorted((tmp_path / "a").rglob("*.*")):
        if one.is_file():
            assert (tmp_path / "b" / one.relative_to(tmp_path / "a")).read_bytes() == one.read_bytes()
    assert not list((tmp_path / "b").glob(".stage-*"))


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    _, averages, _ = walk(10, tmp_path, 10)
    averages.tensors()["ema-0.1"]["matrix"].add_(1.0)

    def full(*args):
        raise OSError("no space left")

    for name in ("snapshots.save_file", "publish.sync"):
        monkeypatch.setattr(f"sfumato.diffusion.{name}", full)
        with pytest.raises(OSError, match="no space left"):
            snapshots.save(tmp_path, 10, averages)
        monkeypatch.undo()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000010"]
    assert len(snapshots.read(tmp_path)) == 1


def test_damaged_snapshots_are_named_and_left_out(tmp_path):
    walk(60, tmp_path, 10)

    def flip(path):
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)

    def edit(path, **values):
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    at = {step: tmp_path / f"step-{step:09d}" for step in range(10, 61, 10)}
    flip(at[10] / "ema-0.05.safetensors")
    (at[20] / "ema-0.1.safetensors").unlink()
    edit(at[30] / "manifest.json", format=2)
    edit(at[40] / "manifest.json", step=50)
    edit(at[50] / "manifest.json", files={"../x.safetensors": {"length": 0.1, "sha256": "", "bytes": 0}})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [s.step for s in snapshots.read(tmp_path)] == [60]
    words = [str(one.message) for one in said]
    for step, why in (
        (10, "not the file that was saved"),
        (20, "is missing"),
        (30, "has format 2"),
        (40, "step 50"),
        (50, "not the file that was saved"),
    ):
        assert any(str(at[step]) in line and why in line for line in words), (step, words)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert {s.step for s in stored_in(tmp_path)} == {60}


def test_what_snapshots_need(tmp_path):
    averages = Averages(Net(4), 0.9)
    with pytest.raises(ValueError, match="snapshot_every needs ema_lengths"):
        snapshots.save(tmp_path, 1, averages)
    with pytest.raises(ValueError, match="snapshot_dtype is 'int8'; allowed: float32, float16, bfloat16"):
        snapshots.save(tmp_path, 1, Averages(Net(4), 0.9, [0.1]), "int8")
