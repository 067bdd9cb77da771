"""The Schedule tab in a real browser: figures follow what is turned, and warnings are said in words."""

import pytest

pytestmark = pytest.mark.browser


HTML = "document.querySelector('#schedule-figures').innerHTML"


def figures(visitor):
    visitor.settle(0)
    return visitor.page.eval_on_selector_all("#schedule-figures svg", "all => all.map(e => e.outerHTML)")


def changed(visitor, change):
    """The figures after a change that must change them."""
    before = visitor.page.evaluate(HTML)
    change()
    visitor.page.wait_for_function(f"before => {HTML} !== before", arg=before)
    visitor.page.wait_for_timeout(150)  # what is turned is sent a moment later
    return figures(visitor)


def turn(visitor, name, value):
    return changed(
        visitor, lambda: visitor.page.locator(f"#schedule-knobs select[id$={name}]").first.select_option(value)
    )


def test_figures_follow_what_is_turned(visitor):
    visitor.tab("Schedule")
    visitor.page.wait_for_selector("#schedule-figures svg")
    first = figures(visitor)
    assert len(first) == 4
    slider = visitor.page.locator("#schedule-knobs input[type=range]:enabled").first
    slider.focus()

    def press():
        for _ in range(20):
            visitor.page.keyboard.press("ArrowRight")

    moved = changed(visitor, press)
    other = turn(visitor, "schedule", "Cosine")
    assert other[0] != moved[0]
    assert "Cosine" in visitor.text("#schedule-figures")
    assert "Cosine" in visitor.text("#schedule-copied")
    assert changed(visitor, lambda: visitor.page.click("#schedule-reset")) == first


def test_warnings_are_said_in_words(visitor):
    """An eps network on a path that ends where x is noise alone can't tell what x0 was."""
    visitor.tab("Schedule")
    visitor.page.wait_for_selector("#schedule-figures svg")
    turn(visitor, "row", "Eps")
    noted = visitor.text("#schedule-said")
    assert visitor.page.locator("#schedule-said .sf-note:not(.sf-info)").count() >= 1
    assert "eps" in noted.lower()
    turn(visitor, "schedule", "LinearBeta")
    assert visitor.text("#schedule-said") != noted
