"""Data in arrays: the numbers, what is refused, what the fingerprint sees."""

import copy
import io
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.diffusion import ImageFolder, Source, Split
from sfumato.diffusion.arrays import ArrayData
from sfumato.diffusion.npy import gather
from sfumato.schedules.parts import build, describe


def saved(path, array):
    np.save(path, array, allow_pickle=False)
    return str(path)


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (10, 3, 4, 4), dtype=np.uint8)
    labels = rng.integers(0, 5, 10, dtype=np.int16)
    labels[3] = 4
    return ArrayData(saved(tmp_path / "x.npy", pictures), saved(tmp_path / "y.npy", labels)), pictures, labels


def test_pictures_are_those_of_an_image_folder(made, tmp_path):
    """Equal to the last bit, in the order that was asked for, as often as it was."""
    data, pictures, labels = made
    for i, picture in enumerate(pictures):
        (tmp_path / "png").mkdir(exist_ok=True)
        Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / "png" / f"{i:02}.png")
    index = torch.tensor([7, 0, 9, 7, 3])
    batch = data.batch(index)
    assert torch.equal(batch.x, ImageFolder(str(tmp_path / "png"), size=4).batch(index).x)
    assert batch.labels.tolist() == labels[index].tolist()
    assert batch.labels.dtype == torch.int64
    assert batch.spread is None
    assert (len(data), data.shape, data.num_classes, data.bins) == (10, (3, 4, 4), 5, 256)
    assert isinstance(data, Source)
    assert isinstance(data._rows, np.memmap)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(6, 2, 5), (6, 2, 3, 4), (6, 2, 3, 4, 5), (6, 2)])
def test_floats_of_any_shape(tmp_path, dtype, shape):
    values = np.random.default_rng(1).normal(size=shape).astype(dtype)
    path = saved(tmp_path / "x.npy", values)
    data = ArrayData(path)
    index = torch.tensor([5, 0, 2])
    assert torch.equal(data.batch(index).x, torch.from_numpy(values[index.numpy()]).float())
    assert (data.shape, data.num_classes, data.bins, data.batch(index).labels) == (shape[1:], 0, None, None)
    scaled = ArrayData(path, mean=[1.0, -2.0], scale=[0.5, 4.0]).batch(index).x
    for channel, (mean, scale) in enumerate(((1.0, 0.5), (-2.0, 4.0))):
        wanted = (torch.from_numpy(values[index.numpy(), channel]).float() - mean) * scale
        assert torch.equal(scaled[:, channel], wanted)
    assert len({ArrayData(path, scale=s).fingerprint for s in (1.0, 2.0, [2.0, 1.0])}) == 3


def test_gather_is_indexing_in_rising_order():
    class Watched(np.ndarray):
        def __getitem__(self, index):
            assert (np.diff(index) >= 0).all()
            return np.asarray(self)[index]

    rows = np.random.default_rng(2).normal(size=(50, 3))
    index = torch.randint(50, (200,), generator=torch.Generator().manual_seed(0))
    assert np.array_equal(gather(rows.view(Watched), index), rows[index.numpy()])


def test_it_is_a_part_like_any_other(made):
    data, _, _ = made
    assert build(describe(data)) == data
    held = Split(data, part="held_out", share=0.3)
    assert (len(held), held.shape, held.bins) == (3, (3, 4, 4), 256)


def test_copies_do_not_hold_the_file(made):
    data, pictures, _ = made
    data.batch(torch.tensor([0]))
    other = copy.deepcopy(data)
    assert other == data
    assert isinstance(other._rows, np.memmap)
    assert pictures.tobytes()[:50] not in pickle.dumps(data)


def test_the_fingerprint_follows_content_and_not_the_place(tmp_path, made):
    data, pictures, labels = made
    (tmp_path / "moved").mkdir()
    moved = ArrayData(
        saved(tmp_path / "moved" / "a.npy", pictures), saved(tmp_path / "moved" / "b.npy", labels.astype(np.int64))
    )
    assert moved.fingerprint == data.fingerprint
    seen = {data.fingerprint, ArrayData(data.path).fingerprint}
    changed = pictures.copy()
    changed[5, 1, 2, 3] ^= 1
    seen.add(ArrayData(saved(tmp_path / "c.npy", changed), data.labels).fingerprint)
    seen.add(ArrayData(saved(tmp_path / "d.npy", pictures[:9].reshape(9, 3, 2, 8))).fingerprint)
    seen.add(ArrayData(saved(tmp_path / "e.npy", pictures.reshape(10, 3, 2, 8))).fingerprint)
    swapped = labels.copy()
    swapped[[0, 3]] = swapped[[3, 0]] + (labels[0] == labels[3])
    seen.add(ArrayData(data.path, saved(tmp_path / "f.npy", swapped), classes=6).fingerprint)
    assert len(seen) == 6


def test_of_a_large_file_the_fingerprint_sees_both_ends_and_what_is_said(tmp_path):
    values = np.zeros((100, 1, 320, 320), np.uint8)  # 10 MB
    path = saved(tmp_path / "x.npy", values)
    before = ArrayData(path).fingerprint
    start = time.process_time()
    ArrayData(path).fingerprint  # noqa: B018
    assert time.process_time() - start < 0.5
    for offset, seen in ((128, True), (-1, True), (100_000, False)):
        with open(path, "r+b") as file:
            file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
            file.write(b"\x01")
        assert (ArrayData(path).fingerprint != before) == seen
        with open(path, "r+b") as file:
            file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
            file.write(b"\x00")


