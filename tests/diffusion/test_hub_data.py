"""Data sets of Hugging Face's `datasets`: the same pictures as from a folder, and what is refused."""

import io
import json
import socket
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.diffusion import ImageFolder, Split
from sfumato.diffusion.hub_data import HuggingFace
from sfumato.diffusion.scan import scan
from sfumato.schedules.parts import build, describe

COUNT, NAMES = 7, ["ant", "bee", "cow"]
LABELS = [i % 3 for i in range(COUNT)]


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The library, its cache within the test's folder, and no network."""
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return library


def encoded(i):
    file = io.BytesIO()
    pixels = np.random.default_rng(i).integers(0, 256, (10, 12 + i, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def made(datasets, labels=LABELS, images=None):
    """Pictures that are stored as PNG, and labels with names."""
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    images = images or [{"bytes": encoded(i), "path": f"{i}.png"} for i in range(COUNT)]
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=kinds)


@pytest.fixture
def saved(datasets, tmp_path):
    made(datasets).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_pictures_are_those_of_a_folder(saved, tmp_path):
    (tmp_path / "folder").mkdir()
    for i in range(COUNT):
        (tmp_path / "folder" / f"{i}.png").write_bytes(encoded(i))
    for options in (
        {"size": 5},
        {"size": (4, 6), "channels": 1, "resample": "box"},
        {"size": 4, "resize": "adm", "resample": "bicubic"},
    ):
        data, folder = (
            HuggingFace(str(saved), label="label", **options),
            ImageFolder(str(tmp_path / "folder"), **options),
        )
        assert (len(data), data.shape, data.bins) == (COUNT, folder.shape, 256)
        index = torch.tensor([6, 0, 3, 3])
        assert torch.equal(data.batch(index).x, folder.batch(index).x)
        assert data.batch(index).labels.tolist() == [LABELS[i] for i in index]
    assert (data.num_classes, data.class_names) == (3, NAMES)
    plain = HuggingFace(str(saved), size=5)
    assert plain.num_classes == 0
    assert plain.batch(index).labels is None


def test_what_is_stored_otherwise_is_the_same(datasets, saved, tmp_path):
    """A saved data set, one of several splits, parquet files, and parquet files of bare bytes without the library's own notes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = made(datasets)
    datasets.DatasetDict({"train": whole, "test": whole.select(range(2))}).save_to_disk(tmp_path / "dict")
    (tmp_path / "parquet" / "data").mkdir(parents=True)
    whole.select(range(4)).to_parquet(tmp_path / "parquet" / "data" / "train-00000-of-00002.parquet")
    whole.select(range(4, COUNT)).to_parquet(tmp_path / "parquet" / "data" / "train-00001-of-00002.parquet")
    whole.select(range(2)).to_parquet(tmp_path / "parquet" / "data" / "test-00000-of-00001.parquet")
    (tmp_path / "bare").mkdir()
    table = pa.table({"image": [encoded(i) for i in range(COUNT)], "label": LABELS})
    pq.write_table(table, tmp_path / "bare" / "numbers.parquet")
    found = [HuggingFace(str(tmp_path / name), label="label", size=5) for name in ("saved", "dict", "parquet", "bare")]
    assert len({f.fingerprint for f in found}) == 1
    index = torch.arange(COUNT)
    for data in found:
        assert torch.equal(data.batch(index).x, found[0].batch(index).x)
        assert data.batch(index).labels.tolist() == LABELS
    for name in ("dict", "parquet"):
        assert len(HuggingFace(str(tmp_path / name), split="test")) == 2
        with pytest.raises(ValueError, match=r"split 'val'"):
            len(HuggingFace(str(tmp_path / name), split="val"))
    assert found[3].class_names == []


def test_fingerprints_follow_images_labels_and_size(datasets, saved, tmp_path):
    before = HuggingFace(str(saved), label="label", size=5)
    prints = [
        before.fingerprint,
        HuggingFace(str(saved), size=5).fingerprint,
        HuggingFace(str(saved), label="label").fingerprint,
    ]
    images = [{"bytes": encoded(i), "path": None} for i in range(COUNT)]
    images[3], images[4] = images[4], images[3]
    edits = {
        "swapped": made(datasets, images=images),
        "labels": made(datasets, [0] * COUNT),
        "fewer": made(datasets).select(range(6)),
    }
    for name, edited in edits.items():
        edited.save_to_disk(tmp_path / name)
        prints.append(HuggingFace(str(tmp_path / name), label="label", size=5).fingerprint)
    assert len(set(prints)) == len(prints)
    (tmp_path / "saved").rename(tmp_path / "moved")
    assert HuggingFace(str(tmp_path / "moved"), label="label", size=5).fingerprint == before.fingerprint


def test_broken_rows_are_named_and_left_out(datasets, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(0))
    images = [
        encoded(0), b"", b"a picture of a cat", encoded(3)[:-60], {"bytes": None, "path": str(secret)},
        {"bytes": None, "path": "https://example.com/x.png"}, encoded(6),
    ]  # fmt: skip
    kinds = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    images = [image if isinstance(image, dict) else {"bytes": image, "path": None} for image in images]
    whole = datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=kinds)
    (tmp_path / "parquet").mkdir()
    import pyarrow.parquet as pq

    pq.write_table(whole.data.table, tmp_path / "parquet" / "train.parquet")  # the library itself would open the paths
    data = HuggingFace(str(tmp_path / "parquet"), label="label", size=4)
    found = scan(data, 2, progress=False)
    assert sorted(found.bad) == [1, 2, 3, 4, 5]
    assert found == scan(data, 1, progress=False)
    for i, reason in found.bad.items():
        assert reason.startswith(f"row {i} of {tmp_path}/parquet"), reason
    for i in (4, 5):
        assert "its bytes are not stored with it" in found.bad[i]
        with pytest.raises(ValueError, match=f"row {i} of"):
            data.batch(torch.tensor([0, i]))
    assert found.good(data).batch(torch.arange(2)).labels.tolist() == [LABELS[0], LABELS[6]]
    assert len(scan(Split(data, share=0.4), progress=False).bad) == sum(
        i in found.bad for i in Split(data, share=0.4)._index.tolist()
    )


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 1, 5], {"classes": 3}, r"column 'number': the label of 2 is 5; allowed: 0 to 2"),
        ([0, -1, 2], {}, r"the label of 1 is -1; allowed: whole numbers from 0"),
        ([0, None, 2], {}, r"the label of 1 is null"),
        ([0, 0.5, 2], {}, r"the label of 0 is 0\.0"),
        (["ant", "bee", "cow"], {}, r'the label of 0 is "ant"'),
    ],
)
def test_wrong_labels_are_refused_at_the_start(datasets, tmp_path, labels, options, message):
    datasets.Dataset.from_dict({"image": [encoded(i) for i in range(3)], "number": labels}).save_to_disk(
        tmp_path / "saved"
    )
    data = HuggingFace(str(tmp_path / "saved"), label="number", **options)
    with pytest.raises(ValueError, match=message):
        _ = data.num_classes


def test_other_columns_and_folders_are_refused(datasets, saved, tmp_path):
    with pytest.raises(
        ValueError, match=r"HuggingFace\.image is 'picture', which is no column of .*; allowed: image, label"
    ):
        len(HuggingFace(str(saved), image="picture"))
    with pytest.raises(ValueError, match=r"HuggingFace\.label is 'class', which is no column"):
        len(HuggingFace(str(saved), label="class"))
    with pytest.raises(ValueError, match="a column of int64; allowed: images, or the bytes of image files"):
        len(HuggingFace(str(saved), image="label"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="neither a saved data set"):
        len(HuggingFace(str(tmp_path / "empty")))
    made(datasets).select([]).save_to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no sample"):
        len(HuggingFace(str(tmp_path / "none")))
    (arrow,) = saved.glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(ValueError, match="can't be read"):
        len(HuggingFace(str(saved)))
    state = json.loads((saved / "state.json").read_text())
    state["_data_files"][0]["filename"] = "../none/data.arrow"
    (saved / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"state\.json names '\.\./none/data\.arrow'"):
        len(HuggingFace(str(saved)))


def test_the_hub_is_asked_only_by_name(datasets, monkeypatch):
    asked = []

    def load_dataset(*names, **options):
        asked.append((names, options))
        return made(datasets)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = HuggingFace("hub:owner/animals", label="label", subset="small", revision="1234", split="test")
    assert not asked
    assert len(data) == COUNT
    assert asked == [(("owner/animals", "small"), {"split": "test", "revision": "1234"})]


def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path):
    with pytest.raises(
        ValueError, match="'owner/animals', which is not a folder; allowed: a folder, or hub:OWNER/NAME"
    ):
        HuggingFace("owner/animals")
    with pytest.raises(ValueError, match="subset and revision are for data sets of the hub"):
        HuggingFace(str(tmp_path), subset="small")


def test_without_the_library_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"needs datasets: pip install 'sfumato\[datasets\]'"):
        len(HuggingFace(str(tmp_path)))


def test_it_survives_a_config(tmp_path):
    data = HuggingFace(str(tmp_path), label="label", size=(4, 6))
    again = build(json.loads(json.dumps(describe(data))))
    assert again == data
    assert hash(again) == hash(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 4}, "channels 1 or 3"),
        ({"threads": 0}, "threads is 0; allowed: >= 1"),
        ({"classes": 3}, "classes is 3; allowed: >= 1, and only with a column of labels"),
        ({"resize": "crop"}, "resize is 'crop'; allowed"),
    ],
)
def test_other_values_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        HuggingFace(str(tmp_path), **options)
