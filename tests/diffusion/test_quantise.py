"""Quantised inference: what int8 layers compute, which layers are taken, how ranges are found, and how far it is from what it was."""

import json
import math
from dataclasses import dataclass, replace

import diffusers
import pytest
import torch
from torch import nn

from sfumato.diffusion import Denoiser, DiT, HashedWords, LogSNRClock, Model, UNet, fingerprint
from sfumato.diffusion.backbones import ADM, DDPMPP, EDM2
from sfumato.diffusion.distance import bytes_of, measured_distance
from sfumato.diffusion.evaluated import evaluated
from sfumato.diffusion.int8_linear import Range, check_kind, scale_and_zero, to_int8
from sfumato.diffusion.own_inputs import Fed, RangeSearch, own_inputs
from sfumato.diffusion.pipelines.flux import FluxTransformer
from sfumato.diffusion.quantise import quantisable, quantise, quantised
from sfumato.diffusion.rounding import best_range, squared_error
from sfumato.diffusion.static_ranges import ranges_of
from sfumato.guidance import CFG
from sfumato.samplers import DDIM, Heun
from sfumato.samplers.filters import Calibrated, Calibration, RenoiseProbe
from sfumato.schedules import EDM, X0, RectifiedFlow, VarianceExploding, karras

KINDS = ("int8_weights", "int8", "int8_static")
OWN = [f"layers.{i}.{name}" for i in range(2) for name in ("qkv", "out", "mlp_in", "mlp_out")]


def dit(seed=0):
    torch.manual_seed(seed)
    net = DiT(channels=1, size=8, num_classes=10, patch=2, width=64, depth=2, heads=4)
    with torch.no_grad():  # a network that answers something, untrained
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net


def made(**rest):
    denoiser = Denoiser(dit(), RectifiedFlow(), EDM(0.75), LogSNRClock())
    return Model(denoiser, (1, 8, 8), 10, **{"steps": 4, "grid": karras, "guidance": CFG(1.5), **rest})


def off(a, b):
    return float((a - b).norm() / b.norm())


# what a layer computes


@pytest.fixture(name="linear")
def a_layer():
    torch.manual_seed(3)
    layer = nn.Linear(48, 40).requires_grad_(False)
    return layer, torch.randn(2, 5, 48) + 0.3


def parts(layer, weight):
    """Its whole numbers and scales, checked: symmetric, the largest of a row at the end of int8, all within half a step (and a tie)."""
    q, scale = layer.weight.qdata.double(), layer.weight.scale.double()
    torch.testing.assert_close(scale, weight.double().abs().amax(1, keepdim=True) / 127.5)
    assert bool(((q * scale - weight).abs() <= 0.5001 * scale).all())
    return q, scale[:, 0]


def test_weights_are_rounded_per_output_and_products_are_exact(linear):
    layer, x = linear
    weight = layer.weight.clone()
    to_int8(layer, "int8_weights")
    q, scale = parts(layer, weight)
    assert off(layer(x).double(), x.double() @ q.T * scale + layer.bias.double()) < 1e-6


def test_dynamic_inputs_have_a_scale_per_token(linear):
    layer, x = linear
    weight = layer.weight.clone()
    to_int8(layer, "int8")
    q, scale = parts(layer, weight)
    own = x.abs().amax(-1, keepdim=True) / 127.5
    tokens = (x * (1 / own)).round().clamp(-128, 127).double()
    assert off(layer(x).double(), own.double() * (tokens @ q.T) * scale + layer.bias.double()) < 1e-6
    one = x * torch.tensor([1.0, 1e4]).view(2, 1, 1)  # tokens of other sizes beside it change nothing
    assert torch.equal(layer(one)[0], layer(x)[0])


def test_static_inputs_are_cut_to_their_range(linear):
    layer, x = linear
    weight = layer.weight.clone()
    step, zero = scale_and_zero(-1.0, 2.0)
    tokens = ((x * (1 / torch.tensor(step))).round() + zero).clamp(-128, 127).double() - zero
    assert bool((x > 2).any())
    assert bool((x < -1).any())
    to_int8(layer, "int8_static", Range(-1.0, 2.0, 3))
    q, scale = parts(layer, weight)
    assert off(layer(x).double(), step * (tokens @ q.T) * scale + layer.bias.double()) < 1e-6


