"""The forward process on the command line: every part by one line, inspect, evaluate."""

import json

import pytest
import yaml
from oracles import SCHEDULES

from sfumato.schedules import Density, Grid, Row, Schedule, Table, Weighting
from sfumato.schedules.parts import build, describe
from sfumato.tools.cli import main
from sfumato.tools.inspected import look
from sfumato.tools.parts import choices
from sfumato.tools.train import recipe_from, resolve_recipe


def printed(capsys, *words):
    assert main([str(w) for w in words]) == 0
    return capsys.readouterr().out


def fails(capsys, *words):
    assert main([str(w) for w in words]) == 2
    return capsys.readouterr().err


def test_every_part_of_the_forward_process_has_a_short_name():
    assert {
        "BetaTable", "Cauchy", "Cosine", "CosineGamma", "CosineShifted", "InputScaled", "Laplace", "LinearBeta", "LinearGamma",
        "RectifiedFlow", "ScaledLinearBeta", "Shifted", "Sigmoid", "Table", "Truncated", "VarianceExploding", "ZeroTerminalSNR",
    } == set(choices(Schedule))  # fmt: skip
    assert set(choices(Row)) == {"EDM", "Eps", "Flow", "Negative", "Score", "V", "X0"}
    assert set(choices(Density)) == {
        "LogNormal", "LogSNRImportance", "LogitNormal", "LossSecondMoment", "Uniform", "UniformEntries",
    }  # fmt: skip
    assert set(choices(Weighting)) == {
        "Constant", "Debiased", "EDMWeighting", "ELBO", "MinSNR", "P2", "SigmoidWeighting", "SoftMinSNR",
    }  # fmt: skip
    assert set(choices(Grid)) == {
        "Explicit", "Exponential", "Karras", "Leading", "Linspace", "LogSNRUniform", "Trailing",
    }  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_every_schedule_survives_yaml(schedule):
    text = yaml.safe_dump(describe(schedule))
    again = build(yaml.safe_load(text))
    assert again == schedule
    resolved = resolve_recipe("digits", [("schedule", yaml.safe_load(text))], [])["schedule"]
    assert build(resolved) == schedule


@pytest.mark.parametrize(
    "words",
    [
        ["--schedule", "ZeroTerminalSNR", "--schedule.schedule", "BetaTable", "--row", "V", "--grid", "Linspace", "--density",
         "UniformEntries"],
        ["--schedule", "InputScaled", "--schedule.schedule", "Cosine", "--schedule.scale", "0.5", "--row", "V", "--input_std", "1"],
        ["--density", "LogSNRImportance", "--density.like", "Cauchy", "--density.like.scale", "1", "--density.unbiased", "true"],
        ["--weighting", "Constant", "--weighting.row", "V"],
        ["--weighting", "ELBO", "--weighting.schedule", "RectifiedFlow", "--row", "Flow", "--density", "Uniform"],
        ["--schedule", "Shifted", "--schedule.schedule", "RectifiedFlow", "--density", "LogitNormal", "--row", "Flow"],
        ["--grid", "Explicit", "--grid.values", "[1.0,0.5,0.1]", "--sampling_steps", "3"],
        ["--objective", "LearnedUncertainty"],
        ["--objective", "Hybrid", "--backbone.out_channels", "2", "--density", "UniformEntries", "--density.steps", "1000"],
        ["--schedule", "VarianceExploding", "--schedule.rho", "inf", "--schedule.low", "0.01"],
    ],
    ids=lambda words: words[1],
)  # fmt: skip
def test_every_choice_is_one_line(words, capsys):
    assert "the parts fit together" in printed(capsys, "train", "digits", *words, "--dry-run")


