"""EDM2's promises: magnitudes stay, weights keep their norm, and neither the trainer nor a checkpoint notices."""

import copy
import json
import math

import pytest
import torch
from children import pair
from faulted import numbers, same, tiny
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sfumato.diffusion import load, train
from sfumato.diffusion.backbones import EDM2
from sfumato.diffusion.backbones.magnitude import (
    CLOSE,
    SILU,
    TINY,
    MPLayer,
    MPWaves,
    force_weights,
    mp_cat,
    mp_sum,
    normalised,
)
from sfumato.diffusion.backbones.magnitude_blocks import LARGEST, RESIDUAL, CosineAttention, MPBlock
from sfumato.diffusion.interrupt import Told
from sfumato.diffusion.run import Run


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(num_classes=3, seed=0, **more):
    torch.manual_seed(seed)
    values = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "head_width": 8, **more}
    return EDM2(2, 8, num_classes, **values)


def awake(**more):
    """One whose gains, zero at first, are open."""
    net = build(**more)
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.constant_(parameter, 0.7)
    return net.eval()


def inputs(batch=4):
    random = torch.Generator().manual_seed(2)
    return torch.randn(batch, 2, 8, 8, generator=random), torch.linspace(-1.4, 1.1, batch), torch.arange(batch) % 3


def rms(x, *dims):
    return x.detach().double().square().mean(dims or None).sqrt()


def layers(net):
    return [layer for layer in net.modules() if isinstance(layer, MPLayer)]


