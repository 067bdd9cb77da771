"""Pictures of every tab, light and dark, at a desk and on a phone: made again with `--screenshots FOLDER`, on the run of SFUMATO_RUN."""

import pytest

pytestmark = pytest.mark.browser


def sample(visitor):
    visitor.write("seeds", 11)
    visitor.number("count", 10)
    visitor.sample()


def compare(visitor):
    visitor.page.click("#compare-example")
    visitor.settle()
    visitor.number("compare-count", 4)
    visitor.settle(0)
    visitor.compare()


def trajectory(visitor):
    visitor.write("path-seed", 11)
    visitor.page.click("#path-walk")
    visitor.settle(seconds=60)
    slider = visitor.page.locator("#path-slider")
    slider.focus()
    for _ in range(6):
        visitor.page.keyboard.press("ArrowLeft")
    slider.blur()


def schedule(visitor):
    visitor.page.wait_for_selector("#schedule-figures svg")


def info(visitor, folder):
    """The first picture of the Sample tab, dropped."""
    visitor.tab("Sample")
    sample(visitor)
    with visitor.page.expect_download() as got:
        visitor.page.locator("#tiles .sf-save").first.click()
    got.value.save_as(folder / "picture.png")
    visitor.tab("PNG info")
    visitor.page.locator("#png input[type=file]").set_input_files(folder / "picture.png")
    visitor.page.locator("#png-shown table").wait_for()
    visitor.settle(0)


TABS = {"Sample": sample, "Compare": compare, "Trajectory": trajectory, "Schedule": schedule, "PNG info": None}


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pictures_of_every_tab(visit, screenshots, dark, phone, tmp_path):
    if screenshots is None:
        pytest.skip("--screenshots FOLDER was not given")
    visitor = visit(dark=dark, phone=phone)
    for name, prepare in TABS.items():
        visitor.tab(name)
        prepare(visitor) if prepare else info(visitor, tmp_path)
        visitor.page.mouse.move(0, 0)
        visitor.page.evaluate("document.activeElement?.blur(); window.scrollTo(0, 0)")
        visitor.page.wait_for_timeout(300)
        kind = f"{'dark' if dark else 'light'}-{'phone' if phone else 'desk'}"
        for whole in (False, True):
            path = screenshots / f"{name.split()[0].lower()}-{kind}{'-whole' if whole else ''}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            visitor.page.screenshot(path=path, full_page=whole)
            assert path.stat().st_size > 5_000
