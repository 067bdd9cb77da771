"""The UNet that is told texts: without them it is the network that it was, padding says nothing, and no text is no text."""

import pytest
import torch

from sfumato.diffusion import HashedWords, UNet

ARGS = {"channels": 1, "size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}
TEXT = HashedWords(length=6, width=4).encode(["a three", "", "one", "a much longer text than that here"])


def shaken(**changes):
    torch.manual_seed(0)
    net = UNet(**{**ARGS, **changes})
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return net


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_row_depends_on_its_own_words_and_not_on_padding(dims):
    net = shaken(text_width=4, dims=dims)
    torch.manual_seed(1)
    x, time = torch.randn(4, 1, *[8] * dims), torch.rand(4)
    out = net(x, time, **TEXT)
    hidden = {**TEXT, "text": torch.where(TEXT["text_mask"][:, :, None], TEXT["text"], torch.tensor(1e3))}
    assert torch.equal(net(x, time, **hidden), out)
    swapped = net(x, time, **{key: rows[[0, 1, 3, 2]] for key, rows in TEXT.items()})
    moved = (swapped - out).abs().flatten(1).amax(1)
    assert bool((moved[:2] == 0).all())
    assert bool((moved[2:] > 1e-3).all())


def test_tokens_are_heard_beyond_their_mean():
    """Two texts of one mean differ only where blocks attend."""
    a = torch.tensor([[[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]])
    x, time = torch.randn(1, 1, 8, 8), torch.rand(1)
    attends, told = shaken(text_width=4), shaken(text_width=4, attention=())
    for net, differs in ((attends, True), (told, False)):
        difference = net(x, time, text=a) - net(x, time, text=2 * a)
        assert (float(difference.abs().max()) > 1e-3) is differs


def test_a_network_without_text_is_what_it_was():
    torch.manual_seed(0)
    plain = UNet(**ARGS)
    assert "text_width" not in plain.config
    assert not [name for name in plain.state_dict() if "text" in name or "listen" in name]
    torch.manual_seed(0)
    again = UNet(**ARGS, text_width=0)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), again.state_dict().values(), strict=True))
    assert UNet(**ARGS, text_width=4).config["text_width"] == 4
    with pytest.raises(ValueError, match="text_width is 0"):
        plain(torch.zeros(4, 1, 8, 8), torch.zeros(4), **TEXT)
    with pytest.raises(ValueError, match="text is None, and text_width is 4"):
        UNet(**ARGS, text_width=4)(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="text_width is -1"):
        UNet(**ARGS, text_width=-1)


def test_the_mean_of_a_text_is_added_to_the_conditioning():
    """What a network without blocks that attend hears of a text could as well stand in the bias of its time."""
    net, plain = shaken(text_width=4, attention=()), shaken(attention=())
    x, time, text = torch.randn(1, 1, 8, 8), torch.rand(1), torch.tensor([[[1.0, 2, 3, 4], [3.0, 0, -5, 2]]])
    weights = net.state_dict()
    pooled = weights.pop("text_pool.proj.weight") @ torch.tensor([2.0, 1, -1, 3]) + weights.pop("text_pool.proj.bias")
    assert float(pooled.abs().max()) > 0.1
    weights["condition.time_out.bias"] = weights["condition.time_out.bias"] + pooled
    plain.load_state_dict(weights)
    torch.testing.assert_close(net(x, time, text=text), plain(x, time), atol=1e-5, rtol=1e-5)
