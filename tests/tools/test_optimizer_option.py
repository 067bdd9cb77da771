"""--optimizer as its user meets it: our parts by name, any library's class by its path, and what is wrong said before training."""

import sys

import pytest
import torch
import yaml

from sfumato.diffusion import AdamW, Library, Muon, Recipe
from sfumato.tools.cli import main

NADAM = ["--optimizer", "torch.optim.NAdam", "--optimizer.betas", "[0.9,0.99]"]


def printed(capsys, *argv):
    assert main(["train", "digits", *argv]) == 0
    return capsys.readouterr().out


def fails(capsys, *argv, code=2):
    assert main(["train", "digits", *argv, "--print_config"]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return shown.err


def resolved(capsys, *argv):
    return yaml.safe_load(printed(capsys, *argv, "--print_config"))


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A library in the current folder whose classes say little of themselves, as many do."""
    (tmp_path / "littlebits.py").write_text(
        "import torch\n"
        "class Lion8(torch.optim.Optimizer):\n"
        "    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0, bits=8, fast=True, args=None, hook=print):\n"
        "        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("littlebits", None)
    sys.path[:] = [p for p in sys.path if p != str(tmp_path)]


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ([], AdamW()),
        (["--optimizer.weight_decay", "0.1"], AdamW(weight_decay=0.1)),
        (NADAM, Library(torch.optim.NAdam, {"betas": [0.9, 0.99]})),
        (["--optimizer", "Muon", "--optimizer.rest.beta2", "0.95"], Muon(rest=AdamW(beta2=0.95))),
        (
            ["--optimizer", "Muon", "--optimizer.rest", "torch.optim.Adafactor", "--optimizer.rest.eps", "[null,0.002]"],
            Muon(rest=Library(torch.optim.Adafactor, {"eps": [None, 0.002]})),
        ),
        (["--optimizer", "{class_path: torch.optim.SGD, init_args: {momentum: 0.9}}"], Library(torch.optim.SGD, {"momentum": 0.9})),
    ],
    ids=str,
)  # fmt: skip
def test_an_optimizer_goes_through_yaml(capsys, tmp_path, argv, part):
    """The printed config is complete, gives itself again, and builds the part that Python would."""
    once = printed(capsys, *argv, "--print_config")
    path = tmp_path / "printed.yaml"
    path.write_text(once)
    assert main(["train", str(path), "--print_config"]) == 0
    assert capsys.readouterr().out == once
    recipe = Recipe.from_description(yaml.safe_load(once))
    assert recipe.optimizer == part
    assert recipe.describe()["optimizer"] == yaml.safe_load(once)["optimizer"]


def test_a_foreign_class_needs_allow_and_then_its_defaults_say_what_its_arguments_are(capsys, foreign):
    named = ["--optimizer", "littlebits.Lion8", "--optimizer.weight_decay", "0.1", "--optimizer.bits", "32"]
    assert "--allow littlebits" in fails(capsys, *named)
    assert "littlebits" not in sys.modules  # refused, so never imported
    allowed = [*named, "--optimizer.fast", "false", "--allow", "littlebits"]
    assert resolved(capsys, *allowed)["optimizer"] == {
        "class_path": "littlebits.Lion8",
        "init_args": {"betas": [0.9, 0.99], "weight_decay": 0.1, "bits": 32, "fast": False, "args": None},
    }
    assert "allowed: true or false" in fails(capsys, *named, "--optimizer.fast", "7", "--allow", "littlebits")
    said = fails(capsys, *named, "--optimizer.weight_dekay", "1", "--allow", "littlebits")
    assert "did you mean weight_decay?" in said


def test_a_library_that_is_not_installed_is_said(capsys):
    said = fails(capsys, "--optimizer", "no_such_bits.optim.AdamW8bit", "--allow", "no_such_bits")
    assert "can't be imported: ModuleNotFoundError" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--optimizer", "Mouon"], "is no Optimizer; allowed: AdamW, MuP, Muon, or a class path; did you mean Muon?"),
        (["--optimizer", "DDIM"], "is no Optimizer"),
        (["--optimizer", "torch.optim.LBFGS"], "optimizer: LBFGS evaluates the loss again and again"),
        (["--optimizer", "torch.optim.lr_scheduler.LambdaLR"], "is outside Sfumato"),
        (["--optimizer", "torch.nn.Linear"], "is outside Sfumato"),
        (["--optimizer", "torch.optim.lr_scheduler"], "is not a class"),
        (["--optimizer", "torch.optim.NAdams"], "can't be imported"),
        ([*NADAM, "--optimizer.bettas", "1"], "unknown key of NAdam; allowed: betas, eps"),
        ([*NADAM, "--optimizer.bettas", "1"], "did you mean betas?"),
        ([*NADAM, "--optimizer.lr", "1"], "optimizer.lr: the learning rate is the recipe's; set lr"),
        ([*NADAM, "--optimizer.betas", "[0.9]"], "optimizer.betas is [0.9]; allowed: a list of 2 numbers"),
        ([*NADAM, "--optimizer.betas", "[0.9,3]"], "optimizer: NAdam: Invalid beta parameter at index 1: 3.0"),
        ([*NADAM, "--optimizer.eps", "x"], "optimizer.eps is 'x'; allowed: a number"),
        (["--optimizer", "Muon", "--optimizer.momentum", "1"], "Muon.momentum is 1.0; allowed: 0 <= momentum < 1"),
        (["--optimizer", "Muon", "--optimizer.adjust_lr", "x"], "allowed: match_rms_adamw, original"),
        (["--sampler", "torch.optim.SGD"], "'torch.optim.SGD' is an optimizer, no Sampler"),
        (["--clock", "torch.optim.SGD"], "'torch.optim.SGD' is an optimizer, no Clock"),
        (["--data", "torch.optim.SGD"], "'torch.optim.SGD' is an optimizer, no Source"),
        (["--seed", "{class_path: torch.optim.SGD}"], "seed names a class; allowed: a whole number"),
    ],
)
def test_what_is_wrong_is_said(capsys, argv, message):
    assert message in fails(capsys, *argv)


def test_help_lists_the_arguments_of_the_optimizer_that_is_named(capsys):
    ours = printed(capsys, "--optimizer", "Muon", "--help")
    assert "One of AdamW, MuP, Muon." in ours
    assert all(f"--optimizer.{name}" in ours for name in ("momentum", "lr_scale", "rest", "skip"))
    theirs = printed(capsys, "--optimizer", "torch.optim.NAdam", "--help")
    assert all(f"--optimizer.{name}" in theirs for name in ("betas", "momentum_decay"))
    assert "--optimizer.lr " not in theirs
    assert "--optimizer.params" not in theirs
