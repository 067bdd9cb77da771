"""Filters in sampling: exactly as many pictures as were asked for, the same ones whatever they were made beside, all of it counted."""

import csv
import json
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hallucinating import PATH
from modelled import LABELS, made, network
from PIL import Image
from torch import nn

from sfumato.diffusion import Denoiser, LogSNRClock, Model
from sfumato.diffusion.images import KEY, read_settings, to_pixels
from sfumato.guidance import APG, CFG, Interval
from sfumato.samplers import DDIM, DDPM, DPMSolverPP, Heun
from sfumato.samplers.filters import Calibrated, Calibration, Judged, PathLength, RenoiseProbe, TrajectoryVariance
from sfumato.schedules import EDM, X0, Cosine, InputScaled, RectifiedFlow, V, VarianceExploding, karras

pytestmark = pytest.mark.filterwarnings("ignore:filters rejected")

SEEDS = list(range(30, 42))
CLASSES = [i % 10 for i in range(12)]
PROBE = RenoiseProbe(1.0, k=3)


class Exact(nn.Module):
    """x0 from x by products and sums alone, which are rounded the same in a batch of any size."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.75, 0.5]))

    def forward(self, x, time):
        return self.slope[0] * x - self.slope[1] * x * x * (1 + 0.25 * x.flip(-1))


def exact():
    return Model(Denoiser(Exact(), RectifiedFlow(), X0(), LogSNRClock()), (1, 8, 8), steps=6, grid=karras)


@dataclass(frozen=True)
class Mean:
    """Rates a picture by its mean."""

    def rate(self, x0):
        return x0.flatten(1).mean(1)


def cut(model, judge, share, **how):
    """The judge with a threshold that keeps about a share of first attempts."""
    scores = model.sample(SEEDS, filters=[judge], mark=True, **how).scores[0]
    return type(judge)(**{**vars(judge), "threshold": float(torch.quantile(scores, share))})


def everything(out, folder):
    """All that a user gets, as bytes."""
    folder.mkdir()
    out.save_scores(folder / "s.csv")
    sheet = out.filter_sheet()
    return (
        out.images.numpy().tobytes(), out.attempts.tolist(), out.kept.tolist(), out.evaluations.tolist(),
        [s.numpy().tobytes() for s in out.scores], out.reasons, (folder / "s.csv").read_bytes(), out.filtered,
        out.filtered.pictures.numpy().tobytes(), sheet.tobytes(),
    )  # fmt: skip


def equal(a, b):
    """Bit for bit; `Filtered` holds a tensor, so its parts are compared."""
    x, y = a[7], b[7]
    assert a[:7] == b[:7]
    assert a[8:] == b[8:]
    assert (x.names, x.tries, x.alphas, x.shown) == (y.names, y.tries, y.alphas, y.shown)


@pytest.mark.parametrize("sampler", [DDPM(), DPMSolverPP(2)], ids=str)
def test_refill_is_the_same_to_the_bit_in_any_batch(tmp_path, sampler):
    """Pictures, attempts, scores, the table, the rejected pictures and their sheet."""
    model = exact()
    filters = [cut(model, PROBE, 0.3, sampler=sampler), PathLength(low=-9.0)]
    how = {"filters": filters, "retries": 40, "sampler": sampler}
    whole = model.sample(SEEDS, **how)
    assert whole.kept.all()
    assert int(whole.attempts.max()) > 1
    assert whole.reasons == ("",) * 12  # why earlier attempts were rejected is in the table
    assert len(whole) == len(SEEDS)
    assert torch.isfinite(whole.images).all()
    wanted = everything(whole, tmp_path / "0")
    for i, more in enumerate(
        ({}, {"batch": 1}, {"batch": 5}, {"batch": 4, "strict": True}, {"batch": 16, "strict": True})
    ):
        equal(everything(model.sample(SEEDS, **how, **more), tmp_path / str(i + 1)), wanted)


def test_a_strict_network_gives_the_same_bits_however_many_are_asked_for(model):
    """A real network, whose rounding depends on the batch's shape: strict keeps the shape."""
    probe = cut(model, PROBE, 0.5, labels=CLASSES)
    how = {"filters": [probe], "retries": 40, "strict": True, "batch": 8, "guidance": CFG(2.0)}
    whole = model.sample(SEEDS, CLASSES, **how)
    again = model.sample(SEEDS, CLASSES, **how)
    assert whole.kept.all()
    assert (whole.attempts > 0).any()
    assert torch.equal(whole.images, again.images)
    for picked in ([0], [3, 11], list(range(11, -1, -1))):
        part = model.sample([SEEDS[i] for i in picked], [CLASSES[i] for i in picked], **how)
        assert torch.equal(part.images, whole.images[picked])
        assert torch.equal(part.attempts, whole.attempts[picked])
        assert torch.equal(part.scores[0], whole.scores[0][picked])
        assert torch.equal(part.evaluations, whole.evaluations[picked])
        mine = [t for i in picked for t in whole.filtered.tries if t.slot == i]
        assert [t[1:] for t in mine] == [t[1:] for i in range(len(picked)) for t in part.filtered.tries if t.slot == i]


