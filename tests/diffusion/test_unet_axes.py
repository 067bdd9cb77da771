"""UNets on sequences and volumes: equal to the one on images where the data do not vary along the further axis; and they train."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.diffusion import Batch, LogSNRClock, Recipe, UNet, train
from sfumato.diffusion.plan import check_recipe
from sfumato.guidance import CFG
from sfumato.schedules import X0, Constant, Karras, LogNormal, RectifiedFlow


def unet(dims: int, **changes: object) -> UNet:
    arguments: dict[str, object] = {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "head_width": 8}
    net = UNet(2, 8, 3, dims=dims, **{**arguments, **changes})  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return net.eval()


@pytest.mark.parametrize("dims", [1, 2])
def test_data_that_do_not_vary_along_an_axis_are_data_without_it(dims: int) -> None:
    """A kernel that looks at the middle only along the further axis sees what the network with an axis less sees."""
    low, high = unet(dims).double(), unet(dims + 1).double()
    state = low.state_dict()
    for key, value in high.state_dict().items():
        if value.shape != state[key].shape:
            value.zero_()
            value[..., value.shape[-1] // 2] = state[key]
        else:
            value.copy_(state[key])
    x = torch.randn(3, 2, *[8] * dims, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    time, labels = torch.tensor([-1.0, 0.0, 2.0]), torch.arange(3)
    expected = low(x, time, labels)
    out = high(x[..., None].expand(*x.shape, 4), time, labels)
    assert expected.std() > 1e-2
    torch.testing.assert_close(out, expected[..., None].expand_as(out), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dims", [2, 3])
def test_axes_can_be_turned(dims: int) -> None:
    """Data and kernels with their axes in another order: the output has them in that order, attention's positions, too."""
    net, turned = unet(dims).double(), unet(dims).double()
    for parameter in turned.parameters():
        if parameter.ndim == dims + 2:
            parameter.data = parameter.data.movedim(2, -1)
    x = torch.randn(3, 2, *[4, 8, 2][:dims], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    time, labels = torch.tensor([-1.0, 0.0, 2.0]), torch.arange(3)
    expected = net(x, time, labels).movedim(2, -1)
    assert expected.std() > 1e-2
    torch.testing.assert_close(turned(x.movedim(2, -1), time, labels), expected, atol=1e-10, rtol=1e-10)


def test_what_a_checkpoint_of_two_axes_says_is_what_it_was() -> None:
    keys = "channels size num_classes width multipliers blocks attention head_width dropout time_scale out_channels"
    assert list(unet(2).config) == keys.split()
    net = unet(3, groups=4, time_features=8)
    assert {k: net.config[k] for k in ("groups", "time_features", "dims")} == {
        "groups": 4,
        "time_features": 8,
        "dims": 3,
    }
    again = UNet(**net.config)  # pyright: ignore[reportArgumentType]
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
    assert {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)} == {4}
    assert net.condition.time_in.in_features == 8


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("dims is 4; allowed: 1", {"dims": 4}),
        ("groups is 0", {"groups": 0}),
        ("groups is 3, and a norm has 8 channels", {"groups": 3}),
        ("time_features is 7", {"time_features": 7}),
        ("time_features is 0", {"time_features": 0}),
    ],
)
def test_arguments_that_fit_no_network_are_refused(message: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=message):
        unet(**{"dims": 2, **arguments})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("dims", "shape", "allowed"),
    [
        (1, (4, 2, 7), r"\(B, 2, L\), L a multiple of 2"),
        (1, (4, 2, 8, 8), r"\(B, 2, L\)"),
        (2, (4, 2, 8), r"\(B, 2, H, W\), H and W multiples of 2"),
        (3, (4, 2, 8, 8, 7), r"\(B, 2, D, H, W\), D, H and W multiples of 2"),
    ],
)
def test_inputs_of_other_axes_are_refused(dims: int, shape: tuple[int, ...], allowed: str) -> None:
    with pytest.raises(ValueError, match=allowed):
        unet(dims)(torch.zeros(shape), torch.zeros(4), torch.zeros(4, dtype=torch.int64))


@dataclass(frozen=True)
class Waves:
    """Two classes of data without a spread, a pattern and its negative, on any number of axes."""

    dims: int
    num_classes = 2
    fingerprint = "waves"

    @property
    def pattern(self) -> Tensor:
        halves = torch.tensor([-0.6, -0.6, 0.6, 0.6]).expand([4] * self.dims)
        return torch.stack([torch.full_like(halves, 0.6), halves])

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, *[4] * self.dims)

    def __len__(self) -> int:
        return 64

    def batch(self, index: Tensor) -> Batch:
        labels = index % 2
        sign = (1.0 - 2.0 * labels.float()).view(-1, *[1] * len(self.shape))
        return Batch(sign * self.pattern, labels)


def recipe(dims: int) -> Recipe:
    torch.manual_seed(0)
    net = UNet(2, 4, 2, width=8, multipliers=(1, 2), blocks=1, attention=(2,), head_width=8, dims=dims)  # pyright: ignore[reportArgumentType]
    return Recipe(
        data=Waves(dims), backbone=net, schedule=RectifiedFlow(), row=X0(), clock=LogSNRClock(), density=LogNormal(1.0, 1.6),
        weighting=Constant(),
        steps=80, batch=16, lr=1e-2, warmup=5, ema=0.9, threads=1, sampling_steps=8, grid=Karras(0.02, 20.0), guidance=CFG(1.0),
    )  # fmt: skip


@pytest.mark.parametrize("dims", [1, 3])
def test_sequences_and_volumes_train_and_are_sampled(dims: int, tmp_path: Path) -> None:
    """Trained by the trainer, averaged and sampled: what comes is one of the two patterns."""
    check_recipe(recipe(dims))
    model = train(recipe(dims), tmp_path, progress=False)
    out = model.sample(seeds=range(4), labels=[0, 1, 0, 1])
    patterns = torch.stack([Waves(dims).pattern, -Waves(dims).pattern])
    assert out.images.shape[1:] == patterns.shape[1:]
    errors = (out.images[:, None] - patterns).flatten(2).square().mean(2).sqrt()
    assert errors.amin(1).max() < 0.2


def test_data_of_other_axes_than_the_network_are_refused() -> None:
    for data, net in itertools.permutations((1, 2, 3), 2):
        wrong = replace(recipe(net), data=Waves(data))
        with pytest.raises(ValueError, match=rf"backbone.dims is {net}, .* set backbone.dims: {data}"):
            check_recipe(wrong)
