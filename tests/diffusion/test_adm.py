"""ADM: the published sizes to the digit, and what it is by its own names in diffusers' network."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from adm_original import PUBLISHED, Shape, config, shapes
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sfumato.diffusion import ADM, Digits, Recipe
from sfumato.diffusion.backbones.adm_blocks import ADMBlock
from sfumato.diffusion.plan import check_recipe
from sfumato.schedules import Cosine, V

ARGUMENTS: dict[str, Any] = {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "head_width": 16}


def adm(num_classes: int = 3, **changes: Any) -> ADM:
    net = ADM(3, 8, num_classes, **{**ARGUMENTS, **changes})
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        value = torch.randn(parameter.shape, generator=generator) * 0.1
        parameter.data = value + 1.0 if parameter.ndim == 1 and parameter.mean() == 1 else value
    return net.eval()


def inputs(dims: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, 3, *[8] * dims, generator=generator), torch.tensor([0.0, 12.5, 999.0]), torch.arange(3)


def renamed(net: ADM) -> dict[str, Tensor]:
    """The state dict of diffusers' UNet2DModel, by renaming and cutting."""
    state, out = net.state_dict(), {}
    names = {"stem": "conv_in", "norm": "conv_norm_out", "head": "conv_out"}
    names |= {"condition.time_in": "time_embedding.linear_1", "condition.time_out": "time_embedding.linear_2"}
    names |= {
        "condition.label": "class_embedding",
        "middle.0": "mid_block.resnets.0",
        "middle.1": "mid_block.resnets.1",
    }
    for way, each in (("down", net.config["blocks"]), ("up", net.config["blocks"] + 1)):  # pyright: ignore
        level = count = 0
        for i, layer in enumerate(getattr(net, way)):
            if isinstance(layer, ADMBlock) and layer.resample is None:
                names[f"{way}.{i}"] = f"{way}_blocks.{level}.resnets.{count}"
                count += 1
            else:
                assert count == each
                sampler = f"{way}_blocks.{level}.{way}samplers.0"
                names[f"{way}.{i}"] = sampler if isinstance(layer, ADMBlock) else f"{sampler}.conv"
                level, count = level + 1, 0
    inner = {"norm_in": "norm1", "conv_in": "conv1", "norm_out": "norm2", "conv_out": "conv2", "skip": "conv_shortcut"}
    for key, value in state.items():
        name, kind = key.rsplit(".", 1)
        if name in names:
            out[f"{names[name]}.{kind}"] = value
        elif ".attention." in name:
            place, part = name.split(".attention.")
            there = names[place].replace("resnets", "attentions")
            value = value.flatten(1) if kind == "weight" and value.ndim == 4 else value
            parts = {"norm": ["group_norm"], "out": ["to_out.0"], "qkv": ["to_q", "to_k", "to_v"]}[part]
            for each, v in zip(parts, value.chunk(len(parts)), strict=True):
                out[f"{there}.{each}.{kind}"] = v
        elif name != "modulation":
            place, part = name.rsplit(".", 1)
            out[f"{names[place]}.conv.{kind}" if part == "conv" and "samplers" in names[place] and ".conv" not in names[place]
                else f"{names[place]}.{kind}" if part == "conv" else f"{names[place]}.{inner[part]}.{kind}"] = value  # fmt: skip
    blocks = [n for n, m in net.named_modules() if isinstance(m, ADMBlock)]
    for kind in ("weight", "bias"):
        halves = [h.split(net.widths) for h in state[f"modulation.{kind}"].chunk(2 if net.scale_shift else 1)]
        for i, block in enumerate(blocks):
            out[f"{names[block]}.time_emb_proj.{kind}"] = torch.cat([h[i] for h in halves])
    return out


@pytest.mark.parametrize("updown", ["block", "conv"])
@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_it_is_a_network_of_diffusers(updown: Any, scale_shift: bool, num_classes: int) -> None:
    net = adm(num_classes, updown=updown, scale_shift=scale_shift, blocks=2, out_channels=6)
    rows = num_classes + 1 if num_classes else 0  # the null class is a row there
    shape = Shape(32, (1, 2), 2, (False, True), rows, 6, updown, scale_shift)
    peer = UNet2DModel(**config(shape, 8, 16))  # pyright: ignore[reportArgumentType]
    peer.load_state_dict(renamed(net))
    x, time, labels = inputs()
    with torch.no_grad():
        for given in (labels, None) if num_classes else (None,):
            out = net(x, time, given)
            null = torch.full_like(labels, num_classes) if num_classes else None
            expected = peer.eval()(x, time, class_labels=null if given is None else given).sample
            assert out.std() > 0.05
            torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


