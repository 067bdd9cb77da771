"""EDM's own files: an independent reading of their weights, in float64, says what our network says."""

import math
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.diffusion import Denoiser, Model, load
from sfumato.diffusion.published import edm
from sfumato.diffusion.published.edm import is_edm, read_edm
from sfumato.diffusion.published.edm_weights import split_heads
from sfumato.samplers import Heun
from sfumato.schedules import EDM, Karras, Level, VarianceExploding


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TAPS = {"ddpmpp": (1.0, 1.0), "adm": (1.0, 1.0), "ncsnpp": (1.0, 3.0, 3.0, 1.0)}


class Theirs:
    """A small EDM network by its formulas, on weights under NVIDIA's names; a dictionary is all it has."""

    def __init__(
        self, architecture="ddpmpp", size=8, width=8, multipliers=(1, 2), blocks=1, attention=(4,), classes=3, augment=9
    ):
        self.architecture, self.size, self.width, self.multipliers = architecture, size, width, multipliers
        self.blocks, self.attention, self.classes = blocks, attention, classes
        self.adm = architecture == "adm"
        self.root = 1.0 if self.adm else math.sqrt(2)  # what every sum is divided by
        self.random = torch.Generator().manual_seed(0)
        line = torch.tensor(TAPS[architecture])
        self.kernel = (torch.outer(line, line) / line.sum() ** 2)[None, None]
        self.weights, self.kinds = {}, {}
        told, levels = (
            width * (2 if architecture == "ncsnpp" else 1),
            [f"{size >> i}x{size >> i}" for i in range(len(multipliers))],
        )
        if architecture == "ncsnpp":
            self.weights["model.map_noise.freqs"] = self.draw(told // 2) * 16
        for name, before, after, bias in (
            ("map_label", classes, 4 * width if self.adm else told, not self.adm), ("map_augment", augment, told, False),
            ("map_layer0", told, 4 * width, True), ("map_layer1", 4 * width, 4 * width, True),
        ):  # fmt: skip
            if before:
                self.add(f"model.{name}", (after, before), bias)
        now, image, self.enc, self.dec = width * multipliers[0] if self.adm else width, 3, [], []
        skips = [now]
        self.add(f"model.enc.{levels[0]}_conv", (now, 3, 3, 3))
        for i, level in enumerate(levels):
            if i:
                self.block(self.enc, f"model.enc.{level}_down", now, now, False, "down")
                skips.append(now)
                if architecture == "ncsnpp":
                    self.add(f"model.enc.{level}_aux_residual", (now, image, 3, 3))
                    self.weights[f"model.enc.{level}_aux_residual.resample_filter"] = self.kernel
                    self.enc.append(f"model.enc.{level}_aux_residual")
                    image = now
            for j in range(blocks):
                self.block(
                    self.enc, f"model.enc.{level}_block{j}", now, width * multipliers[i], (size >> i) in attention
                )
                now = width * multipliers[i]
                skips.append(now)
        for i in reversed(range(len(levels))):
            if i == len(levels) - 1:
                self.block(self.dec, f"model.dec.{levels[i]}_in0", now, now, True)
                self.block(self.dec, f"model.dec.{levels[i]}_in1", now, now, False)
            else:
                self.block(self.dec, f"model.dec.{levels[i]}_up", now, now, False, "up")
            for j in range(blocks + 1):
                after = width * multipliers[i]
                self.block(
                    self.dec,
                    f"model.dec.{levels[i]}_block{j}",
                    now + skips.pop(),
                    after,
                    (j == blocks or self.adm) and (size >> i) in attention,
                )
                now = after
        self.out = "model.out" if self.adm else f"model.dec.{levels[0]}_aux"
        self.add(f"{self.out}_norm", (now,))
        self.add(f"{self.out}_conv", (3, now, 3, 3))

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.random)

    def add(self, name, shape, bias=True):
        self.weights[f"{name}.weight"] = self.draw(*shape) / math.sqrt(max(math.prod(shape[1:]), 1))
        if bias:
            self.weights[f"{name}.bias"] = 0.3 * self.draw(shape[0])

    def block(self, where, name, before, after, attends, to=""):
        where.append(name)
        self.kinds[name] = (before, after, attends, to)
        for part, shape in {
            "norm0": (before,), "conv0": (after, before, 3, 3), "affine": ((1 + self.adm) * after, 4 * self.width), "norm1": (after,),
            "conv1": (after, after, 3, 3),
        }.items():  # fmt: skip
            self.add(f"{name}.{part}", shape)
        if (to and not self.adm) or before != after:
            self.add(f"{name}.skip", (after, before, 1, 1))
        if to:
            self.weights[f"{name}.conv0.resample_filter"] = self.kernel
            self.weights[f"{name}.skip.resample_filter"] = self.kernel
        if attends:
            for part, shape in {
                "norm2": (after,),
                "qkv": (3 * after, after, 1, 1),
                "proj": (after, after, 1, 1),
            }.items():
                self.add(f"{name}.{part}", shape)

    def get(self, name):
        found = (self.weights.get(f"{name}.{part}") for part in ("weight", "bias"))
        return [None if value is None else value.double() for value in found]

    def norm(self, name, x):
        return F.group_norm(x, min(32, x.shape[1] // 4), *self.get(name), eps=1e-5 if self.adm else 1e-6)

    def resampled(self, x, to):
        kernel = self.kernel.double().expand(x.shape[1], 1, -1, -1)
        pad = (kernel.shape[-1] - 1) // 2
        if to == "up":
            return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=pad, groups=x.shape[1])
        return F.conv2d(x, kernel, stride=2, padding=pad, groups=x.shape[1]) if to else x

    def run_block(self, name, x, condition):
        _, after, attends, to = self.kinds[name]
        h = F.conv2d(self.resampled(F.silu(self.norm(f"{name}.norm0", x)), to), *self.get(f"{name}.conv0"), padding=1)
        told = F.linear(condition, *self.get(f"{name}.affine"))[:, :, None, None]
        if self.adm:
            scale, shift = told.chunk(2, dim=1)
            h = self.norm(f"{name}.norm1", h) * (1 + scale) + shift
        else:
            h = self.norm(f"{name}.norm1", h + told)
        h = F.conv2d(F.silu(h), *self.get(f"{name}.conv1"), padding=1)
        x = self.resampled(x, to)
        if f"{name}.skip.weight" in self.weights:
            x = F.conv2d(x, *self.get(f"{name}.skip"))
        x = (x + h) / self.root
        if attends:
            heads = after // 64 if self.adm else 1
            qkv = F.conv2d(self.norm(f"{name}.norm2", x), *self.get(f"{name}.qkv")).view(
                len(x) * heads, after // heads, 3, -1
            )
            q, k, v = qkv.unbind(2)  # (B heads, C, N)
            weight = torch.einsum("bcq,bck->bqk", q, k / math.sqrt(after // heads)).softmax(2)
            h = torch.einsum("bqk,bck->bcq", weight, v).reshape(x.shape)
            x = (x + F.conv2d(h, *self.get(f"{name}.proj"))) / self.root
        return x

    def __call__(self, x, noise, one_hot, augment):
        """F of float64 (B, 3, size, size), (B,), (B, classes), (B, 9)."""
        if self.architecture == "ncsnpp":
            angles = noise[:, None] * 2 * math.pi * self.weights["model.map_noise.freqs"].double()
        else:
            half = self.width // 2
            angles = noise[:, None] * 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / (half - (not self.adm)))
        vector = torch.cat([angles.cos(), angles.sin()] if self.adm else [angles.sin(), angles.cos()], 1)
        if self.classes and not self.adm:
            vector = vector + F.linear(one_hot * math.sqrt(self.classes), *self.get("model.map_label"))
        if "model.map_augment.weight" in self.weights:
            vector = vector + F.linear(augment, *self.get("model.map_augment"))
        vector = F.linear(F.silu(F.linear(vector, *self.get("model.map_layer0"))), *self.get("model.map_layer1"))
        if self.classes and self.adm:
            vector = vector + F.linear(one_hot, *self.get("model.map_label"))
        vector = F.silu(vector)
        image = x
        x = F.conv2d(x, *self.get(f"model.enc.{self.size}x{self.size}_conv"), padding=1)
        skips = [x]
        for name in self.enc:
            if name.endswith("aux_residual"):
                weight, bias = self.get(name)
                image = F.conv2d(F.pad(image, (2, 2, 2, 2)), weight)
                image = F.conv2d(
                    image, self.kernel.double().expand(image.shape[1], 1, -1, -1), stride=2, groups=image.shape[1]
                )
                x = skips[-1] = image = (x + image + bias[:, None, None]) / math.sqrt(2)
            else:
                x = self.run_block(name, x, vector)
                skips.append(x)
        for name in self.dec:
            if x.shape[1] != self.kinds[name][0]:
                x = torch.cat([x, skips.pop()], 1)
            x = self.run_block(name, x, vector)
        return F.conv2d(F.silu(self.norm(f"{self.out}_norm", x)), *self.get(f"{self.out}_conv"), padding=1)


ADM = {"architecture": "adm", "width": 32, "multipliers": (2, 4), "augment": 0}
SHAPES = {
    "adm": ADM,
    "adm without classes, three levels": {
        **ADM,
        "classes": 0,
        "multipliers": (2, 2, 4),
        "blocks": 2,
        "attention": (8, 4),
    },
    "ddpmpp": {},
    "ncsnpp": {"architecture": "ncsnpp"},
    "no classes, three levels": {
        "classes": 0,
        "augment": 0,
        "multipliers": (1, 2, 2),
        "blocks": 2,
        "attention": (8, 4),
    },
    "ncsnpp, three levels": {"architecture": "ncsnpp", "classes": 0, "multipliers": (2, 1, 3), "attention": ()},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_denoiser_is_theirs(shape):
    """D(x; sigma) = c_skip x + c_out F(c_in x; ln(sigma) / 4), with F by hand; at all levels and both ends."""
    theirs = Theirs(**SHAPES[shape])
    found = read_edm(theirs.weights)
    assert (found.shape, found.num_classes, found.null_class, found.latents) == (
        (3, 8, 8),
        theirs.classes,
        False,
        False,
    )
    assert (found.row, found.schedule) == (EDM(0.5), VarianceExploding(0.002, 80.0, 7.0))
    denoiser = Denoiser(found.backbone.double(), found.schedule, found.row, found.clock)
    random = torch.Generator().manual_seed(1)
    labels = torch.tensor([0, 2, 1 if theirs.adm else 3, 1])
    augment = torch.randn(4, 9, generator=random, dtype=torch.float64)
    for sigma in (0.002, 0.3, 1.0, 80.0):
        x = torch.randn(4, 3, 8, 8, generator=random, dtype=torch.float64) * math.hypot(sigma, 0.5)
        condition, one_hot = {}, None
        if theirs.classes:
            condition["labels"] = labels
            one_hot = F.one_hot(labels, theirs.classes + 1)[
                :, : theirs.classes
            ].double()  # 3 is no class, where there is such a thing
        if found.backbone.augment_features:
            condition["augment"] = augment
        noise = float(
            torch.tensor(math.log(sigma) / 4, dtype=torch.float32)
        )  # our networks are told the time in single precision
        c_in = 1 / math.hypot(sigma, 0.5)
        c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / math.hypot(sigma, 0.5)
        out = theirs(c_in * x, torch.full((4,), noise, dtype=torch.float64), one_hot, augment)
        with torch.no_grad():
            ours = denoiser(x, Level(0.0, 1.0, sigma), condition).x0
        # sines of 16 * 2 pi * time in single precision are where they part
        torch.testing.assert_close(ours, c_skip * x + c_out * out, atol=3e-5, rtol=0)
        assert (c_out * out).abs().max() > 0.01 * min(sigma, 1)


class Precond(nn.Module):
    """Something like an EDMPrecond: a module with weights of given names, and sigma_data."""

    def __init__(self, weights):
        super().__init__()
        self.sigma_data, self.held = 0.5, weights

    def state_dict(self, *args, **kwargs):
        return self.held


def test_rows_of_qkv_are_sorted_by_head_and_channel():
    """Theirs: head, then channel, then which of q, k and v. Ours: which, then head, then channel."""
    heads, width = 2, 3
    theirs = torch.randn(heads * width * 3, 5, generator=torch.Generator().manual_seed(0))
    ours = split_heads(theirs, heads)
    for which in range(3):
        for head in range(heads):
            for channel in range(width):
                row = theirs[(head * width + channel) * 3 + which]
                assert torch.equal(ours[(which * heads + head) * width + channel], row)


def test_the_documented_line_makes_what_load_reads(tmp_path, monkeypatch):
    theirs = Theirs()
    file = tmp_path / "edm-tiny.pkl"
    file.write_bytes(pickle.dumps({"ema": Precond(theirs.weights)}))
    code = re.search(r'python -c "(.*?)"\n', edm.__doc__, re.DOTALL)[1].replace("\\\n", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAME", "edm-tiny")
    exec(code, {})
    model = load(tmp_path / "edm-tiny.safetensors")
    assert (model.shape, model.num_classes, model.null_class) == ((3, 8, 8), 3, False)
    found = read_edm(theirs.weights)
    same = Model(Denoiser(*found[:4]).eval(), found.shape, 3, null_class=False)
    told = {"seeds": [5], "labels": [2], "steps": 4, "sampler": Heun(), "grid": Karras(0.002, 1.0)}
    assert torch.equal(model.sample(**told).images, same.sample(**told).images)
    with pytest.raises(ValueError, match="size is 64, and the network was trained on 8x8"):
        read_edm(theirs.weights, 64)


def test_sigma_data_is_that_of_the_file():
    weights = Theirs().weights
    assert read_edm({**weights, "sigma_data": torch.tensor(0.7, dtype=torch.float64)}).row == EDM(0.7)
    assert is_edm(weights)
    assert not is_edm([k.removeprefix("model.") for k in weights])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("model.map_layer1.bias"), r"model\.map_layer1\.bias is missing"),
        (lambda w: w.pop("model.dec.4x4_in0.qkv.weight"), r"model\.dec\.4x4_in0\.qkv\.weight is missing"),
        (lambda w: w.pop("model.enc.8x8_conv.weight"), r"model\.enc\.8x8_conv\.weight is missing"),
        (lambda w: [w.pop(k) for k in list(w) if "conv1" in k], r"block0\.conv1\.weight is missing"),
        (lambda w: w.update({"model.enc.8x8_block0.extra": torch.ones(1)}), r"model\.enc\.8x8_block0\.extra is not known"),
        (lambda w: w.update({"model.map_layer0.bias": torch.ones(3)}), r"model\.map_layer0\.bias has shape \(3,\); allowed.*\(32,\)"),
        (lambda w: w.update({"model.enc.8x8_conv.weight": torch.ones(3)}), r"model\.enc\.8x8_conv\.weight has shape \(3,\); allowed: 4"),
        (
            lambda w: w.update({"model.enc.4x4_down.skip.resample_filter": torch.ones(1, 1, 2, 2)}),
            r"model\.enc\.4x4_down\.skip\.resample_filter is another filter",
        ),
        (lambda w: w.update({"model.map_noise.freqs": torch.ones(4)}), r"aux_residual\.weight is missing|map_layer0\.weight has shape"),
    ],
)  # fmt: skip
def test_what_is_no_such_network_is_refused_by_the_key(change, said):
    weights = dict(Theirs().weights)
    change(weights)
    with pytest.raises(ValueError, match=said):
        read_edm(weights)


def test_an_adm_that_was_told_of_augmentations_is_refused():
    with pytest.raises(ValueError, match=r"model\.map_augment\.weight is there"):
        read_edm(Theirs(**{**ADM, "augment": 9}).weights)
