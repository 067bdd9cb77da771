"""A run on latents with its VAE: what DiTPipeline makes of it, and what it can't say."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import diffusers
import pytest
import torch
import yaml
from diffusers import DiffusionPipeline

from sfumato.diffusion import (
    Digits,
    DiT,
    EntryClock,
    Hybrid,
    LatentArray,
    LogSNRClock,
    Recipe,
    TimeClock,
    UNet,
    encode,
    load,
    train,
)
from sfumato.diffusion.export import to_diffusers
from sfumato.diffusion.export.dit_pipeline import in_pipeline
from sfumato.diffusion.export.process import process_of
from sfumato.diffusion.vae import Vae
from sfumato.guidance import APG, CFG, Plain
from sfumato.samplers import DDIM, DDPM
from sfumato.schedules import EDM, Eps, Flow, LinearBeta, RectifiedFlow, Trailing, UniformEntries, V, gaussian
from sfumato.tools.cli import main

SMALL = {
    "in_channels": 1, "out_channels": 1, "block_out_channels": (4, 4), "layers_per_block": 1, "latent_channels": 2, "norm_num_groups": 2,
    "mid_block_add_attention": False, "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
SAYS = {
    "sampler": DDIM(),
    "steps": 2,
    "batch": 8,
    "lr": 2e-2,
    "ema": 0.5,
    "warmup": 1,
    "threads": 1,
    "sampling_steps": 5,
}


def saved(folder, **config):
    torch.manual_seed(0)
    diffusers.AutoencoderKL(**SMALL, **config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("latent")
    encode(Digits(), Vae(saved(place / "vae", scaling_factor=0.5)), place / "latents", batch=256)
    return place


def trained(place, name, net=None, **rest):
    torch.manual_seed(0)
    net = DiT(2, 4, 10, 2, 16, 1, 2, frequencies="diffusers") if net is None else net
    with torch.no_grad():
        for p in net.parameters():  # so that it answers something
            p.add_(0.1 * torch.randn_like(p))
    given = {"schedule": LinearBeta(), "row": Eps(), "clock": EntryClock(1000), "guidance": CFG(2.0), **SAYS, **rest}
    made = Recipe(LatentArray(str(place / "latents")), net, **given, sample_every=0, save_every=0)
    train(made, place / name)
    return place / name


@pytest.fixture(scope="module")
def run(place):
    return trained(place, "run")


@pytest.fixture(scope="module")
def done(run, place):
    return to_diffusers(run, place / "out", vae=place / "vae")


def ours(run, place, scale, **rest):
    """Our pictures from noise that the pipeline draws from seed 5."""
    model = load(run, vae=place / "vae", **rest)
    noise = torch.randn(3, *model.shape, generator=torch.manual_seed(5))
    levels = model.grid(model.denoiser.schedule, 5)
    x, labels, null = noise, torch.tensor([1, 7, 9]), torch.full((3,), 10)
    for now, nxt in pairwise(levels):  # DDIM, written out
        both = [model.denoiser(x, now, {"labels": told}) for told in (labels, null)]
        x0, eps = (ref + scale * (cond - ref) for cond, ref in ((both[0].x0, both[1].x0), (both[0].eps, both[1].eps)))
        x = nxt.alpha * x0 + nxt.sigma * eps
    return model.vae.decode(x)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("variant", [None, "ema"])
def test_plain_diffusers_makes_our_pictures(run, place, done, scale, variant):
    pipe = DiffusionPipeline.from_pretrained(done.folder, variant=variant)
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe).__name__ == "DiTPipeline"
    given = {"num_inference_steps": 5, "output_type": "pt", "guidance_scale": scale}
    theirs = pipe(pipe.get_label_ids(["1", "7", "9"]), generator=torch.manual_seed(5), **given).images * 2 - 1
    with torch.no_grad():
        wanted, other = (ours(run, place, each, ema=variant == "ema") for each in (scale, scale + 1))
    assert float((theirs - wanted).abs().max()) < 1e-5  # this VAE makes little of a difference in latents
    assert float((theirs - other).abs().max()) > 1e-2  # guidance is seen


def test_what_lies_there(run, place, done):
    assert sorted(p.name for p in done.folder.iterdir()) == [
        "README.md", "model_index.json", "scheduler", "sfumato.yaml", "transformer", "vae",
    ]  # fmt: skip
    for file in (place / "vae").iterdir():
        assert (done.folder / "vae" / file.name).read_bytes() == file.read_bytes()
    load(run, vae=done.folder / "vae")  # by its hashes it is the one of the run
    index = json.loads((done.folder / "model_index.json").read_text())
    assert index["id2label"] == {str(i): str(i) for i in range(10)}
    assert json.loads((done.folder / "transformer" / "config.json").read_text())["num_embeds_ada_norm"] == 1000
    told = yaml.safe_load((done.folder / "sfumato.yaml").read_text())
    assert (told["num_classes"], told["null_label"], told["diffusers"]["pipeline"]) == (10, 1000, "DiTPipeline")
    for parity in done.parity.values():
        assert parity.network < 1e-5
        assert max(*parity.pictures, *parity.guided) < 1e-5
        assert parity.scale == 2.0
    known = {}
    for block in re.findall(r"```python\n(.*?)```", (done.folder / "README.md").read_text(), re.DOTALL):
        exec(block, known)
    assert len(known["images"]) == 10
    assert known["images"][0].size == (8, 8)
    assert known["x"].shape == (10, 2, 4, 4)


def test_it_comes_back_as_it_was(run, place, done):
    own, back = load(run, vae=place / "vae"), load(done.folder)
    assert (back.num_classes, back.null_class, back.latents, back.picture_shape) == (10, True, True, (1, 8, 8))
    assert (back.sampler, back.grid, back.steps, back.guidance) == (own.sampler, own.grid, 5, CFG(2.0))
    told = {"seeds": [3, 4], "labels": [7, None]}
    wanted = own.sample(**told).images
    torch.testing.assert_close(back.sample(**told).images, wanted, atol=1e-5, rtol=0)
    assert float((own.sample(seeds=[3, 4], labels=[8, 1]).images - wanted).abs().max()) > 1e-2


def test_a_learned_variance_goes_along(place):
    net = DiT(2, 4, 10, 2, 16, 1, 2, frequencies="diffusers", out_channels=4)
    run = trained(
        place,
        "learned",
        net,
        objective=Hybrid(),
        density=UniformEntries(1000),
        sampler=DDPM("learned"),
        guidance=Plain(),
    )
    done = to_diffusers(run, place / "learned-out", vae=place / "vae")
    assert "small" in " ".join(done.notes)
    pipe = DiffusionPipeline.from_pretrained(done.folder)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.scheduler.config.variance_type == "fixed_small"
    assert pipe([3], num_inference_steps=5, output_type="pt", guidance_scale=1).images.shape == (1, 1, 8, 8)
    own, back = load(run, vae=place / "vae"), load(done.folder)
    assert back.sampler == own.sampler == DDPM("learned")
    told = {"seeds": [3, 4], "labels": [7, 2]}
    torch.testing.assert_close(back.sample(**told).images, own.sample(**told).images, atol=1e-5, rtol=0)


def test_a_network_without_classes_can_be_asked_any(place):
    """Guided or not it makes the same pictures, since all rows of its table are zero."""
    net = DiT(2, 4, 0, 2, 16, 1, 2, frequencies="diffusers")
    run = trained(place, "none", net, guidance=Plain(), row=V(), clock=TimeClock(1000.0))
    done = to_diffusers(run, place / "none-out", vae=place / "vae")
    assert done.parity["ema"].pictures[0] < 1e-5
    assert done.parity["ema"].guided[0] < 1e-5
    own, back = load(run, vae=place / "vae"), load(done.folder)
    assert (back.num_classes, back.guidance) == (0, Plain())
    torch.testing.assert_close(back.sample([3]).images, own.sample([3]).images, atol=1e-5, rtol=0)


def test_a_unet_has_its_vae_beside_it(place):
    net = UNet(2, 4, 10, 8, [1, 2], 1, [], groups=2, time_features=8)
    run = trained(place, "unet", net)
    done = to_diffusers(run, place / "unet-out", vae=place / "vae")
    assert (done.pipeline, (done.folder / "model_index.json").exists()) == (None, False)
    said = "No pipeline of diffusers runs a UNet2DModel with it. Pictures are vae.decode(x / 0.5 + 0).sample"
    assert said.lower() in (done.folder / "README.md").read_text().lower()
    known = {}
    for block in re.findall(r"```python\n(.*?)```", (done.folder / "README.md").read_text(), re.DOTALL):
        exec(block, known)
    vae = diffusers.AutoencoderKL.from_pretrained(done.folder / "vae")
    noise = gaussian(torch.tensor([3]), 0, -1, 0, (2, 4, 4))
    pictures = vae.decode(known["sample"](noise, torch.tensor([7])) / 0.5 + 0).sample.detach().clamp(-1, 1)
    own, back = load(run, vae=place / "vae"), load(done.folder)
    wanted = own.sample([3], [7]).images
    torch.testing.assert_close(pictures, wanted, atol=2e-4, rtol=0)
    torch.testing.assert_close(back.sample([3], [7]).images, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("what", ["another", "none there", "pictures", "program"])
def test_another_vae_is_refused(run, place, tmp_path, what, capsys):
    says = {
        "another": "config are not those of the VAE that made the latents",
        "none there": "holds no config.json",
        "pictures": "leave vae out",
        "program": "only a folder of diffusers holds a VAE",
    }[what]
    vae = place / "vae" if what in ("pictures", "program") else tmp_path / "vae"
    if what == "another":
        saved(vae, scaling_factor=0.5, sample_size=64)
    if what == "pictures":
        net = DiT(1, 8, 10, 4, 16, 1, 2, frequencies="diffusers")
        made = Recipe(Digits(), net, LinearBeta(), Eps(), clock=EntryClock(1000), **SAYS, sample_every=0, save_every=0)
        train(made, tmp_path / "pictures")
        run = tmp_path / "pictures"
    more = ["--to", "torch"] if what == "program" else []
    assert main(["export", str(run), "--out", str(tmp_path / "out"), "--vae", str(vae), *more]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_prints_how_near_the_pictures_are(run, place, tmp_path, capsys):
    assert (
        main(["export", str(run), "--out", str(tmp_path / "out"), "--vae", str(place / "vae"), "--threads", "1"]) == 0
    )
    said = capsys.readouterr().out
    assert "DiTTransformer2DModel with DDIMScheduler (DiTPipeline)" in said
    assert "latents from the same noise, unguided" in said
    assert "and at guidance_scale 2: " in said
    assert 'DiffusionPipeline.from_pretrained("' in said


class Told:
    """A VAE as far as it is asked here."""

    def __init__(self, kind="AutoencoderKL", shift=(0.0,), scaling=(0.5,)):
        self.kind, self.shift, self.scaling = kind, torch.tensor(shift), torch.tensor(scaling)

    def describe(self):
        return {"class": self.kind}


def model(**rest):
    given = {"classes": 3, "null": True, "schedule": LinearBeta(), "row": Eps(), "clock": TimeClock(1000.0), **rest}
    denoiser = SimpleNamespace(
        schedule=given["schedule"],
        row=given["row"],
        clock=given["clock"],
        input_std=given.get("std"),
        backbone=SimpleNamespace(config={}),
    )
    return SimpleNamespace(
        num_classes=given["classes"], null_class=given["null"], denoiser=denoiser, sampler=DDIM(), grid=Trailing(), steps=5,
        guidance=given.get("guidance", Plain()), text=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rest", "vae", "words"),
    [
        ({"classes": 1001}, {}, "num_classes is 1001; allowed with vae: at most 1000"),
        ({"null": False}, {}, "label_dropout is 0"),
        (
            {"schedule": RectifiedFlow(), "row": Flow()},
            {},
            "FlowMatchEulerDiscreteScheduler, which DiTPipeline can't run",
        ),
        (
            {"row": EDM(0.5), "clock": LogSNRClock(-0.125), "std": 0.5},
            {},
            "EDMEulerScheduler, which DiTPipeline can't run.*scaled",
        ),
        ({}, {"kind": "AutoencoderTiny"}, "AutoencoderTiny; allowed for DiTPipeline: AutoencoderKL"),
        ({}, {"shift": (0.1,)}, "shifted by .*shift 0 and one scaling"),
        ({}, {"scaling": (0.5, 0.6)}, "shift 0 and one scaling"),
    ],
)
def test_what_the_pipeline_cannot_say_is_refused(rest, vae, words):
    made = model(**rest)
    with pytest.raises(ValueError, match=words):
        in_pipeline(made, process_of(made), Told(**vae))


def test_guidance_that_it_does_not_know_is_said():
    for rule, known in ((Plain(), True), (CFG(3.0), True), (CFG(0.5), False), (APG(3.0), False)):
        made = model(guidance=rule)
        notes = in_pipeline(made, replace(process_of(made), notes=[]), Told()).notes
        assert bool(notes) != known