@pytest.mark.parametrize(
    ("width", "exact", "gmac"), [(128, 124_713_125, 44.95), (192, 280_212_709, 100.82), (448, 1_523_164_645, 546.91)]
)
def test_edm2_has_its_published_size_and_cost(width, exact, gmac):
    """Table 2 of 2312.02696: 125, 280 and 1523 M. Operations as counted of the published networks, where what resamples is a convolution,
    too, and here it is none: two hundred-thousandths."""
    with torch.device("meta"):
        net = EDM2(4, 64, 1000, width)
        with FlopCounterMode(display=False) as flops:
            net(torch.zeros(1, 4, 64, 64), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    assert sum(p.numel() for p in net.parameters()) == exact
    assert flops.get_total_flops() / 2e9 == pytest.approx(gmac, abs=0.006 + 2e-5 * gmac)
    # again, by what the layers of a level hold: convolutions 9 channels^2, and the conditioning's 4 width
    assert exact == count(width)


def count(width, multipliers=(1, 2, 3, 4), blocks=3, attends=(False, False, True, True), classes=1000, channels=4):
    def block(before, after, down, attention):
        return (
            1
            + 9 * (after if down else before) * after
            + 4 * width * after
            + 9 * after**2
            + before * after * (before != after)
            + 4 * after**2 * attention
        )

    widths, total, skips = [m * width for m in multipliers], 9 * (channels + 1) * width, [width]
    for i, after in enumerate(widths):
        if i:
            total += block(skips[-1], skips[-1], True, False)
            skips.append(skips[-1])
        for _ in range(blocks):
            total += block(skips[-1], after, True, attends[i])
            skips.append(after)
    now = skips[-1]
    total += block(now, now, False, True) + block(now, now, False, False)
    for i in reversed(range(len(widths))):
        total += block(now, now, False, False) if i < len(widths) - 1 else 0
        for _ in range(blocks + 1):
            total += block(now + skips.pop(), widths[i], False, attends[i])
            now = widths[i]
    return total + 9 * now * channels + 1 + 4 * width * (width + classes)


def test_sums_of_what_is_uncorrelated_keep_the_magnitude():
    """Exactly: columns of a Hadamard matrix are at right angles and of magnitude 1."""
    a = torch.tensor([[1.0, 1, 1, 1]], dtype=torch.float64)
    b = torch.tensor([[1.0, -1, 1, -1]], dtype=torch.float64)
    for share in (0.0, 0.3, 0.5, 1.0):
        assert float(rms(mp_sum(a, b, share))) == pytest.approx(1, rel=1e-12)
    assert torch.equal(mp_sum(a, b, 0.0), a)
    assert torch.equal(mp_sum(a, b, 1.0), b)
    # what is the same adds up
    assert float(rms(mp_sum(a, a, 0.3))) == pytest.approx(1 / math.hypot(0.7, 0.3), rel=1e-12)


def test_a_concatenation_has_magnitude_one_and_shares_by_weight_not_by_channels():
    a, b = torch.ones(2, 3, 4, 4, dtype=torch.float64), -torch.ones(2, 29, 4, 4, dtype=torch.float64)
    for share in (0.3, 0.5):
        both = mp_cat(a, b, share)
        assert float(rms(both)) == pytest.approx(1, rel=1e-12)
        parts = [float(part.square().sum()) for part in both.split([3, 29], dim=1)]
        assert parts[1] / parts[0] == pytest.approx((share / (1 - share)) ** 2, rel=1e-12)


def test_the_constant_of_silu_is_its_magnitude():
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    exact = math.sqrt(float(torch.trapezoid(torch.nn.functional.silu(z).square() * density, z)))
    assert round(exact, 3) == SILU


def test_waves_have_magnitude_one():
    torch.manual_seed(0)
    features = 4096
    out = MPWaves(features)(torch.tensor([-1.5, 0.0, 2.0]))
    # each is 2 cos^2 of a uniform phase: mean 1, variance 1/2
    assert float((out.square().mean(1) - 1).abs().max()) < 5 * math.sqrt(0.5 / features)


@pytest.mark.parametrize("kernel", [0, 1, 3])
def test_a_layer_keeps_the_magnitude_but_for_what_is_cut_off(kernel):
    """White noise in: every output has variance 1 / (1 + TINY)^2, and a 3x3 convolution loses the taps that lie outside of the picture,
    (3 N - 2)^2 of (3 N)^2 on average over positions. Five deviations of what a sample of this size shows, or of random weights there."""
    torch.manual_seed(0)
    size, before, after, batch = 12, 24, 64, 16
    layer = MPLayer(before, after, kernel)
    x = torch.randn(batch, before, *([size, size] if kernel else []))
    expected = ((3 * size - 2) / (3 * size)) ** 2 if kernel == 3 else 1.0
    count = (
        batch * after * (size**2 / 9 if kernel == 3 else size**2 if kernel else 1)
    )  # outputs that share no input, at least
    assert float(rms(layer(x)) ** 2) == pytest.approx(expected, abs=5 * math.sqrt(2 / count) + 2 * TINY)


def test_at_the_start_every_block_keeps_the_magnitude_that_it_is_given():
    """A sum keeps it where both terms have it. A branch has at most that much: zeros around the picture and the averages of attention only
    take away. So a sum comes out with between 0.7 / hypot(0.7, 0.3) = 0.92 and 1 of it, a block with attention makes two. Weights are
    random, so a magnitude scatters: where all that a layer sees is one direction, the worst case, by sqrt(1 / (2 channels)); allowed are
    two of these for each block of a network, and two by the root of their number for the mean over networks."""
    seeds, found, outs = 4, [], []

    def note(module, given, out):
        expected = 1.0 if getattr(module, "down", False) else float(rms(given[0]))
        sums = 1 if isinstance(module, CosineAttention) else 2 - isinstance(module.attention, nn.Identity)
        seen.append((float(rms(out)) / expected, sums))

    for seed in range(seeds):
        seen = []
        torch.manual_seed(seed)
        net = EDM2(4, 32, 10, 64, (1, 2, 2), 2, (8,), 32)
        nn.init.ones_(net.gain)
        for module in net.modules():
            if isinstance(module, MPBlock | CosineAttention):
                module.register_forward_hook(note)
        with torch.no_grad():
            outs.append(float(rms(net(torch.randn(2, 4, 32, 32), torch.randn(2), torch.randint(0, 10, (2,))))))
        found.append(torch.tensor(seen, dtype=torch.float64))
    ratios, sums = torch.stack(found).unbind(2)
    assert ratios.shape == (seeds, 8 + 2 + 11 + 6)
    least, scatter = ((1 - RESIDUAL) / math.hypot(1 - RESIDUAL, RESIDUAL)) ** sums[0], 2 * math.sqrt(1 / (2 * 64))
    for some, allowed in ((ratios, scatter), (ratios.mean(0, keepdim=True), scatter / math.sqrt(seeds))):
        assert bool(((least - allowed < some) & (some < 1 + allowed)).all()), some
    assert 0.8 < sum(outs) / seeds < 1.05  # after 21 blocks


def test_the_output_starts_at_zero_by_its_gain_and_conditioning_at_none():
    net, (x, time, labels) = build(), inputs()
    assert not net(x, time, labels).any()
    nn.init.ones_(net.gain)
    assert torch.equal(net(x, time, labels), net(x, time + 1, labels * 0))


def test_the_function_does_not_depend_on_the_scale_of_weights():
    """But for TINY beside a magnitude: less than TINY / scale per layer."""
    net, (x, time, labels) = awake().double(), inputs()
    x = x.double()
    out = net(x, time, labels).detach()
    scaled = copy.deepcopy(net)
    for scale in (10.0, 1000.0):
        with torch.no_grad():
            for now, layer in zip(layers(scaled), layers(net), strict=True):
                now.weight.copy_(scale * layer.weight)
        exact = scaled(x, time, labels).detach()
        assert float((exact - out).norm() / out.norm()) < len(layers(net)) * 2 * TINY
    with torch.no_grad():
        for now in layers(scaled):
            now.weight.mul_(7.0)
    assert float((scaled(x, time, labels) - exact).detach().norm() / out.norm()) < len(layers(net)) * 2 * TINY / 1000


def test_gradients_stand_at_right_angles_to_weights():
    """What a function of w / |w| must have; so a step always makes weights longer, which is what is undone."""
    net, (x, time, labels) = awake().double(), inputs()
    net(x.double(), time, labels).square().sum().backward()
    for layer in layers(net):
        gradient, weight = layer.weight.grad.flatten(1), layer.weight.detach().flatten(1)
        along = (gradient * weight).sum(1).abs() / (gradient.norm(dim=1) * weight.norm(dim=1)).clamp_min(1e-30)
        assert (
            float(along.max()) < 50 * TINY
        )  # TINY / magnitude of the gradient itself, where that is small beside what cancels


def magnitudes(net):
    return torch.cat([rms(layer.weight.flatten(1), 1) for layer in layers(net)])


def test_training_gives_weights_their_magnitude_back_and_nothing_else_does():
    net, (x, time, labels) = awake().train(), inputs()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x, time, labels) - x.flip(3)).square().mean().backward()
        optimizer.step()
    moved = magnitudes(net)
    assert float((moved - 1).abs().max()) > 1e-3
    out = net.eval()(x, time, labels)
    assert torch.equal(magnitudes(net), moved)
    before = copy.deepcopy(net.state_dict())
    forced = net.train()(x, time, labels)
    assert float((magnitudes(net) - 1).abs().max()) <= CLOSE
    assert float((forced - out).detach().norm() / out.detach().norm()) < len(layers(net)) * TINY
    held = {f"{name}.weight" for name, m in net.named_modules() if isinstance(m, MPLayer)}
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items() if k not in held)
    # a second time leaves every bit
    again = copy.deepcopy(net)
    force_weights(again)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_a_network_may_be_asked_twice_before_the_backward_pass():
    net, (x, time, labels) = awake().train(), inputs()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
    once = copy.deepcopy(net)
    (net(x, time, labels) + net(x.flip(3), time, labels)).square().sum().backward()
    force_weights(once)
    once.eval()
    (once(x, time, labels) + once(x.flip(3), time, labels)).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(net.parameters(), once.parameters(), strict=True))


