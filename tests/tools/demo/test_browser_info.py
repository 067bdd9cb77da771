"""A picture that was saved comes back: dropped on PNG info it says how it was made, fills the form, and is made again, byte for byte."""

import pytest
from browsing import decoded

pytestmark = pytest.mark.browser


def test_a_saved_picture_makes_itself_again(visit, tmp_path):
    one, other = visit(apart=True), visit(apart=True)
    one.write("seeds", 41)
    one.number("count", 1)
    one.choose("sampler", "Euler a")
    one.number("steps", 9)
    one.write("labels", 6)
    one.sample()
    with one.page.expect_download() as got:
        one.page.locator("#tiles .sf-save").click()
    saved = tmp_path / "picture.png"
    got.value.save_as(saved)

    other.tab("PNG info")
    other.page.locator("#png input[type=file]").set_input_files(saved)
    other.page.locator("#png-shown table").wait_for()
    other.settle(0)
    said = other.text("#png-shown")
    assert "41" in said
    assert "Euler" in said
    other.page.click("#png-fill")
    other.settle()
    assert other.page.get_by_role("tab", name="Sample").get_attribute("aria-selected") == "true"
    assert other.page.locator("#seeds :is(textarea, input)").input_value() == "41"
    assert other.page.locator("#steps input[type=number]").input_value() == "9"
    other.sample()
    again = decoded(other.page.locator("#tiles img").first.get_attribute("src"))
    assert again == saved.read_bytes()


def test_what_is_no_picture_is_refused_in_words(visitor, tmp_path):
    path = tmp_path / "not.png"
    path.write_bytes(b"this is no picture")
    visitor.tab("PNG info")
    visitor.page.locator("#png input[type=file]").set_input_files(path)
    toast = visitor.page.locator(".toast-body.error")
    toast.wait_for()
    assert "PNG" in toast.inner_text()
    assert str(tmp_path) not in toast.inner_text()
    visitor.expected("415")
