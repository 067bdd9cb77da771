"""The command line as its user meets it: exit codes, one message, the key, the value, what is allowed, the nearest spelling."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from PIL import Image

from sfumato.diffusion.images import read_settings
from sfumato.tools.cli import COMMANDS, main

SMALL = [
    "--steps",
    "6",
    "--batch",
    "8",
    "--backbone.width",
    "8",
    "--sampling_steps",
    "4",
    "--sample_every",
    "0",
    "--log_every",
    "3",
]


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", "digits", *SMALL, "--out", str(folder)]) == 0
    return folder


def fails(capsys, *argv, code=2):
    assert main(list(map(str, argv))) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return shown.err


def printed(capsys, *argv):
    assert main(list(map(str, argv))) == 0
    return capsys.readouterr().out


def test_help_imports_nothing_heavy_and_is_quick():
    """Under 0.3 s of CPU time: measured by the process itself, not by the clock on the wall."""
    code = (
        "import sys, time\nfrom sfumato.tools.cli import main\nmain(['--help'])\n"
        "heavy = {'torch', 'diffusers', 'torchmetrics', 'gradio', 'numpy', 'yaml', 'jsonargparse'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert time.process_time() < 0.3, time.process_time()\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command, capsys):
    assert f"sfumato {command}" in printed(capsys, command, "--help")


def test_help_says_what_each_key_means(capsys):
    out = " ".join(printed(capsys, "train", "--help").split())
    for known in (
        "DDIM, DDPM, DPMSolverPP", "EDM, Eps, Flow, V, X0", "Cosine, LinearBeta, RectifiedFlow", "ADM, DiT, UNet", "LogSNRClock, TimeClock",
        "LogNormal, Uniform", "EDMWeighting, MinSNR", "CFG, Interval, Plain", "Karras, Trailing", "Digits, ImageFolder",
    ):  # fmt: skip
        parts = known.split(", ")
        lists = [names.split(", ") for names in re.findall(r"One of ([\w, ]+)\.", out)]
        assert any(set(parts) <= set(names) for names in lists), known
    assert "One of Calibrated, ExcessError, Judged, PathLength, RenoiseProbe, TrajectoryVariance" in " ".join(
        printed(capsys, "sample", "--help").split()
    )


def test_help_lists_the_arguments_of_a_named_part(capsys):
    out = printed(capsys, "train", "--backbone", "DiT", "--sampler", "DDIM", "--help")
    assert "--backbone.patch" in out
    assert "--sampler.eta" in out
    assert "--sampler.eta" in printed(capsys, "sample", "--sampler", "DDIM", "--help")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["trian"], "did you mean train?"),
        (["train"], "config: missing"),
        (["train", "digit"], "did you mean digits?"),
        (["train", "nowhere/x.yaml"], "no such file, run folder or preset; presets: adm-imagenet64, "),
        (
            ["train", "digits", "--learing_rate", "3"],
            "learing_rate: unknown key; allowed: see --help; did you mean lr?",
        ),
        (["train", "digits", "--shedule", "Cosine"], "did you mean schedule?"),
        (["train", "digits", "--dry_rum"], "--dry_rum: needs a value"),
        (["train", "digits", "--sampler", "GHBV"], "did you mean GHVB?"),
        (
            ["train", "digits", "--sampler.ordr", "2"],
            "sampler.ordr: unknown key of DPMSolverPP; allowed: order, eta, solver, legacy; did you mean order?",
        ),
        (["train", "digits", "--lr", "fast"], "lr is 'fast'; allowed: a number"),
        (["train", "digits", "--lr", ".nan"], "lr is nan"),
        (["train", "digits", "--steps", "2.7"], "steps is '2.7'; allowed: a whole number"),
        (["train", "digits", "--precision", "fp8"], "precision is 'fp8'; allowed: fp32, bf16, fp16"),
        (["train", "digits", "--data", "null"], "data is null; give a Source"),
        (["train", "digits", "--row", "Eps", "--dry-run"], "v-prediction"),
        (["train", "digits", "--row.data_std", "inf"], "EDM.data_std is inf"),
        (["train", "digits", "--grid.rho", "0"], "0.1 to 1000"),
        (["train", "digits", "--guidance", "os.system"], "outside Sfumato"),
        (["train", "digits", "--guidance", "torch.nn.Linear"], "--allow torch"),
        (
            ["train", "digits", "--guidance", "torch.nn.Linear", "--allow", "torch"],
            "has no init, which a Guidance needs",
        ),
        (["train", "digits", "--backbone.channels", "3", "--dry-run"], "set backbone.channels: 1"),
        (["train", "digits", "--backbone.width", "-4"], "width"),
        (["train", "digits", "--data", "ImageFolder"], "data.root: missing"),
        (["train", "digits", "--data", "ImageFolder", "--data.root", "/nowhere"], "which is not a folder"),
        (["train", "digits", "more", "words"], "'more': unexpected"),
        (["train", "digits", "--out"], "--out: needs a value"),
        (["train", "digits", "--out", ""], "out is empty"),
        (["sample", "/nowhere"], "holds no config.yaml"),
        (["sample"], "run: missing"),
        (["inspect", "digits", "--elements", "0"], "elements is 0; allowed: >= 1"),
        (["inspect", "digits", "--out", "x.jpg"], "ends in .png"),
        (["quickstart", "--samples", "1"], "samples is 1; allowed: >= 2"),
        (["doctor", "now"], "takes no arguments"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_mistakes_are_one_message_and_exit_2(argv, said, capsys):
    assert said in fails(capsys, *argv)


def test_all_mistakes_in_one_message(capsys):
    err = fails(
        capsys, "train", "digits", "--lr", "-1", "--batch", "0", "--ema", "1.5", "--sampler.order", "9", "--stps", "3"
    )
    for said in ("lr is -1", "batch is 0", "ema is 1.5", "DPMSolverPP.order is 9", "stps: unknown key"):
        assert said in err


def test_overrides_and_print_config(capsys):
    argv = (
        "--sampler.order=3.5 --sampler GHVB --lr=1e-3 --guidance Interval --guidance.rule CFG --guidance.rule.scale 4"
    )
    more = ["--guidance.high", "inf", "--backbone.multipliers", "[1, 2, 2]", "--print-config"]
    tree = yaml.safe_load(printed(capsys, "train", "digits", *argv.split(), *more))
    assert tree["sampler"] == {"class_path": "sfumato.samplers.GHVB", "init_args": {"order": 3.5}}
    assert tree["lr"] == 0.001
    assert tree["backbone"]["init_args"]["multipliers"] == [1, 2, 2]
    assert tree["guidance"]["init_args"]["rule"]["init_args"] == {"scale": 4.0, "against": "ref"}
    assert tree["guidance"]["init_args"]["high"] == float("inf")


def test_a_part_that_is_named_again_starts_anew(capsys):
    argv = "--sampler DDIM --sampler.eta=1 --sampler GHVB --sampler.order 2.5 --print_config"
    tree = yaml.safe_load(printed(capsys, "train", "digits", *argv.split()))
    assert tree["sampler"] == {"class_path": "sfumato.samplers.GHVB", "init_args": {"order": 2.5}}


def test_a_folder_named_like_a_preset_does_not_hide_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert "steps: 800" in printed(capsys, "train", "digits", "--print_config")


def test_one_mistake_is_told_once(capsys):
    assert fails(capsys, "train", "digits", "--steps", "1e3").count("steps is") == 1


def test_moved_data_are_the_same_data(capsys, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "x.png")
    argv = [
        *SMALL,
        "--data",
        "ImageFolder",
        "--data.size",
        "8",
        "--data.channels",
        "1",
        "--backbone.num_classes",
        "0",
        "--guidance",
        "Plain",
    ]
    assert main(["train", "digits", *argv, "--data.root", str(tmp_path / "a"), "--out", str(tmp_path / "run")]) == 0
    assert main(["train", str(tmp_path / "run"), "--resume", "--data.root", str(tmp_path / "b")]) == 0
    Image.new("L", (9, 9)).save(tmp_path / "b" / "y.png")
    assert "fingerprint" in fails(capsys, "train", tmp_path / "run", "--resume", "--data.root", tmp_path / "b")


def test_a_printed_config_is_a_config(capsys, tmp_path):
    text = printed(capsys, "train", "digits", "--row", "V", "--print_config")
    (tmp_path / "mine.yaml").write_text(text)
    assert printed(capsys, "train", tmp_path / "mine.yaml", "--print_config") == text


def test_dry_run_says_what_the_run_would_be(capsys, tmp_path):
    out = printed(capsys, "train", "digits", "--dry-run", "--micro_batch", "16", "--out", tmp_path / "x")
    assert "parameters" in out
    assert "64 = 1 process(es) x 4 micro-batch(es) of up to 16" in out
    assert "the parts fit together" in out
    assert not (tmp_path / "x").exists()


def test_train_leaves_a_run(a_run, capsys):
    assert {p.name for p in a_run.iterdir()} >= {
        "config.yaml",
        "checkpoints",
        "metrics.jsonl",
        "loss.png",
        "tensorboard",
    }
    assert "holds a run already; go on with it by --resume" in fails(capsys, "train", "digits", *SMALL, "--out", a_run)


def test_resume_by_the_run_folder(a_run, capsys):
    assert main(["train", str(a_run), "--resume"]) == 0
    assert "can't be resumed under another recipe: lr was" in fails(capsys, "train", a_run, "--resume", "--lr", "0.1")


def test_sample(a_run, capsys, tmp_path):
    out = printed(
        capsys,
        "sample",
        a_run,
        "--seeds",
        "3,7-9",
        "--labels",
        "0-1",
        "--steps",
        "3",
        "--sampler",
        "DDIM",
        "--out",
        tmp_path,
    )
    assert "4 pictures" in out
    assert "evaluations per picture: cond 3, ref 3" in out
    settings = [read_settings(p) for p in sorted(tmp_path.glob("seed-*.png"))]
    assert [(s["seed"], s["label"]) for s in settings] == [(3, 0), (7, 1), (8, 0), (9, 1)]
    assert settings[0]["sampler"]["class_path"] == "sfumato.samplers.DDIM"
    assert settings[0]["checkpoint"] == 6
    assert len(json.loads((tmp_path / "samples.json").read_text())) == 4
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 64


def test_sample_changes_arguments_of_the_runs_own_parts(a_run, capsys, tmp_path):
    printed(capsys, "sample", a_run, "--seeds", "1", "--guidance.scale", "4", "--out", tmp_path)
    assert read_settings(tmp_path / "seed-00000001.png")["guidance"]["init_args"]["scale"] == 4.0


def test_filters_on_the_command_line(a_run, capsys, tmp_path):
    def argv(name):
        return ["sample", str(a_run), "--seeds", "0-3", "--retries", "0", "--out", str(tmp_path / name)]

    watched = ["--filters", "TrajectoryVariance", "--filters.low", "-9"]
    out = printed(capsys, *argv("a"), *watched)
    assert "4 pictures" in out
    assert "TrajectoryVariance has no threshold, so it scores and keeps all" in out
    listed = ["--filters", "{class_path: TrajectoryVariance, init_args: {threshold: 0, low: -9}}"]
    for name, words in (("b", [*watched, "--filters.threshold", "0"]), ("c", listed)):
        assert main([*argv(name), *words]) == 1  # no picture at all
        assert "0 pictures" in capsys.readouterr().out
    said = printed(capsys, *argv("d"), "--labels", "none", *watched, "--filters.threshold", "9")
    assert "has no threshold" not in said


def test_pictures_are_not_mixed(a_run, capsys, tmp_path):
    """Without --out each call has a folder of its own; with it, one that holds pictures is refused."""
    first = printed(capsys, "sample", a_run, "--seeds", "0", "--steps", "2")
    second = printed(capsys, "sample", a_run, "--seeds", "1", "--steps", "2")
    assert "pictures in" in first
    assert first.split(" in ")[1] != second.split(" in ")[1]
    printed(capsys, "sample", a_run, "--seeds", "0", "--steps", "2", "--out", tmp_path / "x")
    assert "holds pictures already" in fails(capsys, "sample", a_run, "--seeds", "0", "--out", tmp_path / "x")
    (tmp_path / "file").write_text("")
    assert "is a file" in fails(capsys, "sample", a_run, "--out", tmp_path / "file")
    # what is refused on the way leaves no empty folder
    wrong = ["--sampler", "Churn", "--sampler.sampler", "PLMS", "--sampler.gamma", "0.1"]
    assert "which remembers something" in fails(capsys, "sample", a_run, *wrong, "--out", tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_a_missing_key_says_what_it_is(capsys, tmp_path):
    assert "config: missing; a preset's name, a YAML file, or a run folder" in fails(capsys, "train")
    (tmp_path / "part.yaml").write_text("steps: 3\n")
    err = fails(capsys, "train", tmp_path / "part.yaml")
    assert "schedule: missing; the path from data to noise. One of BetaTable, Cauchy, Cosine" in err
    (tmp_path / "empty.yaml").write_text("")
    assert "it is empty" in fails(capsys, "train", tmp_path / "empty.yaml")


def test_resume_of_nothing_says_so(capsys, tmp_path):
    assert main(["train", "digits", *SMALL, "--resume", "--out", str(tmp_path / "new")]) == 0
    assert "nothing to resume" in capsys.readouterr().err


def test_labels_that_are_never_dropped_leave_nothing_to_guide_away_from(capsys, tmp_path):
    assert "label_dropout is 0, but CFG" in fails(
        capsys, "train", "digits", *SMALL, "--label_dropout", "0", "--out", tmp_path / "x"
    )
    argv = ["train", "digits", *SMALL, "--label_dropout", "0", "--guidance", "Plain", "--out", str(tmp_path / "y")]
    assert main(argv) == 0
    err = fails(capsys, "sample", tmp_path / "y", "--labels", "1", "--guidance", "CFG", "--out", tmp_path / "z")
    assert "label_dropout 0, so it knows no null class; use guidance Plain" in err
    assert "give every seed a label" in fails(capsys, "sample", tmp_path / "y", "--out", tmp_path / "z")


def test_labelled_data_train_without_classes(capsys, tmp_path):
    argv = [
        "train",
        "digits",
        *SMALL,
        "--backbone.num_classes",
        "0",
        "--guidance",
        "Plain",
        "--out",
        str(tmp_path / "x"),
    ]
    assert main(argv) == 0
    assert "4 pictures" in printed(capsys, "sample", tmp_path / "x", "--seeds", "0-3")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--seeds", "9-3"], "seeds is '9-3'"),
        (["--seeds", "-1"], "seeds is '-1'"),
        (["--seeds", ""], "seeds is empty"),
        (["--seeds", "x"], "seeds is 'x'"),
        (["--seeds", str(2**70)], "allowed: whole numbers in [0, 2^63)"),
        (["--seeds", "0-99999999999"], "more than 1000000 numbers"),
        (["--labels", "10"], "label 10; allowed: 0 to 9"),
        (["--labels", ""], "labels is empty"),
        (["--steps", "0"], "steps is 0; allowed: a whole number from 1"),
        (["--steps", "1e9"], "steps is '1e9'"),
        (["--device", "nowhere"], "device is 'nowhere'"),
        (["--device", "cuda:99"], "device is 'cuda:99'"),
        (["--batch", "0"], "batch is 0; allowed: >= 1"),
        (["--threads", "0"], "threads is 0"),
        (["--columns", "0"], "columns is 0"),
        (["--filters.low", "3"], "name the part before its arguments"),
        (
            ["--filters", "Nothing"],
            "is no Filter; allowed: Calibrated, ExcessError, Judged, PathLength, RenoiseProbe, TrajectoryVariance",
        ),
        (["--guidance", "CFG", "--guidance.against", "weak"], "asks for branch 'weak'"),
        (["--smapler", "DDIM"], "did you mean sampler?"),
    ],
    ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else "",
)
def test_mistakes_of_sample(a_run, argv, said, capsys, tmp_path):
    assert said in fails(capsys, "sample", a_run, "--out", tmp_path, *argv)


def test_a_plug_in_by_class_path(a_run, capsys, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from sfumato.samplers import State, move\n"
        "@dataclass(frozen=True)\nclass Mine:\n    strength: float = 1.0\n    draws = 0\n"
        "    def step(self, state, denoise, levels, z):\n"
        "        *_, now, nxt = levels\n        p = denoise(state.x, now)\n        return State(move(p, now, nxt)), p\n"
    )
    monkeypatch.chdir(tmp_path)  # --allow looks in the current folder
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert "outside Sfumato" in fails(capsys, "sample", a_run, "--sampler", "mine.Mine")
    argv = [
        "sample",
        a_run,
        "--seeds",
        "5",
        "--sampler",
        "mine.Mine",
        "--sampler.strength",
        "2",
        "--allow",
        "mine",
        "--out",
        tmp_path / "a",
    ]
    printed(capsys, *argv)
    printed(capsys, "sample", a_run, "--seeds", "5", "--sampler", "DDIM", "--out", tmp_path / "b")
    a, b = (tmp_path / k / "seed-00000005.png" for k in "ab")
    assert Image.open(a).tobytes() == Image.open(b).tobytes()


def test_inspect_draws_and_says_what_is_wrong(capsys, tmp_path):
    out = printed(capsys, "inspect", "digits", "--out", tmp_path / "a.png")
    assert "nothing wrong found" in out
    assert (tmp_path / "a.png").stat().st_size > 20_000
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["warnings"] == []
    assert len(figures["grid"]["t"]) == 21
    out = printed(capsys, "inspect", "digits", "--out", tmp_path / "b.png", "--row", "Eps", "--grid", "Trailing")
    assert "row Eps at zero SNR" in out
    out = printed(
        capsys, "inspect", "digits", "--out", tmp_path / "c.png", "--schedule", "LinearBeta", "--schedule.high", "8", "--grid.high", "5",
        "--elements", "4096",
    )  # fmt: skip
    assert "terminal SNR is not zero: alpha is 0.132 at t = 1" in out
    assert "ZeroTerminalSNR with row V" in out
    assert "the grid does not start at the top" in out
    assert json.loads((tmp_path / "c.json").read_text())["warnings"]


def test_doctor_reports(capsys):
    out = printed(capsys, "doctor")
    assert "attention sdpa on cpu: ok, deviation from float64 " in out
    for package in ("xformers", "transformers", "torchao"):
        assert package in out
    assert "cpu:" in out
