"""Weights of ADM and improved DDPM in their authors' names: the same numbers as diffusers' network has with them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from adm_original import PUBLISHED, Shape, config, shapes, to_diffusers, weights
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor

from sfumato.diffusion import Denoiser
from sfumato.diffusion.backbones import ADM
from sfumato.diffusion.published.adm import is_adm, read_adm
from sfumato.diffusion.published.adm_facts import ADMFacts, ADMShape, adm_facts
from sfumato.schedules import Eps

SMALL = Shape(32, (1, 2), 2, (False, True), 5)
FACTS = ADMFacts("small", 8, 32)


def asked(net: torch.nn.Module, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    x, time = torch.randn(3, 3, 8, 8, generator=generator), torch.tensor([0.0, 17.0, 999.0])
    labels = torch.tensor([0, 4, 2]) if classes else None
    with torch.no_grad():
        return net(x, time, labels) if isinstance(net, ADM) else net(x, time, class_labels=labels).sample


@pytest.mark.parametrize(
    "shape",
    [
        SMALL,
        Shape(64, (0.5, 1, 1.5), 1, (False, True, True), 0, 3),
        Shape(32, (1, 2), 1, (True, True), 5, 6, "conv"),
        Shape(32, (1, 1), 2, (False, True), 0, 6, "conv", False),
    ],
    ids=["ADM", "half", "conv", "added"],
)
@pytest.mark.parametrize("interleaved", [True, False])
def test_what_is_read_answers_as_diffusers_network_does(shape: Shape, interleaved: bool) -> None:
    found = weights(shape)
    published = read_adm(found, facts=FACTS._replace(interleaved=interleaved))
    told = 4 * shape.width
    peer = UNet2DModel(**config(shape, 8, 32), time_embedding_dim=told)  # pyright: ignore[reportArgumentType]
    if (
        shape.multipliers[0] != 1
    ):  # a UNet2DModel's sinusoid has as many numbers as the first level channels, ADM's has width
        peer.time_proj = Timesteps(shape.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        peer.time_embedding = TimestepEmbedding(shape.width, told)
    peer.load_state_dict(to_diffusers(shape, found, {w: w // 32 for w in shape.widths} if interleaved else None))
    out = asked(published.backbone, shape.classes)
    assert out.std() > 0.1
    torch.testing.assert_close(out, asked(peer.eval(), shape.classes), atol=1e-5, rtol=1e-5)
    assert published.shape == (3, 8, 8)
    assert published.num_classes == shape.classes
    assert published.backbone.config["attention"] == [8 >> i for i, on in enumerate(shape.attends) if on]  # pyright: ignore


def test_the_order_of_qkv_matters() -> None:
    found = weights(SMALL)
    old, new = (read_adm(found, facts=FACTS._replace(interleaved=i)).backbone for i in (True, False))
    assert (asked(old, 5) - asked(new, 5)).abs().max() > 1e-2


@pytest.mark.parametrize("size", list(PUBLISHED))
def test_what_was_published_is_told_by_its_weights(size: int) -> None:
    shape = PUBLISHED[size]
    found = {name: torch.empty(s, device="meta") for name, s in shapes(shape).items()}
    assert is_adm(found)
    published = read_adm(found)
    net = published.backbone
    assert isinstance(net, ADM)
    assert published.name == f"ADM ImageNet-{size}"
    assert (published.shape, published.num_classes, published.null_class, published.latents) == (
        (3, size, size),
        1000,
        False,
        False,
    )
    assert net.config["attention"] == [32, 16, 8]
    assert (net.config["head_width"], net.config["heads"]) == ((None, 4) if size == 128 else (64, None))
    assert sum(p.numel() for p in net.parameters()) == sum(v.numel() for v in found.values())
    peer = DDPMScheduler(beta_schedule="squaredcos_cap_v2" if size == 64 else "linear")
    expected = peer.alphas_cumprod.double()
    for i in (0, 499, 998):
        level = published.schedule((i + 1) / 1000)
        assert float(level.alpha) ** 2 == pytest.approx(float(expected[i]), rel=2e-4)
        assert published.clock(level) == i
    assert isinstance(published.row, Eps)


@pytest.mark.parametrize(
    (
        "updown", "multipliers", "classes", "scale_shift", "size", "head_width", "heads", "interleaved", "noise", "steps", "rescaled",
        "dropout",
    ),
    [
        ("block", (1, 2, 3, 4), True, True, 64, 64, None, False, "cosine", 1000, False, 0.1),
        ("block", (1, 1, 2, 3, 4), True, True, 128, None, 4, True, "linear", 1000, False, 0.0),
        ("block", (1, 1, 2, 2, 4, 4), True, True, 256, 64, None, True, "linear", 1000, False, 0.0),
        ("block", (1, 1, 2, 2, 4, 4), False, True, 256, 64, None, True, "linear", 1000, False, 0.0),
        ("block", (0.5, 1, 1, 2, 2, 4, 4), True, True, 512, 64, None, True, "linear", 1000, False, 0.0),
        ("conv", (1, 2, 3, 4), False, True, 64, None, 4, True, "cosine", 4000, True, 0.0),
        ("conv", (1, 2, 3, 4), True, True, 64, None, 4, True, "cosine", 4000, False, 0.0),
        ("conv", (1, 2, 2, 2), False, True, 32, None, 4, True, "cosine", 4000, True, 0.3),
        ("conv", (1, 1, 2, 2, 4, 4), False, False, 256, None, 1, True, "linear", 1000, False, 0.0),
    ],
)  # fmt: skip
def test_what_weights_do_not_say_is_what_the_authors_ran_with(
    updown: Any, multipliers: tuple[float, ...], classes: bool, scale_shift: bool, size: int, head_width: int | None, heads: int | None,
    interleaved: bool, noise: Any, steps: int, rescaled: bool, dropout: float,
) -> None:  # fmt: skip
    """By their flags: use_new_attention_order is ImageNet-64's alone, num_heads 4 that of 128 and of improved DDPM, whose LSUN has 1."""
    known = adm_facts(ADMShape(updown, multipliers, classes, scale_shift))
    assert known is not None
    assert known[1:] == (size, head_width, heads, interleaved, noise, steps, rescaled, dropout)


