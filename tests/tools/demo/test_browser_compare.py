"""The Compare tab in a real browser: what it costs is said before, the grid fills, cells come back from the cache, files open."""

import csv
import io
import json
import time

import pytest
from browsing import drawn
from PIL import Image

pytestmark = pytest.mark.browser


def test_a_grid_fills_and_is_cached_the_second_time(visitor, tmp_path):
    visitor.write("seeds", 3)
    visitor.tab("Compare")
    visitor.page.click("#compare-example")
    visitor.settle()
    visitor.number("compare-count", 2)
    visitor.settle(0)
    cost = visitor.text("#compare-cost")
    assert "9 cells (3 by 3)" in cost
    assert "evaluations" in cost

    began = time.perf_counter()
    visitor.compare()
    first = time.perf_counter() - began
    pictures = visitor.pictures("#compare-grid")
    assert len(pictures) == 9
    assert drawn(pictures)
    heads = visitor.page.locator("#compare-grid thead th").all_inner_texts()
    assert heads == ["DDIM", "DPM++ 2M", "UniPC"] or len(heads) == 3
    assert "cached" not in visitor.text("#compare-grid")
    assert "evaluations" in visitor.text("#compare-grid")

    visitor.compare()
    assert visitor.text("#compare-grid").count("cached") == 9
    assert len(visitor.pictures("#compare-grid")) == 9
    assert "9 of them there already" in _cost(visitor)
    assert time.perf_counter() - began < 2 * first + 10

    opens = {"compare.png": _png, "compare.csv": _csv, "compare.json": json.loads}
    for name, check in opens.items():
        with visitor.page.expect_download() as got:
            visitor.page.locator(f'#compare-results a[download="{name}"]').click()
        got.value.save_as(tmp_path / name)
        check((tmp_path / name).read_bytes())
    assert "sfumato compare" in visitor.text("#compare-results code")


def _cost(visitor):
    """What it would cost now, asked by leaving the tab and coming back."""
    visitor.tab("Sample")
    visitor.tab("Compare")
    visitor.settle(0)
    return visitor.text("#compare-cost")


def _png(data):
    picture = Image.open(io.BytesIO(data))
    picture.verify()
    assert min(picture.size) > 16


def _csv(data):
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    assert len(rows) == 9


def test_a_comparison_stops(visitor):
    visitor.tab("Compare")
    assert visitor.page.is_disabled("#compare-stop")
    visitor.page.click("#compare-example")
    visitor.settle()
    visitor.write("compare-y-values", "60, 80, 100")
    visitor.number("compare-count", 16)
    visitor.settle(0)
    visitor.page.click("#compare-make")
    visitor.page.wait_for_function("/cells|once more/.test(document.querySelector('#compare-bar').innerText)")
    if "once more" in visitor.text("#compare-bar"):  # where the machine is slow, it asks whether that is meant
        visitor.page.click("#compare-make")
    visitor.page.wait_for_function("document.querySelectorAll('#compare-grid td').length >= 9")
    visitor.page.wait_for_timeout(500)
    visitor.page.click("#compare-stop")
    visitor.settle(seconds=20)
    assert visitor.page.is_disabled("#compare-stop")
    assert len(visitor.pictures("#compare-grid")) < 9
