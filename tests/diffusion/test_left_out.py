"""Samples that can not be read are left out of a run, and of what is measured on its data."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from faulted import Dots, tiny

from sfumato.diffusion import train
from sfumato.diffusion.excluding import Excluding
from sfumato.diffusion.prepared import trained_on


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class Torn(Dots):
    """One of its samples can't be read."""

    def problem(self, index):
        return "torn" if index == 5 else None


def test_what_was_left_out_is_not_when_a_resume_does_not_allow_it(tmp_path):
    train(tiny(data=Torn(), corrupt="skip", corrupt_limit=0.2, steps=2), tmp_path, progress=False)
    with pytest.raises(ValueError, match="1 of 12 samples can't be read"):
        train(tiny(data=Torn(), steps=3), tmp_path, resume=True, progress=False)


@pytest.mark.parametrize(
    "known", [{"std": 0.0}, {"std": float("nan")}, {"bad": {"12": "out of range"}}, {"bad": {"-1": "no index"}}]
)
def test_a_report_on_the_data_that_can_not_be_is_made_again(tmp_path, known):
    recipe = tiny(data=Torn(), corrupt="skip", corrupt_limit=0.2)
    train(replace(recipe, steps=2), tmp_path, progress=False)
    report = tmp_path / "data.json"
    whole = json.loads(report.read_text())
    edited = {**whole, **{k: v for k, v in known.items() if k == "std"}}
    edited["scan"] = {**whole["scan"], **{k: v for k, v in known.items() if k == "bad"}}
    report.write_text(json.dumps(edited))
    train(recipe, tmp_path, resume=True, progress=False)
    assert json.loads(report.read_text()) == whole


def test_samples_of_the_validation_are_read_before_the_first_step(tmp_path):
    recipe = tiny(validation=Torn(), validate_every=3, validation_samples=12, steps=3)
    with pytest.raises(ValueError, match=r"1 of 12 samples of the validation can't be read.*sample 5: torn"):
        train(recipe, tmp_path / "stop", progress=False)
    assert not (tmp_path / "stop").exists()
    train(replace(recipe, corrupt="skip"), tmp_path / "skip", progress=False)
    assert [x["validation"]["loss"] > 0 for x in lines(tmp_path / "skip") if "validation" in x] == [True]


def test_what_a_run_has_left_out_is_left_out_of_what_is_measured_on_its_data(tmp_path):
    recipe = tiny(data=Torn(), corrupt="skip", corrupt_limit=0.2, steps=1)
    train(recipe, tmp_path, progress=False)
    found = trained_on(tmp_path, Torn())
    assert len(found) == 11
    assert torch.equal(found.batch(torch.tensor([4, 5])).x[:, 0, 0, 0] * 12, torch.tensor([4.0, 6.0]))
    assert trained_on(tmp_path / "nowhere", Torn()) == Torn()
    assert trained_on(tmp_path, Torn(7)) == Torn(7)


def test_data_without_one_sample_are_not_data_without_another():
    texts = {Excluding(Dots(), bad).fingerprint for bad in ([], [1], [2], [1, 2])}
    assert len(texts | {Dots().fingerprint}) == 5


@dataclass(frozen=True)
class TornElsewhere(Torn):
    """Data of the same number that have changed."""

    fingerprint = "dots, changed"

    def problem(self, index):
        return "torn" if index == 7 else None


def test_data_that_have_changed_are_read_again(tmp_path):
    train(tiny(data=Torn(), corrupt="skip", corrupt_limit=0.2, steps=2), tmp_path, progress=False)
    with pytest.raises(ValueError, match="can't be resumed under another recipe: data was"):
        train(tiny(data=TornElsewhere(), corrupt="skip", corrupt_limit=0.2), tmp_path, resume=True, progress=False)
    assert trained_on(tmp_path, Torn()) == Excluding(Torn(), [5])
    assert trained_on(tmp_path, TornElsewhere()) == TornElsewhere()
