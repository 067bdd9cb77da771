"""`sfumato bench data`: that all forms hold the same pictures, and that what is counted is what is read; its times are for nobody here."""

import numpy as np
import pytest
import torch

from sfumato.tools.bench import data
from sfumato.tools.bench.data import FOLDER, READING, Everybody, Reader, calls, readers
from sfumato.tools.bench.data_stall import Watched
from sfumato.tools.bench.sheet import Cell, Sheet, read
from sfumato.tools.cli import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("data"), 64, 128)


def sorted_rows(reader):
    x = torch.cat(list(reader.batches())).flatten(1)
    return x[np.lexsort(x.T.numpy()[:8])]


def test_every_form_gives_the_same_pictures(made):
    whole = sorted_rows(made[FOLDER])
    assert whole.shape == (64, 3 * 64 * 64)
    assert whole.dtype == torch.float32
    assert -1 <= whole.min() < -0.8 < 0.8 < whole.max() <= 1
    for name in ("ImageFolder, PNG", "ArrayData, uint8"):
        torch.testing.assert_close(sorted_rows(made[name]), whole, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(
        sorted_rows(made["ImageFolder, JPEG"]), sorted_rows(made["a loop over DataLoader, JPEG"]), atol=1e-6, rtol=0.0
    )
    torch.testing.assert_close(
        sorted_rows(made["LatentArray 4x8x8, as of 64x64"]), sorted_rows(made["rows of a tensor in memory, 4x8x8"])
    )


def test_a_reader_reads_as_many_as_it_says(made):
    for name, reader in made.items():
        assert sum(len(x) for x in reader.batches()) == reader.pictures, name
    assert made["ArrayData, uint8"].size == 3 * 64 * 64
    assert made["LatentArray 4x32x32, as of 256x256"].size == 2 * 2 * 4 * 32 * 32


def test_calls_are_counted_per_picture(made):
    def batches():
        for _ in range(4):
            abs(-1)
            yield torch.empty(0)

    # of each of four batches: the generator goes on, and abs; then it goes on once more, and the hook is taken off
    assert calls(Reader(batches, 4, 0.0)) == pytest.approx((1 + 4 * 2 + 4 + 2) / 4, abs=0.5)
    assert calls(made["LatentArray 4x8x8, as of 64x64"]) < calls(made[FOLDER]) / 20


def test_labels_are_those_of_the_folders(made, tmp_path):
    from PIL import Image

    (tmp_path / "3").mkdir()
    Image.new("RGB", (2, 2), (255, 0, 255)).save(tmp_path / "3" / "a.png")
    x, label = Everybody(tmp_path)[0]
    assert label == 3
    assert x[:, 0, 0].tolist() == [1.0, -1.0, 1.0]


def test_waiting_is_that_of_the_reader(monkeypatch):
    from sfumato.diffusion import Digits
    from sfumato.diffusion.feed import Feed
    from sfumato.tools.bench import data_stall

    clock = iter([1.0, 1.5, 10.0, 10.25, 20.0, 20.125])
    monkeypatch.setattr(data_stall.time, "perf_counter", lambda: next(clock))
    watched = Watched(Feed(Digits(), 0, [range(4), range(4, 6)], 6, 2))
    assert [read.places.tolist() for read in watched(0)] == [[0, 1, 2, 3], [4, 5]]
    assert (watched.waited, watched.pictures) == (0.5 + 0.25 + 0.125, 6)


def test_what_is_measured_is_written(tmp_path, monkeypatch, made, capsys):
    monkeypatch.setattr(data, "readers", lambda folder, count, latents: made)
    assert main(["bench", "data", "--quick", "--only", "reading", "--out", str(tmp_path)]) == 0
    rows = read(tmp_path / "data-quick.json")
    assert list(rows) == list(made)
    assert rows[FOLDER]["times the folder"].value == 1
    assert rows["ArrayData, uint8"]["bytes per picture"] == Cell(12288.0, unit="", exact=True)
    for name, cells in rows.items():
        share = cells["of a core, at 3,400 a second"].value * cells["pictures per CPU second"].value
        assert share == pytest.approx(3400), name


def test_a_stall_is_of_real_steps(tmp_path):
    sheet = Sheet("data", lambda line: None)
    data.stalls(True, tmp_path, sheet)
    assert {goal.row for goal in READING.goals if goal.row.startswith("stall")} <= set(sheet.rows)
    for cells in sheet.rows.values():
        assert 0 < cells["of the step"].value < 1
        assert cells["pictures"] == Cell(8.0, unit="", exact=True)
