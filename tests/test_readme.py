"""The README's code runs as it is printed."""

import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfumato.diffusion import Recipe, train
from sfumato.tools.cli import COMMANDS
from sfumato.tools.train import recipe_from, resolve_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)


def block(words):
    """The one block of Python that holds some words."""
    (code,) = (code for code in PYTHON if words in code)
    return code


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    recipe: Recipe = recipe_from(
        resolve_recipe("digits", [("steps", 5), ("sample_every", 0), ("backbone.width", 8)], []), []
    )
    train(recipe, folder / "runs" / "quickstart", progress=False)
    return folder


def test_the_ten_lines_run(quick, monkeypatch, capsys):
    monkeypatch.chdir(quick)
    code = block('load("runs/quickstart")')
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    exec(compile(code, "README.md", "exec"), {})
    assert (quick / "threes.png").is_file()
    assert "torch.Size([16, 1, 8, 8])" in capsys.readouterr().out


def test_the_new_sampler_has_its_order_and_the_linter_likes_it(tmp_path):
    """One file and one test, as printed; in a copy of the package, so that the README's relative imports are real."""
    sampler, test = block("class AB2"), block("def test_order")
    namespace = {"__name__": "sfumato.samplers.ab2", "__package__": "sfumato.samplers"}
    module = type(sys)("sfumato.samplers.ab2")
    module.__dict__.update(namespace)
    sys.modules["sfumato.samplers.ab2"] = module
    try:
        exec(compile(sampler, "ab2.py", "exec"), module.__dict__)
        scope: dict = {}
        exec(compile(test, "test_ab2.py", "exec"), scope)
        scope["test_order"]()
    finally:
        del sys.modules["sfumato.samplers.ab2"]
    file = tmp_path / "ab2.py"
    file.write_text(sampler)
    config = ["--config", str(ROOT / "pyproject.toml")]
    subprocess.run([sys.executable, "-m", "ruff", "check", *config, str(file)], check=True, capture_output=True)
    subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", *config, str(file)], check=True, capture_output=True
    )


def test_the_guidance_rule_of_the_readme_guides(quick):
    from sfumato.diffusion import load
    from sfumato.guidance import CFG

    scope: dict = {"__name__": "readme"}
    sys.modules["readme"] = type(sys)("readme")
    exec(compile(block("class Late"), "README.md", "exec"), scope)
    model = load(quick / "runs" / "quickstart")
    late = model.sample([1, 2], [3, 4], guidance=scope["Late"](1.0))
    assert torch.allclose(late.images, model.sample([1, 2], [3, 4], guidance=CFG(1.0)).images, atol=1e-5)
    assert late.evaluations.tolist() == [[20, 20]] * 2


def test_the_calibration_of_the_readme_runs(tmp_path, monkeypatch):
    recipe = recipe_from(
        resolve_recipe(
            "digits", [("data", "Split"), ("data.source", "Digits"), ("steps", 5), ("sample_every", 0), ("backbone.width", 8)], []
        ), []
    )  # fmt: skip
    train(recipe, tmp_path / "runs" / "split", progress=False)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(block("found = calibrate("), "README.md", "exec"), scope)
    assert scope["found"].calibration.count == 180
    assert scope["out"].filtered.alphas == (0.05,)


def test_the_judge_of_the_readme_judges(quick, monkeypatch, capsys):
    from sfumato.tools.cli import main

    (quick / "mine.py").write_text(block("class Darkness"))
    monkeypatch.chdir(quick)
    monkeypatch.syspath_prepend(quick)
    judged = [
        "--filters",
        "Judged",
        "--filters.judge",
        "mine.Darkness",
        "--filters.threshold",
        "0.5",
        "--allow",
        "mine",
    ]
    sys.modules.pop("mine", None)
    try:
        assert main(["sample", "runs/quickstart", "--labels", "0-9", *judged, "--mark", "--out", "judged"]) == 0
    finally:
        sys.modules.pop("mine", None)
    assert "attempts rejected by Judged" in capsys.readouterr().out
    rows = [line.split(",") for line in (quick / "judged" / "scores.csv").read_text().splitlines()[1:]]
    assert len(rows) == 16
    assert all((float(row[5]) <= 0.5) == (row[4] == "1") for row in rows)