def test_training_on_a_table_with_a_learning_density(tmp_path, capsys):
    """The whole way: train, resume nothing, sample, bits per dimension, all from the command line."""
    run = tmp_path / "run"
    words = [
        "--schedule", "BetaTable", "--schedule.betas", "cosine", "--schedule.steps", "8", "--row", "V", "--density", "LossSecondMoment",
        "--objective", "VariationalBound", "--objective.steps", "8", "--objective.bins", "17", "--backbone.out_channels", "2",
        "--backbone.width", "8", "--grid", "Trailing", "--sampling_steps", "8", "--steps", "6", "--batch", "16", "--sample_every", "0",
        "--guidance", "Plain",
    ]  # fmt: skip
    assert "trained:" in printed(capsys, "train", "digits", *words, "--out", run)
    out = printed(capsys, "evaluate", run, "--nll", "--steps", "8", "--count", "20", "--threads", "1")
    assert "bits per dimension at most, of 20 samples (17 values per number)" in out
    assert "learned variance" in out
    result = json.loads((run / "nll.json").read_text())
    assert result["bits_per_dim"] == pytest.approx(result["prior"] + result["middle"] + result["decoder"])
    assert (result["n"], result["bins"], result["steps"], result["variance"]) == (20, 17, 8, "learned")
    assert result["labels"] is True
    assert "of 20 samples" in printed(
        capsys,
        "evaluate",
        run,
        "--nll",
        "--steps",
        "8",
        "--count",
        "20",
        "--data.part",
        "even",
        "--out",
        tmp_path / "x.json",
    )
    assert json.loads((tmp_path / "x.json").read_text())["data"]["init_args"] == {"part": "even"}
    assert "measures has 'fid'; allowed: frechet" in fails(capsys, "evaluate", run, "--measures", "fid")
    assert "out is" in fails(capsys, "evaluate", run, "--nll", "--out", tmp_path)
    assert "seed is 99999999999999999999; allowed" in fails(
        capsys, "evaluate", run, "--nll", "--seed", "99999999999999999999"
    )
    assert "grid.rho: name the part too" in fails(capsys, "evaluate", run, "--nll", "--grid.rho", "5")
    assert "count is 5000, the data have 1797" in fails(capsys, "evaluate", run, "--nll", "--count", "5000")
    assert "batch is 0; allowed: >= 1" in fails(capsys, "evaluate", run, "--nll", "--batch", "0")
    for given, said in (("0", None), ("256", 256)):
        printed(
            capsys,
            "evaluate",
            run,
            "--nll",
            "--steps",
            "8",
            "--count",
            "4",
            "--bins",
            given,
            "--out",
            tmp_path / "y.json",
        )
        assert json.loads((tmp_path / "y.json").read_text())["bins"] == said
    assert "leave tokens out" in fails(capsys, "inspect", run, "--tokens", "5")
    assert "steps is 1; allowed" in fails(capsys, "evaluate", run, "--nll", "--steps", "1")
    assert "bins is 1; allowed" in fails(capsys, "evaluate", run, "--nll", "--bins", "1")
    assert "did you mean" in fails(capsys, "evaluate", run, "--nll", "--fixd", "small")


@pytest.fixture
def pipeline(tmp_path):
    """A diffusers folder: the scheduler of Stable Diffusion 1 and the size of its latents."""
    config = {
        "_class_name": "PNDMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    }
    for name, content in (("scheduler/scheduler_config.json", config), ("unet/config.json", {"sample_size": 64})):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps(config if content is config else content))
    return tmp_path


def test_inspect_reads_a_diffusers_folder(pipeline, tmp_path, capsys):
    out = printed(capsys, "inspect", pipeline, "--out", tmp_path / "a.png")
    assert "Table(1000 entries, log_snr 7.06" in out
    assert "row Eps, 20 steps of Leading(offset=1)" in out
    assert "7.069 (first of 1000 entries)" in out
    assert "density and weighting are assumed" in out
    assert "terminal SNR is not zero: alpha is 0.06826" in out
    assert "the grid does not start at the top" in out
    better = printed(
        capsys, "inspect", pipeline / "scheduler", "--out", tmp_path / "b.png", "--grid", "Trailing", "--row", "V", "--schedule",
        "ZeroTerminalSNR", "--schedule.schedule", "BetaTable", "--schedule.schedule.betas", "scaled_linear", "--weighting.row", "V",
    )  # fmt: skip
    assert "nothing wrong found" in better
    looked = look(str(pipeline), [], [], None)
    assert isinstance(looked.parts.schedule, Table)
    assert looked.elements == 64**2
    assert "colour: unknown key" in fails(capsys, "inspect", pipeline, "--colour", "red")
    (pipeline / "scheduler" / "scheduler_config.json").write_text("{}")
    assert "names no _class_name" in fails(capsys, "inspect", pipeline)


