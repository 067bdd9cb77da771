"""DDPM++ and NCSN++: their size, their parts' closed forms, and the house's contract of a network."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sfumato.diffusion.backbones import DDPMPP
from sfumato.diffusion.backbones.resample import BOX, halve, twice
from sfumato.diffusion.backbones.song_blocks import BINOMIAL, OneHead, Pyramid, Residual, Waves
from sfumato.diffusion.recompute import recompute_blocks

KINDS = ["ddpmpp", "ncsnpp"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(kind="ddpmpp", num_classes=3, **more):
    torch.manual_seed(0)
    values = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "augment_features": 2, **more}
    return DDPMPP(2, 8, num_classes, architecture=kind, **values)


def awake(kind="ddpmpp", **more):
    """One whose nearly silent layers speak."""
    net = build(kind, **more)
    for parameter in net.parameters():
        if parameter.detach().abs().max() < 1e-3:
            nn.init.normal_(parameter, std=0.1)
    return net.eval()


def inputs(batch=4):
    random = torch.Generator().manual_seed(2)
    return torch.randn(batch, 2, 8, 8, generator=random), torch.linspace(-1.4, 1.1, batch), torch.arange(batch) % 3


def count(width, multipliers, blocks, attention, levels, classes, augment, channels=3):
    """Parameters of DDPM++ by what its blocks hold: two norms, two convolutions, the conditioning, a skip where it is no identity."""

    def block(before, after, attends, moved=False):
        own = 2 * before + (9 * before + 1) * after + (4 * width + 1) * after + 2 * after + (9 * after + 1) * after
        skip = (before + 1) * after if moved or before != after else 0
        return own + skip + (2 * after + 4 * (after + 1) * after if attends else 0)

    widths = [m * width for m in multipliers]
    total, heights = (9 * channels + 1) * width, [width]
    for i, after in enumerate(widths):
        if i:
            total += block(heights[-1], heights[-1], False, True)
            heights.append(heights[-1])
        for _ in range(blocks):
            total += block(heights[-1], after, levels[i] in attention)
            heights.append(after)
    now = heights[-1]
    total += block(now, now, True) + block(now, now, False)
    for i in reversed(range(len(widths))):
        if i < len(widths) - 1:
            total += block(now, now, False, True)
        for j in range(blocks + 1):
            total += block(now + heights.pop(), widths[i], levels[i] in attention and j == blocks)
            now = widths[i]
    mapping = (
        (width + 1) * 4 * width + (4 * width + 1) * 4 * width + augment * width + (classes + 1) * width * (classes > 0)
    )
    return total + mapping + 2 * now + (9 * now + 1) * channels


@pytest.mark.parametrize(("classes", "exact"), [(0, 55_733_891), (10, 55_735_299)])
def test_edms_network_for_cifar10_has_its_size_and_cost(classes, exact):
    """55.7 M and 21.2 GMAC: 2206.00364, table 7, and a count of the published network's operations."""
    with torch.device("meta"):
        net = DDPMPP(3, 32, classes, augment_features=9)
        with FlopCounterMode(display=False) as flops:
            out = net(torch.zeros(1, 3, 32, 32), torch.zeros(1))
    assert out.shape == (1, 3, 32, 32)
    assert sum(p.numel() for p in net.parameters()) == exact
    assert exact == count(128, (2, 2, 2), 4, (16,), (32, 16, 8), classes, 9)
    assert round(flops.get_total_flops() / 2e9, 2) == 21.19


def test_edms_network_for_faces_is_counted_likewise():
    with torch.device("meta"):
        net = DDPMPP(3, 64, multipliers=(1, 2, 2, 2), augment_features=9)
    assert (
        sum(p.numel() for p in net.parameters())
        == count(128, (1, 2, 2, 2), 4, (16,), (64, 32, 16, 8), 0, 9)
        == 61_805_571
    )


