"""Blocks: found, recomputed in the backward pass, compiled one by one; gradients and names stay what they were."""

import copy
import json

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from sfumato.diffusion import Denoiser, Digits, DiT, LogSNRClock, Recipe, UNet, train
from sfumato.diffusion.activations import activation_bytes
from sfumato.diffusion.blocks import blocks
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.compiling import compile_forward
from sfumato.diffusion.model import Model
from sfumato.diffusion.recompute import recompute_blocks
from sfumato.guidance import CFG, Interval, Plain
from sfumato.samplers import Heun
from sfumato.schedules import EDM, RectifiedFlow


def unet(dropout=0.3):
    torch.manual_seed(0)
    net = UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1, 2), blocks=2, attention=(), dropout=dropout)
    return randomised(net)


def little():
    torch.manual_seed(0)
    return randomised(
        UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1,), blocks=1, attention=(8,), head_width=8)
    )


def dit(depth=3):
    torch.manual_seed(0)
    return randomised(DiT(channels=1, size=8, num_classes=10, width=16, depth=depth, heads=2))


def randomised(net):
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def gradients(net, count=4):
    """Of a loss, with the same draws each time."""
    net.zero_grad()
    torch.manual_seed(3)
    labels = torch.zeros(count, dtype=torch.int64)
    net(torch.randn(count, 1, 8, 8), torch.rand(count), labels).square().mean().backward()
    return [p.grad.clone() for p in net.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def recipe(net, **changes):
    values = {
        "data": Digits(), "backbone": net, "schedule": RectifiedFlow(), "row": EDM(0.75), "clock": LogSNRClock(), "steps": 4,
        "batch": 10, "micro_batch": 4, "warmup": 1, "threads": 1, "sampling_steps": 2, "tracker": None,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def weights(folder):
    return newest(folder / "checkpoints").tensors("model")


class Nested(nn.Module):
    """Lists within lists, and a list within a block."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)]), nn.Linear(1, 1)])
        self.inner = nn.Sequential(nn.ModuleDict({"a": Own()}))


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1, 1)])


def test_blocks_are_what_the_lists_hold():
    net = Nested()
    assert blocks(net) == [net.down[0][0], net.down[0][1], net.down[1], net.inner[0]["a"]]
    assert len(blocks(dit())) == 3
    assert (
        len(blocks(unet())) == 2 * 4 + 2 + 2
    )  # a way down and up of two levels, the middle, and a change of size each way
    assert blocks(nn.Linear(1, 1)) == []


@pytest.mark.parametrize("make", [unet, dit])
def test_recomputed_gradients_are_the_same_to_the_bit(make):
    """With dropout, whose draws are made again; names of the weights, and a deep copy that runs its own blocks."""
    net, again = make(), make()
    recompute_blocks(again)
    expected = gradients(net)
    assert same(gradients(again), expected)
    assert list(again.state_dict()) == list(net.state_dict())
    other = copy.deepcopy(again)
    for parameter in again.parameters():
        nn.init.zeros_(parameter)
    assert same(gradients(other), expected)


def test_recomputing_keeps_less_and_the_report_counts_it():
    """Of twelve blocks it keeps the inputs, and while going back the inside of one."""
    net = dit(12)
    plain = activation_bytes(recipe(net), 8)
    less = activation_bytes(recipe(net, gradient_checkpointing=True), 8)
    assert less < plain / 4
    weights, saved = {p.data_ptr() for p in net.parameters()}, {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    recompute_blocks(net)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = net(torch.zeros(8, 1, 8, 8), torch.zeros(8), torch.zeros(8, dtype=torch.int64))
    really = sum(size for place, size in saved.items() if place not in weights)
    assert out.requires_grad
    assert 0 < less - really < 1.1 * plain / 12  # the inside of one block


def test_a_run_with_recomputed_blocks_is_the_same_run(tmp_path):
    train(recipe(unet()), tmp_path / "a", progress=False)
    train(recipe(unet(), gradient_checkpointing=True), tmp_path / "b", progress=False)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert a.keys() == b.keys()
    assert same(a.values(), b.values())


def test_blocks_of_a_kind_are_compiled_once_and_a_remainder_once_more():
    torch._dynamo.reset()
    net, counter = dit(12), CompileCounter()
    expected = gradients(net)
    compile_forward(net, "blocks", counter)
    assert list(net.state_dict()) == list(dit(12).state_dict())
    found = []
    for count in (4, 4, 3, 4, 3, 3, 4):
        found.append(gradients(net, count))
        if len(found) == 1:
            assert counter.frame_count == 1  # twelve equal blocks
    assert counter.frame_count == 2  # and the smaller micro-batch
    assert same(found[0], expected)
    with torch.no_grad():
        net(torch.zeros(7, 1, 8, 8), torch.zeros(7), torch.zeros(7, dtype=torch.int64))
    assert counter.frame_count == 2  # previews run as written


def test_more_kinds_of_blocks_than_dynamo_allows_by_itself():
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = randomised(UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1, 2, 3), blocks=2, attention=()))
    counter, expected = CompileCounter(), gradients(net)
    compile_forward(net, "blocks", counter)
    recompute_blocks(net)
    assert same(gradients(net), expected)
    assert counter.frame_count > 8
    seen = counter.frame_count
    gradients(net)
    assert counter.frame_count == seen


@pytest.mark.parametrize(("make", "what", "graphs"), [(dit, "blocks", 1), (little, "blocks", 4), (dit, "whole", 1)])
def test_what_is_compiled_for_sampling_is_compiled_once(make, what, graphs):
    """Whatever the steps, the interval of guidance (which asks for half the rows), and the remainder of the batch."""
    torch._dynamo.reset()
    net, counter = make(), CompileCounter()
    model = Model(Denoiser(net, RectifiedFlow(), EDM(0.75), LogSNRClock()), (1, 8, 8), 10)

    def drawn(count=5, **changes):
        return model.sample(range(count), [1] * count, **{"steps": 2, "guidance": CFG(2.0), **changes}).images

    expected, backward = drawn(), gradients(net)
    compile_forward(net, what, counter, inference=True)
    assert torch.equal(drawn(), expected)
    assert counter.frame_count == graphs
    for changes in (
        {"steps": 3}, {"guidance": Interval(CFG(2.0), 0.2, 2.0)}, {"guidance": Interval(CFG(2.0), 0.5, 5.0), "steps": 4},
        {"count": 8, "batch": 3, "guidance": Plain()}, {"count": 6, "batch": 4, "strict": True}, {"sampler": Heun()},
    ):  # fmt: skip
        drawn(**changes)
        assert counter.frame_count == graphs, changes
    assert same(gradients(net), backward)
    assert counter.frame_count == graphs  # what has gradients runs as written
    drawn(1, guidance=Plain())
    assert counter.frame_count == 2 * graphs  # torch compiles a single sample for itself
    drawn(1, guidance=Interval(CFG(2.0), 0.2, 2.0))
    drawn(9, batch=4)
    assert counter.frame_count == 2 * graphs


def test_compiled_once_for_training_whatever_the_step():
    """A run's blocks: a kind of micro-batch each, and nothing after the first step; previews in between run as written."""
    torch._dynamo.reset()
    net, counter = dit(), CompileCounter()
    compile_forward(net, "blocks", counter)
    denoiser = Denoiser(net, RectifiedFlow(), EDM(0.75), LogSNRClock())
    seen = []
    for step, count in enumerate((4, 2, 4, 2, 4, 2)):  # a batch of 6 in micro-batches of 4
        level = RectifiedFlow()(torch.linspace(0.1, 0.9, count, dtype=torch.float64) / (step + 1))
        x = torch.zeros(count, 1, 8, 8)
        denoiser.answer(x, level, {"labels": torch.zeros(count, dtype=torch.int64)}).out.sum().backward()
        Model(denoiser, (1, 8, 8), 10).sample([0, 1], [1, 2], steps=2)
        seen.append(counter.frame_count)
    assert seen == [1, 2, 2, 2, 2, 2]


class Talking(nn.Module):
    def forward(self, x):
        return x if float(x.sum()) > 0 else -x


def test_what_cannot_be_compiled_or_has_no_blocks_is_an_error():
    with pytest.raises(ValueError, match="compile is 'all'; allowed: 'blocks', 'whole', or None"):
        compile_forward(nn.Linear(1, 1), "all")
    torch._dynamo.reset()
    net = nn.ModuleList([Talking()])
    compile_forward(net, "blocks", CompileCounter())
    with pytest.raises(ValueError, match=r"Talking can't be compiled: .*data-dependent.*set compile: null"):
        net[0](torch.ones(3, requires_grad=True))
    with pytest.raises(ValueError, match="keeps no blocks in a ModuleList; set compile: whole, or null"):
        compile_forward(nn.Linear(1, 1), "blocks")
    with pytest.raises(ValueError, match="keeps no blocks in a ModuleList; set it to false"):
        recompute_blocks(nn.Linear(1, 1))


@pytest.mark.slow
def test_inductor_compiles_for_sampling_what_samples_the_same():
    torch._dynamo.reset()
    net = dit()
    model = Model(Denoiser(net, RectifiedFlow(), EDM(0.75), LogSNRClock()), (1, 8, 8), 10)
    plain = model.sample(range(5), [1] * 5, steps=3, guidance=CFG(2.0)).images
    compile_forward(net, "blocks", inference=True)
    torch.testing.assert_close(
        model.sample(range(5), [1] * 5, steps=3, guidance=CFG(2.0)).images, plain, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        model.sample(range(5), [1] * 5, steps=3, guidance=CFG(2.0), batch=3).images, plain, atol=1e-4, rtol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", ["blocks", "whole"])
def test_a_compiled_run_is_the_same_run_within_rounding_and_resumes_to_the_bit(tmp_path, what):
    """By inductor: a remainder in each step, recomputed blocks, and one run that is stopped in between."""
    train(recipe(dit()), tmp_path / "plain", progress=False)
    made = recipe(dit(), compile=what, gradient_checkpointing=what == "blocks", save_every=2, keep=9)
    train(made, tmp_path / "compiled", progress=False)
    a, b = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < 1e-4
    (tmp_path / "compiled" / "checkpoints" / "step-000000004").rename(tmp_path / "kept")
    train(made, tmp_path / "compiled", resume=True, progress=False)
    assert same(weights(tmp_path / "compiled").values(), b.values())
    lines = (tmp_path / "compiled" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 4