# the paper's table 4 says 296, 422, 554 and 559 million
@pytest.mark.parametrize(
    ("size", "count"), [(64, 295_904_454), (128, 421_529_606), (256, 553_838_086), (512, 558_997_638)]
)
def test_published_sizes_to_the_digit(size: int, count: int) -> None:
    shape = PUBLISHED[size]
    heads: dict[str, Any] = {"head_width": None, "heads": 4} if size == 128 else {}
    with torch.device("meta"):
        net = ADM(
            3, size, 1000, False, shape.width, shape.multipliers, shape.blocks, (32, 16, 8), out_channels=6, **heads
        )
        found = {v.shape for v in net.parameters()}
        assert sum(p.numel() for p in net.parameters()) == count
        assert sum(torch.Size(s).numel() for s in shapes(shape).values()) == count  # by the authors' names
        if size != 512:  # whose sinusoid is wider than its first level, which diffusers does not know
            peer = UNet2DModel(**config(shape, size, 64))  # pyright: ignore[reportArgumentType]
            assert sum(p.numel() for p in peer.parameters()) == count
    assert torch.Size([shape.widths[0]]) in found


def test_operations_of_imagenet_64() -> None:
    """EDM's network of the same name has no learned variance, and 109.66 billion multiplications; that makes three channels less."""
    with torch.device("meta"):
        counts = []
        for out in (3, 6):
            net = ADM(num_classes=1000, null_class=False, out_channels=out)
            with FlopCounterMode(display=False) as counter:
                net(torch.zeros(1, 3, 64, 64), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
            counts.append(counter.get_total_flops() // 2)
    assert round(counts[0] / 1e9, 2) == 109.66
    assert counts[1] - counts[0] == 3 * 192 * 9 * 64 * 64


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("updown", ["block", "conv"])
def test_data_that_do_not_vary_along_an_axis_are_data_without_it(dims: int, updown: Any) -> None:
    few, many = (adm(dims=d, updown=updown).double() for d in ((1, 2) if dims == 1 else (2, 3)))
    state = few.state_dict()
    for key, value in many.state_dict().items():
        if value.shape != state[key].shape:
            value.zero_()
            value[..., value.shape[-1] // 2] = state[key]
        else:
            value.copy_(state[key])
    x, time, labels = inputs(dims if dims == 1 else 2)
    expected = few(x.double(), time, labels)
    out = many(x.double()[..., None].expand(*x.shape, 4), time, labels)
    torch.testing.assert_close(out, expected[..., None].expand_as(out), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("updown", ["block", "conv"])
def test_it_begins_at_zero_learns_everywhere_and_is_rebuilt(updown: Any) -> None:
    torch.manual_seed(0)
    net = ADM(3, 8, 3, updown=updown, augment_features=2, **ARGUMENTS)
    x, time, labels = inputs()
    assert not net(x, time).any()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(4):
        optimizer.zero_grad()
        (net(x, time, labels, augment=torch.ones(3, 2)) - x.flip(3)).square().sum().backward()
        if step < 3:
            optimizer.step()
    learned = [
        name for name, p in net.named_parameters() if p.grad is not None and p.grad.any() and p.grad.isfinite().all()
    ]
    assert learned == [name for name, _ in net.named_parameters()]
    again = ADM(**json.loads(json.dumps(net.config)))
    again.load_state_dict(net.state_dict())
    out = net(x, time, labels)
    assert out.std() > 1e-3
    assert torch.equal(again(x, time, labels), out)
    assert torch.equal(net(x, time), net(x, time, torch.full((3,), 3)))


def test_without_a_null_class_every_sample_has_a_class() -> None:
    net = adm(null_class=False)
    x, time, labels = inputs()
    assert net.condition.label is not None
    assert len(net.condition.label.weight) == 3
    assert net(x, time, labels).std() > 0.05
    with pytest.raises(ValueError, match=r"labels is None, and this network has no null class .* a class in 0..2 per"):
        net(x, time)
    with pytest.raises(ValueError, match=r"labels has 3, and this network has no null class"):
        net(x, time, torch.tensor([0, 3, 1]))
    small = ADM(1, 8, 10, False, 32, (1, 2), 1, ())
    recipe = Recipe(data=Digits(), backbone=small, schedule=Cosine(), row=V())
    with pytest.raises(ValueError, match=r"label_dropout is 0.1, and the backbone has no null class"):
        check_recipe(recipe)
    check_recipe(dataclasses.replace(recipe, label_dropout=0.0))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("head_width is None and heads is None", {"head_width": None}),
        ("head_width is 16 and heads is 4", {"heads": 4}),
        ("heads is 3, and attention has 64 channels", {"head_width": None, "heads": 3}),
        ("head_width is 48, and attention has 64", {"head_width": 48}),
        ("updown is 'pool'", {"updown": "pool"}),
        ("groups is 24, and a norm has 32", {"groups": 24}),
        (r"multipliers is \[1, 0\]", {"multipliers": (1, 0)}),
        (r"attention has \[5\]", {"attention": (5,)}),
        ("size is 8; allowed with 5 multipliers", {"multipliers": (1,) * 5, "attention": ()}),
        ("out_channels is 0", {"out_channels": 0}),
        ("dropout is 1", {"dropout": 1.0}),
    ],
)
def test_arguments_that_fit_no_network_are_refused(message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        ADM(3, 8, **{**ARGUMENTS, **arguments})


def test_inputs_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"allowed: \(B, 3, H, W\), H and W multiples of 2"):
        adm(0)(torch.zeros(1, 3, 7, 8), torch.zeros(1))
    assert isinstance(adm(0).head, nn.Conv2d)