@pytest.mark.parametrize("taps", [BOX, BINOMIAL])
def test_half_and_twice_the_resolution_are_transposes(taps):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 8, generator=random, dtype=torch.float64)
    y = torch.randn(2, 3, 4, 4, generator=random, dtype=torch.float64)
    assert float((halve(x, taps) * y).sum()) == pytest.approx(float((x * twice(y, taps)).sum()) / 4, rel=1e-12)
    flat = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(halve(flat, taps)[:, :, 1:-1, 1:-1], torch.ones(1, 1, 2, 2, dtype=torch.float64))
    torch.testing.assert_close(twice(flat, taps)[:, :, 2:-2, 2:-2], torch.ones(1, 1, 12, 12, dtype=torch.float64))
    # a wave of the highest frequency is gone
    wave = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64).expand(1, 1, 8, 8)
    assert not halve(wave, taps)[..., 1:-1].any()


def test_the_mean_of_two_by_two_is_the_filter_of_two_ones():
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(halve(x, BOX), halve(x, (2, 2)))
    torch.testing.assert_close(twice(x, BOX), twice(x, (2, 2)))


def test_the_pyramid_is_one_convolution_with_zeros_around_the_picture():
    torch.manual_seed(0)
    layer = Pyramid(2, 3).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    # a filter after a convolution is one convolution by the two kernels' convolution
    kernel = torch.outer(line, line)[None, None]
    joint = F.conv_transpose2d(layer.weight.flatten(0, 1)[:, None], kernel).view(3, 2, 6, 6)
    expected = F.conv2d(x, joint, layer.bias, stride=2, padding=2)
    torch.testing.assert_close(layer(x), expected)


def test_waves_are_sines_then_cosines_at_frequencies_with_both_ends():
    time = torch.tensor([-1.5, 0.0, 1.1])
    found = Waves(8, fourier=False)(time)
    rates = torch.tensor([1.0, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4], dtype=torch.float64)
    angles = time.double()[:, None] * rates
    torch.testing.assert_close(found.double(), torch.cat([angles.sin(), angles.cos()], 1), atol=1e-6, rtol=0)
    torch.manual_seed(0)
    random = Waves(4096, fourier=True)
    frequencies = random.get_buffer("frequencies")
    assert float(frequencies.std()) == pytest.approx(16, rel=5 / math.sqrt(2 * 2048))
    assert random.each == len(frequencies)
    torch.testing.assert_close(random(time).square().sum(1), torch.full((3,), 2048.0))


def test_a_block_begins_as_its_skip_over_root_two():
    """The last layer of a branch starts at a hundred thousandth."""
    torch.manual_seed(0)
    block = Residual(8, 8, 16, 0.0, attention=True)
    x = torch.randn(3, 8, 4, 4)
    torch.testing.assert_close(
        block(x, torch.randn(3, 16)), x / 2, atol=1e-4, rtol=0
    )  # once per sum, and there are two