# which layers


def test_a_dit_keeps_all_but_the_layers_of_its_blocks():
    net = dit()
    before = {name: p.clone() for name, p in net.named_parameters()}
    assert quantisable(net) == OWN
    assert quantise(net, "int8") == OWN
    for name, p in net.named_parameters():
        if name.removesuffix(".weight") not in OWN:
            assert torch.equal(p, before[name]), name
    assert quantisable(dit(), keep=("*mlp*", "condition.*", "*modulation")) == [
        f"layers.{i}.{n}" for i in range(2) for n in ("qkv", "out")
    ]


def test_diffusers_networks_keep_their_ends_and_what_tells_them_something():
    with torch.device("meta"):
        old = diffusers.DiTTransformer2DModel(num_attention_heads=4, attention_head_dim=16, num_layers=1, sample_size=8)
        flux = diffusers.FluxTransformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=32, num_attention_heads=2,
            joint_attention_dim=64, pooled_projection_dim=64, axes_dims_rope=(8, 12, 12),
        )  # fmt: skip
        unet = diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=64, norm_num_groups=8, attention_head_dim=8,
        )  # fmt: skip
    attention = [f"attn1.to_{n}" for n in "qkv"] + ["attn1.to_out.0", "ff.net.0.proj", "ff.net.2"]
    assert quantisable(old) == [f"transformer_blocks.0.{n}" for n in attention]
    names = quantisable(flux)
    assert quantisable(FluxTransformer(flux)) == [f"network.{name}" for name in names]
    assert {"single_transformer_blocks.0.proj_out", "transformer_blocks.0.attn.add_q_proj"} <= set(names)
    assert not [n for n in names if "embed" in n or "norm" in n or n in ("proj_out", "x_embedder")]
    with torch.device("meta"):
        assert [quantisable(net) for net in (ADM(), DDPMPP(), EDM2())] == [
            [],
            [],
            [],
        ]  # convolutions, and what tells them something
    names = quantisable(unet)
    assert "mid_block.attentions.0.transformer_blocks.0.attn2.to_k" in names
    assert not [n for n in names if "time" in n]


class Doubled(nn.Linear):
    def forward(self, x):
        return super().forward(2 * x)


def test_a_layer_with_a_forward_of_its_own_is_left_alone():
    assert quantisable(nn.Sequential(Doubled(64, 64), nn.Linear(64, 64), nn.Linear(64, 20), nn.Linear(64, 8))) == ["1"]


def test_what_cannot_be_is_refused_at_once():
    model = made()
    with pytest.raises(ValueError, match="quantize is 'int4'; allowed: int8_weights"):
        quantised(model, "int4")
    with pytest.raises(ValueError, match="does not run on meta here"):
        check_kind("int8", "meta")
    unet = UNet(channels=1, size=8, num_classes=10, width=16, multipliers=(1, 2), blocks=1, attention=())
    with pytest.raises(ValueError, match=r"UNet has no linear layer to quantise: its 1\d convolutions stay"):
        quantise(unet)
    with pytest.raises(ValueError, match=r"ranges lack layers.0.qkv, .*static_ranges"):
        quantise(dit(), "int8_static")
    with pytest.raises(ValueError, match="quantised already, as int8_weights"):
        quantised(quantised(model, "int8_weights"))
    with pytest.raises(ValueError, match="'int8', which looks for no ranges"):
        quantised(model, "int8", search=RangeSearch())
    for bad in ({"count": 0}, {"mean": 1.5}, {"std": -1.0}, {"clip": "max"}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} is "):
            RangeSearch(**bad)


# ranges


