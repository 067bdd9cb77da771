"""The sampling API: seeds, labels, counts, pictures and their metadata."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.diffusion import Denoiser, Digits, Model, Recipe, TimeClock, UNet, load, train
from sfumato.diffusion.images import contact_sheet, read_settings, save_png, to_pixels
from sfumato.guidance import CFG, Interval, Plain
from sfumato.samplers import DDIM, DDPM, GHVB, DPMSolverPP, Heun
from sfumato.samplers.filters import TrajectoryVariance
from sfumato.schedules import (
    EDM,
    X0,
    Eps,
    InputScaled,
    LinearBeta,
    LinearGamma,
    PairingError,
    RectifiedFlow,
    Shifted,
    V,
    karras,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1, 2), blocks=1, attention=())
    with torch.no_grad():  # a network that answers something, untrained
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return Model(Denoiser(net, RectifiedFlow(), EDM(0.75), TimeClock()), (1, 8, 8), 10, steps=6)


@pytest.mark.parametrize("sampler", [DDIM(), DDPM(), DPMSolverPP(2), GHVB(3.8), Heun()], ids=str)
def test_a_picture_depends_on_its_seed_and_label_only(model, sampler):
    seeds, labels = list(range(12)), [i % 10 for i in range(12)]
    whole = model.sample(seeds, labels, sampler=sampler, guidance=CFG(2.0))
    alone = model.sample([7], [7], sampler=sampler, guidance=CFG(2.0))
    turned = model.sample(seeds[::-1], labels[::-1], sampler=sampler, guidance=CFG(2.0), batch=5)
    assert torch.allclose(whole.images[7], alone.images[0], atol=1e-4)
    assert torch.allclose(whole.images, turned.images.flip(0), atol=1e-4)
    assert (abs(to_pixels(whole.images).astype(int) - to_pixels(turned.images.flip(0)).astype(int)) <= 1).all()
    assert not torch.allclose(whole.images[0], whole.images[10], atol=1e-2)  # another seed, the same label


def test_strict_pictures_are_byte_equal(model):
    seeds, labels = list(range(9)), [i % 10 for i in range(9)]
    whole = model.sample(seeds, labels, guidance=CFG(2.0), strict=True, batch=4)
    for i in (0, 5, 8):
        alone = model.sample([i], [labels[i]], guidance=CFG(2.0), strict=True, batch=4)
        assert torch.equal(whole.images[i], alone.images[0])
    turned = model.sample(seeds[::-1], labels[::-1], guidance=CFG(2.0), strict=True, batch=4)
    assert torch.equal(whole.images, turned.images.flip(0))


def test_evaluations_per_slot_and_branch(model):
    levels = karras(RectifiedFlow(), 10)
    inside = sum(0.2 < level.ratio <= 2.0 for level in levels[:-1])
    out = model.sample([1, 2], [3, 3], steps=10, grid=karras, guidance=Interval(CFG(3.0), 0.2, 2.0))
    assert out.branches == ("cond", "ref")
    assert out.evaluations.tolist() == [[10, inside]] * 2
    assert model.sample([1], [3], steps=10).evaluations.tolist() == [[10, 0]]


def test_filters_refill_and_count_lost_attempts(model):
    seeds = range(16)
    scores = model.sample(seeds, filters=[TrajectoryVariance(low=-3.0)], retries=0).scores[0]
    threshold = float(scores.median())
    out = model.sample(seeds, filters=[TrajectoryVariance(threshold, low=-3.0)], retries=30, batch=4)
    assert out.kept.all()
    assert (out.scores[0] <= threshold).all()
    assert (out.attempts > 0).any()
    assert torch.equal(out.evaluations[:, 0], 6 * (out.attempts + 1))
    first = out.attempts == 0
    assert torch.allclose(out.images[first], model.sample(seeds).images[first], atol=1e-4)


def test_a_slot_without_a_picture_is_nan_and_crossed_out(model, tmp_path):
    out = model.sample([0, 1], filters=[TrajectoryVariance(0.0, low=-3.0)], retries=1)
    assert not out.kept.any()
    assert out.images.isnan().all()
    assert out.save(tmp_path) == []
    sheet = out.sheet()
    colors = {c for _, c in sheet.getcolors(100_000)}
    assert (178, 34, 34) in colors  # the cross


def test_pngs_carry_their_settings(model, tmp_path):
    out = model.sample([5, 2**62], [1, None], steps=4, guidance=CFG(2.0))
    paths = out.save(tmp_path)
    assert [p.name for p in paths] == ["seed-00000005.png", f"seed-{2**62}.png"]
    settings = read_settings(paths[0])
    assert settings["seed"] == 5
    assert settings["label"] == 1
    assert settings["steps"] == 4
    assert settings["guidance"] == {"class_path": "sfumato.guidance.CFG", "init_args": {"scale": 2.0, "against": "ref"}}
    assert settings["evaluations"] == {"cond": 4, "ref": 4}
    with Image.open(paths[0]) as image:
        assert image.size == (8, 8)
        assert (np.asarray(image) == to_pixels(out.images[0])[..., 0]).all()
    out.save_sheet(tmp_path / "sheet.png")
    assert [p["seed"] for p in read_settings(tmp_path / "sheet.png")["pictures"]] == [5, 2**62]
    assert len(model.sample([3, 3], [0, 1]).save(tmp_path / "twice")) == 2
    plain = tmp_path / "plain.png"
    Image.new("L", (2, 2)).save(plain)
    with pytest.raises(ValueError, match="carries no settings"):
        read_settings(plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0,), [10]), r"label 10; allowed: 0 to 9"),
        (((0,), [-1]), r"label -1; allowed"),
        (((0,), [True]), r"label True; allowed"),
        (((0, 1), [3]), r"1 labels for 2 seeds"),
        (((-1,), [3]), r"seed -1; allowed"),
        (((2**70,), [3]), r"allowed: whole numbers in \[0, 2\^63\)"),
        (((), []), r"seeds is empty"),
        ((7, [3]), r"seeds is 7; allowed: a sequence"),
    ],
)
def test_refusals(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.sample(*arguments)


@pytest.mark.parametrize("steps", [0, -3, 10**6, float("nan"), 2.7])
def test_steps_out_of_range(model, steps):
    with pytest.raises(ValueError, match="steps is"):
        model.sample([0], steps=steps)


def test_an_unconditional_model_takes_no_labels():
    net = UNet(channels=1, size=8, width=8, multipliers=(1,), blocks=1, attention=())
    plain = Model(Denoiser(net, LinearBeta(), V(), TimeClock()), (1, 8, 8), steps=2)
    assert plain.sample([0]).labels is None
    with pytest.raises(ValueError, match="trained without classes"):
        plain.sample([0], [1])
    with pytest.raises(ValueError, match="steers away from 'ref', the model without a condition"):
        plain.sample([0], guidance=CFG(2.0))


def test_no_label_at_all_costs_one_branch(model):
    """Guidance would steer from the null class to itself."""
    out = model.sample([1, 2], guidance=CFG(4.0))
    assert out.evaluations.tolist() == [[6, 0]] * 2
    assert torch.equal(out.images, model.sample([1, 2], guidance=Plain()).images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": DDIM}, r"sampler is the class DDIM; give an instance, DDIM\(\)"),
        ({"sampler": "DDIM"}, "sampler is 'DDIM', which is no Sampler"),
        ({"guidance": 3.0}, "guidance is 3.0, which is no Guidance"),
        ({"filters": "x"}, "filters is 'x', which is no Filter"),
        ({"filters": [TrajectoryVariance]}, "filters is the class TrajectoryVariance"),
        ({"labels": 3}, r"labels is 3; give one per seed, such as labels=\[3\] \* 1"),
    ],
    ids=str,
)
def test_wrong_types_are_named(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.sample([0], **arguments)


def test_one_filter_need_not_be_in_a_list(model):
    assert len(model.sample([0], [1], filters=TrajectoryVariance(low=-3.0)).scores) == 1


def test_numbers_that_are_not_finite_are_an_error_not_a_black_picture(model):
    net = UNet(channels=1, size=8, width=8, multipliers=(1,), blocks=1, attention=())
    with torch.no_grad():
        next(iter(net.parameters())).fill_(torch.nan)
        for p in net.parameters():
            p.fill_(torch.nan)
    broken = Model(Denoiser(net, LinearBeta(), V(), TimeClock()), (1, 8, 8), steps=2)
    with pytest.raises(FloatingPointError, match=r"not finite for seed\(s\) \[4, 9\]"):
        broken.sample([4, 9])


def test_a_meaningless_level_is_refused_before_the_network_runs():
    net = UNet(channels=1, size=8, width=8, multipliers=(1,), blocks=1, attention=())
    calls = []
    net.register_forward_hook(lambda *a: calls.append(1))
    model = Model(Denoiser(net, LinearBeta(), Eps(), TimeClock()), (1, 8, 8))
    model.denoiser.schedule = RectifiedFlow()
    with pytest.raises(PairingError, match="Eps at zero SNR"):
        model.sample([0], steps=3)
    assert calls == []


def test_an_x0_network_is_fine_down_to_the_data(model):
    net = UNet(channels=1, size=8, width=8, multipliers=(1,), blocks=1, attention=())
    x0 = Model(Denoiser(net, RectifiedFlow(), X0(), TimeClock()), (1, 8, 8))
    for sampler in (DDIM(), DPMSolverPP(3), Heun(), GHVB()):
        # an untrained network says x0 = 0: that is where the last step ends
        assert float(x0.sample([0], steps=4, sampler=sampler).images.abs().max()) < 1e-6


def test_load_refuses_what_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config.yaml"):
        load(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match="lacks backbone"):
        load(tmp_path)


def test_load_gives_the_checkpoint_of_a_step(tmp_path):
    """The run of 2 steps and the run of 4 are one run, so its checkpoint of step 2 is the shorter run's last."""

    def run(name, steps, **changes):
        torch.manual_seed(0)
        net = UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1, 2), blocks=1, attention=())
        parts = {"data": Digits(), "backbone": net, "schedule": RectifiedFlow(), "row": V(), "batch": 8, "threads": 1}
        recipe = Recipe(**parts, steps=steps, lr_end=1.0, warmup=0, **changes)
        return train(recipe, tmp_path / name, progress=False)

    short = run("short", 2)
    run("long", 4, save_every=1, keep=9)
    early, late = load(tmp_path / "long", step=2), load(tmp_path / "long", step=4)
    assert (early.source["checkpoint"], late.source["checkpoint"]) == (2, 4)
    for a, b in zip(early.denoiser.parameters(), short.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, c) for a, c in zip(early.denoiser.parameters(), late.denoiser.parameters(), strict=True)
    )
    with pytest.raises(ValueError, match=r"step is 7, of which .* allowed: 1, 2, 3, 4"):
        load(tmp_path / "long", step=7)
    (tmp_path / "long" / "checkpoints" / "step-000000003" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not valid: state\.json is not the file that was saved"):
        load(tmp_path / "long", step=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "it is empty"), ("a: [", "is not YAML"), ("- 1", "it holds no keys")],
)
def test_load_refuses_a_damaged_config(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_sheet_places_groups_and_titles():
    rows = [torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8)]
    sheet = contact_sheet(rows, ["a", "b"], tile=16, groups=[("real", 1), ("made", 2)])
    plain = contact_sheet(rows, ["a", "b"], tile=16)
    assert sheet.width > plain.width
    with pytest.raises(ValueError, match="2 channels"):
        contact_sheet([torch.zeros(1, 2, 8, 8)])