@pytest.mark.parametrize(
    ("config", "grid"),
    [
        ({"_class_name": "DDIMScheduler"}, "Leading(offset=0)"),
        ({"_class_name": "EulerDiscreteScheduler"}, "Linspace(clean=True)"),
        ({"_class_name": "DPMSolverMultistepScheduler"}, "Linspace(clean=False)"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, "Karras(low=None, high=None, rho=7.0)"),
        ({"_class_name": "UniPCMultistepScheduler", "timestep_spacing": "trailing"}, "Trailing()"),
        ({"_class_name": "EDMEulerScheduler"}, "Karras(low=None, high=None, rho=7.0)"),
        ({"_class_name": "CosineDPMSolverMultistepScheduler"}, "Exponential(low=None, high=None)"),
        ({"_class_name": "DPMSolverSDEScheduler"}, "Linspace(clean=True)"),
        ({"_class_name": "IPNDMScheduler"}, "Trailing()"),
        ({"_class_name": "DDPMWuerstchenScheduler"}, "Trailing()"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "Linspace(clean=True)"),
        ({"_class_name": "LCMScheduler"}, "Trailing()"),
    ],
    ids=str,
)  # fmt: skip
def test_the_grid_of_a_diffusers_config(config, grid, tmp_path):
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    assert str(look(str(tmp_path), [], [], None).parts.grid) == grid


def test_inspect_draws_several_schedules(tmp_path, capsys):
    out = printed(
        capsys, "inspect", "digits", "--also", "Laplace", "--also", "Cauchy", "--also.scale", "1", "--also",
        "{class_path: Shifted, init_args: {schedule: Cosine}}", "--out", tmp_path / "a.png",
    )  # fmt: skip
    assert "nothing wrong found" in out
    figures = json.loads((tmp_path / "a.json").read_text())
    assert [other["name"].split("(")[0] for other in figures["also"]] == ["Laplace", "Cauchy", "Shifted"]
    assert figures["also"][1]["density"]["value"][200] == pytest.approx(0.318, abs=0.01)


def test_inspect_warns_of_an_input_that_changes_its_size(tmp_path, capsys):
    words = [
        "inspect",
        "digits",
        "--schedule",
        "InputScaled",
        "--schedule.schedule",
        "Cosine",
        "--schedule.scale",
        "0.2",
        "--row",
        "V",
    ]
    out = printed(capsys, *words, "--out", tmp_path / "a.png")
    assert "the size of x changes along the path: alpha^2 + sigma^2 runs from 0.04 to 1" in out
    assert "nothing wrong found" in printed(capsys, *words, "--input_std", "1", "--out", tmp_path / "b.png")


def test_inspect_warns_of_a_density_that_does_not_see_the_start(tmp_path, capsys):
    words = ["inspect", "digits", "--out", tmp_path / "a.png", "--density", "LogSNRImportance"]
    assert "training does not see where sampling starts" in printed(capsys, *words)
    assert "nothing wrong found" in printed(capsys, *words, "--density.like", "Cauchy")


def test_an_empty_folder_is_said_to_be_none(tmp_path, capsys):
    assert "is no diffusers folder: it holds neither" in fails(capsys, "inspect", tmp_path)
    assert "leave tokens out" in fails(capsys, "inspect", "digits", "--tokens", "5")


