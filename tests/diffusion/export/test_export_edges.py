"""Exports at the edges: no null class, flows with classes, latents, pictures that are not square, steps that do not divide a table."""

import re

import diffusers
import pytest
import torch

from sfumato.diffusion import Denoiser, Digits, LogSNRClock, Model, Recipe, TimeClock, UNet, train
from sfumato.diffusion.backbones.adm import ADM
from sfumato.diffusion.export import program, to_diffusers, to_program
from sfumato.diffusion.export.folder import native_of
from sfumato.diffusion.export.native import make_network, pipeline_of
from sfumato.diffusion.export.parity import compare
from sfumato.diffusion.export.process import process_of
from sfumato.samplers import DDIM, DDPM, Euler
from sfumato.schedules import (
    EDM,
    BetaTable,
    Flow,
    Karras,
    LinearBeta,
    RectifiedFlow,
    Trailing,
    V,
    ZeroTerminalSNR,
    gaussian,
)

FLOW = (RectifiedFlow(), Flow(), TimeClock(1000))
EXPLODING = (RectifiedFlow(), EDM(0.75), LogSNRClock(-0.125))
TABLE = (LinearBeta(), V(), TimeClock(1000))


def grown(net):
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net


def unet(classes=3, **rest):
    torch.manual_seed(0)
    return grown(UNet(1, 8, classes, 8, [1, 2], 1, [], groups=2, time_features=8, **rest))


def model(parts, net=None, sampler=None, steps=5, **rest):
    net = unet() if net is None else net
    given = {
        "shape": (1, 8, 8),
        "num_classes": net.num_classes,
        "grid": Karras(0.05, 60.0) if parts is EXPLODING else None,
    }
    given = {k: v for k, v in {**given, **rest}.items() if v is not None}
    return Model(Denoiser(net, *parts).eval(), sampler=sampler or DDIM(), steps=steps, **given)


def written(made):
    process = process_of(made)
    native = native_of(made, process.told, process.variance)
    return native, process, make_network(native), getattr(diffusers, process.kind)(**process.config)


def test_a_flow_of_classes_has_a_loop_that_makes_our_pictures(tmp_path):
    """ConsistencyModelPipeline, which tells classes, can't run the scheduler of flows."""
    recipe = Recipe(
        Digits(), unet(10), *FLOW[:2], clock=FLOW[2], steps=2, batch=8, warmup=1, sampling_steps=5, sampler=Euler(), save_every=0,
    )  # fmt: skip
    trained = train(recipe, tmp_path / "run", progress=False)
    done = to_diffusers(tmp_path / "run", tmp_path / "out")
    assert done.pipeline is None
    assert not (tmp_path / "out" / "model_index.json").exists()
    space: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL):
        exec(block, space)
    labels = torch.arange(4)
    made = space["sample"](gaussian(torch.arange(4), 0, -1, 0, (1, 8, 8)), labels)  # pyright: ignore[reportCallIssue, reportIndexIssue]
    assert torch.allclose(made, trained.sample(range(4), labels.tolist()).images, atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "classes", "rest", "pipeline"),
    [
        (FLOW, 0, {}, "DDPMPipeline"),
        (FLOW, 3, {}, None),
        (EXPLODING, 0, {}, "ConsistencyModelPipeline"),
        (TABLE, 3, {}, "ConsistencyModelPipeline"),
        (TABLE, 0, {"shape": (1, 4, 8)}, "DDPMPipeline"),
        (TABLE, 3, {"shape": (1, 4, 8)}, None),
        (TABLE, 0, {"latents": True}, None),  # it would cut them to [-1, 1]
    ],
)
def test_a_pipeline_is_named_where_it_makes_the_same_samples(parts, classes, rest, pipeline):
    made = model(parts, unet(classes), **rest)
    native, process, network, scheduler = written(made)
    assert pipeline_of(native, process, made.latents) == pipeline
    if pipeline is None:
        return
    # diffusers fails here, where it can't run them
    piped = getattr(diffusers, pipeline)(unet=network, scheduler=scheduler)
    piped.set_progress_bar_config(disable=True)
    images = piped(batch_size=2, num_inference_steps=2, output_type="np").images
    assert images.shape == (2, *made.shape[1:], 1)