def test_a_sample_that_is_not_finite_is_found(tmp_path, made):
    values = np.zeros((4, 2, 3), np.float16)
    values[2, 1] = [np.nan, 0, -np.inf]
    data = ArrayData(saved(tmp_path / "x.npy", values))
    assert [data.problem(i) is None for i in range(4)] == [True, True, False, True]
    assert "sample 2 of" in data.problem(2)
    assert "holds 2 number(s) that are not finite" in data.problem(2)
    assert made[0].problem(0) is None


class Canary:
    """Unpickled, it would make the file that it names."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_an_array_never_runs(tmp_path, made):
    """Fault 51: an array of objects, one that says it is uint8, and a plain pickle, as pictures and as labels."""
    sung = tmp_path / "sung"
    np.save(tmp_path / "objects.npy", np.array([Canary(sung)] * 3, dtype=object), allow_pickle=True)
    np.save(
        tmp_path / "structured.npy",
        np.array([(1, Canary(sung))], dtype=[("a", "i4"), ("b", object)]),
        allow_pickle=True,
    )
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Canary(sung)))
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (2, 1, 4)})
    (tmp_path / "disguised.npy").write_bytes(stream.getvalue() + pickle.dumps(Canary(sung)))
    for name in ("objects", "structured", "plain", "disguised"):
        path = str(tmp_path / f"{name}.npy")
        for make in (lambda p: ArrayData(p), lambda p: ArrayData(made[0].path, p)):
            with pytest.raises(ValueError, match=r"\.npy"):
                make(path)
    assert not sung.exists()
    copy.copy(Canary(sung)).close()  # it does sing, by what unpickling does
    assert sung.exists()


def header(text):
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (None, "can't be read: No such file or directory"),
        (lambda p: p.mkdir(), "can't be read: Is a directory"),
        (lambda p: p.write_bytes(b""), "not a .npy file"),
        (lambda p: p.write_text("a,b\n1,2\n"), "not a .npy file"),
        (lambda p: p.write_bytes(header("__import__('os').system('true')")), "not a .npy file"),
        (
            lambda p: p.write_bytes(header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 3)}")),
            "truncated|longer|empty",
        ),
        (
            lambda p: p.write_bytes(
                header("{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999999, 9999, 9)}")
            ),
            "truncated",
        ),
        (lambda p: np.save(p, np.zeros((0, 3, 4, 4), np.uint8)), r"is empty: its shape is \(0, 3, 4, 4\)"),
        (lambda p: np.save(p, np.float32(3)), "is empty"),
        (lambda p: np.save(p, np.zeros(5, np.uint8)), r"of shape \(5,\); allowed: \(N, channels, ...\)"),
        (
            lambda p: np.save(p, np.zeros((5, 3), np.float64)),
            r"holds <f8 \(float64\); allowed: uint8, float16, float32",
        ),
        (lambda p: np.save(p, np.zeros((5, 3), ">f4")), "holds >f4"),
        (lambda p: np.save(p, np.zeros((5, 8, 8, 3), np.uint8)), r"channels last; save array.transpose\(0, 3, 1, 2\)"),
        (lambda p: np.save(p, np.asfortranarray(np.zeros((5, 3, 4), np.uint8))), "in Fortran order"),
    ],
)
def test_other_files_are_refused(tmp_path, write, said):
    path = tmp_path / "x.npy"
    if write is not None:
        write(path)
    with pytest.raises(ValueError, match=said):
        ArrayData(str(path))


def test_a_truncated_file_is_refused_at_start(made):
    data, _, _ = made
    path = Path(data.path)
    whole = path.read_bytes()
    for size in (len(whole) - 1, 200, 60):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"{size} bytes instead of {len(whole)}" if size > 60 else "not a .npy"):
            ArrayData(data.path)
    path.write_bytes(whole + b"\x00")
    with pytest.raises(ValueError, match="longer than its header says"):
        ArrayData(data.path)


@pytest.mark.parametrize(
    ("labels", "more", "said"),
    [
        (np.arange(9), {}, r"of shape \(9,\); allowed: \(10,\), one label for every sample"),
        (np.zeros((10, 1), int), {}, r"of shape \(10, 1\)"),
        (np.arange(10) - 1, {}, r"label 0 is -1; allowed: >= 0"),
        (np.arange(10), {"classes": 7}, r"label 7 is 7; allowed: 0 to 6"),
        (np.arange(10.0), {}, r"holds <f8 \(float64\); allowed: int64"),
        (None, {"classes": 7}, "classes is 7 without labels"),
        (None, {"scale": 2.0}, "holds uint8"),
        (None, {"scale": 0.0}, "not 0"),
        (None, {"mean": [0.0, 1.0]}, "one for each of 3 channels"),
        (None, {"mean": float("nan")}, "finite"),
    ],
)
def test_wrong_labels_and_values_are_refused_at_start(tmp_path, made, labels, more, said):
    """Fault 34: file, label and range are named."""
    path = None if labels is None else saved(tmp_path / "wrong.npy", labels)
    with pytest.raises(ValueError, match=said) as error:
        ArrayData(made[0].path, path, **more)
    assert path is None or path in str(error.value)


def test_an_array_is_many_times_faster_than_a_folder(tmp_path):
    """The goal is fifteenfold at 64x64; asked for here is half of that, by the clock of this process."""
    rng = np.random.default_rng(0)
    pictures = np.repeat(rng.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8), 4, 2).repeat(4, 3)
    (tmp_path / "png").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / "png" / f"{i:02}.png")
    folder = ImageFolder(str(tmp_path / "png"), size=64, threads=1)
    array = ArrayData(saved(tmp_path / "x.npy", pictures))
    index = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(folder.batch(index).x, array.batch(index).x)

    def seconds(data, times):
        start = time.process_time()
        for _ in range(times):
            data.batch(index)
        return (time.process_time() - start) / times

    assert min(seconds(folder, 1) for _ in range(3)) > 7.5 * min(seconds(array, 5) for _ in range(3))
