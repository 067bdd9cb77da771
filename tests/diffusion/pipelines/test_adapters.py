"""Networks of diffusers as backbones: dtypes, gradients, conditions, texts and VAEs; and what is refused."""

import json

import pytest
import tiny_pipelines as tiny
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, ScoreSdeVeScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from sfumato.diffusion import HuggingFaceText, PictureFolder, Vae, load
from sfumato.diffusion.clocks import LogSNRClock
from sfumato.diffusion.pipelines import load_pipeline
from sfumato.diffusion.pipelines.flow_grid import FlowLinspace
from sfumato.diffusion.pipelines.parts import read_folder
from sfumato.guidance import CFG, Plain
from sfumato.samplers import Euler
from sfumato.schedules import EDM, Karras, RectifiedFlow, Shifted

FAMILIES = ("ddim", "dit", "sd", "sdxl", "sd3", "flux")
LIKE = DDPMScheduler()


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    """Of a family; on networks that are nobody else's."""
    return load_pipeline(getattr(tiny, request.param)(), size=16)


def condition(model, count=2):
    labels = [3, 7][:count] if model.num_classes else None
    return model.conditions(labels, count, prompts=None if model.text is None else "a cat")["cond"]


def answer(model, x):
    return model.denoiser.answer(x, model.denoiser.schedule.at_log_snr(0.0), condition(model, len(x))).out


def test_gradients_flow_to_x_and_to_the_weights(model):
    generator = torch.Generator().manual_seed(2)
    x, direction = torch.randn(2, 1, *model.shape, generator=generator, dtype=torch.float64)
    network = model.denoiser.backbone.network.double()
    answer(model, x.requires_grad_()).square().sum().backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
    network.zero_grad()
    with torch.no_grad():
        ahead, behind = (answer(model, x + h * direction).square().sum() for h in (1e-3, -1e-3))
    network.float()
    assert float((x.grad * direction).sum()) == pytest.approx(
        float(ahead - behind) / 2e-3, rel=5e-3
    )  # norms are float32


def test_half_precision_and_autocast_answer_in_the_dtype_of_x(model):
    x = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(4))
    backbone = model.denoiser.backbone
    if hasattr(backbone, "guidance"):
        backbone.guidance = 4.0  # FLUX takes 1000 times it, and the time, in eight bits; of these they are whole
    with torch.no_grad():
        exact = answer(model, x)
        double = answer(model, x.double())
        with torch.autocast("cpu", torch.bfloat16):
            cast = answer(model, x)
        network = model.denoiser.backbone.network
        network.to(torch.bfloat16)
        half = answer(model, x)
        network.float()
    assert (double.dtype, cast.dtype, half.dtype) == (torch.float64, torch.float32, torch.float32)
    torch.testing.assert_close(double.float(), exact)
    for other in (cast, half):  # of eight bits, through a few layers
        assert 0 < float((other - exact).square().mean() / exact.square().mean()) < 0.01


def test_a_prompt_is_the_same_whatever_is_beside_it(model):
    if model.text is None:
        assert model.num_classes in (0, 1000)
        return
    alone, beside = model.text.encode(["a cat"]), model.text.encode(["dog", "a cat", "", "a very long text " * 9])
    for key, value in alone.items():
        assert torch.equal(value[0], beside[key][1])
        assert len(beside[key]) == 4
    states = beside["encoder_hidden_states"]
    lengths = {"UNet2DCondition": 16, "UNet2DConditionXL": 16, "SD3Transformer": 16 + 256, "FluxTransformer": 512}
    assert states.shape[1] == lengths[type(model.denoiser.backbone).__name__]
    assert not torch.equal(states[0], states[1])


def test_the_length_of_t5_can_be_chosen():
    for pipe, length in ((tiny.sd3(), 16 + 20), (tiny.flux(), 20)):
        text = load_pipeline(pipe, size=16, text_tokens=20).text
        assert text.encode(["a cat"])["encoder_hidden_states"].shape[1] == length


def test_the_empty_text_is_what_the_pipeline_steers_away_from():
    pipe = tiny.sdxl()
    text = load_pipeline(pipe).text
    with torch.no_grad():
        _, zeros, _, pooled = pipe.encode_prompt("a cat")
    mine = text.encode([""])
    assert torch.equal(mine["encoder_hidden_states"], zeros)
    assert torch.equal(mine["text_embeds"], pooled)
    assert float(zeros.abs().sum()) == 0
    assert mine["time_ids"].tolist() == [[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]]
    pipe = tiny.sd3()
    with torch.no_grad():
        _, negative, _, pooled = pipe.encode_prompt("a cat", None, None)
    mine = load_pipeline(pipe).text.encode([""])
    assert torch.equal(mine["encoder_hidden_states"], negative)
    assert torch.equal(mine["pooled_projections"], pooled)