def test_attention_is_on_vectors_of_magnitude_one():
    torch.manual_seed(0)
    module, x = CosineAttention(8, 4).double(), torch.randn(2, 8, 3, 3, dtype=torch.float64)
    qkv = module.qkv(x).view(2, 3, 2, 4, 9)
    q, k, v = (normalised(part, (2,)) for part in qkv.unbind(1))
    weight = (torch.einsum("bhdq,bhdk->bhqk", q, k) / 2).softmax(3)
    out = torch.einsum("bhqk,bhdk->bhdq", weight, v).reshape(2, 8, 3, 3)
    expected = mp_sum(x, module.out(out), RESIDUAL)
    torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(
        module(1e3 * x) - 0.7 / math.hypot(0.7, 0.3) * 1e3 * x,
        expected - 0.7 / math.hypot(0.7, 0.3) * x,
        atol=1e-3,
        rtol=0,
    )


def test_activations_are_cut_for_half_precision():
    torch.manual_seed(0)
    block = MPBlock(8, 8, 8, False, 0.0, None)
    assert float(block(torch.full((1, 8, 4, 4), 1e4), torch.zeros(1, 8)).detach().abs().max()) == LARGEST


def test_config_rebuilds_the_network_and_meta_takes_its_weights():
    net = awake()
    with torch.device("meta"):
        again = EDM2(**json.loads(json.dumps(net.config)))
    assert again.config == net.config
    again.to_empty(device="cpu").load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(*inputs()), net(*inputs()))