PLUG_INS = """
from dataclasses import dataclass
import torch
from sfumato.schedules import Level
@dataclass(frozen=True)
class Negative:
    def __call__(self, log_snr): return -torch.exp(log_snr)
@dataclass(frozen=True)
class Backwards:
    def __call__(self, t): return Level(t, t, 1.0 - t)
    def at_log_snr(self, log_snr): return Level(0.5, 0.5, 0.5)
@dataclass(frozen=True)
class NoInverse:
    def __call__(self, t): return Level(t, 1.0 - t, t)
    def at_log_snr(self, log_snr): return Level(0.5, 0.5, 0.5)
"""


def test_plug_ins_are_looked_at_before_they_are_trained_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "wrong_parts.py").write_text(PLUG_INS)
    (tmp_path / "broken_parts.py").write_text("raise RuntimeError('boom')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for command in (["train", "digits", "--dry-run"], ["inspect", "digits"]):
        allow = [*command, "--allow", "wrong_parts"]
        assert "weighting Negative is" in fails(capsys, *allow, "--weighting", "wrong_parts.Negative")
        assert "data at t = 0" in fails(capsys, *allow, "--schedule", "wrong_parts.Backwards", "--grid", "Trailing")
        assert "is not its inverse" in fails(
            capsys, *allow, "--schedule", "wrong_parts.NoInverse", "--grid", "Trailing"
        )
    err = fails(capsys, "train", "digits", "--allow", "broken_parts", "--weighting", "broken_parts.X", "--dry-run")
    assert "can't be imported: RuntimeError: boom" in err


def test_help_lists_the_arguments_of_a_plug_in(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_parts.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Own:\n"
        '    """A weight.\n\n    Args:\n        centre: where it is largest.\n    """\n'
        "    centre: float = 2.5\n    def __call__(self, log_snr): return log_snr * 0 + 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    out = printed(capsys, "train", "digits", "--allow", "own_parts", "--weighting", "own_parts.Own", "--help")
    assert "--weighting.centre" in out
    assert "where it is largest. [2.5]" in out
    assert "--weighting.centre" not in printed(capsys, "train", "digits", "--weighting", "own_parts.Own", "--help")


def test_a_dry_run_says_the_forward_process(capsys):
    out = printed(capsys, "train", "digits", "--dry-run")
    assert "RectifiedFlow, row EDM(data_std=0.75), clock LogSNRClock" in out
    assert "LogNormal(mean=-0.5, std=1.2), EDMWeighting(data_std=0.75), Regression" in out
    assert "20 steps of DPMSolverPP" in out


def test_inspect_warns_of_a_first_level_without_weight(tmp_path, capsys):
    """Min-SNR on v is min(SNR, gamma) / (SNR + 1), which is nothing at zero SNR."""
    words = [
        "inspect",
        "digits",
        "--schedule",
        "Cosine",
        "--row",
        "V",
        "--grid",
        "Trailing",
        "--out",
        tmp_path / "a.png",
        "--density",
        "Uniform",
    ]
    assert "sampling starts where the loss hardly looks" in printed(capsys, *words, "--weighting", "MinSNR")
    words_linear = [*words, "--weighting", "MinSNR", "--schedule", "LinearBeta"]  # little is not nothing
    assert "hardly looks" not in printed(capsys, *words_linear)
    good = printed(capsys, *words, "--weighting", "Constant", "--weighting.row", "V")
    assert "nothing wrong found" in good


def test_a_part_within_a_part_is_resolved_and_refused_with_its_key(capsys):
    assert "density.like: 'Laplac' is no Schedule" in fails(
        capsys, "train", "digits", "--density", "LogSNRImportance", "--density.like", "Laplac"
    )
    assert "schedule.schedule: missing" in fails(capsys, "train", "digits", "--schedule", "Shifted")
    assert recipe_from(resolve_recipe("digits", [("weighting", "Constant")], []), []).weighting.row.input_std is None