def test_improved_ddpm_is_told_thousandths_of_four_thousand_steps() -> None:
    """ImageNet-64 without classes and CIFAR-10 were trained with rescaled times, the network with classes was not."""
    for classes, mults, rescaled in ((0, (1, 2, 3, 4), True), (1000, (1, 2, 3, 4), False), (0, (1, 2, 2, 2), True)):
        small = mults == (1, 2, 2, 2)
        attends = (False, True, True, False) if small else (False, False, True, True)
        shape = Shape(192 if classes else 128, mults, 3, attends, classes, 6, "conv")
        found = {name: torch.empty(s, device="meta") for name, s in shapes(shape).items()}
        published = read_adm(found)
        assert published.shape == ((3, 32, 32) if small else (3, 64, 64))
        assert published.schedule.steps == 4000  # pyright: ignore[reportAttributeAccessIssue]
        assert published.backbone.config["attention"] == [16, 8]  # pyright: ignore
        assert published.clock(published.schedule(0.5)) == 1999
        assert published.backbone.config["time_scale"] == (0.25 if rescaled else 1.0)  # pyright: ignore


def test_linear_and_cosine_tables_are_the_authors() -> None:
    beta = read_adm({n: torch.empty(s, device="meta") for n, s in shapes(PUBLISHED[256]).items()}).schedule
    assert float(beta(1 / 1000).alpha) ** 2 == pytest.approx(1 - 1e-4, abs=1e-15)
    cosine = read_adm({n: torch.empty(s, device="meta") for n, s in shapes(PUBLISHED[64]).items()}).schedule
    f = [math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(1000)]
    assert float(cosine(0.5).alpha) ** 2 == pytest.approx(f[500] / f[0], rel=1e-12)
    assert float(cosine(1.0).alpha) ** 2 == pytest.approx(f[999] / f[0] * 1e-3, rel=1e-9)  # its last beta is 0.999


def test_learned_variance_comes_with_the_answer() -> None:
    published = read_adm(weights(SMALL), facts=FACTS)
    denoiser = Denoiser(published.backbone, published.schedule, published.row, published.clock)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        answer = denoiser.answer(x, published.schedule(0.5), {"labels": torch.tensor([1, 2])})
        raw = published.backbone(x, torch.full((2,), 499.0), torch.tensor([1, 2]))
    assert answer.variance is not None
    assert torch.equal(torch.cat([answer.out, answer.variance], 1), raw)


def test_half_precision_and_a_dictionary_of_others_are_told_apart() -> None:
    half = {k: v.half() for k, v in weights(SMALL).items()}
    assert {p.dtype for p in read_adm(half, facts=FACTS).backbone.parameters()} == {torch.float32}
    assert not is_adm(["x_embedder.proj.weight", "time_embed.0.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("middle_block.1.qkv.bias"), "middle_block.1.qkv.bias is missing"),
        (lambda w: w.pop("input_blocks.1.0.emb_layers.1.weight"), "input_blocks.1.0.emb_layers.1.weight is missing"),
        (lambda w: w.pop("out.2.weight"), "out.2.weight is missing"),
        (lambda w: w.update({"out.3.weight": torch.zeros(1)}), "out.3.weight is among the weights, and ADM has no place for it"),
        (lambda w: w.update({"out.0.bias": torch.zeros(7)}), r"out.0.bias has shape \(7,\); expected: \(32,\)"),
        (lambda w: w.update({"output_blocks.0.0.in_layers.2.weight": torch.zeros(64, 1)}), "output_blocks.0.0.in_layers.2.weight has"),
        (lambda w: w.update({"input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}), "input_blocks.0.0.weight has 6 .* an upsampler"),
        (lambda w: [w.pop(k) for k in list(w) if k.startswith("output_blocks.5")], "output_blocks has 5 blocks"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_by_name(change: Any, message: str) -> None:
    found = weights(SMALL)
    change(found)
    with pytest.raises(ValueError, match=message):
        read_adm(found, facts=FACTS)


def test_a_shape_that_was_not_published_needs_facts() -> None:
    with pytest.raises(ValueError, match=r"multipliers \[1, 2\], updown 'block' .* give facts=ADMFacts"):
        read_adm(weights(SMALL))
