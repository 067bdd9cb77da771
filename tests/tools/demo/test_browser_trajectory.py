"""The Trajectory tab in a real browser: the strip fills, the slider scrubs, files open."""

import csv
import io
import re

import numpy as np
import pytest
from browsing import drawn, pixels
from PIL import Image

pytestmark = pytest.mark.browser


def large(visitor):
    return pixels(visitor.page.locator("#path .sf-path-stage img").first.get_attribute("src"))


def test_a_path_is_walked_and_scrubbed(visitor, tmp_path):
    visitor.number("steps", 12)
    visitor.tab("Trajectory")
    visitor.write("path-seed", 4)
    visitor.page.click("#path-walk")
    visitor.settle()
    strip = visitor.pictures("#path .sf-path-strip")
    assert len(strip) >= 12
    assert not np.array_equal(strip[0], strip[-1])
    assert drawn(strip[-1:])

    slider = visitor.page.locator("#path-slider")
    end, said = large(visitor), visitor.text("#path output")
    assert end.std() > 8
    slider.focus()
    for _ in range(6):
        visitor.page.keyboard.press("ArrowLeft")
    middle = large(visitor)
    assert visitor.text("#path output") != said
    assert not np.array_equal(middle, end)
    visitor.page.keyboard.press("Home")
    assert not np.array_equal(large(visitor), middle)
    visitor.page.keyboard.press("End")
    assert np.array_equal(large(visitor), end)
    visitor.page.locator("#path .sf-path-strip button:not([hidden])").first.click()
    assert slider.input_value() == "0"
    assert visitor.page.locator("#path .sf-path-figures svg").count() >= 3
    assert "log-SNR" in visitor.text("#path .sf-path-read")

    for name, opens in (("PNG", lambda data: Image.open(io.BytesIO(data)).verify()), ("CSV", _rows)):
        link = visitor.page.locator("#path a[download]", has_text=name).first
        with visitor.page.expect_download() as got:
            link.click()
        got.value.save_as(tmp_path / name)
        opens((tmp_path / name).read_bytes())


def _rows(data):
    rows = list(csv.reader(io.StringIO(data.decode())))
    assert len(rows) > 12
    assert len({len(row) for row in rows}) == 1


def test_walking_stops(visitor):
    visitor.number("steps", 250)
    visitor.tab("Trajectory")
    visitor.write("path-seed", 4)
    visitor.page.click("#path-walk")
    visitor.page.wait_for_function("/step \\d+ of 250/.test(document.querySelector('#path').innerText)")
    visitor.page.click("#path-stop")
    visitor.settle(seconds=10)
    walked = max(int(k) for k in re.findall(r'data-k="(\d+)"', visitor.page.locator("#path").inner_html()))
    assert walked < 250
