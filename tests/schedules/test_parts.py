"""Objects to class paths and back; other people's class paths are not run."""

import math

import pytest
import torch

from sfumato.diffusion import Digits, LogSNRClock, Recipe, UNet
from sfumato.guidance import CFG, Interval
from sfumato.samplers import GHVB
from sfumato.samplers.filters import TrajectoryVariance
from sfumato.schedules import EDM, Cosine, Karras, LinearBeta, LogNormal, Truncated, ZeroTerminalSNR
from sfumato.schedules.parts import build, describe, find_class

PARTS = [
    Interval(CFG(3.0, against="negative"), 0.2, math.inf), GHVB(3.7), ZeroTerminalSNR(LinearBeta(0.2, 19.0)),
    Truncated(Cosine(0.01), -20.0), Karras(0.02, 20.0), EDM(0.7), TrajectoryVariance(0.1), LogNormal(), LogSNRClock(2.0),
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS, ids=lambda p: type(p).__name__)
def test_round_trip(part):
    described = describe(part)
    assert described["class_path"].startswith("sfumato.")
    assert described["class_path"].count(".") <= 3  # the public place, not the file
    assert build(described) == part


def test_a_module_round_trips_by_its_config():
    net = UNet(channels=1, size=8, width=8, multipliers=(1, 2), blocks=1, attention=())
    again = build(describe(net))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}


def test_a_recipe_round_trips_through_yaml():
    import yaml

    recipe = Recipe(
        Digits(), UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1,), blocks=1, attention=()), Cosine(),
        EDM(0.7), guidance=Interval(CFG(2.0)),
    )  # fmt: skip
    text = yaml.safe_dump(recipe.describe())
    again = Recipe.from_description(yaml.safe_load(text))
    assert again.describe() == recipe.describe()


def test_a_class_that_sfumato_only_uses_is_not_one_of_its_parts():
    with pytest.raises(ValueError, match="only used there"):
        find_class("sfumato.diffusion.scan.ThreadPoolExecutor")
    with pytest.raises(ValueError, match="class_path is 5"):
        build({"class_path": 5})


@pytest.mark.parametrize(
    "changes", [{"steps": 2.7}, {"batch": "16"}, {"seed": 1.5}, {"log_every": True}, {"lr": None}], ids=str
)
def test_a_recipe_checks_types(changes):
    net = UNet(channels=1, size=8, width=8, multipliers=(1,), blocks=1, attention=())
    with pytest.raises(ValueError, match=f"{next(iter(changes))} is .*allowed"):
        Recipe(Digits(), net, Cosine(), EDM(), **changes)


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.eval", "torch.nn.Linear", "x"])
def test_class_paths_outside_are_not_imported(path):
    with pytest.raises(ValueError, match="outside Sfumato"):
        build({"class_path": path, "init_args": {"command": "true"}})


def test_an_allowed_package_is():
    spec = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 2}}
    assert isinstance(build(spec, ["torch"]), torch.nn.Linear)


def test_refusals_name_the_place():
    rule = {"class_path": "sfumato.guidance.CFG", "init_args": {"scale": math.nan}}
    with pytest.raises(ValueError, match=r"guidance\.rule: CFG\.scale is nan"):
        build({"guidance": {"class_path": "sfumato.guidance.Interval", "init_args": {"rule": rule}}})
    with pytest.raises(ValueError, match=r"can't be imported: .*did you mean torch\.optim\.RAdam\?"):
        find_class("torch.optim.RAdamm")
    with pytest.raises(ValueError, match="can't be imported"):
        find_class("sfumato.samplers.Nothing")
    with pytest.raises(ValueError, match="is not a class"):
        find_class("sfumato.schedules.trailing")
    with pytest.raises(ValueError, match="unknown key 'scale' beside class_path"):
        build({"class_path": "sfumato.guidance.CFG", "scale": 3})
    with pytest.raises(ValueError, match="can't be written to a config"):
        describe(lambda: 0)


def test_a_recipe_names_all_that_is_out_of_range():
    net = UNet(channels=1, size=8, width=8, multipliers=(1,), blocks=1, attention=())
    with pytest.raises(ValueError, match=r"batch is 0; allowed: a whole number, >= 1; lr is -1\.0.*ema is 1\.5"):
        Recipe(Digits(), net, Cosine(), EDM(), batch=0, lr=-1.0, ema=1.5)