def test_the_schedule_and_the_weighting_of_the_readme_train(quick, monkeypatch, capsys):
    from sfumato.tools.cli import main

    (quick / "mine.py").write_text(block("class Circle"))
    monkeypatch.chdir(quick)
    monkeypatch.syspath_prepend(quick)
    words = ["--allow", "mine", "--schedule", "mine.Circle", "--weighting", "mine.Bump", "--weighting.centre", "1"]
    small = ["--steps", "2", "--sample_every", "0", "--backbone.width", "8", "--out", "runs/bump"]
    sys.modules.pop("mine", None)  # other tests have plug-ins of that name
    try:
        assert main(["train", "digits", *words, *small]) == 0
        assert "--allow mine" in capsys.readouterr().out
        assert main(["sample", "runs/bump", "--seeds", "0-1", "--allow", "mine"]) == 0
        assert main(["inspect", "runs/bump", "--allow", "mine", "--out", "circle.png"]) == 0
    finally:
        sys.modules.pop("mine", None)


def test_the_pipeline_of_the_readme_samples_as_we_do(tmp_path, monkeypatch, capsys):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    from sfumato.samplers import GHVB, trajectory
    from sfumato.schedules import Karras, Prediction

    code = block('save_pretrained("better")')
    assert 6 <= len([line for line in code.splitlines() if line.strip()]) <= 10
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    torch.manual_seed(1)  # some networks of random weights take rounding to another picture
    unet = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, norm_num_groups=4, layers_per_block=1, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "my-pipeline")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    torch.manual_seed(0)
    exec(compile(code, "README.md", "exec"), scope)
    assert "Sampling(sampler=Clipped(sampler=DDPM(" in capsys.readouterr().out
    assert (tmp_path / "better" / "scheduler" / "scheduler_config.json").is_file()
    pipe = scope["pipe"]
    levels = Karras()(pipe.scheduler.schedule, 12)

    def denoise(x, level):
        t = torch.tensor(level.t * 1000 - 1, dtype=torch.float32)
        return Prediction(x, level, pipe.unet(x, t).sample, pipe.scheduler.row)

    torch.manual_seed(0)
    with torch.no_grad():
        *_, last = trajectory(GHVB(order=3.8), denoise, levels, torch.randn(1, 1, 8, 8))
    image = (last.x / 2 + 0.5).clamp(0, 1)[0, 0]
    assert abs(torch.tensor(list(scope["image"].tobytes())).view(8, 8) - image * 255).max() < 0.51


class Callbacks:
    """A pipeline with the callback of diffusers' own, of one UNet with prompt embeddings and guidance."""

    def __init__(self, unet, embeds, scheduler):
        self.unet, self.embeds, self.scheduler = unet, embeds, scheduler
        self.calls = 0

    @torch.no_grad()
    def __call__(self, prompt, num_images_per_prompt, num_inference_steps, callback_on_step_end):
        self.scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(num_images_per_prompt, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        for i, t in enumerate(self.scheduler.timesteps):
            self.calls += 1
            ref, cond = (
                self.unet(x, t, encoder_hidden_states=e.expand(len(x), -1, -1)).sample
                for e in (0 * self.embeds, self.embeds)
            )
            x = self.scheduler.step(ref + 3.0 * (cond - ref), t, x).prev_sample
            x = callback_on_step_end(self, i, t, {"latents": x}).pop("latents", x)
        return type("Output", (), {"images": list(x)})()


def test_the_filters_of_the_readme_watch_a_pipeline():
    from diffusers import DDPMScheduler, UNet2DConditionModel

    from sfumato.samplers import UniPC, as_diffusers

    code = next(block for block in PYTHON if "FilterCallback" in block)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
    ).eval()  # fmt: skip
    embeds = torch.randn(1, 5, 8)
    pipe = Callbacks(unet, embeds, as_diffusers(UniPC(order=2), like=DDPMScheduler()))
    real = torch.randn(40, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    scope: dict = {"pipe": pipe, "embeds": embeds, "latents": real, "prompt": "a fox in the snow"}
    exec(compile(code, "README.md", "exec"), scope)
    watch = scope["watch"]
    assert pipe.calls == 12
    assert len(scope["images"]) == len(watch.keep) == 4
    assert len(scope["good"]) == int(watch.keep.sum())
    assert [len(score) for score in watch.scores] == [4, 4]
    # the probe's threshold is the 39th smallest of 40 scores, and it decides
    assert scope["probe"].threshold == float(scope["real"].score.double().sort().values[38])
    assert torch.equal(watch.keep, watch.scores[1] <= scope["probe"].threshold)


COMMAND_LINES = [
    line for line in re.findall(r"`(?:\. )?((?:sfumato|torchrun)[^`]*)`", README) if not line.startswith("sfumato.")
]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_commands_of_the_table_exist(line):
    words = line.replace("torchrun --nproc_per_node 2 -m sfumato.tools.cli", "sfumato").split()
    assert words[0] == "sfumato"
    assert len(words) == 1 or words[1] in COMMANDS


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in COMMAND_LINES
        if len(line.split()) > 2 and line.split()[1:2] in (["evaluate"], ["compare"], ["curves"])
    ],
)
def test_measuring_commands_of_the_readme_parse(line, tmp_path, monkeypatch):
    """Options are read, and axes are laid out."""
    import shlex

    from sfumato.tools import evaluate
    from sfumato.tools.command import parse
    from sfumato.tools.compare.axes import parse_axes
    from sfumato.tools.compare.options import Compare
    from sfumato.tools.curves.main import Curves

    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs").mkdir()
    _, command, *words = shlex.split(line)
    if command == "evaluate" and "--nll" not in words:
        options, _ = parse(evaluate._sorted_out(words), evaluate.Evaluate, ("run",))
        assert options.run == words[0]
    elif command == "compare":
        options, _ = parse(words, Compare, ("run",))
        x, _ = parse_axes(options.x, options.y, [])
        assert len(x) > 1
    elif command == "curves":
        options, _ = parse(words, Curves, ("model",))
        assert options.model == words[0]


