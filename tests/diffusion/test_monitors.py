"""Sizes within a network: those computed by hand, nothing left behind, and a warning before a run is lost, and none in a healthy one."""

import math
import re

import pytest
import torch
from torch import nn

from sfumato.diffusion import Denoiser, Digits, DiT, LogSNRClock, Noised, Regression, UNet
from sfumato.diffusion.backbones.attention import Attention, attend
from sfumato.diffusion.draws import DataOrder, Drawing
from sfumato.diffusion.growth import ACTIVATION_LIMIT, LOGIT_LIMIT, Growth
from sfumato.diffusion.monitors import Monitor, Watched, largest_logit
from sfumato.schedules import EDM, EDMWeighting, LogNormal, RectifiedFlow
from sfumato.tools.train import recipe_from, resolve_recipe


def transformer(patch=4, width=16, heads=1):
    torch.manual_seed(0)
    return DiT(channels=1, size=8, num_classes=10, patch=patch, width=width, depth=2, heads=heads)


def test_attention_as_a_module_is_attend_and_adds_nothing_to_the_weights():
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Attention()(q, k, v), attend(q, k, v))
    assert not Attention().state_dict()
    for net in (transformer(), UNet(channels=1, size=8, width=8, multipliers=(1,), attention=(8,))):
        assert [m for m in net.modules() if isinstance(m, Attention)]
        assert not [name for name in net.state_dict() if "attend" in name]


def test_the_largest_logit_is_exact_however_it_is_parted(monkeypatch):
    draw_ = torch.Generator().manual_seed(1)
    q, k = torch.randn(2, 3, 4, 50, 8, generator=draw_)
    q[1, 2, 17] *= 9
    whole = float((q.double() @ k.double().transpose(2, 3)).abs().max() / math.sqrt(8))
    assert float(largest_logit(q, k)) == pytest.approx(whole, rel=1e-6)
    one = largest_logit(q, k[:, :, :30])
    monkeypatch.setattr("sfumato.diffusion.monitors._LOGITS_AT_ONCE", 30 * 12 * 7)  # 7 queries at once
    assert torch.equal(largest_logit(q, k[:, :, :30]), one)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(largest_logit(q, k[:, :, :30]), one)


def test_what_is_seen_is_what_is_there():
    """Outputs of blocks and queries and keys, caught by wrapping the modules' own functions."""
    net, x = transformer(), torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3))
    monitor, outs, logits = Monitor(net, samples=2), {}, {}
    for i, layer in enumerate(net.layers):

        def attention(q, k, v, *, i=i, own=layer.attend.forward):
            logits[f"layers.{i}.attend"] = float((q[:2] @ k[:2].transpose(2, 3)).abs().max() / math.sqrt(q.shape[3]))
            return own(q, k, v)

        def block(*given, i=i, own=layer.forward):
            outs[f"layers.{i}"] = own(*given)
            return outs[f"layers.{i}"]

        layer.attend.forward, layer.forward = attention, block
    with torch.no_grad(), monitor.watching():
        net(x, torch.rand(6, generator=torch.Generator().manual_seed(4)))
    seen = monitor.read()
    assert seen.rms == pytest.approx({k: float(v.square().mean().sqrt()) for k, v in outs.items()}, rel=1e-5)
    assert seen.peak == pytest.approx({k: float(v.abs().max()) for k, v in outs.items()}, rel=1e-6)
    assert seen.logit == pytest.approx(logits, rel=1e-5)
    assert seen.line() == {
        "attention_logit": max(seen.logit.values()),
        "activation": {"rms": max(seen.rms.values()), "max": max(seen.peak.values())},
    }


def test_two_forward_passes_are_one_batch_and_a_second_time_begins_anew():
    net, x, t = transformer(), torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.rand(6)
    found, monitor = [], Monitor(net, samples=6)
    for parts in ((x,), (x[:4], x[4:]), (x,)):
        with monitor.watching():
            for part in parts:
                net(part, t[: len(part)] * 0)
        found.append(monitor.read())
    assert found[1].rms == pytest.approx(found[0].rms, rel=1e-5)
    assert found[1].logit == pytest.approx(found[0].logit, rel=1e-5)
    assert found[2] == found[0]