def test_a_slot_does_not_depend_on_which_others_were_rejected(model):
    """Under a harder threshold other slots try again; those that pass both are the same."""
    easy, hard = cut(model, PROBE, 0.8, labels=CLASSES), cut(model, PROBE, 0.3, labels=CLASSES)
    how = {"retries": 60, "strict": True, "batch": 8}
    a, b = (model.sample(SEEDS, CLASSES, filters=[f], **how) for f in (easy, hard))
    both = a.attempts == b.attempts
    assert bool(both.any())
    assert not bool(both.all())
    assert torch.equal(a.images[both], b.images[both])
    assert bool((b.attempts >= a.attempts).all())
    # attempt n of a slot is attempt n, whoever asked for it
    tries = {(t.slot, t.attempt): t.scores for t in b.filtered.tries}
    assert all(tries[t.slot, t.attempt] == t.scores for t in a.filtered.tries)


@pytest.mark.parametrize("guidance", [None, CFG(2.0), APG(3.0), Interval(CFG(3.0), 0.2, 2.0)], ids=str)
@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=str)
def test_what_was_asked_is_what_is_told(sampler, guidance):
    model, rows = made(), []
    model.denoiser.backbone.register_forward_hook(lambda module, given, out: rows.append(len(out)))
    probe = cut(model, PROBE, 0.6, labels=CLASSES, sampler=sampler, guidance=guidance)
    rows.clear()
    out = model.sample(
        SEEDS, CLASSES, filters=[probe, RenoiseProbe(0.0, k=2)], retries=40, batch=5, sampler=sampler, guidance=guidance
    )
    assert sum(rows) == int(out.evaluations.sum())
    assert (out.attempts > 0).any()
    # per attempt the walk, and 3 + 2 looks at the conditional branch
    walk = model.sample([0], [0], sampler=sampler, guidance=guidance).evaluations[0]
    assert torch.equal(out.evaluations, (out.attempts + 1)[:, None] * (walk + torch.tensor([5, 0])))


def test_marked_pictures_stay_and_say_why(model, tmp_path):
    judge = Judged(Mean(), 0.0)
    plain = model.sample(SEEDS, CLASSES)
    out = model.sample(SEEDS, CLASSES, filters=[judge], mark=True, retries=5)
    assert torch.equal(out.images, plain.images)
    assert out.attempts.tolist() == [0] * 12
    assert torch.equal(out.kept, out.scores[0] <= 0)
    assert 0 < int(out.kept.sum()) < 12
    assert out.pictured.all()
    assert out.evaluations.tolist() == [[6, 0]] * 12
    paths = out.save(tmp_path)
    assert len(paths) == 12
    for i, path in enumerate(paths):
        said = read_settings(path)
        assert said["kept"] is bool(out.kept[i])
        assert said["scores"] == {"Judged": float(out.scores[0][i])}
        assert said["reason"] == ("" if out.kept[i] else f"Judged: score {float(out.scores[0][i]):.4g} is above 0")
        assert said["mark"] is True
    for i in (~out.kept).nonzero().flatten().tolist():
        assert out.reasons[i].startswith("Judged: score")
    frames = {c for _, c in out.sheet().getcolors(100_000)}
    assert (178, 34, 34) in frames  # the red frame of what was rejected
    assert (178, 34, 34) not in {c for _, c in plain.sheet().getcolors(100_000)}
    assert plain.reasons == ("",) * 12


