"""What a calibration holds for: saved, loaded, and refused where it does not hold."""

import hashlib
import json
import math
from dataclasses import replace

import pytest
import torch

from sfumato.guidance import CFG, Plain
from sfumato.samplers import DDIM, DDPM
from sfumato.samplers.filters import Calibrated, Calibration, PathLength, RenoiseProbe, Sampling, TrajectoryVariance
from sfumato.samplers.path import on_path
from sfumato.schedules import Cosine, RectifiedFlow, trailing
from sfumato.schedules.parts import build, describe

LEVELS = trailing(RectifiedFlow(), 6)  # begins at zero SNR and ends at data: both log-SNRs are infinite
LOG_SNRS = [float(level.log_snr) for level in LEVELS]
PROBE = Calibration(RenoiseProbe(2.0, 0.25), 0.01, 500, "upper", "weights", "digits", True, "labels")
WALKED = Calibration(
    TrajectoryVariance(0.5, low=-1.0), 0.01, 500, "upper", "weights", "digits", False, "none", "DDIM(eta=0.0)", "Plain()", LOG_SNRS
)  # fmt: skip


def sampling(labelled=True, model="weights", sampler=None, guidance=None, levels=LEVELS):
    return Sampling(repr(sampler or DDIM()), repr(guidance or Plain()), levels, lambda: model, labelled)


