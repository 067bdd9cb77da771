"""Gradient transforms, each against its closed form; what is not finite stays visible unless that is what a transform is for."""

import math

import pytest
import torch

from sfumato.diffusion.transforms import (
    AdaptiveClip,
    Centralise,
    ClipValue,
    GradientNoise,
    NanToNum,
    check_sharded,
)
from sfumato.schedules.parts import build, describe

ALL = [NanToNum(), ClipValue(), Centralise(), GradientNoise(), AdaptiveClip()]
SHAPES = {"embed.weight": (4, 6), "layers.0.conv.weight": (5, 3, 2, 2), "layers.0.norm.bias": (7,), "scale": ()}


def tensors(seed, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=g, dtype=torch.float64) for name, shape in SHAPES.items()}


def test_nan_to_num_is_edms():
    inf, nan = math.inf, math.nan
    gradient = torch.tensor([nan, inf, -inf, 3e5, -2.0])
    NanToNum(1e5)({"w": gradient}, 0, {})
    assert gradient.tolist() == [0.0, 1e5, -1e5, 3e5, -2.0]


def test_clip_value_is_torchs_and_leaves_what_is_not_finite():
    gradients = tensors(0, 3.0)
    own = {k: v.clone() for k, v in gradients.items()}
    parameters = [torch.nn.Parameter(torch.zeros_like(v)) for v in gradients.values()]
    for p, v in zip(parameters, gradients.values(), strict=True):
        p.grad = v.clone()
    torch.nn.utils.clip_grad_value_(parameters, 0.5)
    ClipValue(0.5)(own, 0, {})
    assert all(torch.equal(p.grad, v) for p, v in zip(parameters, own.values(), strict=True))
    bad = torch.tensor([math.inf, -math.inf, math.nan, 2.0])
    ClipValue(0.5)({"w": bad}, 0, {})
    assert bad[:2].tolist() == [math.inf, -math.inf]
    assert math.isnan(bad[2])
    assert bad[3] == 0.5


def test_centralise_is_the_gradient_of_centred_weights():
    """d/dw of L(w - mean(w)) is the centralised gradient of L at the centred weights (the projection is its own transpose)."""
    weight = tensors(1)["layers.0.conv.weight"].requires_grad_()
    target = tensors(2)["layers.0.conv.weight"]
    centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
    ((centred - target) ** 3).sum().backward()
    plain = 3 * (centred.detach() - target) ** 2
    gradients = {"w": plain}
    Centralise()(gradients, 0, {})
    torch.testing.assert_close(gradients["w"], weight.grad, rtol=0, atol=1e-13)
    assert gradients["w"].flatten(1).sum(1).abs().max() < 1e-13


def test_centralise_leaves_vectors_and_is_a_projection():
    once = tensors(3)
    before = {k: v.clone() for k, v in once.items()}
    Centralise()(once, 0, {})
    for name in ("layers.0.norm.bias", "scale"):
        assert torch.equal(once[name], before[name])
    twice = {k: v.clone() for k, v in once.items()}
    Centralise()(twice, 0, {})
    for name, value in once.items():
        torch.testing.assert_close(twice[name], value, rtol=0, atol=1e-15)


@pytest.mark.parametrize("step", [0, 99])
def test_gradient_noise_has_the_variance_of_its_step(step):
    part = GradientNoise(0.3, 0.55)
    gradient = torch.full((200, 200), 2.0)
    part({"w": gradient}, step, {})
    variance, n = 0.3 / (1 + step) ** 0.55, gradient.numel()
    noise = gradient.double() - 2.0
    assert abs(noise.mean()) < 5 * math.sqrt(variance / n)
    assert abs(noise.var() / variance - 1) < 5 * math.sqrt(2 / n)


def test_gradient_noise_is_addressed_by_seed_step_and_name():
    """The same in whatever company, other for another seed, step or name, and drawn from no global generator."""
    part, state = GradientNoise(1.0), torch.get_rng_state()

    def noise(names, step=3, part=part):
        gradients = {name: torch.zeros(64) for name in names}
        part(gradients, step, {})
        return gradients

    a = noise(["a", "b"])
    assert torch.equal(a["a"], noise(["c", "b", "a"])["a"])
    others = [a["b"], noise(["a"], 4)["a"] * (5 / 4) ** 0.275, noise(["a"], 3, GradientNoise(1.0, seed=1))["a"]]
    for other in others:
        assert abs(torch.corrcoef(torch.stack([a["a"], other]))[0, 1]) < 0.6
        assert not torch.isclose(a["a"], other).any()
    assert torch.equal(state, torch.get_rng_state())


