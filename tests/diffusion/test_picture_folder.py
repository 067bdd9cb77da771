"""Pictures saved as they are finished: a job that is stopped anywhere goes on to the same files, byte for byte."""

import json
import warnings

import pytest
import torch
from modelled import LABELS
from PIL import Image
from torch import nn

from sfumato.diffusion import Denoiser, LogSNRClock, Model, picture_folder
from sfumato.diffusion.images import KEY, read_picture, read_settings, save_png, to_pixels
from sfumato.diffusion.picture_folder import PictureFolder
from sfumato.guidance import CFG
from sfumato.samplers import DDIM, DDPM
from sfumato.samplers.filters import PathLength
from sfumato.schedules import X0, RectifiedFlow, karras
from sfumato.schedules.plain_json import to_json
from sfumato.tools.pictures import write

SEEDS = [30, 31, 32, 33, 34, 35, 36, 30]  # one of them twice, under another label
HOW = {
    "labels": [*LABELS, 6, 7],
    "steps": 4,
    "sampler": DDPM(),
    "guidance": CFG([1.0, 2.0, 3.0, 4.0, 1.5, 2.5, 3.5, 1.0]),
    "batch": 3,
}


class Killed(BaseException):
    pass


def job(model, out, resume=True, **more):
    folder = PictureFolder(out, resume)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so much is rejected
        samples = model.sample(SEEDS, **{**HOW, **more}, folder=folder)
    write(samples, out, 4)
    folder.finish()
    return samples


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def filters(model):
    """A filter that rejects about half."""
    scored = model.sample(SEEDS, **HOW, filters=[PathLength(last=3)])
    return [PathLength(threshold=float(scored.scores[0].median()), last=3), PathLength(last=3)]


@pytest.mark.parametrize("case", ["plain", "filtered", "marked"])
def test_stopped_at_any_picture_it_goes_on_to_the_same_bytes(case, model, filters, tmp_path, monkeypatch):
    """Not strict: the batches hold the same slots again, so that even their rounding is the same."""
    more = {} if case == "plain" else {"filters": filters, "retries": 2, "mark": case == "marked"}
    quiet = job(model, tmp_path / "quiet", **more)
    wanted = files(tmp_path / "quiet")
    assert quiet.pictured.all() == (case != "filtered")  # a slot that runs out is recorded too
    assert all(path.read_bytes() == wanted[path.name] for path in quiet.save(tmp_path / "at once"))
    save, calls = picture_folder.save_png, []

    def dies(path, *rest):
        if len(calls) == limit:
            raise Killed
        calls.append(path)
        save(path, *rest)

    monkeypatch.setattr(picture_folder, "save_png", dies)
    attempts = int(quiet.attempts.sum()) + len(SEEDS)
    for limit in range(0, attempts, 1 if case == "plain" else 4):
        calls.clear()
        out = tmp_path / f"{limit}"
        with pytest.raises(Killed):
            job(model, out, **more)
        assert len(calls) == limit
        whole = {path: path.read_bytes() for path in calls}
        limit = -1  # never again
        calls.clear()
        job(model, out, **more)
        assert files(out) == wanted
        # what was made of whole batches is not made again
        again = set(calls) & set(whole)
        assert len(again) <= HOW["batch"] - 1
        assert all(path.read_bytes() == content for path, content in whole.items() if path.exists())


def test_what_is_there_asks_no_network(model, tmp_path, monkeypatch):
    job(model, tmp_path)
    wanted = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(type(model.denoiser.backbone), "forward", None)  # whoever asks it fails
        job(model, tmp_path)
    assert files(tmp_path) == wanted
    (tmp_path / "seed-00000034.png").unlink()
    broken = tmp_path / "seed-00000031.png"
    for damage in (lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-20] + bytes([b[-20] ^ 1]) + b[-19:]):
        broken.write_bytes(damage(wanted[broken.name]))
        job(model, tmp_path)
        assert files(tmp_path) == wanted


def test_a_picture_taken_from_a_finished_folder_is_made_again(model, filters, tmp_path):
    """What was rejected on the way to it is no longer there, and is made again too."""
    how = {"filters": filters, "retries": 4}
    out = job(model, tmp_path, **how)
    wanted, late = files(tmp_path), int(out.attempts.argmax())
    assert out.attempts[late] > 0
    assert out.kept[late]
    (tmp_path / f"seed-{SEEDS[late]:08d}.png").unlink()
    job(model, tmp_path, **how)
    assert files(tmp_path) == wanted


def test_pictures_of_another_command_are_refused(model, tmp_path):
    job(model, tmp_path)
    for more, said in (
        ({"steps": 5}, "steps was 4, is 5"),
        ({"batch": 4}, "batch was 3, is 4"),
        ({"labels": [1] * 8}, "label was 0, is 1"),
        ({"guidance": CFG(1.0)}, "guidance was "),
    ):
        with pytest.raises(ValueError, match=said):
            job(model, tmp_path, **more)
    with pytest.raises(ValueError, match=r"steps was 4, is 5; sampler was .*DDPM.*, is .*DDIM"):
        job(model, tmp_path, steps=5, sampler=DDIM())
    save_png(tmp_path / "seed-00000099.png", torch.zeros(1, 8, 8), {})
    with pytest.raises(ValueError, match=r"seed-00000099\.png, which is none of the pictures asked for"):
        job(model, tmp_path)
    (tmp_path / "seed-00000099.png").unlink()
    Image.new("L", (8, 8)).save(tmp_path / "seed-00000031.png")
    with pytest.raises(ValueError, match="carries no settings"):
        job(model, tmp_path)


def test_a_picture_is_read_back_as_it_was_stored(tmp_path):
    """Every byte, grey and RGB: pixels -> [-1, 1] -> the same pixels, also after a scale of the data."""
    for shape in ((1, 16, 16), (3, 16, 16)):
        x = (torch.arange(256) / 127.5 - 1).view(16, 16).expand(shape)
        save_png(tmp_path / "x.png", x, {"seed": 1, "r": float("inf")})
        back, settings = read_picture(tmp_path / "x.png")
        assert settings == {"seed": 1, "r": float("inf")} == read_settings(tmp_path / "x.png")
        assert (to_pixels(back * 0.3 / 0.3) == to_pixels(x)).all()
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    with Image.open(tmp_path / "x.png") as image:
        assert KEY in image.text


def test_samples_json_is_plain_json(model, tmp_path):
    out = job(model, tmp_path)
    whole = json.dumps(to_json([out.settings_of(i) for i in range(8)]), indent=1, allow_nan=False)
    assert (tmp_path / "samples.json").read_text() == whole


class Loud(nn.Module):
    """Answers fifty everywhere, and two for the first seed that it is asked about."""

    def __init__(self):
        super().__init__()
        self.answer = nn.Parameter(torch.tensor([2.0, 50.0]))

    def forward(self, x, time):
        return self.answer[[0] + [1] * (len(x) - 1)].view(-1, 1, 1, 1).expand_as(x)


def test_pictures_that_went_astray_are_told_of():
    """Finite, but nothing is left of them when they are cut to their range; a little beyond it is no cause for alarm."""
    astray = Model(Denoiser(Loud(), RectifiedFlow(), X0(), LogSNRClock()), (1, 8, 8), steps=6, grid=karras)
    with pytest.warns(UserWarning, match=r"2 of 3 pictures diverged.*seed\(s\) \[1, 2\]: DPMSolverPP"):
        astray.sample([7, 1, 2])