def test_a_learned_variance_travels_and_a_plain_network_has_none():
    for learned in (True, False):
        model = load_pipeline(tiny.dit(learned))
        prediction = model.denoiser(torch.randn(2, *model.shape), model.denoiser.schedule(0.5), condition(model))
        assert (prediction.variance is not None) == learned


def test_flux_is_told_the_guidance_and_schnell_is_not():
    x = torch.randn(1, 4, 8, 8)
    answers = []
    for distilled, said in ((True, None), (True, 3.5), (True, 7.0), (False, None)):
        model = load_pipeline(tiny.flux(distilled), size=16, embedded_guidance=said)
        assert model.source.get("embedded_guidance") == ((said or 3.5) if distilled else None)
        with torch.no_grad():
            answers.append(answer(model, x))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[1], answers[2])


def test_dynamic_shifts_follow_the_size():
    pipe = tiny.flux()
    for size, tokens in (((16, 16), 16), ((32, 64), 128)):
        mu = 0.5 + (tokens - 256) * (1.15 - 0.5) / (4096 - 256)
        pipe.scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=mu)
        model = load_pipeline(pipe, size=size)
        levels = model.grid(model.denoiser.schedule, 4)
        assert [float(level.sigma) for level in levels] == pytest.approx(pipe.scheduler.sigmas.tolist(), abs=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_flow_grid_is_that_of_diffusers(shift):
    scheduler = tiny.sd3(shift=shift).scheduler
    scheduler.set_timesteps(7)
    end = shift / (1000 + shift - 1)
    levels = FlowLinspace(end)(Shifted(RectifiedFlow(), shift), 7)
    assert [float(level.sigma) for level in levels] == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)
    with pytest.raises(ValueError, match=r"FlowLinspace\.end is 0"):
        FlowLinspace(0.0)


def test_an_edm_scheduler_gives_its_row_grid_and_clock():
    model = load_pipeline(tiny.unet2d(), scheduler=EDMEulerScheduler(sigma_max=40.0))
    assert model.denoiser.row == EDM(0.5)
    assert (model.sampler, model.grid) == (Euler(), Karras(0.002, 40.0, 7.0))
    assert model.denoiser.clock == LogSNRClock(-0.125)
    scheduler = EDMEulerScheduler(sigma_max=40.0)
    scheduler.set_timesteps(6)
    levels = model.grid(model.denoiser.schedule, 6)
    assert [model.denoiser.clock(level) for level in levels[:-1]] == pytest.approx(
        scheduler.timesteps.tolist(), abs=1e-6
    )


def test_a_score_network_is_told_sigma_and_its_score_is_read():
    network = tiny.unet2d(time_embedding_type="fourier")
    with pytest.warns(UserWarning, match="has no equivalent among our samplers"):
        model = load_pipeline(network, scheduler=ScoreSdeVeScheduler())
    x, level = torch.randn(2, 3, 16, 16), model.denoiser.schedule(0.7)
    with torch.no_grad():
        score = network(x, torch.full((2,), float(level.sigma))).sample
        torch.testing.assert_close(model.denoiser(x, level).x0, x + level.sigma**2 * score)


def test_classes_of_a_unet_with_and_without_null():
    network = tiny.unet2d(classes=11)
    plain, with_null = load_pipeline(network, scheduler=LIKE), load_pipeline(network, scheduler=LIKE, classes=10)
    assert (plain.num_classes, plain.null_class, with_null.num_classes, with_null.null_class) == (11, False, 10, True)
    out = with_null.sample([0], labels=[4], steps=2, guidance=CFG(2.0))
    assert out.evaluations.tolist() == [[2, 2]]
    with pytest.raises(ValueError, match="classes is 5, and the network embeds 11"):
        load_pipeline(network, scheduler=LIKE, classes=5)
    assert plain.guidance == Plain()


def test_a_vae_of_an_object_is_that_of_its_folder(tmp_path):
    module = tiny.vae(scaling_factor=0.5, shift_factor=0.1)
    module.save_pretrained(tmp_path / "vae")
    x = torch.randn(2, 4, 8, 8)
    mine, read = Vae.of(module), Vae(tmp_path / "vae")
    torch.testing.assert_close(mine.decode(x), read.decode(x))
    assert mine.picture_shape((4, 8, 6)) == read.picture_shape((4, 8, 6)) == (3, 16, 12)
    assert mine.describe()["config"] != ""
    assert mine.describe()["class"] == read.describe()["class"]
    with pytest.raises(ValueError, match="no autoencoder of diffusers"):
        Vae.of(torch.nn.Linear(1, 1))