def test_the_extractor_of_the_readme_looks():
    from sfumato.diffusion import Digits, evaluate

    scope: dict = {}
    exec(compile(block("class Net"), "README.md", "exec"), scope)
    found = evaluate(Digits("even"), Digits("odd"), scope["Net"](), measures=["frechet", "kid"])
    assert found["frechet"].label == "FD-Net@899"
    assert 0 < found["frechet"].value < 1e-3
    assert (
        found.extractor["hash"]
        == evaluate(Digits("odd"), Digits("odd"), scope["Net"](), measures=["frechet"]).extractor["hash"]
    )


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in COMMAND_LINES
        if " train " in line
        # what needs latents is walked through in tests/tools/test_text_command.py, the large network in test_house.py
        and not any(w in line for w in ("runs/mine --resume", "mine.Circle", "latents", "adm-imagenet64"))
    ],
)
def test_training_commands_of_the_table_resolve(line, tmp_path, monkeypatch):
    """Each recipe of the table is built and checked; the photographs are made here."""
    import shlex

    from PIL import Image

    from sfumato.tools.cli import main

    if "--dry-run" not in line:  # a step of each is not what is asked here
        monkeypatch.setattr(
            "sfumato.tools.train.rehearse", lambda recipe, folder: SimpleNamespace(words=lambda steps: [])
        )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "dataset.json").write_text('{"a.png": 9}')
    if "HuggingFace" in line:
        datasets = pytest.importorskip("datasets")
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
        rows = {"image": [Image.new("RGB", (40, 40))], "label": [3]}
        datasets.Dataset.from_dict(rows, features=kinds).save_to_disk(tmp_path / "folder")
    np.save(tmp_path / "pictures.npy", np.zeros((20, 1, 8, 8), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(20) % 10)
    words = shlex.split(line.replace("torchrun --nproc_per_node 2 -m sfumato.tools.cli", "sfumato").split(">")[0])[1:]
    if "mine.yaml" in words:
        (tmp_path / "mine.yaml").write_text((ROOT / "configs" / "digits.yaml").read_text())
    assert main([*words, "--dry-run"] if "--dry-run" not in words and "--help" not in words else words) == 0


def test_thread_count_is_given_back(quick):
    assert torch.get_num_threads() >= 1
    before = torch.get_num_threads()
    recipe = recipe_from(resolve_recipe("digits", [("steps", 1), ("threads", 1), ("sample_every", 0)], []), [])
    train(recipe, quick / "again", progress=False)
    assert torch.get_num_threads() == before


def test_its_pictures_are_there():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert len(pictures) > 5
    assert not [name for name in pictures if not (ROOT / name).is_file()]