@pytest.mark.parametrize("calibration", [PROBE, WALKED], ids=["probe", "walked"])
def test_what_is_saved_is_loaded(tmp_path, calibration):
    calibration.save(tmp_path / "c.json", {"curve": [[4.0, math.inf]], "note": "of a run"})
    text = (tmp_path / "c.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["curve"] == [[4.0, "inf"]]
    assert found["note"] == "of a run"
    assert Calibration.load(tmp_path / "c.json") == calibration
    assert Calibrated(str(tmp_path / "c.json")) == Calibrated(calibration)
    assert Calibrated(tmp_path / "c.json").filter == calibration.filter


def test_infinite_thresholds_and_levels_survive(tmp_path):
    both = replace(WALKED, filter=TrajectoryVariance(math.inf, -math.inf, 3.0))
    assert math.inf in both.log_snrs
    assert -math.inf in both.log_snrs
    both.save(tmp_path / "c.json")
    loaded = Calibration.load(tmp_path / "c.json")
    assert loaded == both
    loaded.check(sampling(False))


def test_a_part_keeps_the_numbers_rather_than_the_file(tmp_path):
    PROBE.save(tmp_path / "c.json")
    part = Calibrated(str(tmp_path / "c.json"))
    (tmp_path / "c.json").unlink()
    assert build(describe(part)) == part == Calibrated(PROBE)


def test_bounds():
    assert PROBE.bounds == (0.0, 0.25)
    assert WALKED.bounds == (-math.inf, 0.5)
    assert replace(PROBE, filter=RenoiseProbe(2.0, 0.25, 0.125)).bounds == (0.125, 0.25)


def test_it_judges_as_its_filter_does_on_the_models_path():
    part = on_path(Calibrated(PROBE), Cosine())
    assert part.filter.path == Cosine()
    assert part.filter.threshold == 0.25
    assert part.verdict(torch.tensor([0.2, 0.25, 0.3])).keep.tolist() == [True, True, False]
    assert torch.equal(part.init(torch.ones(2, 3), LEVELS), torch.zeros(2))
    walked = Calibrated(WALKED)
    assert walked.init(torch.ones(2, 3), LEVELS).weights == WALKED.filter.init(torch.ones(2, 3), LEVELS).weights


def test_what_it_holds_for_passes():
    PROBE.check(sampling())
    PROBE.check(sampling(None))  # some have labels, or the model knows no classes
    PROBE.check(sampling(sampler=DDPM(), guidance=CFG(3.0), levels=trailing(Cosine(), 99)))
    WALKED.check(sampling(False))
    off = [v._replace(sigma=v.sigma * (1 + 1e-8)) for v in LEVELS]
    WALKED.check(sampling(False, levels=off))


@pytest.mark.parametrize(
    ("calibration", "here", "message"),
    [
        (PROBE, sampling(model="others"), "of other weights than these .* calibrate these: sfumato calibrate RUN --filter RenoiseProbe"),
        (PROBE, sampling(False), "with their labels, and these are sampled without labels; .* --condition none"),
        (WALKED, sampling(True), "without labels, and these are sampled with labels; .* --condition labels"),
        (WALKED, sampling(False, sampler=DDPM()), r"of the sampler DDIM\(eta=0.0\), and this is DDPM.* --sampler"),
        (WALKED, sampling(False, sampler=DDIM(0.5)), r"and this is DDIM\(eta=0.5\)"),
        (WALKED, sampling(False, guidance=CFG(2.0)), r"of the guidance Plain\(\), and this is CFG.* --guidance"),
        (WALKED, sampling(False, levels=trailing(RectifiedFlow(), 7)), "of 6 steps that end .* these are 7 that .* --steps 7"),
        (WALKED, sampling(False, levels=trailing(Cosine(), 6)), "of 6 steps that end with log-SNR .* these are 6 that end"),
        (WALKED, sampling(False, levels=LEVELS[1:]), "these are 5 that end"),
        (WALKED, sampling(False, levels=LEVELS[:-1]), "these are 5 that end"),
        (WALKED, sampling(False, levels=[v._replace(sigma=1.001 * v.sigma) for v in LEVELS]), "these are 6 that end"),
    ],
)  # fmt: skip
def test_what_it_does_not_hold_for_is_refused(calibration, here, message):
    with pytest.raises(ValueError, match=message):
        Calibrated(calibration).check(here)


def test_what_the_filter_itself_refuses_is_refused():
    class Picky(RenoiseProbe):
        def check(self, sampling):
            raise ValueError(f"not with {sampling.sampler}")

    with pytest.raises(ValueError, match=r"not with DDIM\(eta=0.0\)"):
        Calibrated(replace(PROBE, filter=Picky(2.0, 0.25))).check(sampling())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "holds no calibration"), ("{}", "it has no key 'calibration'"), ("[]", "holds no calibration"), ("", "holds no calibration"),
        ('{"calibration": 3}', "it has no key 'sha256'"), ('{"calibration": 3, "sha256": "0"}', "damaged, or was changed by hand"),
    ],
)  # fmt: skip
def test_files_that_hold_none_are_refused(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Calibrated(str(tmp_path / "c.json"))
    with pytest.raises(ValueError, match="`sfumato calibrate RUN` writes one"):
        Calibrated(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"class_path": "sfumato.samplers.DDIM"}, "holds a DDIM, not a Calibration"), (3, "holds a int, not a Calibration"),
        ({"class_path": "sfumato.samplers.filters.Nothing"}, "can't be imported"), ({"class_path": "os.path.Nothing"}, "outside Sfumato"),
        ({"class_path": "sfumato.samplers.filters.Calibration"}, "missing 7 required"),
    ],
)  # fmt: skip
def test_files_that_hold_something_else_are_refused(tmp_path, known, message):
    sha = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    (tmp_path / "c.json").write_text(json.dumps({"calibration": known, "sha256": sha}))
    with pytest.raises(ValueError, match=message):
        Calibrated(str(tmp_path / "c.json"))


def test_a_file_that_was_changed_is_refused_and_so_are_values_that_cannot_be(tmp_path):
    PROBE.save(tmp_path / "c.json")
    text = (tmp_path / "c.json").read_text()
    (tmp_path / "c.json").write_text(text.replace("0.25", "0.5"))
    assert "0.25" in text
    with pytest.raises(ValueError, match="damaged, or was changed by hand; calibrate again"):
        Calibrated(str(tmp_path / "c.json"))
    for bad in ({"alpha": 2.0}, {"count": 0}, {"sides": "left"}, {"margin": 0.5}, {"condition": "some"}):
        with pytest.raises(ValueError, match=f"Calibration.{next(iter(bad))} is .*; allowed"):
            replace(PROBE, **bad)


def test_only_filters_are_calibrated():
    for bad in (PathLength, DDIM(), None):
        with pytest.raises(ValueError, match="allowed: a filter, such as RenoiseProbe"):
            replace(PROBE, filter=bad)
