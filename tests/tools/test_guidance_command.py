"""`sfumato guidance` and the rules of `sfumato sample`, as their user meets them."""

import json
import re
import shlex

import pytest
from PIL import Image

from sfumato.diffusion import Model, load
from sfumato.diffusion.images import read_settings
from sfumato.guidance import CFG, CFGPlusPlus, Interval, LinearAdaptive, LinearPlan, Threshold, equivalent_scale
from sfumato.schedules import V
from sfumato.tools.cli import main
from sfumato.tools.sample import strengths

SMALL = shlex.split("--steps 12 --batch 8 --backbone.width 8 --sampling_steps 6 --sample_every 0 --save_every 6")


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", "digits", *SMALL, "--out", str(folder)]) == 0
    return folder


def printed(capsys, *argv):
    capsys.readouterr()
    assert main(list(map(str, argv))) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def fails(capsys, *argv):
    capsys.readouterr()
    assert main(list(map(str, argv))) == 2
    return capsys.readouterr().err


def test_calibration_and_the_commands_that_it_prints(a_run, capsys, tmp_path):
    out = printed(capsys, "guidance", a_run, "--scale", "3", "--trajectories", "20", "--check", "10", "--batch", "7")
    found = json.loads((a_run / "guidance" / "guidance.json").read_text())
    with Image.open(a_run / "guidance" / "cosines.png") as figure:
        assert figure.width > 800
    assert set(found["thresholds"]) == {"x0", "eps", "v"}
    assert [len(found["cosines"][name]) for name in ("x0", "eps", "v")] == [6, 6, 6]
    rows = {row["rule"]: row for row in found["verified"]}
    wanted = {
        "rule": "CFG 3",
        "steps": 6,
        "evaluations": 12.0,
        "least": 12,
        "most": 12,
        "rms": 0.0,
        "blocks": [0.0] * 5,
    }
    assert rows["CFG 3"] == wanted
    assert rows["unguided"]["evaluations"] == 6.0
    assert rows["LinearAdaptive"]["evaluations"] == 8.0
    assert rows["CFG 3, 4 steps"]["evaluations"] == 8.0
    assert 7.0 <= rows["Adaptive in x0"]["evaluations"] <= 12.0
    # what was verified is what Python gives, on the same seeds
    model = load(a_run)
    labels = [i % 10 for i in range(10)]
    full = model.sample(range(20, 30), labels, guidance=CFG(3.0)).images
    linear = LinearAdaptive(str(a_run / "guidance" / "linear.json"))
    images = model.sample(range(20, 30), labels, guidance=linear).images
    assert float((images - full).square().mean().sqrt()) == pytest.approx(rows["LinearAdaptive"]["rms"], rel=1e-3)
    commands = re.findall(r": sfumato (sample .*)", out)
    assert len(commands) == 2
    for n, command in enumerate(commands):
        said = printed(capsys, *shlex.split(command), "--seeds", "0-9", "--out", tmp_path / str(n))
        assert "10 pictures" in said
    settings = read_settings(tmp_path / "1" / "seed-00000003.png")
    assert settings["evaluations"] == {"cond": 6, "ref": 2}
    assert settings["guidance"]["init_args"]["plan"]["class_path"] == "sfumato.guidance.LinearPlan"


