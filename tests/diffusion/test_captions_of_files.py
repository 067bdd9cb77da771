"""Captions of image folders and of tables: every form read alike, what lacks one is named, and the fingerprint sees them."""

import json

import pytest
import torch
from PIL import Image

from sfumato.diffusion import HuggingFace, ImageFolder
from sfumato.diffusion.caption_files import read_captions
from sfumato.diffusion.texts import captioned, texts_of

NAMES = {"a.png": ["a cat"], "deep/b.png": ["a dog", "some dog"], "deep/c.png": ["nothing"]}
ALL = torch.arange(3)
WANTED = [("a cat",), ("a dog", "some dog"), ("nothing",)]


@pytest.fixture(name="folder")
def made(tmp_path):
    for i, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / name)
    return tmp_path


def written(folder, form):
    if form == "txt":
        for name, texts in NAMES.items():
            (folder / name).with_suffix(".txt").write_text("\n".join(["", *texts, " "]))
        return "txt"
    if form == "json":
        plain = {f"./{k}": v if len(v) > 1 else v[0] for k, v in NAMES.items()}
        (folder / "captions.json").write_text(json.dumps(plain))
    else:
        lines = [json.dumps({"file_name": k, "text": t}) for k, v in NAMES.items() for t in v]
        (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return f"captions.{form}"


@pytest.mark.parametrize("form", ["txt", "json", "jsonl"])
def test_captions_of_a_folder(folder, form):
    data = ImageFolder(str(folder), size=4, captions=written(folder, form))
    assert texts_of(data, ALL) == WANTED
    assert texts_of(data, torch.tensor([2, 0])) == [WANTED[2], WANTED[0]]
    assert (data.num_classes, data.batch(ALL).labels) == (0, None)


def test_the_fingerprint_sees_captions_and_runs_without_them_keep_theirs(folder):
    file = written(folder, "json")
    first = ImageFolder(str(folder), size=4, captions=file).fingerprint
    (folder / file).write_text((folder / file).read_text().replace("some dog", "one dog"))
    assert ImageFolder(str(folder), size=4, captions=file).fingerprint != first
    (folder / "a.png").unlink()
    bare = ImageFolder(str(folder), size=4)
    assert not captioned(bare)
    assert bare.fingerprint not in (first, None)


def test_what_lacks_a_caption_is_named(folder):
    file = written(folder, "json")
    for text, words in (
        (json.dumps({"a.png": "x"}), r"has none for 'deep/b.png', 'deep/c.png'"), ("[1]", "holds no object"), ("{", "can't be read"),
        (json.dumps({**NAMES, "a.png": 3}), "the caption of 'a.png' is 3"), (json.dumps({**NAMES, "a.png": []}), "a list of texts"),
    ):  # fmt: skip
        (folder / file).write_text(text)
        with pytest.raises(ValueError, match=words):
            texts_of(ImageFolder(str(folder), size=4, captions=file), ALL)
    for name, words in (("words.csv", "ends in .json or .jsonl"), ("none.json", "can't be read"), ("txt", "a.txt")):
        with pytest.raises(ValueError, match=words):
            texts_of(ImageFolder(str(folder), size=4, captions=name), ALL)
    (folder / "a.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"'a.png' in .*a.txt is empty"):
        texts_of(ImageFolder(str(folder), size=4, captions="txt"), ALL)


def test_captions_of_a_table(tmp_path):
    datasets = pytest.importorskip("datasets")
    images = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(3)]
    features = datasets.Features(
        {"image": datasets.Image(), "one": datasets.Value("string"), "many": [datasets.Value("string")]}
    )
    rows = {"image": images, "one": [t[0] for t in WANTED], "many": [list(t) for t in WANTED]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "set"))

    def data(**more):
        return HuggingFace(str(tmp_path / "set"), size=4, **more)

    assert texts_of(data(caption="many"), ALL) == WANTED
    assert texts_of(data(caption="one"), ALL) == [t[:1] for t in WANTED]
    assert texts_of(data(), ALL) is None
    assert len({data(caption=c).fingerprint for c in (None, "one", "many")}) == 3
    with pytest.raises(ValueError, match="caption is 'lost', which is no column"):
        texts_of(data(caption="lost"), ALL)


def test_signs_within_a_text_part_no_lines_and_a_mark_at_the_beginning_is_none(tmp_path):
    text = "a\u2028b\x85c"
    line = json.dumps({"file_name": "a.png", "text": text}, ensure_ascii=False)
    (tmp_path / "lines.jsonl").write_text(f"{line}\r\n", encoding="utf-8-sig", newline="")
    assert read_captions(tmp_path, "lines.jsonl", ["a.png"]) == [(text,)]
    (tmp_path / "a.txt").write_text("a cat", encoding="utf-8-sig")
    assert read_captions(tmp_path, "txt", ["a.png"]) == [("a cat",)]
    (tmp_path / "lines.jsonl").write_text('{"file_name": 5, "text": "a"}')
    with pytest.raises(ValueError, match="file_name is 5; allowed: a path"):
        read_captions(tmp_path, "lines.jsonl", ["a.png"])
