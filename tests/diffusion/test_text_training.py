"""Training on captions: the text decides, a resume and two processes are the same run, what does not fit is refused."""

import json
import shutil
from dataclasses import dataclass, replace

import pytest
import torch
import yaml
from children import ends
from PIL import Image

from sfumato.diffusion import (
    Captions,
    Digits,
    DiT,
    Excluding,
    HashedWords,
    LogSNRClock,
    Recipe,
    Split,
    StoredText,
    load,
    store_texts,
    train,
)
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.data import Batch
from sfumato.diffusion.plan import check_recipe
from sfumato.diffusion.rehearsal import rehearse
from sfumato.diffusion.report import report
from sfumato.diffusion.scan import checkable
from sfumato.diffusion.split import held_out, shared
from sfumato.diffusion.texts import captioned, texts_of
from sfumato.diffusion.training_text import drawn_captions
from sfumato.diffusion.validation import Validation
from sfumato.guidance import CFG, Plain
from sfumato.schedules import EDM, LogNormal, RectifiedFlow, Stream, gaussian, karras  # fmt: skip

MEANS, STD = (-0.6, 0.2, 0.8), 0.1
TEXT = HashedWords(length=4, width=8)


@dataclass(frozen=True)
class Lots:
    """Pictures of four equal numbers, normal about the mean of their class."""

    count: int = 240
    shape = (1, 2, 2)
    num_classes = 3
    fingerprint = "lots"

    def __len__(self):
        return self.count

    def batch(self, index):
        labels = index % 3
        noise = gaussian(torch.zeros_like(index), index, 0, 0, (1, 1, 1), stream=Stream.DATA)
        return Batch((torch.tensor(MEANS)[labels].view(-1, 1, 1, 1) + STD * noise).expand(-1, 1, 2, 2), labels)

    def problem(self, index):
        return None


CAPTIONED = Captions(Lots(), ["{}", "so {}", "how {} it is"], ["dark|night", "grey", "bright"])