def test_watching_changes_no_bit_and_leaves_nothing_behind():
    net, x, t = transformer(), torch.randn(3, 1, 8, 8), torch.rand(3)
    plain, monitor = net(x, t), Monitor(net)
    plain.square().sum().backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    with monitor.watching():
        watched = net(x, t)
        assert any(m._forward_hooks for m in net.modules())
    watched.square().sum().backward()
    with pytest.raises(ValueError, match="x has shape"), monitor.watching():
        net(x[:, :, :4], t)
    assert torch.equal(plain, watched)
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_networks_without_blocks_or_attention_have_none():
    plain = nn.Sequential(nn.Linear(3, 3))
    monitor = Monitor(plain)
    with monitor.watching():
        plain(torch.ones(2, 3))
    assert monitor.read() == Watched({}, {}, {})
    assert monitor.read().line() == {}

    class Pair(nn.Module):
        def forward(self, x):
            return 2 * x, "beside"

    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([Pair()])

        def forward(self, x):
            return self.parts[0](x)[0] * math.nan

    net = Listed()
    monitor = Monitor(net)
    with monitor.watching():
        net(torch.ones(2, 3))
    assert monitor.read() == Watched({"parts.0": pytest.approx(2.0)}, {"parts.0": 2.0}, {})
    assert Watched({"a": math.nan, "b": 1.0}, {"a": math.inf, "b": 1.0}, {}).line()["activation"] == {
        "rms": None,
        "max": None,
    }
    with pytest.raises(ValueError, match=r"Monitor.samples is 0; allowed: >= 1"):
        Monitor(net, samples=0)


def trained(net, rate, steps, batch=16, until=math.inf, warmup=20):
    """Warnings by step, and the loss of every step, of a run of the digits that is watched every 5 steps; it is meant to have 300,
    and is stopped after `steps`, or when the mean of ten losses passes `until`."""
    data, order, schedule = Digits(), DataOrder(0, 1797), RectifiedFlow()
    denoiser, weighting = Denoiser(net, schedule, EDM(0.75), LogSNRClock()), EDMWeighting(0.75)
    optimizer, places = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.95), weight_decay=0.0), torch.arange(batch)
    drawing = Drawing(0, batch, data.shape, schedule, 0.1, torch.device("cpu"))
    monitor, growth, warned, losses = Monitor(net), Growth(300), [], []
    while len(losses) < steps and not (len(losses) > 30 and sum(losses[-10:]) > 10 * until):
        step = len(losses)
        given = data.batch(order(step * batch + places))
        d = drawing(step, places, LogNormal(-0.5, 1.2))
        seen = Noised(given.x, d.eps, d.level, {"labels": given.labels})
        with monitor.watching():
            loss = Regression()(denoiser, None, weighting, seen).loss.mean()
        if step % 5 == 4:
            warned += [(step + 1, words) for words in growth.add(step + 1, monitor.read())]
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / warmup)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return warned, losses


def test_the_warning_comes_before_the_loss_diverges():
    """The rate rises until it is too large: the loss falls like that of any run, until it passes that of a network that says nothing,
    which is 1. Some tens of steps before, something was warned of (so it was with weights moved by 1e-3, too, five times)."""
    warned, losses = trained(transformer(patch=2, width=32, heads=2), 0.3, 300, 32, until=1.0, warmup=400)
    means = torch.tensor(losses).unfold(0, 10, 1).mean(1)
    assert float(means.min()) < 0.85
    assert float(means[-1]) > 1.0
    step, words = warned[0]
    assert step <= len(losses) - 20
    assert re.match(rf"step {step}: (attention logits|activations) of layers\.[01](\.attend)? are as large as", words)
    assert "lower lr, warm up longer" in words
    of_attention = next(words for _, words in warned if "attention logits" in words)
    assert "lower lr, warm up longer, or normalise queries and keys (QK-norm)" in of_attention


