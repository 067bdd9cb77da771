"""Faults 43 to 50: what sampling is asked that it can't do, and what happens to it while it works."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from modelled import made
from PIL import Image

from sfumato.diffusion import Denoiser, LogSNRClock, UNet, load, picture_folder
from sfumato.diffusion.checkpoint import newest, save
from sfumato.guidance import Plain
from sfumato.samplers import DDPM
from sfumato.schedules import Eps, LinearBeta, ZeroTerminalSNR
from sfumato.tools.cli import main

SFUMATO = [sys.executable, "-m", "sfumato.tools.cli"]


@pytest.fixture(scope="module")
def model(a_run):
    return load(a_run)


def pixels(out):
    return ((out.images + 1) * 127.5).round().numpy().astype(int)


def refused(call, *said):
    """Refused by a message that says all of this."""
    try:
        call()
    except ValueError as error:
        text = str(error)
    else:
        raise AssertionError("it was not refused")
    assert all(part in text for part in said), text
    return True


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.fault(43)
def test_a_picture_depends_on_its_seed_alone(model, injected):
    """Alone, among 4, among 8, in another order: strict to the last bit; else a level of 255 at most."""
    seeds, order = list(range(8)), [5, 2, 7, 0, 3, 6, 1, 4]
    for sampler in (None, DDPM()):
        for strict in (True, False):
            how = {"sampler": sampler, "strict": strict, "batch": 8, "steps": 4, "guidance": Plain()}
            whole = pixels(model.sample(seeds, **how))
            others = [(order, model.sample(order, **how)), (seeds[:4], model.sample(seeds[:4], **how))]
            others += [([i], model.sample([i], **how)) for i in seeds]
            for asked, out in others:
                difference = np.abs(pixels(out) - whole[asked]).max()
                assert difference <= (0 if strict else 1), (sampler, strict, asked)
    injected("a batch of other pictures", 40, 0)


@pytest.mark.fault(44)
def test_seeds_never_collide(model, injected):
    asked = [7, 7 + 2**32, 7 + 2**62, 2**63 - 1]
    images = model.sample(asked, guidance=Plain(), steps=2).images
    for i in range(len(asked)):
        for j in range(i):
            assert (images[i] - images[j]).abs().max() > 0.1
    wrong = [-1, 2**63, 2**70, 2.5, math.nan, True, "7", None]
    for seed in wrong:
        assert refused(lambda seed=seed: model.sample([seed]), f"seed {seed!r}", "[0, 2^63)")
    injected("seeds that alias, or are none", len(asked) + len(wrong), 0)


@pytest.mark.fault(45)
def test_epsilon_at_zero_snr_is_refused(capsys, injected):
    """When the parts are put together, in Python and on the command line."""
    net = UNet(channels=1, size=8, num_classes=0, width=8, multipliers=(1, 2), blocks=1, attention=())
    path = ZeroTerminalSNR(LinearBeta())
    assert refused(lambda: Denoiser(net, path, Eps(), LogSNRClock()), "v-prediction", "zero SNR")
    argv = ["train", "digits", "--schedule", "ZeroTerminalSNR", "--schedule.schedule", "LinearBeta", "--row", "Eps"]
    assert main([*argv, "--out", "/nowhere/x"]) == 2
    assert "v-prediction" in capsys.readouterr().err
    injected("an eps network at zero terminal SNR", 2, 0)


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    ("given", "meant"),
    [("Epz", "Eps"), ("epsilon", "Eps"), ("epsilonn", "Eps"), ("v_prediction", "V"), ("v_predction", "V"), ("flw", "Flow")],
)  # fmt: skip
def test_a_misspelt_prediction_type_gets_a_suggestion(given, meant, capsys, injected):
    assert main(["train", "digits", "--row", given, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.rstrip().endswith(f"did you mean {meant}?")
    assert f"row: {given!r}" in said
    injected(f"row {given}", 1, 0)


@pytest.mark.fault(47)
def test_steps_that_are_none(model, a_run, capsys, injected):
    wrong = [0, -3, 10**6, 1e6, math.nan, math.inf, 2.7, True, "4"]
    for steps in wrong:
        assert refused(lambda steps=steps: model.sample([1], steps=steps), f"steps is {steps!r}", "from 1 to 100000")
    for steps in ("0", "-3", "1000000", "1e6", ".nan", "2.7"):
        assert main(["sample", str(a_run), "--seeds", "1", "--steps", steps]) == 2
        assert re.search(r"steps is '?-?[\d.ena]+'?; allowed: a whole number", capsys.readouterr().err)
    assert not (a_run / "pictures").exists()
    injected("a number of steps that is none", len(wrong) + 6, 0)


@pytest.mark.fault(48)
def test_weights_that_hold_nan_make_no_picture(a_run, tmp_path, capsys, injected):
    """The checkpoint itself is valid: what it holds is not."""
    broken = tmp_path / "run"
    broken.mkdir()
    (broken / "config.yaml").write_bytes((a_run / "config.yaml").read_bytes())
    known = newest(a_run / "checkpoints")
    assert known is not None
    for value in (math.nan, math.inf):
        tensors = known.tensors("ema")
        tensors[max(tensors)] = torch.full_like(tensors[max(tensors)], value)
        save(broken / "checkpoints", known.step, {"ema": tensors, "model": tensors}, known.state, 1)
        out = tmp_path / f"{value}"
        assert main(["sample", str(broken), "--seeds", "0-3", "--batch", "2", "--out", str(out)]) == 1
        said = capsys.readouterr().err
        assert "numbers that are not finite for seed(s) [0, 1]" in said
        assert "Traceback" not in said
        assert not out.exists()
    injected("weights that are nan or inf", 2, 0)


@pytest.mark.fault(49)
def test_conditions_and_shapes_of_another_model(model, injected):
    net = model.denoiser.backbone
    x, t = torch.zeros(1, 3, 8, 8), torch.zeros(1)
    wrong = [
        (lambda: model.sample([1], [10]), ("label 10", "0 to 9")),
        (lambda: model.sample([1], [-1]), ("label -1", "0 to 9")),
        (lambda: model.sample([1], [1.5]), ("label 1.5", "0 to 9")),
        (lambda: model.sample([1], [1, 2]), ("2 labels for 1 seeds", "one label per seed")),
        (lambda: model.sample([1], [1], weak=made(1, classes=5)), ("weak has 5 classes", "the model 10")),
        (lambda: net(x, t), ("(B, 1, H, W)", "pad or resize")),
        (lambda: net(x[:, :1, :7], t), ("multiples of 2", "pad or resize")),
        (lambda: UNet(channels=1, size=7, num_classes=0, width=8, multipliers=(1, 2)), ("size is 7", "multiples of 2")),
    ]
    for call, said in wrong:
        assert refused(call, *said)
    injected("labels, channels and sizes of another model", len(wrong), 0)


def job(run, out, *more):
    return [
        "sample", str(run), "--seeds", "0-63", "--labels", "0-9", "--batch", "4", "--steps", "8", "--sampler", "DDPM", "--threads", "1",
        "--out", str(out), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def quiet(a_run, tmp_path_factory):
    """The 64 pictures of a job that nobody disturbed."""
    out = tmp_path_factory.mktemp("quiet")
    assert main(job(a_run, out)) == 0
    found = files(out)
    assert len(found) == 64 + 2
    return found


def check_whole(out):
    """No file with a .png name is half a picture."""
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            image.load()


def killed(argv, out, number, pictures, pause=0.0):
    """Run it, and send it a signal when so many pictures are there."""
    with subprocess.Popen([*SFUMATO, *argv], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None and len(list(out.glob("*.png"))) < pictures:
            time.sleep(0.002)
        time.sleep(pause)
        process.send_signal(number)
        said = process.stderr.read()
    return process.returncode, said


@pytest.mark.fault(50)
def test_a_killed_job_is_completed_to_the_same_bytes(a_run, quiet, tmp_path, injected):
    code, _ = killed(job(a_run, tmp_path), tmp_path, signal.SIGKILL, 9)
    assert code == -signal.SIGKILL
    check_whole(tmp_path)
    there = {p.name: p.stat().st_mtime_ns for p in sorted(tmp_path.glob("*.png"))}
    assert 9 <= len(there) < 64
    assert main(job(a_run, tmp_path, "--resume")) == 0
    assert files(tmp_path) == quiet
    again = [name for name, made_at in there.items() if (tmp_path / name).stat().st_mtime_ns != made_at]
    assert len(again) <= 3  # of the batch that was cut in two
    injected("SIGKILL of a job of 64 pictures", 1, 0)


@pytest.mark.fault(50)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_job_that_is_told_to_stop_says_how_to_go_on(
    number, code, a_run, quiet, tmp_path, capsys, monkeypatch, injected
):
    save_png, calls = picture_folder.save_png, []

    def stops(path, *rest):
        calls.append(path)
        if len(calls) == 30:
            signal.raise_signal(number)
        save_png(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(picture_folder, "save_png", stops)
        before = signal.getsignal(number)
        assert main(job(a_run, tmp_path)) == code
        assert signal.getsignal(number) == before
    said = capsys.readouterr().err
    assert f"stopped by {number.name}; 29 of 64 pictures are in {tmp_path}" in said
    assert "Traceback" not in said
    check_whole(tmp_path)
    assert len(list(tmp_path.iterdir())) == 29
    assert main(job(a_run, tmp_path)) == 2  # not without being asked to
    assert "with --resume" in capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("go on with: ")]
    assert main(shlex.split(line.removeprefix("go on with: sfumato"))) == 0
    assert "28 of" not in capsys.readouterr().out
    assert files(tmp_path) == quiet
    injected(f"{number.name} to a job of 64 pictures", 1, 0)


@pytest.mark.fault(50)
def test_slots_that_ran_out_are_not_tried_for_ever(a_run, tmp_path, capsys, monkeypatch, injected):
    """What filters rejected is recorded too, while the job runs; afterwards nothing of it is left."""
    argv = ["sample", str(a_run), "--seeds", "0-5", "--batch", "2", "--retries", "2", "--filters", "TrajectoryVariance"]
    argv += ["--filters.threshold", "0", "--filters.low", "-9"]
    save_png, calls = picture_folder.save_png, []

    def dies(path, *rest):
        if len(calls) == limit:
            signal.raise_signal(signal.SIGTERM)
        calls.append(path)
        save_png(path, *rest)

    monkeypatch.setattr(picture_folder, "save_png", dies)
    limit = 11
    assert main([*argv, "--out", str(tmp_path / "a")]) == 0
    limit = -1
    assert main([*argv, "--out", str(tmp_path / "a"), "--resume"]) == 1  # no picture at all
    assert len(calls) == 11 + 1 + 7  # of 18 attempts one was made twice, since its batch was cut in two
    assert main([*argv, "--out", str(tmp_path / "b")]) == 1
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "filtered.png",
        "samples.json",
        "scores.csv",
        "sheet.png",
    ]
    assert len(json.loads((tmp_path / "a" / "samples.json").read_text())) == 6
    injected("SIGTERM while all attempts are rejected", 1, 0)


@pytest.mark.slow
@pytest.mark.fault(50)
def test_twenty_kills_lose_no_picture(a_run, quiet, tmp_path, injected):
    """SIGKILL at random moments, each time resumed: nothing half-written, nothing made differently."""
    kills, lost = 0, 0
    rng = np.random.default_rng(0)
    for trial in range(4):
        out = tmp_path / f"{trial}"
        for _ in range(5):
            before = files(out) if out.exists() else {}
            want = len([n for n in before if n.startswith("seed")]) + int(rng.integers(1, 8))
            code, _ = killed(job(a_run, out, "--resume"), out, signal.SIGKILL, want, rng.random() * 0.05)
            if code == 0:
                break
            kills += 1
            check_whole(out)
            lost += sum(files(out).get(name) != content for name, content in before.items() if not name.startswith("."))
        assert main(job(a_run, out, "--resume")) == 0
        assert files(out) == quiet
    assert kills >= 10
    injected("SIGKILL at a random moment", kills, lost)
    assert lost == 0


@pytest.mark.slow
@pytest.mark.fault(50)
def test_signals_to_a_process(a_run, quiet, tmp_path, injected):
    """A second signal ends it at once, and the pictures are none the worse."""
    code, said = killed(job(a_run, tmp_path / "a"), tmp_path / "a", signal.SIGTERM, 5)
    assert code == 0
    assert "go on with: sfumato sample" in said
    code, said = killed(job(a_run, tmp_path / "b"), tmp_path / "b", signal.SIGINT, 5)
    assert code == 130
    assert "Traceback" not in said
    script = (
        "import os, signal, sys, time\nfrom sfumato.diffusion import picture_folder\nfrom sfumato.tools.cli import main\n"
        "save = picture_folder.save_png\n"
        "def slow(path, *rest):\n    save(path, *rest)\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(60)\n"
        "    finally:\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(60)\n"
        f"picture_folder.save_png = slow\nsys.exit(main({job(a_run, tmp_path / 'c')!r}))\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert time.monotonic() - began < 30
    for name in "abc":
        check_whole(tmp_path / name)
        assert main(job(a_run, tmp_path / name, "--resume")) == 0
        assert files(tmp_path / name) == quiet
    injected("SIGTERM, SIGINT, SIGTERM twice", 4, 0)