def test_settings_of_pictures_are_json_whatever_the_scores(model, tmp_path):
    """Thresholds are infinite where nothing was calibrated, and a judge may say nan: neither is a number of JSON."""

    @dataclass(frozen=True)
    class Odd:
        def rate(self, x0):
            return torch.where(torch.arange(len(x0)) % 2 == 0, math.nan, -math.inf)

    out = model.sample(SEEDS[:4], CLASSES[:4], filters=[Judged(Odd()), PROBE], mark=True)
    assert out.kept.tolist() == [False, True, False, True]
    assert out.reasons[0] == "Judged: no number"
    paths = out.save(tmp_path)
    with Image.open(paths[0]) as image:
        json.loads(image.text[KEY], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    scores = read_settings(paths[0])["scores"]
    assert math.isnan(scores["Judged"])
    assert read_settings(paths[1])["scores"]["Judged"] == -math.inf
    assert read_settings(paths[0])["filters"][1]["init_args"]["threshold"] == math.inf
    out.save_scores(tmp_path / "s.csv")
    with (tmp_path / "s.csv").open() as file:
        assert [row["Judged"] for row in csv.DictReader(file)] == ["nan", "-inf", "nan", "-inf"]
    out.filter_sheet()


def test_the_sheet_has_the_worst_first(model):
    """Kept above rejected; each row falls in score."""
    out = model.sample(SEEDS, CLASSES, filters=[Judged(Mean(), 0.0)], mark=True)
    sheet, tile, gap = out.filter_sheet(columns=12, tile=8), 8, 4
    order = out.scores[0].argsort(descending=True)
    for row, kept in enumerate((True, False)):
        mine = [i for i in order.tolist() if bool(out.kept[i]) is kept]
        y = gap + 16 + row * (tile + 14 + gap)
        left = sheet.width - (max(int(out.kept.sum()), 12 - int(out.kept.sum())) * (tile + gap))
        for j, i in enumerate(mine):
            x = left + j * (tile + gap)
            shown = np.asarray(sheet.crop((x, y, x + tile, y + tile)).convert("L"))
            assert (shown == to_pixels(out.images[i])[..., 0]).all(), (kept, j)
    few = out.filter_sheet(columns=2, tile=8, most=2)
    assert few.height < out.filter_sheet(columns=2, tile=8).height
    with pytest.raises(ValueError, match="no filter was asked"):
        model.sample([1], [1]).filter_sheet()


def test_a_sheet_of_nan_scores_has_them_first(model):
    @dataclass(frozen=True)
    class Last:
        def rate(self, x0):
            return torch.tensor([1.0, 3.0, math.nan, 2.0])

    out = model.sample(SEEDS[:4], CLASSES[:4], filters=[Judged(Last(), -1.0)], mark=True, batch=4)
    worst = out.filter_sheet(columns=1, tile=8, most=1)
    other = model.sample([SEEDS[2]], [CLASSES[2]]).images[0]
    shown = np.asarray(worst.crop((worst.width - 12, 20, worst.width - 4, 28)).convert("L")).astype(int)
    assert abs(shown - to_pixels(other)[..., 0]).max() <= 1


def test_lost_slots_are_warned_of_where_sample_was_called(model):
    with pytest.warns(UserWarning, match="3 of 3 slots have no picture: all 3 attempts at each were rejected") as seen:
        out = model.sample([1, 2, 3], [1, 2, 3], filters=[Judged(Mean(), -9.0)], retries=2)
    assert seen[0].filename == __file__
    assert out.images.isnan().all()
    assert out.attempts.tolist() == [2, 2, 2]
    assert out.reasons[0].startswith("Judged: score")
    assert len(out.filtered.tries) == 9
    with pytest.warns(UserWarning, match="the one attempt at each was rejected"):
        model.sample([1], [1], filters=[Judged(Mean(), -9.0)], retries=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample([1, 2, 3], [1, 2, 3], filters=[Judged(Mean())])
        model.sample(
            range(9), [1] * 9, filters=[Judged(Mean(), -9.0)], mark=True
        )  # nothing lost, and too few to judge the model
    with pytest.warns(UserWarning, match="filters rejected 100% of 10 attempts"):
        model.sample(range(10), [1] * 10, filters=[Judged(Mean(), -9.0)], mark=True)


def test_several_filters_must_all_agree(model):
    a, b = (
        Judged(Mean(), 0.0),
        PathLength(float(model.sample(SEEDS, filters=[PathLength(low=-9.0)]).scores[0].median()), -9.0),
    )
    out = model.sample(SEEDS, filters=[a, b], mark=True)
    assert torch.equal(out.kept, (out.scores[0] <= 0) & (out.scores[1] <= b.threshold))
    both = (out.scores[0] > 0) & (out.scores[1] > b.threshold)
    assert both.any()
    for i in both.nonzero().flatten().tolist():
        assert out.reasons[i].startswith("Judged: score")
        assert "; PathLength: score" in out.reasons[i]
    for given in (a, (f for f in [a])):
        alone = model.sample(SEEDS, filters=given, mark=True)
        assert torch.equal(alone.scores[0], out.scores[0])
        assert torch.equal(alone.kept, out.scores[0] <= 0)


@pytest.mark.parametrize(
    ("path", "row"),
    [(VarianceExploding(), EDM(0.5)), (RectifiedFlow(), V()), (InputScaled(Cosine(), 0.5), V()), (Cosine(), EDM(0.5))],
    ids=str,
)
@pytest.mark.parametrize("classes", [0, 10])
def test_judges_see_the_data_on_every_path(path, row, classes):
    """Not alpha times the data; in a batch of one, too."""
    model = made(schedule=path, row=row, classes=classes)
    rated = []

    @dataclass(frozen=True)
    class Notes:
        def rate(self, x0):
            rated.append(x0.clone())
            return x0.flatten(1).mean(1)

    labels = [1, 2, 3] if classes else None
    out = model.sample([1, 2, 3], labels, filters=[Judged(Notes()), PROBE, TrajectoryVariance(low=-30.0)])
    assert torch.allclose(rated[0].clamp(-1, 1), out.images, atol=1e-6)
    alone = model.sample([2], labels and [2], filters=[Judged(Notes()), PROBE, TrajectoryVariance(low=-30.0)])
    for a, b in zip(alone.scores, out.scores, strict=True):
        assert torch.allclose(a[0], b[1], rtol=1e-4, atol=1e-6)


class Half(nn.Module):
    """A network that computes in half precision and answers in it."""

    def __init__(self):
        super().__init__()
        self.net = network(0).to(torch.bfloat16)
        self.num_classes = 10

    def forward(self, x, time, labels):
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x.bfloat16(), time, labels=labels).bfloat16()


def test_half_precision_networks_are_filtered():
    half, full = made(), made()
    half.denoiser.backbone = Half()
    how = {"labels": LABELS, "filters": [PROBE, TrajectoryVariance(low=-9.0), PathLength(low=-9.0)], "mark": True}
    a, b = half.sample(range(6), **how), full.sample(range(6), **how)
    for x, y in zip(a.scores, b.scores, strict=True):
        assert x.dtype == torch.float32
        assert torch.allclose(x, y, rtol=0.1)
        assert not torch.equal(x, y)


def test_parts_are_refused_before_the_network_runs(model):
    asked = []
    hook = model.denoiser.backbone.register_forward_hook(lambda module, given, out: asked.append(1))
    stale = Calibrated(Calibration(RenoiseProbe(2.0, 0.25), 0.01, 500, "upper", "weights", "digits", True, "labels"))
    try:
        for filters, message in (
            ([RenoiseProbe], "filters is the class RenoiseProbe; give an instance"), (["RenoiseProbe"], "is no Filter"),
            ([stale], "is of other weights than these"), ([RenoiseProbe()], "has no level"),
            ([TrajectoryVariance(low=99.0)], r"sees 0 step\(s\)"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=message):
                model.sample([1], [1], filters=filters)
    finally:
        hook.remove()
    assert asked == []


def test_the_path_in_the_filters_settings_is_the_users():
    """The model's schedule is in the settings once."""
    out = exact().sample([1], filters=[PROBE], mark=True)
    assert out.settings["filters"][0]["init_args"]["path"] is None
    assert PATH.steps == 400


@dataclass(frozen=True)
class Largest:
    """The largest absolute value of a picture."""

    def rate(self, x0):
        return x0.flatten(1).abs().amax(1)


@pytest.mark.parametrize("schedule", [None, InputScaled(Cosine(), 2.0)], ids=str)
def test_a_filter_judges_the_picture_that_is_handed_out(schedule):
    """Cut to [-1, 1] as it is returned: at the end of an untrained model's path nearly every value is beyond."""
    model = made() if schedule is None else made(schedule=schedule, row=V())
    out = model.sample(range(4), [1, 2, 3, 4], filters=[Judged(Largest(), threshold=9.0)], steps=4)
    assert torch.allclose(out.scores[0], out.images.flatten(1).abs().amax(1), atol=1e-6)
    assert float(out.scores[0].max()) <= 1.0 + 1e-6
