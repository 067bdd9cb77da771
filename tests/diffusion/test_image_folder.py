"""Images from a folder: what becomes of each kind of file, labels, links, and what is refused."""

import errno
import hashlib
import json
import os
import resource
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.diffusion import ImageFolder
from sfumato.schedules.parts import build, describe


@pytest.fixture
def folder(tmp_path):
    for name, value in (("cat", 0), ("dog", 255)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (20 + i, 10), (value, value, value)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def bytes_of(data, *index):
    """The samples as whole numbers, (B, C, H, W)."""
    x = data.batch(torch.tensor(index or range(len(data)))).x
    return ((x + 1) * 127.5).round().to(torch.uint8)


def halved(pixels):
    """The mean of 2 x 2 pixels, rounded along each axis as Pillow does."""
    wide = pixels.astype(int)
    wide = (wide[:, ::2] + wide[:, 1::2] + 1) // 2
    return (wide[::2] + wide[1::2] + 1) // 2


def png(size, kind, depth, body):
    """A PNG, for what Pillow can't write; body: deflated rows."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def zeros(count):
    """The same zeros again and again, deflated, without ever holding them."""
    block, times = count // 300, 300
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = deflate.compress(bytes(block)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\x01" + piece * times + b"\x03\x00" + struct.pack(">HH", block * times % 65521, 1)


def test_image_folder(folder):
    data = ImageFolder(str(folder), size=4)
    assert (len(data), data.shape, data.num_classes, data.class_names) == (6, (3, 4, 4), 2, ["cat", "dog"])
    batch = data.batch(torch.tensor([5, 0]))
    assert batch.labels.tolist() == [1, 0]
    assert batch.spread is None
    assert torch.equal(batch.x[0], torch.ones(3, 4, 4))
    assert torch.equal(batch.x[1], -torch.ones(3, 4, 4))
    grey = ImageFolder(str(folder), size=4, channels=1).batch(torch.tensor([5]))
    assert grey.x.shape == (1, 1, 4, 4)
    assert all(data.problem(i) is None for i in range(6))


def test_image_folder_crops_the_centre(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    data = ImageFolder(str(tmp_path), size=10)
    assert data.num_classes == 0
    batch = data.batch(torch.tensor([0]))
    assert batch.labels is None
    assert torch.equal(batch.x, torch.ones(1, 3, 10, 10))


def test_sizes_of_two_numbers(tmp_path):
    """An image of the wanted shape stays as it is, a larger part of another shape is cut about the centre."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    data = ImageFolder(str(tmp_path), size=(6, 10))
    assert data.shape == (3, 6, 10)
    assert np.array_equal(bytes_of(data)[0].permute(1, 2, 0), pixels)
    assert np.array_equal(bytes_of(ImageFolder(str(tmp_path), size=(3, 10)))[0].shape, (3, 3, 10))
    wide, high = (ImageFolder(str(tmp_path), size=s, resample="box") for s in ((1, 5), (6, 2)))
    assert np.array_equal(bytes_of(wide)[0].permute(1, 2, 0), halved(pixels[2:4]))  # the middle rows
    assert np.array_equal(bytes_of(high)[0].permute(1, 2, 0), pixels[:, 4:6])
    again = build(json.loads(json.dumps(describe(data))))
    assert again == data
    assert hash(again) == hash(data)
    assert again.fingerprint == data.fingerprint != ImageFolder(str(tmp_path), size=(10, 6)).fingerprint


def test_halving_as_adm_does(tmp_path):
    """From four times the size it is the mean of 2 x 2 pixels, rounded, twice; other sizes keep the middle."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    data = ImageFolder(str(tmp_path), size=8, resize="adm", resample="bicubic")
    assert np.array_equal(bytes_of(data)[0].permute(1, 2, 0), halved(halved(pixels))[:, 4:12])
    assert bytes_of(ImageFolder(str(tmp_path), size=11, resize="adm", resample="bicubic")).shape == (1, 3, 11, 11)
    with pytest.raises(ValueError, match="a square, and resample 'bicubic'"):
        ImageFolder(str(tmp_path), resize="adm")


def test_filters_are_told_apart_and_the_usual_one_keeps_old_fingerprints(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "x.png")
    usual, *others = (ImageFolder(str(tmp_path), size=8, resample=r) for r in ("lanczos", "bicubic", "box"))
    assert usual == ImageFolder(str(tmp_path), size=8)
    assert len({usual.fingerprint, *(o.fingerprint for o in others)}) == 3
    assert not torch.equal(bytes_of(usual), bytes_of(others[0]))
    size = (tmp_path / "x.png").stat().st_size
    assert usual.fingerprint == hashlib.sha256(f"8 3\nx.png {size}".encode()).hexdigest()[:16]


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


def test_every_kind_of_pixel_has_a_conversion(tmp_path):
    """As RGB, and as grey by ITU-R 601."""
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 200, 100, 50])
    clear = palette.copy()
    clear.info["transparency"] = 1
    made = {
        "1": (Image.new("1", (4, 4), 1), (255, 255, 255)),
        "L": (Image.new("L", (4, 4), 77), (77, 77, 77)),
        "LA": (Image.new("LA", (4, 4), (200, 51)), (40, 40, 40)),
        "P": (palette, (200, 100, 50)),
        "P clear": (clear, (0, 0, 0)),
        "RGB": (Image.new("RGB", (4, 4), (1, 2, 3)), (1, 2, 3)),
        "RGBA": (Image.new("RGBA", (4, 4), (200, 100, 50, 51)), (40, 20, 10)),
        "CMYK": (Image.new("CMYK", (4, 4), (255, 0, 0, 0)), (0, 255, 255)),
        "CMYK black": (Image.new("CMYK", (4, 4), (0, 0, 0, 200)), (55, 55, 55)),
        "I;16": (Image.fromarray(np.full((4, 4), 0xC3FF, np.uint16)), (0xC3,) * 3),
        "I": (Image.fromarray(np.full((4, 4), 65535, np.int32)), (255, 255, 255)),
    }
    for i, (image, _) in enumerate(made.values()):  # a TIFF keeps every mode; what a file is, is read from its bytes
        image.save(tmp_path / f"{i:02}.png", "PNG" if "transparency" in image.info else "TIFF")
    deep = {0: [0xA0FF], 4: [0xA0FF, 0xFFFF], 2: [0xA0FF, 0x50FF, 0x20FF], 6: [0xA0FF, 0x50FF, 0x20FF, 0xFFFF]}
    for i, (kind, numbers) in enumerate(deep.items()):  # 16 bits: grey, grey and alpha, colour, colour and alpha
        row = b"\0" + struct.pack(f">{len(numbers)}H", *numbers) * 4
        (tmp_path / f"deep{i}.png").write_bytes(png((4, 4), kind, 16, zlib.compress(row * 4)))
    wanted = [
        *(colour for _, colour in made.values()),
        (0xA0,) * 3,
        (0xA0,) * 3,
        (0xA0, 0x50, 0x20),
        (0xA0, 0x50, 0x20),
    ]
    data, grey = ImageFolder(str(tmp_path), size=4), ImageFolder(str(tmp_path), size=4, channels=1)
    for i, (got, luminance, colour) in enumerate(zip(bytes_of(data), bytes_of(grey), wanted, strict=True)):
        assert got.permute(1, 2, 0).reshape(16, 3).tolist() == [list(colour)] * 16, data._files.names[i]
        assert abs(float(luminance.float().mean()) - np.dot(colour, (0.299, 0.587, 0.114))) <= 1, data._files.names[i]
        assert data.problem(i) is None


def test_pixels_without_a_range_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.png", "TIFF")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "large.png", "TIFF")
    data = ImageFolder(str(tmp_path), size=4)
    assert "float.png can't be read as an image: its pixels are floating-point numbers (mode F)" in data.problem(0)
    assert (
        "large.png can't be read as an image: its pixels run from 70000 to 70000 (mode I); allowed: 0 to 65535"
        in data.problem(1)
    )
    for i in range(2):
        with pytest.raises(ValueError, match="can't be read as an image: its pixels"):
            data.batch(torch.tensor([i]))


def test_broken_files_are_named(tmp_path):
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    pixels.save(tmp_path / "a.jpg")
    pixels.save(tmp_path / "b.png")
    for name in ("a.jpg", "b.png"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray((tmp_path / "b.png").read_bytes())
    flipped[-40] ^= 1
    (tmp_path / "flip.png").write_bytes(flipped)
    (tmp_path / "none.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("a picture of a cat")
    data = ImageFolder(str(tmp_path), size=4)
    found = {name: data.problem(i) for i, name in enumerate(data._files.names)}
    assert {name for name, problem in found.items() if problem is None} == {"a.jpg", "b.png"}
    for name, problem in found.items():
        assert problem is None or problem.startswith(str(tmp_path / name)), problem
    for name in ("cut_a.jpg", "cut_b.png", "none.png", "text.png"):  # a flipped bit may leave what decodes
        with pytest.raises(ValueError, match=f"{name} can't be read as an image: .*; mend or remove it"):
            data.batch(torch.tensor([data._files.names.index(name)]))


def test_what_is_not_the_files_fault_is_not_called_so(folder, monkeypatch):
    data = ImageFolder(str(folder), size=4)
    for error in (OSError(errno.EMFILE, "Too many open files"), MemoryError()):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(Image, "open", fail)
        with pytest.raises(type(error)):
            data.problem(0)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    """900 million pixels in about a megabyte."""
    (tmp_path / "bomb.png").write_bytes(png((30_000, 30_000), 0, 8, zeros(30_000 * 30_001)))
    assert (tmp_path / "bomb.png").stat().st_size < 2e6
    data, allowed = ImageFolder(str(tmp_path), size=4), Image.MAX_IMAGE_PIXELS
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "bomb.png can't be read as an image: " in data.problem(0)
    with pytest.raises(ValueError, match=r"bomb\.png can't be read as an image: .* pixels"):
        data.batch(torch.tensor([0]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    assert allowed == Image.MAX_IMAGE_PIXELS


def test_pixels_are_limited(folder):
    assert ImageFolder(str(folder), size=4, max_pixels=200).problem(0) is None  # 20 x 10
    problem = ImageFolder(str(folder), size=4, max_pixels=200).problem(1)
    assert (
        problem
        == f"{folder}/cat/1.png can't be read as an image: it has 21 x 10 pixels, more than max_pixels, 200; mend or remove it"
    )


def test_fingerprint_follows_the_files(folder):
    before = ImageFolder(str(folder), size=4).fingerprint
    assert ImageFolder(str(folder), size=4).fingerprint == before
    (folder / "cat" / "0.png").unlink()
    without = ImageFolder(str(folder), size=4).fingerprint
    assert without != before
    Image.new("RGB", (3, 3)).save(folder / "cat" / "new.png")
    assert ImageFolder(str(folder), size=4).fingerprint not in (before, without)


def test_a_file_that_goes_away_is_named(folder):
    data = ImageFolder(str(folder), size=4)
    assert len(data) == 6
    (folder / "cat" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"0\.png can't be found any more"):
        _ = data.fingerprint
    assert "0.png can't be read" in data.problem(0)


def labelled(folder, known, **options):
    (folder / "dataset.json").write_text(known if isinstance(known, str) else json.dumps(known))
    return ImageFolder(str(folder), size=4, labels="dataset.json", **options)


NAMES = [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(3)]
LABELS = [3, 0, 1, 3, 2, 0]


def test_labels_from_a_file(folder):
    """Both forms say the same; the order of the file, ./ and backslashes mean nothing."""
    pairs = list(zip(NAMES, LABELS, strict=True))
    forms = [
        {"labels": pairs}, dict(pairs), {"labels": pairs[::-1]}, {f"./{n}": v for n, v in pairs},
        {"labels": [(n.replace("/", "\\"), v) for n, v in pairs]},
    ]  # fmt: skip
    prints = set()
    for form in forms:
        data = labelled(folder, form)
        assert data.batch(torch.arange(6)).labels.tolist() == LABELS
        assert (data.num_classes, data.class_names) == (4, [])
        prints.add(data.fingerprint)
    assert len(prints) == 1
    assert labelled(folder, dict(pairs), classes=10).num_classes == 10
    changed = dict(pairs) | {NAMES[0]: 2}
    assert labelled(folder, changed).fingerprint not in prints
    (folder / "loose.png").write_bytes((folder / NAMES[0]).read_bytes())  # sub-folders mean nothing now
    data = labelled(folder, dict(pairs) | {"loose.png": 1})
    assert data.batch(torch.arange(7)).labels.tolist() == [*LABELS, 1]


def test_a_file_may_say_that_there_are_no_labels(folder):
    data = labelled(folder, {"labels": None})
    assert data.num_classes == 0
    assert data.batch(torch.arange(2)).labels is None
    with pytest.raises(ValueError, match="says that there are none, and classes is 2"):
        len(labelled(folder, {"labels": None}, classes=2))


@pytest.mark.parametrize(
    ("edit", "options", "message"),
    [
        ({"cat/1.png": 4}, {"classes": 4}, r"dataset\.json': the label of 'cat/1\.png' is 4; allowed: 0 to 3"),
        ({"cat/1.png": -1}, {}, r"the label of 'cat/1\.png' is -1; allowed: whole numbers from 0"),
        ({"cat/1.png": 1.5}, {}, r"the label of 'cat/1\.png' is 1\.5; allowed: whole"),
        ({"cat/1.png": True}, {}, r"the label of 'cat/1\.png' is true; allowed: whole"),
        ({"cat/1.png": [0, 1]}, {}, r"the label of 'cat/1\.png' is \[0, 1\]; allowed: whole"),
        ({"cat/1.png": "cat"}, {}, r"the label of 'cat/1\.png' is \"cat\"; allowed: whole"),
        ({"cat/9.png": 1}, {}, r"dataset\.json' has a label for 'cat/9\.png', which is no image of the folder"),
        ({"../x.png": 1}, {}, r"has a label for '\.\./x\.png', which is no image"),
        ({"cat/1.png": "missing"}, {}, r"dataset\.json' has no label for 'cat/1\.png'; add it"),
    ],
)
def test_wrong_labels_are_refused_by_file_label_and_range(folder, edit, options, message):
    known = dict(zip(NAMES, LABELS, strict=True)) | edit
    known = {n: v for n, v in known.items() if v != "missing"}
    for form in (known, {"labels": list(known.items())}):
        with pytest.raises(ValueError, match=message):
            len(labelled(folder, form, **options))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "can't be read as JSON"),
        ("[" * 100_000, "can't be read as JSON"),
        ("[]", "holds no object; allowed"),
        ('{"labels": {"cat/0.png": 1}}', '"labels" is no list'),
        ('{"labels": [["cat/0.png", 1, 2]]}', r'holds \["cat/0\.png", 1, 2\]; allowed: \[name, label\]'),
        ('{"labels": [3]}', "holds 3; allowed"),
        ('{"cat/0.png": 1, "cat/0.png": 2}', r"names 'cat/0\.png' twice"),
    ],
)
def test_files_of_another_form_are_refused(folder, text, message):
    with pytest.raises(ValueError, match=message):
        len(labelled(folder, text))


def test_a_file_of_labels_that_is_not_there_is_named(folder):
    with pytest.raises(ValueError, match=r"nothing\.json' can't be read: No such file"):
        len(ImageFolder(str(folder), labels="nothing.json"))
    with pytest.raises(ValueError, match=r"classes is 3; allowed: >= 1, and only with a file of labels"):
        ImageFolder(str(folder), classes=3)


def test_links(folder, tmp_path_factory):
    """Those within the folder are followed, those that lead out of it are refused unless allowed."""
    other = tmp_path_factory.mktemp("other")
    Image.new("RGB", (4, 4)).save(other / "x.png")
    (other / "notes.txt").write_text("hello")
    (folder / "dog" / "notes.txt").symlink_to(other / "notes.txt")  # no image, so nobody reads it
    (folder / "dog" / "inner.png").symlink_to("../cat/0.png")
    (folder / "pets").symlink_to("cat")
    data = ImageFolder(str(folder), size=4)
    assert data._files.names == [*NAMES, "dog/inner.png", "pets/0.png", "pets/1.png", "pets/2.png"]
    assert data.class_names == ["cat", "dog", "pets"]
    for link, target in ((folder / "dog" / "out.png", other / "x.png"), (folder / "linked", other)):
        link.symlink_to(target)
        with pytest.raises(ValueError, match=f"the link {link} leads out of the folder, to {target}"):
            len(ImageFolder(str(folder)))
        assert len(ImageFolder(str(folder), links="anywhere")) == 11
        link.unlink()
    linked = other.parent / f"{other.name}_link"
    linked.symlink_to(folder)
    assert ImageFolder(str(linked), size=4).fingerprint == data.fingerprint  # the folder itself may be one


def test_links_that_lead_nowhere_or_round_in_circles_are_refused(folder):
    (folder / "dog" / "gone").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"dog/gone leads nowhere"):
        len(ImageFolder(str(folder)))
    (folder / "dog" / "gone").unlink()
    (folder / "dog" / "up").symlink_to("..")
    with pytest.raises(ValueError, match=r"dog/up leads to .*, in which it lies itself"):
        len(ImageFolder(str(folder)))
    (folder / "dog" / "up").unlink()
    (folder / "dog" / "self.png").symlink_to("self.png")
    with pytest.raises(ValueError, match=r"self\.png leads nowhere"):
        len(ImageFolder(str(folder)))


def test_archives_are_to_be_unpacked(tmp_path):
    for name in ("images.zip", "images.tar.gz"):
        (tmp_path / name).write_bytes(b"anything")
        with pytest.raises(ValueError, match=rf"{name}', a file; allowed: a folder, so unpack an archive first"):
            ImageFolder(str(tmp_path / name))


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels 1 or 3"),
        ({"size": 0}, r"ImageFolder\.size is 0 .*allowed: size >= 1"),
        ({"size": [4, 4, 4]}, r"size is \(4, 4, 4\)"),
        ({"resize": "stretch"}, "resize is 'stretch'; allowed: 'centre', 'adm'"),
        ({"resample": "nearest"}, "resample is 'nearest'; allowed: 'lanczos', 'bicubic', 'box'"),
        ({"max_pixels": 0}, "max_pixels is 0; allowed: >= 1"),
        ({"threads": 0}, "threads is 0; allowed: >= 1"),
        ({"links": "all"}, "links is 'all'; allowed: 'inside', 'anywhere'"),
    ],
)
def test_other_values_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(str(tmp_path), **options)


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match="dog can't be listed: Permission denied"):
        len(ImageFolder(str(folder)))