def test_the_best_range_of_a_gaussian_is_the_closed_form_one():
    """MSE(a) = a^2 / (3 * 256^2) + 2 [(1 + a^2) (1 - Phi(a)) - a phi(a)]: steps of a / 128, and what lies beyond a."""

    def error(a):
        tail, density = 0.5 * math.erfc(a / math.sqrt(2)), math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        return a * a / (3 * 256**2) + 2 * ((1 + a * a) * tail - a * density)

    edges = torch.linspace(-8, 8, 4097, dtype=torch.float64)
    counts = torch.special.ndtr(edges).diff()
    seen = Range(-8.0, 8.0, 2)
    for a in (2.0, 3.0, 5.0, 8.0):
        assert squared_error(counts, seen, Range(-a, a, 2)) == pytest.approx(error(a), rel=0.02)
    best = min((a / 100 for a in range(200, 800)), key=error)
    assert best == pytest.approx(3.92, abs=0.05)  # as published for 8 bits (Banner et al. 2019, 1810.05723)
    assert best_range(counts, seen).high == pytest.approx(best, abs=0.09)  # the search goes in steps of 0.08
    assert best_range(counts, Range(0.0, 0.0, 2)) == Range(0.0, 0.0, 2)  # inputs that are all zero


@dataclass(frozen=True)
class Ratio:
    """Tells sigma / alpha."""

    def __call__(self, level):
        return level.ratio


S = 0.5