def test_without_a_null_class():
    """As preset adm-imagenet64 trains: the network has no row for no class, and none is asked for."""
    torch.manual_seed(0)
    net = grown(ADM(1, 8, 2, False, 8, [1, 2], 1, [], 8, groups=2))
    made = model(EXPLODING, net)
    _, process, network, scheduler = written(made)
    parity = compare(made, network, scheduler, process)
    assert parity.network < 1e-5
    assert parity.samples is not None
    assert parity.samples[0] < 1e-5


def test_latents_are_compared_as_they_are():
    made = model(TABLE, unet(0))
    _, process, network, scheduler = written(made)
    with torch.no_grad():
        network.conv_out.bias += 9.0
    cut, whole = (
        compare(model(TABLE, unet(0), latents=on), network, scheduler, process).samples for on in (False, True)
    )
    assert cut is not None
    assert whole is not None
    assert cut[0] <= 2.0 < whole[0]


def test_what_is_not_finite_is_refused():
    made = model(TABLE, unet(0))
    _, process, network, scheduler = written(made)
    with torch.no_grad():
        network.conv_out.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        compare(made, network, scheduler, process)


def test_ddim_steps_that_do_not_divide_the_entries():
    """DDIMScheduler subtracts entries // steps from a timestep, which is not its next one."""
    made = model((LinearBeta(), V(), TimeClock(100)), unet(0), steps=60)
    _, process, network, scheduler = written(made)
    parity = compare(made, network, scheduler, process)
    assert parity.samples is not None
    assert parity.samples[0] < 1e-2  # DDIMScheduler's are 0.39 off
    assert any("do not divide" in note for note in process.notes)


def test_noise_of_a_learned_variance_in_the_last_step_is_said():
    net = unet(0, out_channels=2)
    for steps, said in ((10, True), (1000, False)):
        process = process_of(model(TABLE, net, DDPM("learned"), steps))
        assert any("last step" in note for note in process.notes) == said


def test_a_program_is_asked_for_classes_that_there_are(monkeypatch, tmp_path):
    asked: list[torch.Tensor] = []

    class Seen(Exception):
        pass

    def export(module, given, **rest):
        asked.append(given[2])
        raise Seen

    torch.manual_seed(0)
    net = grown(ADM(1, 8, 1, False, 8, [1, 2], 1, [], 8, groups=2))
    monkeypatch.setattr(program, "load", lambda *args, **rest: model(EXPLODING, net))
    monkeypatch.setattr(torch.export, "export", export)
    with pytest.raises(ValueError, match="can't be exported"):
        program.to_program("run", tmp_path / "net.pt2")
    assert asked[0].tolist() == [0, 0]


def test_more_steps_than_the_clock_has_numbers_are_refused():
    made = model((LinearBeta(), V(), TimeClock(100)), unet(0), steps=120)
    with pytest.raises(ValueError, match=r"sampling_steps is 120, .* each of the 100 numbers of the clock"):
        process_of(made)


def test_a_table_leaves_as_a_program(tmp_path):
    recipe = Recipe(
        Digits(), unet(0), ZeroTerminalSNR(BetaTable("linear")), V(), clock=TimeClock(1000), steps=2, batch=8, warmup=1,
        sampling_steps=5, save_every=0,
    )  # fmt: skip
    train(recipe, tmp_path / "run", progress=False)
    assert to_program(tmp_path / "run", tmp_path / "out.pt2").apart < 1e-5


def test_v_on_a_table_of_zero_snr_leaves_under_edms_clock():
    made = model((ZeroTerminalSNR(BetaTable("linear")), V(), LogSNRClock(-0.125)), unet(0), grid=Trailing())
    _, process, network, scheduler = written(made)
    assert compare(made, network, scheduler, process).network < 1e-5
    assert any("has no counterpart there: Karras" in note for note in process.notes)


class Heard:
    def encode(self, prompts):
        return {"text": torch.zeros(len(prompts), 1, 4)}


def test_what_hears_texts_is_refused_before_anything_else():
    made = Model(Denoiser(unet(0), LinearBeta(), V(), LogSNRClock(0.3)), (1, 8, 8), text=Heard())
    with pytest.raises(ValueError, match="the run knows texts"):
        process_of(made)
