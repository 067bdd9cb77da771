"""The Sample tab in a real browser: pictures appear, and change with what was changed, and only then."""

import io
import json
import re
import time
import zipfile

import pytest
from browsing import decoded, drawn, equal
from PIL import Image

pytestmark = pytest.mark.browser


def test_pictures_follow_the_form(visitor):
    visitor.write("seeds", 7)
    visitor.number("count", 4)
    first = visitor.sample()
    assert len(first) == 4
    assert drawn(first)
    assert equal(visitor.sample(), first)  # nothing was changed, so nothing changes

    seen = [first]
    for change in (
        lambda: visitor.write("seeds", 8),
        lambda: visitor.choose("sampler", "Euler"),
        lambda: visitor.number("steps", 5),
        lambda: visitor.choose("grid", "Karras"),
        lambda: visitor.write("labels", 3),
        lambda: visitor.choose("rule", "CFG"),
        lambda: visitor.number("scale", 7),
    ):
        change()
        made = visitor.sample()
        assert drawn(made)
        assert not any(equal(made, other) for other in seen)
        seen.append(made)


def test_every_tile_says_what_it_is_and_opens_large(visitor):
    visitor.write("seeds", "3,9")
    visitor.write("labels", "5")
    visitor.sample()
    tiles = visitor.page.locator("#tiles .sf-tile")
    assert tiles.count() == 2
    assert [tiles.nth(i).locator("img").get_attribute("alt") for i in (0, 1)] == ["seed 3, class 5", "seed 9, class 5"]
    assert re.search(r"\d+ evaluations", visitor.text("#report"))
    assert re.search(r"\d\.\d s", visitor.text("#report"))

    tiles.nth(0).locator("button").first.click()
    dialog = visitor.page.locator("dialog[open]")
    dialog.wait_for()
    assert "seed 3" in dialog.inner_text()
    visitor.page.keyboard.press("ArrowRight")
    assert "seed 9" in dialog.inner_text()
    visitor.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    visitor.page.wait_for_function(
        "document.activeElement.closest('.sf-tile')?.dataset.seed === '9'"
    )  # back where it was


def test_files_are_made_in_the_browser_and_open(visitor, tmp_path):
    visitor.write("seeds", 3)
    visitor.number("count", 2)
    visitor.sample()
    with visitor.page.expect_download() as got:
        visitor.page.locator("#tiles .sf-save").first.click()
    got.value.save_as(tmp_path / "one.png")
    source = visitor.page.locator("#tiles img").first.get_attribute("src")
    assert (tmp_path / "one.png").read_bytes() == decoded(source)
    with Image.open(tmp_path / "one.png") as picture:
        assert json.loads(picture.text["sfumato"])["seed"] == 3
    for button, name in (("zip", "pictures.zip"), ("sheet", "sheet.png")):
        with visitor.page.expect_download() as got:
            visitor.page.click(f"#{button}")
        got.value.save_as(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "pictures.zip") as files:
        pictures = [name for name in files.namelist() if name.startswith("seed-")]
        assert len(pictures) == 2
        assert Image.open(io.BytesIO(files.read(pictures[0]))).size == (8, 8)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 8


def test_filters_say_their_verdict_on_every_tile(visitor):
    visitor.write("seeds", 1)
    visitor.number("count", 4)
    visitor.open("part-filters")
    visitor.choose("filters", "trajectory variance")
    visitor.page.keyboard.press("Escape")
    visitor.write("threshold", "0")  # nothing is that sure of itself
    visitor.sample()
    tiles = visitor.page.locator("#tiles .sf-tile")
    assert tiles.count() == 4
    for i in range(4):
        said = tiles.nth(i).inner_text()
        assert "rejected" in said
        assert re.search(r"trajectory variance \d", said)
    assert "4 of 4 rejected" in visitor.text("#report")


def test_a_refused_value_says_its_sentence(visitor):
    visitor.write("seeds", "seven")
    visitor.page.click("#make")
    toast = visitor.page.locator(".toast-body.error")
    toast.wait_for()
    visitor.made()
    said = toast.inner_text()
    assert "seed" in said
    assert "allowed" in said
    stays = visitor.page.locator("#status [role=alert]").inner_text()
    assert "allowed" in stays
    assert not re.search(r"/\w+/", said + stays)  # no path
    toast.get_by_role("button").first.click()
    visitor.write("seeds", "7")
    assert drawn(visitor.sample())


def test_stop_stops(visitor):
    """That it stops within two steps is counted where steps can be; here Stop is pressed, and the page says where it ended."""
    visitor.write("seeds", 5)
    visitor.number("count", 64)
    visitor.number("steps", 250)
    visitor.choose("sampler", "Heun")
    visitor.page.click("#make")
    visitor.page.wait_for_function("/step \\d+ of 250/.test(document.querySelector('#status').innerText)")
    assert drawn(visitor.pictures("#tiles"))  # what the model believes so far
    with visitor.page.expect_response(lambda answer: "/gradio_api/run/" in answer.url):
        visitor.page.click("#stop")
    began = time.perf_counter()
    visitor.page.wait_for_function("/Stopped at step \\d+/.test(document.querySelector('#status').innerText)")
    assert time.perf_counter() - began < 3
    visitor.made()
    assert int(re.search(r"at step (\d+)", visitor.text("#status"))[1]) < 250
    visitor.number("count", 2)
    visitor.number("steps", 5)
    assert drawn(visitor.sample())


def test_a_reload_ends_the_work_and_keeps_the_form(visitor):
    visitor.write("seeds", 5)
    visitor.number("count", 64)
    visitor.number("steps", 250)
    visitor.page.click("#make")
    visitor.page.wait_for_function("/step \\d+ of 250/.test(document.querySelector('#status').innerText)")
    visitor.reload()
    assert visitor.page.locator("#seeds :is(textarea, input)").input_value() == "5"
    visitor.number("count", 2)
    visitor.number("steps", 4)
    began = time.perf_counter()
    first = visitor.sample()
    assert drawn(first)
    assert time.perf_counter() - began < 10  # nothing of what was left is waited for
    visitor.reload()
    assert equal(visitor.sample(), first)


def test_visitors_do_not_see_each_other(visit):
    one, other = visit(apart=True), visit(apart=True)
    for who, seed in ((one, 1), (other, 1000)):
        who.write("seeds", seed)
        who.number("count", 3)
        who.number("steps", 60)
    one.page.click("#make")
    other.page.click("#make")
    one.made()
    other.made()
    first, second = one.pictures("#tiles"), other.pictures("#tiles")
    assert [tile.get_attribute("data-seed") for tile in one.page.locator("#tiles .sf-tile").all()] == ["1", "2", "3"]
    assert [tile.get_attribute("data-seed") for tile in other.page.locator("#tiles .sf-tile").all()] == [
        "1000",
        "1001",
        "1002",
    ]
    assert drawn(first)
    assert drawn(second)
    assert not equal(first, second)
    assert equal(one.sample(), first)  # the same alone
