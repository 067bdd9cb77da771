"""The two-handled interval: mouse, touch and keyboard move its ends, the count of guided steps says so, and the pictures follow."""

import re

import pytest
from browsing import drawn, equal

pytestmark = pytest.mark.browser


def guided(visitor):
    """How many steps are guided, as the page says."""
    visitor.settle(0)
    said = visitor.text("#interval .sf-said")
    found = re.match(r"(\d+) of \d+|(Guided at every)", said)
    return int(found[1] or visitor.page.locator("#interval .sf-ticks i").count())


def limit(visitor):
    visitor.page.locator("#limited label").click()
    visitor.page.wait_for_function("!document.querySelector('#interval .sf-low').disabled")


def drag(visitor, end, by):
    """Drag an end by a share of the axis."""
    box = visitor.page.locator(f"#interval .sf-{end}").bounding_box()
    share = visitor.page.evaluate(
        f"(() => {{ const e = document.querySelector('#interval .sf-{end}'); return (e.value - e.min) / (e.max - e.min); }})()"
    )
    thumb = visitor.page.evaluate(
        "parseFloat(getComputedStyle(document.querySelector('.sf-interval')).getPropertyValue('--thumb'))"
    )
    room = box["width"] - thumb
    x, y = box["x"] + thumb / 2 + share * room, box["y"] + box["height"] / 2
    return (x, y), (x + by * room, y)


def test_mouse_and_keyboard_move_its_ends_and_the_pictures_follow(visitor):
    visitor.write("seeds", 7)
    visitor.number("count", 3)
    visitor.choose("rule", "CFG")
    visitor.number("scale", 6)
    everywhere = visitor.sample()
    whole = guided(visitor)
    limit(visitor)
    visitor.page.locator("#interval").scroll_into_view_if_needed()
    before = guided(visitor)

    (x, y), (to, _) = drag(visitor, "low", 0.2)
    visitor.page.mouse.move(x, y)
    visitor.page.mouse.down()
    visitor.page.mouse.move(to, y, steps=5)
    visitor.page.mouse.up()
    by_mouse = guided(visitor)
    assert by_mouse < before <= whole
    pictures = visitor.sample()
    assert drawn(pictures)
    assert not equal(pictures, everywhere)

    low = visitor.page.locator("#interval .sf-low")
    low.focus()
    at = low.get_attribute("aria-valuetext")
    for _ in range(40):
        visitor.page.keyboard.press("ArrowLeft")
    assert low.get_attribute("aria-valuetext") != at
    by_keys = guided(visitor)
    assert by_keys > by_mouse
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.className") == "sf-high"
    visitor.page.keyboard.press("Home")  # handles meet, and do not cross
    assert guided(visitor) <= 1
    assert not equal(visitor.sample(), pictures)


def test_a_finger_moves_its_ends(visit):
    phone = visit(phone=True)
    limit(phone)
    phone.page.locator("#interval").scroll_into_view_if_needed()
    before = guided(phone)
    (x, y), (to, _) = drag(phone, "high", -0.25)
    touch = phone.context.new_cdp_session(phone.page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for i in range(1, 6):
        touch.send(
            "Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x + (to - x) * i / 5, "y": y}]}
        )
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert guided(phone) != before