def test_a_run_may_be_trained_with_its_plan_and_resumed(a_run, capsys, tmp_path):
    """The plan is kept in the config itself, numbers and all."""
    model = load(a_run)
    ratios = [level.ratio for level in model.grid(model.denoiser.schedule, 6)[:-1]]
    LinearPlan(2.0, [None, [0.5, 0.5, 0.0], None, (), (), ()], ratios).save(tmp_path / "linear.json")
    argv = ["train", "digits", *SMALL, "--guidance", "LinearAdaptive", "--guidance.plan", str(tmp_path / "linear.json")]
    assert main([*argv, "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "linear.json").unlink()
    assert main(["train", str(tmp_path / "run"), "--resume"]) == 0
    out = printed(capsys, "sample", tmp_path / "run", "--seeds", "0", "--labels", "1")
    assert "cond 6, ref 2" in out
    err = fails(capsys, *argv[:-2], "--guidance.plan", tmp_path / "none.json", "--dry-run")
    assert "`sfumato guidance RUN` writes one" in err


def test_other_steps_and_grids_are_kept_in_the_commands(a_run, capsys, tmp_path):
    out = printed(
        capsys, "guidance", a_run, "--scale", "2.12345678", "--ema", "false",
        "--steps", "5", "--grid", "Trailing", "--sampler", "DDIM", "--plain",
        "--trajectories", "10", "--check", "5", "--out", tmp_path / "g",
    )  # fmt: skip
    assert "no threshold in eps: in the first step all networks say the same there" in out
    assert out.count("--ema false --steps 5 --grid Trailing --sampler DDIM") == 2
    assert "--guidance.rule.scale 2.12345678" in out
    plan = LinearPlan.load(tmp_path / "g" / "linear.json")
    assert plan.space == V()  # the path begins without data
    assert [entry is not None and not len(entry) for entry in plan.steps] == [False, False, False, True, True]
    found = json.loads((tmp_path / "g" / "guidance.json").read_text())
    assert found["cosines"]["eps"][0] == {"mean": None, "low": None, "high": None}
    command = shlex.split(re.findall(r": sfumato (sample .*)", out)[-1])
    assert "cond 5, ref 2" in printed(capsys, *command, "--seeds", "0", "--out", tmp_path / "x")


def test_samplers_that_ask_twice_get_thresholds_and_no_plan(a_run, capsys, tmp_path):
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "linear.json").write_text("of another calibration")
    words = ["--sampler", "Heun", "--trajectories", "4", "--check", "2", "--out", tmp_path / "g"]
    out = printed(capsys, "guidance", a_run, *words)
    assert "no LinearAdaptive: LinearFit needs a sampler that asks once per step" in out
    assert not (tmp_path / "g" / "linear.json").exists()
    assert out.count(": sfumato sample") == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--scale", "1"], "scale is 1, which asks one branch only"),
        (["--scale", "inf"], "scale is inf; allowed: a finite number"),
        (["--save", "0.5"], "save is 0.5; allowed: above 0 and below 0.5"),
        (["--save", "0.3", "--least", "5"], "save is 0.3; allowed: below 0.0833333, all that 6 steps save when 5 of them"),
        (["--least", "0"], "least is 0; allowed: >= 1"),
        (["--trajectories", "1"], "trajectories is 1; allowed: >= 2"),
        (["--check", "0"], "check is 0; allowed: >= 1"),
        (["--batch", "0"], "batch is 0; allowed: >= 1"),
        (["--spaec", "V"], "did you mean space?"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)  # fmt: skip
def test_mistakes(a_run, argv, said, capsys):
    assert said in fails(capsys, "guidance", a_run, *argv)


def test_a_model_without_classes_has_nothing_to_calibrate(capsys, tmp_path):
    argv = ["train", "digits", *SMALL, "--backbone.num_classes", "0", "--guidance", "Plain"]
    assert main([*argv, "--out", str(tmp_path / "x")]) == 0
    assert "knows no null class that guidance could steer away from" in fails(capsys, "guidance", tmp_path / "x")
    for words, said in (
        (["--labels", "1"], "trained without classes; leave labels out"),
        (["--also.negative", "1"], "trained without classes; leave also out"),
        (["--guidance", "CFG", "--guidance.scale", "3"], "this model was trained without classes; use guidance Plain"),
    ):
        assert said in fails(capsys, "sample", tmp_path / "x", "--out", tmp_path / "y", *words)


@pytest.mark.parametrize(
    ("words", "evaluations"),
    [
        ("--guidance CFG --guidance.against negative --also.negative 7", "cond 6, ref 0, negative 6"),
        ("--guidance Mix --guidance.weights '{cond: 2, second: 1.5}' --also '{second: 5-9}'", "cond 6, ref 6, second 6"),
        ("--guidance Mix --guidance.weights.cond 2 --guidance.weights.second 1.5 --also.second 3,5", "cond 6, ref 6, second 6"),
        ("--guidance Autoguidance --weak RUN --weak_step 6", "cond 6, ref 0, weak 6"),
        ("--guidance CFG --guidance.scale [1,2,4,8]", "cond 6, ref 4.5 (0 to 6)"),
        ("--guidance CFG --guidance.against negative --also.negative null", "cond 6, ref 6, negative 0"),
        ("--guidance Rescale", "cond 6, ref 6"),
        ("--guidance Rescale --guidance.space V --guidance.phi 0.5", "cond 6, ref 6"),
        ("--guidance Threshold --guidance.quantile 0.995", "cond 6, ref 6"),
        ("--guidance APG --guidance.norm 2.5 --guidance.momentum -0.75", "cond 6, ref 6"),
        ("--guidance Adaptive --guidance.threshold 2", "cond 6, ref 6"),
        ("--guidance Adaptive --guidance.threshold -1 --guidance.least 2 --guidance.rule CFG", "cond 6, ref 2"),
        ("--guidance CFGPlusPlus --guidance.per noise --guidance.scale 2", "cond 6, ref 6"),
        (
            "--guidance Interval --guidance.rule Rescale --guidance.rule.rule CFG --guidance.rule.rule.scale 7 --guidance.high 0",
            "cond 6, ref 0",
        ),
    ],
)  # fmt: skip
def test_rules_of_sample(a_run, words, evaluations, capsys, tmp_path):
    argv = [str(a_run) if word == "RUN" else word for word in shlex.split(words)]
    out = printed(capsys, "sample", a_run, "--seeds", "0-3", "--labels", "0-3", "--out", tmp_path, *argv)
    assert f"evaluations per picture: {evaluations}\n" in out


def test_pictures_say_their_own(a_run, capsys, tmp_path):
    printed(
        capsys, "sample", a_run, "--seeds", "0-2", "--labels", "0-2", "--guidance", "CFG", "--guidance.scale", "[1,2,4]",
        "--guidance.against", "negative", "--also.negative", "8-9", "--out", tmp_path,
    )  # fmt: skip
    settings = [read_settings(p) for p in sorted(tmp_path.glob("seed-*.png"))]
    assert [s["guidance"]["init_args"]["scale"] for s in settings] == [1.0, 2.0, 4.0]
    assert [s["also"] for s in settings] == [{"negative": 8}, {"negative": 9}, {"negative": 8}]
    assert json.loads((tmp_path / "samples.json").read_text())[2]["also"] == {"negative": 8}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--guidance Autoguidance", "--weak RUN"),
        ("--guidance Autoguidance --weak /nowhere", "weak: /nowhere is not a run folder"),
        ("--guidance Autoguidance --weak RUN --weak_step 7", "weak: step is 7"),
        ("--weak_step 7", "weak_step is 7, but weak is null"),
        ("--guidance CFG --guidance.against negative", "--also.negative 3"),
        ("--guidance CFG --guidance.against negativ --also.negative 3", "did you mean 'negative'?"),
        ("--also.negative 10", "also['negative']: label 10; allowed: 0 to 9"),
        ("--also.negative x", "also.negative is 'x'; allowed: whole numbers and ranges"),
        ("--also.cond 3", "also names 'cond'"),
        ("--also 7", "also is '7'; allowed: names with values, such as {negative: 3}, or null"),
        ("--also '{x: {class_path: os.X}}'", "also names a class"),
        ("--guidance Mix --guidance.weights 3", "guidance.weights is '3'; allowed: names with values"),
        ("--guidance Mix --guidance.weights.ref 3", "Mix.weights names 'ref'"),
        ("--guidance CFG --guidance.scale [1,2]", "CFG.scale has 2 numbers for 4 picture(s)"),
        ("--guidance CFG --guidance.scale x", "guidance.scale is 'x'; allowed: a number, or a list of numbers"),
        ("--guidance LinearAdaptive", "guidance.plan: missing"),
        ("--guidance Rescale --guidance.space Eps --grid Trailing", "Rescale.space is Eps()"),
        ("--guidance CFGPlusPlus --guidance.scale 3", "allowed: 0 to 1 per step"),
    ],
)
def test_mistakes_of_sample(a_run, words, said, capsys, tmp_path):
    argv = [str(a_run) if word == "RUN" else word for word in shlex.split(words)]
    err = fails(capsys, "sample", a_run, "--seeds", "0-3", "--out", tmp_path / "x", *argv)
    assert said in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--guidance Autoguidance", "a recipe has no branch 'weak'"),
        ("--guidance CFG --guidance.against negative", "a recipe has no branch 'negative'"),
        ("--guidance Interval --guidance.high 0.1 --guidance.rule Mix --guidance.rule.weights.second 1", "no branch 'second'"),
        ("--guidance CFG --guidance.scale [1,2]", "a recipe's guidance serves any number of pictures"),
        ("--guidance APG --guidance.scale [1.5]", "a recipe's guidance serves any number of pictures"),
        ("--guidance Adaptive --label_dropout 0", "label_dropout is 0, but Adaptive"),
        ("--guidance Rescale --backbone.num_classes 0", "this model is trained without classes or texts; set guidance: Plain"),
        ("--guidance Rescale --guidance.space Eps --row V --grid Trailing", "Rescale.space is Eps()"),
    ],
)  # fmt: skip
def test_rules_that_no_recipe_can_have(words, said, capsys):
    assert said in fails(capsys, "train", "digits", "--dry-run", *shlex.split(words))


