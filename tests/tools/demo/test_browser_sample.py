"""The Sample tab in a real browser: pictures appear, and change with what was changed, and only then."""

import pytest
from browsing import drawn, equal

pytestmark = pytest.mark.browser


def test_pictures_follow_the_form(visitor):
    visitor.write("seeds", 7)
    visitor.number("count", 4)
    first = visitor.sample()
    assert len(first) == 4
    assert drawn(first)
    assert equal(visitor.sample(), first)

    visitor.write("seeds", 8)
    other = visitor.sample()
    assert equal(other[:3], first[1:]) is False  # classes go by place
    assert not equal(other, first)

    visitor.write("seeds", 7)
    visitor.choose("sampler", "Euler")
    euler = visitor.sample()
    assert not equal(euler, first)
    visitor.number("steps", 5)
    assert not equal(visitor.sample(), euler)
    visitor.number("steps", 20)
    visitor.write("labels", 3)
    assert not equal(visitor.sample(), euler)


def test_a_refused_value_says_its_sentence(visitor):
    visitor.write("seeds", "seven")
    visitor.page.click("#make")
    toast = visitor.page.locator(".toast-body.error")
    toast.wait_for()
    said = toast.inner_text()
    assert "seed" in said
    assert "allowed" in said
    assert "/" not in said.replace("1/", "")
