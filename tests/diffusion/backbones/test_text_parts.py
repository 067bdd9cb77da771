"""How a network hears text: padding and missing text change nothing, and the parts are the sums they claim to be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.diffusion import Denoiser, TimeClock
from sfumato.diffusion.backbones.text import CrossAttention, PooledText, checked_text
from sfumato.schedules import Cosine, V


def cross(qk_norm: bool = False) -> CrossAttention:
    torch.manual_seed(0)
    layer = CrossAttention(8, 6, 2, qk_norm).double()
    nn.init.normal_(layer.out.weight)
    nn.init.normal_(layer.out.bias)
    return layer


def words() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(3, 5, 8, generator=generator), torch.randn(3, 4, 6, generator=generator)
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    return x.double(), text.double(), mask


@pytest.mark.parametrize("qk_norm", [False, True])
def test_cross_attention_is_the_softmax_over_real_tokens(qk_norm: bool) -> None:
    layer, (x, text, mask) = cross(qk_norm), words()
    out = layer(x, text, mask)
    k, v = layer.kv(text).chunk(2, dim=2)
    q = layer.q(x)
    for i in range(2):
        heads = []
        for h in range(2):
            part = slice(4 * h, 4 * h + 4)
            qs, ks, vs = q[i, :, part], k[i, mask[i], part], v[i, mask[i], part]
            if qk_norm:
                qs, ks = (a * (a.square().mean(1, keepdim=True) + 1e-6).rsqrt() for a in (qs, ks))
            heads.append((qs @ ks.T / 2.0).softmax(1) @ vs)
        torch.testing.assert_close(out[i], layer.out(torch.cat(heads, 1)))
    assert not out[2].any()  # no text says nothing, whatever the output layer's bias


def test_padding_and_missing_text_have_finite_gradients_and_none_of_their_own() -> None:
    layer, pool, (x, text, mask) = cross(), PooledText(6, 8).double(), words()
    text.requires_grad_()
    (layer(x, text, mask).square().sum() + pool(text, mask).square().sum()).backward()
    assert text.grad is not None
    assert text.grad[mask].abs().amin() > 0
    assert not text.grad[~mask].any()


def test_pooled_text_is_the_mean_of_the_real_tokens() -> None:
    pool, (_, text, mask) = PooledText(6, 8).double(), words()
    padded = text.masked_fill(~mask[:, :, None], torch.inf)
    out = pool(padded, mask)
    for i in range(2):
        torch.testing.assert_close(out[i], pool.proj(text[i, mask[i]].mean(0)), atol=1e-6, rtol=1e-6)
    assert torch.equal(out[2], pool.proj.bias)


def test_wrong_text_is_refused() -> None:
    text, mask = torch.zeros(2, 3, 6), torch.ones(2, 3, dtype=torch.bool)
    assert checked_text(None, None, 2, 0) is None
    given = checked_text(text, None, 2, 6)
    assert given is not None
    assert torch.equal(given[1], mask)
    for message, arguments in [
        ("text_width is 0", (text, None, 2, 0)),
        ("text is None, and text_width is 6", (None, None, 2, 6)),
        (r"of shape \(2, 3, 6\); allowed: floating point of shape \(4, M, 6\)", (text, None, 4, 6)),
        (r"allowed: floating point of shape \(2, M, 5\)", (text, None, 2, 5)),
        ("text is torch.int64", (text.long(), None, 2, 6)),
        (r"text_mask is torch.bool of shape \(2, 2\)", (text, mask[:, :2], 2, 6)),
        ("text_mask is torch.float32", (text, mask.float(), 2, 6)),
    ]:
        with pytest.raises(ValueError, match=message):
            checked_text(*arguments)


class Listener(nn.Module):
    """A backbone that is told text, or not."""

    def __init__(self, text_width: int) -> None:
        super().__init__()
        self.text_width = text_width

    def forward(self, x, time, text=None, text_mask=None):
        return x


def test_a_denoiser_asks_for_text_where_its_network_was_built_for_it() -> None:
    x, level = torch.zeros(1, 1), Cosine()(0.5)
    hears = Denoiser(Listener(4), Cosine(), V(), TimeClock())
    hears.answer(x, level, {"text": torch.zeros(1, 2, 4), "text_mask": torch.ones(1, 2, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"lacks text, which Listener needs.*\(B, M, 4\)"):
        hears.answer(x, level)
    deaf = Denoiser(Listener(0), Cosine(), V(), TimeClock())
    deaf.answer(x, level)
    with pytest.raises(ValueError, match="Listener does not take that; it takes nothing; give None"):
        deaf.answer(x, level, {"text": torch.zeros(1, 2, 4)})