@pytest.mark.parametrize(
    "rule", ["Plain", "CFG", "Mix", "Rescale", "Threshold", "Interval", "CFGPlusPlus", "Adaptive", "APG"]
)
def test_rules_that_a_recipe_can_have_by_name_alone(rule, capsys):
    assert "the parts fit together" in printed(capsys, "train", "digits", "--dry-run", "--guidance", rule)


def test_help_of_a_rule(capsys):
    out = " ".join(printed(capsys, "sample", "RUN", "--guidance", "APG", "--help").split())
    assert "--guidance.momentum of the difference, in (-1, 1)" in out
    assert "--weak_step" in out
    assert "--also" in out


def test_a_class_within_a_plain_value_is_never_imported(capsys, tmp_path, monkeypatch):
    (tmp_path / "bad_part.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan = "{class_path: bad_part.X, init_args: {}}"
    err = fails(capsys, "train", "digits", "--dry-run", "--guidance", "LinearAdaptive", "--guidance.plan", plan)
    assert "outside Sfumato, and importing it runs its code" in err
    assert "lr names a class; allowed: a number" in fails(capsys, "train", "digits", "--dry-run", "--lr", plan)


def test_cfg_plus_plus_says_its_scale(a_run, capsys, tmp_path):
    model = load(a_run)
    levels = model.grid(model.denoiser.schedule, 6)
    scales = equivalent_scale(0.6, levels)[:-1]
    words = ["--seeds", "0", "--labels", "1", "--guidance", "CFGPlusPlus", "--out", tmp_path]
    out = printed(capsys, "sample", a_run, *words)
    assert f"CFG++ at 0.6 per step was CFG at {min(scales):.3g} to {max(scales):.3g} in these 6 steps" in out
    # within other rules, and only in the steps that they guide
    low = levels[3].ratio
    inside = [s for s, level in zip(equivalent_scale(0.5, levels)[:-1], levels, strict=False) if level.ratio > low]
    assert len(inside) == 3
    (line,) = strengths(Interval(Threshold(CFGPlusPlus(0.5)), low=low), levels)
    assert f"CFG at {min(inside):.3g} to {max(inside):.3g}" in line
    assert strengths(CFGPlusPlus(2.0, per="noise"), levels) == strengths(CFG(2.0), levels) == []


def test_python_on_the_command_line_is_told_how_parts_are_written(a_run, capsys):
    err = fails(capsys, "sample", a_run, "--guidance", "Interval(CFG(3),0.2,2)")
    assert "is Python; here a part is a name and its arguments are dotted, such as --guidance Interval" in err
    assert "--allow" not in err


def test_a_folder_that_was_there_stays(a_run, capsys, tmp_path):
    """Nothing is made: what was not there is taken away again, and only that."""
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "mine", tmp_path / "mine" / "a" / "b"):
        assert "asks for branch 'weak'" in fails(capsys, "sample", a_run, "--guidance", "Autoguidance", "--out", out)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    assert not list((tmp_path / "mine").iterdir())


