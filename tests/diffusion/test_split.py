"""Held-out samples: a partition that depends on the seed alone."""

import json

import pytest
import torch
import yaml

from sfumato.diffusion import Denoiser, Digits, Recipe, Split, UNet, train
from sfumato.diffusion.split import held_out, shared
from sfumato.schedules import RectifiedFlow, V
from sfumato.schedules.parts import build, describe
from sfumato.tools.cli import main


def numbers(source):
    """Every sample as text, to tell them apart."""
    return [x.numpy().tobytes() for x in source.batch(torch.arange(len(source))).x]


def test_the_parts_are_a_partition():
    whole, train_, held = Digits(), Split(Digits()), Split(Digits(), "held_out")
    assert (len(train_), len(held)) == (1617, 180)
    assert sorted(numbers(train_) + numbers(held)) == sorted(numbers(whole))
    assert not set(train_._index.tolist()) & set(held._index.tolist())
    assert held._index.tolist() == sorted(held._index.tolist())
    labels = [s.batch(torch.arange(len(s))).labels for s in (train_, held)]
    assert torch.equal(torch.cat(labels).sort().values, whole.batch(torch.arange(1797)).labels.sort().values)


def test_labels_stay_with_their_pictures():
    held, whole = Split(Digits(), "held_out"), Digits()
    got, wanted = held.batch(torch.tensor([3, 17])), whole.batch(held._index[[3, 17]])
    assert torch.equal(got.x, wanted.x)
    assert torch.equal(got.labels, wanted.labels)


def test_which_ones_depends_on_seed_and_share_alone():
    a, b, c = (Split(Digits(), "held_out", 0.1, seed) for seed in (0, 0, 1))
    assert numbers(a) == numbers(b)
    assert numbers(a) != numbers(c)
    assert set(numbers(a)) < set(numbers(Split(Digits(), "held_out", 0.2)))
    # a random choice, not a stretch of the file: classes as in the whole
    counts = torch.bincount(Split(Digits(), "held_out", 0.5).batch(torch.arange(898)).labels, minlength=10)
    assert int(counts.min()) > 60


def test_it_says_what_its_source_says():
    split = Split(Digits())
    assert (split.shape, split.num_classes, split.bins) == ((1, 8, 8), 10, 17)
    assert Split(_Bare()).bins is None


class _Bare:
    shape, num_classes, fingerprint = (1, 8, 8), 0, "bare"

    def __len__(self):
        return 20


def test_fingerprints_tell_parts_shares_seeds_and_sources_apart():
    splits = [
        Split(Digits()), Split(Digits(), "held_out"), Split(Digits(), share=0.2), Split(Digits(), seed=1), Split(Digits("odd")), Digits()
    ]  # fmt: skip
    assert len({s.fingerprint for s in splits}) == len(splits)
    assert Split(Digits()).fingerprint == splits[0].fingerprint


def test_it_survives_yaml():
    split = Split(Digits("even"), "held_out", 0.25, 3)
    again = build(yaml.safe_load(yaml.safe_dump(describe(split))))
    assert again == split
    assert again.fingerprint == split.fingerprint


def test_the_rest_of_a_training_set():
    assert held_out(Split(Digits(), share=0.3, seed=2)) == Split(Digits(), "held_out", 0.3, 2)
    assert held_out(Split(Digits(), "held_out")) is None
    assert held_out(Digits()) is None


def test_only_the_two_parts_of_a_split_are_known_to_share_nothing_of_one_source():
    run = Split(Digits(), share=0.3, seed=2)
    rest = Split(Digits(), "held_out", 0.3, 2)
    assert not shared(run, rest)
    assert not shared(rest, run)
    assert not shared(run, Digits("odd"))  # it can't be told
    for data in (run, Digits(), Split(Digits(), "held_out", 0.3, 1), Split(Digits(), "held_out", 0.2, 2), Split(rest)):
        assert shared(run, data)
        assert shared(data, run)
    assert shared(Digits(), rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "test"}, "Split.part is 'test'; allowed: 'train', 'held_out'"),
        ({"share": 0.0}, "Split.share is 0.0; allowed: above 0 and below 1"),
        ({"share": 1.0}, "Split.share is 1.0; allowed"),
        ({"share": float("nan")}, "Split.share is nan; allowed"),
    ],
)
def test_other_parts_and_shares_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Split(Digits(), **arguments)


def test_a_share_of_nothing_or_of_all_is_refused():
    for share in (0.02, 0.98):
        with pytest.raises(ValueError, match="leaves nothing of one part of 20 samples"):
            len(Split(_Bare(), share=share))
    assert (len(Split(_Bare(), share=0.05)), len(Split(_Bare(), "held_out", 0.05))) == (19, 1)


def test_a_run_is_trained_and_evaluated_on_a_split(tmp_path, capsys):
    torch.manual_seed(0)
    net = UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1,), blocks=1, attention=())
    data = Split(Digits(), share=0.02)
    recipe = Recipe(
        data=data, backbone=net, schedule=RectifiedFlow(), row=V(), batch=8, threads=1, steps=2, lr_end=1.0, warmup=0
    )
    assert isinstance(train(recipe, tmp_path / "run", progress=False).denoiser, Denoiser)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert build(config["data"]) == data
    bits = []
    for part in ("train", "held_out"):
        argv = ["evaluate", str(tmp_path / "run"), "--nll", "--steps", "4", "--count", "8"]
        assert main([*argv, *([] if part == "train" else ["--data.part", part])]) == 0
        found = json.loads((tmp_path / "run" / "nll.json").read_text())
        assert build(found["data"]) == Split(Digits(), part, 0.02)
        assert found["bins"] == 17
        bits.append(found["bits_per_dim"])
    assert bits[0] != bits[1]
    assert "bits per dimension" in capsys.readouterr().out
