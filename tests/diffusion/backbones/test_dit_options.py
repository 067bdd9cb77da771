"""DiT's options: what each of them computes, alone and together, and that none of them is on unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.diffusion import Denoiser, TimeClock
from sfumato.diffusion.backbones import DiT
from sfumato.diffusion.backbones.positions import rotate, rotations
from sfumato.schedules import Cosine, V

OPTIONS: dict[str, dict[str, Any]] = {
    "rope": {"rope": True},
    "qk_norm": {"qk_norm": True},
    "swiglu": {"swiglu": True},
    "registers": {"registers": 3},
    "frequencies": {"frequencies": "diffusers"},
    "text": {"text_width": 6},
    "base_width": {"base_width": 8},
}
OPTIONS["all"] = {key: value for option in list(OPTIONS.values()) for key, value in option.items()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(**options: Any) -> DiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DiT(2, 8, 3, patch=2, width=32, depth=2, heads=2, **options)


def awake(**options: Any) -> DiT:
    """A network whose zero-initialised layers were given weights."""
    net, generator = build(**options), torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return net.eval()


def inputs(text_width: int = 0, **_: object) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    x, text = torch.randn(4, 2, 8, 8, generator=generator), torch.randn(4, 5, 6, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    return (x, torch.linspace(1.0, 900.0, 4), torch.arange(4) % 3), {
        "text": text,
        "text_mask": mask,
    } if text_width else {}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_changes_the_network_and_comes_back_from_its_config(name: str) -> None:
    options = OPTIONS[name]
    net, (given, told) = awake(**options), inputs(**options)
    out = net(*given, **told)
    assert set(net.config) - set(build().config) == set(options)
    again = DiT(**json.loads(json.dumps(net.config))).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(*given, **told), out)
    with torch.device("meta"):
        empty = build(**options)
    empty.to_empty(device="cpu").load_state_dict(net.state_dict())
    assert torch.equal(empty.eval()(*given, **told), out)
    plain = awake()
    common = {
        k: v for k, v in net.state_dict().items() if k in plain.state_dict() and v.shape == plain.state_dict()[k].shape
    }
    plain.load_state_dict(common, strict=False)
    if name != "base_width":  # which says only where weights begin
        assert (plain(*given) - out).abs().amax() > 1e-3


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_learns_in_every_precision(name: str) -> None:
    options = OPTIONS[name]
    net, (given, told) = awake(**options).train(), inputs(**options)
    single = net(*given, **told)
    single.square().sum().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()]
    assert [n for n in silent if not n.endswith("kv.bias")] == []
    with torch.autocast("cpu", torch.bfloat16):
        half = net(*given, **told)
    assert half.dtype == torch.float32
    assert (half - single).norm() < 0.05 * single.norm()
    double = net.double()(given[0].double(), *given[1:], **told)
    torch.testing.assert_close(single.double(), double, atol=2e-4, rtol=2e-4)


def test_at_their_defaults_options_are_not_said() -> None:
    quiet = {"rope": False, "qk_norm": False, "swiglu": False, "registers": 0, "text_width": 0, "base_width": 0}
    net = build(**quiet, frequencies="published")
    assert net.config == build().config
    assert not {"rope", "frequencies"} & set(net.config)
    assert list(net.state_dict()) == list(build().state_dict())


def test_turned_queries_and_keys_know_only_how_far_apart_they_are() -> None:
    grid, width = 5, 12
    turn = rotations(grid, width, more=2).double()
    q, k = torch.randn(2, 1, 1, 1, width, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    turned = [rotate(v.expand(1, 1, grid**2 + 2, width), turn)[0, 0] for v in (q, k)]
    products = turned[0] @ turned[1].T
    places = [(i // grid, i % grid) for i in range(grid**2)]
    by_offset: dict[tuple[int, int], list[float]] = {}
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            by_offset.setdefault((a[0] - b[0], a[1] - b[1]), []).append(products[i, j].item())
    assert max(max(v) - min(v) for v in by_offset.values()) < 1e-6
    assert len({round(v[0], 5) for v in by_offset.values()}) == len(by_offset) == (2 * grid - 1) ** 2
    # as complex numbers: the first three pairs by the column, the others by the row
    z = torch.view_as_complex(q.view(6, 2))
    speeds = 10_000.0 ** (-torch.arange(3, dtype=torch.float64) / 3)
    for i, (row, column) in enumerate(places):
        angles = torch.cat([column * speeds, row * speeds])
        expected = torch.view_as_real(z * torch.polar(torch.ones(6, dtype=torch.float64), angles)).flatten()
        torch.testing.assert_close(turned[0][i], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(turned[0][grid**2 :], q[0, 0].expand(2, width))  # registers have no place


def test_normed_queries_do_not_care_how_long_they_are() -> None:
    net, (given, _) = awake(qk_norm=True), inputs()
    out = net(*given)
    with torch.no_grad():
        for layer in net.layers:
            for part in (layer.qkv.weight, layer.qkv.bias):
                part[:64] *= 30.0  # queries and keys, not values
    torch.testing.assert_close(net(*given), out, atol=1e-4, rtol=1e-3)


def test_queries_and_keys_have_gains_of_their_own() -> None:
    net, (given, _), seen = awake(qk_norm=True), inputs(), {}
    layer = net.layers[0]
    gains = torch.randn(2, 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        layer.norm_q.weight.copy_(gains[0])
        layer.norm_k.weight.copy_(gains[1])
    layer.qkv.register_forward_hook(lambda _, given, out: seen.update(qkv=out))
    layer.attend.register_forward_pre_hook(lambda _, given: seen.update(attend=given))
    net(*given)
    for i in range(2):
        heads = seen["qkv"][..., 32 * i : 32 * (i + 1)].unflatten(2, (2, 16)).transpose(1, 2)
        normed = heads / (heads.square().mean(3, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(seen["attend"][i], normed * gains[i])
    torch.testing.assert_close(seen["attend"][2], seen["qkv"][..., 64:].unflatten(2, (2, 16)).transpose(1, 2))


def test_the_first_half_is_the_gate() -> None:
    net, (given, _), seen = awake(swiglu=True), inputs(), {}
    layer = net.layers[0]
    layer.mlp_in.register_forward_hook(lambda _, given, out: seen.update(halves=out))
    layer.mlp_out.register_forward_pre_hook(lambda _, given: seen.update(gated=given[0]))
    net(*given)
    a, b = seen["halves"][..., :85], seen["halves"][..., 85:]  # two thirds of 4 times 32
    torch.testing.assert_close(seen["gated"], a / (1 + torch.exp(-a)) * b)


def test_registers_are_a_set_that_every_token_hears() -> None:
    net, (given, _) = awake(registers=3, rope=True), inputs()
    out = net(*given)
    assert net.registers is not None
    with torch.no_grad():
        net.registers.copy_(net.registers.flip(1))
    torch.testing.assert_close(net(*given), out, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        net.registers[:, 0] *= -3.0
    assert (net(*given) - out).abs().amax(dim=(0, 1)).min() > 1e-5


def test_padding_says_nothing_and_every_sample_hears_its_own_text() -> None:
    net, (given, told) = awake(text_width=6), inputs(6)
    out = net(*given, **told)
    padded = torch.cat([torch.where(told["text_mask"][..., None], told["text"], 77.0), torch.full((4, 3, 6), -9.0)], 1)
    mask = torch.cat([told["text_mask"], torch.zeros(4, 3, dtype=torch.bool)], 1)
    torch.testing.assert_close(net(*given, text=padded, text_mask=mask), out, atol=1e-5, rtol=1e-4)
    other = told["text"].clone()
    other[1] += 1.0
    changed = net(*given, text=other, text_mask=told["text_mask"])
    torch.testing.assert_close(changed[[0, 2, 3]], out[[0, 2, 3]], atol=1e-5, rtol=1e-4)
    assert (changed[1] - out[1]).abs().max() > 1e-3
    everything = net(*given, text=told["text"])
    torch.testing.assert_close(everything[0], out[0], atol=1e-5, rtol=1e-4)
    assert (everything[1:] - out[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_a_denoiser_offers_text_where_there_is_some() -> None:
    level = Cosine()(0.5)
    (x, _, labels), told = inputs(6)
    hears = Denoiser(awake(text_width=6), Cosine(), V(), TimeClock())
    hears.answer(x, level, {"labels": labels, **told})
    with pytest.raises(ValueError, match="lacks text, which DiT needs; it takes labels, text, text_mask"):
        hears.answer(x, level, {"labels": labels})
    deaf = Denoiser(awake(), Cosine(), V(), TimeClock())
    with pytest.raises(ValueError, match="it takes labels"):
        deaf.answer(x, level, {"labels": labels, **told})


def test_wrong_options_are_refused() -> None:
    for message, arguments in [
        ("registers is -1", {"registers": -1}),
        ("text_width is -2", {"text_width": -2}),
        ("base_width is -8", {"base_width": -8}),
        ("heads are 2 wide; allowed: multiples of 4", {"rope": True, "width": 12, "heads": 6}),
        ("frequencies is 'theirs'; allowed: published, diffusers", {"frequencies": "theirs"}),
    ]:
        with torch.device("meta"), pytest.raises(ValueError, match=message):
            DiT(**arguments)
