"""Original DiT checkpoints: the numbers of their own forward pass, and of diffusers' where the two agree."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DiTTransformer2DModel
from torch import Tensor, nn

from sfumato.diffusion import Denoiser
from sfumato.diffusion.backbones.dit import DiT
from sfumato.diffusion.backbones.positions import positions
from sfumato.diffusion.published.dit import is_dit, read_dit
from sfumato.schedules import Eps

WIDTH, HEADS, DEPTH, PATCH, GRID, CLASSES, HIDDEN = 24, 3, 2, 2, 4, 5, 96


def checkpoint(seed: int = 0) -> dict[str, Tensor]:
    """A state dict as the authors' code would save it, of random numbers."""
    generator = torch.Generator().manual_seed(seed)

    def layer(name: str, out: int, inside: int) -> dict[str, Tensor]:
        weight = torch.randn(out, inside, generator=generator) / math.sqrt(inside)
        return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(out, generator=generator)}

    found = layer("x_embedder.proj", WIDTH, 4 * PATCH**2)
    found["x_embedder.proj.weight"] = found["x_embedder.proj.weight"].view(WIDTH, 4, PATCH, PATCH)
    found |= layer("t_embedder.mlp.0", WIDTH, 256) | layer("t_embedder.mlp.2", WIDTH, WIDTH)
    found["y_embedder.embedding_table.weight"] = torch.randn(CLASSES + 1, WIDTH, generator=generator)
    found["pos_embed"] = positions(GRID, WIDTH)[None]
    for i in range(DEPTH):
        block = f"blocks.{i}"
        found |= layer(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | layer(f"{block}.attn.proj", WIDTH, WIDTH)
        found |= layer(f"{block}.mlp.fc1", HIDDEN, WIDTH) | layer(f"{block}.mlp.fc2", WIDTH, HIDDEN)
        found |= layer(f"{block}.adaLN_modulation.1", 6 * WIDTH, WIDTH)
    found |= layer("final_layer.linear", PATCH**2 * 8, WIDTH)
    return found | layer("final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(5, 4, GRID * PATCH, GRID * PATCH, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0.0, 1.0, 250.0, 500.5, 999.0]), torch.arange(5)


def published(w: dict[str, Tensor], x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
    """The paper's figure 3 written down once more, sums and products only."""

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return h * (1 + scale[:, None]) + shift[:, None]

    angles = time[:, None] * torch.tensor([10_000.0 ** (-i / 128) for i in range(128)])
    told = linear("t_embedder.mlp.2", F.silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1))))
    c = F.silu(told + w["y_embedder.embedding_table.weight"][labels])
    h = F.conv2d(x, w["x_embedder.proj.weight"], w["x_embedder.proj.bias"], stride=PATCH).flatten(2).mT + w["pos_embed"]
    for i in range(DEPTH):
        parts = linear(f"blocks.{i}.adaLN_modulation.1", c).chunk(6, 1)
        q, k, v = linear(f"blocks.{i}.attn.qkv", modulated(h, *parts[:2])).chunk(3, 2)
        heads = []
        for part in torch.arange(WIDTH).chunk(HEADS):
            scores = q[..., part] @ k[..., part].mT / math.sqrt(WIDTH // HEADS)
            heads.append(scores.softmax(2) @ v[..., part])
        h = h + parts[2][:, None] * linear(f"blocks.{i}.attn.proj", torch.cat(heads, 2))
        inside = linear(f"blocks.{i}.mlp.fc1", modulated(h, *parts[3:5]))
        h = h + parts[5][:, None] * linear(f"blocks.{i}.mlp.fc2", F.gelu(inside, approximate="tanh"))
    h = linear("final_layer.linear", modulated(h, *linear("final_layer.adaLN_modulation.1", c).chunk(2, 1)))
    out = torch.zeros(len(x), 8, GRID * PATCH, GRID * PATCH)
    for token in range(GRID**2):
        for place in range(PATCH**2):
            row, column = token // GRID * PATCH + place // PATCH, token % GRID * PATCH + place % PATCH
            out[:, :, row, column] = h[:, token, 8 * place : 8 * place + 8]
    return out


def diffusers_dit(w: dict[str, Tensor], norm_eps: float = 1e-6) -> DiTTransformer2DModel:
    """diffusers' network with the same weights, as its conversion lays them out."""
    net = DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=4, out_channels=8, num_layers=DEPTH,
        sample_size=GRID * PATCH, patch_size=PATCH, num_embeds_ada_norm=CLASSES, norm_eps=norm_eps,
    )  # fmt: skip
    renamed = {"pos_embed.proj": "x_embedder.proj", "proj_out_1": "final_layer.adaLN_modulation.1"}
    renamed["proj_out_2"] = "final_layer.linear"
    state: dict[str, Tensor] = {}
    for i in range(DEPTH):
        ours, theirs = f"transformer_blocks.{i}", f"blocks.{i}"
        renamed[f"{ours}.norm1.emb.timestep_embedder.linear_1"] = "t_embedder.mlp.0"
        renamed[f"{ours}.norm1.emb.timestep_embedder.linear_2"] = "t_embedder.mlp.2"
        renamed[f"{ours}.norm1.linear"] = f"{theirs}.adaLN_modulation.1"
        renamed[f"{ours}.attn1.to_out.0"] = f"{theirs}.attn.proj"
        renamed[f"{ours}.ff.net.0.proj"] = f"{theirs}.mlp.fc1"
        renamed[f"{ours}.ff.net.2"] = f"{theirs}.mlp.fc2"
        state[f"{ours}.norm1.emb.class_embedder.embedding_table.weight"] = w["y_embedder.embedding_table.weight"]
        for kind in ("weight", "bias"):
            parts = w[f"{theirs}.attn.qkv.{kind}"].chunk(3)
            state |= {f"{ours}.attn1.to_{n}.{kind}": p for n, p in zip("qkv", parts, strict=True)}
    state |= {f"{a}.{kind}": w[f"{b}.{kind}"] for a, b in renamed.items() for kind in ("weight", "bias")}
    net.load_state_dict(state)
    return net.eval()


