"""Folders of pictures: at their own size, ours and other people's, and what is refused."""

import numpy as np
import pytest
import torch
from modelled import made
from PIL import Image

from sfumato.diffusion.measuring import OfFolder, OfTensor, Pictures
from sfumato.diffusion.measuring.picture_files import settings_of_file


def save(path, shape, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_pictures_come_back_as_they_are(tmp_path):
    kept = [save(tmp_path / kind / f"{i}.png", (6, 9, 3), i) for i, kind in enumerate(("b", "a", "b"))]
    (tmp_path / ".thumbnails").mkdir()
    save(tmp_path / ".thumbnails" / "0.png", (2, 2, 3))
    folder = OfFolder(str(tmp_path))
    assert isinstance(folder, Pictures)
    assert (len(folder), folder.shape) == (3, (3, 6, 9))
    # by folder and name: a/1, b/0, b/2
    wanted = torch.from_numpy(np.stack([kept[i] for i in (1, 0, 2)])).permute(0, 3, 1, 2)
    assert torch.equal(folder.pixels(torch.arange(3)), wanted)
    assert folder.classes().tolist() == [0, 1, 1]
    assert folder.class_names == ["a", "b"]
    assert folder.settings is None
    assert torch.equal(OfFolder(str(tmp_path), count=1).pixels(torch.tensor([0])), wanted[:1])
    assert OfFolder(str(tmp_path), count=2).fingerprint != folder.fingerprint
    assert OfFolder(str(tmp_path), size=(3, 3), channels=1).pixels(torch.tensor([2])).shape == (1, 1, 3, 3)


def test_a_folder_of_ours_is_read_without_its_sheets(tmp_path):
    samples = made().sample([3, 4, 7], [5, None, 0], steps=2)
    samples.save(tmp_path)
    samples.save_sheet(tmp_path / "sheet.png")
    save(tmp_path / "elsewhere" / "x.png", (5, 5))
    folder = OfFolder(str(tmp_path))
    assert len(folder) == 3
    assert folder.shape == (1, 8, 8)
    assert torch.equal(folder.pixels(torch.arange(3)), OfTensor(samples.images).x)
    assert folder.classes().tolist() == [5, -1, 0]
    assert [each["seed"] for each in folder.settings] == [3, 4, 7]
    assert settings_of_file(tmp_path / "elsewhere" / "x.png") is None
    # a file of somebody else's under a name of ours: nothing is claimed of any
    save(tmp_path / "seed-x.png", (8, 8))
    assert OfFolder(str(tmp_path)).settings is None
    assert OfFolder(str(tmp_path)).classes() is None


def test_a_turned_photograph_has_the_size_that_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 9)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (9, 4)).save(tmp_path / "straight.jpg")
    assert OfFolder(str(tmp_path)).shape == (3, 4, 9)


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no picture"):
        len(OfFolder(str(tmp_path)))
    save(tmp_path / "a.png", (4, 4))
    save(tmp_path / "b.png", (4, 5))
    with pytest.raises(ValueError, match=r"a.png is 4 x 4 \(width x height\), b.png is 5 x 4; give the size"):
        _ = OfFolder(str(tmp_path)).shape
    assert OfFolder(str(tmp_path), size=4).shape == (1, 4, 4)
    (tmp_path / "b.png").rename(tmp_path / "a.txt")
    (tmp_path / "c.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"c.png can't be read as an image"):
        _ = OfFolder(str(tmp_path)).shape
    for more, message in (
        ({"size": 0}, "size is 0"),
        ({"channels": 2}, "channels is 2"),
        ({"threads": 0}, "threads is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            OfFolder(str(tmp_path), **more)
    with pytest.raises(ValueError, match="count is 9; allowed: 1 to 2"):
        len(OfFolder(str(tmp_path), count=9))
    with pytest.raises(ValueError, match="not a folder"):
        OfFolder(str(tmp_path / "a.png"))
