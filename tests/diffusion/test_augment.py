"""Augmentation against closed forms: flips, quarter turns, shifts, scales; and what the networks make of what is told."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.diffusion import Denoiser, DiT, TimeClock, UNet
from sfumato.diffusion.augment import Augment, Flip
from sfumato.diffusion.edm_augment import EDMAugment
from sfumato.diffusion.warp import warp
from sfumato.schedules import Cosine, Stream, V, uniform
from sfumato.schedules.parts import build, describe

OFF = 0.999  # a number that is no part of any share below


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(batch=3, size=8, channels=2):
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))


def numbers(**on):
    """The 13 uniform numbers of one sample, of what is done to it: a2 to a7 of the table, a0 and a1 as true or false."""
    inverse = NormalDist().cdf
    u = [OFF] * 13
    u[0] = 0.1 if on.get("a0") else 0.9
    if on.get("a1"):
        u[1], u[2] = 0.0, 0.1
    if "a2" in on:
        u[3], u[4] = 0.0, inverse(on["a2"])
    if "a3" in on:
        u[5], u[6] = 0.0, (on["a3"] / math.pi + 1) / 2
    if "a5" in on:
        u[7], u[8], u[9] = 0.0, (on["a4"] / math.pi + 1) / 2, inverse(on["a5"])
    if "a6" in on:
        u[10], u[11], u[12] = 0.0, inverse(on["a6"]), inverse(on["a7"])
    return torch.tensor([u], dtype=torch.float64)


def once(x, augment=None, **on):
    done = (augment or EDMAugment())(x, numbers(**on).expand(len(x), -1))
    return done.x, done.told[0]


def drawn(augment, count, seed=0, start=0):
    places = torch.arange(start, start + count)
    return uniform(torch.full_like(places, seed), places, 0, augment.draws, Stream.AUGMENT)


def test_flip_mirrors_its_share_and_tells_nothing():
    x = pictures(1000, 4, 1)
    u = drawn(Flip(0.3), 1000)
    done = Flip(0.3)(x, u)
    mirrored = (u[:, 0] < 0.3).tolist()
    assert abs(sum(mirrored) - 300) < 60
    assert all(torch.equal(done.x[i], x[i].flip(2) if m else x[i]) for i, m in enumerate(mirrored))
    assert done.told is None
    assert torch.equal(Flip(0)(x, u).x, x)
    assert torch.equal(Flip(1)(x, u).x, x.flip(3))
    volume = torch.randn(2, 1, 3, 4, 5)
    assert torch.equal(Flip(1)(volume, u[:2]).x, volume.flip(4))


def test_parts_are_described_and_found():
    for augment in (Flip(0.25), EDMAugment(0.15, mirror=False)):
        assert isinstance(augment, Augment)
        assert build(describe(augment)) == augment


def test_share_zero_is_the_identity_to_the_bit():
    x = pictures(64)
    done = EDMAugment(share=0)(x, drawn(EDMAugment(), 64))
    assert torch.equal(done.x, x)
    assert torch.equal(done.told, torch.zeros(64, 9))


def test_what_is_not_told_was_not_done():
    """Rows of zeros are the very pictures, all others are not; as many of each as the shares say."""
    x, augment = pictures(2000, 4, 1), EDMAugment(0.12)
    done = augment(x, drawn(augment, 2000))
    told = (done.told != 0).any(1)
    same = (done.x == x).flatten(1).all(1)
    assert torch.equal(told, ~same)
    # half are mirrored, 6 in a hundred upside down, and each of the other four 12 in a hundred
    wanted = 0.5 * 0.94 * 0.88**4
    assert abs(float(same.float().mean()) - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / 2000)
    for column, share in ((0, 0.5), (1, 0.06), (2, 0.12), (4, 0.12), (5, 0.12), (7, 0.12), (8, 0.12)):
        assert abs(float((done.told[:, column] != 0).float().mean()) - share) < 4 * math.sqrt(
            share * (1 - share) / 2000
        )


def test_parts_that_are_off_are_not_told():
    augment = EDMAugment(1.0, mirror=False, upside_down=False, scale=1, rotation=0, stretch=1, shift=0)
    x = pictures(32)
    done = augment(x, drawn(augment, 32))
    assert torch.equal(done.x, x)
    assert not done.told.any()


def test_mirrored_and_upside_down_are_exact():
    x = pictures()
    for on, wanted in ((("a0",), x.flip(3)), (("a1",), x.flip(2)), (("a0", "a1"), x.flip(2, 3))):
        done, told = once(x, **dict.fromkeys(on, True))
        assert torch.equal(done, wanted)
        assert told.tolist() == [float("a0" in on), float("a1" in on), *[0.0] * 7]


@pytest.mark.parametrize("size", [8, 7])
def test_quarter_turns_are_exact(size):
    x = pictures(size=size)
    for turns in (-1, 1, 2):
        angle = turns * math.pi / 2
        done, told = once(x, a3=angle * (1 - 1e-15 * (turns == 2)))
        torch.testing.assert_close(done, torch.rot90(x, turns, (2, 3)), atol=1e-12, rtol=2e-7)
        torch.testing.assert_close(told[3:5], torch.tensor([math.cos(angle) - 1, math.sin(angle)]), atol=1e-6, rtol=0)
        assert told.count_nonzero() <= 2


def test_whole_shifts_are_exact_and_continue_by_the_mirror_image():
    x = pictures()
    # an eighth of 8 pixels is 1: a6 = 2 is two pixels to the right, a7 = -3 three up
    done, told = once(x, a6=2.0, a7=-3.0)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="symmetric"))
    torch.testing.assert_close(done, padded[:, :, 6:14, 1:9], atol=1e-12, rtol=2e-7)
    torch.testing.assert_close(told, torch.tensor([0.0] * 7 + [2.0, -3.0]))


def test_halving_is_the_mean_of_blocks():
    x = pictures(size=8)
    done, told = once(x, EDMAugment(scale=2.0), a2=-1.0)
    torch.testing.assert_close(done[:, :, 2:6, 2:6], nn.functional.avg_pool2d(x, 2), atol=1e-6, rtol=0)
    assert told[2] == pytest.approx(-1.0)


def wave(size, batch=1):
    """A picture whose every direction and frequency is its own, smooth next to a pixel; and where it is."""
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    right, down = at.expand(size, size), at[:, None].expand(size, size)
    return right, down, lambda r, d: torch.sin(0.23 * r + 0.11 * d) + torch.cos(0.17 * d - 0.09 * r)


@pytest.mark.parametrize(
    ("on", "back"),
    [
        ({"a2": 1.0}, lambda r, d, s: (r / s, d / s)),
        ({"a2": -1.0}, lambda r, d, s: (r * s, d * s)),
        ({"a4": 0.0, "a5": 1.0}, lambda r, d, s: (r / s, d * s)),
        ({"a4": math.pi / 2, "a5": 1.0}, lambda r, d, s: (r * s, d / s)),
        ({"a3": 0.3}, lambda r, d, s: (r * math.cos(0.3) - d * math.sin(0.3), r * math.sin(0.3) + d * math.cos(0.3))),
        ({"a6": 0.3, "a7": -0.4}, lambda r, d, s: (r - 0.3 * 4, d + 0.4 * 4)),
    ],
)
def test_each_map_moves_a_smooth_picture_as_it_says(on, back):
    """The picture is a function of the plane, so what it becomes is known everywhere; away from the edges."""
    right, down, function = wave(32)
    x = function(right, down)[None, None]
    done, _ = once(x, EDMAugment(scale=1.2, stretch=1.2), **on)
    wanted = function(*back(right, down, 1.2))
    assert (done[0, 0] - wanted)[8:24, 8:24].abs().max() < 0.02
    assert (x[0, 0] - wanted)[8:24, 8:24].abs().max() > 0.2


def test_a_stretch_along_a_diagonal_is_turned_there_and_back():
    """Told by its angle: rotating, stretching and rotating back are the same picture, through other parts."""
    right, down, function = wave(32)
    x = function(right, down)[None, None]
    angle = 0.7
    done, told = once(x, EDMAugment(stretch=1.2), a4=angle, a5=1.0)
    c, s = math.cos(angle), math.sin(angle)
    along, across = (
        (c * right - s * down) / 1.2,
        (s * right + c * down) * 1.2,
    )  # counter-clockwise, where down is positive
    wanted = function(c * along + s * across, -s * along + c * across)
    assert (done[0, 0] - wanted)[8:24, 8:24].abs().max() < 0.02
    torch.testing.assert_close(told[5:7], torch.tensor([c, s]))


def test_a_scale_and_its_inverse_are_nothing():
    right, down, function = wave(32)
    x = function(right, down)[None, None]
    for a2 in (0.7, 1.5):
        back, _ = once(once(x, a2=a2)[0], a2=-a2)
        assert (back - x)[..., 8:24, 8:24].abs().max() < 0.03


def test_the_order_is_that_of_the_table():
    """Mirrored, then turned by a quarter, then shifted by two pixels."""
    x = pictures()
    done, _ = once(x, a0=True, a3=math.pi / 2, a6=2.0, a7=0.0)
    wanted = torch.rot90(x.flip(3), 1, (2, 3))
    torch.testing.assert_close(done[..., 2:], wanted[..., :-2], atol=1e-12, rtol=2e-7)


def test_nothing_leaves_the_range_of_a_constant():
    flat = torch.full((64, 1, 8, 8), 0.7)
    augment = EDMAugment(1.0)
    torch.testing.assert_close(augment(flat, drawn(augment, 64)).x, flat, atol=1e-6, rtol=0)


def test_a_sample_is_the_same_alone_and_in_any_batch():
    x, augment = pictures(24), EDMAugment(0.4)
    u = drawn(augment, 24)
    together = augment(x, u)
    for rows in ([0], [5], [23, 7], list(range(3, 20))):
        alone = augment(x[rows], u[rows])
        assert torch.equal(alone.x, together.x[rows])
        assert torch.equal(alone.told, together.told[rows])
    assert not torch.equal(together.x, x)


def test_what_was_given_is_left_alone():
    x, augment = pictures(16), EDMAugment(1.0)
    before = x.clone()
    augment(x, drawn(augment, 16))
    assert torch.equal(x, before)
    half = augment(x.bfloat16(), drawn(augment, 16))
    assert half.x.dtype == torch.bfloat16
    assert half.told.dtype == torch.float32


def test_a_map_of_several_pictures_is_that_of_each():
    x = pictures(2)
    maps = torch.tensor([[[1, 0, 1], [0, 1, 0]], [[2, 0, 0], [0, 2, 0]]], dtype=torch.float64)
    done = warp(x, maps)
    assert torch.equal(done[0, :, :, :-1], x[0, :, :, 1:])
    assert all(torch.equal(done[i], warp(x[i : i + 1], maps[i : i + 1])[0]) for i in range(2))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Flip(1.5), "Flip.share is 1.5; allowed: 0 to 1"),
        (lambda: Flip(math.nan), "Flip.share is nan"),
        (lambda: EDMAugment(-0.1), "EDMAugment.share is -0.1"),
        (lambda: EDMAugment(scale=0.5), "scale is 0.5; allowed: a finite number >= 1"),
        (lambda: EDMAugment(shift=math.inf), "shift is inf"),
        (lambda: EDMAugment(rotation=2), "rotation is 2; allowed: 0 to 1"),
        (lambda: EDMAugment()(torch.zeros(1, 1, 8), torch.zeros(1, 13)), "is for pictures"),
        (lambda: UNet(1, 8, attention=(), augment_features=-1), "augment_features is -1"),
    ],
)
def test_mistakes(make, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(".", r"\.")):
        make()


def network(kind, features):
    torch.manual_seed(0)
    if kind is UNet:
        return UNet(
            1, 8, 2, width=8, multipliers=(1, 2), blocks=1, attention=(4,), head_width=8, augment_features=features
        )
    return DiT(1, 8, 2, patch=2, width=16, depth=1, heads=2, augment_features=features)


def woken(net):
    generator = torch.Generator().manual_seed(1)
    for name, parameter in net.named_parameters():
        if not parameter.any() and name != "told.weight":
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return net.eval()


@pytest.mark.parametrize("kind", [UNet, DiT])
def test_a_network_without_it_is_as_it_was(kind):
    """The same keys and weights, with it or without; and zeros, which sampling tells, change no bit."""
    without, told = network(kind, 0), network(kind, 9)
    assert "augment_features" not in without.config
    assert told.config["augment_features"] == 9
    assert set(told.state_dict()) - set(without.state_dict()) == {"told.weight"}
    assert all(torch.equal(value, told.state_dict()[name]) for name, value in without.state_dict().items())
    without, told = woken(without), woken(told)
    x, time, labels = torch.randn(3, 1, 8, 8), torch.linspace(0, 1, 3), torch.tensor([0, 1, 2])
    wanted = without(x, time, labels)
    assert wanted.any()
    assert torch.equal(told(x, time, labels), wanted)
    assert torch.equal(told(x, time, labels, augment=torch.zeros(3, 9)), wanted)
    rebuilt = build(describe(told))
    rebuilt.load_state_dict(told.state_dict())
    changed = torch.zeros(3, 9)
    changed[1, 4] = 1.0
    out = rebuilt.eval()(x, time, labels, augment=changed)
    assert not torch.allclose(out[1], wanted[1], atol=1e-4)
    torch.testing.assert_close(out[[0, 2]], wanted[[0, 2]], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"augment has shape \(3, 4\), and augment_features is 9; allowed: \(3, 9\)"):
        told(x, time, labels, augment=torch.zeros(3, 4))
    with pytest.raises(
        ValueError, match="augment_features is 0; allowed: None; build the network with augment_features: 9"
    ):
        without(x, time, labels, augment=changed)


@pytest.mark.parametrize("kind", [UNet, DiT])
def test_a_network_learns_what_it_is_told_also_when_nothing_is(kind):
    net = woken(network(kind, 9))
    for augment in (torch.ones(2, 9), None):
        net.zero_grad()
        net(torch.ones(2, 1, 8, 8), torch.ones(2), augment=augment).square().sum().backward()
        grad = net.told.weight.grad
        assert grad is not None
        assert bool(grad.any()) == (augment is not None)


def test_a_denoiser_needs_no_augmentation_and_offers_it_where_there_is_one():
    x, level = torch.randn(2, 1, 8, 8), Cosine()(0.5)
    labels = torch.tensor([0, 1])
    without, told = (Denoiser(woken(network(UNet, n)), Cosine(), V(), TimeClock()) for n in (0, 9))
    assert torch.equal(without(x, level, {"labels": labels}).x0, told(x, level, {"labels": labels}).x0)
    full = told(x, level, {"labels": labels, "augment": torch.ones(2, 9)})
    assert not torch.allclose(full.x0, told(x, level, {"labels": labels}).x0)
    with pytest.raises(ValueError, match=r"UNet does not take that; it takes labels$"):
        without(x, level, {"labels": labels, "augment": torch.ones(2, 9)})