def test_time_and_class_are_heard_and_no_label_is_the_null_class():
    net, (x, time, labels) = awake(), inputs()
    out = net(x, time, labels).detach()
    for other in (net(x, time + 0.5, labels), net(x, time, (labels + 1) % 3)):
        assert float((other - out).detach().abs().amax((1, 2, 3)).min()) > 1e-3
    assert torch.equal(net(x, time), net(x, time, torch.full_like(labels, 3)))
    for i in range(len(x)):
        torch.testing.assert_close(net(x[i : i + 1], time[i : i + 1], labels[i : i + 1])[0], out[i], atol=1e-5, rtol=0)


def test_a_class_is_told_with_magnitude_one_and_the_null_class_with_none():
    net, (x, time, _), seen = awake(), inputs(), []
    net.ends["label"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(x, time, torch.tensor([2, 0, 3, 1]))
    torch.testing.assert_close(seen[0], math.sqrt(3) * torch.eye(4)[[2, 0, 3, 1], :3])
    torch.testing.assert_close(rms(seen[0], 1), torch.tensor([1.0, 1, 0, 1], dtype=torch.float64))


def test_half_precision_and_double_agree_with_single():
    net, (x, time, labels) = awake(), inputs()
    single = net(x, time, labels).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, time, labels)
    assert half.dtype == torch.float32
    assert float((half - single).detach().norm() / single.norm()) < 0.05
    torch.testing.assert_close(single.double(), net.double()(x.double(), time, labels), atol=1e-4, rtol=1e-4)


def small(dropout=0.1, **changes):
    torch.manual_seed(0)
    net = EDM2(1, 2, 3, 8, (1,), 1, (2,), 4, dropout=dropout)
    nn.init.constant_(net.gain, 0.5)
    return tiny(backbone=net, lr=0.02, save_every=0, **changes)


def stop_at(step, recipe, folder):
    """Make the first steps of a run, and save."""
    run = Run(recipe, folder, Told())
    try:
        run.claim(True, False)
        run.backbone.train()
        while run.step < step:
            run.make()
        run.save()
    finally:
        run.close()


def test_runs_are_the_same_to_the_bit_though_they_stopped(tmp_path):
    """And where blocks are computed twice, and where previews and validation ask in between."""
    train(small(), tmp_path / "whole", progress=False)
    whole = numbers(tmp_path / "whole")
    for step in (3, 7):
        stop_at(step, small(), tmp_path / "stopped")
    for name, changes in (
        ("stopped", {}), ("recomputed", {"gradient_checkpointing": True}),
        ("watched", {"sample_every": 2, "validation": tiny().data, "validate_every": 3}),
    ):  # fmt: skip
        train(small(**changes), tmp_path / name, resume=True, progress=False)
        assert same(whole, numbers(tmp_path / name)), name
    weights = {k: v for k, v in whole[1].items() if k.endswith("weight")}
    # what is saved is what the optimizer left, and its average: the last move is undone by the next call only
    away = {
        k: float((rms(v.flatten(1), 1) - 1).abs().max()) for k, v in weights.items() if k.startswith(("model/", "ema/"))
    }
    assert 1e-4 < max(away.values()) < 0.2


def test_an_average_is_what_its_directions_say(tmp_path):
    train(small(), tmp_path, progress=False)
    model = load(tmp_path)
    out = model.sample(seeds=[0], labels=[1], steps=2).images
    force_weights(model.denoiser.backbone)
    torch.testing.assert_close(model.sample(seeds=[0], labels=[1], steps=2).images, out, atol=20 * TINY, rtol=0)


def test_two_processes_make_the_run_of_one_within_rounding(tmp_path):
    """With micro-batches, which share a batch out otherwise; and in parts, where weights that are forced as gathered would be lost."""

    def trained(rank):
        for parallel in ("ddp", "fsdp"):
            train(small(0.0, steps=4, batch=6, micro_batch=2, parallel=parallel), tmp_path / parallel, progress=False)

    assert [child.ended() for child in pair(trained, tmp_path / "log")] == [0, 0]
    train(small(0.0, steps=4, batch=6), tmp_path / "one", progress=False)
    one = numbers(tmp_path / "one")
    for parallel in ("ddp", "fsdp"):
        two = numbers(tmp_path / parallel)
        assert one[0] == two[0] == 4
        apart = max(float((one[1][k] - two[1][k]).abs().max()) for k in one[1] if k.startswith(("model/", "ema/")))
        assert apart < 1e-4, parallel