def test_half_precision_keeps_a_vae_that_needs_more(tmp_path):
    tiny.dit().save_pretrained(tmp_path / "pipe")
    half = read_folder(tmp_path / "pipe", torch.float16, True)
    assert next(half.network.parameters()).dtype == torch.float16
    assert next(half.vae.parameters()).dtype == torch.float32
    path = tmp_path / "pipe" / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"force_upcast": False}))
    assert next(read_folder(tmp_path / "pipe", torch.float16, True).vae.parameters()).dtype == torch.float16


def test_a_half_object_keeps_its_vae_and_is_decoded_by_a_copy_that_does_not_overflow(tmp_path):
    pipe = tiny.dit().to(torch.float16)
    pipe.vae.save_pretrained(tmp_path / "vae")
    assert load(pipe).vae.dtype == torch.float32
    assert (pipe.vae.dtype, pipe.transformer.dtype) == (torch.float16, torch.float16)
    assert load(tiny.dit(), vae=tmp_path / "vae", precision="fp16").vae.dtype == torch.float32
    pipe.vae.register_to_config(force_upcast=False)
    assert load(pipe).vae.dtype == torch.float16
    with pytest.raises(ValueError, match="vae is 5; allowed: a folder of diffusers, its object"):
        load(pipe, vae=5)


def test_a_job_is_not_gone_on_with_in_another_precision(tmp_path):
    tiny.dit().save_pretrained(tmp_path / "pipe")
    model, other = load(tmp_path / "pipe"), load(tmp_path / "pipe", precision="bf16")
    model.sample([0], [1], steps=1, folder=PictureFolder(tmp_path / "out"))
    with pytest.raises(ValueError, match='dtype was "float32", is "bfloat16"'):
        other.sample([0, 1], [1, 1], steps=1, folder=PictureFolder(tmp_path / "out", resume=True))


def test_the_variant_ema_is_preferred_and_a_lone_one_is_read(tmp_path):
    network = tiny.unet2d()
    network.save_pretrained(tmp_path / "net")
    LIKE.save_pretrained(tmp_path / "net")
    network.conv_in.bias.data.fill_(0.5)
    network.save_pretrained(tmp_path / "net", variant="ema")
    found = [load(tmp_path / "net", ema=ema).denoiser.backbone.network.conv_in.bias for ema in (True, False)]
    assert bool((found[0] == 0.5).all())
    assert not bool((found[1] == 0.5).any())
    (tmp_path / "net" / "diffusion_pytorch_model.safetensors").unlink()
    (tmp_path / "net" / "diffusion_pytorch_model.ema.safetensors").rename(
        tmp_path / "net" / "diffusion_pytorch_model.fp16.safetensors"
    )
    assert bool((load(tmp_path / "net").denoiser.backbone.network.conv_in.bias == 0.5).all())


def test_names_of_older_files_are_known(tmp_path):
    """DiT is published as a Transformer2DModel, Stable Diffusion with other names in its VAE and its tokenizer in two files."""
    tiny.dit().save_pretrained(tmp_path / "dit")
    wanted = load(tmp_path / "dit").sample([0], labels=[3], steps=2).images
    for name in ("model_index.json", "transformer/config.json"):
        path = tmp_path / "dit" / name
        path.write_text(path.read_text().replace("DiTTransformer2DModel", "Transformer2DModel"))
    path = tmp_path / "dit" / "vae" / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for key, value in load_file(path).items():
        for new, old in older.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[key] = value
    assert any("proj_attn" in key for key in renamed)
    save_file(renamed, path)
    torch.testing.assert_close(load(tmp_path / "dit").sample([0], labels=[3], steps=2).images, wanted)
    pipe = tiny.sd()
    pipe.save_pretrained(tmp_path / "sd")
    wanted = load(tmp_path / "sd").text.encode(["a cat"])["encoder_hidden_states"]
    (tmp_path / "sd" / "tokenizer" / "tokenizer.json").unlink()
    (tmp_path / "sd" / "tokenizer" / "vocab.json").write_text(json.dumps(pipe.tokenizer.get_vocab()))
    (tmp_path / "sd" / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    assert torch.equal(load(tmp_path / "sd").text.encode(["a cat"])["encoder_hidden_states"], wanted)


@pytest.fixture
def folder(tmp_path):
    """A whole pipeline's."""
    tiny.ddim().save_pretrained(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_pickles_and_weights_that_lack_a_key_are_refused(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load_file(weights)
    name = sorted(whole)[3]
    save_file({k: v for k, v in whole.items() if k != name}, weights)
    with pytest.raises(ValueError, match=f"its weights lack {name}"):
        load(folder)
    weights.rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"only diffusion_pytorch_model\.bin, a pickle, which is not read"):
        load(folder)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("unet", ["mine", "UNet2DModel"], "a class of one's own, whose code would run"),
        ("unet", ["diffusers", "Nothing"], "which the installed diffusers does not have"),
        ("unet", ["diffusers", "AutoencoderKL"], "no network that can be loaded here; allowed: UNet2DModel"),
        ("unet", [None, None], "holds no unet or transformer"),
        ("_class_name", "StableDiffusionInpaintPipeline", "is no pipeline that can be loaded here"),
        ("_class_name", ["pipeline", "Mine"], "is no pipeline that can be loaded here"),
    ],
)
def test_classes_that_are_not_served_are_refused(folder, key, value, said):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=said):
        load(folder)


