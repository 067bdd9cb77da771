"""Attention: every back-end against float64, with gradients and masks; the choice of one, and what is said of those that can't be used."""

import sys
import types
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.diffusion import Digits, DiT, LogSNRClock, Recipe, UNet, load, train
from sfumato.diffusion.backbones.attention import BACKENDS, Attention, attend
from sfumato.diffusion.backbones.attention_probe import probe, set_attention
from sfumato.diffusion.checkpoint import newest
from sfumato.schedules import EDM, RectifiedFlow

HERE = [b for b in BACKENDS if not probe(b).reason]
TRAINED = [b for b in BACKENDS if not probe(b, training=True).reason]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 6e-2}
MASKS = {
    "none": None,
    "keys": (torch.arange(70) < 40).expand(2, 1, 1, 70),
    "pairs": torch.arange(70)[None, :] <= torch.arange(66)[:, None],
    "nothing": (torch.arange(70) < 40) & (torch.arange(66) % 3 > 0)[:, None],  # every third query may look nowhere
}


def drawn(dtype, keys=70):
    generator = torch.Generator().manual_seed(4)
    q = torch.randn(2, 3, 66, 8, dtype=torch.float64, generator=generator)
    k, v = torch.randn(2, 2, 3, keys, 8, dtype=torch.float64, generator=generator)
    return [t.to(dtype).requires_grad_() for t in (q, k, v)]


def exact(q, k, v, mask):
    """By its definition, in float64."""
    q, k, v = (t.detach().double().requires_grad_() for t in (q, k, v))
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    if mask is None:
        out = scores.softmax(3) @ v
    else:
        weights = torch.where(mask, scores.exp(), 0.0)
        total = weights.sum(3, keepdim=True)
        out = weights / torch.where(total > 0, total, 1.0) @ v
    return out, torch.autograd.grad(out.sin().sum(), (q, k, v))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("backend", HERE)
def test_every_backend_is_attention_and_so_are_its_gradients(backend, name, dtype):
    """Wholly masked rows are zeros, with gradients of zero, in all of them."""
    given, mask = drawn(dtype), MASKS[name]
    wanted, gradients = exact(*given, mask)
    training = backend in TRAINED
    out = attend(*(t if training else t.detach() for t in given), mask, backend=backend)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), wanted, atol=TOLERANCE[dtype], rtol=0.0)
    if name == "nothing":
        assert float(out[:, :, ::3].detach().abs().max()) == 0.0
    if training:
        found = torch.autograd.grad(out.double().sin().sum(), given)
        for a, b in zip(found, gradients, strict=True):
            torch.testing.assert_close(
                a.double(), b, atol=TOLERANCE[dtype], rtol=0.02 if dtype == torch.bfloat16 else 0.0
            )


@pytest.mark.parametrize("keys", [16, 70])
def test_auto_is_sdpa_to_the_bit_but_for_bfloat16_on_a_cpu(keys):
    """Where it is within bfloat16's rounding, also of float32 inputs under autocast; few keys take another way than many."""
    q, k, v = (t.detach() for t in drawn(torch.float32, keys))
    assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(q, k, v)
    assert out.dtype == torch.bfloat16
    wanted, _ = exact(q, k, v, None)
    assert float((out - wanted).abs().max()) < 0.02


def test_a_mask_that_is_not_boolean_and_a_backend_that_is_none_are_refused():
    q, k, v = drawn(torch.float32)
    with pytest.raises(ValueError, match=r"mask is torch.float32; allowed: torch.bool"):
        attend(q, k, v, torch.ones(66, 70))
    with pytest.raises(ValueError, match="attention is 'flash'; allowed: auto, sdpa, math, flex, xformers"):
        attend(q, k, v, backend="flash")


def test_the_probe_says_what_works_and_how_far_off_it_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = torch.get_rng_state()
        verdicts = {b: probe(b, "cpu", torch.float32, training=True) for b in BACKENDS}
    assert torch.equal(state, torch.get_rng_state())
    assert all(verdicts[b].reason == "" and 0 < verdicts[b].deviation < 1e-5 for b in ("auto", "sdpa", "math"))
    assert "does not support backward on CPU" in verdicts["flex"].reason
    assert all("\n" not in v.reason for v in verdicts.values())
    assert 1e-4 < probe("auto", "cpu", torch.bfloat16).deviation < 0.05


