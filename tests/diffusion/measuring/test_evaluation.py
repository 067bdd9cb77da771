"""Evaluation: known answers, equal numbers from a run and its folder, what is refused, and what is said."""

import json
import subprocess
import sys

import pytest
import torch
from modelled import made

from sfumato.diffusion import Digits, Split, evaluate
from sfumato.diffusion.measuring import DigitsFeatures, OfSource, OfTensor, Pixels, as_bytes, frechet, moments
from sfumato.diffusion.measuring.evaluation import Evaluation
from sfumato.diffusion.measuring.evaluator import Evaluator
from sfumato.diffusion.measuring.extractor import Seen
from sfumato.diffusion.measuring.how_made import how_made, seeds_in_words
from sfumato.diffusion.measuring.judge import references
from sfumato.diffusion.measuring.measures import MEASURES

# what takes no training: the pixels of pictures of so many numbers
SMALL = Pixels((1, 2, 2))


def gaussian_pictures(count, mean, std, seed=0):
    """uint8 (count, 1, 2, 2), each number a Gaussian, far enough from 0 and 255 that none is cut."""
    drawn = torch.randn(count, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (127.5 + mean + std * drawn).round().clamp(0, 255).to(torch.uint8)


def test_two_gaussians_have_the_distance_of_their_closed_form():
    n = 20_000
    e = evaluate(
        OfTensor(gaussian_pictures(n, 10, 20)), OfTensor(gaussian_pictures(n, 0, 30, 1)), SMALL,
        measures=["frechet", "frechet_infinity", "brightness"],
    )  # fmt: skip
    # in units of a pixel's [-1, 1]; rounding to bytes adds a variance of 1/12 to either
    a, b = ((s * s + 1 / 12) ** 0.5 for s in (20, 30))
    truth = 4 * (10**2 + (a - b) ** 2) / 127.5**2
    assert e["frechet"].value == pytest.approx(truth, abs=4 * e["frechet"].error)
    assert e["frechet"].error < 0.05 * truth
    assert e["frechet_infinity"].value == pytest.approx(truth, rel=0.05)
    assert e["frechet"].label == "FD-pixels"  # 10,000 and more: not said of how many
    # the mean of a picture varies half as much as its numbers, in both
    assert e["brightness"].value == pytest.approx(a / b, rel=0.03)
    # halves of one law: what is left is the bias of 10,000 pictures
    assert 0 <= e["frechet"].real < 5e-4


def test_pictures_against_themselves_are_perfect():
    own = OfSource(Digits("even"))
    e = evaluate(own, own, Pixels())
    assert e["frechet"].value == pytest.approx(0, abs=1e-9)
    assert e["sliced"].value == pytest.approx(0, abs=3 * e["sliced"].error + 1e-9)
    assert [e[name].value for name in ("precision", "recall", "coverage", "brightness", "memorised")] == [1, 1, 1, 1, 1]
    assert e.details["memorisation"]["copies"] == 1
    assert {"inception_score", "accuracy"} <= set(e.missing)
    assert {n.name for n in e.numbers} | set(e.missing) == set(MEASURES)


def test_real_against_real_of_digits_is_what_the_judge_says():
    source = Digits()
    eye = DigitsFeatures()
    e = evaluate(OfSource(Digits("odd")), source, eye, measures=["frechet", "accuracy"])
    judge = eye._judge
    halves = evaluate(OfSource(Digits("even")), Digits("odd"), eye, measures=["frechet"])
    assert halves["frechet"].value == pytest.approx(references(judge, source)["real_vs_real"], rel=1e-3)
    odd, every = (
        judge.features(as_bytes(s.batch(torch.arange(len(s))).x).float() / 127.5 - 1) for s in (Digits("odd"), source)
    )
    assert e["frechet"].value == pytest.approx(frechet(moments(odd), moments(every)), rel=1e-6)
    assert e["frechet"].label == "FD-digits@898"
    assert e["accuracy"].value > 0.97
    table = torch.tensor(e.details["confusion"])
    assert table.sum() == 898
    assert table.diagonal().sum() / 898 == pytest.approx(e["accuracy"].value)


def test_a_folder_and_the_samples_that_it_holds_give_the_same_numbers(tmp_path):
    samples = made(source={"run": "r", "checkpoint": 3, "ema": True}).sample(
        range(40), [i % 10 for i in range(40)], steps=2
    )
    samples.save(tmp_path / "pictures")
    samples.save_sheet(tmp_path / "pictures" / "sheet.png")
    reference = OfSource(Digits("odd"), 200)
    a, b = (evaluate(x, reference, Pixels()).to_json() for x in (samples, str(tmp_path / "pictures")))
    assert a["numbers"] == b["numbers"]
    assert a["pictures"]["made"] == b["pictures"]["made"]
    how = b["pictures"]["made"]
    assert (how["run"], how["checkpoint"], how["ema"], how["steps"], how["seeds"]) == ("r", 3, True, 2, "0-39")
    assert how["evaluations_per_picture"]["total"] == sum(samples.evaluations.sum(0).tolist()) / 40
    assert how["sampler"]["class_path"].endswith("DPMSolverPP")
    assert how["guidance"]["class_path"].endswith("Plain")
    assert b["extractor"]["hash"]
    assert b["extractor"]["resize"] == "none"
    for number in b["numbers"]:
        assert number["n"] == 40
        assert number["better"] in ("lower", "higher", "")
    back = Evaluation.from_json(json.loads(json.dumps(b)))
    assert back["frechet"].value == a["numbers"][0]["value"]


def test_what_differs_between_files_is_told(tmp_path):
    model = made()
    for seeds, steps in ((range(3), 2), (range(3, 6), 3)):
        model.sample(seeds, [0] * 3, steps=steps).save(tmp_path)
    e = evaluate(str(tmp_path), OfTensor(torch.rand(9, 1, 8, 8)), Pixels(), measures=["frechet"])
    assert e.pictures["made"]["differs"]["steps"] == [2, 3]
    assert "steps" not in e.pictures["made"]
    assert any("steps differ" in remark for remark in e.remarks)


def test_rejections_are_counted():
    settings = [
        {"seed": 5, "attempt": 2, "kept": True, "evaluations": {"cond": 30}},
        {"seed": 6, "attempt": 0, "kept": True, "evaluations": {"cond": 10}},
    ]
    found = how_made(settings)
    assert (found["rejected"], found["attempts"], found["evaluations_per_picture"]["total"]) == (2, 4, 20)
    settings[1]["kept"] = False  # marked, and not tried again
    assert how_made(settings)["rejected"] == 3
    assert how_made(None) == {"known": False}
    assert seeds_in_words([3, 1, 2, 9]) == "1-3, 9"


def test_held_out_pictures_tell_copies_from_new_ones():
    split = Split(Digits(), share=0.2)
    rest = OfSource(Split(Digits(), part="held_out", share=0.2))
    train = OfSource(split)
    copies = OfTensor(train.pixels(torch.arange(300)))
    new = evaluate(rest, train, Pixels(), measures=["memorised"], training=train, held_out=rest)
    old = evaluate(copies, train, Pixels(), measures=["memorised"], training=train, held_out=rest)
    assert old["memorised"].value == 1
    assert new["memorised"].value < 0.02
    assert old.details["memorisation"]["held_out"]["z"] < -10
    assert new.details["memorisation"]["held_out"]["z"] == pytest.approx(0, abs=1e-6)
    assert all(s["picture"] == s["training"] for s in old.details["suspects"])


def test_moments_as_a_reference_leave_only_the_frechet_distance(tmp_path):
    pictures = gaussian_pictures(300, 5, 20)
    features = SMALL(pictures).features
    e = evaluate(OfTensor(pictures), moments(features), SMALL)
    assert [n.name for n in e.numbers] == ["frechet", "frechet_infinity"]
    assert e["frechet"].value == pytest.approx(0, abs=1e-12)
    assert "only the mean and covariance" in e.missing["kid"]
    file = tmp_path / "s.npz"
    Evaluator(None, SMALL, measures=[]).save(file, OfTensor(pictures))
    assert evaluate(OfTensor(pictures), file, SMALL)["frechet"].value == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="made by another extractor: its name was 'Pixels'"):
        evaluate(OfTensor(pictures), file, Other())


