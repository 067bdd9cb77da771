"""Images from a folder."""

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.diffusion import ImageFolder


@pytest.fixture
def folder(tmp_path):
    for name, value in (("cat", 0), ("dog", 255)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (20 + i, 10), (value, value, value)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_image_folder(folder):
    data = ImageFolder(str(folder), size=4)
    assert (len(data), data.shape, data.num_classes, data.class_names) == (6, (3, 4, 4), 2, ["cat", "dog"])
    batch = data.batch(torch.tensor([5, 0]))
    assert batch.labels.tolist() == [1, 0]
    assert torch.equal(batch.x[0], torch.ones(3, 4, 4))
    assert torch.equal(batch.x[1], -torch.ones(3, 4, 4))
    grey = ImageFolder(str(folder), size=4, channels=1).batch(torch.tensor([5]))
    assert grey.x.shape == (1, 1, 4, 4)


def test_image_folder_crops_the_centre(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    data = ImageFolder(str(tmp_path), size=10)
    assert data.num_classes == 0
    batch = data.batch(torch.tensor([0]))
    assert batch.labels is None
    assert torch.equal(batch.x, torch.ones(1, 3, 10, 10))


def test_conversions_are_defined(tmp_path):
    """16 bits keep their upper 8, transparency is laid on black, EXIF turns."""
    ramp = (np.arange(16, dtype=np.uint16) * 4096).reshape(4, 4)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "b.png")
    turned = Image.fromarray(np.repeat(np.array([[0] * 4, [255] * 4, [255] * 4, [255] * 4], np.uint8)[..., None], 3, 2))
    exif = turned.getexif()
    exif[274] = 6  # turn by 90 degrees
    turned.save(tmp_path / "c.png", exif=exif)
    x = ImageFolder(str(tmp_path), size=4).batch(torch.arange(3)).x
    wanted = torch.from_numpy((ramp >> 8).astype(np.float32)) / 127.5 - 1
    assert torch.allclose(x[0], wanted.expand(3, 4, 4))
    assert torch.equal(x[1], -torch.ones(3, 4, 4))
    assert torch.equal(x[2][0, :, 3], -torch.ones(4))  # the black row is the right column now
    assert torch.equal(x[2][0, :, 0], torch.ones(4))


def test_fingerprint_follows_the_files(folder):
    before = ImageFolder(str(folder), size=4).fingerprint
    assert ImageFolder(str(folder), size=4).fingerprint == before
    (folder / "cat" / "0.png").unlink()
    assert ImageFolder(str(folder), size=4).fingerprint != before


def test_refusals_name_the_file(folder, tmp_path):
    (folder / "dog" / "9.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"9\.png can't be read as an image"):
        ImageFolder(str(folder), size=4).batch(torch.arange(7))
    (folder / "loose.png").write_bytes(b"")
    with pytest.raises(ValueError, match="both images and class folders"):
        len(ImageFolder(str(folder)))
    with pytest.raises(ValueError, match="not a folder"):
        ImageFolder(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        len(ImageFolder(str(tmp_path / "empty")))
    with pytest.raises(ValueError, match="channels 1 or 3"):
        ImageFolder(str(folder), channels=2)
