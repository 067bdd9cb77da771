"""Faults of data: found before the first step, named, left out where the recipe says so, and the same ones when a run goes on."""

import json
import shutil
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from faulted import Mixer, go, numbers, same
from PIL import Image

from sfumato.diffusion import ImageFolder
from sfumato.guidance import Plain

HARM = {
    30: ("a JPEG cut in half", "jpg", lambda data: data[: len(data) // 2]),
    31: ("an empty file", "png", lambda data: b""),
    32: ("text that is called a picture", "png", lambda data: b"a picture of a cat"),
}


class Grey(Mixer):
    """Without classes."""

    num_classes = 0


def photos(place, count=12, ending="png"):
    """A folder of small pictures."""
    rng = np.random.default_rng(0)
    folder = place / "photos"
    folder.mkdir()
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i:02}.{ending}")
    return folder


def recipe(folder, **more):
    torch.manual_seed(0)
    return {"data": ImageFolder(str(folder), size=2, channels=1), "backbone": Grey(0.1), "guidance": Plain(), **more}


@pytest.mark.parametrize("number", [pytest.param(n, marks=pytest.mark.fault(n)) for n in HARM])
def test_broken_files(number, place, injected):
    """Refused with the path; or skipped with a count, the same in a run that was cut short; or too many."""
    what, ending, harm = HARM[number]
    folder = photos(place, ending=ending)
    for name in (f"03.{ending}", f"08.{ending}"):
        (folder / name).write_bytes(harm((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"2 of 12 samples can't be read(.|\n)*03\.{ending}(.|\n)*08\.{ending}"):
        go(place / "stop", **recipe(folder))
    with pytest.raises(ValueError, match=r"more than may be skipped \(10\.00%\)"):
        go(place / "many", **recipe(folder, corrupt="skip", corrupt_limit=0.1))
    skip = {"corrupt": "skip", "corrupt_limit": 0.2, "steps": 6, "save_every": 2}
    with pytest.warns(UserWarning, match=r"2 of them bad"):
        go(place / "whole", **recipe(folder, **skip))
    known = json.loads((place / "whole" / "data.json").read_text())
    assert sorted(known["scan"]["bad"]) == ["3", "8"]
    shutil.copytree(place / "whole", place / "cut")
    for step in (4, 6):
        shutil.rmtree(place / "cut" / "checkpoints" / f"step-{step:09d}")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*bad.*")  # nothing is read again
        go(place / "cut", **recipe(folder, **skip))
    assert same(numbers(place / "whole"), numbers(place / "cut"))
    injected(what, 2, 0)


@pytest.mark.fault(33)
def test_other_channels(place, injected):
    """Each kind of picture has a defined conversion, 16 bits are not cut off, or it is refused by name."""
    folder = place / "photos"
    folder.mkdir()
    ramp = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    grey = Image.fromarray((ramp >> 8).astype(np.uint8))
    kinds = {
        "L": grey,
        "RGBA": grey.convert("RGBA"),
        "LA": grey.convert("LA"),
        "P": grey.convert("P"),
        "1": grey.convert("1"),
    }
    for name, image in {**kinds, "sixteen": Image.fromarray(ramp)}.items():
        image.save(folder / f"{name}.png")
    grey.convert("CMYK").save(folder / "cmyk.jpg", quality=100)
    data = ImageFolder(str(folder), size=8, channels=1)
    x = data.batch(torch.arange(len(data))).x
    wanted = torch.from_numpy((ramp >> 8).astype(np.float32)) / 127.5 - 1
    names = sorted(p.name for p in folder.iterdir())
    for i, name in enumerate(names):
        if name not in ("1.png", "cmyk.jpg"):
            assert torch.allclose(x[i, 0], wanted), name
    assert (x[names.index("cmyk.jpg"), 0] - wanted).abs().max() < 0.1
    (folder / "floats.tiff").write_bytes(b"")
    Image.fromarray(np.ones((8, 8), np.float32)).save(folder / "floats.bmp", format="TIFF")
    with pytest.raises(ValueError, match=r"floats\.bmp"):
        ImageFolder(str(folder), size=8, channels=1).batch(torch.arange(8))
    injected("a picture of other channels or depth", len(names) + 1, 0)


@pytest.mark.fault(34)
def test_labels_out_of_range(place, injected):
    folder = photos(place)
    for label in (9, -1, 2.5, "3", None):
        labels = {f"{i:02}.png": 0 for i in range(12)} | {"07.png": label}
        (folder / "labels.json").write_text(json.dumps(labels))
        with pytest.raises(ValueError, match=r"07\.png") as caught:
            go(
                place / "run",
                **recipe(folder, data=ImageFolder(str(folder), size=2, channels=1, labels="labels.json", classes=9)),
            )
        assert "0 to 8" in str(caught.value)
    assert not (place / "run").exists()
    injected("a label that is none of the classes", 5, 0)


@pytest.mark.fault(35)
def test_a_decompression_bomb(place, injected):
    """900 million pixels in a megabyte, refused by its header."""
    folder = photos(place)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    pack = zlib.compressobj(1)
    body = b"".join(pack.compress(bytes(30_001)) for _ in range(30_000)) + pack.flush()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    (folder / "05.png").write_bytes(bomb)
    with pytest.raises(ValueError, match=r"1 of 12 samples can't be read(.|\n)*05\.png.*pixels"):
        go(place / "run", **recipe(folder))
    injected("a picture of 900 million pixels", 1, 0)


@pytest.mark.fault(36)
def test_no_data_and_little_data(place, injected):
    (place / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        go(place / "none", **recipe(place / "empty"))
    folder = photos(place, count=3)  # fewer than a batch: batches span epochs
    go(place / "few", **recipe(folder, steps=3))
    assert all(torch.isfinite(v).all() for v in numbers(place / "few")[1].values())
    injected("a folder of no picture, and of fewer than a batch", 2, 0)


@pytest.mark.fault(37)
def test_data_that_changed(place, injected):
    """A file more, a file less, another file: refused unless it is allowed, and then told of."""
    folder = photos(place)
    spare = (folder / "00.png").read_bytes()
    go(place / "run", **recipe(folder, steps=2))
    changes = {
        "more": lambda: (folder / "99.png").write_bytes(spare),
        "less": lambda: (folder / "03.png").unlink(),
        "other": lambda: (folder / "04.png").write_bytes(spare + bytes(9)),
    }
    for change in changes.values():
        change()
        with pytest.raises(ValueError, match="files were added, removed or changed"):
            go(place / "run", **recipe(folder, steps=2))
    injected("a file added, removed, changed", len(changes), 0)


@pytest.mark.fault(39)
def test_an_archive_is_not_unpacked(place, injected):
    """Nothing here unpacks one, so no name in it leads anywhere; a link out of a folder is refused."""
    with zipfile.ZipFile(place / "photos.zip", "w") as archive:
        archive.writestr("../escaped.png", b"")
    with pytest.raises(ValueError, match="unpack"):
        go(place / "run", data=ImageFolder(str(place / "photos.zip")))
    assert not (place.parent / "escaped.png").exists()
    folder = photos(place)
    Image.new("L", (8, 8)).save(place / "secret.png")
    (folder / "link.png").symlink_to(place / "secret.png")
    with pytest.raises(ValueError, match=r"link\.png"):
        go(place / "run", **recipe(folder))
    injected("an archive with a name that leads out, and such a link", 2, 0)