def test_adaptive_clip_bounds_each_unit_by_its_own_weights():
    part, parameters, gradients = AdaptiveClip(0.1, 1e-3), tensors(4), tensors(5, 0.05)
    parameters["embed.weight"][1] = 0.0  # a unit that starts at zero has the floor's norm
    before = {k: v.clone() for k, v in gradients.items()}
    part(gradients, 0, parameters)
    clipped = 0
    for name, value in gradients.items():
        rows = [(value[i], before[name][i], parameters[name][i]) for i in range(len(value))] if value.ndim > 1 else []
        for new, old, weight in rows or [(value, before[name], parameters[name])]:
            largest = 0.1 * max(float(weight.norm()), 1e-3)
            if old.norm() <= largest:
                assert torch.equal(new, old)
            else:
                clipped += 1
                torch.testing.assert_close(new, old * largest / old.norm(), rtol=1e-12, atol=0)
    assert 2 <= clipped < sum(v.shape[0] if v.ndim > 1 else 1 for v in gradients.values())


def test_adaptive_clip_skips_by_name_and_hides_nothing():
    weights, gradient = torch.ones(2, 2), torch.full((2, 2), 9.0)
    AdaptiveClip()({"head.weight": gradient}, 0, {"head.weight": weights})
    assert torch.equal(gradient, torch.full((2, 2), 9.0))
    AdaptiveClip(skip=())({"head.weight": gradient}, 0, {"head.weight": weights})
    assert float(gradient[0].norm()) == pytest.approx(0.01 * math.sqrt(2))
    for bad in (math.inf, math.nan):
        gradient = torch.tensor([[bad, 1.0], [1.0, 1.0]])
        AdaptiveClip()({"w": gradient}, 0, {"w": weights})
        assert not torch.isfinite(gradient[0]).all()
        assert torch.isfinite(gradient[1]).all()


@pytest.mark.parametrize("part", ALL, ids=lambda p: type(p).__name__)
def test_elementwise_says_whether_shards_may_be_transformed_one_by_one(part):
    """Halves of a flattened gradient transformed one by one are the halves of the transformed whole, or the part says that not."""
    gradient, weight = tensors(6, 30.0)["embed.weight"], tensors(7)["embed.weight"]
    whole, halves = gradient.clone(), [h.clone() for h in gradient.flatten().chunk(2)]
    part({"w": whole}, 0, {"w": weight})
    for half, own in zip(halves, weight.flatten().chunk(2), strict=True):
        part({"w": half}, 0, {"w": own})
    assert torch.equal(torch.cat(halves).view_as(whole), whole) == part.elementwise


def test_shards_are_refused_where_they_change_the_result():
    check_sharded([NanToNum(), ClipValue()])
    for part in (Centralise(), GradientNoise(), AdaptiveClip()):
        with pytest.raises(ValueError, match=f"{type(part).__name__} needs whole gradients"):
            check_sharded([ClipValue(), part])


@pytest.mark.parametrize("part", [*ALL, AdaptiveClip(0.02, skip=["head", "embed"])], ids=str)
def test_a_part_is_its_description(part):
    assert build(describe(part)) == part


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NanToNum(0), "NanToNum.limit is 0; allowed: > 0 and finite"),
        (lambda: ClipValue(math.inf), "ClipValue.limit is inf; allowed: > 0 and finite"),
        (lambda: ClipValue(math.nan), "ClipValue.limit is nan"),
        (lambda: GradientNoise(eta=-1), "GradientNoise.eta is -1"),
        (lambda: GradientNoise(gamma=-1), "GradientNoise.gamma is -1"),
        (lambda: GradientNoise(seed=-1), "GradientNoise.seed is -1; allowed: a whole number"),
        (lambda: AdaptiveClip(share=0), "AdaptiveClip.share is 0"),
        (lambda: AdaptiveClip(skip="head"), r"AdaptiveClip.skip is 'head'; allowed: a list of words, such as \[head\]"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