class Other:
    """Pixels by another name."""

    num_features = 4
    fingerprint = "x"

    def __call__(self, pictures: torch.Tensor) -> Seen:
        return SMALL(pictures)


def test_logits_are_asked_only_of_the_same_classes():
    class Classifies(Other):
        def __call__(self, pictures: torch.Tensor) -> Seen:
            features = SMALL(pictures).features
            return Seen(features, torch.nn.functional.one_hot(features.argmax(1), 4).float() * 9)

    pictures = gaussian_pictures(60, 0, 30)
    right = SMALL(pictures).features.argmax(1)
    e = evaluate(OfTensor(pictures, right), OfTensor(pictures), SMALL, classifier=Classifies())
    assert e["accuracy"].value == 1
    assert e.classifier["name"] == "Classifies"
    assert e.extractor["name"] == "Pixels"
    assert 1 < e["inception_score"].value < 4
    other = evaluate(OfTensor(pictures, right + 1), OfTensor(pictures), SMALL, classifier=Classifies())
    assert "classes" in other.missing["accuracy"]


@pytest.mark.parametrize(
    ("pictures", "reference", "more", "message"),
    [
        (torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 9), {}, "8 x 8 .*, and those of reference 8 x 9"),
        (torch.rand(4, 1, 8, 8), torch.rand(4, 3, 8, 8), {}, "pictures are grey, and those of reference are RGB"),
        (torch.rand(1, 1, 8, 8), torch.rand(4, 1, 8, 8), {}, "at least 2"),
        (torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8), {"measures": ["frechett"]}, "did you mean frechet"),
        (torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8), {"k": 0}, "k is 0"),
        ("/nowhere", torch.rand(4, 1, 8, 8), {}, "not a folder"),
        (3, torch.rand(4, 1, 8, 8), {}, "int holds no pictures"),
        (torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), {"extractor": None}, "give an extractor"),
    ],
)  # fmt: skip
def test_what_is_refused(pictures, reference, more, message):
    with pytest.raises(ValueError, match=message):
        evaluate(pictures, reference, **{"extractor": Pixels(), **more})


