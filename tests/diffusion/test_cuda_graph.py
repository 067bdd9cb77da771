"""Recorded networks, without a GPU: what is recorded is traced operation by operation and replayed without the network's own lines."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from sfumato.diffusion import DDPMPP, Denoiser, DiT, LogSNRClock, UNet, cuda_graph, load, loading
from sfumato.diffusion.cuda_graph import MOST, graph_forward, record_on_cuda
from sfumato.diffusion.half_weights import halve_weights
from sfumato.diffusion.model import Model
from sfumato.diffusion.quantise import quantise
from sfumato.guidance import CFG, Interval, Plain
from sfumato.samplers import DPMSolverPP, Heun
from sfumato.schedules import EDM, RectifiedFlow


class Recorder:
    """Records as a CUDA graph does: operations on tensors at their places, and nothing of the lines that launched them."""

    def __init__(self):
        self.kinds = []

    @property
    def count(self):
        return len(self.kinds)

    def __deepcopy__(self, memo):
        return self  # what copies record is counted, too

    def __call__(self, run, pool):
        out = run()
        traced = make_fx(run)()
        self.kinds.append(tuple(out.shape))
        return out, lambda: out.copy_(traced())


def randomised(net):
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


def dit():
    torch.manual_seed(0)
    return randomised(DiT(channels=1, size=8, num_classes=10, width=16, depth=1, heads=2))


def unet():
    torch.manual_seed(0)
    return randomised(UNet(1, 8, 10, width=8, multipliers=(1, 2), blocks=1, attention=(8,), head_width=8))


def ncsnpp():
    torch.manual_seed(0)
    return randomised(
        DDPMPP(1, 8, 0, 8, (1, 2), 1, (8,), architecture="ncsnpp")
    )  # F.one_hot reads labels on the host, there alone


def halved():
    net = dit()
    halve_weights(net, "bf16")
    return net


def told(count, seed=0):
    made = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=made)
    return torch.randn(count, 1, 8, 8, generator=made), torch.rand(count, generator=made), labels


def recorded(net):
    recorder = Recorder()
    graph_forward(net, recorder)
    return recorder


def test_what_is_recorded_samples_the_same_and_once_per_kind_of_batch():
    net = dit()
    model = Model(Denoiser(net, RectifiedFlow(), EDM(0.75), LogSNRClock()), (1, 8, 8), 10)

    def drawn(count=3, **changes):
        given = {"steps": 2, "guidance": CFG(2.0), "sampler": DPMSolverPP(), **changes}
        return model.sample(range(count), [i % 10 for i in range(count)], **given).images

    cases = (
        ({}, 1), ({"steps": 3, "guidance": CFG(3.0), "sampler": Heun()}, 1), ({"guidance": Interval(CFG(2.0), 0.5, 2.0)}, 2),
        ({"guidance": Interval(CFG(2.0), 0.2, 5.0)}, 2), ({"count": 4, "batch": 3, "guidance": Plain()}, 3),
        ({"count": 2, "batch": 8, "strict": True, "guidance": Plain()}, 4), ({"batch": 8, "strict": True, "guidance": Plain()}, 4),
    )  # fmt: skip
    expected = [drawn(**changes) for changes, _ in cases]
    recorder = recorded(net)
    for (changes, count), before in zip(cases, expected, strict=True):
        torch.testing.assert_close(drawn(**changes), before, atol=2e-6, rtol=0.0)
        assert recorder.count == count, changes


@pytest.mark.parametrize("make", [unet, ncsnpp, halved])
def test_other_networks_can_be_recorded(make):
    net, plain = make(), make()
    recorder = recorded(net)
    with torch.no_grad():
        for seed in range(2):
            x, time, labels = told(2, seed)
            given = (x, time, labels if net.num_classes else None)
            torch.testing.assert_close(net(*given), plain(*given), atol=1e-5, rtol=1e-5)
    assert recorder.count == 1


def test_two_answers_can_be_held_and_inputs_are_the_callers_own():
    net, plain = dit(), dit()
    recorder = recorded(net)
    asked = [told(3, seed) for seed in range(3)]
    kept = [tuple(v.clone() for v in given) for given in asked]
    with torch.no_grad():
        answers = [net(*given) for given in asked]
        again = net(*asked[0])
    assert recorder.count == 1
    assert len({answer.data_ptr() for answer in answers}) == 3
    for given, before, answer in zip(asked, kept, answers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
        torch.testing.assert_close(answer, plain(*given))
    asked[0][0].zero_()  # neither a buffer nor an answer
    assert torch.equal(again, answers[0])


def test_what_lies_elsewhere_is_recorded_again_and_what_is_changed_in_place_is_seen():
    net, other = dit(), dit()
    randomised(other)  # further draws of the generator
    recorder, given = recorded(net), told(2)
    with torch.no_grad():
        net(*given)
        net.load_state_dict(other.state_dict())
        torch.testing.assert_close(net(*given), other(*given))
        assert recorder.count == 1
        net.double().float()
        torch.testing.assert_close(net(*given), other(*given))
        assert recorder.count == 2
        net.head.weight = nn.Parameter(torch.zeros_like(net.head.weight))
        assert not torch.equal(net(*given), other(*given))
        assert recorder.count == 3
        net.train()  # of which dropout makes another network
        net(*given)
        assert recorder.count == 4


def test_another_layer_is_recorded_again():
    net, other = dit(), dit()
    randomised(other)
    recorder, given = recorded(net), told(2)
    with torch.no_grad():
        net(*given)
        net.head, net.layers[0] = other.head, other.layers[0]  # where the old ones lay nothing has changed
        plain = dit()
        plain.head, plain.layers[0] = other.head, other.layers[0]
        torch.testing.assert_close(net(*given), plain(*given))
        assert recorder.count == 2
        net(*given)
        assert recorder.count == 2


def test_inference_mode_is_recorded_apart():
    """A buffer made in inference mode would be written to outside of it."""
    net = dit()
    recorder, (x, time, labels) = recorded(net), told(2)
    with torch.no_grad():
        net(x, time, labels)
    with torch.inference_mode():
        assert net(x, time, labels).is_inference()
        assert recorder.count == 2
    with torch.no_grad():
        assert not net(x, time, labels).is_inference()


def test_another_int8_weight_is_recorded_again():
    """A weight of torchao has no address of its own: those of all are 0."""
    first, second = (nn.Sequential(nn.Linear(32, 32).requires_grad_(False)).eval() for _ in range(2))
    second[0].bias = first[0].bias
    for each in (first, second):
        assert quantise(each, "int8_weights", keep=()) == ["0"]
    recorder, x = recorded(first), torch.ones(2, 32)
    with torch.no_grad():
        first(x)
        first[0].weight = second[0].weight
        torch.testing.assert_close(first(x), second(x))
        assert recorder.count == 2


def test_gradients_autocast_and_kinds_without_end_run_as_written():
    net = dit()
    recorder, given = recorded(net), told(2)
    net(*given).sum().backward()
    assert net.head.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        net(*given)
    assert recorder.count == 0
    plain = nn.Identity()  # the cheapest network
    plain.weight = nn.Parameter(torch.zeros(1))
    recorder = recorded(plain)
    with torch.no_grad():
        for count in range(1, MOST + 4):
            assert len(plain(torch.ones(count))) == count
    assert recorder.count == MOST


def test_a_deep_copy_records_its_own():
    net = dit()
    recorder, given = recorded(net), told(2)
    with torch.no_grad():
        before = net(*given)
        twin = copy.deepcopy(net)
        twin.head.weight.zero_()
        twin.head.bias.zero_()
        assert not twin(*given).any()
        assert torch.equal(net(*given), before)
    assert recorder.count == 2
    assert list(twin.state_dict()) == list(dit().state_dict())


class Talking(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def test_what_cannot_be_recorded_is_an_error(tmp_path, monkeypatch):
    net = Talking()
    graph_forward(net, Recorder())
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match=r"Talking can't be recorded: operation not permitted .*; set graph: false"),
    ):
        net(torch.zeros(1))
    with pytest.raises(
        ValueError, match="graph is true, but DiT is on cpu; allowed: a network on a CUDA device; set device: cuda"
    ):
        graph_forward(dit())
    model = Model(Denoiser(dit(), RectifiedFlow(), EDM(0.75), LogSNRClock()), (1, 8, 8), 10)
    monkeypatch.setattr(loading, "_load", lambda *given: model)
    assert load(tmp_path) is model
    with pytest.raises(ValueError, match="graph is true, but DiT is on cpu"):
        load(tmp_path, graph=True)


def test_a_cuda_graph_is_warmed_up_beside_and_shares_its_pool(monkeypatch):
    """By stand-ins for streams and graphs: the order of calls is what can be seen without a GPU."""
    said = []

    class Stream:
        def wait_stream(self, other):
            said.append("wait")

    class Graph:
        def replay(self):
            said.append("replay")

    def capturing(graph, pool, capture_error_mode):
        said.append(("capture", pool, capture_error_mode))
        return nullcontext()

    for name, value in (
        ("Stream", Stream), ("current_stream", Stream), ("stream", lambda s: nullcontext()), ("CUDAGraph", Graph), ("graph", capturing),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)

    def run():
        said.append("run")
        return torch.ones(1)

    out, replay = record_on_cuda(run, "pool")
    assert said == ["wait", *["run"] * cuda_graph._WARM, "wait", ("capture", "pool", "thread_local"), "run"]
    replay()
    assert said[-1] == "replay"
    assert out.item() == 1.0