def test_pixels_round_and_cut(tmp_path):
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 5)
    assert to_pixels(x).flatten().tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match="not finite"):
        to_pixels(torch.full((1, 1, 1), torch.nan))
    save_png(tmp_path / "deep" / "x.png", x, {"seed": 1})
    assert json.dumps(read_settings(tmp_path / "deep" / "x.png")) == '{"seed": 1}'


def test_guidance_rules_are_values(model):
    assert torch.equal(
        model.sample([1], [2], guidance=Plain()).images, model.sample([1], [2], guidance=CFG(1.0)).images
    )


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(2), DDPM()], ids=str)
def test_scaled_data_come_back_at_their_own_scale(sampler):
    """x = b alpha x0 + sigma eps, divided by its standard deviation, is the path shifted by 1 / b: the same pictures."""
    torch.manual_seed(0)
    net = UNet(channels=1, size=8, width=8, multipliers=(1, 2), blocks=1, attention=())
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    scaled = Denoiser(net, InputScaled(LinearGamma(), 0.4), X0(), TimeClock(), input_std=1.0)
    shifted = Denoiser(net, Shifted(LinearGamma(), 2.5), X0(), TimeClock(), input_std=1.0)
    a, b = (Model(d, (1, 8, 8), steps=8, sampler=sampler).sample(range(3)).images for d in (scaled, shifted))
    assert float(a.std()) > 0.02
    assert torch.allclose(a, b, atol=2e-5)
