"""What `sfumato train` makes of its options, and tells before and after."""

import json

import numpy as np
import pytest
import yaml

from sfumato.diffusion.plan import check_recipe
from sfumato.tools.cli import main
from sfumato.tools.train import recipe_from, resolve_recipe

TINY = [
    "--steps",
    "4",
    "--batch",
    "8",
    "--backbone.width",
    "8",
    "--warmup",
    "1",
    "--sample_every",
    "0",
    "--save_every",
    "0",
]


def said(capsys, *words):
    code = main(["train", "digits", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_a_list_of_parts_may_be_said_one_by_one(capsys):
    code, out, _ = said(
        capsys, "--transforms", "GradientNoise", "--transforms.eta", 0.3, "--transforms", "ClipValue", "--transforms.limit", 0.5,
        "--print_config",
    )  # fmt: skip
    found = yaml.safe_load(out)["transforms"]
    assert code == 0
    assert [part["class_path"].rpartition(".")[2] for part in found] == ["GradientNoise", "ClipValue"]
    assert (found[0]["init_args"]["eta"], found[1]["init_args"]["limit"]) == (0.3, 0.5)


def test_a_rate_has_a_warm_up_of_its_own(capsys):
    code, _, err = said(capsys, "--rate", "Stable", "--warmup", 5)
    assert (code, "warmup: rate has its own; say --rate.warmup" in err) == (2, True)
    short = recipe_from(resolve_recipe("digits", [("rate", "Stable"), ("steps", "4")], []), [])
    with pytest.warns(UserWarning, match=r"rate.warmup is 500 and steps 4: the rate never reaches lr"):
        check_recipe(short)


def test_a_dry_run_says_how_it_learns_and_checks_the_tracker(capsys, tmp_path):
    code, out, _ = said(
        capsys, *TINY, "--optimizer.weight_decay", 0.1, "--ema_lengths", "[0.1]", "--dry-run", "--out", tmp_path / "a"
    )
    assert code == 0
    assert "AdamW(beta1=0.9, beta2=0.99, weight_decay=0.1" in out
    assert "at the end, keep 2, ema 0.98, averages of 0.1" in out
    assert "4 steps take about" in out
    assert not list(tmp_path.iterdir())
    code, _, err = said(capsys, *TINY, "--tracker", "wandb", "--dry-run")
    assert (code, "not installed: pip install wandb" in err) == (2, True)
    code, _, err = said(capsys, "--ema_lengths", "[0.5]", "--dry-run")
    assert (code, "0.5" in err) == (2, True)


def test_more_processes_than_there_are(capsys):
    code, _, err = said(capsys, *TINY, "--processes", 2)
    assert (code, "torchrun --nproc_per_node 2" in err) == (2, True)
    code, _, err = said(capsys, *TINY, "--verify", 3)
    assert (code, "with --resume only" in err) == (2, True)


def test_updates_that_are_left_out_are_told_of_and_counted(capsys, tmp_path):
    x = np.zeros((8, 1, 8, 8), np.float32)
    x[3] = 3e38
    np.save(tmp_path / "x.npy", x)
    more = [
        "--data",
        "ArrayData",
        "--data.path",
        str(tmp_path / "x.npy"),
        "--backbone.num_classes",
        "0",
        "--guidance",
        "Plain",
    ]
    code, out, err = said(capsys, *TINY, *more, "--nonfinite", "skip", "--out", tmp_path / "run")
    assert code == 0
    assert "step 0: the loss is inf" in err or "step 0: the loss is nan" in err
    assert "left out:    4 updates" in out
    code, _, err = said(capsys, *TINY, *more, "--nonfinite", "skip", "--nonfinite_limit", 2, "--out", tmp_path / "two")
    assert code == 1
    assert (
        "neither was one in the 2 steps before it. Not finite by themselves: samples 3 of process 0. Look at them, lower lr, or raise"
        in err
    )


def test_data_of_another_spread_than_the_parts_say_are_told_of(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(0, 0.2, (32, 4, 8, 8)).astype(np.float32))
    more = [
        "--data",
        "ArrayData",
        "--data.path",
        str(tmp_path / "x.npy"),
        "--backbone.num_classes",
        "0",
        "--backbone.channels",
        "4",
    ]
    code, out, err = said(
        capsys, *TINY[:-2], "--sample_every", 2, *more, "--guidance", "Plain", "--out", tmp_path / "run"
    )
    assert code == 0
    assert "row.data_std is 0.75, and the data's standard deviation 0.2; set row.data_std: 0.2" in err
    # numbers that are no pictures: no previews, and no command that would end in an error
    assert "samples of shape (4, 8, 8) are no pictures: there will be no previews" in err
    assert "Vae(folder).decode makes some of latents" in out
    assert not (tmp_path / "run" / "samples").exists()
    assert main(["sample", str(tmp_path / "run")]) == 2
    assert "are no pictures" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "data.json").read_text())["std"] == pytest.approx(0.2, rel=0.05)