def test_a_backend_that_computes_something_else_is_not_ok(monkeypatch):
    monkeypatch.setitem(sys.modules, "xformers", types.ModuleType("xformers"))
    ops = types.ModuleType("xformers.ops")
    ops.memory_efficient_attention = lambda q, k, v, attn_bias=None: v
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    assert probe("xformers").reason.startswith("it is wrong: off by ")


def test_xformers_is_asked_as_its_documentation_says(monkeypatch):
    """A stand-in in torch: heads after positions, an additive bias of all heads whose rows are a multiple of 8 apart."""

    def memory_efficient_attention(q, k, v, attn_bias=None):
        assert q.shape[2] == 3
        if attn_bias is not None:
            assert attn_bias.shape == (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
            assert attn_bias.dtype == q.dtype
            assert attn_bias.stride(2) % 8 == 0
        heads_first = [t.transpose(1, 2) for t in (q, k, v)]
        return F.scaled_dot_product_attention(*heads_first, attn_mask=attn_bias).transpose(1, 2)

    monkeypatch.setitem(sys.modules, "xformers", types.ModuleType("xformers"))
    ops = types.ModuleType("xformers.ops")
    ops.memory_efficient_attention = memory_efficient_attention
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    for mask in MASKS.values():
        given = drawn(torch.float32)
        torch.testing.assert_close(
            attend(*given, mask, backend="xformers").double(), exact(*given, mask)[0], atol=5e-6, rtol=0.0
        )


def small():
    torch.manual_seed(0)
    net = DiT(channels=1, size=8, num_classes=10, width=16, depth=2, heads=2)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def recipe(net, **changes):
    values = {
        "data": Digits(), "backbone": net, "schedule": RectifiedFlow(), "row": EDM(0.75), "clock": LogSNRClock(), "steps": 4,
        "batch": 8, "warmup": 1, "threads": 1, "sampling_steps": 2, "tracker": None,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def test_a_choice_reaches_every_attention_and_moves_only_rounding():
    net, x, time = small(), torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.rand(3)
    auto = net(x, time)
    for backend in HERE:
        set_attention(net, backend)
        assert [m.backend for m in net.modules() if isinstance(m, Attention)] == [backend] * 2
        with torch.no_grad():
            torch.testing.assert_close(net(x, time), auto, atol=1e-4, rtol=1e-4)


def test_a_forced_backend_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path):
    """With its reason; what can sample may not train, and what a network does not have can't be chosen."""
    with pytest.raises(
        ValueError,
        match=r"attention is 'flex', which can't be used for training .*backward on CPU.*set attention: auto",
    ):
        train(recipe(small(), attention="flex"), tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()
    set_attention(small(), "flex")  # to sample
    with pytest.raises(ValueError, match="UNet has no attention that could be chosen; set attention: auto"):
        set_attention(UNet(channels=1, size=8, width=8, multipliers=(1,), attention=()), "math")
    with pytest.raises(ValueError, match="attention is 'fast'; allowed: auto, sdpa"):
        recipe(small(), attention="fast")


def test_a_run_goes_on_with_another_attention(tmp_path):
    """It is not part of what the weights mean; the weights then differ by rounding from those of the same run without the change."""
    train(recipe(small(), save_every=2), tmp_path / "a", progress=False)
    train(recipe(small(), steps=4, save_every=2, attention="math"), tmp_path / "b", progress=False)
    (tmp_path / "b" / "checkpoints" / "step-000000004").rename(tmp_path / "kept")
    train(recipe(small(), attention="sdpa"), tmp_path / "b", resume=True, progress=False)
    a, b = (newest(tmp_path / n / "checkpoints").tensors("model") for n in "ab")
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < 1e-4
    assert load(tmp_path / "b").denoiser.backbone.layers[0].attend.backend == "auto"


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_unet_asks_for_attention_as_fused_kernels_take_it(memory_format):
    """Numbers of a position side by side; a CPU's kernel takes nothing else, and what PyTorch takes instead keeps all scores."""
    net = UNet(3, 8, 0, width=16, multipliers=(1,), blocks=1, attention=(8,), head_width=8).to(
        memory_format=memory_format
    )
    asked = []
    for module in net.modules():
        if isinstance(module, Attention):
            module.register_forward_pre_hook(lambda module, given: asked.extend(given[:3]))
    net(torch.zeros(2, 3, 8, 8), torch.zeros(2))
    assert asked
    assert {t.stride(-1) for t in asked} == {1}