def recipe(**changes):
    torch.manual_seed(0)
    net = DiT(channels=1, size=2, patch=2, width=32, depth=1, heads=2, text_width=8)
    values = {
        "data": CAPTIONED, "backbone": net, "text": TEXT, "schedule": RectifiedFlow(), "row": EDM(0.6), "clock": LogSNRClock(),
        "density": LogNormal(0.0, 1.5), "steps": 6, "batch": 8, "lr": 4e-3, "warmup": 3, "ema": 0.9, "threads": 1, "log_every": 3,
        "sampling_steps": 8, "tracker": None, "grid": karras, "guidance": CFG(1.0), "save_every": 3,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def tensors(folder):
    found = newest(folder / "checkpoints")
    return {f"{n}/{k}": v for n in ("model", "ema", "optimizer") for k, v in found.tensors(n).items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(recipe(), folder, progress=False)
    return folder


def test_the_text_decides_the_mean(tmp_path):
    """Three prompts, three normals: means, the spread, and the mixture's mean under the empty text, as they are in the data."""
    train(recipe(steps=250, batch=32, save_every=0), tmp_path, progress=False)
    model = load(tmp_path)
    for prompt, mean in zip(("so dark", "grey", "how bright it is"), MEANS, strict=True):
        drawn = model.sample(range(48), prompts=prompt).images
        assert abs(float(drawn.mean()) - mean) < 0.05, prompt
        assert 0.5 * STD < float(drawn.mean((1, 2, 3)).std()) < 2 * STD
    # a second name of a class is as good
    assert abs(float(model.sample(range(48), prompts="night").images.mean()) - MEANS[0]) < 0.05
    none = model.sample(range(96)).images.mean((1, 2, 3))
    assert abs(float(none.mean()) - sum(MEANS) / 3) < 0.12
    assert float(none.std()) > 0.35  # of the mixture: 0.58


def test_a_resumed_run_is_the_same_run(whole, tmp_path):
    train(recipe(steps=6), tmp_path / "a", progress=False)
    assert same(tensors(tmp_path / "a"), tensors(whole))
    folder = tmp_path / "b"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "step-000000006")
    torch.manual_seed(9)
    train(recipe(), folder, resume=True, progress=False)
    assert same(tensors(folder), tensors(whole))
    with pytest.raises(ValueError, match=r"text.seed was 0, is 1"):
        train(recipe(text=HashedWords(4, 8, seed=1)), folder, resume=True, progress=False)
    with pytest.raises(ValueError, match="fingerprint"):
        train(recipe(data=replace(CAPTIONED, templates=("{}",))), folder, resume=True, progress=False)


def test_stored_texts_train_as_the_encoder_does(whole, tmp_path):
    each = texts_of(CAPTIONED, torch.arange(len(CAPTIONED)))
    store_texts([text for texts in each for text in texts], TEXT, tmp_path / "text")
    train(recipe(text=StoredText(str(tmp_path / "text"))), tmp_path / "run", progress=False)
    assert same(tensors(tmp_path / "run"), tensors(whole))
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["text"]["init_args"]["encoder"]["class_path"] == "sfumato.diffusion.HashedWords"
    # texts that nobody stored, and no folder at all any more
    drawn = load(tmp_path / "run").sample(range(4), prompts="how odd").images
    assert torch.equal(drawn, load(whole).sample(range(4), prompts="how odd").images)
    (tmp_path / "text").rename(tmp_path / "gone")
    assert torch.equal(drawn, load(tmp_path / "run").sample(range(4), prompts="how odd").images)


def test_micro_batches_workers_and_processes_change_nothing(whole, tmp_path):
    train(recipe(workers=1), tmp_path / "read", progress=False)
    assert same(tensors(tmp_path / "read"), tensors(whole))
    codes, logs, _ = ends(lambda rank: train(recipe(), tmp_path / "two", progress=False) and None, tmp_path / "log")
    assert codes == [0, 0], logs
    train(recipe(micro_batch=4), tmp_path / "micro", progress=False)
    wanted = tensors(whole)
    for name in ("two", "micro"):
        found = tensors(tmp_path / name)
        assert all(torch.allclose(found[k].float(), v.float(), atol=3e-5) for k, v in wanted.items()), name


def test_captions_are_drawn_by_address():
    texts, places = [("a", "b", "c")] * 3000, torch.arange(3000)
    drawn = drawn_captions(texts, 0, 5, places)
    assert [drawn[7], drawn[2999]] == drawn_captions(texts[:2], 0, 5, torch.tensor([7, 2999]))
    assert all(abs(drawn.count(c) / 3000 - 1 / 3) < 4 * (2 / 9 / 3000) ** 0.5 for c in "abc")
    assert drawn != drawn_captions(texts, 0, 6, places)
    assert drawn_captions([("x",), ("y",)], 0, 0, places[:2]) == ["x", "y"]


def test_wrappers_carry_captions_on():
    index = torch.tensor([0, 2])
    assert texts_of(CAPTIONED, index) == [
        ("dark", "night", "so dark", "so night", "how dark it is", "how night it is"), ("bright", "so bright", "how bright it is"),
    ]  # fmt: skip
    assert texts_of(Lots(), index) is None
    assert not captioned(Lots())
    assert texts_of(Excluding(CAPTIONED, [0]), torch.tensor([1])) == texts_of(CAPTIONED, torch.tensor([2]))
    outer, inner = Split(CAPTIONED), replace(CAPTIONED, source=Split(Lots()))
    for each in (outer, inner):
        held = held_out(each)
        assert len(held) == 24
        assert captioned(held)
        assert not shared(each, held)
        assert shared(each, Lots())
        assert checkable(each)
        assert each.problem(0) is None
    assert outer.fingerprint != inner.fingerprint
    assert CAPTIONED.class_names == ["dark", "grey", "bright"]


def test_what_does_not_fit_is_refused(tmp_path):
    bare = DiT(channels=1, size=2, patch=2, width=32, depth=1, heads=2)
    both = DiT(channels=1, size=2, patch=2, width=32, depth=1, heads=2, text_width=8, num_classes=3)
    for changes, words in (
        ({"data": Lots()}, "data has no captions"),
        ({"backbone": bare}, "set backbone.text_width: 8"),
        ({"backbone": both}, "num_classes is 3 and text is HashedWords"),
        ({"text": None}, "backbone.text_width is 8, and text is null"),
        ({"text": HashedWords(4, 16)}, "text_width is 8, and HashedWords makes 16"),
        (
            {"backbone": bare, "text": None, "prompts": ["a"], "guidance": Plain()},
            "prompts are given, and text is null",
        ),
        ({"validation": Lots(), "validate_every": 1}, "validation has no captions"),
        ({"label_dropout": 0.0, "guidance": CFG(2.0)}, "steers away from the empty text"),
        ({"vae": str(tmp_path)}, "the data are no latents"),
    ):
        with pytest.raises(ValueError, match=words):
            check_recipe(recipe(**changes))
    check_recipe(recipe(backbone=bare, text=None, guidance=Plain()))  # captions that nobody reads are no mistake
    for changes, words in (
        ({"templates": ["x"]}, "texts with one {}"), ({"templates": []}, "templates is empty"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            replace(CAPTIONED, **changes)
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        texts_of(replace(CAPTIONED, names=("a", "b")), torch.tensor([0]))
    with pytest.raises(ValueError, match="names has 0 names"):
        texts_of(Captions(Digits()), torch.tensor([0]))


def test_validation_tells_the_first_caption_of_each_sample():
    heard = []

    class Heard:
        def encode(self, prompts):
            heard.extend(prompts)
            return TEXT.encode(prompts)

    own = recipe()
    check = Validation(
        CAPTIONED, own.schedule, own.density, own.weighting, own.objective, 0, 0.6, count=240, batch=50, text=Heard()
    )  # fmt: skip
    check.partial(own.denoiser())
    assert set(heard) == {"", "dark", "grey", "bright"}


def test_validation_previews_and_the_rehearsal_know_texts(tmp_path):
    data = Split(Captions(Digits("even"), ["{}"], [*"0123456789"]))
    net = DiT(channels=1, size=8, patch=4, width=16, depth=1, heads=2, text_width=8)
    whole = recipe(
        data=data, backbone=net, steps=2, validate_every=2, validation_samples=12, sample_every=1, prompts=["a 3", "an 8"],
        sampling_steps=2, micro_batch="auto",
    )  # fmt: skip
    assert "HashedWords" in report(whole)
    assert rehearse(whole, tmp_path / "none").loss > 0
    train(whole, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("validation" in line for line in lines)
    sheet = next(iter((tmp_path / "run" / "samples").glob("*.png")))
    told = json.dumps(Image.open(sheet).info)
    assert "a 3" in told
    assert "an 8" in told