def test_a_healthy_transformer_is_not_warned_of():
    warned, losses = trained(transformer(), 3e-3, 60)
    assert warned == []
    assert sum(losses[-10:]) < sum(losses[:10])


def test_the_preset_of_the_digits_is_not_warned_of():
    recipe = recipe_from(resolve_recipe("digits", [], []), [])
    warned, losses = trained(recipe.backbone, recipe.lr, 50)
    assert warned == []
    assert sum(losses[-10:]) < sum(losses[:10])


def series(growth, values, every=50, kind="logit"):
    """The step of every warning about one series."""
    said = []
    for i, value in enumerate(values, 1):
        seen = {"rms": {}, "peak": {}, "logit": {}} | {kind: {"a": value}}
        said += [(every * i, words) for words in growth.add(every * i, Watched(**seen))]
    return said


def test_an_exponential_is_met_where_it_goes():
    """Doubling every 100 steps from 200, it is 1e4 at step 564; said with the sixth log, and again when it has come true."""
    said = series(Growth(10_000), [200.0 * 2 ** (i / 2) for i in range(1, 13)])
    assert [step for step, _ in said] == [300, 600]
    assert "1e+04 at step 564 of 10000" in said[0][1]
    assert "beyond 1e+04" in said[1][1]
    assert series(Growth(500), [200.0 * 2 ** (i / 2) for i in range(1, 9)]) == []  # the run ends before


def test_what_does_not_grow_towards_the_limit_is_left_alone():
    noise = torch.randn(40, 60, generator=torch.Generator().manual_seed(0)).tolist()
    false = [series(Growth(10**6), [500.0 * math.exp(0.3 * v) for v in line]) for line in noise]
    assert sum(map(bool, false)) <= 2  # of 40 runs of 60 logs each that go up and down by a third
    assert series(Growth(10**6), [0.01 * 2.0**i for i in range(12)]) == []  # small, however fast it grows
    assert series(Growth(10**6), [300.0 * 1.01**i for i in range(60)]) == []  # by less than two over a window
    assert series(Growth(10**6), [5000.0 * 0.9**i for i in range(20)]) == []


def test_what_is_too_large_or_not_a_number_is_said_once():
    assert [s for s, _ in series(Growth(100), [1.0, 2 * LOGIT_LIMIT, 3 * LOGIT_LIMIT], 1)] == [2]
    assert [s for s, _ in series(Growth(100), [1.0, math.nan, math.inf], 1)] == [2]
    seen = Watched({}, {}, {"a": 2.0, "b": math.nan, "c": 3.0})
    assert "logits of b are as large as nan, beyond 1e+04" in Growth(100).add(1, seen)[0]
    said = series(Growth(100), [1.0, 2 * ACTIVATION_LIMIT], 1, "peak")
    assert said[0][1].startswith("step 2: activations of a are as large as 1.3e+05, beyond 6.5e+04, where half")


def test_resumed_it_says_the_same():
    values = [150.0 * 1.3**i for i in range(14)] + [math.nan]
    whole = series(Growth(10_000), values)
    for cut in (3, 7, 12):
        first, again = Growth(10_000), Growth(10_000)
        said = series(first, values[:cut])
        again.restore({k: v.clone() for k, v in first.state().items()})
        for i, value in enumerate(values[cut:], cut + 1):
            said += [(50 * i, words) for words in again.add(50 * i, Watched({}, {}, {"a": value}))]
        assert said == whole
    assert whole
    with pytest.raises(ValueError, match=r"holds \['a'\]; allowed: what Growth.state"):
        Growth(10).restore({"a": torch.zeros(1, 2)})


def test_refusals():
    with pytest.raises(ValueError, match=r"window=3\); allowed: steps >= 1, limits > 0, window >= 6"):
        Growth(100, window=3)