def test_code_in_a_folder_is_not_run(folder):
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "net.Net"}}))
    (folder / "unet" / "net.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ValueError, match="has auto_map; give the plain weights"):
        load(folder)


@pytest.mark.parametrize("part", ["text_encoder", "vae", "unet", "scheduler", "model_index.json"])
def test_configs_that_name_kernels_or_nest_without_end_are_refused(tmp_path, part):
    folder = tmp_path / "pipe"
    tiny.sd().save_pretrained(folder)
    path = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path = folder / part if part.endswith("json") else path
    if part in ("text_encoder", "unet"):
        own = json.loads(path.read_text())
        for told in (
            {"attn_implementation": "kernels-community/flash-attn3"},
            {"deep": [{"_attn_implementation": "x/y"}]},
        ):
            path.write_text(json.dumps(own | told))
            with pytest.raises(ValueError, match="attn_implementation; give the plain weights"):
                load(folder)
            if part == "text_encoder":
                with pytest.raises(ValueError, match="attn_implementation; give the plain weights"):
                    HuggingFaceText(str(folder), length=16)
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueError, match="JSON"):
        load(folder)


def test_a_text_part_that_decides_by_its_folder_is_refused(tmp_path):
    tiny.sd().save_pretrained(tmp_path / "pipe")
    index = tmp_path / "pipe" / "model_index.json"
    whole = json.loads(index.read_text())
    for key in ("text_encoder", "tokenizer"):
        index.write_text(json.dumps(whole | {key: ["transformers", "AutoModel"]}))
        with pytest.raises(ValueError, match=f"{key} is of AutoModel; allowed: the class of a"):
            load(tmp_path / "pipe")


def test_what_can_not_be_said_is_refused():
    with pytest.raises(ValueError, match="without a scheduler says nothing about the path"):
        load_pipeline(tiny.unet2d())
    with pytest.raises(ValueError, match="a Linear is no network that can be loaded here"):
        load_pipeline(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="size is 17; allowed: height and width in pixels, whole multiples of 4"):
        load_pipeline(tiny.sd(), size=17)
    with pytest.raises(ValueError, match="positions for at most 48 pixels a side"):
        load_pipeline(tiny.sd3(), size=52)
    with pytest.raises(ValueError, match="makes squares"):
        load_pipeline(tiny.dit(), size=(16, 32))
    with pytest.raises(ValueError, match="embedded_guidance is 3, which says nothing about a UNet2DModel"):
        load_pipeline(tiny.unet2d(), scheduler=LIKE, embedded_guidance=3)
    lcm = UNet2DConditionModel(**tiny.BLOCKS, time_cond_proj_dim=8)
    with pytest.raises(ValueError, match="time_cond_proj_dim is 8, which is not served"):
        load_pipeline(lcm, scheduler=LIKE)
    with pytest.raises(ValueError, match="time_embedding_type is 'learned', which is not served"):
        load_pipeline(tiny.unet2d(time_embedding_type="learned", num_train_timesteps=1000), scheduler=LIKE)


def test_a_network_alone_takes_a_text_encoder_and_a_vae():
    pipe = tiny.sd()
    whole = load_pipeline(pipe)
    alone = load_pipeline(pipe.unet, scheduler=pipe.scheduler, text=whole.text, vae=pipe.vae)
    latents = load_pipeline(
        pipe.unet, scheduler=dict(pipe.scheduler.config, _class_name="DPMSolverMultistepScheduler"), text=whole.text
    )
    out = [m.sample([3], prompts="a cat", steps=3).images for m in (whole, alone, latents)]
    assert torch.equal(out[0], out[1])
    assert out[2].shape == (1, 4, 8, 8)
    assert torch.equal(whole.vae.decode(out[2]), out[0])