@torch.no_grad()
def test_a_checkpoint_gives_the_numbers_of_its_authors_forward_pass() -> None:
    weights, (x, time, labels) = checkpoint(), inputs()
    found = read_dit(weights, heads=HEADS)
    torch.testing.assert_close(
        found.backbone(x, time, labels), published(weights, x, time, labels), atol=2e-4, rtol=1e-4
    )
    assert (found.shape, found.num_classes, found.null_class, found.latents) == ((4, 8, 8), CLASSES, True, True)
    assert (found.name, found.row, found.backbone.training) == ("DiT-24/2", Eps(), False)
    null = torch.full_like(labels, CLASSES)
    assert torch.equal(found.backbone(x, time), found.backbone(x, time, null))


@torch.no_grad()
def test_it_is_diffusers_network_but_for_the_times_frequencies() -> None:
    """diffusers' exponents are i / 127 where the published are i / 128: one network at t = 0, two at others."""
    weights, (x, time, labels) = checkpoint(), inputs()
    net, theirs = read_dit(weights, heads=HEADS).backbone, diffusers_dit(weights)
    out, other = net(x, time, labels), theirs(x, time, labels).sample
    torch.testing.assert_close(out[0], other[0], atol=1e-5, rtol=1e-5)
    apart = (out - other).flatten(1).norm(dim=1) / out.flatten(1).norm(dim=1)
    assert apart[0] < 1e-6
    assert apart[2:].min() > 0.05  # nothing of one frequency set is right under the other
    config = {**net.config, "frequencies": "diffusers"}
    same = DiT(**config).eval()
    same.load_state_dict(net.state_dict())
    torch.testing.assert_close(same(x, time, labels), other, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_process_is_ddpms_table_and_the_clock_its_index() -> None:
    found = read_dit(checkpoint(), heads=HEADS)
    table = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear").alphas_cumprod.double()
    entries = torch.tensor([0, 1, 499, 998, 999])
    level = found.schedule((entries + 1).double() / 1000)
    torch.testing.assert_close(level.alpha**2, table[entries], atol=1e-6, rtol=1e-5)
    assert torch.equal(torch.as_tensor(found.clock(level)), entries.double())
    denoiser = Denoiser(found.backbone, found.schedule, found.row, found.clock)
    x, _, labels = inputs()
    answer = denoiser.answer(x, level, {"labels": labels})
    out = found.backbone(x, entries.float(), labels)
    assert answer.variance is not None
    assert torch.equal(torch.cat([answer.out, answer.variance], 1), out)


def test_what_is_no_dit_is_refused_by_the_key() -> None:
    weights = checkpoint()
    assert is_dit(weights)
    assert not is_dit(DiT(4, 8, 5, width=24, depth=1, heads=3).state_dict())
    lost = {k: v for k, v in weights.items() if k != "blocks.1.mlp.fc2.bias"}
    cases: list[tuple[str, dict[str, Tensor], int | None]] = [
        (r"no 'blocks\.1\.mlp\.fc2\.bias'", lost, HEADS),
        (r"has 'projectors\.0\.weight'", {**weights, "projectors.0.weight": torch.zeros(1)}, HEADS),
        (r"blocks\.1\.attn\.qkv\.weight has shape \(72, 23\)", {**weights, "blocks.1.attn.qkv.weight": torch.zeros(72, 23)}, HEADS),
        ("pos_embed has 15 places", {**weights, "pos_embed": torch.zeros(1, 15, 24)}, HEADS),
        (r"x_embedder\.proj\.weight has shape \(24, 16\)", {**weights, "x_embedder.proj.weight": torch.zeros(24, 16)}, HEADS),
        ("has 20 rows; allowed: 16, or twice", {**weights, "final_layer.linear.weight": torch.zeros(20, 24)}, HEADS),
        (r"24 wide.*384, 768, 1024, 1152; give heads", weights, None),
        ("no 'x_embedder.proj.weight'", {}, None),
    ]  # fmt: skip
    for message, given, heads in cases:
        with pytest.raises(ValueError, match=message):
            read_dit(given, heads)


def test_reading_copies_and_takes_half_precision() -> None:
    weights = {k: v.bfloat16() for k, v in checkpoint().items()}
    net = read_dit(weights, heads=HEADS).backbone
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    weights = checkpoint()
    net = read_dit(weights, heads=HEADS).backbone
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert all(w.any() for w in weights.values())
