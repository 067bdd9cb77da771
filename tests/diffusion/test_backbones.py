"""The networks: their contract, their published sizes, and that they learn."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sfumato.diffusion.backbones import DiT, UNet
from sfumato.diffusion.backbones.attention import attend
from sfumato.diffusion.backbones.embedding import sinusoid

KINDS = ["unet", "dit"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small run slower, and with other jobs much slower, on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(kind: str, seed: int = 0, num_classes: int = 3) -> UNet | DiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "unet":
            return UNet(2, 8, num_classes, width=8, multipliers=(1, 2), blocks=1, attention=(4,), head_width=8)
        return DiT(2, 8, num_classes, patch=2, width=32, depth=2, heads=2)


def awake(kind: str, num_classes: int = 3) -> UNet | DiT:
    """A network whose zero-initialised layers were given weights, so that its output depends on its input."""
    net = build(kind, num_classes=num_classes)
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return net.eval()


def inputs(batch: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(batch, 2, 8, 8, generator=generator)
    return x, torch.linspace(-2.0, 2.0, batch), torch.arange(batch) % 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_output_is_zero_at_initialisation(kind: str, num_classes: int) -> None:
    net = build(kind, num_classes=num_classes)
    x, time, _ = inputs()
    out = net(x, time)
    assert out.shape == x.shape
    assert not out.any()


@pytest.mark.parametrize(
    ("width", "depth", "heads", "published"), [(384, 12, 6, 33.0), (768, 12, 12, 130.5), (1152, 28, 16, 675.1)]
)
def test_dit_has_the_published_size(width: int, depth: int, heads: int, published: float) -> None:
    """Table 1 of 2212.09748, which counts the learned sigma (8 channels out) and the fixed positions."""
    with torch.device("meta"):
        net = DiT(4, 32, 1000, patch=2, width=width, depth=depth, heads=heads, out_channels=8)
        out = net(torch.zeros(1, 4, 32, 32), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    assert out.shape == (1, 8, 32, 32)
    count = sum(tensor.numel() for tensor in net.state_dict().values())
    assert round(count / 1e6, 1) == published


def test_digits_unet_is_small() -> None:
    net = UNet(channels=1, size=8, num_classes=10, width=16, multipliers=(1, 2), blocks=1, attention=())
    assert 0.12e6 < sum(parameter.numel() for parameter in net.parameters()) < 0.16e6


@pytest.mark.parametrize("kind", KINDS)
def test_config_rebuilds_the_network(kind: str) -> None:
    net = awake(kind)
    again = type(net)(**json.loads(json.dumps(net.config)))
    assert again.config == net.config
    assert (again.channels, again.size, again.num_classes) == (2, 8, 3)
    again.load_state_dict(net.state_dict())
    x, time, labels = inputs()
    assert torch.equal(again.eval()(x, time, labels), net(x, time, labels))


@pytest.mark.parametrize("kind", KINDS)
def test_network_built_on_meta_takes_weights(kind: str) -> None:
    net = awake(kind)
    with torch.device("meta"):
        empty = build(kind)
    empty.to_empty(device="cpu").load_state_dict(net.state_dict())
    x, time, labels = inputs()
    assert torch.equal(empty.eval()(x, time, labels), net(x, time, labels))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_see_each_other(kind: str) -> None:
    net = awake(kind).train()
    x, time, labels = inputs()
    other = x.clone(), time.clone(), labels.clone()
    other[0][1:] = 5.0 * other[0][1:].flip(0) + 1.0
    other[1][1:] += 3.0
    other[2][1:] = 2
    first, changed = net(x, time, labels), net(*other)
    torch.testing.assert_close(changed[0], first[0], atol=1e-5, rtol=0)
    assert (changed[1:] - first[1:]).abs().amax() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_every_parameter_learns(kind: str, num_classes: int) -> None:
    """Zero-initialised layers hold back some gradients at first; DDP needs all of them to exist from the first step."""
    net = build(kind, num_classes=num_classes)
    x, time, labels = inputs()
    given = labels if num_classes else None
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        (net(x, time, given) - x.flip(3)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
        if step < 3:
            optimizer.step()
    silent = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_labels_are_null_labels(kind: str) -> None:
    net = awake(kind)
    x, time, labels = inputs()
    null = net(x, time)
    assert torch.equal(null, net(x, time, torch.full_like(labels, net.num_classes)))
    assert all((null[i] - net(x, time, labels)[i]).abs().max() > 1e-3 for i in range(len(x)))


@pytest.mark.parametrize("kind", KINDS)
def test_overfits_with_time_and_class(kind: str) -> None:
    """Every image is the same: only time and class can tell the targets apart."""
    net = build(kind).train()
    x = inputs(1)[0].expand(6, -1, -1, -1)
    time = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    target = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2 if kind == "unet" else 3e-3)
    losses: list[float] = []
    for _ in range(100):
        loss = (net(x, time, labels) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    with torch.no_grad():
        out = net(x, time, labels)
        assert (net(x, -time, labels) - out).square().mean() > 0.5
        assert (net(x, time, (labels + 1) % 3) - out).square().mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("span", [5.0, 1000.0])
def test_small_and_large_times_matter(kind: str, span: float) -> None:
    net = awake(kind)
    x, _, labels = inputs()
    near, far = (
        net(x[:1].expand(2, -1, -1, -1), torch.tensor([0.5, 0.5 + d]), labels[:2] * 0) for d in (1e-4, span / 10)
    )
    assert (far[0] - far[1]).abs().max() > 1e-4
    assert (near[0] - near[1]).abs().max() < 1e-2 * (far[0] - far[1]).abs().max()


def test_sinusoid_is_float32_and_geometric() -> None:
    time = torch.tensor([-3.25, 0.0, 999.0])
    got = sinusoid(time, 8, scale=2.0)
    assert got.dtype == torch.float32
    for i in range(4):
        angle = time.double() * 2.0 * 10_000.0 ** (-i / 4)
        torch.testing.assert_close(got[:, i].double(), angle.cos(), atol=1e-3, rtol=0)
        torch.testing.assert_close(got[:, 4 + i].double(), angle.sin(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_float64_agrees(kind: str) -> None:
    net = awake(kind)
    x, time, labels = inputs()
    single = net(x, time, labels)
    double = net.double()(x.double(), time, labels)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast_agrees(kind: str) -> None:
    net = awake(kind).train()
    x, time, labels = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, time, labels)
    single = net(x, time, labels)
    assert half.dtype == torch.float32
    assert (half - single).norm() < 0.05 * single.norm()
    half.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_unet_takes_other_sizes_and_layouts() -> None:
    net = awake("unet")
    _, time, labels = inputs()
    x = torch.randn(4, 2, 12, 6, generator=torch.Generator().manual_seed(4))
    out = net(x, time, labels)
    assert out.shape == x.shape
    net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's overloads leave it out
    last = net(x.contiguous(memory_format=torch.channels_last), time, labels)
    torch.testing.assert_close(last, out, atol=1e-5, rtol=1e-4)


def test_unet_dropout_only_in_training() -> None:
    net = UNet(2, 8, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.5)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, time, _ = inputs()
    assert not torch.equal(net(x, time), net(x, time))
    net.eval()
    assert torch.equal(net(x, time), net(x, time))


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_inputs_are_refused(kind: str) -> None:
    net = build(kind)
    x, time, labels = inputs()
    wrong: list[tuple[str, tuple[Tensor, Tensor, Tensor | None]]] = [
        (r"x has shape \(4, 1, 8, 8\)", (x[:, :1], time, labels)),
        (r"x has shape \(4, 2, 7, 8\)", (x[:, :, 1:], time, labels)),
        (r"x has shape \(2, 8, 8\)", (x[0], time, labels)),
        (r"time is .* of shape \(\)", (x, time[0], labels)),
        (r"time is .* of shape \(3,\)", (x, time[1:], labels)),
        (r"time is torch.float64", (x, time.double(), labels)),
        (r"time is torch.int64", (x, labels, labels)),
        (r"labels is .* of shape \(3,\)", (x, time, labels[1:])),
        (r"labels is .* of shape \(4, 3\)", (x, time, nn.functional.one_hot(labels))),
        (r"labels is torch.int32", (x, time, labels.int())),
    ]
    for message, arguments in wrong:
        with pytest.raises(ValueError, match=message):
            net(*arguments)
    with pytest.raises(ValueError, match="num_classes is 0"):
        build(kind, num_classes=0)(x, time, labels)


def test_wrong_arguments_are_refused() -> None:
    unet: list[tuple[str, dict[str, object]]] = [
        ("channels is 0", {"channels": 0}),
        ("width is -8", {"width": -8}),
        ("blocks is 0", {"blocks": 0}),
        ("head_width is 0", {"head_width": 0}),
        ("num_classes is -1", {"num_classes": -1}),
        ("multipliers is", {"multipliers": []}),
        ("multipliers is", {"multipliers": [1, 0]}),
        ("size is 30", {"size": 30}),
        (r"attention has \[15\], but the levels are at \[32, 16, 8\]", {"attention": [16, 15]}),
        ("head_width is 48", {"head_width": 48}),
        ("dropout is 1.0", {"dropout": 1.0}),
        ("time_scale is 0.0", {"time_scale": 0.0}),
        ("time_scale is nan", {"time_scale": math.nan}),
    ]
    dit: list[tuple[str, dict[str, object]]] = [
        ("depth is 0", {"depth": 0}),
        ("out_channels is 0", {"out_channels": 0}),
        ("size is 31", {"size": 31}),
        ("width is 390", {"width": 390}),
        ("width is 384", {"heads": 5}),
        ("mlp_ratio is 0.0", {"mlp_ratio": 0.0}),
        ("num_classes is -1", {"num_classes": -1}),
    ]
    with torch.device("meta"):
        for kind, cases in ((UNet, unet), (DiT, dit)):
            for message, arguments in cases:
                with pytest.raises(ValueError, match=message):
                    kind(**arguments)  # pyright: ignore[reportArgumentType]


def test_attend_is_softmax_attention() -> None:
    q, k, v = torch.randn(3, 2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    expected = (q @ k.transpose(2, 3) / 2.0).softmax(dim=3) @ v
    torch.testing.assert_close(attend(q, k, v), expected)