class Gaussian(nn.Module):
    """The exact x0 of N(0, S^2) on an exploding path, with a layer whose input is x over its standard deviation at the time it is told."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(64, 64, bias=False)
        nn.init.eye_(self.body.weight)

    def forward(self, x, time):
        own = (S**2 + time**2).rsqrt()[:, None]
        return (S**2 * own * self.body(x.flatten(1) * own)).view_as(x)


def gaussian(steps=12, sampler=None, **rest):
    denoiser = Denoiser(Gaussian(), VarianceExploding(), X0(), Ratio())
    return Model(denoiser, (1, 8, 8), 0, sampler=sampler or DDIM(), grid=karras, steps=steps, **rest)


def all_of(model, seeds=range(8)):
    """Every evaluation: x (E, B, ...), time (E,)."""
    found = []
    with evaluated(model, lambda e: found.append((e.x.clone(), e.time[0].clone()))) as heard:
        heard.sample(seeds)
    return torch.stack([x for x, _ in found]), torch.stack([t for _, t in found])


def fed(x, time):
    return Fed(x.flatten(0, 1), time.repeat_interleave(x.shape[1]), {}, torch.zeros(x.shape[0] * x.shape[1]))


def test_x_is_paired_with_the_time_that_was_told_with_it():
    """A layer's input is x_T times a closed form; paired with another step's time, as published, it is another, and the range is wrong."""
    model = gaussian()
    x, time = all_of(model)
    # DDIM on a Gaussian: x' = x (S^2 + g g') / (S^2 + g^2)
    grown = torch.cat([torch.ones(1), ((S**2 + time[:-1] * time[1:]) / (S**2 + time[:-1] ** 2)).cumprod(0)])
    start = x[0].abs().max()
    torch.testing.assert_close(x, grown.view(-1, 1, 1, 1, 1) * x[0], rtol=1e-4, atol=1e-6)
    right = ranges_of(model.denoiser.backbone, ["body"], fed(x, time), "minmax")["body"]
    seen = grown * (S**2 + time**2).rsqrt() * start
    assert max(-right.low, right.high) == pytest.approx(float(seen.max()), rel=1e-5)
    # x after the step at t, with t; and as the published code counts, x after step number t from the noise, with t (time is mirrored)
    late = fed(x[1:], time[:-1])
    mirrored = fed(x[1:], time.flip(0)[:-1])
    errors = {}
    for name, pairs in (("right", fed(x, time)), ("late", late), ("mirrored", mirrored)):
        net = Gaussian().requires_grad_(False)
        quantise(net, "int8_static", (), ranges_of(net, ["body"], pairs, "minmax"))
        other = replace(model, denoiser=Denoiser(net, model.denoiser.schedule, X0(), Ratio()))
        errors[name] = measured_distance(model, other).output
    late_high = (grown[1:] * (S**2 + time[:-1] ** 2).rsqrt() * start).max()
    found = ranges_of(model.denoiser.backbone, ["body"], late, "minmax")["body"]
    assert max(-found.low, found.high) == pytest.approx(float(late_high), rel=1e-5)
    assert float(late_high) < 0.95 * float(seen.max())
    assert errors["right"] < 0.01
    assert errors["late"] > 2 * errors["right"]
    assert errors["mirrored"] > 2 * errors["right"]


@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=["DDIM", "Heun"])
def test_what_is_taken_are_rows_of_evaluations(sampler):
    """Of methods that ask between steps, too: each pair is one of those that the same trajectories have."""
    model = gaussian(sampler=sampler)
    heard = []
    sample = Model.sample
    taken = own_inputs(model, RangeSearch(count=40, seed=5))
    assert len(taken.x) == 40
    seeds = []
    try:  # the seeds that it drew
        Model.sample = lambda self, given, *rest, **more: (seeds.append(given), sample(self, given, *rest, **more))[1]
        own_inputs(model, RangeSearch(count=40, seed=5))
    finally:
        Model.sample = sample
    for given in seeds[1:]:
        x, time = all_of(model, given)
        heard += [(x[i, j], time[i]) for i in range(len(x)) for j in range(x.shape[1])]
    for x, time in zip(taken.x, taken.time, strict=True):
        assert any(t == time and torch.allclose(x, other, rtol=1e-5, atol=1e-6) for other, t in heard)
    assert len(set(taken.time.tolist())) > 6
    torch.testing.assert_close(-2 * taken.time.double().log(), taken.log_snr, rtol=1e-5, atol=1e-5)


def test_places_are_those_of_a_clipped_normal_and_of_their_seed():
    model, how = gaussian(steps=5), RangeSearch(count=600, mean=0.4, std=0.4)
    taken = own_inputs(model, how)
    times = sorted(set(taken.time.tolist()))
    assert len(times) == 5
    # evaluation i of 0..4, from the data, takes the places nearest to i / 4; beyond the ends is at the ends
    phi = [0.5 * (1 + math.erf((edge - 0.4) / 0.4 / math.sqrt(2))) for edge in (1 / 8, 3 / 8, 5 / 8, 7 / 8)]
    shares = [b - a for a, b in zip([0, *phi], [*phi, 1], strict=True)]
    for time, share in zip(times, shares, strict=True):
        found = float((taken.time == time).float().mean())
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / 600)
    again, other = own_inputs(model, replace(how, count=20)), own_inputs(model, replace(how, count=20, seed=1))
    assert set(again.time.tolist()) <= set(times)
    assert torch.equal(own_inputs(model, replace(how, count=20)).x, again.x)
    assert not torch.equal(other.x[:4], again.x[:4])
    assert len(set(own_inputs(model, replace(how, std=0.0, mean=1.0)).time.tolist())) == 1


def test_under_guidance_every_branch_is_fed():
    taken = own_inputs(made(), RangeSearch(count=32))
    labels = taken.condition["labels"]
    assert len(taken.x) == len(labels) == 64
    assert int((labels == 10).sum()) == 32
    assert set(labels.tolist()) == set(range(11))


def test_a_model_of_texts_is_fed_the_texts_that_are_given():
    words = HashedWords(length=4, width=32)
    torch.manual_seed(0)
    net = DiT(channels=1, size=8, patch=2, width=64, depth=1, heads=4, text_width=32)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model = replace(
        made(), denoiser=Denoiser(net, RectifiedFlow(), EDM(0.75), LogSNRClock()), num_classes=0, text=words
    )
    assert not [n for n in quantisable(net) if n.startswith("text")]
    assert "layers.0.cross.kv" in quantisable(net)
    with pytest.raises(ValueError, match="int8_static, and this model knows texts; give prompts"):
        quantised(model, "int8_static")
    search = RangeSearch(count=8)

    def rows(condition):
        return {
            tuple(v[i].numpy().tobytes() for _, v in sorted(condition.items())) for i in range(len(condition["text"]))
        }

    fed_texts = own_inputs(model, search, ["two", "a seven"]).condition
    assert rows(fed_texts) == rows(words.encode(["two", "a seven", ""]))  # and the empty one, which guidance asks
    other = quantised(model, "int8_static", search=search, prompts=["two", "a seven"])
    assert other.source["quantize"]["ranges"]["prompts"] == ["two", "a seven"]
    distance = measured_distance(model, other, range(2), lambda m, seeds: m.sample(seeds, prompts=["two"] * len(seeds)))
    assert 1e-5 < distance.output < 0.05


def test_ranges_refuse_what_they_cannot_know():
    net = nn.ModuleDict({"body": nn.Linear(4, 4), "idle": nn.Linear(4, 4)})
    net.forward = lambda x, time: net["body"](x)
    rows = Fed(torch.ones(2, 4), torch.ones(2), {}, torch.zeros(2))
    with pytest.raises(ValueError, match="layer idle was never run"):
        ranges_of(net, ["body", "idle"], rows)
    with pytest.raises(ValueError, match="layer body are not finite"):
        ranges_of(net, ["body"], rows._replace(x=torch.full((2, 4), torch.nan)))
    net.forward = lambda x, time: net["body"](net["body"](x)[None])
    with pytest.raises(ValueError, match="layer body sees inputs of 2 and of 3 dimensions"):
        ranges_of(net, ["body"], rows)


# models


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_model_is_near_and_says_what_it_is(kind):
    model = made()
    weights = fingerprint(model.denoiser)
    other = quantised(model, kind)
    assert fingerprint(model.denoiser) == weights  # it is a copy
    distance = measured_distance(model, other, range(4))
    assert 1e-5 < distance.output < 0.02
    assert 0 < distance.rms <= distance.most < 0.1
    assert len(distance.levels) == 4
    # a byte per weight, four for the scale and one for the zero point of each output; static inputs have one of each, too
    small = [model.denoiser.backbone.get_submodule(n).weight for n in OWN]
    extra = sum(w.numel() + 5 * len(w) for w in small) + 5 * len(small) * (kind == "int8_static")
    assert distance.bytes_before == sum(4 * t.numel() for t in model.denoiser.state_dict().values())
    assert distance.bytes_after == distance.bytes_before - 4 * sum(w.numel() for w in small) + extra
    assert json.loads(json.dumps(distance.settings()))["seeds"] == [0, 1, 2, 3]
    said = other.sample([0], labels=[1]).settings["quantize"]
    assert (said["kind"], said["layers"]) == (kind, len(OWN))
    assert fingerprint(quantised(model, kind).denoiser) == fingerprint(other.denoiser) != weights


def test_a_distance_is_what_it_says():
    """Outputs of F times 1.01 are off by 0.01 at every level, and pictures of the same network by nothing."""

    class Scaled(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x, time, labels=None):
            return 1.01 * self.net(x, time, labels)

    model = made()
    parts = (model.denoiser.schedule, model.denoiser.row, model.denoiser.clock)
    distance = measured_distance(model, replace(model, denoiser=Denoiser(Scaled(model.denoiser.backbone), *parts)))
    assert [v.distance for v in distance.levels] == pytest.approx([0.01] * 4, rel=1e-3)
    assert distance.output == pytest.approx(0.01, rel=1e-3)
    levels = karras(model.denoiser.schedule, 4)[:-1]
    assert [(v.alpha, v.sigma) for v in distance.levels] == [(float(v.alpha), float(v.sigma)) for v in levels]
    same = measured_distance(model, model)
    assert (same.output, same.rms, same.most) == (0.0, 0.0, 0.0)
    assert same.bytes_before == same.bytes_after == bytes_of(model.denoiser)
    with pytest.raises(ValueError, match="seeds is empty"):
        measured_distance(model, model, [])


def test_the_rest_of_a_model_stays_as_it_was():
    model = made()
    with evaluated(model, lambda e: None):
        pass
    assert isinstance(model.denoiser.clock, LogSNRClock)
    assert not model.denoiser.backbone._forward_hooks


def test_thresholds_of_the_network_in_full_precision_are_refused():
    model = made()
    other = quantised(model, "int8")
    probe = RenoiseProbe(level=3.0, threshold=1e9)
    known = Calibration(probe, 0.1, 10, "upper", fingerprint(model.denoiser), "data", True, "labels")
    model.sample([0], labels=[1], filters=[Calibrated(known)])
    with pytest.raises(ValueError, match="weights"):
        other.sample([0], labels=[1], filters=[Calibrated(known)])
    own = replace(known, model=fingerprint(other.denoiser))
    other.sample([0], labels=[1], filters=[Calibrated(own)])