def test_too_few_pictures_for_k_are_said_and_not_measured():
    e = evaluate(torch.rand(5, 1, 8, 8), torch.rand(50, 1, 8, 8), Pixels(), k=5)
    assert "k is 5, and the smaller set has 5 pictures" in e.missing["precision"]
    with pytest.raises(KeyError, match="k is 5"):
        _ = e["precision"]
    assert any("5 pictures were compared with 50" in remark for remark in e.remarks)


def test_nothing_heavy_is_imported_with_the_product():
    code = "import sys, sfumato.diffusion; print([m for m in ('torchmetrics', 'scipy', 'matplotlib', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_floats_beyond_their_range_and_networks_that_fail_are_refused_in_words():
    eye = Pixels((1, 8, 8))
    grey = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        ValueError, match=r"x goes from .* to .*; allowed: floating-point pictures in \[-1, 1\], or uint8"
    ):
        evaluate(grey * 255, grey * 2 - 1, eye)
    with pytest.warns(UserWarning, match=r"of pictures in \[0, 1\] give 2 \* x - 1"):
        evaluate(grey, grey * 2 - 1, eye, measures=["frechet"])
    conv = torch.nn.Conv2d(1, 2, 3)
    conv.num_features = 2
    with pytest.raises(ValueError, match=r"Conv2d failed on uint8 pictures .* pictures\.float\(\) / 255"):
        evaluate(grey * 2 - 1, grey * 2 - 1, conv, measures=["frechet"])
    for given, said in ((grey.numpy(), "torch.from_numpy"), (made(), r"what its sample\(seeds\) returns")):
        with pytest.raises(ValueError, match=said):
            evaluate(given, grey * 2 - 1, eye)
    with pytest.raises(ValueError, match=r"allowed: a list of names, such as \['frechet'\]"):
        evaluate(grey * 2 - 1, grey * 2 - 1, eye, measures="frechet")
