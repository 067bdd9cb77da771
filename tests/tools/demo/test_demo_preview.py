"""Latents as colours, and channels that are none."""

import pytest
import torch
import torch.nn.functional as F

from sfumato.tools.demo.preview import LatentColours, as_pictures


class Linear:
    """A decoder of which the truth is known: colours are a linear map of latents, four pixels each."""

    map = torch.tensor([[0.2, -0.1, 0.05, 0.1], [0.0, 0.2, -0.1, 0.05], [0.1, 0.1, 0.2, -0.2]])

    def decode(self, x):
        return F.interpolate(torch.einsum("ck,bkhw->bchw", self.map, x) + 0.1, scale_factor=2.0)

    def picture_shape(self, shape):
        return 3, 2 * shape[1], 2 * shape[2]


class Bent(Linear):
    """One that is linear on no latents but those of unit size, and elsewhere another."""

    def decode(self, x):
        return super().decode(x + 2.0 * x.abs().clamp(min=3.0))


def latents(offset=0.0):
    return torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(3)) + offset


def test_a_linear_decoder_is_known_exactly():
    colours = LatentColours()
    colours.begin(Linear(), 4, torch.device("cpu"))
    x = latents()
    assert torch.allclose(colours(x), F.avg_pool2d(Linear().decode(x), 2), atol=2e-4)
    assert colours.explained(x, Linear().decode(x)) > 0.9999


def test_what_the_model_makes_outweighs_what_was_made_up():
    vae, colours, own = Bent(), LatentColours(), latents(8.0)
    colours.begin(vae, 4, torch.device("cpu"))
    before = colours.explained(own, vae.decode(own))
    colours.learn(latents(8.0).flip(0), vae.decode(latents(8.0).flip(0)))
    assert colours.explained(own, vae.decode(own)) > 0.99 > before


@pytest.mark.parametrize("channels", [2, 4, 5, 16])
def test_channels_that_are_no_colours_lie_side_by_side(channels):
    x = torch.rand(2, channels, 3, 5)
    found = as_pictures(x)
    side = found.shape[-1] // 5
    assert found.shape[1] == 1
    for i in range(channels):
        row, column = divmod(i, side)
        assert torch.equal(found[:, 0, 3 * row : 3 * row + 3, 5 * column : 5 * column + 5], x[:, i])
    # what is left over is black
    assert float(found.sum()) == pytest.approx(float(x.sum()) - (found[0].numel() * 2 - x.numel()), rel=1e-4)


def test_colours_stay_as_they_are():
    x = torch.rand(2, 3, 4, 4)
    assert as_pictures(x) is x