def test_arguments_of_a_part_that_is_there_by_default_need_no_name(a_run, capsys, tmp_path):
    words = [
        "--guidance",
        "Interval",
        "--guidance.rule.scale",
        "4",
        "--sampler",
        "HeavyBall",
        "--sampler.base.order",
        "3",
    ]
    printed(capsys, "sample", a_run, "--seeds", "0", "--labels", "1", *words, "--out", tmp_path / "x")
    settings = json.loads((tmp_path / "x" / "samples.json").read_text())[0]
    assert settings["guidance"]["init_args"]["rule"] == {
        "class_path": "sfumato.guidance.CFG",
        "init_args": {"scale": 4, "against": "ref"},
    }
    assert settings["sampler"]["init_args"]["base"]["init_args"]["order"] == 3
    words = ["--guidance", "Rescale", "--guidance.rule.against", "negative", "--also.negative", "2"]
    printed(capsys, "sample", a_run, "--seeds", "0", "--labels", "1", *words, "--out", tmp_path / "y")
    rule = json.loads((tmp_path / "y" / "samples.json").read_text())[0]["guidance"]["init_args"]["rule"]
    assert rule["init_args"] == {"scale": 7.5, "against": "negative"}  # Rescale's own CFG, not CFG's own scale
    err = fails(capsys, "sample", a_run, "--guidance", "Interval", "--guidance.rule.scal", "4")
    assert "guidance.rule.scal: unknown key of CFG" in err


def test_noise_of_a_stochastic_sampler_is_the_same_in_any_number_of_steps(a_run, capsys, tmp_path, monkeypatch):
    """Else distances between numbers of steps would be those of the noise."""
    said = []
    sample = Model.sample

    def watched(self, *args, **settings):
        said.append((settings["steps"], settings["brownian"]))
        return sample(self, *args, **settings)

    monkeypatch.setattr(Model, "sample", watched)
    for name, brownian in (("DDPM", True), ("DDIM", False)):
        said.clear()
        words = ["--sampler", name, "--trajectories", "4", "--check", "2", "--out", tmp_path / name]
        printed(capsys, "guidance", a_run, *words)
        assert len({steps for steps, _ in said}) > 1
        assert {b for _, b in said} == {brownian}