def test_the_network_starts_near_zero():
    x, time, labels = inputs()
    assert 0 < float(build()(x, time, labels).detach().abs().max()) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_config_rebuilds_the_network_and_meta_takes_its_weights(kind):
    net = awake(kind)
    with torch.device("meta"):
        again = DDPMPP(**json.loads(json.dumps(net.config)))
    assert again.config == net.config
    again.to_empty(device="cpu").load_state_dict(net.state_dict())
    x, time, labels = inputs()
    assert torch.equal(again.eval()(x, time, labels), net(x, time, labels))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_see_each_other(kind):
    net = awake(kind)
    x, time, labels = inputs()
    whole = net(x, time, labels)
    for i in range(len(x)):
        torch.testing.assert_close(
            net(x[i : i + 1], time[i : i + 1], labels[i : i + 1])[0], whole[i], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("kind", KINDS)
def test_time_class_and_augmentation_are_heard_and_no_label_is_the_null_class(kind):
    net = awake(kind)
    x, time, labels = inputs()
    out = net(x, time, labels)
    for other in (
        net(x, time + 0.5, labels),
        net(x, time, (labels + 1) % 3),
        net(x, time, labels, augment=torch.ones(4, 2)),
    ):
        assert float((other - out).detach().abs().amax((1, 2, 3)).min()) > 1e-3
    assert torch.equal(net(x, time), net(x, time, torch.full_like(labels, 3)))
    assert torch.equal(out, net(x, time, labels, augment=torch.zeros(4, 2)))
    # the null class is what the class layer says to no class: its bias, and no parameter more
    assert net.label is not None
    nn.init.zeros_(net.label.weight)
    assert torch.equal(net(x, time, labels), net(x, time))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns_and_blocks_can_be_recomputed(kind):
    net, again = awake(kind, dropout=0.3).train(), awake(kind, dropout=0.3).train()
    recompute_blocks(again)
    x, time, labels = inputs()
    for made in (net, again):
        torch.manual_seed(1)
        made(x, time, labels, augment=torch.ones(4, 2)).square().sum().backward()
    for (name, one), other in zip(net.named_parameters(), again.parameters(), strict=True):
        assert one.grad is not None, name
        assert one.grad.any(), name
        assert torch.equal(one.grad, other.grad), name  # pyright: ignore[reportArgumentType]


def test_an_augmentation_s_layer_leaves_the_other_weights_alone():
    told, deaf = build().state_dict(), build(augment_features=0).state_dict()
    assert told.keys() - deaf.keys() == {"told.weight"}
    assert all(torch.equal(told[k], deaf[k]) for k in deaf)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_and_double_agree_with_single(kind):
    net = awake(kind)
    x, time, labels = inputs()
    single = net(x, time, labels)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, time, labels)
    assert half.dtype == torch.float32
    assert float((half - single).detach().norm() / single.detach().norm()) < 0.05
    double = net.double()(x.double(), time, labels)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-4, rtol=1e-4)


def test_other_sizes_and_two_output_channels_per_channel():
    net = awake(out_channels=4)
    assert net(torch.zeros(1, 2, 12, 6), torch.zeros(1)).shape == (1, 4, 12, 6)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"width": 6}, "width is 6; allowed: multiples of 4"), ({"architecture": "ddpm"}, "architecture is .ddpm.; allowed: ddpmpp"),
        ({"num_classes": -1}, "num_classes is -1"), ({"multipliers": []}, "multipliers is"), ({"blocks": 0}, "blocks is 0"),
        ({"attention": [15]}, "attention has"), ({"dropout": 1.0}, "dropout is 1.0"), ({"out_channels": 0}, "out_channels is 0"),
        ({"augment_features": -1}, "augment_features is -1"), ({"size": 30}, "size is 30"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(values, said):
    with torch.device("meta"), pytest.raises(ValueError, match=said):
        DDPMPP(**values)


def test_wrong_inputs_are_refused():
    net = build()
    x, time, labels = inputs()
    for said, arguments in (
        (r"x has shape \(4, 1, 8, 8\)", (x[:, :1], time, labels)), (r"x has shape \(4, 2, 7, 8\)", (x[:, :, 1:], time, labels)),
        (r"time is .* of shape \(3,\)", (x, time[1:], labels)), (r"time is torch.float64", (x, time.double(), labels)),
        (r"labels is .* of shape \(3,\)", (x, time, labels[1:])), (r"labels is torch.int32", (x, time, labels.int())),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            net(*arguments)
    with pytest.raises(ValueError, match="num_classes is 0"):
        build(num_classes=0)(x, time, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_norms_divide_by_no_more_than_edms(kind):
    """A GroupNorm of white noise with variance 1e-6, its epsilon, halves the variance."""
    norms = [module for module in build(kind).modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) > 10
    x = torch.randn(1, 1, 64, 64, generator=torch.manual_seed(0))
    x = 1e-3 * (x - x.mean()) / x.std(correction=0)
    for module in norms:
        out = module(x.expand(1, module.num_channels, 64, 64))
        assert float(out.detach().var(correction=0)) == pytest.approx(0.5, rel=1e-4)


def test_queries_keys_and_values_begin_with_a_fifth_of_glorots_variance():
    torch.manual_seed(0)
    block = OneHead(64)
    bound = math.sqrt(0.2 * 6 / (64 + 3 * 64))
    assert 0.999 * bound < float(block.qkv.weight.detach().abs().max()) <= bound
    assert float(block.qkv.weight.detach().var()) == pytest.approx(bound**2 / 3, rel=0.05)
