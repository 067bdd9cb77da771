"""`sfumato export`."""

import pytest
import torch

from sfumato.diffusion import Digits, DiT, EntryClock, Recipe, train
from sfumato.samplers import DDIM
from sfumato.schedules import Eps, LinearBeta
from sfumato.tools.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    net = DiT(1, 8, 10, 4, 16, 1, 2, frequencies="diffusers")
    place = tmp_path_factory.mktemp("command") / "run"
    made = Recipe(
        Digits(), net, schedule=LinearBeta(), row=Eps(), clock=EntryClock(1000), sampler=DDIM(), steps=3, batch=8, warmup=1, threads=1,
        sampling_steps=5, sample_every=0, save_every=0,
    )  # fmt: skip
    train(made, place)
    return place


def test_parity_is_printed_and_how_to_load(run, capsys):
    assert main(["export", str(run), "--to", "diffusers", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "DiTTransformer2DModel with DDIMScheduler" in said
    assert "parity" in said
    assert f'DiTTransformer2DModel.from_pretrained("{run}/diffusers/transformer", variant="ema")' in said
    assert (run / "diffusers" / "transformer" / "diffusion_pytorch_model.ema.safetensors").is_file()
    assert (run / "diffusers" / "scheduler" / "scheduler_config.json").is_file()
    # the loop of its README runs, and steps as ours does without guidance
    card = (run / "diffusers" / "README.md").read_text()
    known = {}
    exec("\n".join(part.split("```")[0] for part in card.split("```python\n")[1:]), known)
    assert known["x"].shape == (10, 1, 8, 8)
    assert main(["export", str(run)]) == 2
    assert "not an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "tensorflow"], "to"),
        (["--format", "onnx"], "format"),
        (["--ema", "false"], "ema is false"),
        (["--to", "torch", "--variant", "non_ema"], "variant"),
        (["--threads", "0"], "threads"),
    ],
)
def test_options_that_are_wrong(run, words, says, capsys):
    assert main(["export", str(run), "--out", str(run.parent / "no"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (run.parent / "no").exists()


def test_no_run(tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert main(["export", "--help"]) == 0
    assert "--variant" in capsys.readouterr().out
